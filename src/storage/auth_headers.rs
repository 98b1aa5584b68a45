//! Credentials as headers of a request.

use axum::http::{HeaderName, HeaderValue};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{ErrorKind, StorageError};

/// The value of `Authorization` for a user and a password.
pub(super) fn basic(username: &str, password: &str) -> String {
    let pair = STANDARD.encode(format!("{username}:{password}"));
    format!("Basic {pair}")
}

/// The header that a request names for its credentials.
pub(super) fn name(name: &str) -> Result<HeaderName, StorageError> {
    HeaderName::try_from(name).map_err(|_| {
        StorageError::new(
            ErrorKind::Invalid,
            format!("\"{name}\" is not a valid HTTP header name"),
        )
    })
}

/// A value that is shown to nobody.
pub(super) fn value(text: &str) -> Result<HeaderValue, StorageError> {
    let mut value = HeaderValue::try_from(text).map_err(|_| {
        StorageError::new(
            ErrorKind::Invalid,
            "the credentials have characters that an HTTP header cannot carry",
        )
    })?;
    value.set_sensitive(true);
    Ok(value)
}
