//! Decoding: good images of every format, lying headers, and whatever bytes an attacker sends.

use std::io::Cursor;
use std::sync::LazyLock;

use image::{DynamicImage, ImageFormat, RgbImage, RgbaImage};
use proptest::prelude::*;
use tidegate_geo::{CrsUnit, Image, ImageError, ImageLimits, decode};
use tiff::encoder::{Compression, TiffEncoder, colortype};
use tiff::tags::Tag;

const WIDTH: u32 = 37;
const HEIGHT: u32 = 23;

fn rgb() -> RgbImage {
    RgbImage::from_fn(WIDTH, HEIGHT, |x, y| image::Rgb([(x * 6) as u8, (y * 10) as u8, ((x + y) * 4) as u8]))
}

fn encode(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn decode_default(bytes: &[u8]) -> Result<Image, ImageError> {
    decode(bytes, &ImageLimits::default())
}

#[test]
fn lossless_formats_come_back_as_they_were() {
    let expected = rgb().into_raw();
    for format in [ImageFormat::Png, ImageFormat::WebP] {
        let image = decode_default(&encode(rgb().into(), format)).unwrap();
        assert_eq!((image.width, image.height, image.n_bands), (37, 23, 3));
        assert_eq!(image.pixels, expected, "{format:?}");
        assert_eq!((image.valid, image.geo), (None, None));
    }
    let grey = DynamicImage::from(rgb()).into_luma8();
    let image = decode_default(&encode(grey.clone().into(), ImageFormat::Png)).unwrap();
    assert_eq!((image.n_bands, image.pixels), (1, grey.into_raw()));

    let wide = DynamicImage::from(rgb()).into_rgb16();
    let image = decode_default(&encode(wide.into(), ImageFormat::Png)).unwrap();
    assert_eq!(image.pixels, expected, "16 bits are brought to 8");
}

#[test]
fn a_jpeg_comes_back_nearly() {
    let image = decode_default(&encode(rgb().into(), ImageFormat::Jpeg)).unwrap();
    let expected = rgb().into_raw();
    let error = image.pixels.iter().zip(&expected).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>();
    assert!(error / (expected.len() as f64) < 8.0);
}

#[test]
fn alpha_becomes_validity() {
    let rgba = RgbaImage::from_fn(4, 1, |x, _| image::Rgba([x as u8, 2, 3, if x == 1 { 0 } else { 255 }]));
    let image = decode_default(&encode(rgba.clone().into(), ImageFormat::Png)).unwrap();
    assert_eq!(image.n_bands, 3);
    assert_eq!(image.pixels, [0, 2, 3, 1, 2, 3, 2, 2, 3, 3, 2, 3]);
    assert_eq!(image.valid, Some(vec![true, false, true, true]));

    let mut opaque = rgba;
    opaque.pixels_mut().for_each(|pixel| pixel[3] = 255);
    let image = decode_default(&encode(opaque.into(), ImageFormat::Png)).unwrap();
    assert_eq!(image.valid, None, "all valid needs no mask");
}

/// A georeferenced RGB TIFF by the encoder of the `tiff` crate.
fn geotiff(compression: Compression) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut bytes).unwrap().with_compression(compression);
    let mut image = encoder.new_image::<colortype::RGB8>(WIDTH, HEIGHT).unwrap();
    image.rows_per_strip(7).unwrap();
    let tags = image.encoder();
    tags.write_tag(Tag::ModelPixelScaleTag, &[0.5, 0.5, 0.0][..]).unwrap();
    tags.write_tag(Tag::ModelTiepointTag, &[0.0, 0.0, 0.0, 1000.0, 5000.0, 0.0][..]).unwrap();
    let keys: [u16; 12] = [1, 1, 0, 2, 1024, 0, 1, 1, 3072, 0, 1, 32_645];
    tags.write_tag(Tag::GeoKeyDirectoryTag, &keys[..]).unwrap();
    tags.write_tag(Tag::GdalNodata, "0").unwrap();
    image.write_data(&rgb().into_raw()).unwrap();
    bytes.into_inner()
}

