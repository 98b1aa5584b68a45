//! An upload of one prompt's files: ask how each should go, bring the large ones into LFS, and
//! commit all at once.

use aws_smithy_checksums::ChecksumAlgorithm;
use axum::http::Method;
use base64::Engine;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

use super::failure::refused;
use super::hub::Hub;
use super::{commit, lfs, location};
use crate::storage::cloud::{self, FilePart, Meter, in_parallel, size_of, supervised};
use crate::storage::{ErrorKind, HfTarget, Progress, StorageError, UploadFile};
use crate::telemetry::trace;

/// The hub decides by this much of a file whether it is text.
const SAMPLE: u64 = 512;
/// Files that are asked about at once.
const ASKED: usize = 256;
/// Files that go to LFS at once.
const CONNECTIONS: usize = 4;

/// A file on its way into a repository.
#[derive(Clone)]
pub struct Outgoing {
    /// Its bytes.
    pub part: FilePart,
    /// Its path in the repository.
    pub path: String,
}

/// A file with its place in LFS.
#[derive(Clone)]
pub struct LargeFile {
    /// The file.
    pub file: Outgoing,
    /// SHA-256 in hex, which is its name there.
    pub oid: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Question<'a> {
    path: &'a str,
    sample: String,
    size: u64,
}

#[derive(Deserialize)]
struct Answers {
    files: Vec<Answer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    path: String,
    upload_mode: String,
    #[serde(default)]
    should_ignore: bool,
}

/// Uploads files in one commit.
pub async fn upload(
    hub: &Hub,
    target: &HfTarget,
    files: &[UploadFile],
    progress: Option<&Progress>,
    cancel: &CancellationToken,
) -> Result<(), StorageError> {
    location::check_target(target)?;
    let mut outgoing = Vec::with_capacity(files.len());
    let mut total = 0;
    for file in files {
        let length = size_of(&file.path).await?;
        total += length;
        let path = location::path_in_repository(target, &file.filename);
        outgoing.push(Outgoing {
            part: FilePart {
                path: file.path.clone(),
                offset: 0,
                length,
            },
            path,
        });
    }
    if outgoing.is_empty() {
        return Ok(());
    }
    let place = format!(
        "{}/{}",
        hub.endpoint().as_str().trim_end_matches('/'),
        location::page(target)
    );
    let meter = Meter::new(total, progress);
    supervised(
        &place,
        &meter,
        cancel,
        run(hub, target, &place, outgoing, &meter),
    )
    .await
}

async fn run(
    hub: &Hub,
    target: &HfTarget,
    place: &str,
    files: Vec<Outgoing>,
    meter: &Arc<Meter>,
) -> Result<(), StorageError> {
    let modes = ask(hub, target, place, &files).await?;
    let (mut regular, mut large) = (Vec::new(), Vec::new());
    for (file, is_large) in files.into_iter().zip(modes) {
        if is_large {
            large.push(file)
        } else {
            regular.push(file)
        }
    }
    let large = in_parallel(large, CONNECTIONS, |file| async move {
        let oid = sha256(&file.part).await?;
        Ok(LargeFile { file, oid })
    })
    .await?;
    lfs::upload(hub, target, place, &large, meter).await?;
    commit::commit(hub, target, place, &regular, &large, meter).await
}

/// Asks for every file whether it goes to LFS.
async fn ask(
    hub: &Hub,
    target: &HfTarget,
    place: &str,
    files: &[Outgoing],
) -> Result<Vec<bool>, StorageError> {
    let path = format!(
        "api/{}/{}/preupload/{}",
        location::plural(target),
        target.repo,
        location::encoded(&target.revision)
    );
    let mut modes = Vec::with_capacity(files.len());
    for some in files.chunks(ASKED) {
        let mut questions = Vec::with_capacity(some.len());
        for file in some {
            questions.push(Question {
                path: &file.path,
                sample: sample(&file.part).await?,
                size: file.part.length,
            });
        }
        let request = hub
            .api(Method::POST, &path)?
            .json(&serde_json::json!({ "files": questions }));
        let answers: Answers = answer(hub, target, place, request).await?;
        for file in some {
            let Some(answer) = answers.files.iter().find(|answer| answer.path == file.path) else {
                return Err(StorageError::new(
                    ErrorKind::Failed,
                    format!("{place}: the hub did not say how to upload {}", file.path),
                ));
            };
            if answer.should_ignore {
                return Err(StorageError::new(
                    ErrorKind::Failed,
                    format!(
                        "{place}: the repository's .gitignore excludes {}",
                        file.path
                    ),
                ));
            }
            // Git has no object for "nothing" in LFS.
            modes.push(answer.upload_mode == "lfs" && file.part.length > 0);
        }
    }
    Ok(modes)
}

/// Sends a request and reads its JSON answer.
pub async fn answer<T: serde::de::DeserializeOwned>(
    hub: &Hub,
    target: &HfTarget,
    place: &str,
    request: reqwest::RequestBuilder,
) -> Result<T, StorageError> {
    let response = request
        .send()
        .await
        .map_err(|error| cloud::from_reqwest(place, &error))?;
    trace::seen_status(response.status().as_u16());
    if !response.status().is_success() {
        return Err(refused(hub, place, Some(&location::page(target)), &[], response).await);
    }
    response.json().await.map_err(|error| {
        let kind = if error.is_decode() {
            ErrorKind::Failed
        } else {
            ErrorKind::Transient
        };
        StorageError::new(
            kind,
            format!(
                "{place}: the hub's answer could not be read: {}",
                cloud::words(&error)
            ),
        )
    })
}

async fn sample(part: &FilePart) -> Result<String, StorageError> {
    let read = async {
        let mut bytes = Vec::new();
        tokio::fs::File::open(&part.path)
            .await?
            .take(SAMPLE)
            .read_to_end(&mut bytes)
            .await?;
        Ok(base64::engine::general_purpose::STANDARD.encode(bytes))
    };
    read.await.map_err(|error| unreadable(part, &error))
}

async fn sha256(part: &FilePart) -> Result<String, StorageError> {
    let digest = cloud::digest_of(part.path.clone(), ChecksumAlgorithm::Sha256).await;
    digest
        .map(hex::encode)
        .map_err(|error| unreadable(part, &error))
}

fn unreadable(part: &FilePart, error: &std::io::Error) -> StorageError {
    StorageError::new(
        ErrorKind::Failed,
        format!("{}: {error}", part.path.display()),
    )
}
