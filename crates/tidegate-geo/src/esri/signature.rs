//! Signatures of packages: Ed25519 (RFC 8032) over the checksums of the members, inside the package or beside it.
//!
//! Keys are files as OpenSSL writes them (`openssl genpkey -algorithm ed25519`): PKCS#8 and SubjectPublicKeyInfo (RFC 8410)
//! in PEM (RFC 7468). A signature says that whoever holds the key put these members together; whose key it is, is for the
//! reader to know.

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};
use tidegate_core::Sha256Digest;
use zip::write::SimpleFileOptions;
use zip::{ZipArchive, ZipWriter};

use super::manifest::{Manifest, SIGNATURE_NAME};

/// The key of whoever signs.
pub struct SigningKey(Ed25519KeyPair);

/// The key of whoever checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyingKey([u8; 32]);

/// A signature as it is kept, in `signature.json` or in a file beside the package.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signature {
    pub algorithm: Algorithm,
    /// Base64 of the 32 bytes.
    pub public_key: String,
    /// Base64 of the 64 bytes.
    pub signature: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Algorithm {
    Ed25519,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    #[error(
        "not an Ed25519 private key: make one with `tidegate package keygen`, or `openssl genpkey -algorithm ed25519`"
    )]
    NotPrivate,
    #[error("this is the public key: sign with the private one")]
    PublicToSign,
    #[error("not an Ed25519 public key: `openssl pkey -pubout` writes the public one of a private key")]
    NotPublic,
    #[error("the system gives no random numbers")]
    NoRandomness,
    #[error("the signature is not one of this key over these files")]
    Forged,
    #[error("the signature is damaged: {0}")]
    Damaged(&'static str),
}

/// Keeps signatures of this apart from any other use of the key.
const CONTEXT: &[u8] = b"tidegate package signature 1\n";

/// What precedes the 32 bytes of a key in its DER encoding: RFC 8410, section 4.
const PUBLIC_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

impl SigningKey {
    /// A new key, and its file's text.
    pub fn generate() -> Result<(SigningKey, String), KeyError> {
        let document =
            Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::NoRandomness)?;
        let text = to_pem("PRIVATE KEY", document.as_ref());
        Ok((SigningKey::parse(&text)?, text))
    }

    pub fn parse(pem: &str) -> Result<SigningKey, KeyError> {
        if from_pem("PUBLIC KEY", pem).is_some() {
            return Err(KeyError::PublicToSign);
        }
        let der = from_pem("PRIVATE KEY", pem).ok_or(KeyError::NotPrivate)?;
        // OpenSSL leaves the public key out, which ring wants to be told.
        Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map(SigningKey).map_err(|_| KeyError::NotPrivate)
    }

    pub fn verifying_key(&self) -> VerifyingKey {
        let bytes = self.0.public_key().as_ref().try_into().expect("an Ed25519 key has 32 bytes");
        VerifyingKey(bytes)
    }

    pub fn sign(&self, manifest: &Manifest) -> Signature {
        Signature {
            algorithm: Algorithm::Ed25519,
            public_key: BASE64.encode(self.verifying_key().0),
            signature: BASE64.encode(self.0.sign(&message(manifest))),
        }
    }
}

impl VerifyingKey {
    pub fn parse(pem: &str) -> Result<VerifyingKey, KeyError> {
        // A private key says its public one; people keep the wrong file at hand.
        if let Ok(key) = SigningKey::parse(pem) {
            return Ok(key.verifying_key());
        }
        let der = from_pem("PUBLIC KEY", pem).ok_or(KeyError::NotPublic)?;
        let bytes = der.strip_prefix(&PUBLIC_PREFIX).and_then(|bytes| bytes.try_into().ok());
        bytes.map(VerifyingKey).ok_or(KeyError::NotPublic)
    }

    pub fn to_pem(&self) -> String {
        to_pem("PUBLIC KEY", &[&PUBLIC_PREFIX[..], &self.0].concat())
    }

    /// Short enough to be read out: the start of the key's SHA-256.
    pub fn fingerprint(&self) -> String {
        Sha256Digest::of(&self.0).as_str().chars().take(16).collect()
    }

    /// Whether the signature is this key's, over these members.
    pub fn verify(&self, signature: &Signature, manifest: &Manifest) -> Result<(), KeyError> {
        let bytes = BASE64.decode(&signature.signature).map_err(|_| KeyError::Damaged("it is not base64"))?;
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        key.verify(&message(manifest), &bytes).map_err(|_| KeyError::Forged)
    }
}

impl Signature {
    /// The key that the signature names. It is trusted no more than the package.
    pub fn claimed_key(&self) -> Result<VerifyingKey, KeyError> {
        let bytes =
            BASE64.decode(&self.public_key).map_err(|_| KeyError::Damaged("its key is not base64"))?;
        bytes.try_into().map(VerifyingKey).map_err(|_| KeyError::Damaged("its key has not 32 bytes"))
    }

    pub fn to_json(&self) -> String {
        let json = serde_json::to_string_pretty(self).expect("a signature is strings");
        format!("{json}\n")
    }
}

fn message(manifest: &Manifest) -> Vec<u8> {
    [CONTEXT, manifest.to_json().as_bytes()].concat()
}

/// Copies the package with the signature in it, in the place of an older one.
pub fn sign_package<W: Write + Seek>(
    package: &Path,
    target: W,
    signature: &Signature,
) -> Result<(), zip::result::ZipError> {
    let mut archive = ZipArchive::new(std::io::BufReader::new(File::open(package)?))?;
    let mut writer = ZipWriter::new(target);
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index)?;
        if entry.name()? != SIGNATURE_NAME {
            writer.raw_copy_file(entry)?;
        }
    }
    writer.start_file(SIGNATURE_NAME, SimpleFileOptions::default().unix_permissions(0o644))?;
    writer.write_all(signature.to_json().as_bytes())?;
    writer.finish()?;
    Ok(())
}

fn to_pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64.encode(der);
    let lines = base64.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line).into_owned());
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.collect::<Vec<_>>().join("\n"))
}

/// The bytes of the first block of that label.
fn from_pem(label: &str, text: &str) -> Option<Vec<u8>> {
    let (_, rest) = text.split_once(&format!("-----BEGIN {label}-----"))?;
    let (body, _) = rest.split_once(&format!("-----END {label}-----"))?;
    BASE64.decode(body.split_whitespace().collect::<String>()).ok()
}

/// Reads a signature; what is too long to be one is not read to its end.
pub fn read_signature(mut source: impl Read) -> Result<Signature, KeyError> {
    const MAX_BYTES: u64 = 64 << 10;
    let mut text = String::new();
    let read = source.by_ref().take(MAX_BYTES).read_to_string(&mut text);
    read.map_err(|_| KeyError::Damaged("it is not text"))?;
    serde_json::from_str(&text).map_err(|_| KeyError::Damaged("it is not a signature of a package"))
}
