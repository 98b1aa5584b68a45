//! The files of the web console (console.md): a table inside the binary, made by `build.rs`; in
//! debug builds and with `CONSOLE_DIR` they come from disk, so that an edit shows after a reload.
//! They hold nothing secret and need no key: whatever the console shows it asks the API for, with
//! the key of whoever looks at it.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;

use super::rest::Uncompressed;
use crate::error::{Code, Failure};

/// One file of the table.
#[derive(Debug)]
struct File {
    /// Relative to the folder, with `/` between its parts.
    path: &'static str,
    bytes: &'static [u8],
    /// Of the bytes.
    hash: &'static str,
}

const EMBEDDED: &[File] = include!(concat!(env!("OUT_DIR"), "/console.rs"));

/// Nothing inline, nothing from elsewhere, no frame around it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' \
                      blob: data:; media-src 'self' blob:; connect-src 'self'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'none'";

/// Where a build for development finds the files that it was made from.
const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/transport/console");

/// A file as it is sent.
#[derive(Debug, Clone)]
struct Sent {
    content_type: &'static str,
    hash: Cow<'static, str>,
    plain: Bytes,
    /// Made once; `None` for files from disk.
    gzip: Option<Bytes>,
}

/// Whether a path is the console's: served without a key.
pub fn is_open(path: &str) -> bool {
    matches!(path, "/" | "/console") || path.starts_with("/console/")
}

/// The console's routes; none at all when it is switched off.
pub fn routes<S>(enabled: bool, directory: Option<PathBuf>) -> Router<S>
where
    S: Clone + Send + Sync + 'static,
{
    if !enabled {
        return Router::new();
    }
    let directory = directory.or_else(|| {
        let source = PathBuf::from(SOURCE);
        (cfg!(debug_assertions) && source.join("index.html").is_file()).then_some(source)
    });
    let directory: Option<Arc<Path>> = directory.map(Into::into);
    Router::new()
        .route("/", get(to_console))
        .route("/console", get(to_console))
        .route(
            "/console/",
            get({
                let directory = directory.clone();
                move |headers: HeaderMap| answer(directory, "index.html".to_owned(), headers)
            }),
        )
        .route(
            "/console/{*path}",
            get(move |request: Request| {
                let path = request.uri().path();
                let path = path.strip_prefix("/console/").unwrap_or(path).to_owned();
                answer(directory, path, request.into_parts().0.headers)
            }),
        )
}

/// Relative, so that it is right behind any proxy.
async fn to_console() -> Response {
    (
        StatusCode::TEMPORARY_REDIRECT,
        [(header::LOCATION, "console/")],
    )
        .into_response()
}

async fn answer(directory: Option<Arc<Path>>, path: String, headers: HeaderMap) -> Response {
    let found = match directory {
        Some(directory) => from_disk(&directory, &path).await,
        None => TABLE.get(path.as_str()).cloned(),
    };
    match found {
        Some(file) => sent(file, &headers),
        None => {
            let shown: String = path.chars().take(200).collect();
            Failure::new(
                Code::NotFound,
                format!("there is nothing at /console/{shown}: the console is at /console/"),
            )
            .into_response()
        }
    }
}

