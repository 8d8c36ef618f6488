//! What jobs may do, and where they may read from.

use std::path::PathBuf;

use anyhow::anyhow;
use serde::{Deserialize, Serialize};
use tidegate_api::{SceneSources, WebPlace};

use super::Config;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct JobsConfig {
    /// Jobs at once in this process; 0 leaves them to others.
    pub max_running: usize,
    /// Jobs that may wait, over all processes; more are answered 503.
    pub queue_limit: u32,
    /// Where scenes may be read from beside `artifacts.import_roots`: folders, `s3://BUCKET/PREFIX`, `https://HOST/FOLDER`,
    /// or `https://*` for all of the web.
    pub sources: Vec<String>,
    /// The largest scene that may be uploaded, in MiB.
    pub max_upload_mib: u64,
    /// What the strips of a scene may take of memory, in MiB.
    pub max_memory_mib: u64,
    /// Days after which a job that is over is deleted, with its files.
    pub retention_days: u32,
}

impl Default for JobsConfig {
    fn default() -> Self {
        Self {
            max_running: 1,
            queue_limit: 100,
            sources: Vec::new(),
            max_upload_mib: 4096,
            max_memory_mib: 2048,
            retention_days: 7,
        }
    }
}

impl JobsConfig {
    /// Key, value, least, most.
    pub(super) fn ranges(&self) -> [(&'static str, u64, u64, u64); 5] {
        [
            ("jobs.max_running", self.max_running as u64, 0, 64),
            ("jobs.queue_limit", u64::from(self.queue_limit), 1, 100_000),
            ("jobs.max_upload_mib", self.max_upload_mib, 1, 1024 * 1024),
            ("jobs.max_memory_mib", self.max_memory_mib, 64, 1 << 20),
            ("jobs.retention_days", u64::from(self.retention_days), 1, 36_500),
        ]
    }
}

impl Config {
    /// Where each job has a folder of its own while it is at work.
    pub fn jobs_folder(&self) -> PathBuf {
        self.data_dir.join("jobs")
    }

    /// Import roots are read by the server already, so they are sources as well.
    pub fn scene_sources(&self) -> anyhow::Result<SceneSources> {
        const KEY: &str = "jobs.sources";
        let mut sources = SceneSources { roots: self.import_roots()?, web: Vec::new() };
        for source in &self.jobs.sources {
            if source.starts_with("https://") || source.starts_with("http://") {
                sources.web.push(WebPlace::parse(source).map_err(|error| anyhow!("{KEY}: {error}"))?);
            } else {
                sources.roots.push(self.root(KEY, source)?);
            }
        }
        Ok(sources)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_folders_buckets_and_parts_of_the_web() {
        let with = |sources: &[&str]| {
            let mut config = Config::default();
            config.jobs.sources = sources.iter().map(|source| (*source).to_owned()).collect();
            config.artifacts.import_roots = vec!["imports".to_owned()];
            config.scene_sources()
        };
        let sources = with(&["scenes", "https://maps.example/public", "https://*"]).unwrap();
        assert_eq!((sources.roots.len(), sources.web.len()), (2, 2));
        let none = with(&[]).unwrap();
        assert_eq!((none.roots.len(), none.web.len()), (1, 0), "nothing of the web by itself");
        for bad in ["ftp://maps.example", "https://user@maps.example", "s3:///x"] {
            let message = format!("{:#}", with(&[bad]).unwrap_err());
            assert!(message.contains("jobs.sources"), "{message}");
        }
    }
}
