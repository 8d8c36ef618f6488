//! TIFF and GeoTIFF of 8-bit samples, tiled or stripped, read chunk by chunk.

use std::io::{Cursor, ErrorKind};

use tiff::decoder::{ChunkType, Decoder, DecodingResult, Limits};
use tiff::tags::{
    CompressionMethod, PhotometricInterpretation, PlanarConfiguration, Predictor, SampleFormat, Tag,
};
use tiff::{ColorType, TiffError};

use super::geo::GeoTags;
use super::plain::split_alpha;
use super::{Image, ImageError, ImageLimits};

type TiffDecoder<'a> = Decoder<Cursor<&'a [u8]>>;

pub(super) fn decode(bytes: &[u8], limits: &ImageLimits) -> Result<Image, ImageError> {
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(convert)?;
    let header = Header::read(&mut decoder, limits)?;
    let mut decoder_limits = Limits::default();
    decoder_limits.decoding_buffer_size = usize::try_from(limits.max_bytes).unwrap_or(usize::MAX);
    // No chunk is longer than the file.
    decoder_limits.intermediate_buffer_size = bytes.len();
    let mut decoder = decoder.with_limits(decoder_limits);

    let mut samples = read_samples(&mut decoder, &header, bytes)?;
    if header.is_ycbcr {
        samples.chunks_exact_mut(header.channels).for_each(ycbcr_to_rgb);
    }
    let (n_bands, pixels, valid) = match header.has_alpha {
        true => split_alpha(&samples, header.channels - 1),
        false => (header.channels, samples, None),
    };
    let valid = valid.or_else(|| nodata_mask(&pixels, n_bands, header.nodata?));
    Ok(Image {
        width: header.width,
        height: header.height,
        n_bands,
        pixels,
        valid,
        geo: header.geo.reference(),
    })
}

/// What the first directory says, checked.
struct Header {
    width: usize,
    height: usize,
    /// Samples per pixel that the decoder gives, alpha counted.
    channels: usize,
    has_alpha: bool,
    is_ycbcr: bool,
    is_planar: bool,
    is_jpeg: bool,
    chunk_width: usize,
    chunk_height: usize,
    nodata: Option<u8>,
    geo: GeoTags,
}

impl Header {
    fn read(decoder: &mut TiffDecoder<'_>, limits: &ImageLimits) -> Result<Header, ImageError> {
        let (width, height) = decoder.dimensions().map_err(convert)?;
        let samples: u16 = optional(decoder.find_tag_unsigned(Tag::SamplesPerPixel)).unwrap_or(1);
        limits.check(width.into(), height.into(), samples.into())?;
        check_sample_type(decoder)?;

        let color = decoder.colortype().map_err(convert)?;
        let photometric = optional(decoder.find_tag_unsigned(Tag::PhotometricInterpretation))
            .and_then(PhotometricInterpretation::from_u16);
        let extra: Vec<u16> = optional(decoder.find_tag_unsigned_vec(Tag::ExtraSamples)).unwrap_or_default();
        let (channels, has_alpha) = match color {
            ColorType::Gray(8) => (1, false),
            ColorType::RGB(8) | ColorType::YCbCr(8) => (3, false),
            ColorType::RGBA(8) => (4, true),
            ColorType::Multiband { bit_depth: 8, num_samples } => {
                // 1 and 2 are associated and unassociated alpha (TIFF 6.0, section 18).
                (usize::from(num_samples), num_samples > 1 && matches!(extra.last(), Some(1 | 2)))
            }
            other => return Err(unsupported(format!("TIFF of colour type {other:?}"))),
        };
        let is_planar = optional(decoder.find_tag_unsigned(Tag::PlanarConfiguration))
            == Some(PlanarConfiguration::Planar.to_u16());
        let predictor = optional(decoder.find_tag_unsigned(Tag::Predictor));
        if usize::from(samples) != channels
            && !is_planar
            && predictor.is_some_and(|p: u16| p != Predictor::None.to_u16())
        {
            // The decoder would undo the prediction over the wrong samples and give wrong colours.
            return Err(unsupported(format!(
                "TIFF of {samples} samples of which {channels} are colour, with a predictor"
            )));
        }
        let (chunk_width, chunk_height) = chunk_size(decoder, limits, samples)?;
        Ok(Header {
            width: width as usize,
            height: height as usize,
            channels,
            has_alpha,
            is_ycbcr: photometric == Some(PhotometricInterpretation::YCbCr),
            is_planar,
            is_jpeg: optional(decoder.find_tag_unsigned(Tag::Compression))
                == Some(CompressionMethod::ModernJPEG.to_u16()),
            chunk_width,
            chunk_height,
            nodata: nodata(decoder),
            geo: geo_tags(decoder),
        })
    }
}

