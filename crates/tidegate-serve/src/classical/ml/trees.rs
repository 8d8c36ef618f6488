//! Ensembles of decision trees, compiled into one flat array that is walked from each root to a leaf.
//!
//! What makes a walk end is checked here, once: every branch of a tree is entered from one place only, so there are no cycles,
//! and every step goes to a node that exists.

/// One that every node of a file is turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    LessOrEqual,
    Less,
    GreaterOrEqual,
    Greater,
    Equal,
    NotEqual,
    Leaf,
}

/// Single precision, as most files have it, or double.
pub(super) trait Float: Copy + PartialOrd + Into<f64> + Send + Sync + 'static {
    fn is_nan(self) -> bool;
    fn from_f64(value: f64) -> Self;
    fn plus(self, other: Self) -> Self;
}

macro_rules! float {
    ($type:ty) => {
        impl Float for $type {
            fn is_nan(self) -> bool {
                self.is_nan()
            }
            fn from_f64(value: f64) -> Self {
                value as Self
            }
            fn plus(self, other: Self) -> Self {
                self + other
            }
        }
    };
}
float!(f32);
float!(f64);

/// A node as files have it, by its place among all nodes of all trees.
pub(super) struct RawNode {
    pub(super) mode: Mode,
    pub(super) threshold: f64,
    pub(super) feature: usize,
    /// Where a missing value goes, whatever the comparison says.
    pub(super) missing_is_true: bool,
    pub(super) on_true: usize,
    pub(super) on_false: usize,
    /// Of a leaf: targets and what it adds to them.
    pub(super) votes: Vec<(usize, f64)>,
}

impl RawNode {
    /// With one vote.
    pub(super) fn leaf(target: usize, value: f64) -> Self {
        Self {
            mode: Mode::Leaf,
            threshold: 0.0,
            feature: 0,
            missing_is_true: false,
            on_true: 0,
            on_false: 0,
            votes: vec![(target, value)],
        }
    }
}

#[derive(Clone, Debug)]
struct Node<V> {
    threshold: V,
    feature: u32,
    /// Of a leaf: its first vote.
    on_true: u32,
    /// Of a leaf: the end of its votes.
    on_false: u32,
    mode: Mode,
    missing_is_true: bool,
}

#[derive(Clone, Copy, Debug)]
struct Vote<V> {
    target: u32,
    value: V,
}

#[derive(Clone, Debug)]
pub(super) struct Trees<V> {
    nodes: Vec<Node<V>>,
    roots: Vec<u32>,
    votes: Vec<Vote<V>>,
    n_features: usize,
    /// The comparison that all branches make, where it is the same: walking is faster then.
    only_mode: Option<Mode>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

const NOT_PLACED: u32 = u32::MAX;

impl Trees<f64> {
    /// Lays the nodes out in the order in which a walk that always goes to the true side meets them.
    pub(super) fn compile(raw: &[RawNode], roots: &[usize], n_targets: usize) -> Result<Self, String> {
        if u32::try_from(raw.len()).is_err() {
            return Err("has too many nodes".to_owned());
        }
        let mut trees = Self { nodes: vec![], roots: vec![], votes: vec![], n_features: 0, only_mode: None };
        let mut placed = vec![NOT_PLACED; raw.len()];
        for root in roots {
            // Where a node goes once it is placed: into which node, and to which side of it.
            let mut waiting = vec![(*root, None)];
            while let Some((index, parent)) = waiting.pop() {
                let node =
                    raw.get(index).ok_or_else(|| format!("goes to the node {index}, which it lacks"))?;
                let place = match placed[index] {
                    NOT_PLACED => {
                        placed[index] = trees.place(node, n_targets)?;
                        if node.mode != Mode::Leaf {
                            waiting.push((node.on_false, Some((placed[index], false))));
                            waiting.push((node.on_true, Some((placed[index], true))));
                        }
                        placed[index]
                    }
                    // Both sides of a branch may share a leaf.
                    place if node.mode == Mode::Leaf => place,
                    _ => return Err(format!("is no tree: the node {index} is entered from two places")),
                };
                match parent {
                    None => trees.roots.push(place),
                    Some((parent, true)) => trees.nodes[parent as usize].on_true = place,
                    Some((parent, false)) => trees.nodes[parent as usize].on_false = place,
                }
            }
        }
        let mut modes = trees.nodes.iter().map(|node| node.mode).filter(|mode| *mode != Mode::Leaf);
        let first = modes.next();
        trees.only_mode = first.filter(|first| modes.all(|mode| mode == *first));
        Ok(trees)
    }

