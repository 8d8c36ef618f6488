//! `LinearClassifier` and `LinearRegressor`. Features are read as 32-bit floats and sums kept in double precision.

use super::super::array::{Array, Data, checked_count};
use super::super::attributes::Attributes;
use super::super::operators::{Inputs, Kernel, kernel};
use super::labels::{Labels, MAX_CLASSES, largest};
use super::scores::PostTransform;

/// A row of coefficients for each target.
struct Linear {
    coefficients: Vec<f32>,
    intercepts: Vec<f32>,
}

impl Linear {
    fn read(attributes: &Attributes, n_targets: usize) -> Result<Self, String> {
        let coefficients = attributes.floats("coefficients")?.to_vec();
        let mut intercepts = attributes.floats("intercepts")?.to_vec();
        if intercepts.is_empty() {
            intercepts = vec![0.0; n_targets];
        }
        if coefficients.is_empty()
            || intercepts.len() != n_targets
            || !coefficients.len().is_multiple_of(n_targets)
        {
            return Err(format!(
                "has {} coefficients and {} intercepts for {n_targets} targets",
                coefficients.len(),
                intercepts.len()
            ));
        }
        Ok(Self { coefficients, intercepts })
    }

    fn n_targets(&self) -> usize {
        self.intercepts.len()
    }

    /// The scores of every row, one after the other.
    fn scores(&self, inputs: &Inputs<'_>) -> Result<Vec<f64>, String> {
        let array = inputs.get(0)?;
        let (n_rows, n_features) = array.as_rows()?;
        let expected = self.coefficients.len() / self.n_targets();
        if n_features != expected {
            return Err(format!("takes {expected} features, and got {n_features}"));
        }
        checked_count(&[n_rows, self.n_targets()])?;
        let values = array.data.to_f32()?;
        let mut scores = Vec::with_capacity(n_rows * self.n_targets());
        for row in values.chunks_exact(n_features) {
            for (weights, intercept) in self.coefficients.chunks_exact(n_features).zip(&self.intercepts) {
                let terms = row.iter().zip(weights).map(|(x, w)| f64::from(*x) * f64::from(*w));
                scores.push(f64::from(*intercept) + terms.sum::<f64>());
            }
        }
        Ok(scores)
    }
}

pub(super) fn regressor(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let n_targets = attributes.int_or("targets", 1)?;
    let n_targets = usize::try_from(n_targets).ok().filter(|n| (1..=MAX_CLASSES).contains(n));
    let linear = Linear::read(attributes, n_targets.ok_or("has an absurd number of targets")?)?;
    let transform = PostTransform::read(attributes)?;
    kernel(move |inputs| {
        let mut scores = linear.scores(inputs)?;
        scores.chunks_exact_mut(linear.n_targets()).for_each(|row| transform.apply_to_targets(row));
        Ok(matrix(scores, linear.n_targets()))
    })
}

/// The label is the class of the largest score, before the transform. One row of coefficients for two classes is the score of
/// the second, which counts when it is positive.
pub(super) fn classifier(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let labels = match Labels::read(attributes, "classlabels_ints", "classlabels_strings") {
        Ok(labels) => labels,
        // Without names, a single score tells 0 from 1.
        Err(_) if attributes.floats("intercepts")?.len() == 1 => Labels::Ints(vec![0, 1]),
        Err(error) => return Err(error),
    };
    let n_targets = match attributes.floats("intercepts")?.len() {
        0 => labels.len(),
        n_targets => n_targets,
    };
    let linear = Linear::read(attributes, n_targets)?;
    let transform = PostTransform::read(attributes)?;
    if n_targets > 1 && labels.len() < n_targets {
        return Err(format!("has {n_targets} scores for {} classes", labels.len()));
    }
    if n_targets == 1 {
        let names = labels.for_one_score();
        return Ok(Box::new(move |inputs| {
            let mut scores = linear.scores(inputs)?;
            let named = names.of(scores.iter().map(|score| usize::from(*score > 0.0)).collect());
            if labels.len() != 2 {
                scores.chunks_exact_mut(1).for_each(|row| transform.apply_to_targets(row));
                return Ok(vec![named, matrix(scores, 1)]);
            }
            let pair = |score: f64| transform.of_pair(1.0 - score, score);
            Ok(vec![named, matrix(scores.into_iter().flat_map(pair).collect(), 2)])
        }));
    }
    Ok(Box::new(move |inputs| {
        let mut scores = linear.scores(inputs)?;
        let classes = scores.chunks_exact(linear.n_targets()).map(largest).collect();
        scores.chunks_exact_mut(linear.n_targets()).for_each(|row| transform.apply(row));
        Ok(vec![labels.of(classes), matrix(scores, linear.n_targets())])
    }))
}

/// Rows of scores, in single precision as the specification has them.
pub(super) fn matrix(scores: Vec<f64>, n_columns: usize) -> Array {
    let shape = vec![scores.len() / n_columns.max(1), n_columns];
    Array { shape, data: Data::F32(scores.into_iter().map(|score| score as f32).collect()) }
}
