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
}

struct Overview<P> {
    path: PathBuf,
    spool: TileSpool,
    /// Of the raster that it halves.
    finer_width: usize,
    width: usize,
    height: usize,
    n_bands: usize,
    /// Rows that are in the spool.
    n_done: usize,
    /// Rows of the row of tiles that is not complete, band by band.
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
                n_bands,
                n_done: 0,
                pending: vec![Vec::new(); n_bands],
            });
        }
        Ok(Self { size: (width, height), overviews })
    }

    /// Takes the rows of the raster's next row of tiles, one slice for each band.
    pub fn add(&mut self, bands: &[&[P]]) -> io::Result<()> {
        let Some((first, rest)) = self.overviews.split_first_mut() else { return Ok(()) };
        let mut complete = first.add(bands)?;
        for overview in rest {
            let Some(bands) = complete else { break };
            complete = overview.add(&bands.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Writes the COG whose full-resolution tiles are in `spool`, all of whose rows were taken, to `target`.
    pub fn finish(mut self, spec: &CogSpec<'_>, spool: &Path, target: &Path) -> io::Result<()> {
        let mut levels = vec![Level::of(spool.to_owned(), self.size, spec.n_bands)?];
        for overview in &mut self.overviews {
            overview.spool.flush()?;
            let size = (overview.width, overview.height);
            levels.push(Level::of(overview.path.clone(), size, spec.n_bands)?);
        }
        let result = cog::write::<P>(spec, &levels, target);
        for overview in self.overviews {
            let _ = fs::remove_file(&overview.path);
        }
        result
    }
}

impl<P: Pixel> Overview<P> {
    /// Takes rows of the finer raster: two rows of its tiles make one here, which is given once it is complete.
    fn add(&mut self, finer: &[&[P]]) -> io::Result<Option<Vec<Vec<P>>>> {
        for (pending, finer) in self.pending.iter_mut().zip(finer) {
            pending.reserve_exact(TILE.min(self.height - self.n_done) * self.width - pending.len());
            cog::halve_rows(finer, self.finer_width, pending);
        }
        let n_pending = self.pending[0].len() / self.width;
        if n_pending < TILE && self.n_done + n_pending < self.height {
            return Ok(None);
        }
        for band in &self.pending {
            cog::append_tile_row(&mut self.spool, band, self.width)?;
        }
        self.n_done += n_pending;
        Ok(Some(std::mem::replace(&mut self.pending, vec![Vec::new(); self.n_bands])))
    }
}
