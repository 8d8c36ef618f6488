//! Inputs and outputs: shapes, dimensions, bands, scaling, classes, processing; and whether they fit each other.

use super::Report;
use super::fields::check_tasks;
use crate::stac_mlm::reader::{Faults, Node};
use crate::stac_mlm::{ModelItem, Scaling};

/// Data types of the raster extension, which MLM refers to.
const DATA_TYPES: [&str; 16] = [
    "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
    "float64", "cint16", "cint32", "cfloat32", "cfloat64", "other",
];

const RESIZE_TYPES: [&str; 10] = [
    "crop",
    "pad",
    "interpolation-nearest",
    "interpolation-linear",
    "interpolation-cubic",
    "interpolation-area",
    "interpolation-lanczos4",
    "interpolation-max",
    "wrap-fill-outliers",
    "wrap-inverse-map",
];

/// `item` where it could be read: what needs sense and not only form is looked at then.
pub(super) fn check(properties: &Node<'_>, item: Option<&ModelItem>, report: &mut Report) {
    for input in entries(properties, "mlm:input") {
        check_tensor(&input, "input", report);
        check_scaling(&input, report);
        check_resize(&input, report);
        check_processing(&input, "pre_processing_function", report);
    }
    for output in entries(properties, "mlm:output") {
        check_tensor(&output, "result", report);
        if let Some(tasks) = output.get("tasks") {
            let mut faults = Faults::default();
            check_tasks(&tasks, &mut faults);
            report.take(faults);
        }
        check_classes(&output, report);
        check_processing(&output, "post_processing_function", report);
    }
    if let Some(item) = item {
        check_class_numbers(properties, item, report);
        check_activation(properties, item, report);
        check_statistics(properties, item, report);
    }
}

fn entries<'a>(properties: &Node<'a>, key: &str) -> Vec<Node<'a>> {
    let list = properties.get(key);
    let entries = list.map(|list| Faults::default().list(&list)).unwrap_or_default();
    entries.into_iter().filter(|entry| entry.value.is_object()).collect()
}

/// `shape`, `dim_order` and `data_type` of an input or a result, and its bands.
fn check_tensor(node: &Node<'_>, structure_key: &str, report: &mut Report) {
    let Some(structure) = node.get(structure_key).filter(|structure| structure.value.is_object()) else {
        return;
    };
    let mut faults = Faults::default();
    let dims = structure.get("dim_order").map(|dims| check_dims(&dims, &mut faults));
    let sizes = structure.get("shape").map(|shape| check_shape(&shape, &mut faults));
    if let (Some(dims), Some(sizes)) = (&dims, sizes)
        && dims.len() != sizes
    {
        let message =
            format!("has {sizes} axes, but dim_order has {}: give one size for each axis", dims.len());
        faults.add_at(structure.pointer_to("shape"), message);
    }
    if let Some(data_type) = structure.get("data_type")
        && faults.text(&data_type).is_some_and(|name| !DATA_TYPES.contains(&name.as_str()))
    {
        faults.add(&data_type, format!("not a data type: give one of {}", DATA_TYPES.join(", ")));
    }
    for (key, dimension) in [("bands", "bands"), ("variables", "variables")] {
        let named = node.get(key).map(|list| check_references(&list, &mut faults)).unwrap_or(0);
        let has_axis = dims.as_ref().is_some_and(|dims| dims.iter().any(|dim| dim == dimension));
        let pointer = structure.pointer_to("dim_order");
        match (named > 0, has_axis) {
            (true, false) if dims.is_some() => {
                faults
                    .add_at(pointer, format!("{key} are named, so one axis must be called \"{dimension}\""));
            }
            (false, true) => {
                let message = format!(
                    "an axis is called \"{dimension}\", but no {key} are named: name them, or call it \"channel\""
                );
                faults.add_at(pointer, message);
            }
            _ => {}
        }
    }
    report.take(faults);
}

