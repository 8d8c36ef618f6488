//! The folder in which a run keeps what it has done, and the checkpoint that says how much that is.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tidegate_core::Sha256Digest;

use super::cog::TILE;
use super::spool::TileSpool;
use super::{Begin, SceneError, SceneFile, SceneJob, cog, ground};
use crate::image::ImageError;
use crate::segment::pipeline::PassReport;
use crate::segment::{Block, SegmentError};

/// Where everything is until it is finished, inside the output folder.
const NAME: &str = ".tidegate-unfinished";
const CHECKPOINT: &str = "checkpoint.json";

/// What an earlier run had done.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Begun {
    pub n_blocks: usize,
    pub report: PassReport,
}

/// Spools that blocks are appended to.
pub(super) struct Workshop<'a> {
    job: &'a SceneJob<'a>,
    folder: Folder,
    /// `None` until it was needed.
    fingerprint: Option<Fingerprint>,
    n_blocks: usize,
    total_blocks: usize,
    mask: TileSpool,
    confidence: TileSpool,
    probability: Option<TileSpool>,
}

/// The folder that everything is in until it is finished.
#[derive(Clone, Debug)]
pub(super) struct Folder(PathBuf);

#[derive(Debug)]
pub(super) enum OpenError {
    Unfinished { done: usize, total: usize },
    Changed { what: Ingredient },
    Source(ImageError),
    Io(io::Error),
}

/// What must be the same for a run to be resumed, with its values, so that a change can be named.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fingerprint(Vec<(Ingredient, String)>);

/// What a result depends on. Shown as what is wrong when it has changed: "another ground resolution".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Ingredient {
    Identity,
    Size,
    Item,
    Gsd,
    Overlap,
    Augmentation,
    Probability,
    Area,
    Release,
}

impl std::fmt::Display for Ingredient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Identity => "another scene, model or runtime",
            Self::Size => "a raster of another size",
            Self::Item => "another item of the model, or another threshold",
            Self::Gsd => "another ground resolution",
            Self::Overlap => "another overlap of tiles",
            Self::Augmentation => "another setting of test-time augmentation",
            Self::Probability => "another setting of whether probabilities are written",
            Self::Area => "another area of interest",
            Self::Release => "another release of tidegate",
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Checkpoint {
    fingerprint: Fingerprint,
    n_blocks: usize,
    total_blocks: usize,
    mask_bytes: u64,
    confidence_bytes: u64,
    probability_bytes: u64,
    report: PassReport,
}

impl<'a> Workshop<'a> {
    /// Begins, or goes on where an earlier run was cut off.
    pub fn open(job: &'a SceneJob<'a>, total_blocks: usize) -> Result<(Self, Begun), OpenError> {
        let folder = job.folder.join(NAME);
        let found = find(job, &folder)?;
        if found.is_none() {
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
                _ => {}
            }
        }
        fs::create_dir_all(&folder)?;
        let spool = |name: &str, length: fn(&Checkpoint) -> u64| {
            TileSpool::open(&folder.join(name), found.as_ref().map_or(0, length))
        };
        let begun = found
            .as_ref()
            .map_or(Begun::default(), |found| Begun { n_blocks: found.n_blocks, report: found.report });
        let workshop = Self {
            mask: spool(MASK, |found| found.mask_bytes)?,
            confidence: spool(CONFIDENCE, |found| found.confidence_bytes)?,
            probability: match job.options.probability {
                true => Some(spool(PROBABILITY, |found| found.probability_bytes)?),
                false => None,
            },
            job,
            fingerprint: found.map(|found| found.fingerprint),
            n_blocks: begun.n_blocks,
            total_blocks,
            folder: Folder(folder),
        };
        Ok((workshop, begun))
    }

    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Appends a block and makes it count. The first one waits until it is known what the scene is.
    pub fn keep(&mut self, block: &Block, report: &PassReport) -> Result<(), SegmentError> {
        self.append(block).map_err(SegmentError::Keep)?;
        let fingerprint = match self.fingerprint.take() {
            Some(fingerprint) => fingerprint,
            None => Fingerprint::of(self.job).map_err(SegmentError::Read)?,
        };
        self.n_blocks += 1;
        let noted = self.note(&fingerprint, report);
        self.fingerprint = Some(fingerprint);
        noted.map_err(SegmentError::Keep)
    }

    fn append(&mut self, block: &Block) -> io::Result<()> {
        cog::append_tile_row(&mut self.mask, &block.mask, block.width)?;
        self.confidence.append_rows(&block.confidence, block.width)?;
        if let (Some(spool), Some(channels)) = (&mut self.probability, &block.probabilities) {
            for channel in channels {
                cog::append_tile_row(spool, channel, block.width)?;
            }
        }
        Ok(())
    }

    /// Brings the spools to the disk and says how far they go.
    fn note(&mut self, fingerprint: &Fingerprint, report: &PassReport) -> io::Result<()> {
        let checkpoint = Checkpoint {
            fingerprint: fingerprint.clone(),
            n_blocks: self.n_blocks,
            total_blocks: self.total_blocks,
            mask_bytes: self.mask.sync()?,
            confidence_bytes: self.confidence.sync()?,
            probability_bytes: self.probability.as_mut().map_or(Ok(0), TileSpool::sync)?,
            report: *report,
        };
        write(&self.folder.file(CHECKPOINT), &serde_json::to_vec(&checkpoint)?)
    }

    pub fn close(mut self) -> io::Result<Folder> {
        self.mask.sync()?;
        self.confidence.sync()?;
        if let Some(probability) = &mut self.probability {
            probability.sync()?;
        }
        Ok(self.folder)
    }
}

