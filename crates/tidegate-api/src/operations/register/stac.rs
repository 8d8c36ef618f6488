//! The STAC-MLM item of a registration: what it says of the model, and what it promises of the files.

use serde_json::Value;
use tidegate_core::Artifact;
use tidegate_geo::{InvalidItem, ModelAsset, ModelItem};

use super::digest_fault;
use crate::operations::fault::Fault;

/// An item, read and as it came.
pub(crate) struct StacItem {
    pub json: Value,
    pub item: ModelItem,
}

impl StacItem {
    /// Faults carry JSON pointers into the item.
    pub(crate) fn parse(json: Value) -> Result<Self, Vec<Fault>> {
        match ModelItem::parse(&json) {
            Ok(item) => Ok(Self { json, item }),
            Err(InvalidItem { faults }) => {
                Err(faults.into_iter().map(|fault| Fault::new(fault.pointer, fault.message)).collect())
            }
        }
    }

    /// Files of the assets that have the role `validation-sample`.
    pub(super) fn sample_files(&self) -> Vec<String> {
        let of_sample = |asset: &&ModelAsset| asset.roles.iter().any(|role| role == SAMPLE_ROLE);
        let assets = self.item.assets.iter().filter(of_sample);
        assets.filter_map(|asset| file_name(&asset.href).ok().map(str::to_owned)).collect()
    }

    /// Every file that the item names has come, with the size and digest it promises. Assets elsewhere on the web that
    /// are not the model itself (a licence, a paper) need not.
    pub(super) fn verify(&self, artifacts: &[Artifact]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for asset in &self.item.assets {
            let pointer = format!("/assets/{}", escape(&asset.key));
            match file_name(&asset.href) {
                Ok(name) => match artifacts.iter().find(|artifact| artifact.name == name) {
                    Some(artifact) => faults.extend(verify_asset(&pointer, asset, artifact)),
                    None => faults.push(Fault::new(
                        format!("{pointer}/href"),
                        format!("`{name}` was not uploaded; add it as a part named `artifact`"),
                    )),
                },
                Err(_) if is_remote(&asset.href) && !asset.is_model() => {}
                Err(message) => faults.push(Fault::new(format!("{pointer}/href"), message)),
            }
        }
        faults
    }
}

/// No extension of STAC has a word for it.
const SAMPLE_ROLE: &str = "validation-sample";

fn verify_asset(pointer: &str, asset: &ModelAsset, artifact: &Artifact) -> Vec<Fault> {
    let mut faults = Vec::new();
    if let Some(expected) = asset.size_bytes.filter(|size| *size != artifact.size_bytes) {
        let message = format!(
            "`{}` arrived with {} bytes, the item says {expected}: upload it again, or correct the item",
            artifact.name, artifact.size_bytes
        );
        faults.push(Fault::new(format!("{pointer}/file:size"), message));
    }
    if let Some(expected) = asset.sha256.as_ref().filter(|sha256| **sha256 != artifact.sha256) {
        let message = digest_fault(&artifact.name, expected, &artifact.sha256);
        faults.push(Fault::new(format!("{pointer}/file:checksum"), message));
    }
    faults
}

/// The file name of a local href, which lies beside or below the item.
fn file_name(href: &str) -> Result<&str, String> {
    if is_remote(href) {
        return Err("the model's file must lie beside the item; make the href relative and upload the file"
            .to_owned());
    }
    let path = href.strip_prefix("file://").unwrap_or(href);
    if path.contains('\\') || path.split('/').any(|segment| segment == "..") || path.starts_with('/') {
        return Err("the href leaves the item's folder; make it relative, such as `./model.onnx`".to_owned());
    }
    let name = path.rsplit('/').next().unwrap_or(path);
    super::file_name::check(name).map(|()| name).map_err(|fault| fault.message)
}

fn is_remote(href: &str) -> bool {
    href.split_once("://").is_some_and(|(scheme, _)| !scheme.eq_ignore_ascii_case("file"))
}

/// As a segment of a JSON pointer (RFC 6901).
fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_below_the_items_folder_are_files() {
        for (href, name) in [("./model.onnx", "model.onnx"), ("model.onnx", "model.onnx"), ("a/b.pt", "b.pt")]
        {
            assert_eq!(file_name(href), Ok(name));
        }
        let bad = [
            "../model.onnx",
            "/etc/passwd",
            "file:///etc/passwd",
            "a/../../x",
            "..\\x",
            "",
            "a/",
            "s3://b/m.onnx",
        ];
        for href in bad {
            assert!(file_name(href).is_err(), "{href}");
        }
    }
}
