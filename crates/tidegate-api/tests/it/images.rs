//! An image in, a mask out, on the example model.

use std::io::{Cursor, Read};

use http::{Method, StatusCode};
use serde_json::json;

use crate::support::{App, FORM_TYPE, Part, example, form, repository, request};

async fn app() -> App {
    let app = App::start().await;
    let (item, files) = example();
    let parts: Vec<_> = [Part::text("stac", &item)].into_iter().chain(files).collect();
    let reply = app.post_form("/api/v1/models", &parts).await;
    assert_eq!(reply.status, StatusCode::CREATED, "{}", reply.text());
    let registered = reply.json();
    let body = json!({"modelId": registered["modelId"], "versionId": registered["versionId"]});
    assert_eq!(app.post("/api/v1/deployments", &body).await.status, StatusCode::ACCEPTED);
    app
}

const PATH: &str = "/api/v1/inference/refugee-camp-detector";

fn tile() -> Vec<u8> {
    std::fs::read(repository().join("examples/refugee-camp/sample-tile.png")).unwrap()
}

#[tokio::test]
async fn an_image_becomes_a_mask_in_every_shape() {
    let app = app().await;
    let (width, height) =
        image::load_from_memory(&tile()).map(|image| (image.width(), image.height())).unwrap();
    let reply = app.post_raw(PATH, "image/png", tile()).await;
    assert_eq!(reply.status, StatusCode::OK, "{}", reply.text());
    let body = reply.json();
    assert_eq!(
        (&body["prediction"]["width"], &body["prediction"]["height"]),
        (&json!(width), &json!(height))
    );
    let fractions = body["prediction"]["classes"].as_array().unwrap().iter();
    let sum: f64 = fractions.map(|class| class["fraction"].as_f64().unwrap()).sum();
    assert!((sum - 1.0).abs() < 1e-6, "the classes share the pixels: {}", body["prediction"]["classes"]);
    assert!((0.5..=1.0).contains(&body["confidence"].as_f64().unwrap()));

    let with = |accept: &str, content_type: &str, body: Vec<u8>| {
        let mut asked = request(Method::POST, PATH, content_type, body.into());
        asked.headers_mut().insert("accept", accept.parse().unwrap());
        asked
    };
    let mask = app.send(with("image/png", "image/png", tile())).await;
    assert_eq!(mask.header("content-type"), "image/png");
    assert!(!mask.header("x-tidegate-version").is_empty());
    let mask = image::load_from_memory(&mask.body).unwrap();
    assert_eq!((mask.width(), mask.height()), (width, height));

    let upload = Part { name: "image".to_owned(), file_name: Some("tile.png".to_owned()), bytes: tile() };
    let zipped = app.send(with("application/zip", FORM_TYPE, form(&[upload]))).await;
    assert_eq!(zipped.status, StatusCode::OK, "{}", zipped.text());
    let mut archive = zip::ZipArchive::new(Cursor::new(zipped.body)).unwrap();
    let names: Vec<_> = archive.file_names().map(|name| name.unwrap().into_owned()).collect();
    assert_eq!(
        names,
        ["prediction_raw.npy", "prediction_mask.png", "prediction_overlay.png", "inference_metadata.json"]
    );
    let mut metadata = String::new();
    archive.by_name("inference_metadata.json").unwrap().read_to_string(&mut metadata).unwrap();
    assert!(metadata.contains("tile.png"), "the record names the upload");
    app.send(with("text/html", "image/png", tile())).await.check(406, "NOT_ACCEPTABLE", "");
}

#[tokio::test]
async fn what_is_no_image_is_refused_before_it_costs_anything() {
    let app = app().await;
    let cases: [(&str, Vec<u8>, u16, &str, &str); 5] = [
        ("image/png", b"just text".to_vec(), 415, "UNSUPPORTED_MEDIA_TYPE", "image"),
        ("image/png", vec![], 415, "UNSUPPORTED_MEDIA_TYPE", "image"),
        ("image/png", huge_png(), 413, "PAYLOAD_TOO_LARGE", "image"),
        ("image/png", tile()[..tile().len() / 2].to_vec(), 400, "VALIDATION_ERROR", "image"),
        (FORM_TYPE, form(&[Part::file("tile.png", tile())]), 400, "VALIDATION_ERROR", "artifact"),
    ];
    for (content_type, body, status, code, field) in cases {
        app.post_raw(PATH, content_type, body).await.check(status, code, field);
    }
    let bad_option = app.post_raw(&format!("{PATH}?gsd=-1"), "image/png", tile()).await;
    bad_option.check(400, "VALIDATION_ERROR", "gsd");
    // A kilometre per pixel makes a scene of terapixels of a small file.
    let blown_up = app.post_raw(&format!("{PATH}?gsd=1000"), "image/png", tile()).await;
    blown_up.check(413, "PAYLOAD_TOO_LARGE", "gsd");
    app.post_raw(&format!("{PATH}?gds=1"), "image/png", tile()).await.check(400, "VALIDATION_ERROR", "gds");
}

#[tokio::test]
async fn a_version_without_an_item_says_how_to_get_one() {
    let app = App::start().await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let reply = app.post_raw("/api/v1/inference/m", "image/png", tile()).await;
    reply.check(422, "UNPROCESSABLE_ARTIFACT", "");
    assert!(reply.message().contains("STAC"));
}

/// A header that promises 30,000 x 30,000 pixels of 8-bit RGB, and an empty chunk of data.
fn huge_png() -> Vec<u8> {
    let side = 30_000u32.to_be_bytes();
    let header = [&side, &side, &[8u8, 2, 0, 0][..], &[0]].concat();
    [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &[])].concat()
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [kind.as_slice(), data].concat();
    [&(data.len() as u32).to_be_bytes(), body.as_slice(), &crc32(&body).to_be_bytes()].concat()
}

/// CRC of a PNG chunk (PNG specification, annex D).
fn crc32(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { 0xEDB8_8320 ^ (crc >> 1) } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
