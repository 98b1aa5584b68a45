//! The S3, Azure and Hugging Face backends through their trait, against real peers.

mod azure;
mod azure_accounts;
mod chain;
mod engine;
mod huggingface;
mod huggingface_commits;
mod measure;
mod s3;

use std::collections::BTreeMap;
use std::path::Path;

use comfyui_api::config::{Config, StorageConfig};
use comfyui_api::net::Outbound;
use comfyui_api::storage::backend::{Backend, ByteRange, ObjectStream, Source};
use comfyui_api::storage::{Target, UploadFile};
use futures_util::TryStreamExt;
use tokio_util::sync::CancellationToken;
use url::Url;

/// The storage configuration that an environment makes.
fn storage_config(variables: &[(&str, &str)]) -> StorageConfig {
    comfyui_api::net::install_crypto();
    let variables: BTreeMap<String, String> = variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    Config::from_env(&variables).unwrap().storage
}

fn outbound(variables: &[(&str, &str)]) -> Outbound {
    Outbound::new(&storage_config(variables)).unwrap()
}

fn source(url: &str) -> Source {
    Source::new(Url::parse(url).unwrap(), url)
}

fn range(start: u64, end: u64) -> Option<ByteRange> {
    Some(ByteRange {
        start,
        end: Some(end),
    })
}

async fn read(stream: ObjectStream) -> Vec<u8> {
    stream
        .body
        .try_fold(Vec::new(), |mut all, bytes| async move {
            all.extend_from_slice(&bytes);
            Ok(all)
        })
        .await
        .unwrap()
}

fn file(directory: &Path, filename: &str, bytes: &[u8]) -> UploadFile {
    let path = directory.join(uuid::Uuid::new_v4().simple().to_string());
    std::fs::write(&path, bytes).unwrap();
    UploadFile {
        path,
        filename: filename.to_owned(),
        content_type: "image/png".to_owned(),
    }
}

/// Bytes that differ at every place, so that a part at the wrong place is seen.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ length as u64;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    if let Some(first) = bytes.first_mut() {
        *first = 0;
    }
    bytes
}

/// Uploads a picture under a name.
async fn put(backend: &impl Backend, target: &Target, directory: &Path, name: &str, bytes: &[u8]) {
    let file = file(directory, name, bytes);
    let never = CancellationToken::new();
    backend.upload(target, &file, None, &never).await.unwrap();
}

/// What is put under a name is had, whole and with its type, by the URL that is said of it, which
/// this gives.
async fn comes_back(backend: &impl Backend, target: &Target, name: &str, bytes: &[u8]) -> String {
    let directory = tempfile::tempdir().unwrap();
    put(backend, target, directory.path(), name, bytes).await;
    let url = backend.url_of(target, name);
    let source = source(&url);
    assert!(backend.claims(&source.url), "{url}");
    let info = backend.head(&source).await.unwrap();
    let size = Some(bytes.len() as u64);
    assert_eq!(
        (info.size, info.content_type.as_deref()),
        (size, Some("image/png")),
        "{url}"
    );
    let stream = backend.open(&source, None, None).await.unwrap();
    assert_eq!((stream.info.size, stream.offset), (size, 0), "{url}");
    assert!(read(stream).await == bytes, "{url}");
    url
}

/// A range is had as long as the object is the same, else the whole of the new one.
async fn gives_ranges(backend: &impl Backend, target: &Target, another_etag: &str) {
    let bytes = noise(10_000);
    let source = source(&comes_back(backend, target, "x", &bytes).await);
    let etag = backend.head(&source).await.unwrap().etag.unwrap();
    let rest = ByteRange {
        start: 9_000,
        end: None,
    };
    for (range, from, to) in [(range(100, 199), 100, 200), (Some(rest), 9_000, 10_000)] {
        let stream = backend.open(&source, range, Some(&etag)).await.unwrap();
        assert_eq!(
            (stream.info.size, stream.offset, stream.info.etag.as_ref()),
            (Some(10_000), from as u64, Some(&etag))
        );
        assert!(read(stream).await == bytes[from..to]);
    }
    let changed = backend
        .open(&source, range(100, 199), Some(another_etag))
        .await
        .unwrap();
    assert_eq!(
        (changed.offset, changed.info.etag.as_ref()),
        (0, Some(&etag)),
        "the whole of it, which shows that it is another one"
    );
}
