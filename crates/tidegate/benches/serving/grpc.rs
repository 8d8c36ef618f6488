//! As much of gRPC as a caller needs, over the HTTP/2 that hyper brings along.

use anyhow::{Context, ensure};
use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;

/// Larger than any answer: nobody waits for a window.
const WINDOW: u32 = 16 << 20;

pub struct Connection {
    sender: SendRequest<Bytes>,
    uri: String,
}

/// A message with the prefix that says it is not compressed and how long it is.
pub fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).expect("a message is smaller than 4 GB");
    [&[0], &length.to_be_bytes()[..], message].concat().into()
}

impl Connection {
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("no server at {address}"))?;
        stream.set_nodelay(true)?;
        let mut client = h2::client::Builder::new();
        client.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let (sender, connection) = client.handshake(stream).await?;
        tokio::spawn(connection);
        Ok(Self { sender, uri: format!("http://{address}/inference.GRPCInferenceService/ModelInfer") })
    }

    /// Sends a framed request and reads its answer, whose status has to be OK.
    pub async fn exchange(&mut self, request: &Bytes) -> anyhow::Result<()> {
        let head =
            Request::post(&self.uri).header("content-type", "application/grpc").header("te", "trailers");
        let mut sender = self.sender.clone().ready().await?;
        let (answer, mut body) = sender.send_request(head.body(())?, false)?;
        body.send_data(request.clone(), true)?;
        let answer = answer.await?;
        ensure!(answer.status() == 200, "status {}", answer.status());
        let mut stream = answer.into_body();
        while let Some(data) = stream.data().await {
            stream.flow_control().release_capacity(data?.len())?;
        }
        let trailers = stream.trailers().await?.context("an answer without trailers")?;
        ensure!(trailers.get("grpc-status").is_some_and(|status| status == "0"), "{trailers:?}");
        Ok(())
    }
}
