//! What is seen of the mask as its rows come: how much of each class there is, and its polygons.

use std::io;

use super::SceneJob;
use super::checkpoint::Folder;
use super::trace::{Corner, Traced, Tracer, equal_runs};
use super::vectors::{self, Feature, VectorSink};
use crate::outputs;
use crate::raster::{Affine, RasterInfo};
use crate::segment::CONFIDENCE_STEPS;

pub(super) struct Survey<'a> {
    surveyed: Surveyed,
    width: usize,
    tracer: Option<Tracer>,
    polygons: Polygons<'a>,
}

pub(super) struct Surveyed {
    pub class_pixels: [u64; 256],
    pub n_polygons: u64,
}

impl<'a> Survey<'a> {
    /// Makes the files that polygons go to.
    pub fn new(job: &'a SceneJob<'a>, folder: &Folder) -> io::Result<Self> {
        let info = job.raster.info();
        let polygons = Polygons::new(job, folder)?;
        let n_channels = job.item.output.channels.unwrap_or(1);
        let colors = outputs::class_colors(job.item, n_channels);
        let is_background = |class: u8| colors.background.get(usize::from(class)).copied().unwrap_or(false);
        Ok(Self {
            surveyed: Surveyed { class_pixels: [0; 256], n_polygons: 0 },
            width: info.width,
            tracer: (!polygons.sinks.is_empty()).then(|| Tracer::new(info.width, is_background)),
            polygons,
        })
    }

    /// Takes the next rows: as many as a row of tiles has, but for the last.
    pub fn add(&mut self, mask: &[u8], confidence: &[u8]) -> io::Result<()> {
        for run in equal_runs(mask) {
            self.surveyed.class_pixels[usize::from(mask[run.start])] += run.len() as u64;
        }
        if let Some(tracer) = &mut self.tracer {
            let rows = mask.chunks_exact(self.width).zip(confidence.chunks_exact(self.width));
            for (classes, confidences) in rows {
                tracer.row(classes, confidences, &mut |traced| self.polygons.add(&traced));
            }
        }
        self.polygons.failure.take().map_or(Ok(()), Err)
    }

    /// Ends the files, when all rows were taken.
    pub fn finish(mut self, notes: &mut Vec<String>) -> io::Result<Surveyed> {
        if let Some(tracer) = &mut self.tracer {
            tracer.finish(&mut |traced| self.polygons.add(&traced));
        }
        self.surveyed.n_polygons = self.polygons.finish(notes)?;
        Ok(self.surveyed)
    }
}

/// Polygons on their way to the files.
struct Polygons<'a> {
    shape: Shape<'a>,
    sinks: Vec<Box<dyn VectorSink>>,
    /// The first that a file gave.
    failure: Option<io::Error>,
    n_polygons: u64,
    n_unsimplified: u64,
}

impl<'a> Polygons<'a> {
    fn new(job: &'a SceneJob<'a>, folder: &Folder) -> io::Result<Self> {
        let georeference = &job.raster.info().georeference;
        let layer = vectors::Layer { name: "prediction", georeference, created_at: job.created_at };
        let formats = job.options.vectors.iter();
        let sinks = formats.map(|format| format.create(&folder.file(format.file_name()), &layer));
        Ok(Self {
            shape: Shape::new(job),
            sinks: sinks.collect::<io::Result<_>>()?,
            failure: None,
            n_polygons: 0,
            n_unsimplified: 0,
        })
    }

    fn add(&mut self, traced: &Traced) {
        let Some(feature) = self.shape.feature(traced, &mut self.n_unsimplified) else { return };
        self.n_polygons += 1;
        for sink in &mut self.sinks {
            if let Err(error) = sink.add(&feature) {
                self.failure.get_or_insert(error);
            }
        }
    }

    fn finish(self, notes: &mut Vec<String>) -> io::Result<u64> {
        if let Some(error) = self.failure {
            return Err(error);
        }
        for sink in self.sinks {
            sink.finish()?;
        }
        if self.n_unsimplified > 0 {
            notes.push(format!(
                "{} polygons kept the edges of their pixels: simplified they would not be valid",
                self.n_unsimplified
            ));
        }
        Ok(self.n_polygons)
    }
}

/// From pixels to the raster's coordinates.
struct Shape<'a> {
    job: &'a SceneJob<'a>,
    info: &'a RasterInfo,
    transform: Affine,
    /// In pixels.
    tolerance: Option<f64>,
    /// Square metres of a pixel where that is known, at the centre of the raster.
    min_area_m2: f64,
}

impl<'a> Shape<'a> {
    fn new(job: &'a SceneJob<'a>) -> Self {
        let info = job.raster.info();
        // Without a place on Earth, coordinates are pixels with rows going up, as maps have them.
        let pixels = Affine { a: 1.0, b: 0.0, c: 0.0, d: 0.0, e: -1.0, f: info.height as f64 };
        let gsd_m = info.georeference.ground_resolution_m(info.width, info.height);
        Self {
            job,
            info,
            transform: info.georeference.transform.unwrap_or(pixels),
            tolerance: job.options.simplify_m.map(|metres| metres / gsd_m.unwrap_or(1.0)),
            min_area_m2: job.options.min_area_m2,
        }
    }

    /// `None` where it is too small.
    fn feature(&self, traced: &Traced, n_unsimplified: &mut u64) -> Option<Feature> {
        let top = traced.rings[0].iter().map(|corner| corner.1).min().unwrap_or(0);
        let bottom = traced.rings[0].iter().map(|corner| corner.1).max().unwrap_or(0);
        let middle = f64::from(top).midpoint(f64::from(bottom));
        let left = f64::from(traced.rings[0][0].0);
        let (_, y) = self.transform.apply(left, middle);
        let metres = self.info.georeference.metres_per_unit(y);
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
        let classes = &self.job.item.output.classes;
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

fn floats(rings: &[Vec<Corner>]) -> Vec<Vec<(f64, f64)>> {
    let ring = |ring: &Vec<Corner>| ring.iter().map(|(x, y)| (f64::from(*x), f64::from(*y))).collect();
    rings.iter().map(ring).collect()
}
