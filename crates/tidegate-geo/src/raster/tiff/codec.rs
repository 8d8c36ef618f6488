//! From the bytes of one chunk to its samples: decompression, prediction undone, little-endian.
//!
//! A chunk decodes to exactly the size that the directory says, or it is an error: nothing grows by what the data claim.

use flate2::{Decompress, FlushDecompress, Status};
use weezl::{BitOrder, LzwStatus, decode::Decoder as LzwDecoder};
use zune_core::bytestream::ZCursor;
use zune_core::colorspace::ColorSpace;
use zune_core::options::DecoderOptions;
use zune_jpeg::JpegDecoder;

use super::directory::{damaged, unsupported};
use super::layout::{Color, Compression, Layout, Predictor, SampleKind};
use crate::image::ImageError;

/// Samples of `n_rows` rows, those of a pixel side by side, each in little-endian order.
pub(super) fn decode(layout: &Layout, raw: Vec<u8>, n_rows: usize) -> Result<Vec<u8>, ImageError> {
    let n_bytes = layout.chunk_bytes(n_rows);
    let mut bytes = match layout.compression {
        Compression::None => fitted(raw, n_bytes)?,
        Compression::Lzw => lzw(&raw, n_bytes)?,
        Compression::Deflate => deflate(&raw, n_bytes)?,
        Compression::PackBits => packbits(&raw, n_bytes)?,
        Compression::Zstd => zstd(&raw, n_bytes)?,
        // These hold eight-bit pixels in their final form.
        Compression::Jpeg => return jpeg(layout, &raw, n_rows),
        Compression::WebP => return webp(layout, &raw, n_rows),
    };
    if layout.big_endian && layout.predictor != Predictor::FloatingPoint {
        swap(&mut bytes, layout.kind.bytes());
    }
    let samples_per_row = layout.chunk_width * layout.samples_per_chunk();
    match layout.predictor {
        Predictor::None => {}
        Predictor::Horizontal => {
            for row in bytes.chunks_exact_mut(layout.row_bytes()) {
                add_horizontally(row, layout.samples_per_chunk(), layout.kind.bytes());
            }
        }
        Predictor::FloatingPoint => {
            let mut scratch = vec![0; layout.row_bytes()];
            for row in bytes.chunks_exact_mut(layout.row_bytes()) {
                join_floats(row, &mut scratch, layout.samples_per_chunk(), samples_per_row);
            }
        }
    }
    match layout.color {
        Color::Plain => {}
        Color::WhiteIsZero => invert(&mut bytes, layout.kind),
        Color::YCbCr => bytes.chunks_exact_mut(3).for_each(ycbcr_to_rgb),
    }
    Ok(bytes)
}

/// Some writers pad chunks; none may be short.
fn fitted(mut bytes: Vec<u8>, n_bytes: usize) -> Result<Vec<u8>, ImageError> {
    if bytes.len() < n_bytes {
        return Err(short(n_bytes, bytes.len()));
    }
    bytes.truncate(n_bytes);
    Ok(bytes)
}

fn short(expected: usize, actual: usize) -> ImageError {
    damaged(format!("a tile or strip has {actual} bytes of samples, expected {expected}"))
}

fn deflate(raw: &[u8], n_bytes: usize) -> Result<Vec<u8>, ImageError> {
    let mut bytes = vec![0; n_bytes];
    let mut inflater = Decompress::new(true);
    loop {
        let (read, written) = (inflater.total_in() as usize, inflater.total_out() as usize);
        if written == n_bytes {
            return Ok(bytes);
        }
        let status = inflater
            .decompress(&raw[read..], &mut bytes[written..], FlushDecompress::Finish)
            .map_err(|error| damaged(format!("a deflated tile or strip: {error}")))?;
        let progressed = (inflater.total_in() as usize, inflater.total_out() as usize) != (read, written);
        if inflater.total_out() as usize != n_bytes && (status == Status::StreamEnd || !progressed) {
            return Err(short(n_bytes, inflater.total_out() as usize));
        }
    }
}

