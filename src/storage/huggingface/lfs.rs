//! Large files: the Git LFS batch API with the hub's `multipart` transfer beside `basic`.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{Method, header};
use serde::{Deserialize, Serialize};
use url::Url;

use super::failure::refused;
use super::hub::Hub;
use super::location;
use super::upload::{LargeFile, answer};
use crate::storage::cloud::{self, FilePart, Meter, in_parallel};
use crate::storage::{ErrorKind, HfTarget, StorageError};
use crate::telemetry::trace;

const JSON: &str = "application/vnd.git-lfs+json";
/// Objects of one batch.
const BATCH: usize = 100;
/// Objects at once.
const FILES: usize = 4;
/// Parts of one object at once.
const PARTS: usize = 2;

#[derive(Deserialize)]
struct Batch {
    objects: Vec<Object>,
}

#[derive(Deserialize)]
struct Object {
    oid: String,
    #[serde(default)]
    actions: Option<Actions>,
    #[serde(default)]
    error: Option<Refusal>,
}

#[derive(Deserialize)]
struct Refusal {
    code: u16,
    message: String,
}

/// None at all mean that the object is there already.
#[derive(Deserialize, Default)]
struct Actions {
    upload: Option<Action>,
    verify: Option<Action>,
}

#[derive(Deserialize)]
struct Action {
    href: Url,
    /// May be `null`.
    header: Option<BTreeMap<String, serde_json::Value>>,
}