/// A tag that may be absent; one that cannot be read counts as absent, as it is not needed for the pixels.
fn optional<T>(found: Result<Option<T>, TiffError>) -> Option<T> {
    found.ok().flatten()
}

fn check_sample_type(decoder: &mut TiffDecoder<'_>) -> Result<(), ImageError> {
    let bits: Vec<u16> =
        optional(decoder.find_tag_unsigned_vec(Tag::BitsPerSample)).unwrap_or_else(|| vec![1]);
    let formats: Vec<u16> = optional(decoder.find_tag_unsigned_vec(Tag::SampleFormat)).unwrap_or_default();
    if bits.iter().any(|bits| *bits != 8) {
        return Err(unsupported(format!("TIFF of {} bits per sample", bits.first().unwrap_or(&0))));
    }
    if formats.iter().any(|format| *format != SampleFormat::Uint.to_u16()) {
        return Err(unsupported("TIFF of signed or floating-point samples".to_owned()));
    }
    Ok(())
}

/// Columns and rows of a tile or strip. A tile may overhang the image, but not claim gigabytes.
fn chunk_size(
    decoder: &TiffDecoder<'_>,
    limits: &ImageLimits,
    samples: u16,
) -> Result<(usize, usize), ImageError> {
    let (width, height) = decoder.chunk_dimensions();
    if decoder.get_chunk_type() == ChunkType::Tile {
        limits.check(width.into(), height.into(), samples.into())?;
    }
    Ok((width as usize, height as usize))
}

/// GDAL's nodata value (tag 42113, ASCII), where it is one that a byte can hold.
fn nodata(decoder: &mut TiffDecoder<'_>) -> Option<u8> {
    let text = decoder.get_tag_ascii_string(Tag::GdalNodata).ok()?;
    let value: f64 = text.trim_matches(['\0', ' ']).parse().ok()?;
    (value.fract() == 0.0 && (0.0..=255.0).contains(&value)).then_some(value as u8)
}

/// Invalid are pixels whose every band is `nodata`; `None` where there are none.
fn nodata_mask(pixels: &[u8], n_bands: usize, nodata: u8) -> Option<Vec<bool>> {
    let valid =
        pixels.chunks_exact(n_bands).map(|pixel| pixel.iter().any(|v| *v != nodata)).collect::<Vec<_>>();
    valid.contains(&false).then_some(valid)
}

fn geo_tags(decoder: &mut TiffDecoder<'_>) -> GeoTags {
    let mut doubles = |tag| decoder.get_tag_f64_vec(tag).unwrap_or_default();
    GeoTags {
        pixel_scale: doubles(Tag::ModelPixelScaleTag),
        tiepoint: doubles(Tag::ModelTiepointTag),
        transformation: doubles(Tag::ModelTransformationTag),
        key_directory: decoder.get_tag_u16_vec(Tag::GeoKeyDirectoryTag).unwrap_or_default(),
    }
}

/// All samples, the channels of a pixel side by side.
fn read_samples(decoder: &mut TiffDecoder<'_>, header: &Header, bytes: &[u8]) -> Result<Vec<u8>, ImageError> {
    let Header { width, height, channels, is_planar, .. } = *header;
    let chunks_across = width.div_ceil(header.chunk_width);
    let chunks_down = height.div_ceil(header.chunk_height);
    let n_planes = if is_planar { channels } else { 1 };
    if header.is_jpeg {
        check_jpeg_chunks(decoder, header, bytes)?;
    }
    let mut samples = vec![0; width * height * channels];
    for plane in 0..n_planes {
        for row in 0..chunks_down {
            for column in 0..chunks_across {
                let index = (plane * chunks_down + row) * chunks_across + column;
                let index = u32::try_from(index)
                    .map_err(|_| unsupported("TIFF of over 4 billion tiles".to_owned()))?;
                let DecodingResult::U8(chunk) = decoder.read_chunk(index).map_err(convert)? else {
                    return Err(unsupported("TIFF of other than 8-bit samples".to_owned()));
                };
                let left = column * header.chunk_width;
                let place = Place { left, top: row * header.chunk_height, plane };
                copy_chunk(&chunk, &mut samples, header, &place);
            }
        }
    }
    Ok(samples)
}

