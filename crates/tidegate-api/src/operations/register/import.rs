//! `artifactPath`: a file that the server can read itself. Only below folders that the operator allowed.

use std::path::{Path, PathBuf};

use url::Url;

use crate::operations::fault::Fault;

/// A file that may be read, and its name without folders.
#[derive(Debug, PartialEq)]
pub(crate) struct ImportSource {
    pub path: PathBuf,
    pub name: String,
}

const FIELD: &str = "artifactPath";

/// Resolves the URL, following symbolic links, and refuses every file outside `roots`. Whether a file outside exists is
/// not told.
pub(crate) fn import_source(artifact_path: &str, roots: &[PathBuf]) -> Result<ImportSource, Fault> {
    let url = Url::parse(artifact_path).map_err(|_| {
        Fault::new(
            FIELD,
            "give a URL: `file:///folder/model.onnx`, or upload the file as multipart/form-data",
        )
    })?;
    match url.scheme() {
        "file" => local_file(&url, roots),
        "s3" => Err(Fault::new(
            FIELD,
            "reading from a bucket is not available yet: download the file and upload it as multipart/form-data",
        )),
        other => {
            Err(Fault::new(FIELD, format!("`{other}:` is not supported; use `file:` or upload the file")))
        }
    }
}

fn local_file(url: &Url, roots: &[PathBuf]) -> Result<ImportSource, Fault> {
    let path = url
        .to_file_path()
        .map_err(|()| Fault::new(FIELD, "not a path of this machine; write `file:///folder/model.onnx`"))?;
    let roots: Vec<PathBuf> = roots.iter().filter_map(|root| root.canonicalize().ok()).collect();
    let is_allowed = |path: &Path| roots.iter().any(|root| path.starts_with(root));
    let path = match path.canonicalize() {
        Ok(path) if is_allowed(&path) => path,
        // A URL path has no `..` left, so this comparison cannot be tricked into telling of files elsewhere.
        Err(_) if is_allowed(&path) => return Err(Fault::new(FIELD, "there is no such file")),
        _ => return Err(Fault::new(FIELD, outside(&roots))),
    };
    if !path.is_file() {
        return Err(Fault::new(FIELD, "not a file; name the artifact itself"));
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    Ok(ImportSource { path, name })
}

fn outside(roots: &[PathBuf]) -> String {
    let upload = "upload the file as multipart/form-data";
    if roots.is_empty() {
        return format!("this server reads no files of its own; {upload}");
    }
    let roots: Vec<_> = roots.iter().map(|root| format!("`{}`", root.display())).collect();
    format!("outside the folders this server may read ({}); move it there, or {upload}", roots.join(", "))
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
        let at = |path: &str| {
            import_source(&format!("file://{}{path}", root.display()), std::slice::from_ref(&root))
                .map_err(|fault| fault.message)
        };
        assert!(at("/model.onnx").is_ok());
        let outside = ["/../secret", "/link.onnx", "/%2e%2e/secret", "-beside/model.onnx"];
        for path in outside {
            assert!(at(path).unwrap_err().contains("outside the folders"), "{path}");
        }
        assert!(at("/missing.onnx").unwrap_err().contains("no such file"));
        assert!(at("/").unwrap_err().contains("not a file"));
        let elsewhere =
            ["file:///etc/passwd", "file:///no/such/thing", "s3://bucket/key", "https://x/y", "model.onnx"];
        for url in elsewhere {
            assert!(import_source(url, std::slice::from_ref(&root)).is_err(), "{url}");
        }
        assert!(import_source("file:///etc/passwd", &[]).unwrap_err().message.contains("upload"));
    }
}
