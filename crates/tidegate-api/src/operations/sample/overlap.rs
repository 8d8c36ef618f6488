//! How well masks agree: the intersection over the union, class by class.

use std::collections::BTreeMap;

/// Pixels of each class, over all images.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Overlap {
    classes: BTreeMap<u8, Pixels>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Pixels {
    /// Where truth and prediction both have the class.
    both: u64,
    /// Where either has it.
    either: u64,
}

impl Overlap {
    /// Pixels for which `counts` is false are left out. The three are as long as each other.
    pub(super) fn of(truth: &[u8], said: &[u8], counts: impl Fn(usize) -> bool) -> Self {
        let mut pixels = [Pixels::default(); 256];
        for (index, (truth, said)) in truth.iter().zip(said).enumerate() {
            if !counts(index) {
                continue;
            }
            pixels[usize::from(*truth)].either += 1;
            if truth == said {
                pixels[usize::from(*truth)].both += 1;
            } else {
                pixels[usize::from(*said)].either += 1;
            }
        }
        let occurring = (0u8..=255).zip(pixels).filter(|(_, pixels)| pixels.either > 0);
        Self { classes: occurring.collect() }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (class, pixels) in &other.classes {
            let sum = self.classes.entry(*class).or_default();
            sum.both += pixels.both;
            sum.either += pixels.either;
        }
    }

    /// Of the positive class where there are two (a model of one channel), else the mean over the classes that occur. An
    /// image in which nothing was to be found, and nothing was, is right.
    #[expect(clippy::cast_precision_loss, reason = "pixel counts far below 2^52")]
    pub(super) fn score(&self, is_binary: bool) -> f64 {
        let ratio = |pixels: &Pixels| pixels.both as f64 / pixels.either as f64;
        if is_binary {
            return self.classes.get(&1).map_or(1.0, ratio);
        }
        match self.classes.len() {
            0 => 1.0,
            n => self.classes.values().map(ratio).sum::<f64>() / n as f64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_binary_mask_is_scored_by_what_was_to_be_found() {
        let overlap = |truth: &[u8], said: &[u8]| Overlap::of(truth, said, |_| true).score(true);
        assert_eq!(overlap(&[1, 1, 0, 0], &[1, 1, 0, 0]), 1.0);
        assert_eq!(overlap(&[1, 1, 0, 0], &[1, 0, 1, 0]), 1.0 / 3.0);
        assert_eq!(overlap(&[1, 1, 0, 0], &[0, 0, 0, 0]), 0.0);
        assert_eq!(overlap(&[0, 0], &[0, 0]), 1.0, "nothing to find, nothing found");
        assert_eq!(overlap(&[0, 0], &[0, 1]), 0.0);
    }

    #[test]
    fn classes_are_averaged_and_images_are_pooled() {
        let mut overlap = Overlap::of(&[0, 1, 2, 2], &[0, 1, 2, 1], |_| true);
        assert_eq!(overlap.score(false), (1.0 + 0.5 + 0.5) / 3.0);
        overlap.merge(&Overlap::of(&[2, 2], &[2, 2], |_| true));
        assert_eq!(overlap.score(false), (1.0 + 0.5 + 0.75) / 3.0);
    }

    #[test]
    fn what_does_not_count_is_left_out() {
        assert_eq!(Overlap::of(&[1, 1], &[1, 0], |pixel| pixel == 0).score(true), 1.0);
    }
}
