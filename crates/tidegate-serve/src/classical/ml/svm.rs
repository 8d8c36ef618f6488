//! `SVMClassifier` and `SVMRegressor`, as LIBSVM trains them.

use super::super::array::{Array, checked_count};
use super::super::attributes::Attributes;
use super::super::operators::{Kernel, kernel};
use super::labels::{Labels, largest};
use super::linear::matrix;
use super::scores::{PostTransform, logistic};
use super::svm_probability::coupled;

/// Each pair of classes is a classifier of its own.
const MAX_SVM_CLASSES: usize = 1 << 10;

#[derive(Clone, Copy)]
enum Shape {
    Linear,
    Polynomial,
    Radial,
    Sigmoid,
}

/// How alike a row is to each of some vectors.
struct Similarity {
    vectors: Vec<f32>,
    n_features: usize,
    shape: Shape,
    gamma: f64,
    coef0: f64,
    degree: f64,
}

impl Similarity {
    fn read(attributes: &Attributes, vectors: Vec<f32>, n_vectors: usize) -> Result<Self, String> {
        let shape = match attributes.word_or("kernel_type", "LINEAR")?.as_str() {
            "LINEAR" => Shape::Linear,
            "POLY" => Shape::Polynomial,
            "RBF" => Shape::Radial,
            "SIGMOID" => Shape::Sigmoid,
            other => return Err(format!("has the unknown kernel `{other}`")),
        };
        let [gamma, coef0, degree] = match *attributes.floats("kernel_params")? {
            [] => [0.0; 3],
            [gamma, coef0, degree] => [gamma, coef0, degree],
            _ => return Err("has kernel parameters other than gamma, coef0 and degree".to_owned()),
        }
        .map(f64::from);
        if n_vectors == 0 || vectors.is_empty() || !vectors.len().is_multiple_of(n_vectors) {
            return Err(format!("has {} numbers for {n_vectors} support vectors", vectors.len()));
        }
        Ok(Self { n_features: vectors.len() / n_vectors, vectors, shape, gamma, coef0, degree })
    }

    fn linear(vectors: Vec<f32>, n_vectors: usize) -> Result<Self, String> {
        Self::read(&Attributes::default(), vectors, n_vectors)
    }

    fn rows(&self, array: &Array) -> Result<Vec<f32>, String> {
        let (n_rows, n_features) = array.as_rows()?;
        if n_features != self.n_features {
            return Err(format!("takes {} features, and got {n_features}", self.n_features));
        }
        checked_count(&[n_rows, self.vectors.len() / self.n_features])?;
        array.data.to_f32()
    }

    fn of(&self, row: &[f32]) -> Vec<f64> {
        self.vectors.chunks_exact(self.n_features).map(|vector| self.between(row, vector)).collect()
    }

    fn between(&self, row: &[f32], vector: &[f32]) -> f64 {
        let pairs = row.iter().zip(vector).map(|(x, v)| (f64::from(*x), f64::from(*v)));
        if let Shape::Radial = self.shape {
            return (-self.gamma * pairs.map(|(x, v)| (x - v) * (x - v)).sum::<f64>()).exp();
        }
        let product: f64 = pairs.map(|(x, v)| x * v).sum();
        match self.shape {
            Shape::Polynomial => (self.gamma * product + self.coef0).powf(self.degree),
            Shape::Sigmoid => (self.gamma * product + self.coef0).tanh(),
            Shape::Linear | Shape::Radial => product,
        }
    }
}

pub(super) fn regressor(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let coefficients = attributes.floats("coefficients")?.to_vec();
    let rho = f64::from(*attributes.floats("rho")?.first().ok_or("has no `rho`")?);
    let is_one_class = attributes.flag("one_class", false)?;
    let n_supports = attributes.int_or("n_supports", 0)?;
    let (similarity, weights) = match usize::try_from(n_supports) {
        Ok(0) => (Similarity::linear(coefficients, 1)?, vec![1.0]),
        Ok(n) if n == coefficients.len() => {
            (Similarity::read(attributes, attributes.floats("support_vectors")?.to_vec(), n)?, coefficients)
        }
        _ => return Err(format!("has {} coefficients for {n_supports} vectors", coefficients.len())),
    };
    kernel(move |inputs| {
        let values = similarity.rows(inputs.get(0)?)?;
        let score = |row: &[f32]| {
            let alike = similarity.of(row);
            let sum = rho
                + alike.iter().zip(&weights).map(|(alike, weight)| alike * f64::from(*weight)).sum::<f64>();
            match (is_one_class, sum > 0.0) {
                (false, _) => sum,
                (true, true) => 1.0,
                (true, false) => -1.0,
            }
        };
        Ok(matrix(values.chunks_exact(similarity.n_features).map(score).collect(), 1))
    })
}

/// Of support vectors, sorted by class; a row of coefficients for each other class.
struct Pairwise {
    similarity: Similarity,
    coefficients: Vec<f32>,
    /// The first vector of each class, and the end.
    starts: Vec<usize>,
    rho: Vec<f32>,
    /// For each pair, the two parameters of the curve that makes a probability of a score; empty where there is none.
    curves: Vec<(f32, f32)>,
}