fn lzw(raw: &[u8], n_bytes: usize) -> Result<Vec<u8>, ImageError> {
    let mut bytes = vec![0; n_bytes];
    let mut decoder = LzwDecoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let (mut read, mut written) = (0, 0);
    while written < n_bytes {
        let step = decoder.decode_bytes(&raw[read..], &mut bytes[written..]);
        read += step.consumed_in;
        written += step.consumed_out;
        match step.status {
            Ok(LzwStatus::Ok) if step.consumed_in + step.consumed_out > 0 => {}
            Ok(_) if written == n_bytes => {}
            Ok(_) => return Err(short(n_bytes, written)),
            Err(error) => return Err(damaged(format!("an LZW tile or strip: {error}"))),
        }
    }
    Ok(bytes)
}

/// TIFF 6.0, section 9.
fn packbits(raw: &[u8], n_bytes: usize) -> Result<Vec<u8>, ImageError> {
    let mut bytes = Vec::with_capacity(n_bytes);
    let mut at = 0;
    while bytes.len() < n_bytes {
        let Some(head) = raw.get(at) else { return Err(short(n_bytes, bytes.len())) };
        let head = *head as i8;
        at += 1;
        if head >= 0 {
            let end = at + head as usize + 1;
            bytes.extend_from_slice(raw.get(at..end).ok_or_else(|| short(n_bytes, bytes.len()))?);
            at = end;
        } else if head != -128 {
            let value = *raw.get(at).ok_or_else(|| short(n_bytes, bytes.len()))?;
            bytes.resize(bytes.len() + head.unsigned_abs() as usize + 1, value);
            at += 1;
        }
    }
    bytes.truncate(n_bytes);
    Ok(bytes)
}

fn zstd(raw: &[u8], n_bytes: usize) -> Result<Vec<u8>, ImageError> {
    let mut bytes = vec![0; n_bytes];
    let written = zstd::bulk::decompress_to_buffer(raw, &mut bytes)
        .map_err(|error| damaged(format!("a ZSTD tile or strip: {error}")))?;
    if written == n_bytes { Ok(bytes) } else { Err(short(n_bytes, written)) }
}

fn jpeg(layout: &Layout, raw: &[u8], n_rows: usize) -> Result<Vec<u8>, ImageError> {
    if layout.kind != SampleKind::U8 {
        return Err(unsupported(format!("TIFF of JPEG tiles of {}", layout.kind.name())));
    }
    let stream = match layout.jpeg_tables.as_deref() {
        // Tables without their end mark, then the image without its start mark (TIFF Technical Note 2).
        Some([tables @ .., 0xFF, 0xD9]) if tables.len() >= 2 && raw.len() >= 2 => {
            let mut stream = tables.to_vec();
            stream.extend_from_slice(&raw[2..]);
            stream
        }
        _ => raw.to_vec(),
    };
    let failed = |error: zune_jpeg::errors::DecodeErrors| damaged(format!("a JPEG tile or strip: {error}"));
    let mut decoder = JpegDecoder::new(ZCursor::new(&stream));
    decoder.decode_headers().map_err(failed)?;
    let info = decoder.info().ok_or_else(|| damaged("a JPEG tile has no header".to_owned()))?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    if width > layout.chunk_width || height > layout.chunk_height {
        let what = format!(
            "a JPEG of {width} x {height} pixels stands in a tile of {} x {}",
            layout.chunk_width, layout.chunk_height
        );
        return Err(damaged(what));
    }
    let out = match (layout.samples_per_chunk(), layout.color, decoder.input_colorspace()) {
        (1, ..) => ColorSpace::Luma,
        (3, Color::YCbCr, _) | (3, _, Some(ColorSpace::RGB)) => ColorSpace::RGB,
        // The samples as they are: the stream does not say that they are RGB, but the directory does.
        (3, ..) => ColorSpace::YCbCr,
        (4, ..) => ColorSpace::CMYK,
        (n, ..) => return Err(unsupported(format!("TIFF of JPEG tiles of {n} samples"))),
    };
    if usize::from(info.components) != layout.samples_per_chunk() {
        let what = format!(
            "a JPEG of {} components stands in a tile of {}",
            info.components,
            layout.samples_per_chunk()
        );
        return Err(damaged(what));
    }
    decoder.set_options(DecoderOptions::default().jpeg_set_out_colorspace(out));
    let pixels = decoder.decode().map_err(failed)?;
    placed(layout, pixels, (width, height), layout.samples_per_chunk(), n_rows)
}

