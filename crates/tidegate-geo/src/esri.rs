//! Deep learning packages for ArcGIS (`.dlpk`): a model, its Esri model definition (`.emd`) and the Python raster function
//! that ArcGIS runs it with, all of them made from the model's STAC item.
//!
//! A package is written the same, byte for byte, whenever its parts are the same; it carries the checksums of its members
//! and may carry a signature over them. Reading one trusts nothing: names, sizes and counts are checked before anything is
//! unpacked.
//!
//! Runs no Python and no model: [`blocks`] says which pixels a right function gives, with inference as a closure.
//!
//! Start reading at [`definition`], then [`package`].

pub mod archive;
pub mod blocks;
pub mod definition;
mod function;
pub mod manifest;
pub mod package;
pub mod signature;

pub use archive::{ArchiveError, unpack};
pub use definition::{Definition, DefinitionError, DefinitionOptions, ModelFormat};
pub use function::class_name;
pub use manifest::{Manifest, Member};
pub use package::{PackageError, PackageParts, write_package};
pub use signature::{KeyError, Signature, SigningKey, VerifyingKey, sign_package};

/// What ArcGIS does with a package, for a Python of the user: see `tidegate package verify`.
pub const HARNESS: &str = include_str!("esri/python/harness.py");
