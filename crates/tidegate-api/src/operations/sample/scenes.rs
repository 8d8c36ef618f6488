//! Images with masks that say what is there, for segmentation.
//!
//! Files, or a zip of them: `NAME.tif` and `NAME-mask.tif` (or `_mask`) side by side, or `images/NAME.tif` and
//! `masks/NAME.png` (or `labels/`). A mask has one band and the size of its image. For a model of one channel anything
//! but 0 is what is looked for; otherwise a pixel is the class's value, and 255 is not labelled.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use bytes::Bytes;
use tidegate_geo::{Image, ImageLimits, ModelItem, decode};

use super::{FIELD, Interface, MAX_BYTES, push_all};
use crate::operations::fault::Fault;

/// Each is run at least once on two versions.
const MAX_SCENES: usize = 1000;

/// In a mask of several classes: nobody said what is there.
const UNLABELLED: u8 = 255;

pub(super) struct Scenes {
    pub scenes: Vec<Scene>,
}

#[derive(Clone)]
pub(super) struct Scene {
    image: File,
    mask: File,
    limits: ImageLimits,
}

#[derive(Clone)]
struct File {
    name: String,
    bytes: Bytes,
}

/// An image and what is there, pixel by pixel.
pub(super) struct Labelled {
    pub image: Image,
    /// Classes by value.
    pub truth: Vec<u8>,
    is_binary: bool,
}

impl Scenes {
    pub(super) fn parse(files: Vec<(String, Bytes)>, limits: ImageLimits) -> Result<Self, Vec<Fault>> {
        let mut pairs: BTreeMap<String, (Vec<File>, Vec<File>)> = BTreeMap::new();
        for file in unpacked(files)? {
            let (key, is_mask) = part_of(&file.name);
            let (images, masks) = pairs.entry(key).or_default();
            if is_mask { masks.push(file) } else { images.push(file) }
        }
        let (mut scenes, mut faults) = (Vec::new(), Vec::new());
        for (images, masks) in pairs.into_values() {
            match pair(images, masks) {
                Ok((image, mask)) => scenes.push(Scene { image, mask, limits }),
                Err(message) => push_all(&mut faults, [Fault::new(FIELD, message)]),
            }
        }
        if scenes.len() > MAX_SCENES {
            let message = format!("{} images; a sample has at most {MAX_SCENES}", scenes.len());
            push_all(&mut faults, [Fault::new(FIELD, message)]);
        }
        if scenes.is_empty() && faults.is_empty() {
            faults.push(Fault::new(FIELD, "there is no image in it"));
        }
        if faults.is_empty() { Ok(Self { scenes }) } else { Err(faults) }
    }

    pub(super) fn check(&self, interface: &Interface<'_>) -> Result<(), Vec<Fault>> {
        let item = item_of(interface.item).map_err(|fault| vec![fault])?;
        let mut faults = Vec::new();
        for scene in &self.scenes {
            push_all(&mut faults, scene.read(item).err());
        }
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }
}

/// Images say nothing to a model without an item.
pub(super) fn item_of(item: Option<&ModelItem>) -> Result<&ModelItem, Fault> {
    item.ok_or_else(|| {
        let message =
            "images need a STAC-MLM item that says how the model sees them; for tensors, write rows in JSON";
        Fault::new(FIELD, message)
    })
}

impl Scene {
    pub(super) fn name(&self) -> &str {
        &self.image.name
    }

    /// Decodes both; blocks.
    pub(super) fn read(&self, item: &ModelItem) -> Result<Labelled, Fault> {
        let image = self.image.decode(self.limits)?;
        let mask = self.mask.decode(self.limits)?;
        let fault = |message: String| Err(Fault::new(&self.mask.name, message));
        if mask.n_bands != 1 {
            return fault(format!("{} bands; a mask has one, whose values are the classes", mask.n_bands));
        }
        if (mask.width, mask.height) != (image.width, image.height) {
            return fault(format!(
                "{} x {} pixels, its image `{}` has {} x {}",
                mask.width, mask.height, self.image.name, image.width, image.height
            ));
        }
        let is_binary = is_binary(item);
        if is_binary {
            let truth = mask.pixels.iter().map(|value| u8::from(*value != 0)).collect();
            return Ok(Labelled { image, truth, is_binary });
        }
        let is_known = |value: u8| {
            value == UNLABELLED || item.output.classes.iter().any(|class| class.value == i64::from(value))
        };
        if !item.output.classes.is_empty()
            && let Some(value) = mask.pixels.iter().find(|value| !is_known(**value))
        {
            return fault(format!("value {value} is none of the item's classes"));
        }
        Ok(Labelled { image, truth: mask.pixels, is_binary })
    }
}

impl Labelled {
    /// Whether a pixel is to be scored.
    pub(super) fn counts(&self, pixel: usize) -> bool {
        let is_labelled = self.is_binary || self.truth[pixel] != UNLABELLED;
        is_labelled && self.image.valid.as_ref().is_none_or(|valid| valid[pixel])
    }
}

/// Whether the model says yes or no, rather than which.
pub(super) fn is_binary(item: &ModelItem) -> bool {
    match item.output.channels {
        Some(channels) => channels == 1,
        None => item.output.classes.len() <= 2,
    }
}

