//! From a mask to polygons along the edges of its pixels, row by row.
//!
//! Pixels of one class that share an edge are one polygon. Memory holds the rows at work and the outlines of what is not
//! closed yet, whatever the height of the raster. Outlines are exact: their corners are pixel corners, holes are rings of
//! their own, and where a ring would touch itself it is parted there, so that every polygon is valid by OGC 06-103r4.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;

use crate::segment::NODATA;

/// A corner of pixels: column and row.
pub(crate) type Corner = (u32, u32);

/// A closed polygon.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Traced {
    pub class: u8,
    /// The outline first, then holes. Each ring ends where it began.
    pub rings: Vec<Vec<Corner>>,
    pub n_pixels: u64,
    /// The mean of the confidences under it.
    pub mean_confidence: f64,
}

pub(crate) struct Tracer {
    width: usize,
    /// The classes that are not outlined.
    is_background: [bool; 256],
    row: u32,
    /// Labels of the row above and of this one; 0 is background. One column of background on either side.
    above: Vec<u32>,
    current: Vec<u32>,
    runs_above: Vec<Run>,
    shapes: Shapes,
    fragments: Fragments,
    /// The open ends that hang on the vertical edge left of each column: of the pixel left of it and of the one right.
    hanging: Vec<Ends>,
    /// Columns where a run begins or ends, in the row above or in this one: only there are corners.
    bounds: Vec<usize>,
}

/// Stretches of a row that are all of one value, from the left.
pub(super) fn equal_runs(row: &[u8]) -> impl Iterator<Item = Range<usize>> {
    /// Compared at once: most of a mask is alike for long.
    const STEP: usize = 32;
    let mut start = 0;
    std::iter::from_fn(move || {
        let value = *row.get(start)?;
        let is_alike = |bytes: &[u8]| bytes.iter().fold(true, |all, byte| all & (*byte == value));
        let mut end = start;
        while row.get(end..end + STEP).is_some_and(is_alike) {
            end += STEP;
        }
        end += row[end..].iter().take_while(|byte| **byte == value).count();
        Some(std::mem::replace(&mut start, end)..end)
    })
}

#[derive(Clone, Copy)]
struct Run {
    start: usize,
    end: usize,
    class: u8,
    label: u32,
}

impl Tracer {
    pub fn new(width: usize, is_background: impl Fn(u8) -> bool) -> Self {
        let mut table = [false; 256];
        (0..=255u8).for_each(|class| table[usize::from(class)] = class == NODATA || is_background(class));
        Self {
            width,
            is_background: table,
            row: 0,
            above: vec![0; width + 2],
            current: vec![0; width + 2],
            runs_above: Vec::new(),
            shapes: Shapes::default(),
            fragments: Fragments::default(),
            hanging: vec![[None, None]; width + 1],
            bounds: Vec::new(),
        }
    }

    /// Takes the next row; gives the polygons that it closes.
    pub fn row(&mut self, classes: &[u8], confidences: &[u8], closed: &mut dyn FnMut(Traced)) {
        let runs = self.label(classes, confidences);
        self.connect(&runs);
        self.close(closed);
        self.row += 1;
        std::mem::swap(&mut self.above, &mut self.current);
        for run in &self.runs_above {
            self.current[run.start + 1..=run.end].fill(0);
        }
        self.runs_above = runs;
    }

    /// Closes what is open below the last row.
    pub fn finish(&mut self, closed: &mut dyn FnMut(Traced)) {
        let background = self.is_background.iter().position(|is| *is).unwrap_or(usize::from(NODATA)) as u8;
        self.row(&vec![background; self.width], &vec![0; self.width], closed);
    }

