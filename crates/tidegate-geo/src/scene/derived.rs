//! What is made of the blocks beside the spools, as they come: overviews, polygons.
//!
//! It is a function of all blocks in their order and keeps no state of its own on disk: a resumed run gives it the blocks
//! that are in the spools again, before those to come.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use cpu_time::ThreadTime;

use super::checkpoint::Folder;
use super::cog::{TILE, TileRows};
use super::overviews::Overviews;
use super::spool::SpoolReader;
use super::survey::Survey;
use super::{SceneJob, SceneSeconds, ground, lap};

pub(super) struct Derived<'a> {
    pub mask: Overviews<u8>,
    pub probability: Option<Overviews<f32>>,
    pub survey: Survey<'a>,
    /// What each took so far.
    pub seconds: SceneSeconds,
    folder: Folder,
    size: (usize, usize),
    /// Of the probabilities.
    n_bands: usize,
}

impl<'a> Derived<'a> {
    /// `n_bands`: of the probabilities, where they are wanted.
    pub fn new(job: &'a SceneJob<'a>, folder: &Folder, n_bands: Option<usize>) -> io::Result<Self> {
        let info = job.raster.info();
        let size = (info.width, info.height);
        let probability = n_bands.map(|n_bands| Overviews::new(&folder.probability(), size, n_bands));
        let mut mask = Overviews::new(&folder.mask(), size, 1)?;
        if job.options.overlay {
            mask = mask.with_thumbnail(ground::shrink(info.width, info.height));
        }
        Ok(Self {
            mask,
            probability: probability.transpose()?,
            survey: Survey::new(job, folder)?,
            seconds: SceneSeconds::default(),
            folder: folder.clone(),
            size,
            n_bands: n_bands.unwrap_or(0),
        })
    }

    /// Takes the blocks that an earlier run has left in the spools, unless it is stopped.
    pub fn catch_up(&mut self, n_blocks: usize, stop: &AtomicBool) -> io::Result<()> {
        if n_blocks == 0 {
            return Ok(());
        }
        let (width, height) = self.size;
        let mut masks = TileRows::open(&self.folder.mask(), width, height)?;
        let mut confidences = SpoolReader::open(&self.folder.confidence())?;
        let mut probabilities = match self.probability {
            Some(_) => Some(TileRows::open(&self.folder.probability(), width, height)?),
            None => None,
        };
        for block in 0..n_blocks {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            let n_rows = TILE.min(height - block * TILE);
            let mask = masks.next::<u8>(1)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let confidence = confidences.rows(n_rows, width)?;
            let channels = probabilities.as_mut().map(|rows| rows.next::<f32>(self.n_bands)).transpose()?;
            self.add(&mask[0], &confidence, channels.flatten().as_deref())?;
        }
        Ok(())
    }

    /// Takes the next block.
    pub fn add(
        &mut self,
        mask: &[u8],
        confidence: &[u8],
        probabilities: Option<&[Vec<f32>]>,
    ) -> io::Result<()> {
        let mut started = ThreadTime::now();
        self.mask.add(&[mask])?;
        self.seconds.mask += lap(&mut started);
        if let (Some(overviews), Some(channels)) = (&mut self.probability, probabilities) {
            overviews.add(&channels.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        }
        self.seconds.probability += lap(&mut started);
        self.survey.add(mask, confidence)?;
        self.seconds.polygons += lap(&mut started);
        Ok(())
    }
}
