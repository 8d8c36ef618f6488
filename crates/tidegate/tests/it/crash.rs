//! A kill during an upload leaves nothing behind. Kills during rollouts are in `kills`.

use crate::support::{Installation, files_below, fixture};

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_an_upload_leaves_no_version_and_the_upload_can_be_repeated() {
    let installation = Installation::new();
    let server = installation.start().await;
    let (sender, body) = tokio::sync::mpsc::channel::<Result<Vec<u8>, std::io::Error>>(1);
    let head = "--x\r\ncontent-disposition: form-data; name=\"metadata\"\r\ncontent-type: application/json\r\n\r\n\
        {\"name\": \"half\", \"version\": \"1.0.0\", \"framework\": \"ONNX\"}\r\n--x\r\n\
        content-disposition: form-data; name=\"artifact\"; filename=\"model.onnx\"\r\n\r\n";
    sender.send(Ok(head.into())).await.unwrap();
    let stream =
        futures::stream::unfold(body, |mut body| async { body.recv().await.map(|chunk| (chunk, body)) });
    let api = server.api.clone();
    let upload = tokio::spawn(async move {
        let request = reqwest::Client::new().post(api.url("/api/v1/models"));
        let request = request.header("content-type", "multipart/form-data; boundary=x");
        request.body(reqwest::Body::wrap_stream(stream)).send().await
    });
    // Feed it until something of it lies in the artifact folder, then kill.
    let artifacts = installation.data_dir().join("artifacts");
    for _ in 0..200 {
        sender.send(Ok(vec![7; 256 * 1024])).await.unwrap();
        if !files_below(&artifacts).is_empty() {
            break;
        }
    }
    let restarted = installation.restart(server).await;
    assert!(upload.await.unwrap().is_err(), "the upload broke off");
    assert_eq!(restarted.api.get("/api/v1/models/half").await.status, 404);
    let again = restarted.api.register("half", "1.0.0", "model.onnx", fixture("version-1.onnx")).await;
    again.expect(201);
    restarted.api.deploy("half", "1.0.0").await;
}
