//! HTTP fields that several parts read: `Content-Type`, `Content-Disposition`, `Content-Range`,
//! `Retry-After`.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, header};
use percent_encoding::percent_decode_str;

/// A media type that is longer is none, in bytes.
const LONGEST_TYPE: usize = 200;

/// The media type of a `Content-Type` without its parameters, in lower case.
pub fn media_type(value: &str) -> String {
    let plain = value.split(';').next().unwrap_or_default();
    plain.trim().to_ascii_lowercase()
}

/// Whether a media type that somebody gives may stand in a header.
pub fn fit_media_type(text: &str) -> bool {
    let plain = |byte| (0x20..0x7f).contains(&byte);
    text.len() <= LONGEST_TYPE && text.contains('/') && text.bytes().all(plain)
}

/// The file name of a `Content-Disposition`: `filename*` before `filename`, the last segment of
/// either.
pub fn disposition_name(value: &str) -> Option<String> {
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

/// What a `Content-Range` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentRange {
    /// The first byte; `None` for an unsatisfied range (`bytes */10`).
    pub start: Option<u64>,
    /// Bytes of the whole; `None` when it is not told (`*`).
    pub total: Option<u64>,
}

/// Reads a `Content-Range: bytes 5-9/10`.
pub fn content_range(value: &str) -> Option<ContentRange> {
    let (range, total) = value.trim().strip_prefix("bytes")?.split_once('/')?;
    let start = match range.trim() {
        "*" => None,
        range => Some(range.split_once('-')?.0.trim().parse().ok()?),
    };
    Some(ContentRange {
        start,
        total: total.trim().parse().ok(),
    })
}

/// The wait that an answer asks for: `Retry-After` in seconds or as a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let when = httpdate::parse_http_date(text).ok()?;
    Some(when.duration_since(SystemTime::now()).unwrap_or_default())
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

    #[test]
    fn ranges_of_content() {
        let range = |start, total| Some(ContentRange { start, total });
        for (value, read) in [
            ("bytes 5-9/10", range(Some(5), Some(10))),
            (" bytes  5-9/* ", range(Some(5), None)),
            ("bytes */10", range(None, Some(10))),
            ("bytes x-9/10", None),
            ("items 5-9/10", None),
        ] {
            assert_eq!(content_range(value), read, "{value}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RETRY_AFTER, "3".parse().unwrap());
        assert_eq!(retry_after(&headers), Some(Duration::from_secs(3)));
        let date = httpdate::fmt_http_date(SystemTime::now() + Duration::from_secs(100));
        headers.insert(header::RETRY_AFTER, date.parse().unwrap());
        assert!(
            retry_after(&headers).is_some_and(
                |wait| wait > Duration::from_secs(90) && wait <= Duration::from_secs(100)
            )
        );
    }
}
