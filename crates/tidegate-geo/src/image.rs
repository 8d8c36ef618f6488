//! Images: pixels, which of them are valid, and where on Earth they lie.
//!
//! Whole images in memory, bounded by [`ImageLimits`], which are checked on the header before anything is allocated.
//! Knows no model. Rasters beyond memory are read by strips: see [`crate::raster`].

pub(crate) mod geo;
mod plain;
mod tiff;

pub use geo::{CrsUnit, GeoReference, GeoTags};

/// Eight-bit samples, row by row from the top left.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub width: usize,
    pub height: usize,
    /// Bands per pixel; an alpha channel is not one of them, it becomes `valid`.
    pub n_bands: usize,
    /// `height x width x n_bands`, the bands of a pixel side by side.
    pub pixels: Vec<u8>,
    /// `height x width`; false where alpha is 0 or the pixel is nodata. `None`: all are valid.
    pub valid: Option<Vec<bool>>,
    pub geo: Option<GeoReference>,
}

/// How large an image may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImageLimits {
    pub max_pixels: u64,
    /// Of decoded samples: `width x height x channels`.
    pub max_bytes: u64,
}

impl ImageLimits {
    /// Of up to four bands.
    pub fn with_max_pixels(max_pixels: u64) -> Self {
        Self { max_pixels, max_bytes: max_pixels.saturating_mul(4) }
    }
}

impl Default for ImageLimits {
    /// 100 million pixels (10,000 x 10,000) of up to four bands: what fits a modest server beside the probabilities.
    fn default() -> Self {
        Self::with_max_pixels(100_000_000)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    #[error("not an image, it looks like {looks_like}: give a PNG, JPEG, WebP or GeoTIFF")]
    NotAnImage { looks_like: &'static str },
    #[error(
        "the image of {width} x {height} pixels is over the limit of {limit}: cut it into pieces or raise the limit"
    )]
    TooLarge { width: u64, height: u64, limit: String },
    #[error("the image ends too early: it was cut off while copying or uploading")]
    Truncated,
    #[error("{what} is not supported: convert the image to an 8-bit PNG, JPEG, WebP or GeoTIFF")]
    Unsupported { what: String },
    #[error("the image is damaged: {what}")]
    Damaged { what: String },
    #[error("failed to read the image: {what}")]
    Unreadable { what: String },
}

/// Reads a PNG, JPEG, WebP or (Geo)TIFF, told apart by its first bytes.
pub fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<Image, ImageError> {
    match sniff(bytes) {
        Ok(Format::Tiff) => tiff::decode(bytes, limits),
        Ok(Format::Plain(format)) => plain::decode(bytes, format, limits),
        Err(looks_like) => Err(ImageError::NotAnImage { looks_like }),
    }
}

enum Format {
    Tiff,
    Plain(::image::ImageFormat),
}

/// The format by its signature, or what the bytes look like instead.
fn sniff(bytes: &[u8]) -> Result<Format, &'static str> {
    use ::image::ImageFormat::{Jpeg, Png, WebP};
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => Ok(Format::Plain(Png)),
        [0xFF, 0xD8, 0xFF, ..] => Ok(Format::Plain(Jpeg)),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Format::Plain(WebP)),
        [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => Ok(Format::Tiff),
        [] => Err("an empty file"),
        [b'G', b'I', b'F', b'8', ..] => Err("a GIF"),
        [b'B', b'M', ..] => Err("a BMP"),
        [b'%', b'P', b'D', b'F', ..] => Err("a PDF"),
        [b'P', b'K', 3, 4, ..] => Err("a zip archive"),
        [0x1F, 0x8B, ..] => Err("a gzip archive"),
        [0, 0, 0, _, b'f', b't', b'y', b'p', ..] => Err("a HEIC, AVIF or video file"),
        [0, 0, 0, 12, b'j', b'P', ..] => Err("a JPEG 2000"),
        _ => Err(sniff_text(bytes)),
    }
}

fn sniff_text(bytes: &[u8]) -> &'static str {
    let head = &bytes[..bytes.len().min(512)];
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // A character may be cut in two at the end of the head.
        Err(error) if error.valid_up_to() + 4 > head.len() => {
            std::str::from_utf8(&head[..error.valid_up_to()]).unwrap_or("")
        }
        Err(_) => return "binary data of another kind",
    };
    let text = text.trim_start_matches('\u{feff}').trim_start().to_ascii_lowercase();
    if text.contains('\0') {
        "binary data of another kind"
    } else if text.starts_with('{') || text.starts_with('[') {
        "JSON"
    } else if text.starts_with("<!doctype html") || text.starts_with("<html") {
        "a web page"
    } else if text.starts_with('<') {
        "XML"
    } else {
        "text"
    }
}

impl ImageLimits {
    /// Refuses an image by its header. `channels` counts alpha.
    fn check(&self, width: u64, height: u64, channels: u64) -> Result<(), ImageError> {
        let n_pixels = width.saturating_mul(height);
        let limit = if n_pixels > self.max_pixels {
            format!("{} pixels", self.max_pixels)
        } else if n_pixels.saturating_mul(channels) > self.max_bytes {
            format!("{} bytes of samples", self.max_bytes)
        } else {
            return Ok(());
        };
        Err(ImageError::TooLarge { width, height, limit })
    }
}
