//! Connected pixels with what is known of them, and the polygons that they end as.

use std::collections::HashMap;

use super::fragments::Ring;
use super::{Corner, Traced};

/// Connected pixels of one class that are not all seen yet.
#[derive(Default)]
pub(super) struct Shape {
    class: u8,
    pub rings: Vec<Ring>,
    pub n_pixels: u64,
    /// Their sum.
    pub confidence: u64,
    pub last_row: u32,
}

/// Shapes by label; a label may have been joined to another. 0 is nobody's.
#[derive(Default)]
pub(super) struct Shapes {
    parents: Vec<u32>,
    shapes: Vec<Option<Shape>>,
    free: Vec<u32>,
    /// Joined to others in this row: free when nothing is called by them any more.
    joined: Vec<u32>,
}

impl Shapes {
    pub fn add(&mut self, class: u8) -> u32 {
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

    pub fn root(&mut self, label: u32) -> u32 {
        let mut root = label;
        while self.parents[root as usize] != root {
            root = self.parents[root as usize];
        }
        self.parents[label as usize] = root;
        root
    }

    pub fn get(&mut self, label: u32) -> &mut Shape {
        self.shapes[label as usize].as_mut().expect("a label in use has its shape")
    }

    /// Joins two roots; gives the one that stays.
    pub fn join(&mut self, one: u32, other: u32) -> u32 {
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
    pub fn forget_joined(&mut self) {
        self.free.append(&mut self.joined);
    }

    /// The shape, if no pixel of `row` belongs to it.
    pub fn take_ended(&mut self, label: u32, row: u32) -> Option<Shape> {
        let slot = &mut self.shapes[label as usize];
        if slot.as_ref().is_none_or(|shape| shape.last_row == row) {
            return None;
        }
        self.free.push(label);
        slot.take()
    }
}

impl Shape {
    pub fn trace(self) -> Traced {
        let rings = self
            .rings
            .into_iter()
            .flat_map(|ring| if ring.may_touch { part(ring.corners) } else { vec![ring.corners] });
        let mut rings = rings.map(|ring| (doubled_area(&ring), ring)).collect::<Vec<_>>();
        // The outline encloses all of its holes.
        let outline = (0..rings.len()).max_by_key(|ring| rings[*ring].0.abs()).unwrap_or(0);
        rings.swap(0, outline);
        // Rings come in the order in which they close, which is nobody's concern.
        rings[1..].sort_by_cached_key(|(_, ring)| ring.iter().map(|(x, y)| (*y, *x)).min());
        let close = |(index, (doubled_area, mut ring)): (usize, (i64, Vec<Corner>))| {
            // On a map whose rows go south, the outline goes anticlockwise and holes clockwise.
            if (doubled_area < 0) != (index == 0) {
                ring.reverse();
            }
            ring.push(ring[0]);
            ring
        };
        let rings = rings.into_iter().enumerate().map(close).collect();
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
pub(super) fn doubled_area(ring: &[Corner]) -> i64 {
    let cross =
        |(x0, y0): Corner, (x1, y1): Corner| i64::from(x0) * i64::from(y1) - i64::from(x1) * i64::from(y0);
    let last = ring.len() - 1;
    ring.windows(2).map(|pair| cross(pair[0], pair[1])).sum::<i64>() + cross(ring[last], ring[0])
}
