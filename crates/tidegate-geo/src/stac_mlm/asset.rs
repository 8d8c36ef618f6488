//! The item's assets: every one is listed, those of the model are checked.

use tidegate_core::Sha256Digest;

use super::reader::{Faults, Node};
use super::{Band, bands_of};

/// A file that belongs to the model: weights, source code, a sample, a thumbnail.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelAsset {
    /// Its key in the item's `assets`.
    pub key: String,
    /// As written: relative to the item, or an address. See [`super::resolve_href`].
    pub href: String,
    pub title: Option<String>,
    pub media_type: Option<String>,
    pub roles: Vec<String>,
    /// `mlm:artifact_type`: `onnx`, `torch.jit.save`, `torch.save`, ...
    pub artifact_type: Option<String>,
    /// `file:size`.
    pub size_bytes: Option<u64>,
    /// `file:checksum`, a multihash.
    pub sha256: Option<Sha256Digest>,
}

impl ModelAsset {
    /// Whether this is the model itself in some format (role `mlm:model`).
    pub fn is_model(&self) -> bool {
        self.roles.iter().any(|role| role == MODEL_ROLE)
    }
}

const MODEL_ROLE: &str = "mlm:model";

/// The assets, and the bands that those of the model define.
pub(super) fn read(item: &Node<'_>, faults: &mut Faults) -> (Vec<ModelAsset>, Vec<Band>) {
    let Some(node) = faults.required(item, "assets", "the model's files by key") else {
        return (Vec::new(), Vec::new());
    };
    let Some(members) = node.value.as_object() else {
        faults.add(&node, format!("expected an object of assets by key, got {}", node.kind()));
        return (Vec::new(), Vec::new());
    };
    let mut assets = Vec::new();
    let mut bands = Vec::new();
    let mut any_model = false;
    for (key, value) in members {
        let entry = Node { value, pointer: node.pointer_to(key) };
        if !value.is_object() {
            faults.add(&entry, format!("expected an asset (an object), got {}", entry.kind()));
            continue;
        }
        let roles = entry.get("roles").map(|roles| faults.texts(&roles)).unwrap_or_default();
        if roles.iter().any(|role| role == MODEL_ROLE) {
            any_model = true;
            bands.extend(bands_of(&entry, faults));
        }
        assets.extend(read_one(key, &entry, roles, faults));
    }
    if !any_model {
        faults.add(&node, "no asset is the model: give one the role `mlm:model`".to_owned());
    }
    (assets, bands)
}

fn read_one(key: &str, node: &Node<'_>, roles: Vec<String>, faults: &mut Faults) -> Option<ModelAsset> {
    let is_model = roles.iter().any(|role| role == MODEL_ROLE);
    let artifact_type = if is_model {
        faults.required_text(
            node,
            "mlm:artifact_type",
            "the file's kind: `onnx`, `torch.jit.save`, `torch.save`",
        )
    } else {
        faults.optional_text(node, "mlm:artifact_type")
    };
    let size_bytes = node.get("file:size").and_then(|size| {
        let number = faults.integer(&size)?;
        u64::try_from(number)
            .map_err(|_| faults.add(&size, format!("{number} is not a size: give the file's bytes")))
            .ok()
    });
    let sha256 = node.get("file:checksum").and_then(|checksum| read_checksum(&checksum, faults));
    Some(ModelAsset {
        key: key.to_owned(),
        href: faults.required_text(node, "href", "the file's path relative to the item, or its address")?,
        title: faults.optional_text(node, "title"),
        media_type: faults.optional_text(node, "type"),
        roles,
        artifact_type,
        size_bytes,
        sha256,
    })
}

/// A multihash in hexadecimal: function code, length, digest (<https://multiformats.io/multihash/>).
fn read_checksum(node: &Node<'_>, faults: &mut Faults) -> Option<Sha256Digest> {
    let text = faults.text(node)?;
    let lower = text.to_ascii_lowercase();
    let is_sha256 = lower.len() == 68 && lower.starts_with("1220");
    let digest = if is_sha256 { Sha256Digest::parse(&lower).ok() } else { None };
    if digest.is_none() {
        let message = match hash_function(&lower) {
            Some(name) => format!(
                "{name} is not supported: give the SHA-256 multihash, `1220` and 64 hexadecimal digits"
            ),
            None => "not a multihash: give SHA-256 as `1220` and 64 hexadecimal digits".to_owned(),
        };
        faults.add(node, message);
    }
    digest
}

/// The multihash functions that people use, by code and digest length in bytes.
fn hash_function(multihash: &str) -> Option<&'static str> {
    let functions = [
        ("d50110", 16, "MD5"),
        ("1114", 20, "SHA-1"),
        ("1340", 64, "SHA-512"),
        ("1620", 32, "SHA3-256"),
        ("1440", 64, "SHA3-512"),
        ("1e20", 32, "BLAKE3"),
        ("a0e40220", 32, "BLAKE2b-256"),
    ];
    functions
        .iter()
        .find(|(code, size_bytes, _)| {
            multihash.len() == code.len() + 2 * size_bytes && multihash.starts_with(code)
        })
        .map(|(_, _, name)| *name)
}
