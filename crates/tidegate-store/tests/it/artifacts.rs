//! The artifact store, on a folder and on S3: the same checks on both, then what only a folder can show.

use std::io;
use std::path::Path;

use bytes::Bytes;
use futures::{Stream, StreamExt, TryStreamExt, stream};
use jiff::SignedDuration;
use tidegate_core::{Sha256Digest, Timestamp};
use tidegate_store::{ArtifactError, ArtifactLocation, ArtifactStore, PutError, Stored};

use crate::s3::Server;

const PART_BYTES: usize = 8 << 20;
const HOUR: SignedDuration = SignedDuration::from_hours(1);

#[tokio::test]
async fn a_folder_keeps_artifacts() {
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(&ArtifactLocation::Folder(folder.path().join("new/artifacts"))).unwrap();
    check_store(&store).await;
    assert!(files_below(folder.path()).is_empty(), "folders of deleted artifacts go too");
}

#[tokio::test]
async fn a_bucket_keeps_artifacts() {
    let Some(server) = Server::start() else { return };
    let prefix = format!("run-{}", std::process::id());
    let store = server.store(&prefix);
    check_store(&store).await;
    check_cache(&store).await;
    let elsewhere = server.store("");
    store.put("seen/from/above", chunks(&[1]), 1).await.unwrap();
    elsewhere.verify(&format!("{prefix}/seen/from/above"), &Sha256Digest::of(&[1])).await.unwrap();
    elsewhere.delete_prefix(&prefix).await.unwrap();
    assert_eq!(store.list("").await.unwrap(), []);
}

async fn check_store(store: &ArtifactStore) {
    check_sizes(store).await;
    check_failed_uploads(store).await;
    check_keys(store).await;
    check_verify(store).await;
    check_sweep(store).await;
    assert_eq!(store.list("").await.unwrap(), []);
}

async fn check_sizes(store: &ArtifactStore) {
    for size in [0, 1, PART_BYTES - 1, PART_BYTES, 2 * PART_BYTES + 7] {
        let content: Vec<u8> = (0..size).map(|index| (index % 251) as u8).collect();
        let stored = store.put("sizes/a", chunks(&content), size as u64).await.unwrap();
        let expected = Stored { sha256: Sha256Digest::of(&content), size_bytes: size as u64 };
        assert_eq!(stored, expected);
        assert_eq!(store.list("sizes").await.unwrap()[0].size_bytes, size as u64);
        let parts: Vec<Bytes> = store.get("sizes/a").await.unwrap().try_collect().await.unwrap();
        assert!(parts.concat() == content, "{size} bytes read back");
    }
    store.delete_prefix("sizes").await.unwrap();
}

async fn check_failed_uploads(store: &ArtifactStore) {
    let content = vec![7; PART_BYTES + 1];
    let too_large = store.put("failed/a", chunks(&content), PART_BYTES as u64).await;
    assert!(matches!(too_large, Err(PutError::TooLarge { limit_bytes }) if limit_bytes == PART_BYTES as u64));
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[0; 65_536])));
    let too_large = store.put("failed/b", endless, 20 << 20).await;
    assert!(matches!(too_large, Err(PutError::TooLarge { .. })), "{too_large:?}");
    let broken = chunks(&content).chain(stream::iter([Err(io::Error::other("gone"))]));
    let broken = store.put("failed/c", broken, u64::MAX).await;
    assert!(
        matches!(&broken, Err(PutError::Stream { source }) if source.to_string() == "gone"),
        "{broken:?}"
    );
    assert_eq!(store.list("").await.unwrap(), []);
    for key in ["failed/a", "failed/b", "failed/c"] {
        let missing = store.get(key).await.err();
        assert!(matches!(missing, Some(ArtifactError::Missing { .. })), "{missing:?}");
    }
}

