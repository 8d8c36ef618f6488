//! `map<string, InferParameter>`, of which only a few keys mean something here; the rest is not kept.

use bytes::Bytes;

use super::fields::{Fields, Malformed, Value};
use crate::error::ApiError;

/// The parameters that mean something, wherever they stand.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Parameters {
    pub classification: usize,
    /// In microseconds; 0 is none.
    pub timeout_us: u64,
    /// Whether a stream wants to be told which response is the last one of a request.
    pub wants_final: bool,
    has_sequence: bool,
    has_shared_memory: bool,
}

impl Parameters {
    /// Reads one entry of the map.
    pub(super) fn read(&mut self, entry: Bytes) -> Result<(), Malformed> {
        let (mut key, mut value) = (Bytes::new(), Bytes::new());
        let mut fields = Fields(entry);
        while let Some((number, field)) = fields.next()? {
            match number {
                1 => key = field.bytes()?,
                2 => value = field.bytes()?,
                _ => {}
            }
        }
        match key.as_ref() {
            b"classification" => self.classification = usize::try_from(number(value)?).unwrap_or(usize::MAX),
            b"timeout" => self.timeout_us = number(value)?,
            b"triton_enable_empty_final_response" => self.wants_final = number(value)? != 0,
            // Clients send the number 0 for none.
            b"sequence_id" => self.has_sequence = !is_zero(value)?,
            b"shared_memory_region" => self.has_shared_memory = true,
            _ => {}
        }
        Ok(())
    }

    /// Refuses what would need a memory that the server does not have.
    pub(super) fn refuse_state(&self, field: &str) -> Result<(), ApiError> {
        let refused = |name: &str, message: &str| Err(ApiError::invalid(format!("{field}.{name}"), message));
        if self.has_sequence {
            return refused("sequence_id", "models keep no state between requests; leave it out");
        }
        if self.has_shared_memory {
            return refused(
                "shared_memory_region",
                "shared memory is not supported; send the data in the request",
            );
        }
        Ok(())
    }
}

/// Of an `InferParameter`: a truth value, a whole number of either kind; 0 for the others.
fn number(parameter: Bytes) -> Result<u64, Malformed> {
    match Fields(parameter).next()? {
        Some((1 | 2 | 5, Value::Varint(number))) => Ok(number),
        _ => Ok(0),
    }
}

/// The number 0 or the text "".
fn is_zero(parameter: Bytes) -> Result<bool, Malformed> {
    Ok(match Fields(parameter).next()? {
        Some((_, Value::Varint(number))) => number == 0,
        Some((_, Value::Bytes(text))) => text.is_empty(),
        _ => true,
    })
}