#[test]
fn a_geotiff_brings_its_georeference_and_nodata() {
    for (name, compression) in [
        ("uncompressed", Compression::Uncompressed),
        ("lzw", Compression::Lzw),
        ("deflate", Compression::Deflate(tiff::encoder::DeflateLevel::Fast)),
        ("packbits", Compression::Packbits),
    ] {
        let image = decode_default(&geotiff(compression)).unwrap();
        assert_eq!(image.pixels, rgb().into_raw(), "{name}");
        let geo = image.geo.unwrap();
        assert_eq!((geo.epsg, geo.unit), (Some(32_645), CrsUnit::Metre));
        assert_eq!((geo.origin_x, geo.origin_y), (1000.0, 5000.0));
        assert_eq!(geo.ground_resolution_m(image.height), Some(0.5));
        let valid = image.valid.unwrap();
        assert!(!valid[0], "the corner is black, and 0 is nodata");
        assert_eq!(valid.iter().filter(|valid| !**valid).count(), 1);
    }
}

/// A TIFF written by hand: what an encoder would refuse to write.
struct HandmadeTiff {
    /// Tag, type (3: 16 bits, 4: 32 bits), values.
    entries: Vec<(u16, u16, Vec<u32>)>,
    /// Stripped or tiled data; its offset and size become the value of the tag.
    data: Vec<Vec<u8>>,
    is_tiled: bool,
}

impl HandmadeTiff {
    /// An uncompressed grey image of one strip.
    fn grey(width: u32, height: u32, data: Vec<u8>) -> Self {
        let entries = vec![
            (256, 4, vec![width]),
            (257, 4, vec![height]),
            (258, 3, vec![8]),
            (259, 3, vec![1]),
            (262, 3, vec![1]),
            (277, 3, vec![1]),
            (278, 4, vec![height]),
        ];
        Self { entries, data: vec![data], is_tiled: false }
    }

    fn set(mut self, tag: u16, kind: u16, values: &[u32]) -> Self {
        self.entries.retain(|entry| entry.0 != tag);
        self.entries.push((tag, kind, values.to_vec()));
        self
    }

    fn tiled(mut self, width: u32, height: u32, data: Vec<Vec<u8>>) -> Self {
        self.entries.retain(|entry| entry.0 != 278);
        self.data = data;
        self.is_tiled = true;
        self.set(322, 4, &[width]).set(323, 4, &[height])
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = vec![b'I', b'I', 42, 0, 0, 0, 0, 0];
        let mut offsets = Vec::new();
        for chunk in &self.data {
            offsets.push(bytes.len() as u32);
            bytes.extend_from_slice(chunk);
        }
        let sizes = self.data.iter().map(|chunk| chunk.len() as u32).collect();
        let (offset_tag, size_tag) = if self.is_tiled { (324, 325) } else { (273, 279) };
        let mut entries = self.entries.clone();
        entries.push((offset_tag, 4, offsets));
        entries.push((size_tag, 4, sizes));
        entries.sort();
        let mut directory = (entries.len() as u16).to_le_bytes().to_vec();
        for (tag, kind, values) in entries {
            let packed = values.iter().flat_map(|value| match kind {
                3 => (*value as u16).to_le_bytes().to_vec(),
                _ => value.to_le_bytes().to_vec(),
            });
            let mut packed = packed.collect::<Vec<u8>>();
            let count = values.len() as u32;
            if packed.len() > 4 {
                let offset = bytes.len() as u32;
                bytes.extend_from_slice(&packed);
                packed = offset.to_le_bytes().to_vec();
            }
            packed.resize(4, 0);
            directory.extend_from_slice(&tag.to_le_bytes());
            directory.extend_from_slice(&kind.to_le_bytes());
            directory.extend_from_slice(&count.to_le_bytes());
            directory.extend_from_slice(&packed);
        }
        directory.extend_from_slice(&[0; 4]);
        let start = bytes.len() as u32;
        bytes[4..8].copy_from_slice(&start.to_le_bytes());
        bytes.extend_from_slice(&directory);
        bytes
    }
}

