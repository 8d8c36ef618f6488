//! The two ways in which files write trees: nodes by tree and number, and, since version 5 of the operators, by their places.

use std::collections::HashMap;

use super::super::array::Data;
use super::super::attributes::{Attributes, Numbers};
use super::labels::MAX_CLASSES;
use super::trees::{Mode, RawNode, Trees};

/// Compiled trees, and whether the file has its numbers in double precision.
pub(super) struct Read {
    pub(super) trees: Trees<f64>,
    pub(super) is_double: bool,
    /// The targets or classes that any leaf votes for, and whether all votes are at least zero.
    pub(super) voted: Vec<usize>,
    pub(super) is_all_positive: bool,
}

impl Read {
    fn new(nodes: &[RawNode], roots: &[usize], n_targets: usize, is_double: bool) -> Result<Self, String> {
        let votes = || nodes.iter().flat_map(|node| &node.votes);
        let mut voted: Vec<usize> = votes().map(|(target, _)| *target).collect();
        voted.sort_unstable();
        voted.dedup();
        let is_all_positive = votes().all(|(_, value)| *value >= 0.0);
        Ok(Self { trees: Trees::compile(nodes, roots, n_targets)?, is_double, voted, is_all_positive })
    }
}

pub(super) fn n_targets(attributes: &Attributes) -> Result<usize, String> {
    let n_targets = attributes.int_or("n_targets", 1)?;
    let checked = usize::try_from(n_targets).ok().filter(|n| (1..=MAX_CLASSES).contains(n));
    checked.ok_or_else(|| format!("has {n_targets} targets; 1 to {MAX_CLASSES} run here"))
}

fn place(value: i64) -> Result<usize, String> {
    usize::try_from(value).map_err(|_| format!("has the place {value} in a list"))
}

/// As many as there are nodes, or none.
fn check_length(name: &str, length: usize, expected: usize) -> Result<(), String> {
    if length == expected {
        return Ok(());
    }
    Err(format!("has {length} of `{name}` for {expected} nodes"))
}

