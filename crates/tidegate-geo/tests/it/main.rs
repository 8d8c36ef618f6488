//! The crate through its public face: items, images, segmentation, outputs, and the real data beside the repository.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "clippy's leave for tests ends at their helpers"
)]

mod esri;
mod images;
mod items;
mod outputs;
mod real_data;
mod scenes;
mod segments;
mod support;
mod validation;