#[test]
fn tiles_planes_and_white_as_zero_are_put_right() {
    let grey = HandmadeTiff::grey(3, 2, vec![1, 2, 3, 4, 5, 6]);
    assert_eq!(decode_default(&grey.bytes()).unwrap().pixels, [1, 2, 3, 4, 5, 6]);

    let inverted = HandmadeTiff::grey(3, 1, vec![0, 1, 255]).set(262, 3, &[0]);
    assert_eq!(decode_default(&inverted.bytes()).unwrap().pixels, [255, 254, 0]);

    // 3 x 2 pixels in 2 x 2 tiles: the second overhangs.
    let tiled = HandmadeTiff::grey(3, 2, vec![]).tiled(2, 2, vec![vec![1, 2, 4, 5], vec![3, 0, 6, 0]]);
    assert_eq!(decode_default(&tiled.bytes()).unwrap().pixels, [1, 2, 3, 4, 5, 6]);

    let mut planar = HandmadeTiff::grey(2, 1, vec![]);
    planar.data = vec![vec![1, 2], vec![3, 4], vec![5, 6]];
    let planar = planar.set(262, 3, &[2]).set(258, 3, &[8, 8, 8]).set(277, 3, &[3]).set(284, 3, &[2]);
    assert_eq!(decode_default(&planar.bytes()).unwrap().pixels, [1, 3, 5, 2, 4, 6]);

    let alpha = HandmadeTiff::grey(2, 1, vec![1, 2, 3, 255, 4, 5, 6, 0])
        .set(262, 3, &[2])
        .set(258, 3, &[8; 4])
        .set(277, 3, &[4])
        .set(338, 3, &[2]);
    let image = decode_default(&alpha.bytes()).unwrap();
    assert_eq!((image.pixels, image.valid), (vec![1, 2, 3, 4, 5, 6], Some(vec![true, false])));

    let grey_alpha =
        HandmadeTiff::grey(2, 1, vec![7, 255, 8, 0]).set(258, 3, &[8; 2]).set(277, 3, &[2]).set(338, 3, &[2]);
    let image = decode_default(&grey_alpha.bytes()).unwrap();
    assert_eq!((image.pixels, image.valid), (vec![7, 8], Some(vec![true, false])));

    let ycbcr = HandmadeTiff::grey(2, 1, vec![76, 85, 255, 29, 255, 107])
        .set(262, 3, &[6])
        .set(258, 3, &[8; 3])
        .set(277, 3, &[3])
        .set(530, 3, &[1, 1]);
    let image = decode_default(&ycbcr.bytes()).unwrap();
    assert!(
        image.pixels.iter().zip([254u8, 0, 0, 0, 0, 254]).all(|(a, b)| a.abs_diff(b) <= 1),
        "{:?}",
        image.pixels
    );
}

#[test]
fn headers_that_claim_too_much_are_refused_before_allocating() {
    let mut png = encode(rgb().into(), ImageFormat::Png);
    png[16..24].copy_from_slice(&[0, 0, 0x75, 0x30, 0, 0, 0x75, 0x30]);
    let crc = crc32(&png[12..29]);
    png[29..33].copy_from_slice(&crc.to_be_bytes());
    let error = decode_default(&png).unwrap_err();
    let limit = "100000000 pixels".to_owned();
    assert_eq!(error, ImageError::TooLarge { width: 30_000, height: 30_000, limit: limit.clone() });

    let tiff = HandmadeTiff::grey(30_000, 30_000, vec![0; 4]).bytes();
    assert_eq!(decode_default(&tiff), Err(ImageError::TooLarge { width: 30_000, height: 30_000, limit }));
    let tiff = HandmadeTiff::grey(u32::MAX, u32::MAX, vec![0; 4]).bytes();
    assert!(matches!(decode_default(&tiff), Err(ImageError::TooLarge { .. })));

    let huge_tile = HandmadeTiff::grey(2, 2, vec![]).tiled(1 << 31, 16, vec![vec![0; 16]]).bytes();
    assert!(matches!(decode_default(&huge_tile), Err(ImageError::TooLarge { .. })));

    // Many bands: few pixels, many bytes.
    let bands = HandmadeTiff::grey(9000, 9000, vec![0; 4]).set(258, 3, &[8; 60]).set(277, 3, &[60]).bytes();
    let error = decode_default(&bands).unwrap_err();
    assert!(error.to_string().contains("400000000 bytes"), "{error}");

    // A JPEG of 37 x 23 in a tile of 16 x 16 that says otherwise.
    let jpeg = encode(rgb().into(), ImageFormat::Jpeg);
    let lying = HandmadeTiff::grey(16, 16, vec![])
        .tiled(16, 16, vec![jpeg])
        .set(259, 3, &[7])
        .set(262, 3, &[6])
        .set(258, 3, &[8; 3])
        .set(277, 3, &[3]);
    let error = decode_default(&lying.bytes()).unwrap_err();
    assert!(error.to_string().contains("37 x 23 pixels stands in a tile of 16 x 16"), "{error}");

    let small = ImageLimits { max_pixels: 850, ..ImageLimits::default() };
    for format in [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP] {
        let error = decode(&encode(rgb().into(), format), &small).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { width: 37, height: 23, .. }), "{format:?}: {error}");
    }
}

/// CRC-32 as PNG wants it (ISO 3309), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc)))
}

