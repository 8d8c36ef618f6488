//! One number or class per output: what drift is seen in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::layout::{Batch, Layout, are_probabilities, largest};
use super::numbers::Numbers;
use crate::tensor::{NamedTensor, Tensor};
use crate::values::{N_CLASSES, Observed, ValueHistogram};

/// Elements of a large output that are looked at, evenly spaced: a mean of so many costs microseconds.
const MOST_ELEMENTS: usize = 4096;

/// What a version has predicted: a histogram for each output. Adds up over replicas.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Predictions {
    pub outputs: BTreeMap<String, ValueHistogram>,
}

impl Predictions {
    /// Counts the outputs of one request, once each: a request is what was sent to one version or the other by chance, so
    /// a batch counts by its first item.
    pub fn record(&mut self, outputs: &[NamedTensor]) {
        for output in outputs {
            let Some(observed) = observe(&output.tensor) else { continue };
            if !self.outputs.contains_key(&output.name) {
                self.outputs.insert(output.name.clone(), ValueHistogram::default());
            }
            if let Some(histogram) = self.outputs.get_mut(&output.name) {
                histogram.record(observed);
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (name, histogram) in &other.outputs {
            self.outputs.entry(name.clone()).or_default().merge(histogram);
        }
    }

    /// What was recorded after `earlier`, an older state of the same predictions.
    pub fn since(&self, earlier: &Self) -> Self {
        let difference = |(name, histogram): (&String, &ValueHistogram)| {
            let before = earlier.outputs.get(name);
            (name.clone(), before.map_or_else(|| histogram.clone(), |before| histogram.since(before)))
        };
        Self { outputs: self.outputs.iter().map(difference).collect() }
    }
}

/// What the first item of an output comes down to; `None` where there is no element.
///
/// | output | comes down to |
/// |---|---|
/// | a whole number, a text | the class; texts by a hash |
/// | probabilities `[N, K]` | the class of the largest |
/// | a map of classes, of scores for two or more classes | the share of pixels that are not of class 0 |
/// | a mask `[N, 1, H, W]` and all other floats | the mean |
pub fn observe(tensor: &Tensor) -> Option<Observed> {
    if let Some(texts) = tensor.as_strings() {
        return texts.first().map(|text| Observed::Class(hashed(text)));
    }
    let numbers = Numbers::of(tensor)?;
    let batch = Batch::of(tensor);
    if batch.n_items == 0 {
        return None;
    }
    let foreground = |class: usize| if class == 0 { 0.0 } else { 1.0 };
    Some(match Layout::of(tensor, &numbers) {
        Layout::Class => whole(numbers.at(0)),
        Layout::ClassMap => mean(batch.item_len, |place| foreground(numbers.at(place) as usize)),
        Layout::Vector if are_probabilities(&numbers, batch.item(0)) => {
            Observed::Class(largest(batch.item_len, |class| numbers.at(class)))
        }
        Layout::Scores(channels) => {
            mean(channels.n_pixels, |pixel| foreground(channels.class(&numbers, 0, pixel)))
        }
        Layout::Vector | Layout::Map | Layout::Other => mean(batch.item_len, |place| numbers.at(place)),
    })
}

fn whole(value: f64) -> Observed {
    match value >= 0.0 && value < N_CLASSES as f64 {
        true => Observed::Class(value as usize),
        false => Observed::Number(value),
    }
}

fn mean(n: usize, at: impl Fn(usize) -> f64) -> Observed {
    // An odd step meets every column of a map whose width is a power of two.
    let step = n.div_ceil(MOST_ELEMENTS) | 1;
    let (mut sum, mut count) = (0.0, 0.0);
    for place in (0..n).step_by(step) {
        sum += at(place);
        count += 1.0;
    }
    Observed::Number(sum / count)
}

/// FNV-1a, folded into the classes: the same on every replica.
fn hashed(text: &[u8]) -> usize {
    let hash = text.iter().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    ((hash ^ (hash >> 32)) % N_CLASSES as u64) as usize
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::tensor::Element;

    fn of<T: Element>(shape: &[usize], values: &[T]) -> Option<Observed> {
        observe(&Tensor::from_vec(shape.to_vec(), values.to_vec()).unwrap())
    }

    #[test]
    fn each_kind_of_output_comes_down_to_one_number_or_class() {
        use Observed::{Class, Number};
        assert_eq!(of(&[3], &[2i64, 0, 1]), Some(Class(2)), "a batch counts by its first item");
        assert_eq!(of(&[1], &[-7i32]), Some(Number(-7.0)), "not a class");
        assert_eq!(of(&[], &[4.5f64]), Some(Number(4.5)));
        assert_eq!(of(&[2, 1], &[0.5f32, 9.0]), Some(Number(0.5)));
        assert_eq!(of(&[2, 3], &[0.25f32, 0.5, 0.25, 1.0, 0.0, 0.0]), Some(Class(1)));
        assert_eq!(of(&[1, 3], &[1f32, 5.0, -3.0]), Some(Number(1.0)), "no probabilities");
        assert_eq!(of(&[1, 1, 2, 2], &[1f32, 0.5, 0.5, 0.0]), Some(Number(0.5)));
        assert_eq!(of(&[1, 2, 2], &[0u8, 3, 255, 0]), Some(Number(0.5)));
        let scores = [9f32, 0.0, 9.0, 9.0, 1.0, 1.0, 1.0, 1.0];
        assert_eq!(of(&[1, 2, 1, 4], &scores), Some(Number(0.25)), "channels first");
        assert_eq!(of(&[1, 4, 1, 2], &scores), Some(Number(0.0)), "channels last");
        assert_eq!(of(&[0, 3], &[0f32; 0]), None);
        let texts = |text: &'static str| {
            observe(&Tensor::from_strings(vec![1], vec![Bytes::from_static(text.as_bytes())]).unwrap())
        };
        assert_eq!(texts("fraud"), texts("fraud"));
        assert_ne!(texts("fraud"), texts("legitimate"));
    }

    #[test]
    fn a_large_mask_is_sampled_all_over() {
        // Every eighth column is set: a step of a power of two would see all of it or nothing.
        let mask: Vec<f32> = (0..1024 * 1024).map(|place| if place % 8 == 0 { 1.0 } else { 0.0 }).collect();
        let Some(Observed::Number(share)) = of(&[1, 1, 1024, 1024], &mask) else { panic!() };
        assert!((share - 0.125).abs() < 0.01, "{share}");
    }

    #[test]
    fn predictions_are_kept_by_output_and_add_up() {
        let outputs = |label: i64, score: f32| {
            let named = |name: &str, tensor| NamedTensor { name: name.to_owned(), tensor };
            vec![
                named("label", Tensor::from_vec(vec![1], vec![label]).unwrap()),
                named("score", Tensor::from_vec(vec![1, 1], vec![score]).unwrap()),
            ]
        };
        let (mut early, mut whole) = (Predictions::default(), Predictions::default());
        early.record(&outputs(1, 0.5));
        whole.merge(&early);
        whole.record(&outputs(2, 0.25));
        let late = whole.since(&early);
        let mut expected = Predictions::default();
        expected.record(&outputs(2, 0.25));
        assert_eq!(late, expected);
        assert_eq!(late.outputs.keys().collect::<Vec<_>>(), ["label", "score"]);
    }
}
