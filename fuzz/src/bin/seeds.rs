//! Writes what each target starts from into `corpus/<target>`: well-formed inputs of every kind, made here or taken from the
//! repository. What is there already stays.

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use serde_json::json;
use tidegate_fuzz::requests::{binary, grpc, oip, well_formed};
use tiff::encoder::colortype::{ColorType, Gray16, Gray32Float, GrayI16, RGB8, RGBA8};
use tiff::encoder::compression::DeflateLevel;
use tiff::encoder::{Compression, TiffEncoder, TiffKind, TiffKindBig, TiffKindStandard, TiffValue};
use tiff::tags::Tag;
use zip::write::SimpleFileOptions;

/// Larger ones only make each execution slower.
const MAX_BYTES: usize = 64 << 10;

fn main() {
    let home = Path::new(env!("CARGO_MANIFEST_DIR"));
    let fixtures = home.join("../fixtures");
    let examples = home.join("../examples/refugee-camp");
    save(home, "tensors", tensors());
    save(home, "rasters", rasters());
    save(home, "documents", documents(&fs::read(examples.join("stac_item.json")).unwrap()));
    save(home, "packages", packages());
    let onnx = ["onnx", "classical", "segment"].map(|folder| files(&fixtures.join(folder), "onnx"));
    save(home, "onnx", onnx.concat());
    save(home, "torchscript", files(&fixtures.join("torchscript"), "pt"));
}

fn save(home: &Path, target: &str, seeds: Vec<Vec<u8>>) {
    let folder = home.join("corpus").join(target);
    fs::create_dir_all(&folder).unwrap();
    let seeds: Vec<_> = seeds.into_iter().filter(|seed| seed.len() <= MAX_BYTES).collect();
    for (index, seed) in seeds.iter().enumerate() {
        fs::write(folder.join(format!("seed-{index:03}")), seed).unwrap();
    }
    println!("{target}: {} seeds", seeds.len());
}

fn files(folder: &Path, ending: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let fitting = paths.iter().filter(|path| path.extension().is_some_and(|found| found == ending));
    fitting.map(|path| fs::read(path).unwrap()).collect()
}

