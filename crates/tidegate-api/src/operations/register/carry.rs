//! A version made of another one's files, to run in another precision: nothing is uploaded, and nothing copied.
//!
//! Artifacts are never written twice, and the store's sweep keeps whatever the row of any version names, so two versions may
//! name the same ones.

use tidegate_core::{Model, Version};
use tidegate_store::Store;

use super::{Declaration, RegisterError, StacItem, Upload, parse_number};
use crate::operations::fault::Fault;

/// The version that another one is made from.
pub(crate) struct Source {
    model: Model,
    version: Version,
}

impl Source {
    /// The version of the number `from` of the declared model.
    pub(crate) async fn find(
        store: &Store,
        declaration: &Declaration,
        from: &str,
    ) -> Result<Self, RegisterError> {
        let number = parse_number("from", from)?;
        let Some(name) = &declaration.name else {
            return Err(Fault::new("name", "missing; give the model that `from` is a version of").into());
        };
        let model = store.models.find(name).await?.filter(|model| model.name.as_str() == name);
        let Some(model) = model else {
            let message = format!("there is no model `{name}`, so no version of it to register from");
            return Err(Fault::new("name", message).into());
        };
        match store.versions.by_number(&model.id, &number).await? {
            Some(version) => Ok(Self { model, version }),
            None => Err(Fault::new("from", format!("model `{name}` has no version {number}")).into()),
        }
    }

    /// The item that it was registered from.
    pub(crate) fn stac(&self) -> Result<Option<StacItem>, RegisterError> {
        let item = self.version.stac_item.clone();
        item.map(StacItem::parse).transpose().map_err(RegisterError::Unprocessable)
    }

    /// What is not declared anew is as it was.
    pub(crate) fn complete(&self, declared: Declaration) -> Declaration {
        let Self { model, version } = self;
        Declaration {
            framework: declared.framework.or(Some(model.framework)),
            model_type: declared.model_type.or(Some(model.model_type)),
            description: declared.description.or_else(|| model.description.clone()),
            input_schema: declared.input_schema.or_else(|| Some(version.input_schema.clone())),
            output_schema: declared.output_schema.or_else(|| Some(version.output_schema.clone())),
            training_metadata: declared.training_metadata.or_else(|| version.training_metadata.clone()),
            baseline: declared.baseline.or(version.baseline),
            precision: declared.precision.or(Some(version.precision)),
            reference: declared.reference.or_else(|| Some(version.reference.as_ref()?.to_string())),
            ..declared
        }
    }
}

impl Upload<'_> {
    /// Takes the files of the source, its validation sample among them.
    pub(crate) fn carry_over(&mut self, source: &Source) {
        self.artifacts.clone_from(&source.version.artifacts);
        let sample = source.version.validation_sample.as_ref();
        self.sample_files = sample.map(|sample| sample.files.clone()).unwrap_or_default();
        self.carried_from = Some(source.version.version.clone());
    }
}
