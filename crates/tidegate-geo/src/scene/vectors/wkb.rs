//! Well-known binary (OGC 06-103r4, section 8), little-endian.

/// A polygon.
pub(super) fn polygon(rings: &[Vec<(f64, f64)>]) -> Vec<u8> {
    let n_points = rings.iter().map(Vec::len).sum::<usize>();
    let mut bytes = Vec::with_capacity(9 + rings.len() * 4 + n_points * 16);
    bytes.push(1);
    bytes.extend_from_slice(&3u32.to_le_bytes());
    bytes.extend_from_slice(&(rings.len() as u32).to_le_bytes());
    for ring in rings {
        bytes.extend_from_slice(&(ring.len() as u32).to_le_bytes());
        for (x, y) in ring {
            bytes.extend_from_slice(&x.to_le_bytes());
            bytes.extend_from_slice(&y.to_le_bytes());
        }
    }
    bytes
}

/// West, south, east and north of some points.
pub(super) fn bounds<'a>(points: impl IntoIterator<Item = &'a (f64, f64)>) -> [f64; 4] {
    let nothing = [f64::INFINITY, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY];
    points.into_iter().fold(nothing, |[west, south, east, north], (x, y)| {
        [west.min(*x), south.min(*y), east.max(*x), north.max(*y)]
    })
}