async fn check_keys(store: &ArtifactStore) {
    let keys = ["k/a/net.onnx", "k/a b/ü %20+&=.pt", "k/ab"];
    for key in keys {
        let stored = store.put(key, chunks(key.as_bytes()), 100).await.unwrap();
        store.verify(key, &stored.sha256).await.unwrap();
    }
    assert_eq!(keys_below(store, "k").await, ["k/a b/ü %20+&=.pt", "k/a/net.onnx", "k/ab"]);
    assert_eq!(keys_below(store, "nobody").await, [""; 0]);
    store.delete_prefix("k/a").await.unwrap();
    assert_eq!(keys_below(store, "").await, ["k/a b/ü %20+&=.pt", "k/ab"], "a prefix is whole segments");
    store.delete_prefix("k").await.unwrap();
    store.delete_prefix("k").await.unwrap();
    // The longest part of a key; the suffix of its half-written file must fit beside it.
    let longest = format!("k/{}", "a".repeat(240));
    let stored = store.put(&longest, chunks(&[1]), 1).await.unwrap();
    store.verify(&longest, &stored.sha256).await.unwrap();
    store.delete_prefix("k").await.unwrap();
    let too_long = format!("{longest}a");
    for bad in ["", "/etc/passwd", "../outside", "a/../../outside", "a\\..\\b", "a//b", "a#1", &too_long] {
        let refused = store.put(bad, chunks(&[1]), 10).await;
        assert!(
            matches!(refused, Err(PutError::Artifact(ArtifactError::InvalidKey { .. }))),
            "{bad}: {refused:?}"
        );
        assert!(matches!(store.get(bad).await.err(), Some(ArtifactError::InvalidKey { .. })), "{bad}");
        let deleted = store.delete_prefix(bad).await;
        assert!(matches!(deleted, Err(ArtifactError::InvalidKey { .. })), "{bad}: {deleted:?}");
    }
}

async fn check_verify(store: &ArtifactStore) {
    let cache = tempfile::tempdir().unwrap();
    let stored = store.put("v/a", chunks(b"abc"), 3).await.unwrap();
    let other = Sha256Digest::of(b"other");
    match store.verify("v/a", &other).await {
        Err(ArtifactError::DigestMismatch { key, expected, actual }) => {
            assert_eq!((key.as_str(), expected, actual), ("v/a", other.clone(), stored.sha256.clone()));
        }
        outcome => panic!("{outcome:?}"),
    }
    let missing = store.verify("v/b", &other).await;
    assert!(matches!(missing, Err(ArtifactError::Missing { .. })), "{missing:?}");
    let path = store.local_path("v/a", &stored.sha256, cache.path()).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"abc");
    let missing = store.local_path("v/b", &other, cache.path()).await;
    assert!(matches!(missing, Err(ArtifactError::Missing { .. })), "{missing:?}");
    store.delete_prefix("v").await.unwrap();
}

async fn check_sweep(store: &ArtifactStore) {
    for key in ["s/kept", "s/orphan"] {
        store.put(key, chunks(b"abc"), 3).await.unwrap();
    }
    let written: Timestamp = store.list("s").await.unwrap()[0].modified_at;
    let is_referenced = |key: &str| key == "s/kept";
    let young = store.sweep(is_referenced, HOUR, written + HOUR / 2).await.unwrap();
    assert_eq!(
        (young, keys_below(store, "s").await.len()),
        (0, 2),
        "an upload may be about to be registered"
    );
    assert_eq!(store.sweep(is_referenced, HOUR, written + HOUR * 2).await.unwrap(), 1);
    assert_eq!(keys_below(store, "s").await, ["s/kept"]);
    store.delete_prefix("s").await.unwrap();
}

/// What is not a folder keeps a checked copy on this machine.
async fn check_cache(store: &ArtifactStore) {
    let cache = tempfile::tempdir().unwrap();
    let stored = store.put("c/net.onnx", chunks(b"abc"), 3).await.unwrap();
    let wrong = Sha256Digest::of(b"other");
    let refused = store.local_path("c/net.onnx", &wrong, cache.path()).await;
    assert!(
        matches!(&refused, Err(ArtifactError::DigestMismatch { key, .. }) if key == "c/net.onnx"),
        "{refused:?}"
    );
    assert!(files_below(cache.path()).is_empty(), "what is not right does not come into the cache");
    let at_once = (0..4).map(|_| store.local_path("c/net.onnx", &stored.sha256, cache.path()));
    let paths = futures::future::try_join_all(at_once).await.unwrap();
    assert_eq!(files_below(cache.path()), [format!("{}/net.onnx", stored.sha256)]);
    store.delete_prefix("c").await.unwrap();
    let cached = store.local_path("c/net.onnx", &stored.sha256, cache.path()).await.unwrap();
    assert!(cached == paths[0] && std::fs::read(cached).unwrap() == b"abc", "downloaded once");
}

