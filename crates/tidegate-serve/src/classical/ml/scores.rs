//! What becomes of raw scores: `post_transform`.

use super::super::attributes::Attributes;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PostTransform {
    None,
    Softmax,
    Logistic,
    SoftmaxZero,
    Probit,
}

/// Below this, `SOFTMAX_ZERO` takes a score for zero.
const ZERO: f64 = 1e-7;

impl PostTransform {
    pub(super) fn read(attributes: &Attributes) -> Result<Self, String> {
        Ok(match attributes.word_or("post_transform", "NONE")?.as_str() {
            "NONE" => Self::None,
            "SOFTMAX" => Self::Softmax,
            "LOGISTIC" => Self::Logistic,
            "SOFTMAX_ZERO" => Self::SoftmaxZero,
            "PROBIT" => Self::Probit,
            other => return Err(format!("has the unknown post transform `{other}`")),
        })
    }

    /// By its number in `TreeEnsemble`.
    pub(super) fn numbered(number: i64) -> Result<Self, String> {
        const ALL: [PostTransform; 5] = [
            PostTransform::None,
            PostTransform::Softmax,
            PostTransform::Logistic,
            PostTransform::SoftmaxZero,
            PostTransform::Probit,
        ];
        let found = usize::try_from(number).ok().and_then(|number| ALL.get(number));
        found.copied().ok_or_else(|| format!("has the unknown post transform {number}"))
    }

    /// The scores of all classes or targets of a row.
    pub(super) fn apply(self, scores: &mut [f64]) {
        match self {
            Self::None => {}
            Self::Softmax => softmax(scores),
            Self::Logistic => scores.iter_mut().for_each(|score| *score = logistic(*score)),
            Self::SoftmaxZero => softmax_zero(scores),
            Self::Probit => scores.iter_mut().for_each(|score| *score = probit(*score)),
        }
    }

    /// One score for two classes, as the second of them and what stands for the first. Only what makes sense of each alone is
    /// applied, which is what ONNX Runtime does.
    pub(super) fn of_pair(self, first: f64, score: f64) -> [f64; 2] {
        match self {
            Self::Logistic => [logistic(-score), logistic(score)],
            Self::Probit => [probit(first), probit(score)],
            Self::None | Self::Softmax | Self::SoftmaxZero => [first, score],
        }
    }

    /// A single score stays what it is but for the probit, which is what ONNX Runtime does.
    pub(super) fn apply_to_targets(self, scores: &mut [f64]) {
        if scores.len() > 1 || self == Self::Probit {
            self.apply(scores);
        }
    }
}

pub(super) fn logistic(score: f64) -> f64 {
    1.0 / (1.0 + (-score).exp())
}

fn softmax(scores: &mut [f64]) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores.iter_mut().for_each(|score| *score = (*score - largest).exp());
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
}

/// A softmax that leaves zeros zero.
fn softmax_zero(scores: &mut [f64]) {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let mut sum = 0.0;
    for score in scores.iter_mut() {
        if score.abs() > ZERO {
            *score = (*score - largest).exp();
            sum += *score;
        } else {
            *score *= (-largest).exp();
        }
    }
    if sum > 0.0 {
        scores.iter_mut().for_each(|score| *score /= sum);
    }
}

/// The inverse of the normal distribution, by Winitzki's approximation, as ONNX Runtime has it.
fn probit(score: f64) -> f64 {
    const A: f64 = 0.147;
    let x = 2.0 * score - 1.0;
    let log = ((1.0 - x) * (1.0 + x)).ln();
    let v = 2.0 / (std::f64::consts::PI * A) + 0.5 * log;
    let inverse = (-v + (v * v - log / A).sqrt()).sqrt();
    std::f64::consts::SQRT_2 * inverse.copysign(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(transform: PostTransform, scores: &[f64]) -> Vec<f64> {
        let mut scores = scores.to_vec();
        transform.apply(&mut scores);
        scores.iter().map(|score| (score * 1e4).round() / 1e4).collect()
    }

    #[test]
    fn scores_become_probabilities() {
        assert_eq!(applied(PostTransform::None, &[0.2, -3.0]), [0.2, -3.0]);
        assert_eq!(applied(PostTransform::Softmax, &[0.0, 0.0]), [0.5, 0.5]);
        assert_eq!(applied(PostTransform::Softmax, &[1e6, 0.0]), [1.0, 0.0]);
        assert_eq!(applied(PostTransform::SoftmaxZero, &[0.45, 0.0]), [1.0, 0.0]);
        assert_eq!(applied(PostTransform::SoftmaxZero, &[0.0, 0.0]), [0.0, 0.0]);
        assert_eq!(PostTransform::Logistic.of_pair(7.0, 0.0), [0.5, 0.5]);
        assert_eq!(PostTransform::Softmax.of_pair(-0.2, 0.2), [-0.2, 0.2]);
        assert_eq!(applied(PostTransform::Logistic, &[0.0, -1e6, 0.4]), [0.5, 0.0, 0.5987]);
        let [low, middle, high] = applied(PostTransform::Probit, &[0.025, 0.5, 0.975])[..] else { panic!() };
        assert!((low + 1.96).abs() < 0.01 && middle.abs() < 1e-4 && (high - 1.96).abs() < 0.01);
    }
}
