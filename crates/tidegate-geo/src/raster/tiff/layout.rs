//! How one image of a TIFF file is cut into chunks, and how its samples are written.

use super::directory::{Directory, TiffFile, damaged, unsupported};
use crate::image::ImageError;

/// One image of a file: what its directory says, checked.
pub(super) struct Layout {
    pub width: usize,
    pub height: usize,
    pub chunk_width: usize,
    /// Rows of a chunk; less in the last strip of a stripped image.
    pub chunk_height: usize,
    pub is_tiled: bool,
    pub n_samples: usize,
    pub is_planar: bool,
    pub kind: SampleKind,
    pub compression: Compression,
    pub predictor: Predictor,
    pub color: Color,
    /// The last sample of a pixel is alpha.
    pub has_alpha: bool,
    pub jpeg_tables: Option<Vec<u8>>,
    pub offsets: Vec<u64>,
    pub sizes: Vec<u64>,
    pub big_endian: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SampleKind {
    /// One bit, eight to a byte.
    Bit,
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    F16,
    F32,
    F64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Lzw,
    Deflate,
    PackBits,
    Jpeg,
    Zstd,
    WebP,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    Horizontal,
    FloatingPoint,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Color {
    /// Samples are what they say.
    Plain,
    /// 0 is white.
    WhiteIsZero,
    YCbCr,
}

/// Of one decoded tile or strip. Beyond it a file is not read by pieces but whole, and memory is not bounded.
pub(super) const MAX_CHUNK_BYTES: u64 = 256 * 1024 * 1024;

/// Beyond it every number of bytes could overflow; no sensor has as many.
const MAX_SAMPLES: u64 = 4096;

impl SampleKind {
    pub fn bytes(self) -> usize {
        match self {
            Self::Bit | Self::U8 | Self::I8 => 1,
            Self::U16 | Self::I16 | Self::F16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Bit => "1 bit",
            Self::U8 => "uint8",
            Self::I8 => "int8",
            Self::U16 => "uint16",
            Self::I16 => "int16",
            Self::U32 => "uint32",
            Self::I32 => "int32",
            Self::F16 => "float16",
            Self::F32 => "float32",
            Self::F64 => "float64",
        }
    }
}

impl Compression {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Lzw => "lzw",
            Self::Deflate => "deflate",
            Self::PackBits => "packbits",
            Self::Jpeg => "jpeg",
            Self::Zstd => "zstd",
            Self::WebP => "webp",
        }
    }
}

impl Layout {
    pub fn read(file: &TiffFile, directory: &Directory) -> Result<Layout, ImageError> {
        let size = |tag, name| -> Result<usize, ImageError> {
            match file.first(directory, tag)? {
                Some(size) if size > 0 => u32::try_from(size)
                    .map(|size| size as usize)
                    .map_err(|_| damaged(format!("its {name} is {size}"))),
                _ => Err(damaged(format!("it gives no {name}"))),
            }
        };
        let (width, height) = (size(IMAGE_WIDTH, "width")?, size(IMAGE_LENGTH, "height")?);
        let n_samples = file.first(directory, SAMPLES_PER_PIXEL)?.unwrap_or(1);
        if n_samples == 0 || n_samples > MAX_SAMPLES {
            return Err(damaged(format!("it claims {n_samples} samples a pixel")));
        }
        let n_samples = n_samples as usize;
        let kind = sample_kind(file, directory)?;
        let compression = compression(file.first(directory, COMPRESSION)?.unwrap_or(1))?;
        let color = color(file.first(directory, PHOTOMETRIC)?, n_samples)?;
        if color == Color::YCbCr {
            check_ycbcr(file, directory, kind, compression, n_samples)?;
        }
        let is_tiled = file.first(directory, TILE_WIDTH)?.is_some();
        let (chunk_width, chunk_height) = if is_tiled {
            (size(TILE_WIDTH, "tile width")?, size(TILE_LENGTH, "tile height")?)
        } else {
            let rows = file.first(directory, ROWS_PER_STRIP)?.unwrap_or(u64::MAX).min(height as u64);
            (width, (rows as usize).max(1))
        };
        let (offset_tag, size_tag) =
            if is_tiled { (TILE_OFFSETS, TILE_BYTE_COUNTS) } else { (STRIP_OFFSETS, STRIP_BYTE_COUNTS) };
        let extra = file.unsigned(directory, EXTRA_SAMPLES)?.unwrap_or_default();
        let mut layout = Layout {
            width,
            height,
            chunk_width,
            chunk_height,
            is_tiled,
            n_samples,
            is_planar: file.first(directory, PLANAR_CONFIGURATION)? == Some(2),
            kind,
            compression,
            predictor: predictor(file.first(directory, PREDICTOR)?.unwrap_or(1), kind)?,
            color,
            // 1 and 2 are associated and unassociated alpha (TIFF 6.0, section 18).
            has_alpha: n_samples > 1 && matches!(extra.last(), Some(1 | 2)),
            jpeg_tables: file.opaque(directory, JPEG_TABLES)?,
            offsets: file.unsigned(directory, offset_tag)?.unwrap_or_default(),
            sizes: file.unsigned(directory, size_tag)?.unwrap_or_default(),
            big_endian: file.big_endian,
        };
        layout.check(file)?;
        Ok(layout)
    }

