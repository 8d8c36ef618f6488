//! Outlines as they grow from row to row, until they close.

use std::collections::VecDeque;

use super::Corner;

/// A corner that an outline turns in.
#[derive(Clone, Copy)]
pub(super) struct Turn {
    pub at: Corner,
    /// Four edges meet there: an outline may come by twice.
    pub is_crossing: bool,
}

/// A closed outline; the first corner is not repeated.
pub(super) struct Ring {
    pub corners: Vec<Corner>,
    /// Whether it may come by a corner twice.
    pub may_touch: bool,
}

/// The open ends on one edge, of the two pixels on its sides.
pub(super) type Ends = [Option<End>; 2];

/// An open end of a fragment.
pub(super) type End = usize;

/// Pieces of outline that are not closed yet.
#[derive(Default)]
pub(super) struct Fragments {
    fragments: Vec<Fragment>,
    free_fragments: Vec<usize>,
    /// The fragment of an end, and whether it is its back.
    ends: Vec<(usize, bool)>,
    free_ends: Vec<End>,
}

#[derive(Default)]
struct Fragment {
    corners: VecDeque<Corner>,
    may_touch: bool,
    /// Front and back.
    ends: [End; 2],
}

impl Fragments {
    pub fn begin(&mut self, turn: Turn) -> [End; 2] {
        let index = self.free_fragments.pop().unwrap_or_else(|| {
            self.fragments.push(Fragment::default());
            self.fragments.len() - 1
        });
        let mut end = |is_back| {
            let end = self.free_ends.pop().unwrap_or_else(|| {
                self.ends.push((0, false));
                self.ends.len() - 1
            });
            self.ends[end] = (index, is_back);
            end
        };
        let ends = [end(false), end(true)];
        let fragment = &mut self.fragments[index];
        fragment.corners.push_back(turn.at);
        (fragment.ends, fragment.may_touch) = (ends, turn.is_crossing);
        ends
    }

    /// Goes on from an end, which turns here.
    pub fn extend(&mut self, end: End, turn: Turn) {
        let (index, is_back) = self.ends[end];
        let Fragment { corners, may_touch, .. } = &mut self.fragments[index];
        *may_touch |= turn.is_crossing;
        if is_back { corners.push_back(turn.at) } else { corners.push_front(turn.at) }
    }

    /// Joins two ends in a corner; gives the ring where both are of one fragment.
    pub fn join(&mut self, one: End, other: End, turn: Turn) -> Option<Ring> {
        self.extend(one, turn);
        let ((index, is_back), (other_index, other_is_back)) = (self.ends[one], self.ends[other]);
        self.free_ends.extend([one, other]);
        if index == other_index {
            self.free_fragments.push(index);
            let Fragment { corners, may_touch, .. } = std::mem::take(&mut self.fragments[index]);
            return Some(Ring { corners: corners.into(), may_touch });
        }
        // The shorter one is moved.
        let (kept, kept_back, moved, moved_back) =
            if self.fragments[index].corners.len() >= self.fragments[other_index].corners.len() {
                (index, is_back, other_index, other_is_back)
            } else {
                (other_index, other_is_back, index, is_back)
            };
        let Fragment { corners, may_touch, ends } = std::mem::take(&mut self.fragments[moved]);
        self.free_fragments.push(moved);
        let target = &mut self.fragments[kept];
        target.may_touch |= may_touch;
        // From the joined end of the moved fragment to its other end.
        let outwards: Box<dyn Iterator<Item = Corner>> =
            if moved_back { Box::new(corners.into_iter().rev()) } else { Box::new(corners.into_iter()) };
        match kept_back {
            true => target.corners.extend(outwards),
            false => outwards.for_each(|corner| target.corners.push_front(corner)),
        }
        let far = ends[usize::from(!moved_back)];
        target.ends[usize::from(kept_back)] = far;
        self.ends[far] = (kept, kept_back);
        None
    }
}
