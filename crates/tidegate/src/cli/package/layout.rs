//! What lies in an unpacked package, and whether it is what ArcGIS looks for and what the model's item says.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::Value;
use tidegate_geo::ModelItem;
use tidegate_geo::esri::package::ITEM_NAME;
use tidegate_geo::esri::{Definition, DefinitionOptions, Manifest, ModelFormat};
use tidegate_serve::describe_onnx;

use super::esri::check_onnx;

/// A package whose parts fit together.
pub struct Layout {
    /// The name of the `.emd`.
    pub emd: String,
    pub definition: Definition,
    pub item: ModelItem,
    pub model: PathBuf,
}

/// Reads an unpacked package; the error names the first thing that ArcGIS would stumble over.
pub fn read(
    folder: &Path,
    package: &Path,
    manifest: &Manifest,
    item: Option<&Path>,
) -> anyhow::Result<Layout> {
    let emd = find_emd(manifest)?;
    let text = read_text(&folder.join(&emd))?;
    let definition: Definition = serde_json::from_str(&text)
        .with_context(|| format!("`{emd}` is no definition that `tidegate package esri` writes"))?;
    let stem = emd.trim_end_matches(".emd");
    if package.file_stem().is_some_and(|of_package| of_package.to_string_lossy() != stem) {
        bail!("`{emd}` is not called like the package: ArcGIS wants {stem}.dlpk");
    }
    let function = &definition.inference_function;
    let class = function
        .strip_suffix(".py")
        .with_context(|| format!("InferenceFunction `{function}` is no .py file"))?;
    let is_there = |name: &str| manifest.members.iter().any(|member| member.name == *name);
    for (key, name) in [("InferenceFunction", function), ("ModelFile", &definition.model_file)] {
        if !is_there(name) {
            bail!("{key} is `{name}`, which is not in the package");
        }
    }
    if !read_text(&folder.join(function))?.contains(&format!("class {class}:")) {
        bail!("`{function}` has no class {class}: ArcGIS looks for the file's name");
    }
    let item_path = item.map_or_else(|| folder.join(ITEM_NAME), Path::to_owned);
    let item = read_item(&item_path)?;
    hold_against_item(&definition, &item)?;
    let model = folder.join(&definition.model_file);
    if definition.framework == ModelFormat::Onnx {
        check_onnx(&describe_onnx(&model)?, &model)?;
    }
    Ok(Layout { emd, definition, item, model })
}

fn find_emd(manifest: &Manifest) -> anyhow::Result<String> {
    let is_emd = |name: &&str| name.ends_with(".emd") && !name.contains('/');
    let found = manifest.members.iter().map(|member| member.name.as_str()).filter(is_emd).collect::<Vec<_>>();
    match found.as_slice() {
        [emd] => Ok((*emd).to_owned()),
        [] => bail!("there is no .emd at the top of the package"),
        several => bail!("there are several .emd files, ArcGIS takes one: {}", several.join(", ")),
    }
}

fn read_text(path: &Path) -> anyhow::Result<String> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    std::fs::read_to_string(path).with_context(|| format!("`{name}` is not text"))
}

fn read_item(path: &Path) -> anyhow::Result<ModelItem> {
    if !path.is_file() {
        bail!("the package holds no {ITEM_NAME}; name the model's item with --stac");
    }
    let text = read_text(path)?;
    let json: Value =
        serde_json::from_str(&text).with_context(|| format!("`{}` is not JSON", path.display()))?;
    Ok(ModelItem::parse(&json)?)
}

/// Every value of the definition follows from the item, but for those that the maker of the package chooses.
fn hold_against_item(definition: &Definition, item: &ModelItem) -> anyhow::Result<()> {
    let options = DefinitionOptions {
        padding: Some(definition.padding),
        batch_size: Some(definition.batch_size),
        extract_bands: Some(definition.extract_bands.clone()),
    };
    let expected = Definition::new(item, definition.framework, &definition.model_file, &options)?;
    let (expected, actual) = (serde_json::to_value(expected)?, serde_json::to_value(definition)?);
    let keys = expected.as_object().into_iter().flatten();
    match keys.into_iter().find(|(key, value)| actual.get(key.as_str()) != Some(value)) {
        None => Ok(()),
        Some((key, value)) => {
            let actual = actual.get(key).cloned().unwrap_or_default();
            bail!(
                "the definition's {key} is {actual}, by the model's item it is {value}: make the package again"
            )
        }
    }
}
