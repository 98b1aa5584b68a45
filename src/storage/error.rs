//! Why a transfer did not happen, what a client is told of it, and the origin's own words.

use std::io;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use serde_json::Value;

use crate::error::{Code, Failure, panicked};

/// Why a download or upload did not happen. The message is fit to be shown: no secrets.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct StorageError {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// One sentence: what happened, to which URL, what to do.
    pub message: String,
    /// The origin asked to wait so long before the next try; of [`ErrorKind::Local`]: it may pass.
    pub retry_after: Option<Duration>,
}

/// What kind of failure a [`StorageError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request cannot work: bad URL, address not allowed, backend not configured, bad file
    /// name.
    Invalid,
    /// The origin wants (other) credentials.
    Unauthorized,
    /// The origin does not have it.
    NotFound,
    /// The network or the origin failed after all retries; another try, here or elsewhere, may
    /// succeed.
    Transient,
    /// Our own trouble (disk, descriptors): not tried again here, but another instance may do
    /// better.
    Local,
    /// Failed for good for another reason.
    Failed,
    /// The caller's token was cancelled.
    Cancelled,
    /// We panicked: a fault of ours, whatever was asked for.
    Defect,
}

impl ErrorKind {
    /// A word for spans.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Invalid => "invalid",
            Self::Unauthorized => "unauthorized",
            Self::NotFound => "not_found",
            Self::Transient => "transient",
            Self::Local => "local",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Defect => "defect",
        }
    }
}

/// When to come back after trouble of ours that passes.
const LATER: Duration = Duration::from_secs(30);

impl StorageError {
    /// An error of a kind.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            retry_after: None,
        }
    }

    /// Trouble of our own with a file: what may pass (no space, no descriptors) says when to come
    /// back.
    pub fn local(message: impl Into<String>, error: &io::Error) -> Self {
        Self {
            retry_after: passes(error).then_some(LATER),
            ..Self::new(ErrorKind::Local, message)
        }
    }

    /// For [`crate::net::retry::retried`]: whether another try makes sense, and what the origin
    /// asked for.
    pub fn asked(&self) -> Option<Option<Duration>> {
        (self.kind == ErrorKind::Transient).then_some(self.retry_after)
    }

    /// What a client is told: 4xx is only what the client can change, our own trouble is 503 where
    /// it may pass and 500 otherwise.
    pub fn into_failure(self, code: Code) -> Failure {
        match self.kind {
            ErrorKind::Invalid => Failure::new(Code::InvalidRequest, self.message),
            ErrorKind::Defect => panicked("a transfer"),
            ErrorKind::Local => {
                let status = if self.retry_after.is_some() {
                    StatusCode::SERVICE_UNAVAILABLE
                } else {
                    StatusCode::INTERNAL_SERVER_ERROR
                };
                let mut failure = Failure::new(code, self.message)
                    .with_status(status)
                    .transient();
                failure.retry_after = self.retry_after;
                failure
            }
            ErrorKind::Transient => Failure::new(code, self.message).transient(),
            ErrorKind::Unauthorized
            | ErrorKind::NotFound
            | ErrorKind::Failed
            | ErrorKind::Cancelled => Failure::new(code, self.message),
        }
    }
}

/// Whether an error of the system goes away when others let go of something.
fn passes(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let passing = [
        Errno::ENOSPC,
        Errno::EDQUOT,
        Errno::EMFILE,
        Errno::ENFILE,
        Errno::ENOMEM,
        Errno::EAGAIN,
        Errno::EFBIG,
    ];
    error
        .raw_os_error()
        .is_some_and(|code| passing.iter().any(|errno| *errno as i32 == code))
        || matches!(
            error.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::OutOfMemory
        )
}

/// The lack of something of ours (descriptors, memory, threads) that made a request fail, found
/// among its causes.
pub(super) fn own_trouble<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> Option<&'a io::Error> {
    use nix::errno::Errno;
    std::iter::successors(Some(error), |error| error.source())
        .filter_map(|error| error.downcast_ref::<io::Error>())
        .find(|error| {
            [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::ENOBUFS]
                .iter()
                .any(|errno| error.raw_os_error() == Some(*errno as i32))
        })
}

/// Of a refusal's body no more than this is read.
const READ: usize = 64 * 1024;
/// For no longer than this.
const PATIENCE: Duration = Duration::from_secs(3);
/// And no more characters than this are quoted.
const QUOTED: usize = 200;

