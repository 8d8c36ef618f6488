//! Packages for ArcGIS: their definition, their bytes, unpacking what came from anywhere, signatures, and the pixels of a
//! block. That Python gives the same pixels is tested where there is a Python, with the binary.

use std::io::{Cursor, Write};
use std::path::Path;

use serde_json::{Value, json};
use tidegate_core::Tensor;
use tidegate_geo::esri::blocks::classify_block;
use tidegate_geo::esri::{
    ArchiveError, Definition, DefinitionOptions, KeyError, Manifest, ModelFormat, PackageParts, SigningKey,
    VerifyingKey, sign_package, unpack, write_package,
};
use tidegate_geo::{Image, ModelItem, RunFault};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use crate::support::{changed, image, item, item_json, pixel_model, reddish};

fn definition(json: &Value, options: &DefinitionOptions) -> Result<Definition, String> {
    let item = ModelItem::parse(json).unwrap();
    Definition::new(&item, ModelFormat::Onnx, "model.onnx", options).map_err(|error| error.to_string())
}

#[test]
fn the_definition_says_what_the_item_says() {
    let mut json = item_json(256);
    json["properties"]["gsd"] = json!(0.25);
    json["properties"]["mlm:hyperparameters"] = json!({"threshold": 0.4});
    json["properties"]["mlm:output"][0]["classification:classes"][1]["color_hint"] = json!("E4572E");
    let emd: Value =
        serde_json::from_str(&definition(&json, &DefinitionOptions::default()).unwrap().to_json()).unwrap();
    let expected = json!({
        "Framework": "ONNX",
        "ModelType": "ImageClassification",
        "ModelName": "detector",
        "Version": "1.0.0",
        "ModelFile": "model.onnx",
        "InferenceFunction": "Detector.py",
        "ImageHeight": 256,
        "ImageWidth": 256,
        "ExtractBands": [0, 1, 2],
        "Padding": 32,
        "BatchSize": 4,
        "Threshold": 0.4,
        "GroundResolution": 0.25,
        "Classes": [
            {"Value": 0, "Name": "background", "Color": [0, 0, 0]},
            {"Value": 1, "Name": "shelter", "Color": [228, 87, 46]},
        ],
        "ModelParameters": {
            "DimOrder": "bchw",
            "DataType": "float32",
            "Batch": null,
            "ValueScaling": [{"type": "scale", "value": 255.0}, {"type": "scale", "value": 255.0}, {"type": "scale", "value": 255.0}],
            "OutputDimOrder": "bchw",
            "Activation": "none",
            "OutputValues": [0, 1],
        },
    });
    assert_eq!(emd, expected);
}

#[test]
fn bands_are_taken_by_colour_by_place_or_as_told() {
    let with = |defined: &[&str], taken: &[&str]| {
        let mut json = item_json(64);
        json["properties"]["bands"] = defined.iter().map(|name| json!({"name": name})).collect();
        json["properties"]["mlm:input"][0]["bands"] = json!(taken);
        json["properties"]["mlm:input"][0]["input"]["shape"][1] = json!(taken.len());
        json
    };
    let bands = |json: &Value| definition(json, &DefinitionOptions::default()).unwrap().extract_bands;
    assert_eq!(
        bands(&with(&["blue", "green", "red"], &["blue", "green", "red"])),
        [2, 1, 0],
        "imagery is red, green, blue"
    );
    assert_eq!(bands(&with(&["b1", "b2", "b3", "b8"], &["b8", "b2"])), [3, 1]);
    let told = DefinitionOptions { extract_bands: Some(vec![7, 3]), ..DefinitionOptions::default() };
    let json = with(&["b1", "b2", "b3", "b8"], &["b8", "b2"]);
    assert_eq!(definition(&json, &told).unwrap().extract_bands, [7, 3]);
    let wrong = DefinitionOptions { extract_bands: Some(vec![1]), ..DefinitionOptions::default() };
    assert!(definition(&json, &wrong).unwrap_err().contains("takes 2 bands"));
}

#[test]
fn what_the_function_cannot_do_is_refused() {
    let cases = [
        ("/properties/mlm:input/0/input/data_type", json!("int64"), "float32"),
        (
            "/properties/mlm:input/0/pre_processing_function",
            json!({"format": "python", "expression": "mine"}),
            "value_scaling",
        ),
        ("/properties/mlm:output/0/result/dim_order/2", json!("rows"), "is no image"),
    ];
    for (at, value, words) in cases {
        let refused =
            definition(&changed(item_json(64), at, value), &DefinitionOptions::default()).unwrap_err();
        assert!(refused.contains(words), "{refused}");
    }
    let padding = DefinitionOptions { padding: Some(32), ..DefinitionOptions::default() };
    assert!(definition(&item_json(64), &padding).unwrap_err().contains("0 to 31"));
}

