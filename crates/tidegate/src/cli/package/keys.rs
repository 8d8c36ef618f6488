//! `tidegate package sign` and `keygen`.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use tidegate_geo::esri::{SigningKey, sign_package, unpack};

use super::write_whole;
use crate::cli::say;

#[derive(Args)]
pub struct SignArgs {
    /// The .dlpk
    package: PathBuf,
    /// An Ed25519 private key in PEM, as `keygen` or OpenSSL writes it
    #[arg(long, value_name = "KEY.pem")]
    key: PathBuf,
    /// Write the signature beside the package, as FILE.dlpk.sig, and leave the package as it is
    #[arg(long)]
    detached: bool,
}

#[derive(Args)]
pub struct KeygenArgs {
    /// The files' name: NAME.pem and NAME.pub.pem
    name: PathBuf,
}

pub(super) fn sign(args: &SignArgs) -> anyhow::Result<()> {
    let pem = std::fs::read_to_string(&args.key)
        .with_context(|| format!("failed to read the key `{}`", args.key.display()))?;
    let key = SigningKey::parse(&pem).with_context(|| format!("`{}`", args.key.display()))?;
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    // What is signed is what was found harmless.
    let manifest = unpack(&args.package, folder.path())?;
    let signature = key.sign(&manifest);
    let fingerprint = key.verifying_key().fingerprint();
    if args.detached {
        let path = detached_path(&args.package);
        std::fs::write(&path, signature.to_json())
            .with_context(|| format!("failed to write `{}`", path.display()))?;
        say(format!("wrote {}, by key {fingerprint}", path.display()));
        return Ok(());
    }
    write_whole(&args.package, |file| {
        sign_package(&args.package, file, &signature).context("failed to copy the package")
    })?;
    say(format!("signed {}, by key {fingerprint}", args.package.display()));
    Ok(())
}

/// Where a signature beside a package lies.
pub(super) fn detached_path(package: &Path) -> PathBuf {
    let mut name = package.as_os_str().to_owned();
    name.push(".sig");
    PathBuf::from(name)
}

pub(super) fn keygen(args: &KeygenArgs) -> anyhow::Result<()> {
    let with = |ending: &str| {
        let mut name = args.name.as_os_str().to_owned();
        name.push(ending);
        PathBuf::from(name)
    };
    let (private, public) = (with(".pem"), with(".pub.pem"));
    for path in [&private, &public] {
        if path.exists() {
            bail!("`{}` is there already; a key that is replaced is lost", path.display());
        }
    }
    let (key, pem) = SigningKey::generate()?;
    write_private(&private, &pem).with_context(|| format!("failed to write `{}`", private.display()))?;
    std::fs::write(&public, key.verifying_key().to_pem())
        .with_context(|| format!("failed to write `{}`", public.display()))?;
    say(format!("wrote {}: keep it to yourself", private.display()));
    say(format!(
        "wrote {}: give it away; its fingerprint is {}",
        public.display(),
        key.verifying_key().fingerprint()
    ));
    Ok(())
}

/// Readable by its owner only, where the system knows such a thing.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}
