//! Running a sample on a loaded version, one request at a time through the queue that callers use.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tidegate_core::{ModelType, NamedTensor, Version, error_chain};
use tidegate_delivery::Score;
use tidegate_geo::{ModelItem, SegmentOptions, segment};
use tidegate_serve::{Inference, Server, Slot, Standing};

use super::compare::{Comparison, Tally};
use super::overlap::Overlap;
use super::rows::Rows;
use super::scenes::{Scene, is_binary, item_of};
use super::{Cases, Interface, Sample, SampleMisfit};
use crate::operations::fault::listed;
use crate::operations::prediction::Prediction;
use crate::operations::segment::{TileRunner, infer_behind_callers};

/// Inputs that are kept, to be timed and to compare precisions on: enough that no single one decides, and of images no more
/// than fits a small machine.
const MAX_KEPT: usize = 1024;
const MAX_KEPT_BYTES: usize = 64 << 20;

/// A loaded version that a sample is run on.
pub struct Subject {
    server: Arc<Server>,
    slot: Arc<Slot>,
    input_schema: Value,
    item: Option<Arc<ModelItem>>,
    model_type: ModelType,
}

/// A sample under way on one version.
pub struct Trial {
    sample: Arc<Sample>,
    subject: Subject,
    progress: Progress,
    kept: Vec<Vec<NamedTensor>>,
    kept_bytes: usize,
}

enum Progress {
    Rows(Tally),
    Scenes { overlap: Overlap, n: usize },
}

/// Why a version did not answer a case; `place` is a line or a file of the sample.
#[derive(Debug, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct TrialError {
    pub place: String,
    pub reason: String,
}

impl Subject {
    pub fn new(server: Arc<Server>, slot: Arc<Slot>, version: &Version, model_type: ModelType) -> Self {
        let item = version.stac_item.as_ref().and_then(|item| ModelItem::parse(item).ok());
        let input_schema = version.input_schema.clone();
        Self { server, slot, input_schema, item: item.map(Arc::new), model_type }
    }

    fn interface(&self) -> Interface<'_> {
        let (signature, item) = (self.slot.signature(), self.item.as_deref());
        Interface { signature, input_schema: &self.input_schema, item, model_type: self.model_type }
    }

    async fn infer(&self, inputs: &[NamedTensor]) -> Result<Inference, String> {
        infer_behind_callers(&self.server, &self.slot, inputs).await.map_err(|error| error.to_string())
    }
}

impl Trial {
    /// The error says what of the sample does not fit this version. Reads every row; blocks.
    pub fn begin(sample: Arc<Sample>, subject: Subject) -> Result<Self, SampleMisfit> {
        let comparison = match &sample.0 {
            Cases::Rows(rows) => Some(rows.comparison(&subject.interface()).map_err(SampleMisfit)?),
            Cases::Scenes(_) => None,
        };
        Self::compared_by(sample, subject, comparison)
    }

    /// The same sample on another version, scored in the same way. Blocks.
    pub fn beside(&self, subject: Subject) -> Result<Self, SampleMisfit> {
        let comparison = match &self.progress {
            Progress::Rows(tally) => Some(tally.comparison()),
            Progress::Scenes { .. } => None,
        };
        Self::compared_by(Arc::clone(&self.sample), subject, comparison)
    }

    fn compared_by(
        sample: Arc<Sample>,
        subject: Subject,
        comparison: Option<Comparison>,
    ) -> Result<Self, SampleMisfit> {
        let progress = match (&sample.0, comparison) {
            (Cases::Rows(rows), Some(comparison)) => {
                rows.check(&subject.interface()).map_err(SampleMisfit)?;
                Progress::Rows(Tally::new(comparison))
            }
            (Cases::Scenes(_), _) | (Cases::Rows(_), None) => {
                item_of(subject.interface().item).map_err(|fault| SampleMisfit(vec![fault]))?;
                Progress::Scenes { overlap: Overlap::default(), n: 0 }
            }
        };
        Ok(Self { sample, subject, progress, kept: Vec::new(), kept_bytes: 0 })
    }

