//! The hub's refusals in one sentence that says what to do.

use reqwest::Response;

use super::hub::Hub;
use crate::storage::cloud;
use crate::storage::error::{origin_words, read_refusal};
use crate::storage::{ErrorKind, StorageError};

/// An answer that is no success. `place` is a public URL; `page` the repository's.
pub async fn refused(
    hub: &Hub,
    place: &str,
    page: Option<&str>,
    secrets: &[String],
    response: Response,
) -> StorageError {
    let status = response.status().as_u16();
    let code = response
        .headers()
        .get("x-error-code")
        .and_then(|code| code.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let wait = crate::net::http_fields::retry_after(response.headers());
    let headers = response.headers().clone();
    let body = read_refusal(response).await;
    let said = origin_words(&headers, &body, &hub.secrets(secrets));
    let page = page.map(|page| format!("{}/{page}", hub.endpoint().as_str().trim_end_matches('/')));
    let page = page.as_deref().unwrap_or("its page");
    let (kind, advice) = advice(status, &code, page);
    let mut sentence = format!("{place}: {advice} (Hugging Face answered {status}");
    if let Some(said) = said {
        sentence.push_str(": ");
        sentence.push_str(&said);
    }
    sentence.push(')');
    let mut error = StorageError::new(kind, sentence);
    error.retry_after = wait;
    error
}

/// What to do about a refusal.
fn advice(status: u16, code: &str, page: &str) -> (ErrorKind, String) {
    match (status, code) {
        (_, "GatedRepo") => (
            ErrorKind::Unauthorized,
            format!(
                "the repository is gated: ask for access at {page}, and set HF_TOKEN to a token \
                 of the account that has it"
            ),
        ),
        (401, _) => (
            ErrorKind::Unauthorized,
            format!(
                "the repository is private or does not exist: look at {page}, and set HF_TOKEN to \
                 a token that may use it"
            ),
        ),
        (403, _) => (
            ErrorKind::Unauthorized,
            format!(
                "access is denied: look at {page}, and set HF_TOKEN to a token that has the \
                 permission"
            ),
        ),
        (404, "RevisionNotFound") => (
            ErrorKind::NotFound,
            format!("the revision does not exist: create it at {page}"),
        ),
        (404, "EntryNotFound") => (
            ErrorKind::NotFound,
            "the repository has no such file".to_owned(),
        ),
        (404, _) => (
            ErrorKind::NotFound,
            format!(
                "there is no such repository or file: look at {page}; for a private one set \
                 HF_TOKEN"
            ),
        ),
        (409 | 412, _) => (ErrorKind::Transient, "another commit came first".to_owned()),
        (429, _) => (ErrorKind::Transient, "the hub asks to slow down".to_owned()),
        _ => (cloud::classify(status), "the hub refused it".to_owned()),
    }
}