    fn check(&mut self, file: &TiffFile) -> Result<(), ImageError> {
        // Saturated, it is more than any file has places for.
        let n_chunks =
            self.chunks_across().saturating_mul(self.chunks_down()).saturating_mul(self.n_planes());
        if self.sizes.is_empty() && self.compression == Compression::None && self.offsets.len() >= n_chunks {
            // Some writers leave out what can be computed.
            self.sizes = vec![self.chunk_bytes(self.chunk_height) as u64; n_chunks];
        }
        if self.offsets.len() < n_chunks || self.sizes.len() < n_chunks {
            let what = format!(
                "it has {n_chunks} tiles or strips, but places of {} and sizes of {}",
                self.offsets.len(),
                self.sizes.len()
            );
            return Err(damaged(what));
        }
        if self.reads_whole_chunks() && self.chunk_bytes(self.chunk_height) as u64 > MAX_CHUNK_BYTES {
            let (width, height) = (self.chunk_width as u64, self.chunk_height as u64);
            let limit = format!("{MAX_CHUNK_BYTES} bytes in one tile or strip");
            return Err(ImageError::TooLarge { width, height, limit });
        }
        let size_bytes = file.size_bytes();
        let beyond =
            |(offset, size): (&u64, &u64)| offset.checked_add(*size).is_none_or(|end| end > size_bytes);
        if self.offsets.iter().zip(&self.sizes).any(beyond) {
            return Err(ImageError::Truncated);
        }
        Ok(())
    }

    /// Uncompressed strips can be read row by row, whatever their height.
    pub fn reads_whole_chunks(&self) -> bool {
        self.compression != Compression::None || self.is_tiled
    }

    pub fn chunks_across(&self) -> usize {
        self.width.div_ceil(self.chunk_width)
    }

    pub fn chunks_down(&self) -> usize {
        self.height.div_ceil(self.chunk_height)
    }

    /// Each plane has chunks of its own where samples are not side by side.
    pub fn n_planes(&self) -> usize {
        if self.is_planar { self.n_samples } else { 1 }
    }

    /// Samples of a pixel in one chunk.
    pub fn samples_per_chunk(&self) -> usize {
        if self.is_planar { 1 } else { self.n_samples }
    }

    pub fn row_bytes(&self) -> usize {
        let n_samples = self.chunk_width * self.samples_per_chunk();
        if self.kind == SampleKind::Bit { n_samples.div_ceil(8) } else { n_samples * self.kind.bytes() }
    }

    /// Decoded bytes of a chunk of `n_rows`.
    pub fn chunk_bytes(&self, n_rows: usize) -> usize {
        self.row_bytes().saturating_mul(n_rows)
    }
}

