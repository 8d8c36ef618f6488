//! A georeferenced scene of any size, made here.

use std::path::Path;

/// Writes an RGB GeoTIFF in strips of 64 rows, a quarter of a metre a pixel in UTM 45N: smooth ground with bright squares.
pub fn write_scene(path: &Path, width: usize, height: usize) {
    std::fs::write(path, scene(width, height)).expect("a temporary folder");
}

pub fn scene(width: usize, height: usize) -> Vec<u8> {
    const ROWS: usize = 64;
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    const DOUBLE: u16 = 12;
    let n_strips = height.div_ceil(ROWS);
    let pixels: Vec<u8> = (0..width * height).flat_map(|at| pixel(at % width, at / width)).collect();
    let strip_bytes = |strip: usize| ROWS.min(height - strip * ROWS) * width * 3;
    let longs = |values: Vec<usize>| -> Vec<u8> {
        values.into_iter().flat_map(|value| (value as u32).to_le_bytes()).collect()
    };
    let doubles =
        |values: &[f64]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let shorts =
        |values: &[u16]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    let offsets = (0..n_strips).map(|strip| 8 + strip * ROWS * width * 3).collect();
    // GeoKeys: projected, area, EPSG 32645.
    let keys = [1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32_645];
    let entries: Vec<(u16, u16, usize, Vec<u8>)> = vec![
        (256, LONG, 1, longs(vec![width])),
        (257, LONG, 1, longs(vec![height])),
        (258, SHORT, 3, shorts(&[8, 8, 8])),
        (259, SHORT, 1, shorts(&[1])),
        (262, SHORT, 1, shorts(&[2])),
        (273, LONG, n_strips, longs(offsets)),
        (277, SHORT, 1, shorts(&[3])),
        (278, LONG, 1, longs(vec![ROWS])),
        (279, LONG, n_strips, longs((0..n_strips).map(strip_bytes).collect())),
        (33_550, DOUBLE, 3, doubles(&[0.25, 0.25, 0.0])),
        (33_922, DOUBLE, 6, doubles(&[0.0, 0.0, 0.0, 354_000.0, 3_057_000.0, 0.0])),
        (34_735, SHORT, keys.len(), shorts(&keys)),
    ];
    let directory = 8 + pixels.len() + pixels.len() % 2;
    let mut beyond = directory + 2 + entries.len() * 12 + 4;
    let mut file = [b"II\x2a\0".to_vec(), (directory as u32).to_le_bytes().to_vec(), pixels].concat();
    file.resize(directory, 0);
    file.extend((entries.len() as u16).to_le_bytes());
    let mut values = Vec::new();
    for (tag, kind, count, mut bytes) in entries {
        file.extend(tag.to_le_bytes());
        file.extend(kind.to_le_bytes());
        file.extend((count as u32).to_le_bytes());
        if bytes.len() <= 4 {
            bytes.resize(4, 0);
            file.extend(bytes);
        } else {
            file.extend((beyond as u32).to_le_bytes());
            beyond += bytes.len();
            values.extend(bytes);
        }
    }
    file.extend([0; 4]);
    file.extend(values);
    file
}

fn pixel(x: usize, y: usize) -> [u8; 3] {
    let is_roof = x % 61 < 17 && y % 53 < 19;
    let ground = (110 + (x * 3 + y * 7) % 40) as u8;
    if is_roof { [230, 232, 225] } else { [ground, ground - 20, ground - 50] }
}
