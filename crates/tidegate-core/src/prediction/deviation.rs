//! How far the same model in other numbers is from itself: summed over many answers, output by output.

use std::collections::BTreeMap;

use super::layout::{Batch, Layout, are_probabilities, are_shares, largest};
use super::numbers::Numbers;
use crate::tensor::{NamedTensor, Tensor};

/// What an answer's numbers mean, where they do not say so themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Any `[N, K]` has a score for each of K classes, and one number from 0 to 1 is a yes from 0.5 on.
    pub has_classes: bool,
}

/// Of all answers so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Deviation {
    pub n_answers: u64,
    pub outputs: BTreeMap<String, OutputDeviation>,
    /// The first thing that cannot be put in numbers, in words: an output that one of them lacks, a NaN.
    pub fault: Option<String>,
}

/// Of one output.
///
/// | output | a decision is |
/// |---|---|
/// | a whole number, a text | each of them |
/// | probabilities `[N, K]`, any `[N, K]` of a classifier | the place of the largest |
/// | a classifier's one number from 0 to 1 | whether it is at least 0.5 |
/// | a mask `[N, 1, H, W]`, from 0 to 1 | for each pixel, whether it is at least 0.5 |
/// | classes for pixels, scores of several classes | each pixel's class |
/// | any other floats | none |
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct OutputDeviation {
    pub n_decisions: u64,
    pub n_changed: u64,
    /// Of floats: how many, the sum of their squares, and that of their errors' squares.
    pub n_numbers: u64,
    /// How many of them are probabilities.
    pub n_shares: u64,
    pub squares: f64,
    pub error_squares: f64,
}

impl OutputDeviation {
    /// The share of decisions that are other ones; `None` where there is none.
    pub fn changed(&self) -> Option<f64> {
        (self.n_decisions > 0).then(|| self.n_changed as f64 / self.n_decisions as f64)
    }

    /// The root mean square of the errors, by that of the numbers; `None` where there is no float. Probabilities count as at
    /// least a half, which is what they are read against: one of a hundredth that is off by a tenth of itself is no error.
    pub fn relative_rms(&self) -> Option<f64> {
        // Numbers that are nothing but rounding are compared with what counts as the same number elsewhere, 1e-6.
        let least = f64::max(self.n_numbers as f64 * 1e-12, self.n_shares as f64 * 0.25);
        let scale = f64::max(self.squares, least);
        (self.n_numbers > 0).then(|| (self.error_squares / scale).sqrt())
    }
}

impl Deviation {
    /// Adds an answer to the same request by both.
    pub fn add(&mut self, reference: &[NamedTensor], candidate: &[NamedTensor], reading: Reading) {
        self.n_answers += 1;
        for output in reference {
            let found = candidate.iter().find(|other| other.name == output.name);
            let sums = self.outputs.entry(output.name.clone()).or_default();
            let added = match found {
                Some(other) => sums.add(&output.tensor, &other.tensor, reading),
                None => Err("missing".to_owned()),
            };
            if let Err(fault) = added {
                self.fault.get_or_insert_with(|| format!("output `{}`: {fault}", output.name));
            }
        }
    }

    /// Of the output with the most decisions: how many.
    pub fn n_decisions(&self) -> u64 {
        self.outputs.values().map(|output| output.n_decisions).max().unwrap_or(0)
    }

    /// The output with the largest share of changed decisions, and that share.
    pub fn most_changed(&self) -> Option<(&str, OutputDeviation, f64)> {
        self.worst(|output| output.changed())
    }

    /// The output with the largest relative error, and that error.
    pub fn farthest(&self) -> Option<(&str, OutputDeviation, f64)> {
        self.worst(|output| output.relative_rms())
    }

    fn worst(&self, of: impl Fn(&OutputDeviation) -> Option<f64>) -> Option<(&str, OutputDeviation, f64)> {
        let rated =
            self.outputs.iter().filter_map(|(name, output)| Some((name.as_str(), *output, of(output)?)));
        rated.max_by(|a, b| a.2.total_cmp(&b.2))
    }
}

