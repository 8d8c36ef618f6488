//! The Open Inference Protocol, as its own clients speak it.

use std::process::Command;

use serde_json::json;

use crate::support::{Api, Installation, fixture, repository};

/// What the runtime in use takes; the built-in one takes fewer.
async fn datatypes(api: &Api) -> Vec<&'static str> {
    const ALL: [&str; 14] = [
        "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "BF16",
        "FP32", "FP64", "BYTES",
    ];
    const BUILT_IN: [&str; 7] = ["BOOL", "UINT8", "INT8", "INT32", "INT64", "FP16", "FP32"];
    let server = api.get("/api/v1/server").await.expect(200);
    if server["runtime"]["name"] == "onnxruntime" {
        return ALL.to_vec();
    }
    crate::skip(
        "half of the datatypes, because ONNX Runtime is not installed (scripts/install-onnxruntime.sh)",
    );
    BUILT_IN.to_vec()
}

async fn serve(api: &Api, name: &str, version: &str, file: &str) {
    api.register(name, version, file, fixture(file)).await.expect(201);
    api.deploy(name, version).await;
}

/// Runs a script of `tests/clients` with the clients' own Python. False where that is not there.
fn run_client(script: &str, arguments: &[&str]) -> bool {
    let python = repository().join(".tools/python/bin/python");
    if !python.exists() {
        crate::skip("the Python clients are not installed (scripts/install-python-tools.sh)");
        return false;
    }
    let script = repository().join("crates/tidegate/tests/clients").join(script);
    let output = Command::new(python).arg(script).args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    true
}

#[tokio::test(flavor = "multi_thread")]
async fn its_clients_work_unchanged() {
    let extra_env = vec![("TIDEGATE_SERVER__MAX_REQUEST_MIB".to_owned(), "16".to_owned())];
    let installation = Installation { engine: "auto", extra_env, ..Installation::new() };
    let server = installation.start().await;
    let api = &server.api;
    let datatypes = datatypes(api).await;
    let identities = datatypes.iter().map(|datatype| {
        let name = format!("identity-{}", datatype.to_lowercase());
        async move { serve(api, &name, "1.0.0", &format!("{name}.onnx")).await }
    });
    futures::future::join_all(identities).await;
    serve(api, "linear", "1.0.0", "linear.onnx").await;
    api.register("undeployed", "1.0.0", "linear.onnx", fixture("linear.onnx")).await.expect(201);
    serve(api, "numbered", "1.0.0", "version-1.onnx").await;
    api.register("numbered", "2.0.0", "version-2.onnx", fixture("version-2.onnx")).await.expect(201);
    let staging = json!({"modelId": "numbered", "version": "2.0.0", "environment": "Staging",
        "strategyConfig": {"smokeTestSamples": 2}});
    let deployment = api.post("/api/v1/deployments", &staging).await.expect(202)["deploymentId"].clone();
    let path = format!("/api/v1/deployments/{}", deployment.as_str().unwrap());
    api.wait_for(&path, |answer| answer.body["trafficPercentage"] == json!(100)).await;

    let address = api.base.trim_start_matches("http://").to_owned();
    let with_types: Vec<&str> = std::iter::once(address.as_str()).chain(datatypes).collect();
    if !run_client("oip_triton.py", &with_types) {
        return;
    }
    run_client("oip_kserve.py", &[&address]);
    run_client("oip_proto.py", &[&address, &repository().join("proto").display().to_string()]);

    // What the scripts asked of this model, whichever way it came.
    let statistics = api.get("/v2/models/linear/stats").await.expect(200)["model_stats"][0].take();
    let successes = &statistics["inference_stats"]["success"]["count"];
    assert!(successes.as_u64().unwrap() > 70, "{statistics}");
}

/// Binary tensors by hand, as the documentation shows.
#[tokio::test(flavor = "multi_thread")]
async fn curl_works_too() {
    let installation = Installation::new();
    let server = installation.start().await;
    let api = &server.api;
    serve(api, "linear", "1.0.0", "linear.onnx").await;
    let json = r#"{"inputs":[{"name":"x","shape":[1,3],"datatype":"FP32","parameters":{"binary_data_size":12}}],"outputs":[{"name":"y","parameters":{"binary_data":true}}]}"#;
    let tensor: Vec<u8> = [1f32, 2.0, 3.0].iter().flat_map(|value| value.to_le_bytes()).collect();
    let body = installation.folder.path().join("body");
    std::fs::write(&body, [json.as_bytes(), &tensor].concat()).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--fail", "--data-binary"]).arg(format!("@{}", body.display()));
    curl.args(["--header", "Content-Type: application/octet-stream", "--dump-header"]);
    curl.arg(installation.folder.path().join("head"));
    curl.args(["--header", &format!("Inference-Header-Content-Length: {}", json.len())]);
    let output = curl.arg(api.url("/v2/models/linear/infer")).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (answer, values) = output.stdout.split_at(output.stdout.len() - 8);
    let answer: serde_json::Value = serde_json::from_slice(answer).unwrap();
    assert_eq!(answer["outputs"][0]["parameters"]["binary_data_size"], 8, "{answer}");
    assert_eq!(values, [22.5f32, 27.5].map(f32::to_le_bytes).concat());
    let head = std::fs::read_to_string(installation.folder.path().join("head")).unwrap().to_lowercase();
    assert!(
        head.contains(&format!("inference-header-content-length: {}", output.stdout.len() - 8)),
        "{head}"
    );
}
