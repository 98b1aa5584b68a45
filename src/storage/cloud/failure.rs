//! From the transport's failures to a [`StorageError`]: which kind it is, and one sentence without secrets.

use std::error::Error;
use std::time::Duration;

use axum::http::{HeaderMap, header};

use crate::net::Refused;
use crate::storage::{ErrorKind, StorageError};

/// What a status means for the engine. A failed precondition is transient: the file changed meanwhile.
pub fn classify(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Unauthorized,
        404 | 410 => ErrorKind::NotFound,
        408 | 409 | 412 | 416 | 425 | 429 | 500..=599 => ErrorKind::Transient,
        _ => ErrorKind::Failed,
    }
}

/// `Retry-After` in seconds or as a date.
pub fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    httpdate::parse_http_date(value)
        .ok()?
        .duration_since(std::time::SystemTime::now())
        .ok()
}

/// The address guard's sentence, if it was the guard that stopped a request.
pub fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return Some(refused.to_string());
        }
        // An io::Error's source is the source of what it wraps, so that the wrapped error itself would be passed over.
        if let Some(inner) = error
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref)
            && let Some(sentence) = refusal(inner)
        {
            return Some(sentence);
        }
        next = error.source();
    }
    None
}

/// What went wrong below, without URLs: the innermost causes in a few words.
pub fn words(error: &(dyn Error + 'static)) -> String {
    let mut said: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = match error.downcast_ref::<reqwest::Error>() {
            // Its own text ends with the whole URL.
            Some(error) if error.is_timeout() => "timed out".to_owned(),
            Some(error) if error.is_connect() => "could not connect".to_owned(),
            Some(error) if error.is_body() || error.is_decode() => "the body broke off".to_owned(),
            Some(_) => "the request failed".to_owned(),
            None => error.to_string(),
        };
        if !text.contains("://") && !said.iter().any(|earlier| earlier.contains(&text)) {
            said.push(text);
        }
        next = error.source();
    }
    said.join(": ")
}

/// A failure of reqwest. `place` is a public URL or a name.
pub fn from_reqwest(place: &str, error: &reqwest::Error) -> StorageError {
    if let Some(sentence) = refusal(error) {
        return StorageError::new(ErrorKind::Invalid, sentence);
    }
    let kind = if error.is_builder() {
        ErrorKind::Invalid
    } else {
        ErrorKind::Transient
    };
    StorageError::new(kind, format!("{place}: {}", words(error)))
}

/// The file name of a `Content-Disposition`, last path segment only.
pub fn disposition_name(value: &str) -> Option<String> {
    let mut plain = None;
    let mut extended = None;
    for parameter in value.split(';').skip(1) {
        let Some((name, value)) = parameter.split_once('=') else {
            continue;
        };
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "filename" => plain = Some(value.to_owned()),
            "filename*" => {
                let encoded = value.splitn(3, '\'').nth(2).unwrap_or(value);
                extended = Some(
                    percent_encoding::percent_decode_str(encoded)
                        .decode_utf8_lossy()
                        .into_owned(),
                );
            }
            _ => {}
        }
    }
    let name = extended.or(plain)?;
    let name = name.rsplit(['/', '\\']).next().unwrap_or_default();
    (!name.is_empty() && name != "." && name != "..").then(|| name.to_owned())
}

/// First byte and whole size of a `Content-Range: bytes 5-9/10`; the size may be unknown (`*`).
pub fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = value.trim().strip_prefix("bytes")?.trim().split_once('/')?;
    let start = range.split_once('-')?.0.trim().parse().ok()?;
    Some((start, size.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_dispositions_are_never_paths() {
        assert_eq!(
            disposition_name("attachment; filename=\"../a b.bin\"").as_deref(),
            Some("a b.bin")
        );
        assert_eq!(
            disposition_name("attachment; filename=x; filename*=UTF-8''%C3%A9.bin").as_deref(),
            Some("é.bin")
        );
        assert_eq!(disposition_name("attachment; filename=\"..\""), None);
        assert_eq!(disposition_name("inline"), None);
    }

    #[test]
    fn the_guard_is_recognised_through_wrappers() {
        let error = std::io::Error::other(Refused("no".to_owned()));
        assert_eq!(refusal(&error).as_deref(), Some("no"));
        assert_eq!(refusal(&std::io::Error::other("else")), None);
    }
}
