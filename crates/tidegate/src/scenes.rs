//! Opening a scene: where its bytes are, what format they have, where on Earth it lies.

use std::fs::{File, Metadata};
use std::io::Read;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use anyhow::{Context, bail};
use tidegate_core::Sha256Digest;
use tidegate_core::digest::Sha256Hasher;
use tidegate_geo::raster::{
    ByteSource, FileSource, Georeference, MemoryRaster, Raster, RasterInfo, TiffRaster, parse_world_file,
    world_file_names,
};
use tidegate_geo::scene::{AssumedCrs, Projection, UnnamedCrs};
use tidegate_geo::{CrsUnit, ImageError, ImageLimits};
use tidegate_store::{Redirects, RemoteFile};
use tokio::runtime::Handle;
use url::Url;

use crate::config::Config;
use crate::soon::Soon;

/// A scene, ready to be read.
pub struct Scene {
    pub raster: Box<dyn Raster>,
    /// Its file name or address.
    pub name: String,
    pub origin: Origin,
}

/// Where a scene's bytes are.
#[derive(Clone, Debug)]
pub enum Origin {
    File(PathBuf, Stamp),
    /// Bytes whose digest is known, wherever they are.
    Known(Sha256Digest),
    /// Elsewhere, by address, size and version.
    Elsewhere(String),
}

/// Tells a scene from every other one, and from an earlier state of itself.
#[derive(Clone)]
pub struct Mark {
    pub identity: String,
    pub sha256: Option<Sha256Digest>,
}

/// A mark that may not be there yet.
pub type Marking = Soon<Result<Mark, ImageError>>;

/// What the system says of a file: another one when it was written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    size_bytes: u64,
    modified: SystemTime,
}

impl Stamp {
    fn of(metadata: &Metadata) -> std::io::Result<Self> {
        Ok(Self { size_bytes: metadata.len(), modified: metadata.modified()? })
    }
}

impl Origin {
    /// Reads a file as a whole, for its digest: blocks. That must be the file that was opened: pixels of it may have been
    /// read already.
    pub fn mark(&self) -> Result<Mark, ImageError> {
        let sha256 = match self {
            Self::File(path, stamp) => match digest(path) {
                Ok((sha256, now)) if now == *stamp => sha256,
                Ok(_) => {
                    return Err(ImageError::Unreadable { what: "it changes while it is read".to_owned() });
                }
                Err(error) => return Err(ImageError::Unreadable { what: error.to_string() }),
            },
            Self::Known(sha256) => sha256.clone(),
            Self::Elsewhere(identity) => return Ok(Mark { identity: identity.clone(), sha256: None }),
        };
        Ok(Mark { identity: sha256.to_string(), sha256: Some(sha256) })
    }
}

/// Opens a scene: a path, an `https://` address or `s3://BUCKET/KEY`. `None` for a plain image on disk.
pub async fn open(
    config: &Config,
    address: &Path,
    assumed: Option<AssumedCrs>,
    limits: &ImageLimits,
) -> anyhow::Result<Option<Scene>> {
    let text = address.to_string_lossy();
    let file = if text.starts_with("https://") || text.starts_with("http://") {
        RemoteFile::open_http(&Url::parse(&text)?, Redirects::Follow).await?
    } else if text.starts_with("s3://") {
        let (location, key) = config.object_location(&text)?;
        RemoteFile::open_object(&location, &key).await?
    } else {
        return tokio::task::block_in_place(|| open_file(address, assumed, limits));
    };
    // A query may hold a key; it is part of no name.
    let name = text.split(['?', '#']).next().unwrap_or(&text).to_owned();
    open_remote(file, name, assumed).map(Some)
}

/// A TIFF elsewhere, read by ranges.
pub fn open_remote(file: RemoteFile, name: String, assumed: Option<AssumedCrs>) -> anyhow::Result<Scene> {
    let origin = Origin::Elsewhere(format!("{name}, {} bytes, {}", file.size_bytes(), file.version()));
    let source = RemoteSource { file, runtime: Handle::current() };
    let mut raster =
        tokio::task::block_in_place(|| TiffRaster::open(Arc::new(source))).with_context(|| {
            format!("failed to open `{name}`; what is read from elsewhere must be a (Geo)TIFF")
        })?;
    raster.set_georeference(placed(raster.info().georeference.clone(), assumed)?);
    Ok(Scene { raster: Box::new(raster), name, origin })
}

/// A file elsewhere, for readers that know nothing of async.
struct RemoteSource {
    file: RemoteFile,
    runtime: Handle,
}

impl ByteSource for RemoteSource {
    fn size_bytes(&self) -> u64 {
        self.file.size_bytes()
    }