fn check_dims(dims: &Node<'_>, faults: &mut Faults) -> Vec<String> {
    let names = faults.texts(dims);
    if names.is_empty() && dims.value.is_array() {
        faults.add(dims, "empty: name the axes".to_owned());
    }
    for (index, name) in names.iter().enumerate() {
        let fits = !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || "-_".contains(c));
        let pointer = format!("{}/{index}", dims.pointer);
        if !fits {
            faults.add_at(
                pointer,
                format!("`{name}` is not the name of an axis: use small letters, `-` and `_`"),
            );
        } else if names[..index].contains(name) {
            faults.add_at(pointer, format!("`{name}` stands twice: name each axis once"));
        }
    }
    names
}

/// The number of axes.
fn check_shape(shape: &Node<'_>, faults: &mut Faults) -> usize {
    let sizes = faults.list(shape);
    if sizes.is_empty() && shape.value.is_array() {
        faults.add(shape, "empty: give a size for each axis".to_owned());
    }
    for size in &sizes {
        if faults.integer(size).is_some_and(|number| number < -1) {
            faults.add(size, "not a size: give it, or -1 where it varies".to_owned());
        }
    }
    sizes.len()
}

/// How many bands or variables are named.
fn check_references(list: &Node<'_>, faults: &mut Faults) -> usize {
    let references = faults.list(list);
    for entry in &references {
        let Some(members) = entry.value.as_object() else {
            if faults.text(entry).is_some_and(|name| name.is_empty()) {
                faults.add(entry, "empty: give the name".to_owned());
            }
            continue;
        };
        faults.required_text(entry, "name", "the name");
        for (key, other) in [("format", "expression"), ("expression", "format")] {
            if members.contains_key(key) && !members.contains_key(other) {
                faults.add_at(entry.pointer_to(other), format!("missing: `{key}` needs it"));
            }
        }
        for key in members.keys().filter(|key| !["name", "format", "expression"].contains(&key.as_str())) {
            faults.add_at(
                entry.pointer_to(key),
                "not allowed here: describe the band in `bands` of the properties".to_owned(),
            );
        }
    }
    references.len()
}

fn check_scaling(input: &Node<'_>, report: &mut Report) {
    let Some(scaling) = input.get("value_scaling") else { return };
    let Some(entries) = scaling.value.as_array() else {
        report.error(&scaling.pointer, format!("expected a list, got {}: put it in [ ]", scaling.kind()));
        return;
    };
    for (index, entry) in entries.iter().enumerate() {
        if entry.get("type").is_none_or(|kind| kind.is_null()) {
            let message = "the schema wants a type: give {\"type\": \"offset\", \"value\": 0} for a band that is not scaled";
            report.error(&format!("{}/{index}", scaling.pointer), message);
        }
    }
}

fn check_resize(input: &Node<'_>, report: &mut Report) {
    if let Some(resize) = input.get("resize_type")
        && resize.value.as_str().is_none_or(|kind| !RESIZE_TYPES.contains(&kind))
    {
        let message = format!("not a way to resize: give null or one of {}", RESIZE_TYPES.join(", "));
        report.error(&resize.pointer, message);
    }
}

/// A processing expression, a list of them, or null.
fn check_processing(node: &Node<'_>, key: &str, report: &mut Report) {
    let Some(function) = node.get(key) else { return };
    let mut faults = Faults::default();
    let expressions = match function.value.is_array() {
        true => faults.list(&function),
        false => vec![function.clone()],
    };
    if expressions.is_empty() {
        faults.add(&function, "empty: give null where nothing is done".to_owned());
    }
    for expression in expressions.iter().filter(|expression| !expression.value.is_null()) {
        if !expression.value.is_object() {
            let message = format!(
                "expected an object with format and expression, got {}: write {{\"format\": \"python\", \"expression\": \"sigmoid\"}}",
                expression.kind()
            );
            faults.add(expression, message);
            continue;
        }
        faults.required_text(expression, "format", "such as \"python\"");
        if expression.value.get("expression").is_none() {
            faults.add_at(expression.pointer_to("expression"), "missing: give the expression".to_owned());
        }
    }
    report.take(faults);
}

