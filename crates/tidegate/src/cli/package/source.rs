//! Where a package's parts come from: a STAC item with its files beside it, or a registered version of a server.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;
use tidegate_core::{ArtifactFormat, Sha256Digest};
use tidegate_geo::esri::ModelFormat;
use tidegate_geo::{ModelAsset, ModelItem, resolve_href};

use crate::client::Client;

/// An item as it came, and a way to its files.
pub struct Source {
    pub json: Value,
    files: Files,
}

enum Files {
    /// The item's folder.
    Folder(PathBuf),
    /// Downloaded into a folder that goes away with this.
    Server { client: Client, version_path: String, folder: tempfile::TempDir },
}

impl Source {
    pub fn of_file(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("failed to read the STAC item `{}`", path.display()))?;
        let json =
            serde_json::from_str(&text).with_context(|| format!("`{}` is not JSON", path.display()))?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self { json, files: Files::Folder(folder.to_owned()) })
    }

    /// Of a registered version; without a number the one that serves, or else the highest.
    pub async fn of_server(client: Client, model: &str, version: Option<&str>) -> anyhow::Result<Self> {
        let model_path = format!("/api/v1/models/{}", Client::segment(model));
        let detail = client.get(&model_path).await?;
        let newest = || detail["versions"][0]["version"].as_str();
        let version = version.or_else(|| detail["activeVersion"].as_str()).or_else(newest);
        let version = version.with_context(|| format!("model `{model}` has no version"))?;
        let version_path = format!("{model_path}/versions/{}", Client::segment(version));
        let json = client.get(&format!("{version_path}/stac")).await?;
        let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
        Ok(Self { json, files: Files::Server { client, version_path, folder } })
    }

    /// The item's model in the format asked for, else as ONNX, else as TorchScript; whole by its checksum. With it, files of
    /// weights that lie beside it.
    pub async fn model_files(
        &self,
        item: &ModelItem,
        format: Option<ModelFormat>,
    ) -> anyhow::Result<(ModelFormat, Vec<PathBuf>)> {
        let wanted = match format {
            Some(format) => vec![format],
            None => vec![ModelFormat::Onnx, ModelFormat::TorchScript],
        };
        let of = |format: ModelFormat| {
            let is_of = |asset: &&ModelAsset| asset.is_model() && format_of(&asset.href) == Some(format);
            item.assets.iter().find(is_of).map(|asset| (format, asset))
        };
        let Some((format, asset)) = wanted.into_iter().find_map(of) else {
            bail!(
                "the STAC item has no such model: ArcGIS runs .onnx files and TorchScript archives (.pt); a state dict (.pth) \
                 is weights without a network"
            );
        };
        let mut files = vec![self.file(asset).await?];
        // Exporters call a second file of weights `model.onnx.data` or `model.onnx_data`.
        let is_weights = |other: &&ModelAsset| {
            other.href.strip_prefix(&asset.href).is_some_and(|rest| rest.starts_with(['.', '_']))
        };
        for weights in item.assets.iter().filter(is_weights) {
            files.push(self.file(weights).await?);
        }
        Ok((format, files))
    }

    async fn file(&self, asset: &ModelAsset) -> anyhow::Result<PathBuf> {
        let path = match &self.files {
            Files::Folder(folder) => resolve_href(folder, &asset.href)?,
            Files::Server { client, version_path, folder } => {
                let name = asset.href.rsplit('/').next().unwrap_or(&asset.href);
                let path = folder.path().join(name);
                client
                    .download(&format!("{version_path}/artifacts/{}", Client::segment(name)), &path)
                    .await?;
                path
            }
        };
        let bytes = std::fs::read(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
        let digest = Sha256Digest::of(&bytes);
        match &asset.sha256 {
            Some(declared) if *declared != digest => bail!(
                "`{}` is not the file that the STAC item describes: its SHA-256 is {digest}, the item says {declared}",
                path.display()
            ),
            _ => Ok(path),
        }
    }
}

fn format_of(href: &str) -> Option<ModelFormat> {
    match ArtifactFormat::of_file_name(href) {
        ArtifactFormat::Onnx => Some(ModelFormat::Onnx),
        ArtifactFormat::TorchScript => Some(ModelFormat::TorchScript),
        _ => None,
    }
}
