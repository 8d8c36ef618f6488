//! Who is told what, as configured.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::{Deserialize, Serialize};
use tidegate_core::Sha256Digest;
use tidegate_delivery::EVENT_KINDS;
use url::Url;

/// What every type of message begins with; the kind of the event follows.
pub const TYPE_PREFIX: &str = "deployment.";

/// How a secret begins, by the Standard Webhooks specification.
const SECRET_PREFIX: &str = "whsec_";

/// A `[[webhooks]]` table.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookConfig {
    pub url: String,
    /// `whsec_` and 24 to 64 random bytes in base64.
    pub secret: String,
    /// Types of messages (`deployment.switched`); none: every one.
    #[serde(default)]
    pub events: Vec<String>,
    /// How long the receiver may take to answer, in seconds.
    #[serde(default = "default_timeout_s")]
    pub timeout_s: u64,
}

/// What receivers are commonly given; who needs longer should answer first and work then.
fn default_timeout_s() -> u64 {
    10
}

/// Somebody to tell.
#[derive(Clone)]
pub struct Webhook {
    pub url: Url,
    pub key: Vec<u8>,
    /// Kinds of events; empty: every kind.
    kinds: BTreeSet<String>,
    pub timeout: Duration,
    name: String,
}

impl Webhook {
    pub fn parse(config: &WebhookConfig) -> anyhow::Result<Self> {
        let url = Url::parse(&config.url).context("`url` is not a URL")?;
        ensure!(matches!(url.scheme(), "http" | "https"), "`url` must begin with http:// or https://");
        let key = parse_secret(&config.secret)?;
        let mut kinds = BTreeSet::new();
        for event in &config.events {
            let kind = event.strip_prefix(TYPE_PREFIX).filter(|kind| EVENT_KINDS.contains(kind));
            let Some(kind) = kind else {
                let known: Vec<_> = EVENT_KINDS.iter().map(|kind| format!("{TYPE_PREFIX}{kind}")).collect();
                bail!("`events` has no `{event}` to give; there are {}", known.join(", "));
            };
            kinds.insert(kind.to_owned());
        }
        ensure!((1..=60).contains(&config.timeout_s), "`timeout_s` must be from 1 to 60");
        let name = shown(&url);
        Ok(Self { url, key, kinds, timeout: Duration::from_secs(config.timeout_s), name })
    }

    /// For logs: the URL without what may be secret in it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Names it in the store; another URL is another webhook.
    pub fn id(&self) -> String {
        Sha256Digest::of(self.url.as_str().as_bytes()).to_string()
    }

    pub fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.contains(kind)
    }
}

fn parse_secret(secret: &str) -> anyhow::Result<Vec<u8>> {
    const HELP: &str = "`secret` must be `whsec_` and 24 to 64 random bytes in base64: \
                        `echo whsec_$(openssl rand -base64 32)` makes one";
    let key = secret.strip_prefix(SECRET_PREFIX).and_then(|encoded| BASE64_STANDARD.decode(encoded).ok());
    key.filter(|key| (24..=64).contains(&key.len())).context(HELP)
}

fn shown(url: &Url) -> String {
    let port = url.port().map_or_else(String::new, |port| format!(":{port}"));
    format!("{}://{}{port}", url.scheme(), url.host_str().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> WebhookConfig {
        WebhookConfig {
            url: "https://user:pass@hooks.example.org:8443/T000/secret?token=x".to_owned(),
            secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned(),
            events: vec!["deployment.rolledBack".to_owned()],
            timeout_s: 10,
        }
    }

    #[test]
    fn what_is_shown_is_not_secret() {
        let webhook = Webhook::parse(&config()).unwrap();
        assert_eq!(webhook.name(), "https://hooks.example.org:8443");
        assert!(webhook.wants("rolledBack") && !webhook.wants("switched"));
        let all = Webhook::parse(&WebhookConfig { events: vec![], ..config() }).unwrap();
        assert!(all.wants("switched"));
    }

    #[test]
    fn every_fault_names_its_key_and_never_the_secret() {
        let with = |change: &dyn Fn(&mut WebhookConfig)| {
            let mut config = config();
            change(&mut config);
            config
        };
        let url = |url: &str| with(&|config| config.url = url.to_owned());
        let secret = |secret: &str| with(&|config| config.secret = secret.to_owned());
        let event = |event: &str| with(&|config| config.events = vec![event.to_owned()]);
        let cases = [
            (url("hooks.example.org"), "`url`"),
            (url("ftp://hooks.example.org"), "`url`"),
            (secret("hunter2hunter2hunter2hunter2"), "`secret`"),
            (secret("whsec_aHVudGVyMg=="), "`secret`"),
            (event("deployment.exploded"), "`deployment.exploded`"),
            (event("switched"), "deployment.switched"),
            (with(&|config| config.timeout_s = 0), "`timeout_s`"),
        ];
        for (config, expected) in cases {
            let message = format!("{:#}", Webhook::parse(&config).err().expect("it is refused"));
            assert!(message.contains(expected) && !message.contains("hunter2"), "{message}");
        }
    }
}