fn check_classes(output: &Node<'_>, report: &mut Report) {
    let Some(classes) = output.get("classification:classes") else {
        if let Some(old) = output.get("classification_classes") {
            report.warn(&old.pointer, "an old spelling: rename it to `classification:classes`");
        }
        return;
    };
    let mut faults = Faults::default();
    let mut seen = Vec::new();
    for class in faults.list(&classes) {
        let Some(value) = class.get("value").and_then(|value| faults.integer(&value)) else { continue };
        if seen.contains(&value) {
            faults.add_at(class.pointer_to("value"), format!("{value} stands twice: number each class once"));
        }
        seen.push(value);
        if class.get("description").is_none() {
            let message = "missing: the classification extension wants a sentence for each class".to_owned();
            faults.add_at(class.pointer_to("description"), message);
        } else {
            faults.optional_text(&class, "description");
        }
        if let Some(hint) = class.get("color_hint") {
            let is_hex = |text: &str| text.len() == 6 && text.bytes().all(|b| b.is_ascii_hexdigit());
            if !hint.value.as_str().is_some_and(is_hex) {
                faults.add(&hint, "not a colour: give six hexadecimal digits, such as \"E4572E\"".to_owned());
            }
        }
    }
    report.take(faults);
}

/// A pixel's class is the number of its channel, or 0 and 1 where there is one channel: other numbers name no pixel.
fn check_class_numbers(properties: &Node<'_>, item: &ModelItem, report: &mut Report) {
    let classes = &item.output.classes;
    let Some(channels) =
        item.output.channels.filter(|_| !classes.is_empty() && item.output.dim_order.is_some())
    else {
        return;
    };
    let pointer = format!("{}/0/classification:classes", properties.pointer_to("mlm:output"));
    let n_classes = channels.max(2);
    let mut values = classes.iter().map(|class| class.value).collect::<Vec<_>>();
    values.sort_unstable();
    let expected = (0i64..).take(n_classes).collect::<Vec<_>>();
    let names_one_of_two = channels == 1 && values == [1];
    if values != expected && !names_one_of_two {
        let plural = if channels == 1 { "channel" } else { "channels" };
        let message = format!(
            "the result has {channels} {plural}, so the classes are 0 to {}, in the order of the channels; these are {}",
            n_classes - 1,
            values.iter().map(|value| value.to_string()).collect::<Vec<_>>().join(", ")
        );
        report.error(&pointer, message);
    }
}

fn check_activation(properties: &Node<'_>, item: &ModelItem, report: &mut Report) {
    if !item.output.activation_is_said {
        let pointer = format!("{}/0/post_processing_function", properties.pointer_to("mlm:output"));
        let message =
            "not said: give null where the model gives probabilities already, or `sigmoid` or `softmax`";
        report.warn(&pointer, message);
    }
}

/// Statistics of training frameworks are of pixels divided by 255; `value_scaling` is applied to the pixels as they are.
fn check_statistics(properties: &Node<'_>, item: &ModelItem, report: &mut Report) {
    let is_of_unit_range = |scaling: &Scaling| match scaling {
        Scaling::ZScore { mean, stddev } => (0.0..=1.0).contains(mean) && *stddev <= 1.0,
        _ => false,
    };
    let is_color = |name: &String| item.color_of_band(name).is_some();
    let is_rgb = item.input.n_bands == 3 && item.input.bands.iter().all(is_color);
    if is_rgb && item.input.scaling.iter().all(is_of_unit_range) {
        let pointer = format!("{}/0/value_scaling", properties.pointer_to("mlm:input"));
        let message = "these are statistics of pixels from 0 to 1, but the scaling is applied to the pixels as they are in \
                       the file: for 8-bit imagery multiply mean and stddev by 255";
        report.warn(&pointer, message);
    }
}
