//! `tidegate package`: models as deep learning packages for ArcGIS, made, signed and checked.

mod esri;
mod harness;
mod keys;
mod layout;
mod pixels;
mod source;
mod verify;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::Subcommand;

#[derive(Subcommand)]
pub enum PackageCommand {
    /// Make a .dlpk for ArcGIS from a model's STAC item
    #[command(after_help = "\
Examples:
  tidegate package esri stac_item.json
  tidegate package esri stac_item.json --format torchscript --output roofs.dlpk
  tidegate package esri --model refugee-camp-detector --version 1.0.0

The package holds the model, its definition (.emd), the Python raster function that ArcGIS calls, the STAC item, and
checksums. An ONNX package needs nothing but what comes with ArcGIS Pro.")]
    Esri(Box<esri::EsriArgs>),
    /// Unpack a .dlpk, run it as ArcGIS would, and hold its pixels against Tidegate's own
    #[command(after_help = "\
Examples:
  tidegate package verify roofs.dlpk
  tidegate package verify roofs.dlpk --image scene.tif --output-dir out     look at out/arcgis_overlay.png
  tidegate package verify roofs.dlpk --key anna.pub.pem --no-run            checksums, signature and layout only

Needs a Python with numpy and onnxruntime (or torch, for a TorchScript package): `pip install numpy onnxruntime`.")]
    Verify(Box<verify::VerifyArgs>),
    /// Sign a .dlpk with an Ed25519 key
    Sign(keys::SignArgs),
    /// Make a pair of keys: NAME.pem to sign with, NAME.pub.pem to give away
    Keygen(keys::KeygenArgs),
}

pub async fn run(command: &PackageCommand) -> anyhow::Result<()> {
    match command {
        PackageCommand::Esri(args) => esri::run(args).await,
        PackageCommand::Verify(args) => verify::run(args).await,
        PackageCommand::Sign(args) => keys::sign(args),
        PackageCommand::Keygen(args) => keys::keygen(args),
    }
}

/// Writes a file under a temporary name and renames it, so that nothing half-written carries the final one.
fn write_whole(path: &Path, write: impl FnOnce(&File) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.partial", std::process::id()));
    let partial = PathBuf::from(name);
    let failed = || format!("failed to write `{}`", path.display());
    let file = File::create(&partial).with_context(failed)?;
    let written = write(&file).and_then(|()| std::fs::rename(&partial, path).with_context(failed));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}
