//! Reads parts of a request into types, and says where they do not fit.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::error::Failure;
use crate::limits::MAX_URL;

/// Reads a part of the request into a type; the location of a problem is `field.<path>`.
pub fn read<T: DeserializeOwned>(value: Value, field: &str) -> Result<T, Failure> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let mut location = if path == "." {
            field.to_owned()
        } else {
            format!(
                "{field}.{}",
                path.replace('[', ".")
                    .replace(']', "")
                    .replace("..", ".")
                    .trim_start_matches('.')
            )
        };
        if let Some(name) = error
            .inner()
            .to_string()
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next())
        {
            location = format!("{location}.{name}");
        }
        // serde quotes what it found; for credentials that may be a secret, so only the type of the
        // problem is told there.
        let reason = if matches!(field.rsplit('.').next(), Some("credentials" | "auth")) {
            redact(&error.into_inner().to_string())
        } else {
            error.into_inner().to_string()
        };
        Failure::invalid(
            location.clone(),
            format!("\"{location}\" cannot be used: {reason}"),
        )
    })
}

/// serde's texts quote the offending value: `invalid type: string "s3cr3t", expected ...`.
fn redact(reason: &str) -> String {
    if reason.starts_with("missing field")
        || reason.starts_with("unknown variant") && !reason.contains("://")
    {
        return reason.to_owned();
    }
    reason.split_once(", expected ").map_or_else(
        || "it has the wrong form".to_owned(),
        |(_, expected)| format!("expected {expected}"),
    )
}

/// A URL as a client wrote it, without white space around it: short enough, and without characters
/// that cannot be sent. The parser of URLs would drop those without a word.
///
/// # Errors
/// A 400 at `location`, with the length in place of the text.
pub fn url_text(text: &str, location: impl Into<String>) -> Result<&str, Failure> {
    let (text, location) = (text.trim(), location.into());
    if text.len() > MAX_URL {
        let message = format!(
            "this URL has {} bytes: at most {MAX_URL} are taken",
            text.len()
        );
        return Err(Failure::invalid(location, message));
    }
    sendable(text, location)?;
    Ok(text)
}

/// A text that goes into a request to somebody else.
///
/// # Errors
/// A 400 at `location`.
pub fn sendable(text: &str, location: impl Into<String>) -> Result<(), Failure> {
    match text.chars().position(char::is_control) {
        None => Ok(()),
        Some(at) => {
            let location = location.into();
            let message = format!(
                "\"{location}\" has a control character (its character {}), which cannot be sent",
                at + 1
            );
            Err(Failure::invalid(location, message))
        }
    }
}

pub(super) fn take_string(
    body: &mut Map<String, Value>,
    field: &str,
) -> Result<Option<String>, Failure> {
    match body.remove(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(field, "a string")),
    }
}

pub(super) fn boolean(body: &Map<String, Value>, field: &str) -> Result<bool, Failure> {
    match body.get(field) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(wrong_type(field, "true or false")),
    }
}

pub(super) fn wrong_type(location: impl Into<String>, expected: &str) -> Failure {
    let location = location.into();
    let message = format!("\"{location}\" must be {expected}");
    Failure::invalid(location, message)
}
