//! Overviews of a raster, made as its rows come: each is half of the one before it, rounded up.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::cog::{self, CogSpec, Level, Pixel, TILE};
use super::spool::TileSpool;

/// All overviews of one raster. Memory holds less than a row of tiles of each.
pub(crate) struct Overviews<P> {
    size: (usize, usize),
    overviews: Vec<Overview<P>>,
    /// How many times the thumbnail is halved; `None`: there is none.
    thumbnail_level: Option<usize>,
    thumbnail: Vec<P>,
}

struct Overview<P> {
    path: PathBuf,
    spool: TileSpool,
    /// Of the raster that it halves.
    finer_width: usize,
    width: usize,
    height: usize,
    /// Rows that are in the spool.
    n_done: usize,
    /// Rows of the row of tiles at work, band by band; those of a complete one until the next begins.
    pending: Vec<Vec<P>>,
}

impl<P: Pixel> Overviews<P> {
    /// For a raster whose full-resolution tiles are in `spool`; the overviews pass through files beside it.
    pub fn new(spool: &Path, (width, height): (usize, usize), n_bands: usize) -> io::Result<Self> {
        let mut overviews = Vec::<Overview<P>>::new();
        let mut size = (width, height);
        while size.0 > TILE || size.1 > TILE {
            let path = spool.with_extension(format!("overview-{}", overviews.len() + 1));
            let finer_width = size.0;
            size = (size.0.div_ceil(2), size.1.div_ceil(2));
            overviews.push(Overview {
                spool: TileSpool::open(&path, 0)?,
                path,
                finer_width,
                width: size.0,
                height: size.1,
                n_done: 0,
                pending: vec![Vec::new(); n_bands],
            });
        }
        Ok(Self { size: (width, height), overviews, thumbnail_level: None, thumbnail: Vec::new() })
    }

    /// Keeps the overview that is `shrink` times smaller, of the first band, in memory as well.
    pub fn with_thumbnail(mut self, shrink: usize) -> Self {
        self.thumbnail_level = Some(shrink.ilog2() as usize);
        self
    }

    /// Takes the rows of the raster's next row of tiles, one slice for each band.
    pub fn add(&mut self, bands: &[&[P]]) -> io::Result<()> {
        if self.thumbnail_level == Some(0) {
            self.thumbnail.extend_from_slice(bands[0]);
        }
        let mut finer = bands.to_vec();
        for (level, overview) in (1..).zip(&mut self.overviews) {
            let Some(complete) = overview.add(&finer)? else { break };
            if self.thumbnail_level == Some(level) {
                self.thumbnail.extend_from_slice(&complete[0]);
            }
            finer = complete.iter().map(Vec::as_slice).collect();
        }
        Ok(())
    }

    /// Writes the COG whose full-resolution tiles are in `spool`, all of whose rows were taken, to `target`. Gives the
    /// thumbnail, which is empty where there is none.
    pub fn finish(mut self, spec: &CogSpec<'_>, spool: &Path, target: &Path) -> io::Result<Vec<P>> {
        let mut levels = vec![Level::of(spool.to_owned(), self.size, spec.n_bands)?];
        for overview in &mut self.overviews {
            overview.spool.flush()?;
            let size = (overview.width, overview.height);
            levels.push(Level::of(overview.path.clone(), size, spec.n_bands)?);
        }
        let result = cog::write::<P>(spec, &levels, target);
        for overview in &self.overviews {
            let _ = fs::remove_file(&overview.path);
        }
        result.map(|()| self.thumbnail)
    }
}

impl<P: Pixel> Overview<P> {
    /// Takes rows of the finer raster: two rows of its tiles make one here, which is given once it is complete.
    fn add(&mut self, finer: &[&[P]]) -> io::Result<Option<&[Vec<P>]>> {
        let is_new = self.n_pending() == TILE;
        for (pending, finer) in self.pending.iter_mut().zip(finer) {
            if is_new {
                pending.clear();
            }
            pending.reserve_exact(TILE.min(self.height - self.n_done) * self.width - pending.len());
            cog::halve_rows(finer, self.finer_width, pending);
        }
        let n_pending = self.n_pending();
        if n_pending < TILE && self.n_done + n_pending < self.height {
            return Ok(None);
        }
        for band in &self.pending {
            cog::append_tile_row(&mut self.spool, band, self.width)?;
        }
        self.n_done += n_pending;
        Ok(Some(&self.pending))
    }

    fn n_pending(&self) -> usize {
        self.pending[0].len() / self.width
    }
}
