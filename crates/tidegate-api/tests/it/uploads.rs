//! Uploads that go wrong: whatever happens, nothing of them stays.

use std::time::{Duration, Instant};

use axum::body::Body;
use bytes::Bytes;
use futures::{StreamExt, stream};
use serde_json::{Value, json};
use tidegate_core::Sha256Digest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{App, FORM_TYPE, Part, example, fixture, form, part_head};

fn metadata() -> Value {
    json!({"name": "m", "framework": "ONNX", "version": "1.0.0"})
}

async fn check(app: &App, parts: &[Part], status: u16, code: &str, field: &str) {
    app.post_form("/api/v1/models", parts).await.check(status, code, field);
    assert_eq!(app.stored_keys().await, Vec::<String>::new(), "nothing stays");
    assert_eq!(app.get("/api/v1/models?includeArchived=true").await.json()["total"], 0);
}

#[tokio::test]
async fn a_bad_registration_leaves_nothing_behind() {
    let app = App::with(|settings| settings.max_upload_bytes = 100_000).await;
    let good = || fixture("linear.onnx");
    let with = |key: &str, value: Value| {
        let mut metadata = metadata();
        metadata[key] = value;
        vec![Part::text("metadata", &metadata), Part::file("m.onnx", good())]
    };
    let file =
        |name: &str, bytes: Vec<u8>| vec![Part::text("metadata", &metadata()), Part::file(name, bytes)];
    // As curl's `-F stac=hello` sends it.
    let not_json = |name: &str| Part { name: name.to_owned(), file_name: None, bytes: b"hello".to_vec() };
    let wrong = Sha256Digest::of(b"something else").to_string();
    let truncated = good()[..good().len() / 2].to_vec();
    let mut zip = b"PK\x03\x04".to_vec();
    zip.resize(5000, 0);
    let cases: Vec<(Vec<Part>, u16, &str, &str)> = vec![
        (with("name", json!("../../etc")), 400, "VALIDATION_ERROR", "name"),
        (with("name", json!("a/b")), 400, "VALIDATION_ERROR", "name"),
        (with("version", json!("v2.0")), 400, "VALIDATION_ERROR", "version"),
        (with("version", json!(format!("1.0.0-{}", "a".repeat(60_000)))), 400, "VALIDATION_ERROR", "version"),
        (with("framework", json!("Keras")), 400, "VALIDATION_ERROR", "framework"),
        (with("type", json!(7)), 400, "VALIDATION_ERROR", "type"),
        (with("checksum", json!("abc")), 400, "VALIDATION_ERROR", "checksum"),
        (with("checksum", json!(wrong)), 422, "UNPROCESSABLE_ARTIFACT", "checksum"),
        (with("inputSchema", json!("{")), 400, "VALIDATION_ERROR", "inputSchema"),
        (with("artifactPath", json!("file:///x")), 400, "VALIDATION_ERROR", "artifactPath"),
        (with("frameork", json!("ONNX")), 400, "VALIDATION_ERROR", "frameork"),
        (file("../m.onnx", good()), 400, "VALIDATION_ERROR", "artifact"),
        (file("..", good()), 400, "VALIDATION_ERROR", "artifact"),
        (file("C:\\\\m.onnx", good()), 400, "VALIDATION_ERROR", "artifact"),
        (file("", good()), 400, "VALIDATION_ERROR", "artifact"),
        (file(&format!("{}.onnx", "a".repeat(236)), good()), 400, "VALIDATION_ERROR", "artifact"),
        (file("m.onnx", truncated), 422, "UNPROCESSABLE_ARTIFACT", "artifact"),
        (file("m.onnx", b"hello".to_vec()), 422, "UNPROCESSABLE_ARTIFACT", "artifact"),
        (file("m.onnx", vec![]), 422, "UNPROCESSABLE_ARTIFACT", "artifact"),
        (file("m.onnx", zip), 422, "UNPROCESSABLE_ARTIFACT", "artifact"),
        (file("m.onnx", vec![0; 100_001]), 413, "PAYLOAD_TOO_LARGE", "artifact"),
        (vec![Part::text("metadata", &metadata())], 400, "VALIDATION_ERROR", "artifact"),
        (vec![Part::file("m.onnx", good())], 400, "VALIDATION_ERROR", "name"),
        (
            vec![Part::file("m.onnx", good()), Part::text("metadata", &metadata())],
            400,
            "VALIDATION_ERROR",
            "name",
        ),
        (
            vec![
                Part::text("metadata", &metadata()),
                Part::file("m.onnx", good()),
                Part::text("metadata", &metadata()),
            ],
            400,
            "VALIDATION_ERROR",
            "metadata",
        ),
        (
            vec![
                Part::text("metadata", &metadata()),
                Part::file("m.onnx", good()),
                Part::file("m.onnx", good()),
            ],
            400,
            "VALIDATION_ERROR",
            "artifact",
        ),
        (
            vec![Part::text("metadata", &metadata()), Part::text("modle", &json!(1))],
            400,
            "VALIDATION_ERROR",
            "modle",
        ),
        (vec![not_json("stac"), Part::file("m.onnx", good())], 400, "VALIDATION_ERROR", "stac"),
        (vec![not_json("metadata"), Part::file("m.onnx", good())], 400, "VALIDATION_ERROR", "metadata"),
        (
            vec![Part::text("stac", &json!({"type": "Feature"})), Part::file("m.onnx", good())],
            400,
            "VALIDATION_ERROR",
            "/properties",
        ),
    ];
    for (parts, status, code, field) in cases {
        check(&app, &parts, status, code, field).await;
    }
}