fn tensors() -> Vec<Vec<u8>> {
    let mut seeds = well_formed();
    let types = [
        ("BOOL", 1),
        ("UINT8", 1),
        ("UINT16", 2),
        ("UINT32", 4),
        ("UINT64", 8),
        ("INT8", 1),
        ("INT16", 2),
        ("INT32", 4),
        ("INT64", 8),
        ("FP16", 2),
        ("FP32", 4),
        ("FP64", 8),
        ("BF16", 2),
    ];
    for (index, (datatype, size)) in types.into_iter().enumerate() {
        let bytes = vec![1; 6 * size];
        seeds.push(binary(datatype, &json!([2, 3]), &bytes));
        seeds.push(grpc(datatype, &[2, 3], &[], Some(&bytes)));
        let input = json!({"name": "x", "datatype": datatype, "shape": [3], "data": [1, 0, 1]});
        seeds.push(oip(&json!({"id": "a", "inputs": [input], "outputs": [{"name": "y"}]}), &[]));
        seeds.push([&[2][..], json!({"inputs": [input]}).to_string().as_bytes()].concat());
        seeds.push([&[3, index as u8][..], br#"{"x": [[1, 0, 1]]}"#].concat());
    }
    let named = json!({"inputs": {"x": [[1, 2], [3, 4]]}});
    seeds.push([&[2][..], named.to_string().as_bytes()].concat());
    // Two tensors, one in the JSON and one behind it.
    let parameters = json!({"binary_data_size": 8, "priority": 1});
    let inputs = json!([
        {"name": "a", "datatype": "FP32", "shape": [2, 1], "data": [[1.5], [-2]]},
        {"name": "b", "datatype": "INT64", "shape": [1], "parameters": parameters},
    ]);
    seeds.push(oip(&json!({"inputs": inputs, "parameters": {"binary_data_output": true}}), &[7; 8]));
    seeds
}

fn rasters() -> Vec<Vec<u8>> {
    let (width, height) = (20, 12);
    let mut seeds = Vec::new();
    let compressions = [
        Compression::Uncompressed,
        Compression::Lzw,
        Compression::Deflate(DeflateLevel::Fast),
        Compression::Packbits,
    ];
    let n = (width * height) as usize;
    let ramp: Vec<u8> = (0..n * 4).map(|index| (index * 7) as u8).collect();
    let wide: Vec<u16> = ramp[..n].iter().map(|value| u16::from(*value) * 17).collect();
    let signed: Vec<i16> = wide.iter().map(|value| *value as i16 - 900).collect();
    let floats: Vec<f32> = wide.iter().map(|value| f32::from(*value) / 3.0).collect();
    for compression in compressions {
        seeds.push(tiff::<RGB8, TiffKindStandard>(&ramp[..n * 3], compression));
        seeds.push(tiff::<RGBA8, TiffKindBig>(&ramp, compression));
        seeds.push(tiff::<Gray16, TiffKindStandard>(&wide, compression));
        seeds.push(tiff::<GrayI16, TiffKindBig>(&signed, compression));
        seeds.push(tiff::<Gray32Float, TiffKindStandard>(&floats, compression));
    }
    for is_big_endian in [false, true] {
        for (planar, compression) in [(1, 1), (2, 1), (1, 8), (2, 5), (1, 7), (1, 50_000), (1, 50_001)] {
            seeds.push(tiled(is_big_endian, planar, compression));
        }
    }
    let image = image::RgbImage::from_raw(width, height, ramp[..n * 3].to_vec()).unwrap();
    for format in [image::ImageFormat::Png, image::ImageFormat::Jpeg, image::ImageFormat::WebP] {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        seeds.push(bytes.into_inner());
    }
    seeds
}

/// 20 x 12 pixels in strips, in UTM 45 N, with a value that means nothing.
fn tiff<C: ColorType, K: TiffKind>(samples: &[C::Inner], compression: Compression) -> Vec<u8>
where
    [C::Inner]: TiffValue,
{
    let mut bytes = Cursor::new(Vec::new());
    let encoder = TiffEncoder::<_, K>::new_generic(&mut bytes).unwrap();
    let mut encoder = encoder.with_compression(compression);
    let mut image = encoder.new_image::<C>(20, 12).unwrap();
    image.rows_per_strip(5).unwrap();
    let directory = image.encoder();
    directory.write_tag(Tag::ModelPixelScaleTag, &[0.5, 0.5, 0.0][..]).unwrap();
    directory.write_tag(Tag::ModelTiepointTag, &[0.0, 0.0, 0.0, 3e5, 3e6, 0.0][..]).unwrap();
    let keys = [1u16, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, 32_645];
    directory.write_tag(Tag::GeoKeyDirectoryTag, &keys[..]).unwrap();
    directory.write_tag(Tag::GdalNodata, "7").unwrap();
    image.write_data(samples).unwrap();
    bytes.into_inner()
}

/// 40 x 24 pixels of three bands in tiles of 16, which `tiff` does not write. What they hold is read as that compression.
fn tiled(is_big_endian: bool, planar: u16, compression: u16) -> Vec<u8> {
    const TILE_BYTES: usize = 16 * 16 * 3;
    let n_tiles = 3 * 2 * usize::from(if planar == 2 { 3u16 } else { 1 });
    let tile_bytes = if planar == 2 { TILE_BYTES / 3 } else { TILE_BYTES };
    let order = |big: Vec<u8>| if is_big_endian { big } else { big.into_iter().rev().collect() };
    let short = |value: u16| order(value.to_be_bytes().to_vec());
    let long = |value: u32| order(value.to_be_bytes().to_vec());
    let tags: [(u16, u32, Vec<u32>); 12] = [
        (256, 4, vec![40]),
        (257, 4, vec![24]),
        (258, 3, vec![8, 8, 8]),
        (259, 3, vec![u32::from(compression)]),
        (262, 3, vec![2]),
        (277, 3, vec![3]),
        (284, 3, vec![u32::from(planar)]),
        (317, 3, vec![if compression == 8 { 2 } else { 1 }]),
        (322, 4, vec![16]),
        (323, 4, vec![16]),
        (324, 4, (0..n_tiles as u32).map(|tile| 1000 + tile * tile_bytes as u32).collect()),
        (325, 4, vec![tile_bytes as u32; n_tiles]),
    ];
    let mut head = if is_big_endian { b"MM".to_vec() } else { b"II".to_vec() };
    head.extend([short(42), long(8), short(tags.len() as u16)].concat());
    let mut beyond = Vec::new();
    let beyond_at = 8 + 2 + tags.len() * 12 + 4;
    for (tag, kind, values) in &tags {
        let value = |value: &u32| if *kind == 3 { short(*value as u16) } else { long(*value) };
        let mut bytes: Vec<u8> = values.iter().flat_map(value).collect();
        head.extend([short(*tag), short(*kind as u16), long(values.len() as u32)].concat());
        if bytes.len() <= 4 {
            bytes.resize(4, 0);
            head.extend(bytes);
        } else {
            head.extend(long((beyond_at + beyond.len()) as u32));
            beyond.extend(bytes);
        }
    }
    head.extend(long(0));
    head.extend(beyond);
    head.resize(1000, 0);
    head.extend((0..n_tiles * tile_bytes).map(|index| (index * 5) as u8));
    head
}

fn documents(item: &[u8]) -> Vec<Vec<u8>> {
    let area = json!({"type": "Polygon", "coordinates": [[[85.2, 27.1], [85.3, 27.1], [85.3, 27.2], [85.2, 27.1]]]});
    let feature = json!({"type": "Feature", "properties": {}, "geometry": area});
    let multi = json!({"type": "MultiPolygon", "coordinates": [area["coordinates"]]});
    let collection = json!({"type": "FeatureCollection", "features": [feature, {"type": "Feature", "geometry": multi}]});
    let (key, pem) = tidegate_geo::esri::SigningKey::generate().unwrap();
    let manifest = tidegate_geo::esri::Manifest::new([]);
    let of = |choice: u8, text: String| [&[choice][..], text.as_bytes()].concat();
    vec![
        [&[0][..], item].concat(),
        of(1, area.to_string()),
        of(1, feature.to_string()),
        of(1, collection.to_string()),
        of(2, "0.5\n0\n0\n-0.5\n1000.25\n4999.75\n".to_owned()),
        of(3, key.sign(&manifest).to_json()),
        of(4, pem),
        of(4, key.verifying_key().to_pem()),
    ]
}

fn packages() -> Vec<Vec<u8>> {
    let zip = |options: SimpleFileOptions| {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        let members = [("model.emd", "{\"Framework\": \"x\"}"), ("a/b.py", "class A: pass"), ("checksums.json", "{}")];
        for (name, text) in members {
            writer.start_file(name, options).unwrap();
            writer.write_all(text.as_bytes()).unwrap();
        }
        writer.add_directory("empty/", options).unwrap();
        writer.finish().unwrap().into_inner()
    };
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    vec![zip(stored), zip(SimpleFileOptions::default()), zip(stored.large_file(true))]
}