    fn read(&self, ranges: &[Range<u64>]) -> std::io::Result<Vec<Vec<u8>>> {
        let parts = self.runtime.block_on(self.file.ranges(ranges))?;
        Ok(parts.into_iter().map(|part| part.to_vec()).collect())
    }
}

/// Opens a file that is a scene: a TIFF with a place on Earth, or a plain image with a world file. `None` for a plain
/// image. Blocks.
pub fn open_file(
    path: &Path,
    assumed: Option<AssumedCrs>,
    limits: &ImageLimits,
) -> anyhow::Result<Option<Scene>> {
    let unreadable = || format!("failed to read `{}`", path.display());
    let stamp = std::fs::metadata(path).and_then(|metadata| Stamp::of(&metadata)).with_context(unreadable)?;
    let source = FileSource::open(path).with_context(unreadable)?;
    let raster: Box<dyn Raster> = if is_tiff(path)? {
        let mut raster = TiffRaster::open(Arc::new(source))?;
        let RasterInfo { width, height, .. } = *raster.info();
        let fits = width as u64 * height as u64 <= limits.max_pixels;
        if raster.info().georeference.transform.is_none() && fits {
            return Ok(None);
        }
        raster.set_georeference(placed(raster.info().georeference.clone(), assumed)?);
        Box::new(raster)
    } else {
        let Some(transform) = world_file(path)? else { return Ok(None) };
        let bytes = std::fs::read(path)?;
        let image = tidegate_geo::decode(&bytes, limits)?;
        Box::new(MemoryRaster::new(image, placed(Georeference::of_transform(transform), assumed)?))
    };
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    Ok(Some(Scene { raster, name, origin: Origin::File(path.to_owned(), stamp) }))
}

fn is_tiff(path: &Path) -> anyhow::Result<bool> {
    let mut head = [0; 4];
    let n_bytes = File::open(path)?.read(&mut head)?;
    Ok(matches!(&head[..n_bytes], [b'I', b'I', 42 | 43, 0] | [b'M', b'M', 0, 42 | 43]))
}

fn world_file(image: &Path) -> anyhow::Result<Option<tidegate_geo::raster::Affine>> {
    let Some(path) = world_file_names(image).into_iter().find(|path| path.is_file()) else { return Ok(None) };
    let text =
        std::fs::read_to_string(&path).with_context(|| format!("failed to read `{}`", path.display()))?;
    match parse_world_file(&text) {
        Some(transform) => Ok(Some(transform)),
        None => bail!("`{}` is not a world file: it has six numbers, one a line", path.display()),
    }
}

/// With the reference system that the user names, or the file does.
fn placed(mut georeference: Georeference, assumed: Option<AssumedCrs>) -> Result<Georeference, UnnamedCrs> {
    match assumed {
        Some(AssumedCrs::Epsg(epsg)) => {
            let in_degrees = Projection::of_epsg(epsg).is_some_and(|projection| projection.in_degrees());
            georeference.assume(epsg, if in_degrees { CrsUnit::Degree } else { CrsUnit::Metre });
        }
        None if georeference.transform.is_some() && !georeference.has_crs => return Err(UnnamedCrs),
        _ => {}
    }
    Ok(georeference)
}

/// With what the system says of the file afterwards.
fn digest(path: &Path) -> std::io::Result<(Sha256Digest, Stamp)> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256Hasher::default();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n_bytes = file.read(&mut buffer)?;
        if n_bytes == 0 {
            return Ok((hasher.finish(), Stamp::of(&file.metadata()?)?));
        }
        hasher.update(&buffer[..n_bytes]);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_file_that_changes_once_it_was_opened_has_no_mark() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("scene.tif");
        let example =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/refugee-camp/sample-scene.tif");
        std::fs::copy(example, &path).unwrap();
        let open = || open_file(&path, None, &ImageLimits::default()).unwrap().unwrap().origin;
        let refuses = |origin: &Origin| origin.mark().err().unwrap().to_string().contains("it changes while");

        let origin = open();
        let mark = origin.mark().unwrap();
        File::options().write(true).open(&path).unwrap().set_modified(SystemTime::UNIX_EPOCH).unwrap();
        assert!(refuses(&origin), "written to, of the same size");
        let origin = open();
        assert_eq!(origin.mark().unwrap().identity, mark.identity);
        File::options().append(true).open(&path).unwrap().write_all(&[0]).unwrap();
        assert!(refuses(&origin), "longer");
        let origin = open();
        assert_ne!(origin.mark().unwrap().identity, mark.identity);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(origin.mark().err().unwrap(), ImageError::Unreadable { .. }));
    }
}
