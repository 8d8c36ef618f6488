//! The assets: where each may have which field, and whether the files are there and are what the item says.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tidegate_core::digest::{Sha256Digest, Sha256Hasher};

use super::{Report, fields};
use crate::stac_mlm::reader::{Faults, Node};
use crate::stac_mlm::{HrefError, ModelAsset, ModelItem, resolve_href};

pub(super) fn check(item: &Node<'_>, report: &mut Report) {
    let Some(assets) = item.get("assets") else { return };
    for (key, value) in assets.value.as_object().into_iter().flatten() {
        let asset = Node { value, pointer: assets.pointer_to(key) };
        if !value.is_object() {
            continue;
        }
        fields::check_asset(&asset, report);
        check_roles(&asset, report);
        check_href(&asset, report);
        check_file_fields(&asset, report);
    }
}

fn check_roles(asset: &Node<'_>, report: &mut Report) {
    let mut faults = Faults::default();
    let roles = asset.get("roles").map(|roles| faults.texts(&roles)).unwrap_or_default();
    report.take(faults);
    let has = |role: &str| roles.iter().any(|known| known == role);
    if asset.get("mlm:artifact_type").is_some() && !has("mlm:model") {
        let message =
            "only the model itself has an artifact type: add \"mlm:model\" to the roles, or leave it out";
        report.error(&asset.pointer_to("mlm:artifact_type"), message);
    }
    if asset.get("mlm:entrypoint").is_some() && !has("code") {
        report.error(
            &asset.pointer_to("roles"),
            "an asset with `mlm:entrypoint` is code: add \"code\" to the roles",
        );
    }
    let kind = asset.value.get("mlm:artifact_type").and_then(|kind| kind.as_str()).unwrap_or_default();
    let href =
        asset.value.get("href").and_then(|href| href.as_str()).unwrap_or_default().to_ascii_lowercase();
    let extension = href.rsplit_once('.').map_or("", |(_, extension)| extension);
    let expected = match kind {
        "onnx" => &["onnx"][..],
        "torch.jit.save" => &["pt", "ts", "torchscript", "jit"],
        "torch.save" => &["pth", "pt", "ckpt", "bin", "tar"],
        _ => return,
    };
    if has("mlm:model") && !expected.contains(&extension) {
        let message =
            format!("`{kind}` does not go with a file named .{extension}: name the kind that the file is");
        report.warn(&asset.pointer_to("mlm:artifact_type"), message);
    }
}

/// An absolute path works on one machine.
fn check_href(asset: &Node<'_>, report: &mut Report) {
    let Some(href) = asset.get("href").and_then(|href| href.value.as_str().map(str::to_owned)) else {
        return;
    };
    let is_drive = href.as_bytes().get(1) == Some(&b':') && href.as_bytes()[0].is_ascii_alphabetic();
    let local = href.starts_with('/') || href.starts_with('\\') || is_drive;
    if local || href.to_ascii_lowercase().starts_with("file:") {
        let message = format!(
            "`{href}` is a path on one machine: give one relative to the item, such as `./model.onnx`"
        );
        report.error(&asset.pointer_to("href"), message);
    }
}

fn check_file_fields(asset: &Node<'_>, report: &mut Report) {
    let has_upper = |text: &str| text.bytes().any(|b| b.is_ascii_uppercase());
    if let Some(checksum) =
        asset.get("file:checksum").filter(|node| node.value.as_str().is_some_and(has_upper))
    {
        report.error(&checksum.pointer, "the file extension wants small letters: write it so");
    }
}

/// The files beside the item, as it promises them.
pub(super) fn check_files(item: &ModelItem, folder: &Path, report: &mut Report) {
    for asset in &item.assets {
        let pointer = format!("/assets/{}", asset.key.replace('~', "~0").replace('/', "~1"));
        match resolve_href(folder, &asset.href) {
            Ok(path) => check_file(asset, &pointer, &path, report),
            Err(HrefError::Scheme { .. }) => {
                if asset.is_model() {
                    let message =
                        "lies elsewhere and was not looked at: to register it, download it beside the item";
                    report.warn(&format!("{pointer}/href"), message);
                }
            }
            Err(HrefError::NotFound { path, .. }) => {
                report.error(
                    &format!("{pointer}/href"),
                    format!("there is no file `{}`: correct the path", path.display()),
                );
            }
            Err(error) => report.error(&format!("{pointer}/href"), error.to_string()),
        }
    }
}

fn check_file(asset: &ModelAsset, pointer: &str, path: &Path, report: &mut Report) {
    let (digest, size_bytes) = match digest_of(path) {
        Ok(read) => read,
        Err(error) => {
            report.error(&format!("{pointer}/href"), format!("failed to read `{}`: {error}", path.display()));
            return;
        }
    };
    if asset.size_bytes.is_some_and(|expected| expected != size_bytes) {
        report.error(
            &format!("{pointer}/file:size"),
            format!("the file has {size_bytes} bytes: write that, or mend the file"),
        );
    }
    match &asset.sha256 {
        Some(expected) if *expected != digest => {
            let message = format!("the file's is {}: write that, or mend the file", digest.to_multihash());
            report.error(&format!("{pointer}/file:checksum"), message);
        }
        None if asset.is_model() => {
            let message = format!(
                "missing: nobody can tell whether the file is whole; add \"{}\"",
                digest.to_multihash()
            );
            report.warn(&format!("{pointer}/file:checksum"), message);
        }
        _ => {}
    }
}

fn digest_of(path: &Path) -> std::io::Result<(Sha256Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    let mut size_bytes = 0;
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok((hasher.finish(), size_bytes)),
            n => {
                hasher.update(&buffer[..n]);
                size_bytes += n as u64;
            }
        }
    }
}
