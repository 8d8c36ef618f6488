//! Events: page by page, and a deployment's as they happen, by server-sent events (WHATWG HTML, section 9.2) as far as the
//! server writes them.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::Value;

use super::Client;

/// The server sends a comment after 15 s of silence; a connection that is silent for three of those is dead.
const LONGEST_SILENCE: Duration = Duration::from_secs(45);

/// Of unread bytes. An event carries its evidence, some kilobytes; one that never ends is none of ours.
const MAX_BUFFER: usize = 4 << 20;

const EVENT_STREAM: &str = "text/event-stream";

/// An open stream. It ends when the deployment is settled, or breaks off.
pub struct EventStream {
    response: Response,
    parser: Parser,
}

/// The most that the server gives at once.
const PAGE: usize = 100;

impl Client {
    /// The events of a deployment or a job, by its path, after a number, page by page.
    pub async fn events_after(&self, of: &str, after: u64) -> anyhow::Result<Vec<Value>> {
        let mut events: Vec<Value> = Vec::new();
        loop {
            let last = events.last().and_then(|event| event["seq"].as_u64()).unwrap_or(after);
            let mut page = self.get(&format!("{of}/events?after={last}&limit={PAGE}")).await?;
            let Value::Array(found) = page["events"].take() else {
                bail!("the server's answer has no `events`")
            };
            let is_last = found.len() < PAGE;
            events.extend(found);
            if is_last {
                return Ok(events);
            }
        }
    }

    /// Opens the stream of the events after a number; `None` when nothing is left and nothing more comes.
    pub async fn stream_events(&self, deployment: &str, after: u64) -> anyhow::Result<Option<EventStream>> {
        let path = format!("/api/v1/deployments/{}/events", Self::segment(deployment));
        let request = self.request(Method::GET, &path)?.header(header::ACCEPT, EVENT_STREAM);
        let response = self.send(request.header("last-event-id", after.to_string())).await?;
        if response.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let kind = response.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        if !kind.is_some_and(|kind| kind.starts_with(EVENT_STREAM)) {
            bail!("the answer is no stream of events");
        }
        Ok(Some(EventStream { response, parser: Parser::default() }))
    }
}

impl EventStream {
    /// The next event; `None` at the end of the stream. May be dropped while it waits: nothing is lost.
    pub async fn next(&mut self) -> anyhow::Result<Option<Value>> {
        loop {
            if let Some(event) = self.parser.next_event()? {
                return Ok(Some(event));
            }
            let chunk = tokio::time::timeout(LONGEST_SILENCE, self.response.chunk()).await;
            match chunk.context("the stream fell silent")?.context("the stream broke off")? {
                Some(bytes) => self.parser.push(&bytes)?,
                None => return Ok(None),
            }
        }
    }
}

/// Bytes in, events out, however they were cut.
#[derive(Default)]
struct Parser {
    unread: Vec<u8>,
    data: String,
}

impl Parser {
    fn push(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.unread.len() + self.data.len() + bytes.len() > MAX_BUFFER {
            bail!("an event is larger than {} MiB", MAX_BUFFER >> 20);
        }
        self.unread.extend_from_slice(bytes);
        Ok(())
    }

    /// An event is its `data` lines up to an empty line; other lines (`id`, comments) say nothing that is not in there.
    fn next_event(&mut self) -> anyhow::Result<Option<Value>> {
        while let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches(['\r', '\n']);
            if let Some(data) = line.strip_prefix("data:") {
                self.data.push_str(data);
                self.data.push('\n');
            } else if line.is_empty() && !self.data.is_empty() {
                let data = std::mem::take(&mut self.data);
                return serde_json::from_str(&data).map(Some).context("an event is not JSON");
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn events_are_whole_however_the_stream_is_cut() {
        let stream = ": a comment\n\nid: 1\ndata: {\"seq\": 1,\ndata: \"message\": \"grün\"}\n\n\r\nid: 2\r\ndata:{\"seq\":2}\r\n\r\ndata: {\"seq\"";
        for size in [1, 2, 3, 7, stream.len()] {
            let (mut parser, mut events) = (Parser::default(), vec![]);
            for chunk in stream.as_bytes().chunks(size) {
                parser.push(chunk).unwrap();
                while let Some(event) = parser.next_event().unwrap() {
                    events.push(event);
                }
            }
            assert_eq!(events, [json!({"seq": 1, "message": "grün"}), json!({"seq": 2})], "{size}");
        }
    }

    #[test]
    fn what_is_no_event_of_ours_is_an_error_and_not_a_growing_buffer() {
        let mut parser = Parser::default();
        parser.push(b"data: <html>\n\n").unwrap();
        assert!(parser.next_event().is_err());
        let mut endless = Parser::default();
        let chunk = [b'x'; 1 << 16];
        assert!((0..100).any(|_| endless.push(&chunk).is_err() || endless.next_event().is_err()));
    }
}