impl OutputDeviation {
    /// The error is a difference that no number tells.
    fn add(&mut self, reference: &Tensor, candidate: &Tensor, reading: Reading) -> Result<(), String> {
        if (reference.dtype(), reference.shape()) != (candidate.dtype(), candidate.shape()) {
            let describe = |tensor: &Tensor| format!("{} {:?}", tensor.dtype(), tensor.shape());
            return Err(format!("{} instead of {}", describe(candidate), describe(reference)));
        }
        let Some((a, b)) = Numbers::of(reference).zip(Numbers::of(candidate)) else {
            let texts = reference.as_strings().unwrap_or_default().iter();
            let texts = texts.zip(candidate.as_strings().unwrap_or_default());
            texts.for_each(|(was, is)| self.decide(was != is));
            return Ok(());
        };
        let (batch, layout) = (Batch::of(reference), Layout::of(reference, &a));
        for item in (0..batch.n_items).map(|item| batch.item(item)) {
            let start = item.start;
            let n_numbers = item.len() as u64;
            match layout {
                Layout::Class | Layout::ClassMap => {
                    item.for_each(|place| self.decide(a.at(place) != b.at(place)));
                }
                Layout::Scores(channels) => {
                    for pixel in 0..channels.n_pixels {
                        self.decide(channels.class(&a, start, pixel) != channels.class(&b, start, pixel));
                    }
                }
                Layout::Vector if reading.has_classes || are_probabilities(&a, item.clone()) => {
                    let class =
                        |numbers: &Numbers<'_>| largest(item.len(), |class| numbers.at(start + class));
                    self.decide(class(&a) != class(&b));
                    self.n_shares += if are_probabilities(&a, item) { n_numbers } else { 0 };
                }
                Layout::Map if are_shares(&a, item.clone()) => {
                    self.n_shares += n_numbers;
                    item.for_each(|place| self.decide(is_yes(&a, place) != is_yes(&b, place)));
                }
                Layout::Other if reading.has_classes && item.len() == 1 && are_shares(&a, item.clone()) => {
                    self.decide(is_yes(&a, start) != is_yes(&b, start));
                    self.n_shares += n_numbers;
                }
                Layout::Vector | Layout::Map | Layout::Other => {}
            }
        }
        if a.are_whole() { Ok(()) } else { self.measure((&a, &b), reference.n_elements()) }
    }

    fn decide(&mut self, is_changed: bool) {
        self.n_decisions += 1;
        self.n_changed += u64::from(is_changed);
    }

    fn measure(&mut self, (a, b): (&Numbers<'_>, &Numbers<'_>), n: usize) -> Result<(), String> {
        for (was, is) in (0..n).map(|place| (a.at(place), b.at(place))) {
            if was.is_finite() && is.is_finite() {
                self.n_numbers += 1;
                self.squares += was * was;
                self.error_squares += (is - was) * (is - was);
            } else if was.to_bits() != is.to_bits() && !(was.is_nan() && is.is_nan()) {
                return Err(format!("{is} instead of {was}"));
            }
        }
        Ok(())
    }
}

