//! Resolving a file and fetching it, wherever the hub keeps it: in git, in LFS or in xet.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use futures_util::StreamExt;
use reqwest::StatusCode;

use super::failure::refused;
use super::hub::{FollowedLink, Hub, Linked};
use super::location;
use crate::net::http_fields::{content_range, disposition_name, media_type};
use crate::storage::backend::{ByteRange, ObjectInfo, ObjectStream, Source};
use crate::storage::cloud;
use crate::storage::{ErrorKind, StorageError};

/// Asks about a file. The hub answers by itself for files that lie elsewhere.
pub async fn head(hub: &Hub, source: &Source) -> Result<ObjectInfo, StorageError> {
    let (mut url, page) = location::to_ask(&source.url, hub.endpoint());
    let private = hub.credentials(source.auth.as_ref(), &mut url)?;
    let followed = hub
        .follow(Method::HEAD, &url, &private, |_| open_headers(None))
        .await?;
    let status = followed.response.status();
    if status.is_success() || (status.is_redirection() && followed.linked.size.is_some()) {
        return Ok(info(&url, &followed));
    }
    Err(refused(
        hub,
        &crate::config::public(&source.url),
        page.as_deref(),
        &source.secrets(),
        followed.response,
    )
    .await)
}

/// Begins to fetch a file.
pub async fn open(
    hub: &Hub,
    source: &Source,
    range: Option<ByteRange>,
    if_match: Option<&str>,
) -> Result<ObjectStream, StorageError> {
    let shown = crate::config::public(&source.url);
    let (mut url, page) = location::to_ask(&source.url, hub.endpoint());
    let private = hub.credentials(source.auth.as_ref(), &mut url)?;
    let ranged = |linked: &Linked| {
        let mut headers = open_headers(range);
        match (&linked.etag, if_match) {
            // The file is another one by now: fetch all of it.
            (Some(etag), Some(expected)) if expected.trim_matches('"') != etag => {
                drop(headers.remove(header::RANGE))
            }
            // What the CDN calls its copy is not what the hub calls the file.
            (Some(_), _) | (_, None) => {}
            (None, Some(expected)) if range.is_some() => {
                if let Ok(value) = HeaderValue::try_from(expected) {
                    headers.insert(header::IF_RANGE, value);
                }
            }
            (None, Some(_)) => {}
        }
        headers
    };
    let followed = hub.follow(Method::GET, &url, &private, ranged).await?;
    let offset = match followed.response.status() {
        StatusCode::PARTIAL_CONTENT => {
            let range = followed
                .response
                .headers()
                .get(header::CONTENT_RANGE)
                .and_then(|value| value.to_str().ok())
                .and_then(content_range);
            let nonsense = || {
                StorageError::new(
                    ErrorKind::Transient,
                    format!("{shown}: the server sent a Content-Range that makes no sense"),
                )
            };
            range.and_then(|range| range.start).ok_or_else(nonsense)?
        }
        status if status.is_success() => 0,
        // The first byte of an empty file.
        StatusCode::RANGE_NOT_SATISFIABLE if range.is_some_and(|range| range.start == 0) => {
            return Ok(ObjectStream {
                info: info(&url, &followed),
                offset: 0,
                body: futures_util::stream::empty().boxed(),
            });
        }
        _ => {
            let secrets = source.secrets();
            let refused = refused(hub, &shown, page.as_deref(), &secrets, followed.response);
            return Err(refused.await);
        }
    };
    let info = info(&url, &followed);
    let body = followed
        .response
        .bytes_stream()
        .map(move |bytes| bytes.map_err(|error| cloud::from_reqwest(&shown, &error)));
    Ok(ObjectStream {
        info,
        offset,
        body: body.boxed(),
    })
}

fn open_headers(range: Option<ByteRange>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // A compressed answer has another length, and ranges of it are of no use.
    headers.insert(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    );
    if let Some(range) = range {
        headers.extend(
            HeaderValue::try_from(range.to_string())
                .ok()
                .map(|value| (header::RANGE, value)),
        );
    }
    headers
}

fn info(asked: &url::Url, followed: &FollowedLink) -> ObjectInfo {
    let headers = followed.response.headers();
    let text = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let whole = match (
        text(header::CONTENT_RANGE).and_then(content_range),
        followed.response.status(),
    ) {
        (Some(range), _) => range.total,
        (None, StatusCode::OK) => {
            text(header::CONTENT_LENGTH).and_then(|length| length.parse().ok())
        }
        _ => None,
    };
    let linked = &followed.linked;
    let redirected = followed.response.status().is_redirection();
    let own_etag = text(header::ETAG)
        .filter(|etag| !etag.starts_with("W/"))
        .map(str::to_owned);
    ObjectInfo {
        size: linked.size.or(whole),
        etag: linked
            .etag
            .as_ref()
            .map(|etag| format!("\"{etag}\""))
            .or(own_etag),
        weak_etag: text(header::ETAG)
            .filter(|etag| linked.etag.is_none() && etag.starts_with("W/"))
            .map(str::to_owned),
        last_modified: text(header::LAST_MODIFIED)
            .filter(|_| linked.etag.is_none())
            .map(str::to_owned),
        ranges: linked.etag.is_some()
            || text(header::ACCEPT_RANGES) == Some("bytes")
            || followed.response.status() == StatusCode::PARTIAL_CONTENT,
        sha256: linked
            .etag
            .as_ref()
            .filter(|etag| etag.len() == 64 && etag.chars().all(|c| c.is_ascii_hexdigit()))
            .map(|etag| etag.to_ascii_lowercase()),
        checksum: None,
        content_type: text(header::CONTENT_TYPE)
            .filter(|_| !redirected)
            .map(media_type),
        disposition_name: text(header::CONTENT_DISPOSITION).and_then(disposition_name),
        final_url: (followed.url != *asked).then(|| without_query(&followed.url)),
    }
}

/// The CDN's URLs are signed in their query.
fn without_query(url: &url::Url) -> url::Url {
    let mut bare = url.clone();
    bare.set_query(None);
    bare
}
