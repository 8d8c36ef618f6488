//! One more pass over the finished mask: how much of each class there is, its polygons, and the mask made small.

use std::io;
use std::sync::mpsc::{SyncSender, sync_channel};

use super::checkpoint::Finished;
use super::cog::{self, TileRows};
use super::trace::{Traced, Tracer, equal_runs};
use super::vectors::{self, Feature, VectorSink};
use super::{SceneJob, ground};
use crate::outputs;
use crate::raster::{Affine, RasterInfo};
use crate::segment::CONFIDENCE_STEPS;

pub(super) struct Survey<'a> {
    pub job: &'a SceneJob<'a>,
    pub info: &'a RasterInfo,
    pub workshop: &'a Finished,
}

pub(super) struct Surveyed {
    pub class_pixels: [u64; 256],
    pub n_polygons: u64,
    /// The mask, as many times smaller as the picture.
    pub thumbnail: Vec<u8>,
}

impl Survey<'_> {
    pub fn run(&self, notes: &mut Vec<String>) -> io::Result<Surveyed> {
        let RasterInfo { width, height, .. } = *self.info;
        let mut surveyed = Surveyed { class_pixels: [0; 256], n_polygons: 0, thumbnail: Vec::new() };
        let mut sinks = self.sinks()?;
        let n_channels = self.job.item.output.channels.unwrap_or(1);
        let colors = outputs::class_colors(self.job.item, n_channels);
        let is_background = |class: u8| colors.background.get(usize::from(class)).copied().unwrap_or(false);
        let mut tracer = (!sinks.is_empty()).then(|| Tracer::new(width, is_background));
        let shape = Shape::new(self);
        let mut failure = None;
        let mut n_polygons = 0;
        let mut n_unsimplified = 0u64;
        let mut closed = |traced: Traced| {
            let Some(feature) = shape.feature(&traced, &mut n_unsimplified) else { return };
            n_polygons += 1;
            for sink in &mut sinks {
                if let Err(error) = sink.add(&feature) {
                    failure.get_or_insert(error);
                }
            }
        };
        let masks = TileRows::open(&self.workshop.mask(), width, height)?;
        let confidences = TileRows::open(&self.workshop.confidence(), width, height)?;
        std::thread::scope(|scope| {
            // Decompressing takes about as long as tracing, so each has its thread; one row of tiles waits in between.
            let (sender, rows) = sync_channel(1);
            let reader = scope.spawn(move || read(masks, confidences, &sender));
            for (mask, confidence) in rows {
                for run in equal_runs(&mask) {
                    surveyed.class_pixels[usize::from(mask[run.start])] += run.len() as u64;
                }
                if let Some(tracer) = &mut tracer {
                    for (classes, confidences) in mask.chunks_exact(width).zip(confidence.chunks_exact(width))
                    {
                        tracer.row(classes, confidences, &mut closed);
                    }
                }
                surveyed.thumbnail.extend(shrunk(mask, width, ground::shrink(width, height)));
            }
            reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })?;
        if let Some(tracer) = &mut tracer {
            tracer.finish(&mut closed);
        }
        if let Some(error) = failure {
            return Err(error);
        }
        for sink in sinks {
            sink.finish()?;
        }
        if n_unsimplified > 0 {
            notes.push(format!(
                "{n_unsimplified} polygons kept the edges of their pixels: simplified they would not be valid"
            ));
        }
        surveyed.n_polygons = n_polygons;
        Ok(surveyed)
    }

    fn sinks(&self) -> io::Result<Vec<Box<dyn VectorSink>>> {
        let layer = vectors::Layer {
            name: "prediction",
            georeference: &self.info.georeference,
            created_at: self.job.created_at,
        };
        let formats = self.job.options.vectors.iter();
        formats.map(|format| format.create(&self.workshop.file(format.file_name()), &layer)).collect()
    }
}

/// Rows of tiles of the mask, and what goes with them.
type Rows = (Vec<u8>, Vec<u8>);