/// The beginning of a refusal's body.
pub(super) async fn read_refusal(mut response: reqwest::Response) -> Vec<u8> {
    let mut body = Vec::new();
    let reading = async {
        while let Ok(Some(bytes)) = response.chunk().await {
            body.extend_from_slice(&bytes);
            if body.len() > READ {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(PATIENCE, reading).await;
    body.truncate(READ);
    body
}

/// What an origin says of a refusal: from JSON, XML, a header, a page's title, or the first line of
/// a text. Nothing of `secrets`, no URL's query.
pub(super) fn origin_words(headers: &HeaderMap, body: &[u8], secrets: &[String]) -> Option<String> {
    let text = String::from_utf8_lossy(body);
    let text = text.trim_start_matches('\u{feff}').trim();
    let header = || {
        headers
            .get("x-error-message")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned)
    };
    let words = from_json(text)
        .or_else(|| from_xml(text))
        .or_else(header)
        .or_else(|| from_page(text))
        .or_else(|| first_line(text))?;
    shown(&words, secrets)
}

fn from_json(text: &str) -> Option<String> {
    if !text.starts_with(['{', '[']) {
        return None;
    }
    let value: Value = serde_json::from_str(text).ok()?;
    let texts = |object: &Value| {
        ["message", "error", "detail"]
            .iter()
            .filter_map(|name| object.get(name)?.as_str())
            .find(|text| !text.trim().is_empty())
            .map(str::to_owned)
    };
    let below = || {
        let members: Vec<&Value> = match &value {
            Value::Object(members) => members.values().collect(),
            Value::Array(items) => items.iter().collect(),
            _ => return None,
        };
        members.into_iter().find_map(|member| match member {
            Value::Array(items) => items.first().and_then(texts),
            member => texts(member),
        })
    };
    texts(&value).or_else(below)
}

fn from_xml(text: &str) -> Option<String> {
    if !text.starts_with('<') {
        return None;
    }
    let said = |name: &str| element(text, name).map(unescaped);
    match (said("Code"), said("Message")) {
        (Some(code), Some(message)) => Some(format!("{code}: {message}")),
        (code, message) => code.or(message),
    }
}

fn from_page(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let start = lower.find("<title")?;
    let start = start + lower[start..].find('>')? + 1;
    let end = start + lower[start..].find("</title")?;
    Some(unescaped(text.get(start..end)?.trim())).filter(|title| !title.is_empty())
}

fn first_line(text: &str) -> Option<String> {
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    (!line.starts_with(['<', '{', '[']) && !line.contains('\u{fffd}')).then(|| line.to_owned())
}

/// The text of the first element of a name, as it is written.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.trim()).filter(|text| !text.is_empty())
}

/// A text of XML or HTML as it is meant.
pub(super) fn unescaped(text: &str) -> String {
    text.replace("&lt;", "<")
        .replace("&gt;", ">")
        .replace("&quot;", "\"")
        .replace("&#39;", "'")
        .replace("&amp;", "&")
}

/// The words of a peer as they may be shown: one line, no secrets, no query of a URL, not long.
pub(super) fn shown(words: &str, secrets: &[String]) -> Option<String> {
    let mut words = words.to_owned();
    for secret in secrets.iter().filter(|secret| !secret.trim().is_empty()) {
        if secret.len() < 4 {
            // Taking so short a text out would tear words apart.
            let quoted = words
                .split(|c: char| !c.is_alphanumeric())
                .any(|word| word == secret);
            if quoted {
                return None;
            }
        } else {
            words = words.replace(secret.as_str(), "***");
        }
    }
    let words: Vec<String> = crate::config::public_text(&words)
        .split(|char: char| char.is_whitespace() || char.is_control())
        .filter(|word| !word.is_empty())
        .map(|word| match word.split_once(['?', '#']) {
            Some((head, rest)) if head.contains('/') && !rest.is_empty() => head.to_owned(),
            _ => word.to_owned(),
        })
        .collect();
    let words = words.join(" ");
    let mut short: String = words.chars().take(QUOTED).collect();
    if short.len() < words.len() {
        short.push('…');
    }
    (!short.is_empty()).then_some(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// F22.
    #[test]
    fn origins_say_why_in_many_ways() {
        let mut headers = HeaderMap::new();
        let words = |headers: &HeaderMap, body: &str| {
            origin_words(
                headers,
                body.as_bytes(),
                &["tok-1234".to_owned(), "ab".to_owned()],
            )
        };
        for (body, said) in [
            (
                r#"{"error": "Unauthorized", "message": "log in"}"#,
                Some("log in"),
            ),
            (r#"{"error": {"detail": "no", "code": 3}}"#, Some("no")),
            (r#"{"errors": [{"message": "gone"}]}"#, Some("gone")),
            (
                "<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>It &amp; \
                 more</Message></Error>",
                Some("NoSuchKey: It & more"),
            ),
            (
                "<html><head><TITLE>Sign in\n now</TITLE>",
                Some("Sign in now"),
            ),
            ("\n  plain words\nmore", Some("plain words")),
            (
                "Cannot GET /x.bin?sig=abc at all",
                Some("Cannot GET /x.bin at all"),
            ),
            (
                "see https://u:p@h.example/a?sig=1 now",
                Some("see https://h.example/a now"),
            ),
            ("your tok-1234 is\u{1b}[31m bad", Some("your *** is bad")),
            ("token ab is bad", None),
            ("", None),
            ("{}", None),
            ("<div>", None),
        ] {
            assert_eq!(words(&headers, body).as_deref(), said, "{body}");
        }
        assert_eq!(
            words(&headers, &"é".repeat(300)).unwrap().chars().count(),
            201
        );
        headers.insert("x-error-message", "gated".parse().unwrap());
        assert_eq!(words(&headers, "<html>").as_deref(), Some("gated"));
        assert_eq!(words(&headers, "{\"detail\": \"d\"}").as_deref(), Some("d"));
    }

    /// A47.
    #[test]
    fn our_own_trouble_is_not_the_clients() {
        let status = |code: i32| {
            let error = StorageError::local("x", &io::Error::from_raw_os_error(code));
            let failure = error.into_failure(Code::DownloadFailed);
            (
                failure.status.as_u16(),
                failure.retry_after.is_some(),
                failure.transient,
            )
        };
        for passing in [28, 122, 24, 23, 12] {
            assert_eq!(status(passing), (503, true, true), "{passing}");
        }
        for lasting in [30, 13, 5, 20] {
            assert_eq!(status(lasting), (500, false, true), "{lasting}");
        }
        let failure = StorageError::new(ErrorKind::Failed, "x").into_failure(Code::DownloadFailed);
        assert_eq!(failure.status.as_u16(), 400);
    }
}