impl Pairwise {
    fn read(attributes: &Attributes, n_classes: usize) -> Result<Self, String> {
        let mut starts = vec![0usize];
        for n_vectors in attributes.ints("vectors_per_class")? {
            let n_vectors =
                usize::try_from(*n_vectors).map_err(|_| "has a class of less than no vectors".to_owned())?;
            starts.push(starts[starts.len() - 1].saturating_add(n_vectors));
        }
        let n_vectors = starts[starts.len() - 1];
        let n_pairs = n_classes * (n_classes - 1) / 2;
        let coefficients = attributes.floats("coefficients")?.to_vec();
        let rho = attributes.floats("rho")?.to_vec();
        let (a, b) = (attributes.floats("prob_a")?, attributes.floats("prob_b")?);
        let curves: Vec<(f32, f32)> = a.iter().copied().zip(b.iter().copied()).collect();
        let is_whole = starts.len() == n_classes + 1
            && Some(coefficients.len()) == n_vectors.checked_mul(n_classes - 1)
            && rho.len() >= n_pairs
            && (a.is_empty() && b.is_empty() || curves.len() >= n_pairs);
        if !is_whole {
            return Err(format!(
                "has lists that do not fit {n_classes} classes and {n_vectors} support vectors"
            ));
        }
        let vectors = attributes.floats("support_vectors")?.to_vec();
        Ok(Self {
            similarity: Similarity::read(attributes, vectors, n_vectors)?,
            coefficients,
            starts,
            rho,
            curves,
        })
    }

    fn n_classes(&self) -> usize {
        self.starts.len() - 1
    }

    /// The score of each pair, which is positive for its first class, and how many pairs each class wins.
    fn scores(&self, row: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let (alike, n_classes) = (self.similarity.of(row), self.n_classes());
        let part = |class: usize, coefficients: usize| {
            let range = self.starts[class]..self.starts[class + 1];
            let weights = &self.coefficients[coefficients * alike.len()..][range.clone()];
            alike[range].iter().zip(weights).map(|(alike, weight)| alike * f64::from(*weight)).sum::<f64>()
        };
        let (mut scores, mut wins) = (vec![], vec![0.0; n_classes]);
        for i in 0..n_classes {
            for j in i + 1..n_classes {
                let score = part(i, j - 1) + part(j, i) + f64::from(self.rho[scores.len()]);
                wins[if score > 0.0 { i } else { j }] += 1.0;
                scores.push(score);
            }
        }
        (scores, wins)
    }

    fn probabilities(&self, scores: &[f64]) -> Vec<f64> {
        const LEAST: f64 = 1e-7;
        let n_classes = self.n_classes();
        let mut pairs = vec![0.0; n_classes * n_classes];
        let mut next = scores.iter().zip(&self.curves);
        for i in 0..n_classes {
            for (j, (score, (a, b))) in (i + 1..n_classes).zip(next.by_ref()) {
                let probability = 1.0 - logistic(score * f64::from(*a) + f64::from(*b));
                let probability = probability.clamp(LEAST, 1.0 - LEAST);
                pairs[i * n_classes + j] = probability;
                pairs[j * n_classes + i] = 1.0 - probability;
            }
        }
        coupled(&pairs, n_classes)
    }
}

pub(super) fn classifier(attributes: &Attributes, _: u64) -> Result<Kernel, String> {
    let labels = Labels::read(attributes, "classlabels_ints", "classlabels_strings")?;
    let transform = PostTransform::read(attributes)?;
    let n_classes = labels.len();
    if !(2..=MAX_SVM_CLASSES).contains(&n_classes) {
        return Err(format!("has {n_classes} classes; 2 to {MAX_SVM_CLASSES} run here"));
    }
    if attributes.ints("vectors_per_class")?.iter().all(|n_vectors| *n_vectors == 0) {
        return linear_classifier(attributes, labels, transform);
    }
    let pairwise = Pairwise::read(attributes, n_classes)?;
    let n_scores = match (pairwise.curves.is_empty(), n_classes) {
        (true, 3..) => n_classes * (n_classes - 1) / 2,
        _ => n_classes,
    };
    Ok(Box::new(move |inputs| {
        let values = pairwise.similarity.rows(inputs.get(0)?)?;
        checked_count(&[values.len() / pairwise.similarity.n_features, n_scores])?;
        let (mut classes, mut all) = (vec![], vec![]);
        for row in values.chunks_exact(pairwise.similarity.n_features) {
            let (mut scores, wins) = pairwise.scores(row);
            classes.push(largest(&wins));
            if !pairwise.curves.is_empty() {
                scores = pairwise.probabilities(&scores);
                transform.apply(&mut scores);
            } else if let [score] = scores[..] {
                // The specification wants a score for each class.
                let first = if transform == PostTransform::None { -score } else { 1.0 - score };
                scores = transform.of_pair(first, score).to_vec();
            } else {
                transform.apply(&mut scores);
            }
            all.extend(scores);
        }
        Ok(vec![labels.of(classes), matrix(all, n_scores)])
    }))
}

/// Without support vectors: a row of coefficients for each class, and one `rho` for all.
fn linear_classifier(
    attributes: &Attributes,
    labels: Labels,
    transform: PostTransform,
) -> Result<Kernel, String> {
    let n_classes = labels.len();
    let coefficients = attributes.floats("coefficients")?.to_vec();
    let rho = f64::from(*attributes.floats("rho")?.first().ok_or("has no `rho`")?);
    let is_all_positive = coefficients.iter().all(|value| *value >= 0.0);
    let similarity = Similarity::linear(coefficients, n_classes)?;
    Ok(Box::new(move |inputs| {
        let values = similarity.rows(inputs.get(0)?)?;
        let (mut classes, mut all) = (vec![], vec![]);
        for row in values.chunks_exact(similarity.n_features) {
            let mut scores: Vec<f64> = similarity.of(row).into_iter().map(|score| score + rho).collect();
            let best = largest(&scores);
            // Of two classes, ONNX Runtime takes the second wherever the larger score says yes.
            let says_yes = if is_all_positive { scores[best] >= 0.5 } else { scores[best] > 0.0 };
            classes.push(if n_classes == 2 && says_yes { 1 } else { best });
            transform.apply(&mut scores);
            all.extend(scores);
        }
        Ok(vec![labels.of(classes), matrix(all, n_classes)])
    }))
}
