//! From the transport's failures to a [`StorageError`]: which kind it is, and one sentence without
//! secrets.

use std::error::Error;

use crate::net::Refused;
use crate::storage::{ErrorKind, StorageError};

/// What a status means for the engine. A failed precondition is transient: the file changed
/// meanwhile.
pub fn classify(status: u16) -> ErrorKind {
    match status {
        401 | 403 => ErrorKind::Unauthorized,
        404 | 410 => ErrorKind::NotFound,
        408 | 409 | 412 | 416 | 425 | 429 | 500..=599 => ErrorKind::Transient,
        _ => ErrorKind::Failed,
    }
}

/// The address guard's sentence, if it was the guard that stopped a request.
pub fn refusal(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return Some(refused.to_string());
        }
        // An io::Error's source is the source of what it wraps, so that the wrapped error itself
        // would be passed over.
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
    if let Some(trouble) = crate::storage::error::own_trouble(error) {
        return StorageError::local(format!("{place}: {trouble}"), trouble);
    }
    let kind = if error.is_builder() {
        ErrorKind::Invalid
    } else {
        ErrorKind::Transient
    };
    StorageError::new(kind, format!("{place}: {}", words(error)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_is_recognised_through_wrappers() {
        let error = std::io::Error::other(Refused("no".to_owned()));
        assert_eq!(refusal(&error).as_deref(), Some("no"));
        assert_eq!(refusal(&std::io::Error::other("else")), None);
    }
}