/// A package of a made-up model in `folder`.
fn make_package(folder: &Path) -> std::path::PathBuf {
    let model = folder.join("model.onnx");
    std::fs::write(&model, b"weights").unwrap();
    let json = item_json(64);
    let definition = definition(&json, &DefinitionOptions::default()).unwrap();
    let parts = PackageParts { stem: "roofs", definition: &definition, item: &json, model_files: &[model] };
    let mut bytes = Cursor::new(Vec::new());
    write_package(&mut bytes, &parts).unwrap();
    let mut again = Cursor::new(Vec::new());
    write_package(&mut again, &parts).unwrap();
    assert_eq!(bytes.get_ref(), again.get_ref(), "the same parts give the same bytes");
    let path = folder.join("roofs.dlpk");
    std::fs::write(&path, bytes.into_inner()).unwrap();
    path
}

fn unpacked(package: &Path) -> Result<(Manifest, tempfile::TempDir), ArchiveError> {
    let folder = tempfile::tempdir().unwrap();
    Ok((unpack(package, folder.path())?, folder))
}

#[test]
fn a_package_holds_what_arcgis_looks_for() {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, files) = unpacked(&make_package(folder.path())).unwrap();
    let names = manifest.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>();
    assert_eq!(names, ["Detector.py", "model.onnx", "roofs.emd", "stac_item.json"]);
    let declared: Manifest =
        serde_json::from_slice(&std::fs::read(files.path().join("checksums.json")).unwrap()).unwrap();
    assert_eq!(manifest.differences(&declared), [] as [String; 0]);
    assert_eq!(std::fs::read(files.path().join("model.onnx")).unwrap(), b"weights");
}

#[test]
fn a_signature_is_of_its_key_and_its_files_only() {
    // Written by OpenSSL 3.0; a key for tests.
    const OPENSSL_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEIFjlrQh87qgNCkUB7LgmQPqfCPz/4FqYUAF+Lr9G6WyH\n-----END PRIVATE KEY-----\n";
    const OPENSSL_PUBLIC: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEAxRVuVvRTxv+gXoTsFMElZyJ2dot7C1sYV6sS/C/G4c4=\n-----END PUBLIC KEY-----\n";
    let key = SigningKey::parse(OPENSSL_PRIVATE).unwrap();
    let public = VerifyingKey::parse(OPENSSL_PUBLIC).unwrap();
    assert_eq!(key.verifying_key(), public);
    assert_eq!(public.to_pem(), OPENSSL_PUBLIC);
    assert_eq!(SigningKey::parse(OPENSSL_PUBLIC).err(), Some(KeyError::PublicToSign));
    assert_eq!(SigningKey::parse("nonsense").err(), Some(KeyError::NotPrivate));
    assert_eq!(VerifyingKey::parse("nonsense").err(), Some(KeyError::NotPublic));

    let folder = tempfile::tempdir().unwrap();
    let package = make_package(folder.path());
    let (manifest, _files) = unpacked(&package).unwrap();
    let signature = key.sign(&manifest);
    assert_eq!(public.verify(&signature, &manifest), Ok(()));
    let (other, pem) = SigningKey::generate().unwrap();
    assert_eq!(SigningKey::parse(&pem).unwrap().verifying_key(), other.verifying_key());
    assert_eq!(other.verifying_key().verify(&signature, &manifest), Err(KeyError::Forged));

    // Inside the package, twice: the second takes the place of the first, and the files are what they were.
    for key in [&other, &key] {
        let signature = key.sign(&manifest);
        let mut signed = Cursor::new(Vec::new());
        sign_package(&package, &mut signed, &signature).unwrap();
        std::fs::write(&package, signed.into_inner()).unwrap();
    }
    let (after, files) = unpacked(&package).unwrap();
    assert_eq!(after, manifest);
    let inside = std::fs::read(files.path().join("signature.json")).unwrap();
    let inside = tidegate_geo::esri::signature::read_signature(inside.as_slice()).unwrap();
    assert_eq!((inside.claimed_key(), public.verify(&inside, &after)), (Ok(public.clone()), Ok(())));

    let mut changed = manifest;
    changed.members[0].size_bytes += 1;
    assert_eq!(public.verify(&signature, &changed), Err(KeyError::Forged));
}

