//! `TreeEnsembleClassifier`, `TreeEnsembleRegressor` and `TreeEnsemble`: what the leaves say becomes scores and labels.

use std::sync::OnceLock;

use super::super::array::{Array, Data, checked_count};
use super::super::attributes::{Attributes, Numbers};
use super::super::operators::{Kernel, kernel};
use super::labels::{Labels, largest};
use super::linear::matrix;
use super::scores::PostTransform;
use super::tree_nodes::{self, Read};
use super::trees::{Aggregate, Float, Trees};

/// Trees in the precision of the file; in double precision too once an input is of it.
enum Ensemble {
    Single(Trees<f32>, OnceLock<Trees<f64>>),
    Double(Trees<f64>),
}

impl Ensemble {
    fn new(read: &Read) -> Self {
        if read.is_double {
            Self::Double(read.trees.converted())
        } else {
            Self::Single(read.trees.converted(), OnceLock::new())
        }
    }

    /// Calls `finish` with the scores of each row. An integer counts as the float next to it.
    fn each_row(
        &self,
        array: &Array,
        aggregate: Aggregate,
        n_targets: usize,
        finish: impl FnMut(&[Option<f64>]),
    ) -> Result<(), String> {
        let (n_rows, n_features) = array.as_rows()?;
        checked_count(&[n_rows, n_targets])?;
        let mut run = Rows { n_rows, n_features, n_targets, aggregate, finish };
        match (self, &array.data) {
            (Self::Single(trees, _), Data::F32(values)) => run.through(trees, values),
            (Self::Single(trees, double), Data::F64(values)) => {
                run.through(double.get_or_init(|| trees.converted()), values)
            }
            (Self::Single(trees, _), other) => run.through(trees, &other.to_f32()?),
            (Self::Double(trees), Data::F64(values)) => run.through(trees, values),
            (Self::Double(trees), other) => {
                let values: Vec<f64> = other.to_f32()?.into_iter().map(f64::from).collect();
                run.through(trees, &values)
            }
        }
    }
}

struct Rows<F> {
    n_rows: usize,
    n_features: usize,
    n_targets: usize,
    aggregate: Aggregate,
    finish: F,
}

impl<F: FnMut(&[Option<f64>])> Rows<F> {
    fn through<V: Float>(&mut self, trees: &Trees<V>, values: &[V]) -> Result<(), String> {
        if self.n_features < trees.n_features() {
            return Err(format!(
                "takes {} features at least, and got {}",
                trees.n_features(),
                self.n_features
            ));
        }
        let (mut scores, mut widened) = (vec![None; self.n_targets], vec![None; self.n_targets]);
        for row in 0..self.n_rows {
            let row = &values[row * self.n_features..(row + 1) * self.n_features];
            trees.scores(row, self.aggregate, &mut scores);
            for (wide, score) in widened.iter_mut().zip(&scores) {
                *wide = score.map(V::into);
            }
            (self.finish)(&widened);
        }
        Ok(())
    }
}

/// Added to the scores: none, or one for each target.
fn base_values(attributes: &Attributes, n_targets: usize) -> Result<Vec<f64>, String> {
    let values =
        attributes.numbers("base_values")?.map(|values| Numbers::to_f64(&values)).unwrap_or_default();
    match values.len() {
        0 => Ok(vec![0.0; n_targets]),
        n if n == n_targets => Ok(values),
        n => Err(format!("has {n} base values for {n_targets} targets")),
    }
}

pub(super) fn regressor(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let n_targets = tree_nodes::n_targets(attributes)?;
    let read = tree_nodes::by_number(attributes, "target", n_targets)?;
    let base = base_values(attributes, n_targets)?;
    let transform = PostTransform::read(attributes)?;
    let aggregate = match attributes.word_or("aggregate_function", "SUM")?.as_str() {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => return Err(format!("has the unknown aggregate function `{other}`")),
    };
    let ensemble = Ensemble::new(&read);
    kernel(move |inputs| {
        let scores = targets(&ensemble, inputs.get(0)?, aggregate, &base, transform)?;
        Ok(matrix(scores, base.len()))
    })
}