    fn place(&mut self, node: &RawNode, n_targets: usize) -> Result<u32, String> {
        let place = self.nodes.len() as u32;
        let feature = u32::try_from(node.feature).map_err(|_| "splits by an absurd feature".to_owned())?;
        let first_vote = self.votes.len() as u32;
        if node.mode == Mode::Leaf {
            for (target, value) in &node.votes {
                if *target >= n_targets {
                    return Err(format!("votes for the target {target} of {n_targets}"));
                }
                self.votes.push(Vote { target: *target as u32, value: *value });
            }
        } else {
            self.n_features = self.n_features.max(node.feature + 1);
        }
        let end_of_votes = u32::try_from(self.votes.len()).map_err(|_| "has too many votes".to_owned())?;
        self.nodes.push(Node {
            threshold: node.threshold,
            feature,
            on_true: first_vote,
            on_false: end_of_votes,
            mode: node.mode,
            missing_is_true: node.missing_is_true,
        });
        Ok(place)
    }
}

impl<V: Float> Trees<V> {
    /// The same trees in another precision.
    pub(super) fn converted<W: Float>(&self) -> Trees<W> {
        let node = |node: &Node<V>| Node {
            threshold: W::from_f64(node.threshold.into()),
            feature: node.feature,
            on_true: node.on_true,
            on_false: node.on_false,
            mode: node.mode,
            missing_is_true: node.missing_is_true,
        };
        let vote = |vote: &Vote<V>| Vote { target: vote.target, value: W::from_f64(vote.value.into()) };
        Trees {
            nodes: self.nodes.iter().map(node).collect(),
            roots: self.roots.clone(),
            votes: self.votes.iter().map(vote).collect(),
            n_features: self.n_features,
            only_mode: self.only_mode,
        }
    }

    /// Features that a row has to have.
    pub(super) fn n_features(&self) -> usize {
        self.n_features
    }

    /// What the trees say of a row of [`n_features`](Self::n_features) at least: one score for each target that any voted for.
    /// Summed in the precision and the order of the trees.
    pub(super) fn scores(&self, row: &[V], aggregate: Aggregate, scores: &mut [Option<V>]) {
        scores.fill(None);
        match aggregate {
            Aggregate::Sum | Aggregate::Average => self.collect(row, scores, V::plus),
            Aggregate::Min => self.collect(row, scores, |a, b| if b < a { b } else { a }),
            Aggregate::Max => self.collect(row, scores, |a, b| if b > a { b } else { a }),
        }
        if aggregate == Aggregate::Average {
            let n_trees = self.roots.len() as f64;
            for score in scores.iter_mut().flatten() {
                *score = V::from_f64((*score).into() / n_trees);
            }
        }
    }

    fn collect(&self, row: &[V], scores: &mut [Option<V>], combine: impl Fn(V, V) -> V) {
        let mut add = |votes: &[Vote<V>]| {
            for vote in votes {
                let score = &mut scores[vote.target as usize];
                *score = Some(score.map_or(vote.value, |score| combine(score, vote.value)));
            }
        };
        match self.only_mode {
            Some(Mode::LessOrEqual) => self.walk(row, |node, value| value <= node.threshold, &mut add),
            Some(Mode::Less) => self.walk(row, |node, value| value < node.threshold, &mut add),
            _ => self.walk(row, Node::is_true, &mut add),
        }
    }

