//! `tidegate package verify`: a package taken apart as its user's ArcGIS will take it, before it goes out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::Args;
use tidegate_core::{Clock, Sha256Digest};
use tidegate_geo::esri::blocks::resampled;
use tidegate_geo::esri::manifest::{MANIFEST_NAME, SIGNATURE_NAME};
use tidegate_geo::esri::signature::read_signature;
use tidegate_geo::esri::{Manifest, VerifyingKey, unpack};
use tidegate_geo::{Image, ImageLimits, Placement, Provenance, Segmentation};

use super::harness::{self, Run, RunResult};
use super::keys::detached_path;
use super::layout::{self, Layout};
use super::pixels::{Comparison, Own};
use crate::cli::{progress_bar, say};
use crate::clock::SystemClock;
use crate::config::{Config, ConfigFlags};

#[derive(Args)]
pub struct VerifyArgs {
    /// The .dlpk
    package: PathBuf,
    /// Whose signature the package must have: an Ed25519 public key in PEM
    #[arg(long, value_name = "KEY.pub.pem")]
    key: Option<PathBuf>,
    /// A signature beside the package [default: FILE.dlpk.sig, where it is there]
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// The model's item, for a package that holds none
    #[arg(long, value_name = "ITEM.json")]
    stac: Option<PathBuf>,
    /// Imagery to run it over [default: a made-up picture]
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,
    /// Where to write what ArcGIS would show of the image: arcgis_mask.png and arcgis_overlay.png
    #[arg(long, short, value_name = "FOLDER", requires = "image")]
    output_dir: Option<PathBuf>,
    /// A Python with numpy, and onnxruntime or torch
    #[arg(long, value_name = "PYTHON", default_value = "python3")]
    python: PathBuf,
    /// Look at checksums, signature and layout only
    #[arg(long)]
    no_run: bool,
    #[command(flatten)]
    config: ConfigFlags,
}

pub(super) async fn run(args: &VerifyArgs) -> anyhow::Result<()> {
    let folder = tempfile::tempdir().context("failed to make a temporary folder")?;
    let unpacked = folder.path().join("package");
    std::fs::create_dir(&unpacked).context("failed to make a temporary folder")?;
    say(format!("{}", args.package.display()));
    let manifest = unpack(&args.package, &unpacked)?;
    check_manifest(&manifest, &unpacked)?;
    check_signature(args, &manifest, &unpacked)?;
    let layout = layout::read(&unpacked, &args.package, &manifest, args.stac.as_deref())?;
    let definition = &layout.definition;
    say(format!(
        "  layout      {} runs {} by {}, as its STAC item says",
        layout.emd, definition.model_file, definition.inference_function
    ));
    if args.no_run {
        return Ok(());
    }
    make_read_only(&unpacked, true)?;
    let ran = run_function(args, &layout, &unpacked, folder.path()).await;
    make_read_only(&unpacked, false)?;
    ran
}

fn check_manifest(manifest: &Manifest, unpacked: &Path) -> anyhow::Result<()> {
    let path = unpacked.join(MANIFEST_NAME);
    let n_members = manifest.members.len();
    if !path.is_file() {
        say(format!("  members     {n_members}, without checksums"));
        return Ok(());
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("`{MANIFEST_NAME}` is not text"))?;
    let declared: Manifest =
        serde_json::from_str(&text).with_context(|| format!("`{MANIFEST_NAME}` is no list of checksums"))?;
    let differences = manifest.differences(&declared);
    if !differences.is_empty() {
        bail!("the package is not as it was made: {}", differences.join(", "));
    }
    say(format!("  members     {n_members}, all as their checksums say"));
    Ok(())
}

