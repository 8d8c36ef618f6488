//! The crate through its public face: items, images, segmentation, outputs, and the real data beside the repository.

mod images;
mod items;
mod outputs;
mod real_data;
mod segments;
mod support;
