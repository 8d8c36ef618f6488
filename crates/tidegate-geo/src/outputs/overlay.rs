//! The picture that people look at: the image, each class tinted, its edge drawn crisply.

use png::{ColorType, EncodingError};

use super::palette::ClassColors;
use super::png_file;
use crate::image::Image;

/// How much of the class colour covers the ground inside.
const TINT: f32 = 0.38;

/// How much of the ground's own colour remains outside; a little less makes what was found stand out.
const GROUND_SATURATION: f32 = 0.72;

/// One pixel of outline per this many of the image's longer side, so that it is seen in a thumbnail as well.
const PIXELS_PER_OUTLINE: usize = 600;

/// RGB, or RGBA with invalid pixels transparent where there are any.
pub(super) fn encode(image: &Image, mask: &[u8], colors: &ClassColors) -> Result<Vec<u8>, EncodingError> {
    let Image { width, height, .. } = *image;
    let radius = (width.max(height) / PIXELS_PER_OUTLINE).clamp(1, 8);
    let edges = Edges::of(mask, width, height, radius, colors);
    let n_out = if image.valid.is_some() { 4 } else { 3 };
    let mut samples = Vec::with_capacity(width * height * n_out);
    for (pixel, ground) in image.pixels.chunks_exact(image.n_bands).enumerate() {
        let ground = ground_color(ground);
        let value = usize::from(mask[pixel]);
        let color = colors.colors.get(value).copied().unwrap_or([255; 3]).map(f32::from);
        let is_background = colors.background.get(value).copied().unwrap_or(false);
        let shown = match edges.at[pixel] {
            Edge::Outline => lighten(color),
            Edge::Halo => desaturate(ground).map(|v| v * 0.45),
            Edge::None if is_background => desaturate(ground),
            Edge::None => mix(ground, color, TINT),
        };
        samples.extend(shown.map(|v| v.round().clamp(0.0, 255.0) as u8));
        if let Some(valid) = &image.valid {
            samples.push(if valid[pixel] { 255 } else { 0 });
        }
    }
    let color_type = if n_out == 4 { ColorType::Rgba } else { ColorType::Rgb };
    png_file::encode(width, height, color_type, None, &samples)
}

/// The first three bands, or the one band as grey.
fn ground_color(pixel: &[u8]) -> [f32; 3] {
    match *pixel {
        [red, green, blue, ..] => [red, green, blue].map(f32::from),
        [grey, ..] => [f32::from(grey); 3],
        [] => [0.0; 3],
    }
}

fn mix(ground: [f32; 3], color: [f32; 3], share: f32) -> [f32; 3] {
    std::array::from_fn(|band| ground[band] * (1.0 - share) + color[band] * share)
}

/// Towards the luma of ITU-R BT.601.
fn desaturate(color: [f32; 3]) -> [f32; 3] {
    let luma = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2];
    color.map(|v| luma + (v - luma) * GROUND_SATURATION)
}

/// The outline's colour: the class's, a little brighter than its tint.
fn lighten(color: [f32; 3]) -> [f32; 3] {
    mix(color, [255.0; 3], 0.25)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    None,
    /// Inside a class, next to something else.
    Outline,
    /// One pixel outside it, darkened so that the outline shows on bright ground too.
    Halo,
}

struct Edges {
    at: Vec<Edge>,
}

impl Edges {
    /// A pixel within `radius` of another class is an outline; background next to an outline is its halo.
    fn of(mask: &[u8], width: usize, height: usize, radius: usize, colors: &ClassColors) -> Self {
        let is_background = |value: u8| colors.background.get(usize::from(value)).copied().unwrap_or(false);
        // Distance to the next class, capped at `radius`, by growing inwards one ring at a time.
        let mut at = vec![Edge::None; mask.len()];
        let mut ring = Vec::new();
        for pixel in 0..mask.len() {
            let differs = neighbours(pixel, width, height).any(|other| mask[other] != mask[pixel]);
            if !differs {
                continue;
            }
            if is_background(mask[pixel]) {
                at[pixel] = Edge::Halo;
            } else {
                at[pixel] = Edge::Outline;
                ring.push(pixel);
            }
        }
        for _ in 1..radius {
            let mut next = Vec::new();
            for pixel in ring {
                for other in neighbours(pixel, width, height) {
                    if at[other] == Edge::None && mask[other] == mask[pixel] {
                        at[other] = Edge::Outline;
                        next.push(other);
                    }
                }
            }
            ring = next;
        }
        Self { at }
    }
}

/// The four pixels beside, above and below, those inside the image.
fn neighbours(pixel: usize, width: usize, height: usize) -> impl Iterator<Item = usize> {
    let (x, y) = (pixel % width, pixel / width);
    [
        (x > 0).then(|| pixel - 1),
        (x + 1 < width).then(|| pixel + 1),
        (y > 0).then(|| pixel - width),
        (y + 1 < height).then(|| pixel + width),
    ]
    .into_iter()
    .flatten()
}
