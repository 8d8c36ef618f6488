//! Tidegate's own pixels for what ArcGIS was given, and how the two compare.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use tidegate_core::{ModelName, NamedTensor, Precision, SemVer, Tensor, VersionId};
use tidegate_geo::esri::blocks::{BlockClasses, classify_block};
use tidegate_geo::esri::{Definition, ModelFormat};
use tidegate_geo::{Image, ModelItem, RunFault};
use tidegate_serve::{Slot, SlotSpec};

use super::harness::RunResult;
use super::layout::Layout;
use crate::config::Config;

/// The package's model on Tidegate's own runtime.
pub struct Own {
    slot: Arc<Slot>,
    input: String,
    pub runtime: String,
}

/// How ArcGIS's pixels compare with ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    pub n_pixels: usize,
    pub n_equal: usize,
    /// Unequal where the probability lies within rounding of the decision.
    pub n_rounding: usize,
    /// Unequal for no good reason.
    pub n_wrong: usize,
    /// Row and column of the first such pixel.
    pub first_wrong: Option<(usize, usize)>,
}

impl Own {
    /// A TorchScript archive is converted; what cannot be has nothing to be compared with.
    pub async fn open(config: &Config, layout: &Layout, work: &Path) -> anyhow::Result<Self> {
        let path = match layout.definition.framework {
            ModelFormat::Onnx => layout.model.clone(),
            ModelFormat::TorchScript => {
                let converted = super::esri::convert(&layout.model, &layout.item).context(
                    "Tidegate cannot run this archive itself, so there is nothing to compare with",
                )?;
                let path = work.join("converted.onnx");
                std::fs::write(&path, converted.onnx).context("failed to write a temporary file")?;
                path
            }
        };
        let server = crate::app::open_server(config, config.runtime.server_options())?;
        let spec = SlotSpec {
            version_id: VersionId::new("package"),
            model_name: ModelName::parse("package").expect("a plain lowercase word"),
            number: SemVer::new(0, 0, 0),
            path,
            precision: Precision::F32,
        };
        let slot = server.load(spec).await?;
        let input = match slot.signature().inputs.as_slice() {
            [input] => input.name.clone(),
            inputs => bail!("the model takes {} inputs; an image model takes one", inputs.len()),
        };
        let runtime = server.runtime();
        Ok(Self { slot, input, runtime: format!("{} {}", runtime.name, runtime.version) })
    }

    fn run(&self, tensor: Tensor) -> Result<Tensor, RunFault> {
        let outputs = self.slot.run_blocking(&[NamedTensor { name: self.input.clone(), tensor }]);
        let first = outputs.map_err(RunFault::new)?.into_iter().next();
        first.map(|output| output.tensor).ok_or_else(|| RunFault::new("the model gave no output"))
    }

    /// The classes of the block at `(top, left)` of the given size, whatever lies beyond the image.
    pub fn block(
        &self,
        image: &Image,
        item: &ModelItem,
        definition: &Definition,
        (top, left): (usize, usize),
        (rows, columns, padding): (usize, usize, usize),
    ) -> anyhow::Result<BlockClasses> {
        let block = cut(image, definition, (top, left), (rows, columns, padding));
        Ok(classify_block(&block, item, padding, &mut |tensor| self.run(tensor))?)
    }

    /// Every block of a run. `tell` is told of each.
    pub fn compare(
        &self,
        image: &Image,
        item: &ModelItem,
        definition: &Definition,
        run: &RunResult,
        mut tell: impl FnMut(),
    ) -> anyhow::Result<Comparison> {
        let mut comparison = Comparison::default();
        let size = (run.rows, run.columns, run.padding);
        let places = (0..image.height)
            .step_by(run.rows)
            .flat_map(|top| (0..image.width).step_by(run.columns).map(move |left| (top, left)));
        for (top, left) in places.take(run.n_blocks) {
            let own = self.block(image, item, definition, (top, left), size)?;
            for y in top..(top + run.rows).min(image.height) {
                for x in left..(left + run.columns).min(image.width) {
                    let at = (y - top) * own.columns + x - left;
                    let equal = run.classes[y * image.width + x] == u16::from(own.classes[at]);
                    comparison.count(equal, own.certain[at], (y, x));
                }
            }
            tell();
        }
        Ok(comparison)
    }
}

impl Comparison {
    fn count(&mut self, equal: bool, certain: bool, at: (usize, usize)) {
        self.n_pixels += 1;
        match (equal, certain) {
            (true, _) => self.n_equal += 1,
            (false, false) => self.n_rounding += 1,
            (false, true) => {
                self.n_wrong += 1;
                self.first_wrong = self.first_wrong.or(Some(at));
            }
        }
    }
}

/// A block with its padding in the bands of the model; invalid beyond the image.
fn cut(
    image: &Image,
    definition: &Definition,
    (top, left): (usize, usize),
    (rows, columns, padding): (usize, usize, usize),
) -> Image {
    let (height, width) = (rows + 2 * padding, columns + 2 * padding);
    let bands = &definition.extract_bands;
    let mut pixels = Vec::with_capacity(height * width * bands.len());
    let mut valid = Vec::with_capacity(height * width);
    for y in 0..height {
        for x in 0..width {
            let row = (top + y).checked_sub(padding).filter(|row| *row < image.height);
            let column = (left + x).checked_sub(padding).filter(|column| *column < image.width);
            let at = row.zip(column).map(|(row, column)| row * image.width + column);
            let at = at.filter(|at| image.valid.as_ref().is_none_or(|valid| valid[*at]));
            valid.push(at.is_some());
            pixels
                .extend(bands.iter().map(|band| at.map_or(0, |at| image.pixels[at * image.n_bands + band])));
        }
    }
    Image { width, height, n_bands: bands.len(), pixels, valid: Some(valid), geo: None }
}