fn sent(file: Sent, headers: &HeaderMap) -> Response {
    let gzip = file.gzip.filter(|_| takes_gzip(headers));
    let tag = match gzip {
        Some(_) => format!("\"{}-gzip\"", file.hash),
        None => format!("\"{}\"", file.hash),
    };
    let known = headers
        .get(header::IF_NONE_MATCH)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|tags| {
            tags.split(',')
                .map(|one| one.trim().trim_start_matches("W/"))
                .any(|one| one == tag || one == "*")
        });
    let encoded = gzip.is_some();
    let mut response = Response::new(if known {
        Body::empty()
    } else {
        Body::from(gzip.unwrap_or(file.plain))
    });
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let lines = response.headers_mut();
    let mut line = |name, value| {
        lines.insert(name, HeaderValue::from_static(value));
    };
    line(header::CONTENT_SECURITY_POLICY, POLICY);
    line(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    line(header::REFERRER_POLICY, "no-referrer");
    // A new version of the binary is seen at once; what has not changed costs a 304.
    line(header::CACHE_CONTROL, "no-cache");
    line(header::VARY, "accept-encoding");
    lines.insert(
        "cross-origin-opener-policy",
        HeaderValue::from_static("same-origin"),
    );
    if !known {
        lines.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static(file.content_type),
        );
        if encoded {
            lines.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        }
    }
    if let Ok(tag) = HeaderValue::from_str(&tag) {
        lines.insert(header::ETAG, tag);
    }
    response.extensions_mut().insert(Uncompressed);
    response
}

/// Whether the client names gzip, or anything, without refusing it.
fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut any = None;
    for part in headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
    {
        let (name, parameters) = part.split_once(';').unwrap_or((part, ""));
        let refused = parameters.trim().strip_prefix("q=").is_some_and(|weight| {
            weight
                .trim()
                .parse::<f32>()
                .is_ok_and(|weight| weight <= 0.0)
        });
        match name.trim().to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => return !refused,
            "*" => any = Some(!refused),
            _ => {}
        }
    }
    any.unwrap_or(false)
}

fn content_type(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

/// All files, compressed when the first of them is asked for.
static TABLE: LazyLock<HashMap<&'static str, Sent>> = LazyLock::new(|| {
    EMBEDDED
        .iter()
        .filter_map(|file| {
            let sent = Sent {
                content_type: content_type(file.path)?,
                hash: Cow::Borrowed(file.hash),
                plain: Bytes::from_static(file.bytes),
                gzip: compressed(file.bytes),
            };
            Some((file.path, sent))
        })
        .collect()
});

fn compressed(bytes: &[u8]) -> Option<Bytes> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

/// A file of a folder. Only plain names of served kinds are looked at, so no path leads out of it.
async fn from_disk(directory: &Path, path: &str) -> Option<Sent> {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
    };
    let content_type = content_type(path)?;
    if !path.split('/').all(plain) {
        return None;
    }
    let bytes = tokio::fs::read(directory.join(path)).await.ok()?;
    Some(Sent {
        content_type,
        hash: Cow::Owned(blake3::hash(&bytes).to_hex()[..32].to_owned()),
        plain: Bytes::from(bytes),
        gzip: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_holds_the_application_and_nothing_foreign() {
        assert!(TABLE.contains_key("index.html") && TABLE.contains_key("app.js"));
        assert!(TABLE.keys().all(|path| !path.ends_with(".rs")));
        let whole: usize = TABLE
            .values()
            .filter_map(|file| file.gzip.as_ref())
            .map(Bytes::len)
            .sum();
        assert!(whole < 300_000, "{whole} bytes");
    }

    #[test]
    fn gzip_is_for_those_who_take_it() {
        for (accepted, expected) in [
            ("gzip, br", true),
            ("br", false),
            ("*", true),
            ("gzip;q=0, *", false),
            ("br, GZIP;q=0.5", true),
        ] {
            let headers =
                HeaderMap::from_iter([(header::ACCEPT_ENCODING, accepted.parse().unwrap())]);
            assert_eq!(takes_gzip(&headers), expected, "{accepted}");
        }
    }

    #[tokio::test]
    async fn no_path_leads_out_of_the_folder() {
        let folder = Path::new(SOURCE);
        assert!(from_disk(folder, "index.html").await.is_some());
        for path in [
            "../console.rs",
            "../mod.rs",
            "pages/../../mod.rs",
            "/etc/hostname",
            ".hidden.js",
            "%2e%2e/x.js",
            "missing.js",
        ] {
            assert!(from_disk(folder, path).await.is_none(), "{path}");
        }
    }
}
