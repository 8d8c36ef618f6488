//! The validation sample of a registration: read once, and checked against the model.

use std::sync::Arc;

use tidegate_core::{Artifact, ValidationSample, Version};
use tidegate_geo::{ImageLimits, ModelItem};

use super::{RegisterError, Upload};
use crate::operations::sample::{FIELD, Interface, Sample, SampleError};

impl Upload<'_> {
    /// Refuses a sample that does not fit the model. Where the model does not run, only that the sample can be read is
    /// known.
    pub(super) async fn read_sample(
        &self,
        version: &Version,
    ) -> Result<Option<ValidationSample>, RegisterError> {
        if self.sample_files.is_empty() {
            return Ok(None);
        }
        let is_sample = |artifact: &&Artifact| self.sample_files.contains(&artifact.name);
        let files: Vec<Artifact> = self.artifacts.iter().filter(is_sample).cloned().collect();
        let limits = ImageLimits::with_max_pixels(self.registrar.max_image_pixels);
        let opened = Sample::open(self.registrar.artifacts, self.registrar.cache_dir, &files, limits).await;
        let sample = Arc::new(opened.map_err(register_error)?);
        let holds = sample.holds();
        if let Some(signature) = version.signature.clone() {
            let (item, model_type) =
                (self.draft.stac.as_ref().map(|stac| stac.item.clone()), self.draft.model_type);
            let input_schema = version.input_schema.clone();
            let check = move || {
                let item: Option<&ModelItem> = item.as_ref();
                sample.check(&Interface {
                    signature: &signature,
                    input_schema: &input_schema,
                    item,
                    model_type,
                })
            };
            let checked = tokio::task::spawn_blocking(check).await.map_err(SampleError::Thread);
            checked.and_then(|checked| Ok(checked?)).map_err(register_error)?;
        }
        Ok(Some(ValidationSample { files: self.sample_files.clone(), holds }))
    }
}

fn register_error(error: SampleError) -> RegisterError {
    match error {
        SampleError::Misfit(misfit) => RegisterError::BadSample(misfit.0),
        SampleError::Artifact(error) => RegisterError::Artifacts(error),
        SampleError::Read(source) => RegisterError::Read { name: FIELD.to_owned(), source },
        SampleError::Thread(error) => {
            RegisterError::Inspect { name: FIELD.to_owned(), reason: error.to_string() }
        }
    }
}
