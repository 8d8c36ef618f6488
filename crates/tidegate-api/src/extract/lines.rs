//! A body read line by line: as much at a time as its reader wants, however long the body is.

use axum::body::{Body, BodyDataStream};
use bytes::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt};

use crate::error::ApiError;

/// The lines of a body that are not blank. Holds one line and what the network gave beyond it.
pub(crate) struct Lines {
    body: BodyDataStream,
    buffer: BytesMut,
    /// So many bytes of the buffer hold no end of a line.
    n_scanned: usize,
    max_line_bytes: usize,
    /// The line at the beginning of the buffer is too long; what came of it is thrown away.
    is_skipping: bool,
    is_over: bool,
    /// What ended the body, until somebody is told.
    fault: Option<ApiError>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Line {
    /// Without its end.
    Whole(Bytes),
    TooLong,
}

impl Lines {
    pub(crate) fn new(body: Body, max_line_bytes: usize) -> Self {
        Self {
            body: body.into_data_stream(),
            buffer: BytesMut::new(),
            n_scanned: 0,
            max_line_bytes,
            is_skipping: false,
            is_over: false,
            fault: None,
        }
    }

    /// The next line, and those behind it that need not be waited for; `None` at the end. No more than `max_lines`, and none
    /// after `max_bytes`. What is wrong with the body comes after the lines before it.
    pub(crate) async fn next_few(
        &mut self,
        max_lines: usize,
        max_bytes: usize,
    ) -> Result<Option<Vec<Line>>, ApiError> {
        let Some(first) = self.next().await? else { return Ok(None) };
        let mut n_bytes = first.len();
        let mut lines = vec![first];
        while lines.len() < max_lines && n_bytes < max_bytes {
            match self.next().now_or_never() {
                Some(Ok(Some(line))) => {
                    n_bytes += line.len();
                    lines.push(line);
                }
                Some(Err(fault)) => {
                    self.fault = Some(fault);
                    break;
                }
                Some(Ok(None)) | None => break,
            }
        }
        Ok(Some(lines))
    }

    /// Dropped before it is ready, it has taken nothing.
    async fn next(&mut self) -> Result<Option<Line>, ApiError> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        loop {
            if let Some(line) = self.cut() {
                return Ok(Some(line));
            }
            if self.is_over {
                return Ok(None);
            }
            match self.body.next().await {
                Some(Ok(bytes)) => self.buffer.extend_from_slice(&bytes),
                Some(Err(error)) => {
                    self.is_over = true;
                    self.buffer.clear();
                    return Err(ApiError::of_body(&error));
                }
                None => {
                    self.is_over = true;
                    // The last line may have no end.
                    self.buffer.extend_from_slice(b"\n");
                }
            }
        }
    }

    /// The first line of the buffer that is not blank, if it is there to its end.
    fn cut(&mut self) -> Option<Line> {
        loop {
            let Some(end) = self.buffer[self.n_scanned..].iter().position(|byte| *byte == b'\n') else {
                self.n_scanned = self.buffer.len();
                if self.n_scanned > self.max_line_bytes {
                    // Blanks alone are no line, however many.
                    self.is_skipping |= !self.buffer.trim_ascii().is_empty();
                    self.buffer.clear();
                    self.n_scanned = 0;
                }
                return None;
            };
            let line = self.buffer.split_to(self.n_scanned + end + 1).freeze();
            self.n_scanned = 0;
            let line = line.slice_ref(line.trim_ascii());
            if std::mem::take(&mut self.is_skipping) || line.len() > self.max_line_bytes {
                return Some(Line::TooLong);
            }
            if !line.is_empty() {
                return Some(Line::Whole(line));
            }
        }
    }
}

impl Line {
    fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::TooLong => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures::stream;
    use proptest::prelude::*;

    use super::*;

    fn read(pieces: Vec<Result<Bytes, io::Error>>, max_line_bytes: usize) -> (Vec<Line>, Option<ApiError>) {
        let mut lines = Lines::new(Body::from_stream(stream::iter(pieces)), max_line_bytes);
        let mut read = Vec::new();
        let read_all = async {
            loop {
                match lines.next_few(3, 10).await {
                    Ok(Some(few)) => read.extend(few),
                    Ok(None) => return None,
                    Err(fault) => return Some(fault),
                }
            }
        };
        let fault = read_all.now_or_never().unwrap();
        (read, fault)
    }

    #[test]
    fn what_breaks_a_body_comes_after_the_lines_before_it() {
        let pieces = vec![Ok(Bytes::from("a\nb\nc\nd\nhalf")), Err(io::Error::other("gone"))];
        let (lines, fault) = read(pieces, 100);
        let expected: Vec<_> = ["a", "b", "c", "d"].map(|line| Line::Whole(Bytes::from(line))).into();
        assert_eq!(lines, expected);
        assert!(fault.is_some());
    }

    proptest! {
        /// However the network cuts it: the lines of the text, the blank ones left out, the long ones marked.
        #[test]
        fn lines_come_as_they_were_written(
            text in "[ab\r\n ]{0,60}",
            cuts in prop::collection::vec(1usize..10, 1..20),
            max_line_bytes in 1usize..8,
        ) {
            let mut rest = Bytes::from(text.clone());
            let mut pieces = Vec::new();
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                pieces.push(Ok(rest.split_to((*cut).min(rest.len()))));
            }
            let (lines, fault) = read(pieces, max_line_bytes);
            prop_assert!(fault.is_none());
            let written = text.split('\n').map(|line| line.trim_ascii().to_owned());
            let written: Vec<_> = written.filter(|line| !line.is_empty()).collect();
            // Blanks around a line may make it too long to be held, or not, as the network cuts it.
            let mut lines = lines.into_iter();
            for line in written {
                match lines.next() {
                    Some(Line::Whole(read)) => prop_assert_eq!(read, line),
                    Some(Line::TooLong) => {}
                    None => prop_assert!(false, "`{}` is missing", line),
                }
            }
            prop_assert_eq!(lines.next(), None);
        }
    }
}