/// A zip of these members: name, contents, and whether it is a link.
fn zip_of(members: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents, is_link) in members {
        let options = SimpleFileOptions::default().compression_method(CompressionMethod::Deflated);
        if *is_link {
            writer.add_symlink(*name, "/etc/passwd", options).unwrap();
        } else {
            writer.start_file(*name, options).unwrap();
            writer.write_all(contents).unwrap();
        }
    }
    writer.finish().unwrap().into_inner()
}

/// With every occurrence of a name replaced by one of the same length: what no honest writer would write.
fn renamed(mut bytes: Vec<u8>, from: &str, to: &str) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from.as_bytes()) {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    bytes
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing_outside() {
    let zeros = vec![0; 64 << 20];
    let many = (0..1001).map(|index| format!("f{index}")).collect::<Vec<_>>();
    let many = many.iter().map(|name| (name.as_str(), &b""[..], false)).collect::<Vec<_>>();
    let honest = zip_of(&[("aa/model.emd", b"x", false), ("bb", b"y", false)]);
    let mut truncated = honest.clone();
    truncated.truncate(honest.len() / 2);
    let mut lying = zip_of(&[("model.emd", &[7; 5000], false)]);
    // The sizes in both headers: 5000 becomes 50.
    for at in 0..lying.len() - 4 {
        if lying[at..at + 4] == 5000u32.to_le_bytes() {
            lying[at..at + 4].copy_from_slice(&50u32.to_le_bytes());
        }
    }
    let cases = [
        ("up", renamed(honest.clone(), "aa/model.emd", "../model.emd"), "does not lie below"),
        ("absolute", renamed(honest.clone(), "aa/model.emd", "/a/model.emd"), "does not lie below"),
        ("drive", renamed(honest.clone(), "aa/model.emd", "C:/model.emd"), "does not lie below"),
        ("backslash", renamed(honest.clone(), "aa/model.emd", "..\\model.emd"), "does not lie below"),
        ("link", zip_of(&[("model.emd", b"", true)]), "is a link"),
        ("bomb", zip_of(&[("model.onnx", &zeros, false)]), "times its size"),
        ("many", zip_of(&many), "1001 members"),
        ("twice", zip_of(&[("Model.py", b"", false), ("model.py", b"", false)]), "is there twice"),
        ("same", renamed(zip_of(&[("aa", b"1", false), ("bb", b"2", false)]), "bb", "aa"), "duplicate"),
        ("lying", lying, ""),
        ("truncated", truncated, "not a zip file"),
        ("text", b"hello".to_vec(), "not a zip file"),
    ];
    for (name, bytes, words) in cases {
        let outer = tempfile::tempdir().unwrap();
        let inner = outer.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let package = outer.path().join("p.dlpk");
        std::fs::write(&package, bytes).unwrap();
        let error = unpack(&package, &inner).expect_err(name).to_string();
        assert!(error.contains(words), "{name}: {error}");
        let around = std::fs::read_dir(outer.path()).unwrap().count();
        assert_eq!(around, 2, "{name}: nothing beside the package and the folder");
    }
    assert!(ZipArchive::new(Cursor::new(honest)).is_ok(), "the honest one is whole");
}

/// Tiles of 16 over blocks of all sizes and paddings: a model of single pixels gives every pixel its own answer.
#[test]
fn a_block_is_classified_pixel_by_pixel_whatever_its_tiles() {
    let mut item = item(16);
    item.output.channels = Some(1);
    let mut run = |tensor: Tensor| Ok::<_, RunFault>(pixel_model(&tensor, &[reddish]));
    for (width, height, padding) in [(16, 16, 0), (40, 24, 4), (17, 31, 2), (9, 50, 1), (5, 3, 0)] {
        let mut block = image(width, height);
        let valid = (0..width * height).map(|at| at % 7 != 0 && at / width > 1).collect::<Vec<_>>();
        block.valid = Some(valid.clone());
        let found = classify_block(&block, &item, padding, &mut run).unwrap();
        assert_eq!((found.rows, found.columns), (height - 2 * padding, width - 2 * padding));
        for row in 0..found.rows {
            for column in 0..found.columns {
                let at = (row + padding) * width + column + padding;
                let samples = [0, 1, 2].map(|band| f32::from(block.pixels[at * 3 + band]) / 255.0);
                let expected = u8::from(valid[at] && reddish(samples) >= 0.5);
                assert_eq!(
                    found.classes[row * found.columns + column],
                    expected,
                    "{width} x {height} at {row}, {column}"
                );
            }
        }
    }
    let empty = Image { valid: Some(vec![false; 256]), ..image(16, 16) };
    let mut never = |_: Tensor| Err(RunFault::new("the model was run on nothing"));
    assert_eq!(classify_block(&empty, &item, 0, &mut never).unwrap().classes, [0; 256]);
}
