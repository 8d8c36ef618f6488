//! STAC items with the Machine Learning Model extension (<https://github.com/stac-extensions/mlm>): a typed reader of
//! versions 1.4 to 1.6, a writer of 1.5.1, and [`validate()`], which says all that is wrong with an item and its files.
//!
//! Says what a model wants and gives, and runs nothing; only `validate` opens files. All faults of an item are found in one pass, each
//! with its JSON pointer (RFC 6901) and the fix, so that an author corrects them in one go.

mod asset;
mod ending;
mod href;
mod input;
mod output;
mod reader;
mod scaling;
mod validate;
mod write;

use serde_json::Value;
use tidegate_core::SemVer;

pub use asset::ModelAsset;
pub use ending::Ending;
pub use href::{HrefError, resolve_href};
pub(crate) use input::data_type_name;
pub use input::{ANY_SIZE_TILE, DimOrder, InputSpec};
pub use output::{Activation, Class, OutputSpec};
use reader::{Faults, Node};
pub use scaling::Scaling;
pub use validate::{Finding, Severity, validate};
pub use write::Envelope;

/// What an item says of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelItem {
    pub id: String,
    /// `mlm:name`, as written.
    pub name: String,
    /// `properties.version`; absent where the item does not say.
    pub version: Option<SemVer>,
    pub title: Option<String>,
    pub description: Option<String>,
    pub architecture: String,
    pub framework: Option<String>,
    pub tasks: Vec<String>,
    /// Metres on the ground per pixel that the model was trained at.
    pub gsd: Option<f64>,
    /// Every band that the item defines, in its order.
    pub bands: Vec<Band>,
    pub input: InputSpec,
    pub output: OutputSpec,
    /// Every asset, whatever its kind, in the item's order.
    pub assets: Vec<ModelAsset>,
    /// `mlm:hyperparameters`, as written.
    pub hyperparameters: Option<Value>,
}

/// A band that the item defines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Band {
    pub name: String,
    /// `red`, `nir`, ... of the EO extension.
    pub common_name: Option<String>,
}

/// One thing that is wrong with an item: what, and the fix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemFault {
    /// JSON pointer (RFC 6901) to the value, or to where a missing one belongs.
    pub pointer: String,
    pub message: String,
}

/// Everything that is wrong with an item; never empty.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct InvalidItem {
    pub faults: Vec<ItemFault>,
}

impl std::fmt::Display for InvalidItem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plural = if self.faults.len() == 1 { "fault" } else { "faults" };
        write!(f, "the STAC item has {} {plural}", self.faults.len())?;
        for fault in &self.faults {
            let pointer = if fault.pointer.is_empty() { "/" } else { &fault.pointer };
            write!(f, "\n  {pointer}: {}", fault.message)?;
        }
        Ok(())
    }
}

impl ModelItem {
    /// Reads an item; on failure every fault at once.
    pub fn parse(item: &Value) -> Result<ModelItem, InvalidItem> {
        let mut faults = Faults::default();
        match read(&Node::root(item), &mut faults) {
            Some(model_item) if faults.is_empty() => Ok(model_item),
            _ => Err(InvalidItem { faults: faults.into_vec() }),
        }
    }

    /// 0, 1, 2 for a band called red, green or blue, or commonly known so.
    pub fn color_of_band(&self, name: &str) -> Option<usize> {
        let color = |name: &str| COLORS.iter().position(|color| color.eq_ignore_ascii_case(name));
        let band = self.bands.iter().find(|band| band.name == name);
        band.and_then(|band| color(band.common_name.as_deref()?)).or_else(|| color(name))
    }
}

/// Of every picture, in this order.
const COLORS: [&str; 3] = ["red", "green", "blue"];

