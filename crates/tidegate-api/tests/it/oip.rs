//! The Open Inference Protocol as an attacker and a tired person would speak it; its own clients are tested with the binary.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{App, LOG_CAPACITY, Reply, request};

const INFER: &str = "/v2/models/m/infer";

async fn app() -> App {
    let app = App::with(|settings| settings.max_request_bytes = 4096).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    app
}

fn tensor(fields: Value) -> Value {
    let mut tensor = json!({"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]});
    for (key, value) in fields.as_object().unwrap() {
        match value {
            Value::Null => drop(tensor.as_object_mut().unwrap().remove(key)),
            value => tensor[key] = value.clone(),
        }
    }
    tensor
}

fn one(fields: Value) -> String {
    json!({"inputs": [tensor(fields)]}).to_string()
}

/// JSON, and bytes behind it.
async fn post_binary(app: &App, json: &str, length: Option<usize>, tail: &[u8]) -> Reply {
    let body = [json.as_bytes(), tail].concat();
    let mut request = request(Method::POST, INFER, "application/octet-stream", body.into());
    let length = HeaderValue::from(length.unwrap_or(json.len()));
    request.headers_mut().insert("inference-header-content-length", length);
    app.send(request).await
}

fn error(reply: &Reply) -> String {
    assert_eq!(reply.header("x-trace-id").len(), 32);
    let body = reply.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "{body}");
    body["error"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_does_not_fit_is_refused_in_the_protocols_words() {
    let app = app().await;
    let double = json!({"inputs": [tensor(json!({})), tensor(json!({}))]}).to_string();
    let unknown = json!({"inputs": [tensor(json!({})), tensor(json!({"name": "z"}))]}).to_string();
    let output = json!({"inputs": [tensor(json!({}))], "outputs": [{"name": "z"}]}).to_string();
    let twice = json!({"inputs": [tensor(json!({}))], "outputs": [{"name": "y"}, {"name": "y"}]}).to_string();
    let many: Vec<_> = (0..2000).map(|_| json!({})).collect();
    let cases = [
        (one(json!({"shape": [2, 3]})), 400, "inputs[0].data"),
        (one(json!({"shape": [1, 4], "data": [1, 2, 3, 4]})), 400, "expected shape [-1, 3]"),
        (one(json!({"shape": [-1, 3]})), 400, "inputs[0].shape[0]"),
        (one(json!({"shape": [u64::MAX, 3]})), 400, "inputs[0].shape"),
        (one(json!({"shape": [1u64 << 40, 1u64 << 40]})), 400, "inputs[0].shape"),
        (one(json!({"shape": 3})), 400, "inputs[0].shape"),
        (one(json!({"datatype": "FP64"})), 400, "expected datatype FP32, got FP64"),
        (one(json!({"datatype": "FLOAT"})), 400, "inputs[0].datatype"),
        (one(json!({"data": [1, 2, "3"]})), 400, "inputs[0].data[2]"),
        (one(json!({"data": null})), 400, "inputs[0].data"),
        (one(json!({"data": [[1, 2, [3]]]})), 400, "inputs[0].data[0][2]"),
        (one(json!({"name": "z"})), 400, "no such input"),
        (double, 400, "given twice"),
        (unknown, 400, "inputs.z"),
        (r#"{"inputs": []}"#.to_owned(), 400, "inputs.x: missing"),
        (output, 400, "outputs.z"),
        (twice, 400, "asked for twice"),
        ("{}".to_owned(), 400, "inputs"),
        ("[]".to_owned(), 400, ""),
        (String::new(), 400, ""),
        ("{\"inputs\": [NaN]}".to_owned(), 400, "NaN"),
        ("[".repeat(2000), 400, ""),
        (json!({"inputs": many}).to_string(), 413, "4096 bytes"),
        (
            json!({"inputs": [tensor(json!({"parameters": {"shared_memory_region": "r"}}))]}).to_string(),
            400,
            "shared",
        ),
        (json!({"inputs": [], "parameters": {"sequence_id": 3}}).to_string(), 400, "sequence_id"),
    ];
    for (body, status, words) in cases {
        let reply = app.post_raw(INFER, "application/json", body.clone()).await;
        let message = error(&reply);
        assert_eq!(reply.status.as_u16(), status, "{body}: {message}");
        assert!(message.replace('`', "").contains(words), "{body}: {message}");
    }
    for (method, path, status) in [
        (Method::GET, "/v2/nothing", 404),
        (Method::GET, "/v2/models/none", 404),
        (Method::GET, "/v2/models/m/versions/9.0.0", 404),
        (Method::GET, "/v2/models/m/versions/v1", 400),
        (Method::GET, "/v2/models/none/ready", 404),
        (Method::GET, INFER, 405),
        (Method::POST, "/v2/models/none/infer", 400),
    ] {
        let reply = app.send(request(method, path, "", Body::empty())).await;
        assert_eq!(reply.status.as_u16(), status, "{path}: {}", error(&reply));
    }
}

#[tokio::test]
async fn binary_tensors_are_measured_before_they_are_believed() {
    let app = app().await;
    let floats = [1f32, 2.0, 3.0].map(f32::to_le_bytes).concat();
    let sized = |size: Value| one(json!({"data": null, "parameters": {"binary_data_size": size}}));
    let good = post_binary(&app, &sized(json!(12)), None, &floats).await;
    assert_eq!(good.json()["outputs"][0]["data"], json!([22.5, 27.5]), "{}", good.text());
    let json = sized(json!(12));
    let strings = one(json!({"datatype": "BYTES", "data": null, "parameters": {"binary_data_size": 12}}));
    let cases = [
        (json.as_str(), None, &floats[..11], "says 12 bytes, 11 are left"),
        (&json, None, &[&floats[..], &[0]].concat(), "1 bytes are left behind"),
        (&json, Some(json.len() + 13), &floats, "Inference-Header-Content-Length"),
        (&json, Some(json.len() - 1), &floats, ""),
        (&json, Some(0), &floats, ""),
        (&sized(json!(8)), None, &floats[..8], "needs 12 bytes, got 8"),
        (&sized(json!(u64::MAX)), None, &floats, "says 18446744073709551615 bytes"),
        (&sized(json!(-1)), None, &floats, "binary_data_size"),
        (&one(json!({"parameters": {"binary_data_size": 12}})), None, &floats, "not both"),
        (&strings, None, &[255; 12], "element 0 says it has 4294967295 bytes"),
    ];
    for (json, length, tail, words) in cases {
        let reply = post_binary(&app, json, length, tail).await;
        let message = error(&reply);
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{json}: {message}");
        assert!(message.contains(words), "{json}: {message}");
    }
}

#[tokio::test]
async fn bodies_that_are_compressed_are_bounded_by_what_they_hold() {
    use std::io::Write;
    let app = app().await;
    let compressed = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let send = async |body: Vec<u8>, encoding: &'static str| {
        let mut asked = request(Method::POST, INFER, "application/json", body.into());
        asked.headers_mut().insert("content-encoding", HeaderValue::from_static(encoding));
        app.send(asked).await
    };
    assert_eq!(send(compressed(one(json!({})).as_bytes()), "gzip").await.status, StatusCode::OK);
    let bomb = compressed(&vec![b' '; 1 << 20]);
    assert!(bomb.len() < 4096, "small on the way");
    assert_eq!(send(bomb, "gzip").await.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(send(b"not gzip".to_vec(), "gzip").await.status, StatusCode::BAD_REQUEST);
    assert_eq!(send(b"{}".to_vec(), "br").await.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn every_protocol_is_accounted_for_alike() {
    let mut app = App::start().await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let inputs = json!([tensor(json!({}))]);
    let wrong = json!([tensor(json!({"shape": [2, 3]}))]);
    app.post("/api/v1/inference/m", &json!({"inputs": inputs, "requestId": "native"})).await;
    app.post(INFER, &json!({"inputs": inputs, "id": "rest"})).await;
    call(&app, "ModelInfer", &infer_message("grpc", [1, 3])).await;
    app.post("/api/v1/inference/m", &json!({"inputs": wrong, "requestId": "native-wrong"})).await;
    app.post(INFER, &json!({"inputs": wrong, "id": "rest-wrong"})).await;
    call(&app, "ModelInfer", &infer_message("grpc-wrong", [2, 3])).await;
    let mut rows = Vec::new();
    for id in ["native", "rest", "grpc", "native-wrong", "rest-wrong", "grpc-wrong"] {
        let row = app.log.recv().await.unwrap();
        assert_eq!(row.request_id.as_str(), id);
        rows.push(row);
    }
    for row in &rows[1..3] {
        let mut alike = rows[0].clone();
        (alike.request_id, alike.latency_ms) = (row.request_id.clone(), row.latency_ms);
        assert_eq!(*row, alike);
        assert!(row.prediction.is_some() && row.status == "Completed", "{row:?}");
    }
    for row in &rows[3..] {
        assert_eq!((row.status.as_str(), &row.version), ("Failed", &rows[0].version), "{row:?}");
        assert!(row.error_message.as_ref().unwrap().contains("inputs[0]"), "{row:?}");
    }
    for _ in 0..LOG_CAPACITY + 1 {
        assert_eq!(
            app.post(INFER, &json!({"inputs": inputs})).await.status,
            StatusCode::OK,
            "the log is full"
        );
    }
}

/// An id that cannot be kept is echoed all the same, and the log has one of its own.
#[tokio::test]
async fn ids_are_echoed_or_made_up() {
    let mut app = app().await;
    for (id, kept) in [(json!("mine"), true), (json!("two words"), false), (json!(null), false)] {
        let answer = app.post(INFER, &json!({"inputs": [tensor(json!({}))], "id": id})).await.json();
        let logged = app.log.recv().await.unwrap().request_id.as_str().to_owned();
        assert!(id.is_null() || answer["id"] == id, "{answer}");
        assert_eq!(answer["id"] == json!(logged), kept || id.is_null(), "{answer} {logged}");
    }
}

/// A unary call in process: the status of its trailers, and the message.
async fn call(app: &App, method: &str, message: &[u8]) -> (String, String) {
    call_with(app, method, message, HeaderMap::new()).await
}

/// The same with metadata.
pub async fn call_with(app: &App, method: &str, message: &[u8], metadata: HeaderMap) -> (String, String) {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    send_frame_with(app, method, frame.into(), metadata).await
}

async fn send_frame(app: &App, method: &str, frame: Body) -> (String, String) {
    send_frame_with(app, method, frame, HeaderMap::new()).await
}

async fn send_frame_with(app: &App, method: &str, frame: Body, metadata: HeaderMap) -> (String, String) {
    let path = format!("/inference.GRPCInferenceService/{method}");
    let mut asked: Request = request(Method::POST, &path, "application/grpc", frame);
    asked.headers_mut().extend(metadata);
    let response = tower::ServiceExt::oneshot(app.router.clone(), asked).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let (parts, body) = response.into_parts();
    let collected = http_body_util::BodyExt::collect(body).await.unwrap();
    let trailers = collected.trailers().cloned().unwrap_or(parts.headers);
    let text = |name: &str| trailers.get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    (text("grpc-status"), text("grpc-message"))
}

/// `ModelInferRequest` for model `m`: id, and one FP32 input of three numbers.
pub fn infer_message(id: &str, shape: [u8; 2]) -> Vec<u8> {
    let field =
        |number: u8, bytes: &[u8]| [&[number << 3 | 2, u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let floats = [1f32, 2.0, 3.0].map(f32::to_le_bytes).concat();
    let contents = field(6, &floats);
    let input = [field(1, b"x"), field(2, b"FP32"), field(3, &shape), field(5, &contents)].concat();
    [field(1, b"m"), field(3, id.as_bytes()), field(5, &input)].concat()
}

#[tokio::test]
async fn grpc_lengths_are_measured_before_they_are_believed() {
    let app = app().await;
    let good = infer_message("a", [1, 3]);
    assert_eq!(call(&app, "ModelInfer", &good).await.0, "0");
    let framed = |length: u32, bytes: &[u8]| [&[0], &length.to_be_bytes()[..], bytes].concat();
    let cases = [
        (framed(u32::MAX, &good), "8", "4096 bytes"),
        (framed(4097, &[]), "8", "4096 bytes"),
        (framed(4000, &good), "3", "middle of a message"),
        (vec![0, 0], "3", "middle of a message"),
        (vec![], "3", "no message"),
        (framed(3, b"abc"), "3", "ModelInferRequest"),
        ([&[1], &framed(4, &[1, 2, 3, 4])[1..]].concat(), "3", ""),
    ];
    for (frame, status, words) in cases {
        let (actual, message) = send_frame(&app, "ModelInfer", frame.clone().into()).await;
        assert_eq!(actual, status, "{frame:?}: {message}");
        assert!(message.contains(words), "{frame:?}: {message}");
    }
    // In as many pieces as it has bytes.
    let pieces: Vec<_> = framed(u32::try_from(good.len()).unwrap(), &good)
        .into_iter()
        .map(|byte| Ok::<_, std::io::Error>(Bytes::from(vec![byte])))
        .collect();
    let body = Body::from_stream(futures::stream::iter(pieces));
    assert_eq!(send_frame(&app, "ModelInfer", body).await.0, "0");
}

/// A stream may rest between its messages as long as it likes, but not in one; a unary call not at all.
#[tokio::test]
async fn only_a_message_that_has_begun_is_waited_for_so_long() {
    let idle = Duration::from_millis(50);
    let app = App::with(|settings| settings.body_idle_timeout = idle).await;
    app.serve("m", "1.0.0", "linear.onnx").await;
    let good = infer_message("a", [1, 3]);
    let good = [&[0], &u32::try_from(good.len()).unwrap().to_be_bytes()[..], &good].concat();
    // Its pieces, with a rest of many times the limit between them.
    let resting = |pieces: Vec<Vec<u8>>| {
        Body::from_stream(futures::stream::unfold(
            pieces.into_iter().enumerate(),
            move |mut pieces| async move {
                let (index, piece) = pieces.next()?;
                tokio::time::sleep(idle * if index == 0 { 0 } else { 10 }).await;
                Some((Ok::<_, std::io::Error>(Bytes::from(piece)), pieces))
            },
        ))
    };
    let (head, tail) = good.split_at(20);
    for (method, pieces, status) in [
        ("ModelStreamInfer", vec![good.clone(), good.clone()], "0"),
        ("ModelStreamInfer", vec![good.clone(), head.to_vec(), tail.to_vec()], "4"),
        ("ModelInfer", vec![head.to_vec(), tail.to_vec()], "4"),
        ("ModelInfer", vec![vec![], good.clone()], "4"),
    ] {
        let (actual, message) = send_frame(&app, method, resting(pieces)).await;
        assert_eq!(actual, status, "{method}: {message}");
    }
}

#[tokio::test]
async fn loading_is_a_deployment() {
    let app = App::start().await;
    app.register("m", "1.0.0", "version-1.onnx").await;
    app.register("m", "1.1.0", "version-2.onnx").await;
    assert_eq!(app.get("/v2/models/m/ready").await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.post_raw("/v2/repository/models/m/load", "", "").await.status, StatusCode::OK);
    assert_eq!(app.get("/v2/models/m/ready").await.json(), json!({"name": "m", "ready": true}));
    assert_eq!(app.get("/v2/models/m").await.json()["versions"], json!(["1.1.0"]), "the newest");
    let deployments = app.get("/api/v1/deployments").await.json();
    assert_eq!(deployments["total"], 1);
    assert_eq!(app.post_raw("/v2/repository/models/m/load", "", "{}").await.status, StatusCode::OK);
    assert_eq!(app.get("/api/v1/deployments").await.json()["total"], 1, "it answers already");
    let index = app.post_raw("/v2/repository/index", "", "").await.json();
    assert_eq!(index, json!([{"name": "m", "version": "1.1.0", "state": "READY", "reason": ""}]));
    let refused = app.post_raw("/v2/repository/models/m/unload", "", "{}").await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert!(error(&refused).contains("roll it back"));
}
