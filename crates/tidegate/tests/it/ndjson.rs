//! Batches that are streams, over a real connection.

use futures::StreamExt;
use serde_json::{Value, json};

use crate::support::{Installation, fixture};

const N_LINES: u64 = 8_000;
/// Of one line: 8 KB of it, 64 MB of all.
const N_ROWS: usize = 500;

/// What the server may grow by while a stream passes that is larger: buffers, and what the allocator keeps of them.
const MAX_GROWTH_BYTES: u64 = 40 << 20;

fn line(index: u64) -> String {
    let rows = vec![json!([index, 0.125, 0.0625]); N_ROWS];
    format!("{}\n", json!({"x": rows}))
}

/// A client that reads while it writes gets every answer, however much it sends, and the server does not grow with it.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_passes_through_bounded_memory() {
    let installation = Installation::new();
    let server = installation.start().await;
    server.api.register("linear", "1.0.0", "model.onnx", fixture("linear.onnx")).await.expect(201);
    server.api.deploy("linear", "1.0.0").await;
    let before = server.resident_bytes();

    let lines = futures::stream::iter((0..N_LINES).map(|index| Ok::<_, std::io::Error>(line(index))));
    let request = reqwest::Client::new().post(server.api.url("/api/v1/inference/linear/batch"));
    let request = request.header("content-type", "application/x-ndjson");
    let response = request.body(reqwest::Body::wrap_stream(lines)).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let (mut body, mut buffer) = (response.bytes_stream(), Vec::new());
    let (mut n_answers, mut most) = (0, 0);
    while let Some(piece) = body.next().await {
        buffer.extend_from_slice(&piece.unwrap());
        while let Some(end) = buffer.iter().position(|byte| *byte == b'\n') {
            let answer: Value = serde_json::from_slice(&buffer[..end]).unwrap();
            assert_eq!(answer["index"], n_answers, "in order, none missing");
            let first = &answer["prediction"]["y"][0][0];
            assert_eq!(
                first.as_f64().unwrap(),
                n_answers as f64 + 3.0 * 0.125 + 5.0 * 0.0625 + 0.5,
                "{first}"
            );
            buffer.drain(..=end);
            n_answers += 1;
            if n_answers % 500 == 0 {
                most = most.max(server.resident_bytes());
            }
        }
    }
    assert_eq!(n_answers, N_LINES);
    assert!(most < before + MAX_GROWTH_BYTES, "grew from {before} to {most} bytes");
}
