//! What a scene's strips take at work, from its size alone: so that a header, or a ground resolution, that claims absurd
//! rows is refused before memory is taken.

use super::cog::TILE;
use super::{SceneError, SceneJob};
use crate::segment::plan::Plan;

/// Rows of tiles that are there at the same time: one that is cut, one at work, one whose jobs wait, and the sums of the
/// last.
const TILE_ROWS: u64 = 4;

/// A strip of the raster, as planes and as it was in the file.
const STRIPS: u64 = 2;

/// Rows of blocks: one that grows, one that is kept, and what of their overviews is not complete.
const BLOCK_ROWS: u64 = 3 * TILE as u64;

/// Refuses what would take more than the job allows. Every term is for one pixel of a row, times rows that are held.
pub(super) fn check(job: &SceneJob<'_>, plan: &Plan) -> Result<(), SceneError> {
    let info = job.raster.info();
    let sample_bytes = match info.sample_type {
        "1 bit" | "uint8" => 1,
        "uint16" => 2,
        _ => 4,
    };
    let samples = plan.bands.len() as u64 * sample_bytes + 1;
    let channels = job.item.output.channels.unwrap_or(1) as u64 * size_of::<f32>() as u64;
    let kept = if job.options.probability { channels } else { 0 };
    let (width, work_width) = (info.width as u64, plan.work.0 as u64);
    let strip_rows = job.raster.strip_rows(0).len() as u64;
    let tile_rows = job.item.input.height as u64;
    let of_scene = width * (STRIPS * strip_rows * samples + BLOCK_ROWS * (2 + kept));
    let of_work = work_width * TILE_ROWS * tile_rows * (samples + channels);
    let needed = of_scene + of_work;
    if needed <= job.options.max_memory_bytes {
        return Ok(());
    }
    Err(SceneError::Memory {
        width: info.width,
        work_width: plan.work.0,
        needed_mib: needed.div_ceil(MIB),
        limit_mib: job.options.max_memory_bytes / MIB,
    })
}

const MIB: u64 = 1 << 20;
