//! As much of HTTP/1.1 as a caller needs that must not cost more than the server that it measures.

use anyhow::{Context, ensure};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Keeps the connection alive.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A whole request, head and body.
pub fn request(path: &str, headers: &str, body: &[u8]) -> Bytes {
    let head =
        format!("POST {path} HTTP/1.1\r\nHost: bench\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat().into()
}

impl Connection {
    pub async fn open(address: &str) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(address).await.with_context(|| format!("no server at {address}"))?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 * 1024) })
    }

    /// Sends a request and reads its answer, which has to be 200.
    pub async fn exchange(&mut self, request: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head_end = loop {
            self.read().await?;
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let head = str::from_utf8(&self.buffer[..head_end])?.to_ascii_lowercase();
        let is_ok = head.starts_with("http/1.1 200");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        if let Some(length) = length {
            let length: usize = length.trim().parse()?;
            while self.buffer.len() < head_end + length {
                self.read().await?;
            }
        } else {
            ensure!(head.contains("\ntransfer-encoding: chunked"), "an answer without a length");
            while !has_last_chunk(&self.buffer[head_end..])? {
                self.read().await?;
            }
        }
        ensure!(is_ok, "{}", String::from_utf8_lossy(&self.buffer));
        Ok(())
    }

    async fn read(&mut self) -> anyhow::Result<()> {
        let n_bytes = self.stream.read_buf(&mut self.buffer).await?;
        ensure!(n_bytes > 0, "the server closed the connection");
        Ok(())
    }
}

/// Of a body in chunks and without trailers, as far as it has come.
fn has_last_chunk(mut body: &[u8]) -> anyhow::Result<bool> {
    loop {
        let Some(end) = body.windows(2).position(|window| window == b"\r\n") else { return Ok(false) };
        let size = str::from_utf8(&body[..end])?;
        let size = usize::from_str_radix(size.split(';').next().unwrap_or(size).trim(), 16)?;
        let Some(rest) = body.get(end + 2 + size + 2..) else { return Ok(false) };
        if size == 0 {
            return Ok(true);
        }
        body = rest;
    }
}