/// `TreeEnsemble`, whose output is of the type of its input.
pub(super) fn ensemble(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let n_targets = tree_nodes::n_targets(attributes)?;
    let read = tree_nodes::by_place(attributes, n_targets)?;
    let base = vec![0.0; n_targets];
    let transform = PostTransform::numbered(attributes.int_or("post_transform", 0)?)?;
    let aggregate = match attributes.int_or("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => return Err(format!("has the unknown aggregate function {other}")),
    };
    let ensemble = Ensemble::new(&read);
    kernel(move |inputs| {
        let array = inputs.get(0)?;
        let scores = targets(&ensemble, array, aggregate, &base, transform)?;
        match array.data {
            Data::F64(_) => Array::new(vec![scores.len() / base.len(), base.len()], Data::F64(scores)),
            _ => Ok(matrix(scores, base.len())),
        }
    })
}

fn targets(
    ensemble: &Ensemble,
    array: &Array,
    aggregate: Aggregate,
    base: &[f64],
    transform: PostTransform,
) -> Result<Vec<f64>, String> {
    let mut all = vec![];
    ensemble.each_row(array, aggregate, base.len(), |scores| {
        let start = all.len();
        all.extend(scores.iter().zip(base).map(|(score, base)| base + score.unwrap_or(0.0)));
        transform.apply_to_targets(&mut all[start..]);
    })?;
    Ok(all)
}

pub(super) fn classifier(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let labels = Labels::read(attributes, "classlabels_int64s", "classlabels_strings")?;
    let read = tree_nodes::by_number(attributes, "class", labels.len())?;
    let transform = PostTransform::read(attributes)?;
    let ensemble = Ensemble::new(&read);
    let n_classes = labels.len();
    // Leaves that vote for one class only score the second of two.
    if n_classes <= 2 && read.voted.len() <= 1 {
        let one = OneScore {
            voted: read.voted.first().copied().unwrap_or(0),
            base: attributes.numbers("base_values")?.map(|values| values.to_f64()).unwrap_or_default(),
            is_all_positive: read.is_all_positive,
            n_classes,
            transform,
        };
        let names = labels.for_one_score();
        return Ok(Box::new(move |inputs| {
            let (mut classes, mut all) = (vec![], vec![]);
            ensemble.each_row(inputs.get(0)?, Aggregate::Sum, n_classes, |scores| {
                classes.push(one.finish(scores, &mut all));
            })?;
            Ok(vec![names.of(classes), matrix(all, n_classes)])
        }));
    }
    let base = base_values(attributes, n_classes)?;
    Ok(Box::new(move |inputs| {
        let (mut classes, mut all) = (vec![], vec![]);
        ensemble.each_row(inputs.get(0)?, Aggregate::Sum, n_classes, |scores| {
            let start = all.len();
            all.extend(scores.iter().zip(&base).map(|(score, base)| base + score.unwrap_or(0.0)));
            let row = &mut all[start..];
            classes.push(largest(row));
            transform.apply(row);
        })?;
        Ok(vec![labels.of(classes), matrix(all, n_classes)])
    }))
}

/// How one score tells two classes apart. The specification does not say; this is what ONNX Runtime does, and what the exporters
/// of scikit-learn, XGBoost and LightGBM lean on.
struct OneScore {
    /// The class that the leaves vote for: the first, though they mean the second, or the second.
    voted: usize,
    base: Vec<f64>,
    is_all_positive: bool,
    n_classes: usize,
    transform: PostTransform,
}

impl OneScore {
    /// Adds the scores of a row to `all`, and gives the class.
    fn finish(&self, scores: &[Option<f64>], all: &mut Vec<f64>) -> usize {
        let base = self.base.get(self.voted).copied().unwrap_or(0.0);
        let score = scores[self.voted].unwrap_or(0.0) + base;
        // Votes that are all positive are probabilities; others are scores on either side of zero.
        let is_probability = self.is_all_positive && self.n_classes == 2;
        let class = usize::from(score > if is_probability { 0.5 } else { 0.0 });
        if self.n_classes == 1 {
            let mut score = [score];
            self.transform.apply_to_targets(&mut score);
            all.extend(score);
            return class;
        }
        let mut pair = [0.0, score];
        if self.voted == 0 {
            pair = self.transform.of_pair(if is_probability { 1.0 - score } else { -score }, score);
        } else {
            self.transform.apply(&mut pair);
        }
        all.extend(pair);
        class
    }
}
