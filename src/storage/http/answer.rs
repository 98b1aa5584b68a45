//! What an answer's status and headers say of a file.

use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use percent_encoding::percent_decode_str;
use reqwest::Response;
use url::Url;

use super::super::backend::{ByteRange, ObjectInfo};
use super::super::cloud::hex;
use super::super::{ErrorKind, StorageError};
use crate::config::public;
use crate::net::retry;

/// The file behind an answer to HEAD or GET, ranged or not.
pub(super) fn info(response: &Response, at: &Url, asked: &Url) -> ObjectInfo {
    let headers = response.headers();
    let partial = matches!(
        response.status(),
        StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE
    );
    let encoded = encoding(headers).is_some();
    let size = if is_gzip(response) {
        None
    } else if partial {
        total(headers)
    } else {
        text(headers, &header::CONTENT_LENGTH).and_then(|length| length.trim().parse().ok())
    };
    ObjectInfo {
        size,
        etag: text(headers, &header::ETAG)
            .map(str::trim)
            .filter(|etag| etag.starts_with('"'))
            .map(str::to_owned),
        ranges: !encoded
            && (response.status() == StatusCode::PARTIAL_CONTENT
                || text(headers, &header::ACCEPT_RANGES).is_some_and(accepts_bytes)),
        sha256: promised_sha256(headers).filter(|_| !encoded),
        checksum: None,
        content_type: text(headers, &header::CONTENT_TYPE)
            .and_then(|kind| kind.split(';').next())
            .map(|kind| kind.trim().to_ascii_lowercase()),
        disposition_name: text(headers, &header::CONTENT_DISPOSITION).and_then(disposition_name),
        final_url: (at.as_str() != asked.as_str()).then(|| at.clone()),
    }
}

/// Whether the body is compressed although nobody asked for that: object stores send what was stored so.
pub(super) fn is_gzip(response: &Response) -> bool {
    response.status() != StatusCode::PARTIAL_CONTENT
        && matches!(
            encoding(response.headers()).as_deref(),
            Some("gzip" | "x-gzip")
        )
}

/// How the body differs from the file, in lower case.
fn encoding(headers: &HeaderMap) -> Option<String> {
    text(headers, &header::CONTENT_ENCODING)
        .map(|encoding| encoding.trim().to_ascii_lowercase())
        .filter(|encoding| encoding != "identity")
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    // Names in raw UTF-8 are common; `to_str` would refuse them.
    headers
        .get(name)
        .and_then(|value| std::str::from_utf8(value.as_bytes()).ok())
}

fn accepts_bytes(value: &str) -> bool {
    value
        .split(',')
        .any(|unit| unit.trim().eq_ignore_ascii_case("bytes"))
}

/// The size after the slash of `Content-Range`.
fn total(headers: &HeaderMap) -> Option<u64> {
    text(headers, &header::CONTENT_RANGE)?
        .rsplit_once('/')?
        .1
        .trim()
        .parse()
        .ok()
}

/// Where a partial answer begins, which must be where it was asked to begin.
pub(super) fn offset(
    response: &Response,
    range: Option<ByteRange>,
    url: &Url,
) -> Result<u64, StorageError> {
    let start = text(response.headers(), &header::CONTENT_RANGE)
        .and_then(|range| range.trim().strip_prefix("bytes"))
        .and_then(|range| range.trim_start().split_once('-'))
        .and_then(|(start, _)| start.trim().parse::<u64>().ok());
    match (start, range) {
        (Some(start), Some(range)) if start == range.start => Ok(start),
        _ => Err(StorageError::new(
            ErrorKind::Transient,
            format!(
                "{} answered with another range than was asked for",
                public(url)
            ),
        )),
    }
}

/// `x-linked-etag` of Hugging Face's LFS files, or `Repr-Digest`/`Digest`, when it is a SHA-256 of the whole file.
fn promised_sha256(headers: &HeaderMap) -> Option<String> {
    use base64::Engine;
    let linked = headers
        .get("x-linked-etag")
        .and_then(|value| value.to_str().ok())
        .map(|etag| etag.trim_start_matches("W/").trim_matches('"'));
    if let Some(linked) =
        linked.filter(|etag| etag.len() == 64 && etag.bytes().all(|byte| byte.is_ascii_hexdigit()))
    {
        return Some(linked.to_ascii_lowercase());
    }
    let digest = ["repr-digest", "digest"]
        .into_iter()
        .find_map(|name| headers.get(name)?.to_str().ok())?;
    let encoded = digest.split(',').find_map(|part| {
        let (name, value) = part.trim().split_once('=')?;
        name.eq_ignore_ascii_case("sha-256")
            .then(|| value.trim_matches(':').to_owned())
    })?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .ok()
        .filter(|bytes| bytes.len() == 32)?;
    Some(hex(&bytes))
}