fn check_signature(args: &VerifyArgs, manifest: &Manifest, unpacked: &Path) -> anyhow::Result<()> {
    let beside = args.signature.clone().unwrap_or_else(|| detached_path(&args.package));
    let inside = unpacked.join(SIGNATURE_NAME);
    let path = match (args.signature.is_some() || beside.is_file(), inside.is_file()) {
        (true, _) => beside,
        (false, true) => inside,
        (false, false) if args.key.is_some() => bail!("the package is not signed"),
        (false, false) => {
            say("  signature   none");
            return Ok(());
        }
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let file = std::fs::File::open(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let signature = read_signature(file).with_context(|| format!("`{name}`"))?;
    let claimed = signature.claimed_key().with_context(|| format!("`{name}`"))?;
    let key = match &args.key {
        None => claimed.clone(),
        Some(path) => {
            let pem = std::fs::read_to_string(path)
                .with_context(|| format!("failed to read the key `{}`", path.display()))?;
            VerifyingKey::parse(&pem).with_context(|| format!("`{}`", path.display()))?
        }
    };
    if key != claimed {
        bail!(
            "the package is signed by another key, {}; yours is {}",
            claimed.fingerprint(),
            key.fingerprint()
        );
    }
    key.verify(&signature, manifest)?;
    let whose = if args.key.is_some() { "yours" } else { "whose that is, --key would tell" };
    say(format!("  signature   by key {}: {whose}", key.fingerprint()));
    Ok(())
}

/// ArcGIS unpacks where not everybody may write. (Root may anyway; the harness looks at what was written, too.)
fn make_read_only(folder: &Path, read_only: bool) -> anyhow::Result<()> {
    let set = |path: &Path| -> std::io::Result<()> {
        let mut permissions = path.metadata()?.permissions();
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = permissions.mode();
            permissions.set_mode(if read_only { mode & !0o222 } else { mode | 0o200 });
        }
        #[cfg(not(unix))]
        permissions.set_readonly(read_only);
        std::fs::set_permissions(path, permissions)
    };
    if !read_only {
        set(folder)?;
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        match path.is_dir() {
            true => make_read_only(&path, read_only)?,
            false => set(&path)?,
        }
    }
    Ok(set(folder)?)
}

async fn run_function(
    args: &VerifyArgs,
    layout: &Layout,
    unpacked: &Path,
    work: &Path,
) -> anyhow::Result<()> {
    let (item, definition) = (&layout.item, &layout.definition);
    let (image, input) = match &args.image {
        Some(path) => read_image(path, layout)?,
        None => (made_up_image(layout), None),
    };
    let n_needed = definition.extract_bands.iter().max().map_or(0, |band| band + 1);
    if image.n_bands < n_needed {
        bail!("the image has {} bands, the model takes band {n_needed} as well", image.n_bands);
    }
    let own = Own::open(&Config::load(&args.config)?, layout, work).await?;
    let first =
        own.block(&image, item, definition, (0, 0), (definition.image_height, definition.image_width, 0))?;
    let threshold = balanced_threshold(&first.probabilities);
    let runs = runs(layout, threshold);
    let report = harness::drive(&args.python, unpacked, layout, &image, &runs)?;
    say(format!("  function    {}; does what ArcGIS calls it for", report.versions));

    let n_blocks = report.runs.iter().map(|run| run.n_blocks as u64).sum();
    let bar = progress_bar(n_blocks, "{bar:40} {pos}/{len} blocks, {eta} left");
    let mut told = Vec::new();
    for (run, result) in runs.iter().zip(&report.runs) {
        let mut item = item.clone();
        if let Some((_, threshold)) = run.parameters.iter().find(|(name, _)| *name == "Threshold") {
            item.output.threshold = threshold.parse().context("a threshold that was written here")?;
        }
        let comparison = own.compare(&image, &item, definition, result, || bar.inc(1))?;
        told.push((run, comparison));
    }
    bar.finish_and_clear();
    for (run, comparison) in &told {
        say(describe(run, comparison));
    }
    say(format!("              compared with {}, tile by tile", own.runtime));
    if let (Some(folder), Some((name, sha256))) = (&args.output_dir, input) {
        write_pictures(folder, &image, layout, &report.runs[0], name, sha256, &own.runtime)?;
    }
    match told.iter().find(|(_, comparison)| comparison.n_wrong > 0) {
        None => Ok(()),
        Some((_, comparison)) => {
            let (row, column) = comparison.first_wrong.unwrap_or_default();
            bail!("{} pixels differ, the first at row {row}, column {column}", comparison.n_wrong)
        }
    }
}

/// The defaults over everything; then what a user or ArcGIS may do otherwise, over the first block.
fn runs(layout: &Layout, threshold: Option<f32>) -> Vec<Run> {
    let (height, width) = (layout.definition.image_height, layout.definition.image_width);
    let first = Run { max_blocks: Some(1), ..Run::default() };
    let mut runs = vec![
        Run::default(),
        Run {
            parameters: vec![("batch_size", "1".to_owned()), ("padding", "0".to_owned())],
            ..first.clone()
        },
        Run { parameters: vec![("BatchSize", "6".to_owned())], model_as_text: true, ..first.clone() },
        Run { block: Some((height + height / 3 + 1, width / 2 + 3)), ..first.clone() },
    ];
    if let Some(threshold) = threshold {
        runs.push(Run { parameters: vec![("Threshold", threshold.to_string())], ..first });
    }
    runs
}

/// Where half of the pixels are on either side, so that a threshold that is not obeyed shows.
fn balanced_threshold(probabilities: &[f32]) -> Option<f32> {
    let mut sorted = probabilities.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len() / 2).copied().filter(|median| (1e-4..=0.9999).contains(median))
}