/// Reads all rows, until nobody wants them.
fn read(mut masks: TileRows, mut confidences: TileRows, rows: &SyncSender<Rows>) -> io::Result<()> {
    while let (Some(mask), Some(confidence)) = (masks.next::<u8>(1)?, confidences.next::<u8>(1)?) {
        let [mask, confidence] = [mask, confidence].map(|mut bands| bands.swap_remove(0));
        if rows.send((mask, confidence)).is_err() {
            break;
        }
    }
    Ok(())
}

fn shrunk(mut rows: Vec<u8>, mut width: usize, shrink: usize) -> Vec<u8> {
    for _ in 0..shrink.ilog2() {
        let mut half = Vec::with_capacity(rows.len() / 4 + width);
        cog::halve_rows(&rows, width, &mut half);
        (rows, width) = (half, width.div_ceil(2));
    }
    rows
}

/// From pixels to the raster's coordinates.
struct Shape<'a> {
    survey: &'a Survey<'a>,
    transform: Affine,
    /// In pixels.
    tolerance: Option<f64>,
    /// Square metres of a pixel where that is known, at the centre of the raster.
    min_area_m2: f64,
}

impl<'a> Shape<'a> {
    fn new(survey: &'a Survey<'a>) -> Self {
        // Without a place on Earth, coordinates are pixels with rows going up, as maps have them.
        let pixels = Affine { a: 1.0, b: 0.0, c: 0.0, d: 0.0, e: -1.0, f: survey.info.height as f64 };
        let info = survey.info;
        let gsd_m = info.georeference.ground_resolution_m(info.width, info.height);
        Self {
            survey,
            transform: info.georeference.transform.unwrap_or(pixels),
            tolerance: survey.job.options.simplify_m.map(|metres| metres / gsd_m.unwrap_or(1.0)),
            min_area_m2: survey.job.options.min_area_m2,
        }
    }

    /// `None` where it is too small.
    fn feature(&self, traced: &Traced, n_unsimplified: &mut u64) -> Option<Feature> {
        let top = traced.rings[0].iter().map(|corner| corner.1).min().unwrap_or(0);
        let bottom = traced.rings[0].iter().map(|corner| corner.1).max().unwrap_or(0);
        let middle = f64::from(top).midpoint(f64::from(bottom));
        let left = f64::from(traced.rings[0][0].0);
        let (_, y) = self.transform.apply(left, middle);
        let metres = self.survey.info.georeference.metres_per_unit(y);
        let pixel_m2 = metres.map(|metres| self.transform.pixel_area() * metres * metres);
        let area_m2 = pixel_m2.map(|pixel| pixel * traced.n_pixels as f64);
        if area_m2.is_some_and(|area| area < self.min_area_m2) {
            return None;
        }
        let rings = match self.tolerance {
            Some(tolerance) if tolerance > 0.0 => match vectors::simplified(&traced.rings, tolerance) {
                Some(rings) => rings,
                None => {
                    *n_unsimplified += 1;
                    floats(&traced.rings)
                }
            },
            _ => floats(&traced.rings),
        };
        let is_mirrored = self.transform.a * self.transform.e - self.transform.b * self.transform.d > 0.0;
        let place = |ring: Vec<(f64, f64)>| {
            let mut ring = ring.into_iter().map(|(x, y)| self.transform.apply(x, y)).collect::<Vec<_>>();
            if is_mirrored {
                ring.reverse();
            }
            ring
        };
        let classes = &self.survey.job.item.output.classes;
        let class = classes.iter().find(|class| class.value == i64::from(traced.class));
        Some(Feature {
            class: traced.class,
            class_name: class.map_or_else(|| format!("class {}", traced.class), |class| class.name.clone()),
            rings: rings.into_iter().map(place).collect(),
            area_m2,
            mean_probability: traced.mean_confidence / f64::from(CONFIDENCE_STEPS),
        })
    }
}

fn floats(rings: &[Vec<super::trace::Corner>]) -> Vec<Vec<(f64, f64)>> {
    let ring =
        |ring: &Vec<super::trace::Corner>| ring.iter().map(|(x, y)| (f64::from(*x), f64::from(*y))).collect();
    rings.iter().map(ring).collect()
}