    /// Runs one case, counted from 0, and scores it.
    pub async fn run(&mut self, case: usize) -> Result<(), TrialError> {
        let sample = Arc::clone(&self.sample);
        match &sample.0 {
            Cases::Rows(rows) => {
                let failed = |reason| TrialError { place: rows.place(case), reason };
                self.run_row(rows, case).await.map_err(failed)
            }
            Cases::Scenes(scenes) => {
                let scene = scenes.scenes[case].clone();
                let place = scene.name().to_owned();
                self.run_scene(scene).await.map_err(|reason| TrialError { place, reason })
            }
        }
    }

    /// Of the cases that have run.
    pub fn score(&self) -> Score {
        let describe = |n| self.sample.describe(n);
        match &self.progress {
            Progress::Rows(tally) => tally.score(describe),
            Progress::Scenes { overlap, n } => {
                let is_binary = self.subject.item.as_deref().is_none_or(is_binary);
                Score { value: overlap.score(is_binary), metric: "IoU", of: describe(*n) }
            }
        }
    }

    pub fn n_cases(&self) -> usize {
        self.sample.n_cases()
    }

    /// Inputs of the cases that have run, the first of them.
    pub fn inputs(&self) -> &[Vec<NamedTensor>] {
        &self.kept
    }

    /// How long the model takes for one of the inputs that have run, another one each `turn`.
    pub async fn time(&self, turn: usize) -> Result<Duration, TrialError> {
        let failed = |reason| TrialError { place: "a repeated run".to_owned(), reason };
        let inputs = self.kept.get(turn % self.kept.len().max(1)).ok_or("no case has run".to_owned());
        let inference = self.subject.infer(inputs.map_err(failed)?).await.map_err(failed)?;
        Ok(inference.run)
    }

    async fn run_row(&mut self, rows: &Rows, index: usize) -> Result<(), String> {
        let inputs = rows.tensors(index, &self.subject.interface()).map_err(|faults| listed(&faults))?;
        let outputs = self.subject.infer(&inputs).await?.outputs;
        keep(&mut self.kept, &mut self.kept_bytes, inputs);
        let signature = self.subject.slot.signature();
        let prediction = Prediction::new(outputs, signature).map_err(|fault| fault.to_string())?;
        match &mut self.progress {
            Progress::Rows(tally) => tally.add(&rows.rows[index].truth, &prediction, &signature.outputs),
            Progress::Scenes { .. } => Ok(()),
        }
    }

    async fn run_scene(&mut self, scene: Scene) -> Result<(), String> {
        let item = Arc::clone(self.subject.item.as_ref().ok_or("there is no STAC-MLM item")?);
        let (runner, guard) = TileRunner::new(
            Arc::clone(&self.subject.server),
            Arc::clone(&self.subject.slot),
            Standing::Apart,
        );
        let (mut kept, mut kept_bytes) = (std::mem::take(&mut self.kept), self.kept_bytes);
        let work = tokio::task::spawn_blocking(move || {
            let labelled = scene.read(&item).map_err(|fault| fault.to_string())?;
            // One tile a run: a batch of them would keep callers waiting for longer.
            let options = SegmentOptions { batch: 1, ..SegmentOptions::default() };
            let mut run = |tile| {
                let inputs = runner.inputs(tile)?;
                keep(&mut kept, &mut kept_bytes, inputs.clone());
                runner.run_behind_callers(&inputs)
            };
            let segmentation = segment(&labelled.image, &item, &options, &mut run, &mut |_| {});
            let segmentation = segmentation.map_err(|error| error_chain(&error))?;
            let overlap = Overlap::of(&labelled.truth, &segmentation.mask, |pixel| labelled.counts(pixel));
            Ok::<_, String>((overlap, kept, kept_bytes))
        });
        let (scored, kept, kept_bytes) = work.await.map_err(|error| error.to_string())??;
        drop(guard);
        (self.kept, self.kept_bytes) = (kept, kept_bytes);
        if let Progress::Scenes { overlap, n } = &mut self.progress {
            overlap.merge(&scored);
            *n += 1;
        }
        Ok(())
    }
}

fn keep(kept: &mut Vec<Vec<NamedTensor>>, kept_bytes: &mut usize, inputs: Vec<NamedTensor>) {
    let size: usize =
        inputs.iter().filter_map(|input| input.tensor.as_bytes()).map(|bytes| bytes.len()).sum();
    if kept.is_empty() || (kept.len() < MAX_KEPT && *kept_bytes + size <= MAX_KEPT_BYTES) {
        *kept_bytes += size;
        kept.push(inputs);
    }
}