fn sample_kind(file: &TiffFile, directory: &Directory) -> Result<SampleKind, ImageError> {
    let bits = file.unsigned(directory, BITS_PER_SAMPLE)?.unwrap_or_else(|| vec![1]);
    let formats = file.unsigned(directory, SAMPLE_FORMAT)?.unwrap_or_default();
    let (bit, format) = (bits.first().copied().unwrap_or(1), formats.first().copied().unwrap_or(UINT));
    if bits.iter().any(|other| *other != bit) || formats.iter().any(|other| *other != format) {
        return Err(unsupported("TIFF of bands of different types".to_owned()));
    }
    match (bit, format) {
        (1, UINT) => Ok(SampleKind::Bit),
        // 4 is "undefined", which writers use for plain bytes.
        (8, UINT | 4) => Ok(SampleKind::U8),
        (8, INT) => Ok(SampleKind::I8),
        (16, UINT | 4) => Ok(SampleKind::U16),
        (16, INT) => Ok(SampleKind::I16),
        (32, UINT) => Ok(SampleKind::U32),
        (32, INT) => Ok(SampleKind::I32),
        (16, FLOAT) => Ok(SampleKind::F16),
        (32, FLOAT) => Ok(SampleKind::F32),
        (64, FLOAT) => Ok(SampleKind::F64),
        (bits, FLOAT) => Err(unsupported(format!("TIFF of floating-point samples of {bits} bits"))),
        (bits, 5 | 6) => Err(unsupported(format!("TIFF of complex samples of {bits} bits"))),
        (bits, _) => Err(unsupported(format!("TIFF of {bits} bits per sample"))),
    }
}

fn compression(code: u64) -> Result<Compression, ImageError> {
    let name = match code {
        1 => return Ok(Compression::None),
        5 => return Ok(Compression::Lzw),
        8 | 32_946 => return Ok(Compression::Deflate),
        32_773 => return Ok(Compression::PackBits),
        7 => return Ok(Compression::Jpeg),
        50_000 => return Ok(Compression::Zstd),
        50_001 => return Ok(Compression::WebP),
        2..=4 => "fax",
        6 => "old-style JPEG",
        34_712 => "JPEG 2000",
        34_887 => "LERC",
        34_925 => "LZMA",
        50_002 | 52_546 => "JPEG XL",
        _ => return Err(unsupported(format!("TIFF of compression {code}"))),
    };
    Err(unsupported(format!("TIFF of {name} compression")))
}

fn predictor(code: u64, kind: SampleKind) -> Result<Predictor, ImageError> {
    match (code, kind) {
        (1, _) => Ok(Predictor::None),
        (2, SampleKind::Bit) => Err(unsupported("TIFF of single bits with a predictor".to_owned())),
        (2, _) => Ok(Predictor::Horizontal),
        (3, SampleKind::F16 | SampleKind::F32 | SampleKind::F64) => Ok(Predictor::FloatingPoint),
        _ => Err(unsupported(format!("TIFF of {} with predictor {code}", kind.name()))),
    }
}

fn color(photometric: Option<u64>, n_samples: usize) -> Result<Color, ImageError> {
    match photometric {
        // 4 is a transparency mask.
        None | Some(1 | 2 | 4) => Ok(Color::Plain),
        Some(0) => Ok(Color::WhiteIsZero),
        Some(6) if n_samples >= 3 => Ok(Color::YCbCr),
        Some(3) => Err(unsupported("TIFF of colour type Palette".to_owned())),
        Some(5) => Err(unsupported("TIFF of colour type CMYK".to_owned())),
        Some(other) => Err(unsupported(format!("TIFF of photometric interpretation {other}"))),
    }
}

/// Outside JPEG, chroma must have as many samples as luma.
fn check_ycbcr(
    file: &TiffFile,
    directory: &Directory,
    kind: SampleKind,
    compression: Compression,
    n_samples: usize,
) -> Result<(), ImageError> {
    let subsampling = file.unsigned(directory, YCBCR_SUBSAMPLING)?.unwrap_or_else(|| vec![2, 2]);
    let usable = kind == SampleKind::U8 && n_samples == 3;
    if usable && (compression == Compression::Jpeg || subsampling == [1, 1]) {
        return Ok(());
    }
    Err(unsupported("TIFF of colour type YCbCr other than JPEG".to_owned()))
}

const UINT: u64 = 1;
const INT: u64 = 2;
const FLOAT: u64 = 3;

// Tags of TIFF 6.0.
const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const COMPRESSION: u16 = 259;
const PHOTOMETRIC: u16 = 262;
const STRIP_OFFSETS: u16 = 273;
const SAMPLES_PER_PIXEL: u16 = 277;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTE_COUNTS: u16 = 279;
const PLANAR_CONFIGURATION: u16 = 284;
const PREDICTOR: u16 = 317;
const TILE_WIDTH: u16 = 322;
const TILE_LENGTH: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;
const JPEG_TABLES: u16 = 347;
const YCBCR_SUBSAMPLING: u16 = 530;
