//! From a mask to polygons along the edges of its pixels, row by row.
//!
//! Pixels of one class that share an edge are one polygon. Memory holds the rows at work and the outlines of what is not
//! closed yet, whatever the height of the raster. Outlines are exact: their corners are pixel corners, holes are rings of
//! their own, and where a ring would touch itself it is parted there, so that every polygon is valid by OGC 06-103r4.

mod fragments;
mod runs;
mod shapes;

use std::ops::Range;

use fragments::{Ends, Fragments, Turn};
use runs::{Labels, Run, bounds};
pub(super) use runs::{are_all, equal_runs};
use shapes::Shapes;

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
    runs_above: Vec<Run>,
    shapes: Shapes,
    fragments: Fragments,
    /// The open ends that hang on the vertical edge left of each column: of the pixel left of it and of the one right.
    hanging: Vec<Ends>,
}

impl Tracer {
    pub fn new(width: usize, is_background: impl Fn(u8) -> bool) -> Self {
        let mut table = [false; 256];
        (0..=255u8).for_each(|class| table[usize::from(class)] = class == NODATA || is_background(class));
        Self {
            width,
            is_background: table,
            row: 0,
            runs_above: Vec::new(),
            shapes: Shapes::default(),
            fragments: Fragments::default(),
            hanging: vec![[None, None]; width + 1],
        }
    }

    /// Takes the next row; gives the polygons that it closes.
    pub fn row(&mut self, classes: &[u8], confidences: &[u8], closed: &mut dyn FnMut(Traced)) {
        let runs = self.label(classes, confidences);
        self.connect(&runs);
        self.close(closed);
        self.row += 1;
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
        self.shapes.forget_joined();
        runs
    }

    /// Walks along the corners between the row above and this one.
    fn connect(&mut self, runs: &[Run]) {
        let runs_above = std::mem::take(&mut self.runs_above);
        let (mut labels_above, mut labels) = (Labels::of(&runs_above), Labels::of(runs));
        // The open ends on the edge left of the corner: of the pixel above it and of the one below.
        let mut along: Ends = [None, None];
        for column in bounds(&runs_above, runs) {
            let (a, b) = labels_above.around(column);
            let (c, d) = labels.around(column);
            // No edge, or a straight one: whatever comes along it goes on.
            if (a == b && c == d) || (a == c && b == d) {
                continue;
            }
            let up = self.hanging[column];
            let corner = Corner4 { clockwise: [a, b, d, c], at: (column as u32, self.row) };
            (along, self.hanging[column]) = self.turn(&corner, up, along);
        }
        self.runs_above = runs_above;
    }

    /// Connects the edges that meet in a corner, piece by piece. Edges up and left bring open ends; those right and down
    /// get them.
    fn turn(&mut self, corner: &Corner4, up: Ends, left: Ends) -> (Ends, Ends) {
        let turn = Turn { at: corner.at, is_crossing: (0..4).all(|edge| corner.has_edge(edge)) };
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
                    if let Some(ring) = self.fragments.join(from, to, turn) {
                        self.shapes.get(label).rings.push(ring);
                    }
                }
                (true, false) => {
                    let end = from.expect(HANGING);
                    if !is_straight(first, last) {
                        self.fragments.extend(end, turn);
                    }
                    ends[last][0] = Some(end);
                }
                (false, true) => {
                    let end = to.expect(HANGING);
                    if !is_straight(first, last) {
                        self.fragments.extend(end, turn);
                    }
                    ends[first][1] = Some(end);
                }
                (false, false) => {
                    let [one, other] = self.fragments.begin(turn);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::shapes::doubled_area;
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
