//! A TorchScript archive becomes ONNX where nothing else of the version can run, so that it runs on every runtime.

use std::io::BufReader;

use bytes::Bytes;
use futures::stream;
use tidegate_core::{Artifact, ArtifactFormat};
use tidegate_torchscript::{ConvertError, Converted, Options};

use super::{RegisterError, Upload, file_name};

impl Upload<'_> {
    /// Adds the converted artifact and gives a note on it; where that is not possible, the note says why and what to do,
    /// and the version is kept as it came.
    pub(super) async fn convert(&mut self) -> Result<Option<String>, RegisterError> {
        let is_torchscript = |artifact: &&Artifact| artifact.format == ArtifactFormat::TorchScript;
        if self.artifacts.iter().any(|artifact| artifact.format.is_runnable()) {
            return Ok(None);
        }
        let Some(archive) = self.artifacts.iter().find(is_torchscript).cloned() else { return Ok(None) };
        let converted = match self.convert_archive(&archive).await? {
            Ok(converted) => converted,
            Err(error) => return Ok(Some(format!("`{}` was not converted to ONNX: {error}", archive.name))),
        };
        let stem = archive.name.rsplit_once('.').map_or(archive.name.as_str(), |(stem, _)| stem);
        let name = onnx_name(stem);
        let note = format!(
            "`{}` was converted to `{name}`, which runs: {} nodes, {} parameters",
            archive.name, converted.n_nodes, converted.n_parameters
        );
        let bytes = stream::iter([Ok(Bytes::from(converted.onnx))]);
        self.add(&name, bytes).await?;
        Ok(Some(note))
    }

    async fn convert_archive(
        &self,
        archive: &Artifact,
    ) -> Result<Result<Converted, ConvertError>, RegisterError> {
        let registrar = &self.registrar;
        let path =
            registrar.artifacts.local_path(&archive.path, &archive.sha256, registrar.cache_dir).await?;
        let input_shapes = self.draft.stac.as_ref().map(|stac| vec![any_batch(stac.item.input.shape())]);
        let converting = tokio::task::spawn_blocking(move || {
            let file = std::fs::File::open(&path).map_err(ConvertError::Io)?;
            let options = Options { input_shapes, ..Options::default() };
            tidegate_torchscript::convert(BufReader::new(file), &options)
        });
        let name = archive.name.clone();
        converting.await.map_err(|panic| RegisterError::Inspect { name, reason: panic.to_string() })
    }
}

/// The stem with the extension, cut to what a file name may have. Checked names are ASCII, so any cut is between
/// characters.
fn onnx_name(stem: &str) -> String {
    const EXTENSION: &str = ".onnx";
    let stem = stem.get(..file_name::MAX_LENGTH - EXTENSION.len()).unwrap_or(stem);
    format!("{}{EXTENSION}", stem.trim_end_matches('.'))
}

/// The same shape for any number of images at a time.
fn any_batch(mut shape: Vec<i64>) -> Vec<i64> {
    shape[0] = -1;
    shape
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_converted_file_of_the_longest_name_can_be_stored() {
        assert_eq!(onnx_name("unet"), "unet.onnx");
        let dots = "a.".repeat(119);
        for stem in ["a".repeat(237), dots] {
            let name = onnx_name(&stem);
            assert!(file_name::check(&name).is_ok(), "{name}");
        }
    }
}