impl File {
    fn decode(&self, limits: ImageLimits) -> Result<Image, Fault> {
        decode(&self.bytes, &limits).map_err(|error| Fault::new(&self.name, error.to_string()))
    }
}

fn pair(mut images: Vec<File>, mut masks: Vec<File>) -> Result<(File, File), String> {
    match (images.pop(), masks.pop()) {
        (Some(image), Some(mask)) if images.is_empty() && masks.is_empty() => Ok((image, mask)),
        (Some(image), None) => {
            let (stem, _) = stem_of(&image.name);
            Err(format!("`{}` has no mask; add `{stem}-mask.png` or `{stem}-mask.tif`", image.name))
        }
        (None, Some(mask)) => Err(format!("the mask `{}` has no image of its name", mask.name)),
        (image, mask) => {
            let names: Vec<_> = images.iter().chain(&masks).chain(&image).chain(&mask).collect();
            let names = names.iter().map(|file| format!("`{}`", file.name)).collect::<Vec<_>>().join(", ");
            Err(format!("{names} have one name; a pair is one image and one mask"))
        }
    }
}

/// What pairs an image with its mask, and whether this is the mask.
fn part_of(path: &str) -> (String, bool) {
    let (path, _) = stem_of(path);
    let (folders, stem) = path.rsplit_once('/').unwrap_or(("", path));
    let mut is_mask = false;
    let kept = folders.split('/').filter(|folder| {
        let in_masks = ["masks", "labels"].contains(folder);
        is_mask |= in_masks;
        !in_masks && !["images", ""].contains(folder)
    });
    let mut key: String = kept.map(|folder| format!("{folder}/")).collect();
    let bare = ["-mask", "_mask"].iter().find_map(|suffix| stem.strip_suffix(suffix));
    is_mask |= bare.is_some();
    key.push_str(bare.unwrap_or(stem));
    (key, is_mask)
}

/// The path without the file's extension, and that.
fn stem_of(path: &str) -> (&str, &str) {
    match path.rsplit_once('.') {
        Some((stem, extension)) if !extension.contains('/') => (stem, extension),
        _ => (path, ""),
    }
}

/// The files, and those of archives in their place.
fn unpacked(files: Vec<(String, Bytes)>) -> Result<Vec<File>, Vec<Fault>> {
    let mut unpacked = Vec::new();
    for (name, bytes) in files {
        if name.to_ascii_lowercase().ends_with(".zip") {
            unpacked.extend(unzip(&name, bytes).map_err(|message| vec![Fault::new(&name, message)])?);
        } else {
            unpacked.push(File { name, bytes });
        }
    }
    Ok(unpacked)
}

fn unzip(name: &str, bytes: Bytes) -> Result<Vec<File>, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("not a zip archive that can be read: {error}");
    let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).map_err(|error| unreadable(&error))?;
    if archive.len() > 4 * MAX_SCENES {
        return Err(format!("{} entries; a sample has at most {MAX_SCENES} images", archive.len()));
    }
    let (mut files, mut left_bytes) = (Vec::new(), MAX_BYTES);
    for index in 0..archive.len() {
        let entry = archive.by_index(index).map_err(|error| unreadable(&error))?;
        let path = entry.name().map_err(|error| unreadable(&error))?.replace('\\', "/");
        // What file managers add on their own.
        let is_hidden = path.split('/').any(|part| part.starts_with('.') || part == "__MACOSX");
        if entry.is_dir() || is_hidden {
            continue;
        }
        let mut content = Vec::new();
        // What the entry says of its size may be a lie; what comes is what counts.
        entry.take(left_bytes + 1).read_to_end(&mut content).map_err(|error| unreadable(&error))?;
        left_bytes = left_bytes
            .checked_sub(content.len() as u64)
            .ok_or_else(|| format!("more than {MAX_BYTES} bytes unpacked; take fewer images"))?;
        files.push(File { name: format!("{name}/{path}"), bytes: content.into() });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_and_masks_find_each_other() {
        let cases = [
            ("a.tif", "a", false),
            ("a-mask.png", "a", true),
            ("a_mask.tif", "a", true),
            ("s.zip/images/b.tif", "s.zip/b", false),
            ("s.zip/masks/b.png", "s.zip/b", true),
            ("s.zip/x/labels/b.png", "s.zip/x/b", true),
            ("s.zip/north.2/c.tif", "s.zip/north.2/c", false),
        ];
        for (path, key, is_mask) in cases {
            assert_eq!(part_of(path), (key.to_owned(), is_mask), "{path}");
        }
    }

    #[test]
    fn what_has_no_partner_is_named() {
        let files = |names: &[&str]| {
            let files = names.iter().map(|name| ((*name).to_owned(), Bytes::new())).collect();
            let faults = Scenes::parse(files, ImageLimits::default()).err().unwrap_or_default();
            faults.into_iter().map(|fault| fault.message).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(files(&["a.tif", "a-mask.tif"]), "");
        assert!(files(&["a.tif"]).contains("`a.tif` has no mask; add `a-mask.png`"));
        assert!(files(&["a-mask.tif"]).contains("`a-mask.tif` has no image"));
        assert!(files(&["a.tif", "a.png", "a-mask.tif"]).contains("one name"));
        assert!(files(&[]).contains("no image"));
        assert!(files(&["a.zip"]).contains("not a zip archive"));
    }
}