const MASK: &str = "mask.tiles";
const CONFIDENCE: &str = "confidence.rows";
const PROBABILITY: &str = "probability.tiles";
pub(super) const GROUND: &str = "ground.rows";

impl Folder {
    pub fn mask(&self) -> PathBuf {
        self.0.join(MASK)
    }

    pub fn confidence(&self) -> PathBuf {
        self.0.join(CONFIDENCE)
    }

    pub fn probability(&self) -> PathBuf {
        self.0.join(PROBABILITY)
    }

    pub fn ground(&self) -> PathBuf {
        self.0.join(GROUND)
    }

    /// Where a file is made.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Moves the finished files to their place and removes everything else.
    pub fn publish(self, folder: &Path, names: &[&'static str]) -> io::Result<Vec<SceneFile>> {
        let mut files = Vec::with_capacity(names.len());
        for name in names {
            let path = folder.join(name);
            fs::rename(self.file(name), &path)?;
            files.push(SceneFile { name, path });
        }
        // First what says that there is something to go on with.
        match fs::remove_file(self.0.join(CHECKPOINT)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        fs::remove_dir_all(&self.0)?;
        Ok(files)
    }
}

impl Fingerprint {
    fn of(job: &SceneJob<'_>) -> Result<Self, ImageError> {
        let info = job.raster.info();
        let segment = &job.options.segment;
        let digest = |text: String| Sha256Digest::of(text.as_bytes()).to_string();
        let area = job.area.map(|area| digest(format!("{area:?}")));
        let entries = [
            (Ingredient::Identity, (job.identity)()?),
            (Ingredient::Size, format!("{} x {}", info.width, info.height)),
            (Ingredient::Item, digest(format!("{:?}", job.item))),
            (Ingredient::Gsd, format!("{:?}", segment.gsd_m)),
            (Ingredient::Overlap, segment.overlap_px.to_string()),
            (Ingredient::Augmentation, segment.augment.to_string()),
            (Ingredient::Probability, job.options.probability.to_string()),
            (Ingredient::Area, area.unwrap_or_default()),
            (Ingredient::Release, env!("CARGO_PKG_VERSION").to_owned()),
        ];
        Ok(Self(entries.to_vec()))
    }

    /// What is not the same.
    fn difference(&self, other: &Self) -> Option<Ingredient> {
        if self == other {
            return None;
        }
        let changed = self.0.iter().zip(&other.0).find(|(one, other)| one != other);
        Some(changed.map_or(Ingredient::Release, |(one, _)| one.0))
    }
}

impl Checkpoint {
    /// Whether all that it speaks of is there: a power cut may leave less.
    fn is_backed(&self, folder: &Path, job: &SceneJob<'_>) -> bool {
        let ground_bytes = match job.options.overlay {
            true => ground::bytes_of(job.raster.info(), self.n_blocks * TILE),
            false => 0,
        };
        let files = [
            (MASK, self.mask_bytes),
            (CONFIDENCE, self.confidence_bytes),
            (PROBABILITY, self.probability_bytes),
            (GROUND, ground_bytes),
        ];
        let has = |(name, n_bytes): &(&str, u64)| {
            *n_bytes == 0 || fs::metadata(folder.join(name)).is_ok_and(|file| file.len() >= *n_bytes)
        };
        files.iter().all(has)
    }
}

/// What there is to go on with. Where there is nothing, nobody waits until it is known what the scene is.
fn find(job: &SceneJob<'_>, folder: &Path) -> Result<Option<Checkpoint>, OpenError> {
    let found = read(&folder.join(CHECKPOINT))?.filter(|found| found.is_backed(folder, job));
    let Some(found) = found.filter(|_| job.begin != Begin::Afresh) else { return Ok(None) };
    let difference = found.fingerprint.difference(&Fingerprint::of(job).map_err(OpenError::Source)?);
    match (job.begin, difference) {
        (Begin::Resume, None) => Ok(Some(found)),
        (Begin::Resume, Some(what)) => Err(OpenError::Changed { what }),
        (Begin::Carefully, None) if found.n_blocks > 0 => {
            Err(OpenError::Unfinished { done: found.n_blocks, total: found.total_blocks })
        }
        (Begin::Carefully | Begin::Afresh, _) => Ok(None),
    }
}

/// A checkpoint that cannot be read is none: what it spoke of is begun again.
fn read(path: &Path) -> io::Result<Option<Checkpoint>> {
    match fs::read(path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Replaces a file as a whole.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let partial = path.with_extension("partial");
    let mut file = fs::File::create(&partial)?;
    file.write_all(bytes)?;
    file.sync_data()?;
    fs::rename(&partial, path)
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl OpenError {
    pub fn into_scene(self, folder: &Path) -> SceneError {
        let folder = folder.to_owned();
        match self {
            Self::Unfinished { done, total } => SceneError::Unfinished { folder, done, total },
            Self::Changed { what } => SceneError::Changed { folder, what },
            Self::Source(error) => SceneError::of_source(error),
            Self::Io(source) => SceneError::Write { folder, resumable: false, source },
        }
    }
}
