//! What is sent: a message of the Standard Webhooks specification (<https://www.standardwebhooks.com>, version 1.0.0), signed
//! with HMAC-SHA256.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use tidegate_core::Timestamp;
use tidegate_store::{DeploymentRecord, EventRecord};

use super::settings::TYPE_PREFIX;

/// A message, the same each time that it is tried.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// For the receiver to know one that it has had already.
    pub id: String,
    pub body: String,
}

/// The names that people know a deployment's parts by.
#[derive(Clone, Debug, Default)]
pub struct Names {
    pub model: Option<String>,
    pub version: Option<String>,
}

impl Message {
    pub fn of(record: &DeploymentRecord, names: &Names, event: &EventRecord) -> Self {
        let body = json!({
            "type": format!("{TYPE_PREFIX}{}", event.kind),
            "timestamp": event.at,
            "data": {
                "deploymentId": record.id,
                "seq": event.seq,
                "message": event.message,
                "evidence": event.evidence,
                "modelId": record.model_id,
                "modelName": names.model,
                "versionId": record.version_id,
                "version": names.version,
                "environment": record.environment,
                "strategy": record.strategy,
                "initiatedBy": record.initiated_by,
            },
        });
        // No dot in it: the signature separates by dots.
        Self { id: format!("{}_{}", record.id, event.seq), body: body.to_string() }
    }

    /// The headers of an attempt at `now`: receivers refuse what was signed long ago, so each attempt is signed anew.
    pub fn headers(&self, key: &[u8], now: Timestamp) -> [(&'static str, String); 3] {
        let timestamp = now.as_second().to_string();
        let signature = sign(key, &self.id, &timestamp, &self.body);
        [
            ("webhook-id", self.id.clone()),
            ("webhook-timestamp", timestamp),
            ("webhook-signature", format!("v1,{signature}")),
        ]
    }
}

fn sign(key: &[u8], id: &str, timestamp: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    for part in [id, ".", timestamp, ".", body] {
        mac.update(part.as_bytes());
    }
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example that the specification's own libraries are tested with.
    #[test]
    fn a_known_message_has_its_known_signature() {
        let key = BASE64_STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let message = Message {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".to_owned(),
            body: r#"{"test": 2432232314}"#.to_owned(),
        };
        let [id, timestamp, signature] =
            message.headers(&key, Timestamp::from_second(1_614_265_330).unwrap());
        assert_eq!(id, ("webhook-id", message.id.clone()));
        assert_eq!(timestamp, ("webhook-timestamp", "1614265330".to_owned()));
        assert_eq!(
            signature,
            ("webhook-signature", "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned())
        );
    }
}