fn webp(layout: &Layout, raw: &[u8], n_rows: usize) -> Result<Vec<u8>, ImageError> {
    let failed = |error: ::image::ImageError| damaged(format!("a WebP tile: {error}"));
    let mut reader = ::image::ImageReader::with_format(std::io::Cursor::new(raw), ::image::ImageFormat::WebP);
    let mut limits = ::image::Limits::no_limits();
    (limits.max_image_width, limits.max_image_height) =
        (u32::try_from(layout.chunk_width).ok(), u32::try_from(layout.chunk_height).ok());
    reader.limits(limits);
    let image = reader.decode().map_err(failed)?;
    let size = (image.width() as usize, image.height() as usize);
    let pixels = match layout.samples_per_chunk() {
        3 => image.into_rgb8().into_raw(),
        4 => image.into_rgba8().into_raw(),
        n => return Err(unsupported(format!("TIFF of WebP tiles of {n} samples"))),
    };
    placed(layout, pixels, size, layout.samples_per_chunk(), n_rows)
}

/// Pixels of a smaller image in the upper left of the chunk.
fn placed(
    layout: &Layout,
    pixels: Vec<u8>,
    (width, height): (usize, usize),
    n_samples: usize,
    n_rows: usize,
) -> Result<Vec<u8>, ImageError> {
    if pixels.len() != width * height * n_samples {
        return Err(short(width * height * n_samples, pixels.len()));
    }
    if width == layout.chunk_width && height >= n_rows {
        return fitted(pixels, layout.chunk_bytes(n_rows));
    }
    let mut bytes = vec![0; layout.chunk_bytes(n_rows)];
    let row_bytes = width * n_samples;
    for (target, row) in bytes.chunks_exact_mut(layout.row_bytes()).zip(pixels.chunks_exact(row_bytes.max(1)))
    {
        target[..row_bytes].copy_from_slice(row);
    }
    Ok(bytes)
}

fn swap(bytes: &mut [u8], size: usize) {
    if size > 1 {
        bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
}

/// Each sample is the difference to the one before it of the same band (TIFF 6.0, section 14).
fn add_horizontally(row: &mut [u8], n_samples: usize, size: usize) {
    match size {
        1 => (n_samples..row.len()).for_each(|at| row[at] = row[at].wrapping_add(row[at - n_samples])),
        _ => {
            let step = n_samples * size;
            for at in (step..row.len()).step_by(size) {
                let mut carry = 0u16;
                for byte in 0..size {
                    carry += u16::from(row[at + byte]) + u16::from(row[at + byte - step]);
                    row[at + byte] = carry as u8;
                    carry >>= 8;
                }
            }
        }
    }
}

/// Adobe's TIFF Technical Note 3: bytes of all samples by their significance, differenced.
fn join_floats(row: &mut [u8], scratch: &mut [u8], n_samples: usize, samples_per_row: usize) {
    for at in n_samples..row.len() {
        row[at] = row[at].wrapping_add(row[at - n_samples]);
    }
    scratch.copy_from_slice(row);
    let size = row.len() / samples_per_row.max(1);
    for (index, sample) in row.chunks_exact_mut(size.max(1)).enumerate() {
        for (byte, value) in sample.iter_mut().enumerate() {
            *value = scratch[(size - 1 - byte) * samples_per_row + index];
        }
    }
}

fn invert(bytes: &mut [u8], kind: SampleKind) {
    if matches!(kind, SampleKind::Bit | SampleKind::U8 | SampleKind::U16 | SampleKind::U32) {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
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