/// Where a chunk goes.
struct Place {
    left: usize,
    top: usize,
    plane: usize,
}

fn copy_chunk(chunk: &[u8], samples: &mut [u8], header: &Header, place: &Place) {
    let Header { width, height, channels, .. } = *header;
    let n_columns = header.chunk_width.min(width - place.left);
    let n_rows = header.chunk_height.min(height - place.top);
    let per_pixel = if header.is_planar { 1 } else { channels };
    for (row, line) in chunk.chunks_exact(n_columns * per_pixel).take(n_rows).enumerate() {
        let start = ((place.top + row) * width + place.left) * channels;
        let target = &mut samples[start..start + n_columns * channels];
        if header.is_planar {
            for (pixel, value) in target.chunks_exact_mut(channels).zip(line) {
                pixel[place.plane] = *value;
            }
        } else {
            target.copy_from_slice(line);
        }
    }
}

/// Refuses JPEG chunks whose own header claims another size than the tile's: the decoder would believe it and
/// allocate for it.
fn check_jpeg_chunks(decoder: &mut TiffDecoder<'_>, header: &Header, bytes: &[u8]) -> Result<(), ImageError> {
    let tag = match decoder.get_chunk_type() {
        ChunkType::Strip => Tag::StripOffsets,
        ChunkType::Tile => Tag::TileOffsets,
    };
    let offsets = decoder.get_tag_u64_vec(tag).map_err(convert)?;
    for offset in offsets {
        let chunk = usize::try_from(offset)
            .ok()
            .and_then(|offset| bytes.get(offset..))
            .ok_or(ImageError::Truncated)?;
        let Some((width, height)) = jpeg_size(chunk) else { continue };
        if width > header.chunk_width || height > header.chunk_height {
            let what = format!(
                "a JPEG of {width} x {height} pixels stands in a tile of {} x {}",
                header.chunk_width, header.chunk_height
            );
            return Err(ImageError::Damaged { what });
        }
    }
    Ok(())
}

/// The size in the frame header of a JPEG stream (ITU-T T.81, B.2.2).
fn jpeg_size(stream: &[u8]) -> Option<(usize, usize)> {
    let number = |at: usize| Some(usize::from(u16::from_be_bytes([*stream.get(at)?, *stream.get(at + 1)?])));
    let mut at = 2;
    loop {
        let [0xFF, marker] = *stream.get(at..at + 2)? else { return None };
        match marker {
            // Padding before a marker.
            0xFF => at += 1,
            // Start of frame, apart from tables that share the range.
            0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                return Some((number(at + 7)?, number(at + 5)?));
            }
            0xDA | 0xD9 => return None,
            _ => at += 2 + number(at + 2)?.max(2),
        }
    }
}

/// ITU-R BT.601 with full range, as JPEG File Interchange Format 1.02 defines it.
fn ycbcr_to_rgb(pixel: &mut [u8]) {
    let [y, cb, cr] = [0, 1, 2].map(|band| f32::from(pixel[band]));
    let (cb, cr) = (cb - 128.0, cr - 128.0);
    let rgb = [y + 1.402 * cr, y - 0.344_136 * cb - 0.714_136 * cr, y + 1.772 * cb];
    for (target, value) in pixel.iter_mut().zip(rgb) {
        *target = value.round().clamp(0.0, 255.0) as u8;
    }
}

fn unsupported(what: String) -> ImageError {
    ImageError::Unsupported { what }
}

fn convert(error: TiffError) -> ImageError {
    match error {
        TiffError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => ImageError::Truncated,
        TiffError::IoError(error) => ImageError::Damaged { what: error.to_string() },
        TiffError::UnsupportedError(error) => unsupported(format!("this TIFF ({error})")),
        error => ImageError::Damaged { what: error.to_string() },
    }
}
