//! Where a server may read scenes from. Whoever may ask for a job must not be able to make the server ask for anything
//! (server-side request forgery): every place is named by the operator.

use std::path::PathBuf;
use std::sync::Arc;

use tidegate_store::ArtifactStore;
use url::Url;

use crate::operations::register::{ImportPlace, ImportRoot, import_source};

/// The field that names a scene.
pub(crate) const FIELD: &str = "source";

/// What the operator allows.
#[derive(Clone, Debug, Default)]
pub struct SceneSources {
    /// Folders and buckets.
    pub roots: Vec<ImportRoot>,
    /// Beginnings of addresses: scheme, host, port and folder.
    pub web: Vec<WebPlace>,
}

/// Part of the web.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WebPlace {
    /// Everything below the address.
    Below(Url),
    /// `https://*`: whatever this machine can reach by https.
    Anywhere,
}

/// A scene that may be read.
#[derive(Debug)]
pub enum SceneAddress {
    File(PathBuf),
    Object { store: Arc<ArtifactStore>, key: String },
    Web(Url),
}

/// Why a scene may not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceRefused(pub String);

impl WebPlace {
    /// From the configuration.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text == "https://*" {
            return Ok(Self::Anywhere);
        }
        let url = Url::parse(text).map_err(|error| format!("`{text}` is no address: {error}"))?;
        let is_plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        match url.scheme() {
            "http" | "https" if is_plain && url.has_host() => Ok(Self::Below(url)),
            _ => Err(format!(
                "`{text}` is no place: write https://HOST/FOLDER, or https://* for all of the web"
            )),
        }
    }

    fn holds(&self, url: &Url) -> bool {
        let Self::Below(place) = self else { return url.scheme() == "https" };
        let of = |url: &Url| {
            (url.scheme().to_owned(), url.host_str().map(str::to_owned), url.port_or_known_default())
        };
        let folder = place.path().trim_end_matches('/');
        let below = url.path().strip_prefix(folder);
        of(place) == of(url) && below.is_some_and(|rest| rest.starts_with('/'))
    }
}

impl SceneSources {
    /// What the address means, if it may be read. Whether anything is there shows when it is opened.
    pub fn resolve(&self, address: &str) -> Result<SceneAddress, SourceRefused> {
        match Url::parse(address) {
            Ok(url) if matches!(url.scheme(), "http" | "https") => self.web(url).map(SceneAddress::Web),
            _ => {
                let source = import_source(FIELD, address, &self.roots);
                match source.map_err(|fault| SourceRefused(fault.message))?.place {
                    ImportPlace::File(path) => Ok(SceneAddress::File(path)),
                    ImportPlace::Object { store, key } => Ok(SceneAddress::Object { store, key }),
                }
            }
        }
    }

    fn web(&self, url: Url) -> Result<Url, SourceRefused> {
        let refused = |text: &str| Err(SourceRefused(text.to_owned()));
        if !url.username().is_empty() || url.password().is_some() {
            return refused("holds a user name or a password; use an address that is signed in its query");
        }
        // Some servers take an encoded slash for one, and would lead out of the folder by it.
        let path = url.path().to_ascii_lowercase();
        if path.contains("%2f") || path.contains("%5c") {
            return refused("holds an encoded slash in its path");
        }
        if self.web.iter().any(|place| place.holds(&url)) {
            return Ok(url);
        }
        let places: Vec<_> = self.web.iter().map(|place| format!("`{place}`")).collect();
        let allowed = match places.is_empty() {
            true => "this server reads no scenes from the web".to_owned(),
            false => format!("outside the places this server may read ({})", places.join(", ")),
        };
        Err(SourceRefused(format!(
            "{allowed}; upload the file, or ask whoever runs the server to add its host to `jobs.sources`"
        )))
    }
}

impl std::fmt::Display for WebPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Below(url) => f.write_str(url.as_str()),
            Self::Anywhere => f.write_str("https://*"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(places: &[&str], address: &str) -> bool {
        let web = places.iter().map(|place| WebPlace::parse(place).unwrap()).collect();
        SceneSources { roots: vec![], web }.resolve(address).is_ok()
    }

    #[test]
    fn only_addresses_below_a_named_place_are_read() {
        let place = ["https://maps.example/public/", "http://10.0.0.7:8080"];
        for good in [
            "https://maps.example/public/scene.tif",
            "https://MAPS.example:443/public/a/b.tif?sig=1",
            "http://10.0.0.7:8080/scene.tif",
        ] {
            assert!(allows(&place, good), "{good}");
        }
        for bad in [
            "http://maps.example/public/scene.tif",
            "https://maps.example/secret/scene.tif",
            "https://maps.example/publicity/scene.tif",
            "https://maps.example/public/../secret/scene.tif",
            "https://maps.example/public/%2e%2e/secret/scene.tif",
            "https://maps.example/public/..%2fsecret/scene.tif",
            "https://maps.example.evil.example/public/scene.tif",
            "https://maps.example:8443/public/scene.tif",
            "https://user:pass@maps.example/public/scene.tif",
            "https://maps.example@evil.example/public/scene.tif",
            "http://10.0.0.7/scene.tif",
            "http://169.254.169.254/latest/meta-data",
            "ftp://maps.example/public/scene.tif",
            "file:///etc/passwd",
            "/etc/passwd",
            "s3://bucket/key",
        ] {
            assert!(!allows(&place, bad), "{bad}");
        }
        assert!(allows(&["https://*"], "https://anywhere.example/scene.tif"));
        assert!(!allows(&["https://*"], "http://anywhere.example/scene.tif"));
        assert!(!allows(&[], "https://anywhere.example/scene.tif"), "nothing is allowed by default");
        for bad in ["maps.example", "ftp://maps.example", "https://u@maps.example", "https://maps.example/?a"]
        {
            assert!(WebPlace::parse(bad).is_err(), "{bad}");
        }
    }
}