    /// Runs of one class, each labelled by its shape, joined with those above that it touches.
    fn label(&mut self, classes: &[u8], confidences: &[u8]) -> Vec<Run> {
        let mut runs = Vec::new();
        let mut touching = 0;
        for Range { start, end } in equal_runs(classes) {
            let class = classes[start];
            if !self.is_background[usize::from(class)] {
                while self.runs_above.get(touching).is_some_and(|above| above.end <= start) {
                    touching += 1;
                }
                let mut label = 0;
                for above in self.runs_above[touching..].iter().take_while(|above| above.start < end) {
                    if above.class == class {
                        let other = self.shapes.root(above.label);
                        label = if label == 0 { other } else { self.shapes.join(label, other) };
                    }
                }
                if label == 0 {
                    label = self.shapes.add(class);
                }
                let shape = self.shapes.get(label);
                shape.last_row = self.row;
                shape.n_pixels += (end - start) as u64;
                shape.confidence +=
                    confidences[start..end].iter().map(|value| u64::from(*value)).sum::<u64>();
                runs.push(Run { start, end, class, label });
            }
        }
        // Joining may have changed what an earlier run is called.
        for run in runs.iter_mut().chain(&mut self.runs_above) {
            run.label = self.shapes.root(run.label);
        }
        for run in &runs {
            self.current[run.start + 1..=run.end].fill(run.label);
        }
        for run in &self.runs_above {
            self.above[run.start + 1..=run.end].fill(run.label);
        }
        self.shapes.forget_joined();
        runs
    }

    /// Walks along the corners between the row above and this one.
    fn connect(&mut self, runs: &[Run]) {
        let mut bounds = std::mem::take(&mut self.bounds);
        bounds.clear();
        bounds.extend(self.runs_above.iter().chain(runs).flat_map(|run| [run.start, run.end]));
        bounds.sort_unstable();
        bounds.dedup();
        // The open ends on the edge left of the corner: of the pixel above it and of the one below.
        let mut along: Ends = [None, None];
        for &column in &bounds {
            let (a, b) = (self.above[column], self.above[column + 1]);
            let (c, d) = (self.current[column], self.current[column + 1]);
            // No edge, or a straight one: whatever comes along it goes on.
            if (a == b && c == d) || (a == c && b == d) {
                continue;
            }
            let up = self.hanging[column];
            let corner = Corner4 { clockwise: [a, b, d, c], at: (column as u32, self.row) };
            (along, self.hanging[column]) = self.turn(&corner, up, along);
        }
        self.bounds = bounds;
    }

    /// Connects the edges that meet in a corner, piece by piece. Edges up and left bring open ends; those right and down
    /// get them.
    fn turn(&mut self, corner: &Corner4, up: Ends, left: Ends) -> (Ends, Ends) {
        // Of each edge: the end of the pixel before it and of the pixel after it, clockwise.
        let mut ends = [up, [None, None], [None, None], [left[1], left[0]]];
        for first in (0..4).filter(|edge| corner.has_edge(*edge)) {
            let label = corner.clockwise[(first + 1) % 4];
            if label == 0 {
                continue;
            }
            let last = (first + 1..first + 4).map(|edge| edge % 4).find(|edge| corner.has_edge(*edge));
            let last = last.expect("where there is one edge there are two");
            let (from, to) = (ends[first][1], ends[last][0]);
            match (is_past(first), is_past(last)) {
                (true, true) => {
                    let (from, to) = (from.expect(HANGING), to.expect(HANGING));
                    if let Some(ring) = self.fragments.join(from, to, corner.at) {
                        self.shapes.get(label).rings.push(ring);
                    }
                }
                (true, false) => {
                    let end = from.expect(HANGING);
                    self.fragments.extend(end, corner.at, is_straight(first, last));
                    ends[last][0] = Some(end);
                }
                (false, true) => {
                    let end = to.expect(HANGING);
                    self.fragments.extend(end, corner.at, is_straight(first, last));
                    ends[first][1] = Some(end);
                }
                (false, false) => {
                    let [one, other] = self.fragments.begin(corner.at);
                    (ends[first][1], ends[last][0]) = (Some(one), Some(other));
                }
            }
        }
        (ends[RIGHT], [ends[DOWN][1], ends[DOWN][0]])
    }

