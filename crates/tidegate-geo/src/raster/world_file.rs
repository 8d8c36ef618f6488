//! World files: six numbers beside a plain image that say where it lies
//! (<https://support.esri.com/en-us/knowledge-base/faq-what-is-the-format-of-the-world-file-used-for-georef-000002860>).

use std::path::{Path, PathBuf};

use super::Affine;

/// The names that the world file of an image goes by: `.pgw`, `.pngw`, `.wld`.
pub fn world_file_names(image: &Path) -> Vec<PathBuf> {
    let Some(extension) = image.extension().and_then(|extension| extension.to_str()) else {
        return Vec::new();
    };
    let mut names = vec![format!("{extension}w"), "wld".to_owned()];
    let mut letters = extension.chars();
    if let (Some(first), Some(last)) = (letters.next(), letters.next_back()) {
        names.insert(0, format!("{first}{last}w"));
    }
    names.iter().map(|name| image.with_extension(name)).collect()
}

/// Reads the six numbers; `None` where they are not six, or give pixels no area.
pub fn parse_world_file(text: &str) -> Option<Affine> {
    let numbers = text.split_whitespace().map(|word| word.parse::<f64>().ok()).collect::<Option<Vec<_>>>()?;
    let [a, d, b, e, x, y] = *numbers.as_slice() else { return None };
    // The last two are of the centre of the first pixel.
    let transform = Affine { a, b, c: x - (a + b) / 2.0, d, e, f: y - (d + e) / 2.0 };
    let is_finite = numbers.iter().all(|number| number.is_finite());
    (is_finite && transform.inverse().is_some()).then_some(transform)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_origin_is_half_a_pixel_from_the_first_centre() {
        let transform = parse_world_file("0.5\n0\n0\n-0.5\n1000.25\n4999.75\n").unwrap();
        assert_eq!(transform, Affine { a: 0.5, b: 0.0, c: 1000.0, d: 0.0, e: -0.5, f: 5000.0 });
        assert_eq!(transform.inverse().unwrap().apply(1001.0, 4999.0), (2.0, 2.0));
        for bad in ["", "1 2 3", "0 0 0 0 1 1", "a 0 0 1 1 1", "nan 0 0 1 1 1"] {
            assert_eq!(parse_world_file(bad), None, "{bad}");
        }
        let names = world_file_names(Path::new("a/tile.jpg"));
        assert_eq!(names, [Path::new("a/tile.jgw"), Path::new("a/tile.jpgw"), Path::new("a/tile.wld")]);
    }
}
