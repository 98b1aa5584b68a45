//! How the files reach whoever asked: in the body, by upload, by webhook (delivery.md, storage.md).

mod response;
mod webhooks;

use std::time::Instant;

use serde_json::json;
use tokio_util::sync::CancellationToken;

pub use response::{Outcome, Response};
pub(super) use webhooks::{Notice, Promises, failed, promise, succeeded};

use super::outputs::OutputFile;
use super::registry::{Job, Status};
use super::request::PromptRequest;
use super::service::Inner;
use super::stream::Weight;
use crate::error::{Code, Failure};
use crate::events::{PromptRef, Source, SystemEvent};
use crate::storage::{ErrorKind, Progress, StorageError, UploadFile};

/// What `images` will hold.
#[derive(Debug)]
pub enum Images {
    /// The files themselves, in base64.
    Inline,
    /// Where they were uploaded to.
    Urls(Vec<String>),
}

/// Checks, before anything runs, that the result can be delivered as asked.
///
/// # Errors
/// A 400 that names the field.
pub(super) async fn check(inner: &Inner, request: &PromptRequest) -> Result<(), Failure> {
    check_webhooks(inner, request).await?;
    if let Some(conversion) = &request.conversion {
        inner.media.check(conversion).await?;
    }
    if let Some(upload) = &request.upload {
        inner
            .storage
            .check_target(&upload.target, request.signed_url)
            .await
            .map_err(|error| {
                // What is wrong with a prefix is said at the prefix.
                let at = match error.message.starts_with("url_prefix") {
                    true => format!("{}.url_prefix", upload.field),
                    false => upload.field.to_owned(),
                };
                Failure::invalid(at, error.message)
            })?;
    }
    Ok(())
}

/// Checks, before anything runs, that its receivers may be reached.
///
/// # Errors
/// A 400 that names the field.
pub(super) async fn check_webhooks(inner: &Inner, request: &PromptRequest) -> Result<(), Failure> {
    for webhook in &request.webhooks {
        inner
            .outbound
            .check_webhook(&webhook.url)
            .await
            .map_err(|refused| Failure::invalid(webhook.field(), refused.to_string()))?;
    }
    Ok(())
}

/// Uploads if that was asked for.
///
/// # Errors
/// 502 when an upload fails after its retries.
pub(super) async fn images(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    files: &[OutputFile],
    cancel: &CancellationToken,
) -> Result<Images, Failure> {
    let Some(upload) = &request.upload else {
        return Ok(Images::Inline);
    };
    job.enter(Status::Uploading);
    let sources: Vec<UploadFile> = files
        .iter()
        .map(|file| UploadFile {
            path: file.path.clone(),
            filename: file.filename.clone(),
            content_type: file.content_type.clone(),
        })
        .collect();
    let began = Instant::now();
    let (sender, mut progress) = tokio::sync::watch::channel((0_u64, None::<u64>));
    let report: Progress = std::sync::Arc::new(move |so_far, total| {
        let _ = sender.send((so_far, total));
    });
    let uploading = inner.storage.upload(
        &upload.target,
        &sources,
        request.signed_url,
        Some(report),
        cancel,
    );
    tokio::pin!(uploading);
    let uploaded = loop {
        tokio::select! {
            uploaded = &mut uploading => break uploaded,
            Ok(()) = progress.changed() => {
                let (so_far, total) = *progress.borrow_and_update();
                let data = || json!({"prompt_id": &*job.id, "uploaded": so_far, "total": total});
                if let Some(origin) = &job.origin {
                    origin.tell("upload_progress", data());
                }
                job.streams.message(Weight::Newest(21), || {
                    json!({"type": "upload_progress", "data": data()}).to_string()
                });
            }
        }
    };
    let uploaded = uploaded.map_err(|error| upload_failure(job, cancel, error))?;
    let urls: Vec<String> = uploaded
        .into_iter()
        .map(|file| {
            file.signed_url
                .filter(|_| request.signed_url)
                .unwrap_or(file.url)
        })
        .collect();
    announce(inner, job, &urls, began);
    Ok(Images::Urls(urls))
}

fn upload_failure(job: &Job, cancel: &CancellationToken, error: StorageError) -> Failure {
    match error.kind {
        ErrorKind::Cancelled if cancel.is_cancelled() => job.stop_reason(),
        ErrorKind::Invalid => Failure::new(Code::UploadFailed, error.message),
        _ => error.into_failure(Code::UploadFailed),
    }
}

/// Tells listeners that the files of a prompt are where they belong. Signed URLs are secrets, so
/// only their public part is told.
pub(super) fn announce(inner: &Inner, job: &Job, urls: &[String], began: Instant) {
    if !inner.events.wanted("upload_complete") {
        return;
    }
    let images: Vec<String> = urls
        .iter()
        .map(|url| match url.starts_with("s3://") {
            // The key as it is (F07); it has no secrets.
            true => url.clone(),
            false => crate::config::public_url(url),
        })
        .collect();
    let data =
        json!({"prompt_id": &*job.id, "images": images, "duration": began.elapsed().as_secs_f64()});
    inner.events.emit(SystemEvent {
        source: Source::Storage,
        name: "upload_complete".into(),
        data: std::sync::Arc::new(data),
        prompt: Some(prompt_ref(job)),
    });
}

/// A job, for those who listen to events.
pub(super) fn prompt_ref(job: &Job) -> PromptRef {
    PromptRef {
        id: job.id.clone(),
        published: job.policy.published,
        context: job.trace.context().cloned(),
    }
}
