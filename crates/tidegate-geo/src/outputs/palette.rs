//! A colour for each class: the item's own, or one that stands out over imagery.

use crate::stac_mlm::{Class, ModelItem};

/// Magenta first: nothing seen from above has it, while roofs are orange, tarpaulins blue and fields green or yellow.
const DEFAULT_COLORS: [[u8; 3]; 8] = [
    [236, 40, 140],
    [0, 190, 230],
    [250, 210, 40],
    [130, 90, 250],
    [255, 120, 30],
    [0, 210, 150],
    [220, 40, 60],
    [240, 170, 220],
];

/// One per mask value: background and foreground of a binary model, else one per channel.
pub(crate) struct ClassColors {
    pub colors: Vec<[u8; 3]>,
    /// Mask values that are left untinted: background.
    pub background: Vec<bool>,
}

pub(crate) fn class_colors(item: &ModelItem, n_channels: usize) -> ClassColors {
    let n_values = n_channels.max(2);
    let class = |value: usize| class_of(&item.output.classes, value);
    let colors = (0..n_values).map(|value| match class(value).and_then(|class| class.color) {
        Some(color) => color,
        None if value == 0 => [0; 3],
        None => DEFAULT_COLORS[(value - 1) % DEFAULT_COLORS.len()],
    });
    let background = (0..n_values).map(|value| match class(value) {
        // A binary model's 0 is background by definition.
        _ if n_channels == 1 => value == 0,
        Some(class) => BACKGROUND_NAMES.contains(&class.name.to_ascii_lowercase().as_str()),
        None => value == 0,
    });
    ClassColors { colors: colors.collect(), background: background.collect() }
}

/// Every mask value that can occur, named after the item's class of that value.
pub(crate) fn mask_classes(item: &ModelItem, n_channels: usize) -> Vec<(usize, &str)> {
    let name = |value: usize| match class_of(&item.output.classes, value) {
        Some(class) => class.name.as_str(),
        None if n_channels == 1 && value == 0 => "background",
        None => "unnamed",
    };
    (0..n_channels.max(2)).map(|value| (value, name(value))).collect()
}

/// The class that a mask value means.
fn class_of(classes: &[Class], value: usize) -> Option<&Class> {
    classes.iter().find(|class| usize::try_from(class.value) == Ok(value))
}

const BACKGROUND_NAMES: [&str; 6] = ["background", "bg", "nodata", "no data", "none", "other"];