    /// Gives the shapes above that nothing in this row belongs to.
    fn close(&mut self, closed: &mut dyn FnMut(Traced)) {
        for run in &self.runs_above {
            if let Some(shape) = self.shapes.take_ended(run.label, self.row) {
                closed(shape.trace());
            }
        }
    }
}

/// The four pixels around a corner: above left, above right, below right, below left. Edge 0 goes up, between the first
/// two; 1 right, 2 down, 3 left.
struct Corner4 {
    clockwise: [u32; 4],
    at: Corner,
}

impl Corner4 {
    fn has_edge(&self, edge: usize) -> bool {
        self.clockwise[edge] != self.clockwise[(edge + 1) % 4]
    }
}

const RIGHT: usize = 1;
const DOWN: usize = 2;

/// Edges up and left were met before.
fn is_past(edge: usize) -> bool {
    edge != RIGHT && edge != DOWN
}

fn is_straight(first: usize, last: usize) -> bool {
    first.abs_diff(last) == 2
}

const HANGING: &str = "an edge that was met before has the ends of the pixels on its sides";

/// The open ends on one edge, of the two pixels on its sides.
type Ends = [Option<End>; 2];

/// An open end of a fragment.
type End = usize;

/// Pieces of outline that are not closed yet.
#[derive(Default)]
struct Fragments {
    fragments: Vec<Fragment>,
    free_fragments: Vec<usize>,
    /// The fragment of an end, and whether it is its back.
    ends: Vec<(usize, bool)>,
    free_ends: Vec<End>,
}

#[derive(Default)]
struct Fragment {
    corners: VecDeque<Corner>,
    /// Front and back.
    ends: [End; 2],
}

impl Fragments {
    fn begin(&mut self, corner: Corner) -> [End; 2] {
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
        self.fragments[index].corners.push_back(corner);
        self.fragments[index].ends = ends;
        ends
    }

    fn extend(&mut self, end: End, corner: Corner, is_straight: bool) {
        if is_straight {
            return;
        }
        let (index, is_back) = self.ends[end];
        let corners = &mut self.fragments[index].corners;
        if is_back { corners.push_back(corner) } else { corners.push_front(corner) }
    }