fn describe(run: &Run, comparison: &Comparison) -> String {
    let mut settings =
        run.parameters.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>();
    settings.extend(run.block.map(|(rows, columns)| format!("a block of {rows} x {columns}")));
    settings.extend(run.model_as_text.then(|| "the definition as text".to_owned()));
    let what = if settings.is_empty() { "the defaults".to_owned() } else { settings.join(", ") };
    let Comparison { n_pixels, n_equal, n_rounding, n_wrong, .. } = comparison;
    let mut counts = format!("{n_equal} of {n_pixels} equal");
    if *n_rounding > 0 {
        counts.push_str(&format!(", {n_rounding} within rounding"));
    }
    if *n_wrong > 0 {
        counts.push_str(&format!(", {n_wrong} WRONG"));
    }
    format!("  pixels      {counts} ({what})")
}

/// At the model's resolution, as the tool's cell size brings it there; with its name and digest.
fn read_image(path: &Path, layout: &Layout) -> anyhow::Result<(Image, Option<(String, Sha256Digest)>)> {
    let bytes = std::fs::read(path).with_context(|| format!("failed to read `{}`", path.display()))?;
    let image = tidegate_geo::decode(&bytes, &ImageLimits::default())?;
    let own_gsd = image.geo.as_ref().and_then(|geo| geo.ground_resolution_m(image.height));
    let image = match own_gsd.zip(layout.item.gsd) {
        Some((own, model)) if (own / model - 1.0).abs() > 0.01 => {
            say(format!(
                "  image       resampled from {own:.3} m to the model's {model} m, as Cell Size does"
            ));
            resampled(&image, own / model)
        }
        _ => image,
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((image, Some((name, Sha256Digest::of(&bytes)))))
}

/// Waves of all sizes, with a hole and sides that no tile divides.
fn made_up_image(layout: &Layout) -> Image {
    let definition = &layout.definition;
    let (height, width) = (definition.image_height * 3 / 2 + 13, definition.image_width * 2 + 37);
    let n_bands = definition.extract_bands.iter().max().map_or(1, |band| band + 1);
    let mut pixels = Vec::with_capacity(height * width * n_bands);
    let mut valid = Vec::with_capacity(height * width);
    for y in 0..height {
        for x in 0..width {
            let (u, v) = (x as f64, y as f64);
            for band in 0..n_bands {
                let phase = band as f64;
                let wave = (u / (9.0 + phase)).sin() + (v / 7.0 + phase).cos() + ((u + v) / 41.0).sin();
                let speckle = ((x * 7919 + y * 104_729 + band * 31) % 61) as f64;
                pixels.push((97.0 + 32.0 * wave + speckle).clamp(0.0, 255.0) as u8);
            }
            valid.push(x + y >= 40 && !(x > width / 2 && x < width / 2 + 30 && y < height / 3));
        }
    }
    Image { width, height, n_bands, pixels, valid: Some(valid), geo: None }
}

/// The classes that the harness gave, drawn as `tidegate predict` draws its own.
fn write_pictures(
    folder: &Path,
    image: &Image,
    layout: &Layout,
    run: &RunResult,
    input_name: String,
    input_sha256: Sha256Digest,
    runtime: &str,
) -> anyhow::Result<()> {
    let mask = run.classes.iter().map(|class| u8::try_from(*class).unwrap_or(u8::MAX)).collect::<Vec<_>>();
    let n_classes_out = layout.item.output.channels.unwrap_or(1);
    let segmentation = Segmentation {
        width: image.width,
        height: image.height,
        n_classes_out,
        probabilities: vec![0.0; mask.len() * n_classes_out],
        mask,
        n_tiles: run.n_blocks,
        n_empty_tiles: 0,
        placement: Placement::Resized,
        image_gsd_m: layout.item.gsd,
        preprocess_seconds: 0.0,
        runtime_seconds: 0.0,
        postprocess_seconds: 0.0,
        notes: vec![],
    };
    let provenance = Provenance {
        input_name,
        input_sha256,
        model_name: layout.item.name.clone(),
        version: layout.item.version.clone(),
        artifact_sha256: Sha256Digest::of(&std::fs::read(&layout.model)?),
        runtime: runtime.to_owned(),
        created_at: SystemClock.now(),
    };
    let wanted = BTreeSet::from(["prediction_mask.png", "prediction_overlay.png"]);
    std::fs::create_dir_all(folder).with_context(|| format!("failed to make `{}`", folder.display()))?;
    for file in tidegate_geo::render(image, &layout.item, &segmentation, &provenance)? {
        if wanted.contains(file.name) {
            let path = folder.join(file.name.replace("prediction", "arcgis"));
            std::fs::write(&path, &file.bytes)
                .with_context(|| format!("failed to write `{}`", path.display()))?;
            say(format!("wrote {}", path.display()));
        }
    }
    Ok(())
}
