//! How much two versions' answers to the same request differ, from 0 (not at all) to 1, and in what.

use std::ops::Range;

use super::layout::{Batch, Channels, Layout, are_probabilities, are_shares, largest};
use super::numbers::Numbers;
use crate::tensor::{NamedTensor, Tensor};

/// Up to here numbers are the same: by so much, or by such a share of the larger one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    pub absolute: f64,
    pub relative: f64,
}

impl Default for Tolerance {
    /// What another runtime, or half precision, makes of the same weights.
    fn default() -> Self {
        Self { absolute: 1e-6, relative: 0.01 }
    }
}

/// Of two answers to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// Of the output that differs most, 0 to 1.
    pub difference: f64,
    /// Why, in words, where there is a difference: ``output `label`: class 3 instead of 1``.
    pub reason: Option<String>,
    pub outputs: Vec<OutputDifference>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct OutputDifference {
    pub name: String,
    pub difference: f64,
}

/// Compares a candidate's outputs with those of the running version.
///
/// | output | the difference is |
/// |---|---|
/// | a class, a text, probabilities `[N, K]` | the share of the batch whose class is another |
/// | a mask `[N, 1, H, W]`, from 0 to 1 | 1 - intersection over union of what is at least 0.5 |
/// | whole numbers for pixels, 0 and one other value | the same, of what is not 0 |
/// | classes for pixels, scores of several classes | the share of pixels whose class is another |
/// | any other floats | the sum of absolute differences, divided by the larger sum of absolute values |
///
/// An output that only one of them has, or that has another type or shape, differs by 1; so does a number that is none.
pub fn compare(running: &[NamedTensor], candidate: &[NamedTensor], tolerance: Tolerance) -> Difference {
    let find = |outputs: &'_ [NamedTensor], name: &str| outputs.iter().position(|output| output.name == name);
    let added = candidate.iter().filter(|output| find(running, &output.name).is_none());
    let added =
        added.map(|output| (&output.name, (1.0, "the running version has no such output".to_owned())));
    let known = running.iter().map(|output| match find(candidate, &output.name) {
        Some(place) => (&output.name, of_output(&output.tensor, &candidate[place].tensor, tolerance)),
        None => (&output.name, (1.0, "the candidate has no such output".to_owned())),
    });
    let mut whole = Difference { difference: 0.0, reason: None, outputs: Vec::new() };
    for (name, (difference, reason)) in known.chain(added) {
        if difference > whole.difference {
            whole.difference = difference;
            whole.reason = Some(format!("output `{name}`: {reason}"));
        }
        whole.outputs.push(OutputDifference { name: name.clone(), difference });
    }
    whole
}

/// A difference and the reason for it.
type Found = (f64, String);

fn of_output(running: &Tensor, candidate: &Tensor, tolerance: Tolerance) -> Found {
    if (running.dtype(), running.shape()) != (candidate.dtype(), candidate.shape()) {
        let describe = |tensor: &Tensor| format!("{} {:?}", tensor.dtype(), tensor.shape());
        return (1.0, format!("{} instead of {}", describe(candidate), describe(running)));
    }
    let batch = Batch::of(running);
    let items = 0..batch.n_items;
    let Some((a, b)) = Numbers::of(running).zip(Numbers::of(candidate)) else {
        let text = |tensor: &Tensor, item: usize| {
            let texts = tensor.as_strings().unwrap_or_default().get(batch.item(item));
            texts.unwrap_or_default().to_vec()
        };
        return mean(items.map(|item| match (text(running, item), text(candidate, item)) {
            (was, is) if was == is => (0.0, String::new()),
            (was, is) => (1.0, format!("{is:?} instead of {was:?}")),
        }));
    };
    let layout = Layout::of(running, &a);
    mean(items.map(|item| of_item(layout, (&a, &b), batch.item(item), tolerance)))
}

