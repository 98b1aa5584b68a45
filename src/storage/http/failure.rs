//! What a failed transfer is called.

use url::Url;

use super::super::error::own_trouble;
use super::super::{ErrorKind, StorageError, UploadFile};
use crate::config::public;
use crate::net::redirect::FollowError;
use crate::net::retry;

pub(super) fn read_error(file: &UploadFile, error: &std::io::Error) -> StorageError {
    StorageError::new(
        ErrorKind::Failed,
        format!(
            "{} cannot be read for its upload: {error}",
            file.path.display()
        ),
    )
}

pub(super) fn follow_error(error: &FollowError, url: &Url) -> StorageError {
    match error {
        FollowError::Request(error) => network_error(error, url),
        FollowError::Refused(refused) => {
            StorageError::new(ErrorKind::Invalid, format!("{}: {refused}", public(url)))
        }
        FollowError::Redirect(message) => {
            StorageError::new(ErrorKind::Failed, format!("{}: {message}", public(url)))
        }
    }
}

pub(super) fn network_error(error: &reqwest::Error, url: &Url) -> StorageError {
    if let Some(refused) = crate::net::refusal_of(error) {
        return StorageError::new(ErrorKind::Invalid, format!("{}: {refused}", public(url)));
    }
    if let Some(trouble) = own_trouble(error) {
        let message = format!("{}: {trouble}", public(url));
        return StorageError::local(message, trouble);
    }
    let kind = if retry::is_transient_error(error) {
        ErrorKind::Transient
    } else {
        ErrorKind::Failed
    };
    StorageError::new(
        kind,
        format!("{}: {}", public(url), crate::error::chain(error)),
    )
}
