//! What is to be done with a raster, decided before a pixel is read: bands, resolution, tiles.

use tidegate_core::DType;

use super::resample::{Kernel, Resampling};
use super::tiles::TilePlan;
use super::{Placement, SegmentError, SegmentOptions};
use crate::raster::RasterInfo;
use crate::stac_mlm::ModelItem;

/// How a raster meets a model.
pub(crate) struct Plan {
    /// Width and height of the raster.
    pub image: (usize, usize),
    /// Width and height at the model's resolution.
    pub work: (usize, usize),
    /// The raster's band for each band of the model.
    pub bands: Vec<usize>,
    pub placement: Placement,
    /// Metres per pixel of the raster, where known.
    pub image_gsd_m: Option<f64>,
    pub tiles: TilePlan,
    pub(super) to_work: Resampling,
    pub(super) to_image: Resampling,
    /// What the user should know about how the raster is read, in sentences.
    pub notes: Vec<String>,
}

impl Plan {
    pub fn new(info: &RasterInfo, item: &ModelItem, options: &SegmentOptions) -> Result<Plan, SegmentError> {
        check(item, options)?;
        let mut notes = Vec::new();
        let image = (info.width, info.height);
        let image_gsd_m =
            options.gsd_m.or_else(|| info.georeference.ground_resolution_m(info.width, info.height));
        let placement = place(image, item, options, image_gsd_m, &mut notes);
        let (work, kernel) = match placement {
            Placement::Resized => ((item.input.width, item.input.height), Kernel::Bilinear),
            Placement::Tiled { scale, .. } => {
                let side = |size: usize| (size as f64 * scale).round().max(1.0) as usize;
                ((side(image.0), side(image.1)), Kernel::Sharp)
            }
        };
        if work.0.max(work.1) > MAX_SIDE {
            return Err(SegmentError::TooWide { width: work.0, height: work.1 });
        }
        let bands = select_bands(info, item, &mut notes)?;
        let overlap = match placement {
            Placement::Resized => 0,
            Placement::Tiled { overlap, .. } => overlap,
        };
        Ok(Plan {
            image,
            work,
            bands,
            placement,
            image_gsd_m,
            tiles: TilePlan::new(work.0, work.1, [item.input.height, item.input.width], overlap),
            to_work: Resampling::new(image, work, kernel),
            to_image: Resampling::new(work, image, Kernel::Bilinear),
            notes,
        })
    }
}

/// Of a raster at the model's resolution: the Earth's equator at two metres and a half. Beyond it the plan itself would
/// not fit in memory, and a wrong ground resolution is all that asks for it.
const MAX_SIDE: usize = 1 << 24;

fn check(item: &ModelItem, options: &SegmentOptions) -> Result<(), SegmentError> {
    if let Some(expression) = &item.input.pre_processing {
        return Err(SegmentError::Unsupported {
            what: format!("the pre-processing function `{expression}`"),
        });
    }
    if !matches!(item.input.data_type, DType::Fp32 | DType::Fp64 | DType::Fp16 | DType::Uint8) {
        return Err(SegmentError::Unsupported {
            what: format!("input of data type {}", item.input.data_type),
        });
    }
    if options.batch == 0 {
        return Err(invalid_option("batch", 0, "give 1 or more"));
    }
    if options.threads == 0 {
        return Err(invalid_option("threads", 0, "give 1 or more"));
    }
    match options.gsd_m {
        Some(gsd) if !gsd.is_finite() || gsd <= 0.0 => {
            Err(invalid_option("gsd", gsd, "give metres per pixel, above 0"))
        }
        _ => Ok(()),
    }
}

fn invalid_option(name: &'static str, value: impl ToString, reason: &'static str) -> SegmentError {
    SegmentError::InvalidOption { name, value: value.to_string(), reason }
}

/// Resolutions closer than this are taken as equal: resampling would only blur.
const SAME_SCALE: f64 = 0.01;

/// Without both resolutions, an image this many times the model's input is still taken as one scene to be resized.
const RESIZE_LIMIT: usize = 2;