/// The store has its own limit for a part of a key, and needs room for the suffix of a half-written file.
#[tokio::test]
async fn the_longest_file_name_is_stored() {
    let app = App::start().await;
    let name = format!("{}.onnx", "a".repeat(235));
    let parts = [Part::text("metadata", &metadata()), Part::file(&name, fixture("linear.onnx"))];
    let reply = app.post_form("/api/v1/models", &parts).await;
    assert_eq!(reply.status, http::StatusCode::CREATED, "{}", reply.text());
    assert!(app.stored_keys().await[0].ends_with(&name));
}

#[tokio::test]
async fn files_that_differ_from_the_item_are_named_by_pointer() {
    let app = App::start().await;
    let key = |item: &Value| item["assets"].as_object().unwrap().keys().next().unwrap().clone();
    let wrong = Sha256Digest::of(b"other").to_multihash();
    let cases: [(&str, Value, u16, &str, &str); 5] = [
        ("file:checksum", json!(wrong), 422, "UNPROCESSABLE_ARTIFACT", "file:checksum"),
        ("file:size", json!(12), 422, "UNPROCESSABLE_ARTIFACT", "file:size"),
        ("href", json!("./missing.onnx"), 422, "UNPROCESSABLE_ARTIFACT", "href"),
        ("href", json!("../../etc/passwd"), 422, "UNPROCESSABLE_ARTIFACT", "href"),
        ("href", json!("/etc/passwd"), 422, "UNPROCESSABLE_ARTIFACT", "href"),
    ];
    for (member, value, status, code, pointer) in cases {
        let (mut item, files) = example();
        let key = key(&item);
        item["assets"][&key][member] = value;
        let parts: Vec<_> = [Part::text("stac", &item)].into_iter().chain(files).collect();
        check(&app, &parts, status, code, &format!("/assets/{key}/{pointer}")).await;
    }
}

#[tokio::test]
async fn an_item_that_contradicts_its_model_is_refused_where_it_does() {
    let app = App::start().await;
    let cases = [
        ("/properties/mlm:input/0/input/shape", json!([-1, 3, 512, 512])),
        ("/properties/mlm:input/0/input/data_type", json!("uint8")),
        ("/properties/mlm:output/0/result/shape", json!([-1, 2, 256, 256])),
        // The model ends in its own sigmoid.
        (
            "/properties/mlm:output/0/post_processing_function",
            json!({"format": "python", "expression": "torch.sigmoid"}),
        ),
    ];
    for (pointer, value) in cases {
        let (mut item, files) = example();
        *item.pointer_mut(pointer).unwrap() = value;
        let parts: Vec<_> = [Part::text("stac", &item)].into_iter().chain(files).collect();
        check(&app, &parts, 422, "UNPROCESSABLE_ARTIFACT", pointer).await;
    }
}

