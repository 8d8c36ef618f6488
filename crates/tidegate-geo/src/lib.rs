//! Rasters, tiles, stitching and STAC-MLM: from an image and a model's STAC item to a mask.
//!
//! Knows no HTTP, no database, no async runtime and no model runtime: inference comes in as a closure from one tensor
//! to one tensor, and the time of day as an argument. Nothing of any one model is written here; bands, ground
//! resolution, scaling, input shape, classes, activation and threshold are read from its item.
//!
//! Start reading at [`stac_mlm`] (what the model wants), then [`image`] and [`raster`] (what we have),
//! [`segment`](mod@segment) (how one meets the other), [`outputs`] (what is left behind of an image) and [`scene`] (rasters
//! of any size, and what is left behind of them).

pub mod esri;
pub mod image;
pub mod outputs;
pub mod raster;
pub mod scene;
pub mod segment;
pub mod stac_mlm;

pub use image::{CrsUnit, GeoReference, Image, ImageError, ImageLimits, decode};
pub use outputs::{OutputFile, Provenance, RenderError, render, write_files};
pub use segment::{Placement, Progress, RunFault, SegmentError, SegmentOptions, Segmentation, segment};
pub use stac_mlm::{
    Activation, Band, Class, DimOrder, Ending, Envelope, Finding, HrefError, InputSpec, InvalidItem,
    ItemFault, ModelAsset, ModelItem, OutputSpec, Scaling, Severity, resolve_href, validate,
};