impl Action {
    fn headers(&self) -> impl Iterator<Item = (&String, &serde_json::Value)> {
        self.header.iter().flatten()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SentPart {
    part_number: usize,
    etag: String,
}

/// Brings files into the repository's LFS storage, where no commit names them yet.
pub async fn upload(
    hub: &Hub,
    target: &HfTarget,
    place: &str,
    files: &[LargeFile],
    meter: &Arc<Meter>,
) -> Result<(), StorageError> {
    for some in files.chunks(BATCH) {
        let objects: Vec<_> = some
            .iter()
            .map(|file| serde_json::json!({ "oid": file.oid, "size": file.file.part.length }))
            .collect();
        let body = serde_json::json!({
            "operation": "upload",
            "transfers": ["basic", "multipart"],
            "objects": objects,
            "hash_algo": "sha256",
            "ref": { "name": target.revision },
        });
        let request = hub.api(
            Method::POST,
            &format!("{}.git/info/lfs/objects/batch", location::page(target)),
        )?;
        let batch: Batch = answer(
            hub,
            target,
            place,
            request
                .header(header::ACCEPT, JSON)
                .header(header::CONTENT_TYPE, JSON)
                .json(&body),
        )
        .await?;
        let mut work = Vec::new();
        for object in batch.objects {
            if let Some(error) = object.error {
                let message = crate::storage::error::shown(&error.message, &hub.secrets(&[]))
                    .unwrap_or_default();
                return Err(StorageError::new(
                    cloud::classify(error.code),
                    format!("{place}: LFS refused an object: {message} ({})", error.code),
                ));
            }
            let Some(file) = some.iter().find(|file| file.oid == object.oid) else {
                continue;
            };
            work.push((file.clone(), object.actions.unwrap_or_default()));
        }
        in_parallel(work, FILES, |(file, actions)| async move {
            send(hub, target, place, &file, actions, meter).await
        })
        .await?;
    }
    Ok(())
}

async fn send(
    hub: &Hub,
    target: &HfTarget,
    place: &str,
    file: &LargeFile,
    actions: Actions,
    meter: &Arc<Meter>,
) -> Result<(), StorageError> {
    let place = &format!("{place}: {}", file.file.path);
    let part = &file.file.part;
    let Some(action) = &actions.upload else {
        meter.add(part.length);
        return Ok(());
    };
    match action
        .headers()
        .find(|(name, _)| *name == "chunk_size")
        .and_then(|(_, size)| number(size))
    {
        Some(chunk) => multipart(hub, place, file, action, chunk, meter).await?,
        None => {
            let href = hub.moved(&action.href);
            let mut request = hub.sending(&href).await?.put(href);
            for (name, value) in action.headers() {
                request = request.header(name, value.as_str().unwrap_or_default());
            }
            put(hub, place, request, part, meter).await?;
        }
    }
    let Some(verify) = &actions.verify else {
        return Ok(());
    };
    let href = hub.moved(&verify.href);
    let mut request = hub.sending(&href).await?.post(href.clone());
    for (name, value) in verify.headers() {
        request = request.header(name, value.as_str().unwrap_or_default());
    }
    let own = !verify
        .headers()
        .any(|(name, _)| name.eq_ignore_ascii_case("authorization"));
    if own && href.origin() == hub.endpoint().origin() {
        request = request.bearer_auth(hub.token()?.expose());
    }
    let request = request
        .header(header::ACCEPT, JSON)
        .json(&serde_json::json!({ "oid": file.oid, "size": part.length }));
    done(hub, place, Some(&location::page(target)), request)
        .await
        .map(drop)
}

/// Parts in URLs of their own (`header` holds them by number), put together by a request to the
/// action's own URL.
async fn multipart(
    hub: &Hub,
    place: &str,
    file: &LargeFile,
    action: &Action,
    chunk: u64,
    meter: &Arc<Meter>,
) -> Result<(), StorageError> {
    let part = &file.file.part;
    let nonsense = || {
        StorageError::new(
            ErrorKind::Failed,
            format!("{place}: the hub's plan for the upload makes no sense"),
        )
    };
    if chunk == 0 {
        return Err(nonsense());
    }
    let mut plan = Vec::new();
    for (index, part) in FilePart::split(&part.path, part.length, chunk)
        .into_iter()
        .enumerate()
    {
        let number = index + 1;
        // The hub pads the numbers with zeros.
        let url = action
            .headers()
            .find(|(name, _)| name.parse() == Ok(number))
            .and_then(|(_, url)| Url::parse(url.as_str()?).ok());
        plan.push((number, url.ok_or_else(nonsense)?, part));
    }
    let parts = in_parallel(plan, PARTS, |(part_number, url, part)| async move {
        let response = put(
            hub,
            place,
            hub.sending(&url).await?.put(url.clone()),
            &part,
            meter,
        )
        .await?;
        let etag = response
            .headers()
            .get(header::ETAG)
            .and_then(|etag| etag.to_str().ok())
            .map(str::to_owned);
        let etag = etag.ok_or_else(|| {
            StorageError::new(
                ErrorKind::Failed,
                format!("{place}: a part was stored without an etag"),
            )
        })?;
        Ok(SentPart { part_number, etag })
    })
    .await?;
    let href = hub.moved(&action.href);
    let request = hub
        .sending(&href)
        .await?
        .post(href)
        .header(header::ACCEPT, JSON)
        .header(header::CONTENT_TYPE, JSON);
    done(
        hub,
        place,
        None,
        request.json(&serde_json::json!({ "oid": file.oid, "parts": parts })),
    )
    .await
    .map(drop)
}

async fn put(
    hub: &Hub,
    place: &str,
    request: reqwest::RequestBuilder,
    part: &FilePart,
    meter: &Arc<Meter>,
) -> Result<reqwest::Response, StorageError> {
    // Signed URLs do not take chunked bodies.
    let request = request
        .header(header::CONTENT_LENGTH, part.length)
        .body(reqwest::Body::wrap_stream(part.stream(meter.clone())));
    done(hub, place, None, request).await
}

async fn done(
    hub: &Hub,
    place: &str,
    page: Option<&str>,
    request: reqwest::RequestBuilder,
) -> Result<reqwest::Response, StorageError> {
    let response = request
        .send()
        .await
        .map_err(|error| cloud::from_reqwest(place, &error))?;
    trace::seen_status(response.status().as_u16());
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(refused(hub, place, page, &[], response).await)
    }
}

fn number(value: &serde_json::Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}