/// The file name of a `Content-Disposition`: `filename*` before `filename`, the last segment of either.
pub(super) fn disposition_name(value: &str) -> Option<String> {
    let mut plain = None;
    for (name, value) in parameters(value) {
        if name.eq_ignore_ascii_case("filename*") {
            let mut parts = value.splitn(3, '\'');
            if let (Some(charset), Some(_), Some(encoded)) =
                (parts.next(), parts.next(), parts.next())
            {
                let bytes: Vec<u8> = percent_decode_str(encoded).collect();
                let decoded = if charset.eq_ignore_ascii_case("iso-8859-1") {
                    bytes.iter().map(|byte| char::from(*byte)).collect()
                } else {
                    String::from_utf8_lossy(&bytes).into_owned()
                };
                if let Some(name) = last_segment(&decoded) {
                    return Some(name);
                }
            }
        } else if name.eq_ignore_ascii_case("filename") {
            plain = plain.or_else(|| last_segment(&value));
        }
    }
    plain
}

fn last_segment(name: &str) -> Option<String> {
    let name = name.rsplit(['/', '\\']).next()?.trim();
    (!name.is_empty() && name != "." && name != "..").then(|| name.to_owned())
}

/// The parameters after the disposition type; values unquoted, semicolons in quotes respected.
fn parameters(value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', ';', '\t']).to_owned();
        let after = after.trim_start();
        let mut text = String::new();
        if let Some(quoted) = after.strip_prefix('"') {
            let mut chars = quoted.char_indices();
            let mut end = quoted.len();
            while let Some((at, char)) = chars.next() {
                match char {
                    '"' => {
                        end = at + 1;
                        break;
                    }
                    '\\' => text.extend(chars.next().map(|(_, char)| char)),
                    _ => text.push(char),
                }
            }
            rest = quoted.get(end..).unwrap_or_default();
        } else {
            let (token, tail) = after.split_once(';').unwrap_or((after, ""));
            text.push_str(token.trim());
            rest = tail;
        }
        found.push((name, text));
    }
    found
}

/// What an answer that is no success means.
pub(super) fn status_error(response: &Response, url: &Url) -> StorageError {
    let status = response.status();
    let url = public(url);
    let (kind, meaning) = match status.as_u16() {
        401 | 403 => (ErrorKind::Unauthorized, "it wants credentials, or others"),
        404 | 410 => (ErrorKind::NotFound, "it is not there"),
        // The file has shrunk under a resumed download: from the beginning, then.
        412 | 416 => (ErrorKind::Transient, "the file has changed meanwhile"),
        _ if retry::is_transient_status(status) => {
            (ErrorKind::Transient, "the server cannot answer now")
        }
        _ => (ErrorKind::Failed, "the server refuses"),
    };
    StorageError {
        kind,
        message: format!("{url} answered {status}: {meaning}"),
        retry_after: retry::retry_after(response.headers()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_content_disposition() {
        for (value, name) in [
            ("attachment; filename=\"a b;c.bin\"; x=1", Some("a b;c.bin")),
            ("attachment; filename=plain.ckpt", Some("plain.ckpt")),
            (
                "attachment; filename=x.bin; filename*=UTF-8''%e4%b8%ad.safetensors",
                Some("中.safetensors"),
            ),
            ("attachment; filename*=iso-8859-1'en'%A3.bin", Some("£.bin")),
            ("attachment; filename=\"../../etc/passwd\"", Some("passwd")),
            ("attachment; filename=\"C:\\\\temp\\\\m.pt\"", Some("m.pt")),
            ("attachment; filename=\"..\"", None),
            ("attachment; filename=\"unclosed", Some("unclosed")),
            ("inline", None),
            ("attachment; filename=", None),
        ] {
            assert_eq!(disposition_name(value).as_deref(), name, "{value}");
        }
    }
}