fn is_yes(numbers: &Numbers<'_>, place: usize) -> bool {
    numbers.at(place) >= 0.5
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::tensor::Element;

    const CLASSES: Reading = Reading { has_classes: true };

    fn tensor<T: Element>(shape: &[usize], values: &[T]) -> Tensor {
        Tensor::from_vec(shape.to_vec(), values.to_vec()).unwrap()
    }

    fn named(tensor: Tensor) -> [NamedTensor; 1] {
        [NamedTensor { name: "y".to_owned(), tensor }]
    }

    fn between(reference: Tensor, candidate: Tensor, reading: Reading) -> Deviation {
        let mut deviation = Deviation::default();
        deviation.add(&named(reference), &named(candidate), reading);
        deviation
    }

    #[track_caller]
    fn check(reference: Tensor, candidate: Tensor, reading: Reading, changed: (u64, u64), rms: Option<f64>) {
        let deviation = between(reference, candidate, reading);
        let output = deviation.outputs["y"];
        assert_eq!((output.n_changed, output.n_decisions), changed);
        assert_eq!(deviation.fault, None);
        match (output.relative_rms(), rms) {
            (Some(found), Some(expected)) => assert!((found - expected).abs() < 1e-6, "{found} {expected}"),
            (found, expected) => assert_eq!(found, expected),
        }
    }

    #[test]
    fn decisions_are_what_a_caller_would_read() {
        let any = Reading::default();
        check(tensor(&[3], &[1i64, 2, 3]), tensor(&[3], &[1i64, 2, 0]), any, (1, 3), None);
        check(tensor(&[1, 2, 2], &[0u8, 1, 2, 3]), tensor(&[1, 2, 2], &[0u8, 1, 2, 2]), any, (1, 4), None);
        let sure = tensor(&[2, 2], &[0.75f32, 0.25, 0.5, 0.5]);
        let turned = tensor(&[2, 2], &[0.75f32, 0.25, 0.25, 0.75]);
        check(sure, turned, any, (1, 2), Some((0.125f64 / 1.125).sqrt()));
        let (logits, others) = (tensor(&[1, 2], &[3f32, 4.0]), tensor(&[1, 2], &[4f32, 3.0]));
        check(logits.clone(), others.clone(), any, (0, 0), Some(2f64.sqrt() / 5.0));
        check(logits, others, CLASSES, (1, 1), Some(2f64.sqrt() / 5.0));
        let (yes, no) = (tensor(&[2, 1], &[0.5f32, 0.5]), tensor(&[2, 1], &[0.5f32, 0.25]));
        check(yes.clone(), no.clone(), any, (0, 0), Some(0.0625f64.sqrt() / 0.5f64.sqrt()));
        check(yes, no, CLASSES, (1, 2), Some(0.0625f64.sqrt() / 0.5f64.sqrt()));
        let (mask, other) = (tensor(&[1, 1, 1, 2], &[1f32, 0.0]), tensor(&[1, 1, 1, 2], &[0.0f32, 0.0]));
        check(mask, other, any, (1, 2), Some(1.0));
        let scores = tensor(&[1, 2, 1, 3], &[9f32, 0.0, 9.0, 1.0, 1.0, 1.0]);
        check(scores.clone(), scores, any, (0, 3), Some(0.0));
        let text = |text: &'static str| {
            Tensor::from_strings(vec![1], vec![Bytes::from_static(text.as_bytes())]).unwrap()
        };
        check(text("cat"), text("dog"), any, (1, 1), None);
        check(tensor(&[0, 2], &[0f32; 0]), tensor(&[0, 2], &[0f32; 0]), any, (0, 0), None);
    }

    #[test]
    fn answers_add_up_and_the_worst_output_counts() {
        let mut deviation = Deviation::default();
        let output =
            |name: &str, value: f32| NamedTensor { name: name.to_owned(), tensor: tensor(&[1, 1], &[value]) };
        for (was, is) in [(3.0, 3.0), (4.0, 4.5)] {
            deviation.add(
                &[output("a", was), output("b", 1.0)],
                &[output("b", 1.0), output("a", is)],
                CLASSES,
            );
        }
        let (name, _, rms) = deviation.farthest().unwrap();
        assert_eq!((name, rms), ("a", 0.1));
        assert_eq!((deviation.n_answers, deviation.n_decisions()), (2, 2), "`b` is from 0 to 1");
        assert_eq!(deviation.most_changed().map(|(name, ..)| name), Some("b"));
        assert_eq!(Deviation::default().farthest(), None);
    }

    #[test]
    fn what_no_number_tells_is_a_fault() {
        let cases = [
            (tensor(&[1], &[1f32]), tensor(&[1], &[f32::NAN]), "output `y`: NaN instead of 1"),
            (tensor(&[1], &[1f32]), tensor(&[1, 1], &[1f32]), "output `y`: FP32 [1, 1] instead of FP32 [1]"),
        ];
        for (reference, candidate, fault) in cases {
            assert_eq!(between(reference, candidate, CLASSES).fault.as_deref(), Some(fault));
        }
        let mut deviation = between(tensor(&[1], &[f32::INFINITY]), tensor(&[1], &[f32::INFINITY]), CLASSES);
        assert_eq!(deviation.fault, None);
        deviation.add(&named(tensor(&[1], &[1f32])), &[], CLASSES);
        assert_eq!(deviation.fault.as_deref(), Some("output `y`: missing"));
    }

    /// A segmenter in int8 on noise, where it finds nothing: 0.0002 instead of 0.0001 is no error.
    #[test]
    fn small_probabilities_are_not_held_to_their_own_size() {
        let (mask, other) =
            (tensor(&[1, 1, 1, 2], &[1e-4f32, 1e-4]), tensor(&[1, 1, 1, 2], &[2e-4f32, 1e-4]));
        check(mask, other, Reading::default(), (0, 2), Some(1e-4 / 0.5f64.sqrt()));
    }

    #[test]
    fn zeros_have_no_scale_of_their_own() {
        let deviation =
            between(tensor(&[1, 2], &[0f32, 0.0]), tensor(&[1, 2], &[1e-9f32, 0.0]), Reading::default());
        assert!(deviation.farthest().unwrap().2 < 0.001, "{deviation:?}");
        let deviation =
            between(tensor(&[1, 2], &[0f32, 0.0]), tensor(&[1, 2], &[1f32, 0.0]), Reading::default());
        assert!(deviation.farthest().unwrap().2.is_finite());
    }
}