fn place(
    (width, height): (usize, usize),
    item: &ModelItem,
    options: &SegmentOptions,
    image_gsd_m: Option<f64>,
    notes: &mut Vec<String>,
) -> Placement {
    let input = &item.input;
    let tile = [input.height, input.width];
    let overlap = options.overlap_px.min(tile[0].min(tile[1]) / 2);
    if let (Some(image_gsd_m), Some(model_gsd_m)) = (image_gsd_m, item.gsd) {
        let scale = image_gsd_m / model_gsd_m;
        let scale = if (scale - 1.0).abs() < SAME_SCALE { 1.0 } else { scale };
        return Placement::Tiled { scale, tile, overlap, resolution_known: true };
    }
    if width <= RESIZE_LIMIT * input.width && height <= RESIZE_LIMIT * input.height {
        return Placement::Resized;
    }
    let whose =
        if item.gsd.is_none() { "the model's item gives no `gsd`" } else { "the image has no georeference" };
    notes.push(format!(
        "{whose}, so the image was tiled at its own resolution; the result is right only if that is the model's"
    ));
    Placement::Tiled { scale: 1.0, tile, overlap, resolution_known: false }
}

/// The raster's band for each band of the model: by name where the raster names them; by colour where it is RGB and the
/// model's bands are red, green and blue in some order; otherwise by position. A grey image stands for all three colours.
fn select_bands(
    info: &RasterInfo,
    item: &ModelItem,
    notes: &mut Vec<String>,
) -> Result<Vec<usize>, SegmentError> {
    let n_bands = item.input.n_bands;
    if let Some(bands) = by_name(info, item) {
        if !bands.iter().copied().eq(0..info.n_bands) {
            let names = item.input.bands.join(", ");
            let numbers = bands.iter().map(|band| (band + 1).to_string()).collect::<Vec<_>>().join(", ");
            notes.push(format!("the bands {names} were found by name: numbers {numbers} of the image"));
        }
        return Ok(bands);
    }
    if info.n_bands == 1 && n_bands == 3 {
        notes.push("the image is grey; its one band stands for all three of the model".to_owned());
        return Ok(vec![0; 3]);
    }
    if info.n_bands != n_bands {
        let names =
            if item.input.bands.is_empty() { "unnamed".to_owned() } else { item.input.bands.join(", ") };
        return Err(SegmentError::BandMismatch { image: info.n_bands, model: n_bands, names });
    }
    let by_color = || item.input.bands.iter().map(|name| color_index(item, name)).collect::<Option<Vec<_>>>();
    match by_color() {
        Some(order) if n_bands == 3 && (0..3).all(|color| order.contains(&color)) => {
            if order != [0, 1, 2] {
                notes.push(format!("the image's bands were reordered to {}", item.input.bands.join(", ")));
            }
            Ok(order)
        }
        _ => Ok((0..n_bands).collect()),
    }
}

/// Where the raster names its bands, and among them all of the model's, by name or common name.
fn by_name(info: &RasterInfo, item: &ModelItem) -> Option<Vec<usize>> {
    let find = |name: &String| {
        let band = item.bands.iter().find(|band| band.name == *name);
        let common = band.and_then(|band| band.common_name.as_ref());
        let is = |named: &Option<String>, wanted: &String| {
            named.as_ref().is_some_and(|named| named.eq_ignore_ascii_case(wanted))
        };
        let position = |wanted: &String| info.band_names.iter().position(|named| is(named, wanted));
        position(name).or_else(|| position(common?))
    };
    let bands = item.input.bands.iter().map(find).collect::<Option<Vec<_>>>()?;
    (bands.len() == item.input.n_bands).then_some(bands)
}

/// 0, 1, 2 for the bands called red, green, blue, or commonly known so.
fn color_index(item: &ModelItem, name: &str) -> Option<usize> {
    let index =
        |name: &str| ["red", "green", "blue"].iter().position(|color| color.eq_ignore_ascii_case(name));
    let band = item.bands.iter().find(|band| band.name == name);
    band.and_then(|band| index(band.common_name.as_deref()?)).or_else(|| index(name))
}