    /// Joins two ends in a corner; gives the ring where both are of one fragment.
    fn join(&mut self, one: End, other: End, corner: Corner) -> Option<Vec<Corner>> {
        self.extend(one, corner, false);
        let ((index, is_back), (other_index, other_is_back)) = (self.ends[one], self.ends[other]);
        self.free_ends.extend([one, other]);
        if index == other_index {
            self.free_fragments.push(index);
            return Some(std::mem::take(&mut self.fragments[index].corners).into());
        }
        // The shorter one is moved.
        let (kept, kept_back, moved, moved_back) =
            if self.fragments[index].corners.len() >= self.fragments[other_index].corners.len() {
                (index, is_back, other_index, other_is_back)
            } else {
                (other_index, other_is_back, index, is_back)
            };
        let Fragment { corners, ends } = std::mem::take(&mut self.fragments[moved]);
        self.free_fragments.push(moved);
        let target = &mut self.fragments[kept];
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

/// Connected pixels of one class that are not all seen yet.
#[derive(Default)]
struct Shape {
    class: u8,
    rings: Vec<Vec<Corner>>,
    n_pixels: u64,
    confidence: u64,
    last_row: u32,
}

/// Shapes by label; a label may have been joined to another. 0 is nobody's.
#[derive(Default)]
struct Shapes {
    parents: Vec<u32>,
    shapes: Vec<Option<Shape>>,
    free: Vec<u32>,
    /// Joined to others in this row: free when nothing is called by them any more.
    joined: Vec<u32>,
}

impl Shapes {
    fn add(&mut self, class: u8) -> u32 {
        if self.parents.is_empty() {
            self.parents.push(0);
            self.shapes.push(None);
        }
        let shape = Some(Shape { class, ..Shape::default() });
        if let Some(label) = self.free.pop() {
            self.parents[label as usize] = label;
            self.shapes[label as usize] = shape;
            return label;
        }
        let label = self.parents.len() as u32;
        self.parents.push(label);
        self.shapes.push(shape);
        label
    }

    fn root(&mut self, label: u32) -> u32 {
        let mut root = label;
        while self.parents[root as usize] != root {
            root = self.parents[root as usize];
        }
        self.parents[label as usize] = root;
        root
    }

    fn get(&mut self, label: u32) -> &mut Shape {
        self.shapes[label as usize].as_mut().expect("a label in use has its shape")
    }

    /// Joins two roots; gives the one that stays.
    fn join(&mut self, one: u32, other: u32) -> u32 {
        if one == other {
            return one;
        }
        let size = |label: u32| self.shapes[label as usize].as_ref().map_or(0, |shape| shape.rings.len());
        let (kept, moved) = if size(one) >= size(other) { (one, other) } else { (other, one) };
        let shape = self.shapes[moved as usize].take().expect("a root has its shape");
        self.parents[moved as usize] = kept;
        self.joined.push(moved);
        let target = self.get(kept);
        target.rings.extend(shape.rings);
        target.n_pixels += shape.n_pixels;
        target.confidence += shape.confidence;
        kept
    }

    /// Labels that were joined may be given out again: nothing is called by them.
    fn forget_joined(&mut self) {
        self.free.append(&mut self.joined);
    }

    /// The shape, if no pixel of `row` belongs to it.
    fn take_ended(&mut self, label: u32, row: u32) -> Option<Shape> {
        let slot = &mut self.shapes[label as usize];
        if slot.as_ref().is_none_or(|shape| shape.last_row == row) {
            return None;
        }
        self.free.push(label);
        slot.take()
    }
}

impl Shape {
    fn trace(self) -> Traced {
        let mut rings = self.rings.into_iter().flat_map(part).collect::<Vec<_>>();
        // The outline encloses all of its holes.
        let outline = (0..rings.len()).max_by_key(|ring| doubled_area(&rings[*ring]).abs()).unwrap_or(0);
        rings.swap(0, outline);
        for (index, ring) in rings.iter_mut().enumerate() {
            // On a map whose rows go south, the outline goes anticlockwise and holes clockwise.
            if (doubled_area(ring) < 0) != (index == 0) {
                ring.reverse();
            }
            ring.push(ring[0]);
        }
        // Rings come in the order in which they close, which is nobody's concern.
        rings[1..].sort_unstable_by_key(|ring| ring.iter().map(|(x, y)| (*y, *x)).min());
        let mean_confidence = self.confidence as f64 / self.n_pixels.max(1) as f64;
        Traced { class: self.class, rings, n_pixels: self.n_pixels, mean_confidence }
    }
}

/// Parts a ring where it comes back to a corner, so that no ring touches itself.
fn part(ring: Vec<Corner>) -> Vec<Vec<Corner>> {
    let mut parts = Vec::new();
    let mut path: Vec<Corner> = Vec::with_capacity(ring.len());
    let mut places = HashMap::new();
    for corner in ring {
        if let Some(start) = places.get(&corner).copied() {
            let loop_ = path.split_off(start);
            loop_.iter().for_each(|corner| {
                places.remove(corner);
            });
            parts.push(loop_);
        }
        places.insert(corner, path.len());
        path.push(corner);
    }
    parts.push(path);
    parts
}

/// Twice the signed area, by the shoelace formula, with rows going down.
fn doubled_area(ring: &[Corner]) -> i64 {
    let next = ring.iter().cycle().skip(1);
    let cross = |((x0, y0), (x1, y1)): (&Corner, &Corner)| {
        i64::from(*x0) * i64::from(*y1) - i64::from(*x1) * i64::from(*y0)
    };
    ring.iter().zip(next).map(cross).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn trace(rows: &[&str]) -> Vec<Traced> {
        let width = rows[0].len();
        let mut tracer = Tracer::new(width, |class| class == 0);
        let mut traced = Vec::new();
        for row in rows {
            let classes =
                row.bytes().map(|byte| if byte == b'.' { 0 } else { byte - b'0' }).collect::<Vec<_>>();
            tracer.row(&classes, &vec![100; width], &mut |polygon| traced.push(polygon));
        }
        tracer.finish(&mut |polygon| traced.push(polygon));
        traced
    }

    #[test]
    fn outlines_follow_the_edges_of_pixels() {
        let traced = trace(&["....", ".11.", "...."]);
        assert_eq!(traced.len(), 1);
        assert_eq!((traced[0].class, traced[0].n_pixels, traced[0].mean_confidence), (1, 2, 100.0));
        let mut corners = traced[0].rings[0].clone();
        corners.sort_unstable();
        corners.dedup();
        assert_eq!(corners, [(1, 1), (1, 2), (3, 1), (3, 2)]);
        assert!(doubled_area(&traced[0].rings[0]) < 0);
    }

    #[test]
    fn holes_are_rings_and_touching_ones_are_parted() {
        let rings = |rows: &[&str]| trace(rows).iter().map(|traced| traced.rings.len()).collect::<Vec<_>>();
        assert_eq!(rings(&["111", "1.1", "111"]), [2]);
        // A hole that touches the outside at a corner.
        assert_eq!(rings(&["1111", "1.11", "11.1", "11.1"]), [2]);
        // Two holes that touch each other.
        assert_eq!(rings(&["1111", "1.11", "11.1", "1111"]), [3]);
        // Diagonal pixels are two polygons.
        assert_eq!(rings(&["1.", ".1"]), [1, 1]);
        // An arm that closes to a ring only at the bottom.
        assert_eq!(rings(&["1111", "1..1", "1.11", "1111"]), [2]);
        // Two classes share an edge and hold their own pixels.
        assert_eq!(rings(&["1122", "1122"]), [1, 1]);
    }

    proptest! {
        /// Any mask: areas add up to pixels, each polygon's outline contains what it should, and no ring touches itself.
        #[test]
        fn polygons_cover_exactly_their_pixels(
            width in 1usize..14,
            values in prop::collection::vec(0u8..3, 1..160),
        ) {
            let height = values.len() / width;
            prop_assume!(height > 0);
            let mut tracer = Tracer::new(width, |class| class == 0);
            let mut traced = Vec::new();
            for row in values.chunks_exact(width) {
                tracer.row(row, &vec![1; width], &mut |polygon| traced.push(polygon));
            }
            tracer.finish(&mut |polygon| traced.push(polygon));
            let mut painted = vec![0u8; width * height];
            for polygon in &traced {
                let area = polygon.rings.iter().map(|ring| doubled_area(&ring[1..])).sum::<i64>();
                prop_assert_eq!(-area, 2 * polygon.n_pixels as i64);
                for ring in &polygon.rings {
                    let mut corners = ring[1..].to_vec();
                    corners.sort_unstable();
                    corners.dedup();
                    prop_assert_eq!(corners.len(), ring.len() - 1, "a ring touches itself: {:?}", ring);
                    prop_assert_eq!(ring[0], ring[ring.len() - 1]);
                }
                for y in 0..height {
                    for x in 0..width {
                        // Even-odd rule over vertical edges left of the pixel's centre.
                        let crossings = polygon.rings.iter().flat_map(|ring| ring.windows(2)).filter(|edge| {
                            let (top, bottom) = (edge[0].1.min(edge[1].1), edge[0].1.max(edge[1].1));
                            edge[0].0 == edge[1].0 && edge[0].0 as usize <= x
                                && (top as usize..bottom as usize).contains(&y)
                        });
                        if crossings.count() % 2 == 1 {
                            prop_assert_eq!(painted[y * width + x], 0);
                            painted[y * width + x] = polygon.class;
                        }
                    }
                }
            }
            prop_assert_eq!(&painted[..], &values[..width * height]);
        }
    }
}
