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
use comfyui_api::storage::UploadFile;
use comfyui_api::storage::backend::{ByteRange, ObjectStream, Source};
use futures_util::TryStreamExt;
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