/// `TreeEnsembleClassifier` and `TreeEnsembleRegressor`; `role` is `class` or `target`.
pub(super) fn by_number(attributes: &Attributes, role: &str, n_targets: usize) -> Result<Read, String> {
    let tree_ids = attributes.ints("nodes_treeids")?;
    let n_nodes = tree_ids.len();
    let ints = |name: &str| {
        let list = attributes.ints(name)?;
        check_length(name, list.len(), n_nodes)?;
        Ok::<_, String>(list)
    };
    let node_ids = ints("nodes_nodeids")?;
    let (features, on_true, on_false) =
        (ints("nodes_featureids")?, ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let modes = attributes.texts("nodes_modes")?;
    check_length("nodes_modes", modes.len(), n_nodes)?;
    let thresholds = attributes.numbers("nodes_values")?.unwrap_or(Numbers::F32(vec![]));
    let thresholds_of_nodes = thresholds.to_f64();
    check_length("nodes_values", thresholds_of_nodes.len(), n_nodes)?;
    let missing = attributes.ints("nodes_missing_value_tracks_true")?;
    if !missing.is_empty() {
        check_length("nodes_missing_value_tracks_true", missing.len(), n_nodes)?;
    }

    let mut places = HashMap::with_capacity(n_nodes);
    let mut roots: Vec<usize> = vec![];
    for (index, (tree, node)) in tree_ids.iter().zip(node_ids).enumerate() {
        if places.insert((*tree, *node), index).is_some() {
            return Err(format!("has the node {node} of the tree {tree} twice"));
        }
        // The first node of a tree is its root.
        if index == 0 || tree_ids[index - 1] != *tree {
            roots.push(index);
        }
    }
    let find = |tree: i64, node: i64| {
        places.get(&(tree, node)).copied().ok_or_else(|| format!("lacks the node {node} of the tree {tree}"))
    };
    let mut nodes = Vec::with_capacity(n_nodes);
    for index in 0..n_nodes {
        let mode = named_mode(&modes[index])?;
        let child =
            |list: &[i64]| if mode == Mode::Leaf { Ok(0) } else { find(tree_ids[index], list[index]) };
        nodes.push(RawNode {
            mode,
            threshold: thresholds_of_nodes[index],
            feature: if mode == Mode::Leaf { 0 } else { place(features[index])? },
            missing_is_true: missing.get(index).is_some_and(|value| *value == 1),
            on_true: child(on_true)?,
            on_false: child(on_false)?,
            votes: vec![],
        });
    }

    let list = |name: &str| attributes.ints(&format!("{role}_{name}"));
    let (vote_trees, vote_nodes, targets) = (list("treeids")?, list("nodeids")?, list("ids")?);
    let weights = attributes.numbers(&format!("{role}_weights"))?.unwrap_or(Numbers::F32(vec![]));
    let weights_of_votes = weights.to_f64();
    if [vote_nodes.len(), targets.len(), weights_of_votes.len()] != [vote_trees.len(); 3] {
        return Err(format!("has lists `{role}_...` of different lengths"));
    }
    for (index, weight) in weights_of_votes.into_iter().enumerate() {
        let node = find(vote_trees[index], vote_nodes[index])?;
        nodes[node].votes.push((place(targets[index])?, weight));
    }
    Read::new(&nodes, &roots, n_targets, thresholds.is_double() || weights.is_double())
}

fn named_mode(name: &[u8]) -> Result<Mode, String> {
    Ok(match name {
        b"BRANCH_LEQ" => Mode::LessOrEqual,
        b"BRANCH_LT" => Mode::Less,
        b"BRANCH_GTE" => Mode::GreaterOrEqual,
        b"BRANCH_GT" => Mode::Greater,
        b"BRANCH_EQ" => Mode::Equal,
        b"BRANCH_NEQ" => Mode::NotEqual,
        b"LEAF" => Mode::Leaf,
        other => return Err(format!("has a node of the unknown mode `{}`", String::from_utf8_lossy(other))),
    })
}

/// `TreeEnsemble`: branches and leaves in lists of their own.
pub(super) fn by_place(attributes: &Attributes, n_targets: usize) -> Result<Read, String> {
    let features = attributes.ints("nodes_featureids")?;
    let n_branches = features.len();
    let ints = |name: &str| {
        let list = attributes.ints(name)?;
        check_length(name, list.len(), n_branches)?;
        Ok::<_, String>(list)
    };
    let (on_true, on_false) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
    let (true_is_leaf, false_is_leaf) = (ints("nodes_trueleafs")?, ints("nodes_falseleafs")?);
    let tensor = |name: &str| attributes.tensor(name)?.ok_or_else(|| format!("has no `{name}`"));
    let numbers = |name: &str| {
        Numbers::from_array(tensor(name)?).ok_or_else(|| format!("has `{name}` that are no floats"))
    };
    let Data::I32(modes) = &tensor("nodes_modes")?.data else {
        return Err("has modes that are no bytes".to_owned());
    };
    let splits = numbers("nodes_splits")?;
    let thresholds = splits.to_f64();
    check_length("nodes_modes", modes.len(), n_branches)?;
    check_length("nodes_splits", thresholds.len(), n_branches)?;
    let missing = attributes.ints("nodes_missing_value_tracks_true")?;
    let weights = numbers("leaf_weights")?;
    let targets = attributes.ints("leaf_targetids")?;
    let weights_of_leaves = weights.to_f64();
    if targets.len() != weights_of_leaves.len() {
        return Err(format!("has {} targets of {} leaves", targets.len(), weights_of_leaves.len()));
    }

    // Branches first, then leaves.
    let child = |child: i64, is_leaf: i64| {
        let (offset, end) = if is_leaf == 0 { (0, n_branches) } else { (n_branches, targets.len()) };
        let child = place(child)?;
        if child < end {
            Ok(offset + child)
        } else {
            Err(format!("goes to the node {child}, which it lacks"))
        }
    };
    let mut nodes = vec![];
    for index in 0..n_branches {
        nodes.push(RawNode {
            mode: numbered_mode(modes[index])?,
            threshold: thresholds[index],
            feature: place(features[index])?,
            missing_is_true: missing.get(index).is_some_and(|value| *value == 1),
            on_true: child(on_true[index], true_is_leaf[index])?,
            on_false: child(on_false[index], false_is_leaf[index])?,
            votes: vec![],
        });
    }
    for (target, weight) in targets.iter().zip(weights_of_leaves) {
        nodes.push(RawNode::leaf(place(*target)?, weight));
    }
    let roots =
        attributes.ints("tree_roots")?.iter().map(|root| place(*root)).collect::<Result<Vec<_>, _>>()?;
    if roots.iter().any(|root| *root >= n_branches) {
        return Err("has a root that is no node".to_owned());
    }
    Read::new(&nodes, &roots, n_targets, splits.is_double() || weights.is_double())
}

fn numbered_mode(number: i32) -> Result<Mode, String> {
    Ok(match number {
        0 => Mode::LessOrEqual,
        1 => Mode::Less,
        2 => Mode::GreaterOrEqual,
        3 => Mode::Greater,
        4 => Mode::Equal,
        5 => Mode::NotEqual,
        // Sets of values at a node. No exporter is known to write them.
        6 => return Err("has a node of the mode BRANCH_MEMBER, which does not run here".to_owned()),
        other => return Err(format!("has a node of the unknown mode {other}")),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::super::super::array::Array;
    use super::super::super::attributes::Attribute;
    use super::*;

    /// A tree of one branch and two leaves, then some of its attributes changed.
    fn read(changes: Vec<(&str, Attribute)>) -> Result<Read, String> {
        let texts = |list: &[&'static str]| {
            Attribute::Texts(list.iter().map(|text| Bytes::from_static(text.as_bytes())).collect())
        };
        let whole = vec![
            ("nodes_treeids", Attribute::Ints(vec![0, 0, 0])),
            ("nodes_nodeids", Attribute::Ints(vec![0, 1, 2])),
            ("nodes_featureids", Attribute::Ints(vec![3, -1, -1])),
            ("nodes_truenodeids", Attribute::Ints(vec![1, 0, 0])),
            ("nodes_falsenodeids", Attribute::Ints(vec![2, 0, 0])),
            ("nodes_modes", texts(&["BRANCH_LEQ", "LEAF", "LEAF"])),
            ("nodes_values", Attribute::Floats(vec![0.5, 0.0, 0.0])),
            ("target_treeids", Attribute::Ints(vec![0, 0])),
            ("target_nodeids", Attribute::Ints(vec![1, 2])),
            ("target_ids", Attribute::Ints(vec![0, 0])),
            ("target_weights", Attribute::Floats(vec![1.0, -2.0])),
        ];
        let all = whole.into_iter().chain(changes).map(|(name, attribute)| (name.to_owned(), attribute));
        by_number(&Attributes(all.collect()), "target", 1)
    }

    #[test]
    fn lists_that_do_not_fit_together_are_refused_by_name() {
        let tree = read(vec![]).unwrap();
        assert_eq!((tree.trees.n_features(), tree.voted, tree.is_all_positive), (4, vec![0], false));
        let ints = |list: &[i64]| Attribute::Ints(list.to_vec());
        let cases = [
            ("nodes_nodeids", ints(&[0, 1]), "2 of `nodes_nodeids` for 3 nodes"),
            ("nodes_nodeids", ints(&[0, 1, 1]), "the node 1 of the tree 0 twice"),
            ("nodes_treeids", ints(&[0, 0, 1]), "lacks the node 2 of the tree 0"),
            ("nodes_truenodeids", ints(&[7, 0, 0]), "lacks the node 7 of the tree 0"),
            ("nodes_truenodeids", ints(&[0, 0, 0]), "entered from two places"),
            ("nodes_featureids", ints(&[-1, 0, 0]), "the place -1"),
            ("nodes_featureids", ints(&[i64::MAX, 0, 0]), "absurd feature"),
            ("nodes_values", Attribute::Floats(vec![0.5]), "1 of `nodes_values` for 3 nodes"),
            ("nodes_values", ints(&[1, 2, 3]), "`nodes_values` of another type"),
            ("nodes_missing_value_tracks_true", ints(&[1]), "1 of `nodes_missing_value_tracks_true`"),
            ("target_ids", ints(&[0, 1]), "the target 1 of 1"),
            ("target_ids", ints(&[0]), "different lengths"),
            ("target_nodeids", ints(&[1, 9]), "lacks the node 9"),
        ];
        for (name, attribute, expected) in cases {
            let error = read(vec![(name, attribute)]).err().unwrap_or_default();
            assert!(error.contains(expected), "{name}: `{error}`");
        }
    }

    #[test]
    fn absurd_numbers_of_targets_take_no_memory() {
        for absurd in [0, -1, i64::MAX] {
            let attributes = Attributes([("n_targets".to_owned(), Attribute::Int(absurd))].into());
            assert!(n_targets(&attributes).unwrap_err().contains("targets"));
        }
    }

    #[test]
    fn places_outside_their_lists_are_refused() {
        let tensor = |data| Attribute::Tensor(Ok(Array::vector(data)));
        let read = |roots: i64, child: i64, mode: i32| {
            let attributes = [
                ("nodes_featureids", Attribute::Ints(vec![0])),
                ("nodes_truenodeids", Attribute::Ints(vec![0])),
                ("nodes_falsenodeids", Attribute::Ints(vec![child])),
                ("nodes_trueleafs", Attribute::Ints(vec![1])),
                ("nodes_falseleafs", Attribute::Ints(vec![1])),
                ("nodes_modes", tensor(Data::I32(vec![mode]))),
                ("nodes_splits", tensor(Data::F32(vec![0.5]))),
                ("leaf_targetids", Attribute::Ints(vec![0, 0])),
                ("leaf_weights", tensor(Data::F32(vec![1.0, 2.0]))),
                ("tree_roots", Attribute::Ints(vec![roots])),
            ];
            let attributes = attributes.map(|(name, attribute)| (name.to_owned(), attribute));
            by_place(&Attributes(attributes.into()), 1).err()
        };
        assert_eq!(read(0, 1, 0), None);
        assert!(read(0, 2, 0).unwrap().contains("the node 2, which it lacks"));
        assert!(read(1, 1, 0).unwrap().contains("root"));
        assert!(read(-1, 1, 0).unwrap().contains("the place -1"));
        assert!(read(0, 1, 6).unwrap().contains("BRANCH_MEMBER"));
        assert!(read(0, 1, 7).unwrap().contains("unknown mode 7"));
    }
}