fn of_item(
    layout: Layout,
    (a, b): (&Numbers<'_>, &Numbers<'_>),
    item: Range<usize>,
    tolerance: Tolerance,
) -> Found {
    let both =
        |holds: fn(&Numbers<'_>, Range<usize>) -> bool| holds(a, item.clone()) && holds(b, item.clone());
    match layout {
        Layout::Class => classes(a.at(item.start), b.at(item.start)),
        Layout::Vector if both(are_probabilities) => {
            let class =
                |numbers: &Numbers<'_>| largest(item.len(), |class| numbers.at(item.start + class)) as f64;
            classes(class(a), class(b))
        }
        Layout::Map if both(are_shares) => overlap(a, b, item, |value| value >= 0.5),
        Layout::ClassMap if both(is_binary) => overlap(a, b, item, |value| value != 0.0),
        Layout::ClassMap => pixels(item.len(), |place| a.at(item.start + place) != b.at(item.start + place)),
        Layout::Scores(channels) => scores(channels, a, b, item.start),
        Layout::Vector | Layout::Map | Layout::Other => numbers(a, b, item, tolerance),
    }
}

fn classes(was: f64, is: f64) -> Found {
    if was == is { (0.0, String::new()) } else { (1.0, format!("class {is} instead of {was}")) }
}

/// Whether there is one value besides 0 at the most.
fn is_binary(numbers: &Numbers<'_>, mut item: Range<usize>) -> bool {
    let mut other = 0.0;
    item.all(|place| {
        let value = numbers.at(place);
        if other == 0.0 {
            other = value;
        }
        value == 0.0 || value == other
    })
}

/// Two empty masks are alike.
fn overlap(a: &Numbers<'_>, b: &Numbers<'_>, item: Range<usize>, is_set: impl Fn(f64) -> bool) -> Found {
    let (mut both, mut either) = (0u64, 0u64);
    for place in item {
        let (was, is) = (is_set(a.at(place)), is_set(b.at(place)));
        both += u64::from(was && is);
        either += u64::from(was || is);
    }
    let iou = if either == 0 { 1.0 } else { both as f64 / either as f64 };
    (1.0 - iou, format!("IoU {iou:.3}"))
}

fn scores(channels: Channels, a: &Numbers<'_>, b: &Numbers<'_>, start: usize) -> Found {
    pixels(channels.n_pixels, |pixel| channels.class(a, start, pixel) != channels.class(b, start, pixel))
}

fn pixels(n: usize, differ: impl Fn(usize) -> bool) -> Found {
    let share = (0..n).filter(|pixel| differ(*pixel)).count() as f64 / n as f64;
    (share, format!("{:.1} % of the pixels have another class", share * 100.0))
}

fn numbers(a: &Numbers<'_>, b: &Numbers<'_>, item: Range<usize>, tolerance: Tolerance) -> Found {
    let (mut apart, mut sum_a, mut sum_b, mut most_apart, mut largest) = (0.0, 0.0, 0.0, 0f64, 0f64);
    for place in item.clone() {
        let (was, is) = (a.at(place), b.at(place));
        if !was.is_finite() || !is.is_finite() {
            if was == is {
                continue;
            }
            return (1.0, format!("{is} instead of {was}"));
        }
        apart += (is - was).abs();
        sum_a += was.abs();
        sum_b += is.abs();
        most_apart = most_apart.max((is - was).abs());
        largest = largest.max(was.abs()).max(is.abs());
    }
    if most_apart <= tolerance.absolute + tolerance.relative * largest {
        return (0.0, String::new());
    }
    let difference = (apart / f64::max(sum_a, sum_b)).min(1.0);
    let reason = match item.len() {
        1 => format!("{} instead of {} ({:.1} %)", b.at(item.start), a.at(item.start), difference * 100.0),
        _ => format!("numbers that differ by {:.1} %", difference * 100.0),
    };
    (difference, reason)
}

/// Over the items of a batch; the reason is that of the first that differs.
fn mean(items: impl Iterator<Item = Found>) -> Found {
    let (mut sum, mut count, mut first) = (0.0, 0.0, String::new());
    for (difference, reason) in items {
        if difference > 0.0 && sum == 0.0 {
            first = reason;
        }
        sum += difference;
        count += 1.0;
    }
    if count == 0.0 { (0.0, first) } else { (sum / count, first) }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::tensor::Element;

    fn named(name: &str, tensor: Tensor) -> Vec<NamedTensor> {
        vec![NamedTensor { name: name.to_owned(), tensor }]
    }

    fn tensor<T: Element>(shape: &[usize], values: &[T]) -> Tensor {
        Tensor::from_vec(shape.to_vec(), values.to_vec()).unwrap()
    }

    #[track_caller]
    fn check(running: Tensor, candidate: Tensor, expected: f64, says: &str) {
        let compared = compare(&named("y", running), &named("y", candidate), Tolerance::default());
        assert!((compared.difference - expected).abs() < 1e-12, "{compared:?}");
        assert_eq!(compared.outputs[0].difference, compared.difference);
        match compared.reason {
            Some(reason) => assert!(!says.is_empty() && reason == format!("output `y`: {says}"), "{reason}"),
            None => assert!(says.is_empty(), "{expected}"),
        }
    }

    #[test]
    fn classes_are_compared_as_classes() {
        check(tensor(&[4], &[1i64, 2, 3, 4]), tensor(&[4], &[1i64, 2, 3, 0]), 0.25, "class 0 instead of 4");
        let sure = tensor(&[1, 3], &[0.1f32, 0.8, 0.1]);
        check(sure.clone(), tensor(&[1, 3], &[0.3f32, 0.4, 0.3]), 0.0, "");
        check(sure, tensor(&[1, 3], &[0.5f32, 0.4, 0.1]), 1.0, "class 0 instead of 1");
        let text = |text: &'static str| {
            Tensor::from_strings(vec![1], vec![Bytes::from_static(text.as_bytes())]).unwrap()
        };
        check(text("cat"), text("cat"), 0.0, "");
        check(text("cat"), text("dog"), 1.0, "[b\"dog\"] instead of [b\"cat\"]");
    }

    #[test]
    fn numbers_have_a_tolerance_and_are_compared_by_their_size() {
        let one = |value: f32| tensor(&[1, 1], &[value]);
        check(one(1.0), one(1.009), 0.0, "");
        check(one(10.0), one(8.0), 0.2, "8 instead of 10 (20.0 %)");
        check(one(1.0), one(-1.0), 1.0, "-1 instead of 1 (100.0 %)");
        check(one(0.0), one(1e-7), 0.0, "");
        check(one(1.0), one(f32::NAN), 1.0, "NaN instead of 1");
        check(one(f32::INFINITY), one(f32::INFINITY), 0.0, "");
        // An element near zero does not make a large difference out of a small one.
        check(tensor(&[1, 3], &[3f32, -1.0, 0.01]), tensor(&[1, 3], &[3f32, -1.0, 0.02]), 0.0, "");
        check(
            tensor(&[1, 2], &[3f32, 1.0]),
            tensor(&[1, 2], &[2f32, 1.0]),
            0.25,
            "numbers that differ by 25.0 %",
        );
    }

    #[test]
    fn masks_are_compared_by_their_overlap() {
        let mask = |values: [f32; 4]| tensor(&[1, 1, 2, 2], &values);
        check(mask([0.9, 0.6, 0.4, 0.0]), mask([0.5, 0.7, 0.1, 0.2]), 0.0, "");
        check(mask([0.9, 0.6, 0.4, 0.0]), mask([0.9, 0.1, 0.9, 0.0]), 1.0 - 1.0 / 3.0, "IoU 0.333");
        check(mask([0.1; 4]), mask([0.2; 4]), 0.0, "");
        check(mask([0.1; 4]), mask([0.9; 4]), 1.0, "IoU 0.000");
        let bytes = |values: [u8; 4]| tensor(&[1, 2, 2], &values);
        check(bytes([255, 255, 0, 0]), bytes([255, 0, 0, 0]), 0.5, "IoU 0.500");
        let says = "25.0 % of the pixels have another class";
        check(bytes([1, 2, 3, 0]), bytes([1, 2, 2, 0]), 0.25, says);
        // Two classes, four pixels; the second class begins to win in one of them.
        let scores = |third: f32| tensor(&[1, 2, 1, 4], &[5f32, 5.0, 5.0, 5.0, 1.0, 9.0, third, 9.0]);
        check(scores(1.0), scores(6.0), 0.25, says);
        // Not from 0 to 1: heights, say.
        let map = |value: f32| tensor(&[1, 1, 1, 2], &[100f32, value]);
        check(map(100.0), map(60.0), 0.2, "numbers that differ by 20.0 %");
    }

    #[test]
    fn an_output_that_is_not_there_or_has_another_shape_differs() {
        check(tensor(&[1], &[1i64]), tensor(&[1], &[1i32]), 1.0, "INT32 [1] instead of INT64 [1]");
        let (label, score) = (named("label", tensor(&[1], &[1i64])), named("score", tensor(&[1], &[1f32])));
        let both = [label.clone(), score.clone()].concat();
        for (running, candidate, says) in [
            (&both, &label, "output `score`: the candidate has no such output"),
            (&score, &both, "output `label`: the running version has no such output"),
        ] {
            let compared = compare(running, candidate, Tolerance::default());
            assert_eq!((compared.difference, compared.reason.as_deref()), (1.0, Some(says)));
            assert_eq!(compared.outputs.len(), 2);
        }
        assert_eq!(compare(&[], &[], Tolerance::default()).difference, 0.0);
    }

    proptest! {
        /// Whatever the shape and the bytes, a share comes out, 0 for the same, and it is the same the other way round.
        #[test]
        fn any_two_tensors_have_a_difference(
            shape in prop::collection::vec(0usize..4, 0..5), seed: u64, whole: bool,
        ) {
            let n: usize = shape.iter().product();
            let of = |salt: u64| {
                let bits = |i: usize| (seed ^ salt).wrapping_mul(6364136223846793005).rotate_left(i as u32 * 7 + 1);
                match whole {
                    true => tensor(&shape, &(0..n).map(|i| bits(i) as u8 % 3).collect::<Vec<_>>()),
                    false => tensor(&shape, &(0..n).map(|i| f32::from_bits(bits(i) as u32)).collect::<Vec<_>>()),
                }
            };
            let (a, b) = (named("y", of(1)), named("y", of(2)));
            let compared = |a: &[NamedTensor], b: &[NamedTensor]| compare(a, b, Tolerance::default()).difference;
            prop_assert!((0.0..=1.0).contains(&compared(&a, &b)));
            prop_assert_eq!(compared(&a, &b), compared(&b, &a));
            if whole {
                prop_assert_eq!(compared(&a, &a), 0.0);
            }
        }
    }
}
