//! The API as a client meets it: the router in process, a real store on SQLite, a real server on the built-in runtime,
//! and a stand-in for the controller that publishes at once.

#![expect(clippy::unwrap_used, reason = "clippy allows it in tests, but not in their helpers")]

mod bad_input;
mod budget;
mod control;
mod deployments;
mod event_stream;
mod feedback;
mod hostile;
mod images;
mod inference;
mod inference_log;
mod jobs;
mod ndjson;
mod oip;
mod openapi;
mod precision;
mod registry;
mod replicas;
mod respond_async;
mod response_cache;
mod shadow;
mod stac;
mod sticky;
mod support;
mod torchscript;
mod uploads;
