//! The checksums of a package's members: written into it for whoever unpacks it, and what a signature is over.

use serde::{Deserialize, Serialize};
use tidegate_core::Sha256Digest;

/// Where a package keeps its manifest, and its signature. Neither is a member that the manifest lists.
pub const MANIFEST_NAME: &str = "checksums.json";
pub const SIGNATURE_NAME: &str = "signature.json";

/// Every other member, sorted by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub members: Vec<Member>,
}

/// One file of a package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    pub name: String,
    pub sha256: Sha256Digest,
    pub size_bytes: u64,
}

impl Manifest {
    pub fn new(members: impl IntoIterator<Item = Member>) -> Self {
        let is_listed = |member: &Member| member.name != MANIFEST_NAME && member.name != SIGNATURE_NAME;
        let mut members = members.into_iter().filter(is_listed).collect::<Vec<_>>();
        members.sort_by(|a, b| a.name.cmp(&b.name));
        Self { members }
    }

    /// The same bytes for the same members: what is signed.
    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("a manifest is strings and numbers");
        format!("{json}\n")
    }

    /// How this differs from what a package says of itself; empty when it does not.
    pub fn differences(&self, declared: &Manifest) -> Vec<String> {
        let find =
            |manifest: &Manifest, name: &str| manifest.members.iter().find(|m| m.name == name).cloned();
        let mut differences = Vec::new();
        for member in &declared.members {
            match find(self, &member.name) {
                None => differences.push(format!("`{}` is missing", member.name)),
                Some(actual) if actual != *member => {
                    differences.push(format!("`{}` was changed", member.name))
                }
                Some(_) => {}
            }
        }
        let added = self.members.iter().filter(|member| find(declared, &member.name).is_none());
        differences.extend(added.map(|member| format!("`{}` was added", member.name)));
        differences
    }
}