#[tokio::test]
async fn an_artifact_path_outside_the_roots_is_refused_alike_whether_it_exists() {
    let app = App::start().await;
    let import = app.folder.path().join("import");
    let inside = format!("file://{}", import.display());
    let mut messages = Vec::new();
    for path in ["file:///etc/passwd", "file:///etc/no-such-file", &format!("{inside}/../tidegate.db")] {
        let mut body = metadata();
        body["artifactPath"] = json!(path);
        let reply = app.post("/api/v1/models", &body).await;
        reply.check(400, "VALIDATION_ERROR", "artifactPath");
        messages.push(reply.message());
    }
    assert!(messages.iter().all(|message| *message == messages[0]), "{messages:?}");
    assert!(messages[0].contains(&import.canonicalize().unwrap().display().to_string()));
    for path in
        [&format!("{inside}/none.onnx"), "s3://bucket/key", "model.onnx", "http://x/y", inside.as_str()]
    {
        let mut body = metadata();
        body["artifactPath"] = json!(path);
        app.post("/api/v1/models", &body).await.check(400, "VALIDATION_ERROR", "artifactPath");
    }
    app.post("/api/v1/models", &metadata()).await.check(400, "VALIDATION_ERROR", "artifactPath");
}

#[tokio::test]
async fn a_body_that_breaks_off_or_stalls_leaves_nothing() {
    let app = App::with(|settings| settings.body_idle_timeout = Duration::from_millis(50)).await;
    let mut start = part_head(&Part::text("metadata", &metadata()));
    start.extend_from_slice(metadata().to_string().as_bytes());
    start.extend_from_slice(b"\r\n");
    start.extend_from_slice(&part_head(&Part::file("m.onnx", vec![])));
    start.extend_from_slice(&fixture("linear.onnx"));
    let start = || stream::iter([Ok::<_, std::io::Error>(Bytes::from(start.clone()))]);

    let ended = Body::from_stream(start());
    app.post_raw("/api/v1/models", FORM_TYPE, ended).await.check(400, "VALIDATION_ERROR", "(body)");
    let broken = Body::from_stream(start().chain(stream::iter([Err(std::io::Error::other("reset"))])));
    app.post_raw("/api/v1/models", FORM_TYPE, broken).await.check(400, "VALIDATION_ERROR", "(body)");
    let stalled = Body::from_stream(start().chain(stream::pending()));
    app.post_raw("/api/v1/models", FORM_TYPE, stalled).await.check(408, "REQUEST_TIMEOUT", "");
    assert_eq!(app.stored_keys().await, Vec::<String>::new());
}

/// Over a real connection, closed by the client half-way through the file.
#[tokio::test]
async fn a_client_that_disconnects_mid_upload_leaves_nothing() {
    let app = App::start().await;
    let address = serve(&app).await;
    let body = form(&[Part::text("metadata", &metadata()), Part::file("m.onnx", vec![7; 20 << 20])]);
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(head(body.len()).as_bytes()).await.unwrap();
    client.write_all(&body[..15 << 20]).await.unwrap();
    let files = || walk(&app.folder.path().join("artifacts"));
    until("the upload has begun", || !files().is_empty()).await;
    drop(client);
    until("the upload is cleaned up", || files().is_empty()).await;
    assert_eq!(app.get("/api/v1/models").await.json()["total"], 0);
}

/// Over a real connection: the refusal comes after the metadata, and the client only reads once all is sent.
#[tokio::test]
async fn a_client_that_sends_on_after_a_refusal_still_reads_it() {
    let app = App::start().await;
    let address = serve(&app).await;
    let bad = json!({"name": "m", "framework": "ONNX", "version": "v1"});
    let body = form(&[Part::text("metadata", &bad), Part::file("m.onnx", vec![7; 30 << 20])]);
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(head(body.len()).as_bytes()).await.unwrap();
    client.write_all(&body).await.unwrap();
    let mut answer = vec![0; 12];
    client.read_exact(&mut answer).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&answer), "HTTP/1.1 400");
}

async fn serve(app: &App) -> std::net::SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = app.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

fn head(content_length: usize) -> String {
    format!(
        "POST /api/v1/models HTTP/1.1\r\nhost: x\r\ncontent-type: {FORM_TYPE}\r\ncontent-length: \
         {content_length}\r\n\r\n"
    )
}

/// Every file below a folder, temporary ones of the store too.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder) else { return vec![] };
    let paths = entries.flatten().map(|entry| entry.path());
    paths.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        tokio::task::yield_now().await;
    }
}