#[tokio::test]
async fn a_failed_upload_leaves_no_file_in_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(&ArtifactLocation::Folder(folder.path().to_path_buf())).unwrap();
    check_failed_uploads(&store).await;
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");

    store.put("kept/a", chunks(b"old"), 3).await.unwrap();
    assert!(store.put("kept/a", chunks(b"longer"), 3).await.is_err());
    assert_eq!(files_below(folder.path()), ["kept/a"]);
    store.verify("kept/a", &Sha256Digest::of(b"old")).await.unwrap();
}

/// Needs a disk that can be filled: `TIDEGATE_TEST_TINY_DISK` names a folder on one of at most a few hundred megabytes.
#[tokio::test]
async fn a_full_disk_is_named_and_left_as_it_was() {
    let Some(tiny) = crate::setting("TIDEGATE_TEST_TINY_DISK") else {
        println!("skipped: no disk to fill (set TIDEGATE_TEST_TINY_DISK to a folder on a small one)");
        return;
    };
    let folder = tempfile::tempdir_in(tiny).unwrap();
    let store = ArtifactStore::open(&ArtifactLocation::Folder(folder.path().to_path_buf())).unwrap();
    let endless = stream::repeat_with(|| Ok(Bytes::from_static(&[0; 65_536])));
    let full = store.put("m/net.onnx", endless, 1 << 30).await;
    assert!(matches!(full, Err(PutError::NoSpace { .. })), "{full:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    store.put("m/small", chunks(b"abc"), 3).await.unwrap();
}

#[tokio::test]
async fn what_a_killed_upload_left_is_swept() {
    let folder = tempfile::tempdir().unwrap();
    let store = ArtifactStore::open(&ArtifactLocation::Folder(folder.path().to_path_buf())).unwrap();
    store.put("m/v1/net.onnx", chunks(b"abc"), 3).await.unwrap();
    for half_written in ["m/v1/other.onnx#1", "m/v2/net.onnx#12"] {
        let path = folder.path().join(half_written);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, "half").unwrap();
    }
    std::fs::create_dir_all(folder.path().join("m/v3/empty")).unwrap();
    assert_eq!(keys_below(&store, "").await, ["m/v1/net.onnx"], "what is half written is not there");

    let written = store.list("").await.unwrap()[0].modified_at;
    assert_eq!(store.sweep(|_| true, HOUR, written).await.unwrap(), 0);
    assert_eq!(files_below(folder.path()).len(), 3, "it may still be written to");
    assert_eq!(store.sweep(|_| true, HOUR, written + HOUR * 2).await.unwrap(), 2);
    assert_eq!(files_below(folder.path()), ["m/v1/net.onnx"]);
    let folders = std::fs::read_dir(folder.path().join("m")).unwrap().count();
    assert_eq!(folders, 1, "empty folders go too");
}

#[test]
fn a_location_shows_no_secret() {
    let location = ArtifactLocation::S3 {
        bucket: "b".to_owned(),
        prefix: "p".to_owned(),
        endpoint: None,
        region: "r".to_owned(),
        access_key_id: Some("secret-id".to_owned()),
        secret_access_key: Some("secret-key".to_owned()),
        allow_http: false,
    };
    let shown = format!("{location:?}");
    assert!(shown.contains("\"b\"") && !shown.contains("secret-"), "{shown}");
    ArtifactStore::open(&location).unwrap();
    let nameless = ArtifactLocation::Folder(Path::new("/dev/null/below").to_path_buf());
    let refused = ArtifactStore::open(&nameless).err();
    assert!(matches!(refused, Some(ArtifactError::OpenFolder { .. })), "{refused:?}");
}

/// The content in the pieces in which it could come over a network.
fn chunks(content: &[u8]) -> impl Stream<Item = Result<Bytes, io::Error>> + Send + Unpin + use<> {
    let pieces: Vec<_> = content.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    stream::iter(pieces)
}

async fn keys_below(store: &ArtifactStore, prefix: &str) -> Vec<String> {
    let mut keys: Vec<_> = store.list(prefix).await.unwrap().into_iter().map(|stored| stored.key).collect();
    keys.sort();
    keys
}

/// Every file below the folder, half-written ones too, by its path from there.
fn files_below(folder: &Path) -> Vec<String> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            files.extend(files_below(&path).into_iter().map(|below| format!("{name}/{below}")));
        } else {
            files.push(name.to_owned());
        }
    }
    files.sort();
    files
}
