//! `artifactPath`: a file that the server can read itself. Only below folders and buckets that the operator allowed.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidegate_store::ArtifactStore;
use url::Url;

use crate::operations::fault::Fault;

/// Where the server may read artifacts from by itself.
#[derive(Clone, Debug)]
pub enum ImportRoot {
    Folder(PathBuf),
    /// Everything whose URL starts with `url` (`s3://bucket` or `s3://bucket/prefix`), read through `store`.
    Bucket {
        url: String,
        store: Arc<ArtifactStore>,
    },
}

/// A file that may be read, and its name without folders.
#[derive(Debug)]
pub(crate) struct ImportSource {
    pub place: ImportPlace,
    pub name: String,
}

#[derive(Debug)]
pub(crate) enum ImportPlace {
    File(PathBuf),
    Object { store: Arc<ArtifactStore>, key: String },
}

/// Resolves the URL that the caller gave in `field`, following symbolic links, and refuses every file outside `roots`.
/// Whether a file outside exists is not told.
pub(crate) fn import_source(
    field: &'static str,
    address: &str,
    roots: &[ImportRoot],
) -> Result<ImportSource, Fault> {
    let source = match Url::parse(address) {
        Ok(url) if url.scheme() == "file" => local_file(&url, roots),
        Ok(url) if url.scheme() == "s3" => object(address, roots),
        Ok(url) => {
            Err(format!("`{}:` is not supported; use `file:`, `s3:` or upload the file", url.scheme()))
        }
        Err(_) => {
            Err("give a URL: `file:///folder/model.onnx`, or upload the file as multipart/form-data"
                .to_owned())
        }
    };
    source.map_err(|message| Fault::new(field, message))
}

/// Whether the object is there shows when it is read.
fn object(address: &str, roots: &[ImportRoot]) -> Result<ImportSource, String> {
    let below = roots.iter().find_map(|root| match root {
        ImportRoot::Bucket { url, store } => {
            let key = address.strip_prefix(url.as_str())?.strip_prefix('/')?;
            Some((store, key))
        }
        ImportRoot::Folder(_) => None,
    });
    let (store, key) = below.ok_or_else(|| outside(roots))?;
    let name = key.rsplit('/').next().unwrap_or_default().to_owned();
    if name.is_empty() {
        return Err("names no object; write `s3://bucket/folder/model.onnx`".to_owned());
    }
    let place = ImportPlace::Object { store: Arc::clone(store), key: key.to_owned() };
    Ok(ImportSource { place, name })
}

fn local_file(url: &Url, roots: &[ImportRoot]) -> Result<ImportSource, String> {
    let path = url
        .to_file_path()
        .map_err(|()| "not a path of this machine; write `file:///folder/model.onnx`".to_owned())?;
    let folders: Vec<PathBuf> = roots
        .iter()
        .filter_map(|root| match root {
            ImportRoot::Folder(folder) => folder.canonicalize().ok(),
            ImportRoot::Bucket { .. } => None,
        })
        .collect();
    let is_allowed = |path: &Path| folders.iter().any(|folder| path.starts_with(folder));
    let path = match path.canonicalize() {
        Ok(path) if is_allowed(&path) => path,
        // A URL path has no `..` left, so this comparison cannot be tricked into telling of files elsewhere.
        Err(_) if is_allowed(&path) => return Err("there is no such file".to_owned()),
        _ => return Err(outside(roots)),
    };
    if !path.is_file() {
        return Err("not a file; name the file itself".to_owned());
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    Ok(ImportSource { place: ImportPlace::File(path), name })
}

fn outside(roots: &[ImportRoot]) -> String {
    let upload = "upload the file as multipart/form-data";
    if roots.is_empty() {
        return format!("this server reads no files of its own; {upload}");
    }
    let roots: Vec<_> = roots
        .iter()
        .map(|root| match root {
            ImportRoot::Folder(folder) => format!("`{}`", folder.display()),
            ImportRoot::Bucket { url, .. } => format!("`{url}`"),
        })
        .collect();
    format!("outside the places this server may read ({}); move it there, or {upload}", roots.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_below_a_root_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("allowed");
        std::fs::create_dir(&root).unwrap();
        std::fs::write(root.join("model.onnx"), "x").unwrap();
        std::fs::write(dir.path().join("secret"), "x").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path().join("secret"), root.join("link.onnx")).unwrap();
        let roots = [ImportRoot::Folder(root.clone())];
        let at = |path: &str| {
            import_source("path", &format!("file://{}{path}", root.display()), &roots)
                .map_err(|fault| fault.message)
        };
        assert!(at("/model.onnx").is_ok());
        let outside = ["/../secret", "/link.onnx", "/%2e%2e/secret", "-beside/model.onnx"];
        for path in outside {
            assert!(at(path).unwrap_err().contains("outside the places"), "{path}");
        }
        assert!(at("/missing.onnx").unwrap_err().contains("no such file"));
        assert!(at("/").unwrap_err().contains("not a file"));
        let elsewhere =
            ["file:///etc/passwd", "file:///no/such/thing", "s3://bucket/key", "https://x/y", "model.onnx"];
        for url in elsewhere {
            assert!(import_source("path", url, &roots).is_err(), "{url}");
        }
        assert!(import_source("path", "file:///etc/passwd", &[]).unwrap_err().message.contains("upload"));
    }

    #[test]
    fn only_objects_below_an_allowed_prefix_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let location = tidegate_store::ArtifactLocation::Folder(dir.path().to_path_buf());
        let store = Arc::new(ArtifactStore::open(&location).unwrap());
        let roots = [ImportRoot::Bucket { url: "s3://models/team".to_owned(), store }];
        let source = import_source("path", "s3://models/team/fraud/model.onnx", &roots).unwrap();
        assert_eq!(source.name, "model.onnx");
        assert!(matches!(source.place, ImportPlace::Object { key, .. } if key == "fraud/model.onnx"));
        for url in
            ["s3://models/team2/x.onnx", "s3://models/x.onnx", "s3://other/team/x", "s3://models/team/"]
        {
            assert!(import_source("path", url, &roots).is_err(), "{url}");
        }
    }
}