    fn walk(&self, row: &[V], is_true: impl Fn(&Node<V>, V) -> bool, add: &mut impl FnMut(&[Vote<V>])) {
        for root in &self.roots {
            let mut node = &self.nodes[*root as usize];
            while node.mode != Mode::Leaf {
                let value = row[node.feature as usize];
                let goes_true = is_true(node, value) || node.missing_is_true && value.is_nan();
                node = &self.nodes[if goes_true { node.on_true } else { node.on_false } as usize];
            }
            add(&self.votes[node.on_true as usize..node.on_false as usize]);
        }
    }
}

impl<V: Float> Node<V> {
    fn is_true(&self, value: V) -> bool {
        match self.mode {
            Mode::LessOrEqual => value <= self.threshold,
            Mode::Less => value < self.threshold,
            Mode::GreaterOrEqual => value >= self.threshold,
            Mode::Greater => value > self.threshold,
            Mode::Equal => value == self.threshold,
            Mode::NotEqual => value != self.threshold,
            Mode::Leaf => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(mode: Mode, feature: usize, threshold: f64, on_true: usize, on_false: usize) -> RawNode {
        RawNode { mode, threshold, feature, missing_is_true: false, on_true, on_false, votes: vec![] }
    }

    fn leaf(target: usize, value: f64) -> RawNode {
        RawNode::leaf(target, value)
    }

    fn single(trees: &Trees<f64>, row: &[f64]) -> f64 {
        let mut scores = [None];
        trees.scores(row, Aggregate::Sum, &mut scores);
        scores[0].unwrap()
    }

    #[test]
    fn every_comparison_goes_where_it_says() {
        // For values below, at and above the threshold, and a missing one.
        let cases = [
            (Mode::LessOrEqual, [true, true, false, false]),
            (Mode::Less, [true, false, false, false]),
            (Mode::GreaterOrEqual, [false, true, true, false]),
            (Mode::Greater, [false, false, true, false]),
            (Mode::Equal, [false, true, false, false]),
            (Mode::NotEqual, [true, false, true, true]),
        ];
        for (mode, expected) in cases {
            for missing_is_true in [false, true] {
                let mut nodes = vec![branch(mode, 0, 1.0, 1, 2), leaf(0, 1.0), leaf(0, 0.0)];
                nodes[0].missing_is_true = missing_is_true;
                // A second tree of another comparison, so that both ways of walking are tried.
                let other = if mode == Mode::Less { Mode::Greater } else { Mode::Less };
                for n_modes in [1, 2] {
                    nodes.truncate(3);
                    nodes.extend([branch(other, 0, 5.0, 4, 4), leaf(0, 10.0)]);
                    let trees = Trees::compile(&nodes, &[0, 3][..n_modes], 1).unwrap();
                    assert_eq!(trees.only_mode.is_some(), n_modes == 1);
                    for (value, expected) in [0.0, 1.0, 2.0, f64::NAN].into_iter().zip(expected) {
                        let is_true = expected || missing_is_true && value.is_nan();
                        let said = single(&trees, &[value]) - if n_modes == 2 { 10.0 } else { 0.0 };
                        assert_eq!(said == 1.0, is_true, "{mode:?} {value}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        let at = |on_true, on_false| branch(Mode::Less, 0, 0.0, on_true, on_false);
        let error = |nodes: &[RawNode], roots: &[usize]| Trees::compile(nodes, roots, 1).unwrap_err();
        assert!(error(&[at(0, 0)], &[0]).contains("two places"), "a node that is its own child");
        assert!(error(&[at(1, 2), at(0, 2), leaf(0, 1.0)], &[0]).contains("two places"), "a cycle");
        assert!(
            error(&[at(1, 1), at(2, 2), leaf(0, 1.0)], &[0]).contains("two places"),
            "walked more than once"
        );
        assert!(error(&[at(1, 2), leaf(0, 1.0)], &[0]).contains("the node 2, which it lacks"));
        assert!(error(&[leaf(1, 1.0)], &[0]).contains("the target 1 of 1"));
        assert!(error(&[at(1, 1), leaf(0, 1.0)], &[0, 0]).contains("two places"), "one root for two trees");
        let mut absurd = at(1, 1);
        absurd.feature = usize::MAX;
        assert!(error(&[absurd, leaf(0, 1.0)], &[0]).contains("absurd feature"));
    }

    #[test]
    fn targets_are_added_averaged_or_their_extremes_taken() {
        let nodes = [leaf(0, 1.0), leaf(0, 4.0), leaf(2, -3.0)];
        let trees = Trees::compile(&nodes, &[0, 1, 2], 3).unwrap();
        let cases = [
            (Aggregate::Sum, [Some(5.0), None, Some(-3.0)]),
            (Aggregate::Average, [Some(5.0 / 3.0), None, Some(-1.0)]),
            (Aggregate::Min, [Some(1.0), None, Some(-3.0)]),
            (Aggregate::Max, [Some(4.0), None, Some(-3.0)]),
        ];
        for (aggregate, expected) in cases {
            let mut scores = [None; 3];
            trees.scores(&[], aggregate, &mut scores);
            assert_eq!(scores, expected, "{aggregate:?}");
        }
    }
}