#[test]
fn what_is_no_image_is_said() {
    let cases: &[(&[u8], &str)] = &[
        (b"", "an empty file"),
        (b"hello", "text"),
        ("caf\u{e9}".as_bytes(), "text"),
        (b"{\"a\": 1}", "JSON"),
        (b"<!DOCTYPE html><html>", "a web page"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"%PDF-1.7", "a PDF"),
        (b"GIF89a", "a GIF"),
        (&[0, 1, 2, 3, 0xFF], "binary data of another kind"),
    ];
    for (bytes, looks_like) in cases {
        assert_eq!(decode_default(bytes), Err(ImageError::NotAnImage { looks_like }));
    }
}

#[test]
fn unsupported_tiffs_are_named() {
    let grey = || HandmadeTiff::grey(2, 2, vec![0; 8]);
    for (tiff, what) in [
        (grey().set(258, 3, &[16]), "uint16 samples"),
        (grey().set(258, 3, &[12]), "12 bits per sample"),
        (grey().set(339, 3, &[2]), "int8 samples"),
        (grey().set(262, 3, &[3]), "Palette"),
        (grey().set(259, 3, &[34_887]), "LERC compression"),
    ] {
        let error = decode_default(&tiff.bytes()).unwrap_err();
        assert!(matches!(error, ImageError::Unsupported { .. }), "{what}: {error}");
        assert!(error.to_string().contains(what), "{error}");
    }
}

/// One small file of each kind of decoder.
static SAMPLES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(samples);

fn samples() -> Vec<Vec<u8>> {
    let jpeg = encode(rgb().into(), ImageFormat::Jpeg);
    let tiled_jpeg = HandmadeTiff::grey(WIDTH, HEIGHT, vec![])
        .tiled(48, 32, vec![jpeg.clone()])
        .set(259, 3, &[7])
        .set(262, 3, &[6])
        .set(258, 3, &[8; 3])
        .set(277, 3, &[3]);
    vec![
        encode(rgb().into(), ImageFormat::Png),
        jpeg,
        encode(rgb().into(), ImageFormat::WebP),
        geotiff(Compression::Uncompressed),
        geotiff(Compression::Lzw),
        geotiff(Compression::Deflate(tiff::encoder::DeflateLevel::Fast)),
        tiled_jpeg.bytes(),
        HandmadeTiff::grey(3, 2, vec![]).tiled(2, 2, vec![vec![1, 2, 4, 5], vec![3, 0, 6, 0]]).bytes(),
    ]
}

#[test]
fn a_file_cut_short_is_an_error_wherever_it_is_cut() {
    for (index, sample) in SAMPLES.iter().enumerate() {
        // The directory of these TIFFs comes last, so every cut loses something that is needed; at the very end formats
        // have checksums and padding that a decoder may do without.
        for length in (0..sample.len() - 16).step_by(97) {
            let result = decode_default(&sample[..length]);
            let only_padding = sample[length..].iter().all(|byte| *byte == 0);
            assert!(result.is_err() || only_padding, "sample {index} cut to {length} of {}", sample.len());
        }
        let half = decode_default(&sample[..sample.len() / 2]).unwrap_err();
        assert!(!matches!(half, ImageError::NotAnImage { .. }), "sample {index}: {half}");
    }
    let png = &SAMPLES[0];
    assert_eq!(decode_default(&png[..png.len() / 2]), Err(ImageError::Truncated));
    let jpeg = &SAMPLES[1];
    assert_eq!(decode_default(&jpeg[..jpeg.len() / 2]), Err(ImageError::Truncated));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Damaged files give an image within the limits or an error, never a panic.
    #[test]
    fn damaged_files_do_no_harm(
        which in 0usize..8,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = SAMPLES[which].clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let limits = ImageLimits { max_pixels: 100_000, max_bytes: 400_000 };
        if let Ok(image) = decode(&bytes, &limits) {
            prop_assert!(image.width * image.height <= 100_000);
            prop_assert_eq!(image.pixels.len(), image.width * image.height * image.n_bands);
        }
    }

    /// Random bytes behind each signature.
    #[test]
    fn random_bytes_do_no_harm(which in 0usize..8, kept in 4usize..40, tail: Vec<u8>) {
        let mut bytes = SAMPLES[which].clone();
        bytes.truncate(kept);
        bytes.extend(tail);
        let _ = decode(&bytes, &ImageLimits { max_pixels: 100_000, max_bytes: 400_000 });
    }
}