/// `None` only with a fault recorded.
fn read(item: &Node<'_>, faults: &mut Faults) -> Option<ModelItem> {
    if !item.value.is_object() {
        faults.add(item, format!("expected a STAC item (an object), got {}", item.kind()));
        return None;
    }
    check_envelope(item, faults);
    let id = faults.required_text(item, "id", "the item's id");
    let (assets, asset_bands) = asset::read(item, faults);
    let properties = faults.required(item, "properties", "an object with the `mlm:` fields")?;
    let bands = read_bands(&properties, asset_bands, faults);

    let name = faults.required_text(&properties, "mlm:name", "the model's name");
    let architecture = faults.required_text(&properties, "mlm:architecture", "such as `U-Net`");
    let tasks = faults
        .required(&properties, "mlm:tasks", "such as [\"semantic-segmentation\"]")
        .map(|node| faults.texts(&node));
    let input = input::read(&properties, &bands, faults);
    let output = output::read(&properties, faults);
    let version = read_version(&properties, faults);
    let gsd = properties.get("gsd").and_then(|node| faults.positive(&node, "metres per pixel"));

    Some(ModelItem {
        id: id?,
        name: name?,
        version,
        title: faults.optional_text(&properties, "title"),
        description: faults.optional_text(&properties, "description"),
        architecture: architecture?,
        framework: faults.optional_text(&properties, "mlm:framework"),
        tasks: tasks?,
        gsd,
        bands,
        input: input?,
        output: output?,
        assets,
        hyperparameters: properties.get("mlm:hyperparameters").map(|node| node.value.clone()),
    })
}

/// The item is a Feature and declares a version of the extension that this reader knows.
fn check_envelope(item: &Node<'_>, faults: &mut Faults) {
    if item.get("type").is_none_or(|node| node.value != "Feature") {
        faults.add_at(
            item.pointer_to("type"),
            "expected \"Feature\": only STAC items describe one model".to_owned(),
        );
    }
    let Some(extensions) = faults.required(item, "stac_extensions", "a list of schema addresses") else {
        return;
    };
    let declared = faults.texts(&extensions);
    let known =
        |address: &String| mlm_version(address).is_some_and(|(major, minor)| major == 1 && minor >= 4);
    if declared.iter().any(known) {
        return;
    }
    let message = match declared.iter().find(|address| mlm_version(address).is_some()) {
        Some(address) => format!("`{address}` is not supported: migrate the item to MLM 1.4, 1.5 or 1.6"),
        None => {
            "the item does not declare the MLM extension: add \"https://stac-extensions.github.io/mlm/v1.5.1/schema.json\""
                .to_owned()
        }
    };
    faults.add(&extensions, message);
}

/// The major and minor version in `.../mlm/v1.5.1/schema.json`.
fn mlm_version(address: &str) -> Option<(u32, u32)> {
    let (_, version) = address.split_once("/mlm/v")?;
    let mut parts = version.split(['.', '/']);
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn read_version(properties: &Node<'_>, faults: &mut Faults) -> Option<SemVer> {
    let node = properties.get("version")?;
    let text = faults.text(&node)?;
    match SemVer::parse(&text) {
        Ok(version) => Some(version),
        Err(error) => {
            faults.add(&node, format!("`{text}` is not a semantic version ({error}): write it like 1.0.0"));
            None
        }
    }
}

/// Definitions stand in STAC 1.1's `bands`, or in `eo:bands` or `raster:bands`, of the item or of an asset.
fn read_bands(properties: &Node<'_>, asset_bands: Vec<Band>, faults: &mut Faults) -> Vec<Band> {
    let mut bands = bands_of(properties, faults);
    for band in asset_bands {
        if !bands.iter().any(|known| known.name == band.name) {
            bands.push(band);
        }
    }
    bands
}

/// The named bands of one object (the properties, or an asset).
fn bands_of(node: &Node<'_>, faults: &mut Faults) -> Vec<Band> {
    let mut bands = Vec::new();
    for key in ["bands", "eo:bands", "raster:bands"] {
        let Some(list) = node.get(key) else { continue };
        for entry in faults.list(&list) {
            // A band without a name is legal in the raster extension; nothing can refer to it.
            let Some(name) = faults.optional_text(&entry, "name") else { continue };
            let common_name = faults
                .optional_text(&entry, "eo:common_name")
                .or_else(|| faults.optional_text(&entry, "common_name"));
            bands.push(Band { name, common_name });
        }
    }
    bands
}
