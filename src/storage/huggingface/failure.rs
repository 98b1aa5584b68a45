//! The hub's refusals in one sentence that says what to do.

use reqwest::Response;

use super::hub::Hub;
use crate::storage::cloud;
use crate::storage::{ErrorKind, StorageError};

/// The hub says in JSON what is wrong; no more than this is read of it.
const READ: usize = 64 * 1024;
/// And no more than this is quoted.
const QUOTE: usize = 300;

/// An answer that is no success. `place` is a public URL; `page` the repository's.
pub async fn refused(
    hub: &Hub,
    place: &str,
    page: Option<&str>,
    mut response: Response,
) -> StorageError {
    let status = response.status().as_u16();
    let code = response
        .headers()
        .get("x-error-code")
        .and_then(|code| code.to_str().ok())
        .unwrap_or_default()
        .to_owned();
    let wait = cloud::retry_after(response.headers());
    let said = match response
        .headers()
        .get("x-error-message")
        .and_then(|text| text.to_str().ok())
    {
        Some(text) => Some(text.to_owned()),
        None => body_message(&mut response).await,
    };
    let page = page.map(|page| format!("{}/{page}", hub.endpoint().as_str().trim_end_matches('/')));
    let page = page.as_deref().unwrap_or("its page");
    let (kind, advice) = match (status, code.as_str()) {
        (_, "GatedRepo") => (
            ErrorKind::Unauthorized,
            format!(
                "the repository is gated: ask for access at {page}, and set HF_TOKEN to a token of the account that has it"
            ),
        ),
        (401, _) => (
            ErrorKind::Unauthorized,
            format!(
                "the repository is private or does not exist: look at {page}, and set HF_TOKEN to a token that may use it"
            ),
        ),
        (403, _) => (
            ErrorKind::Unauthorized,
            format!(
                "access is denied: look at {page}, and set HF_TOKEN to a token that has the permission"
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
                "there is no such repository or file: look at {page}; for a private one set HF_TOKEN"
            ),
        ),
        (409 | 412, _) => (ErrorKind::Transient, "another commit came first".to_owned()),
        (429, _) => (ErrorKind::Transient, "the hub asks to slow down".to_owned()),
        _ => (cloud::classify(status), "the hub refused it".to_owned()),
    };
    let mut sentence = format!("{place}: {advice} (Hugging Face answered {status}");
    if let Some(said) = said
        .map(|said| hub.without_token(&said))
        .filter(|said| !said.is_empty() && !said.contains('?'))
    {
        sentence.push_str(": ");
        sentence.extend(said.chars().filter(|c| !c.is_control()).take(QUOTE));
    }
    sentence.push(')');
    let mut error = StorageError::new(kind, sentence);
    error.retry_after = wait;
    error
}

async fn body_message(response: &mut Response) -> Option<String> {
    let mut body = Vec::new();
    while let Ok(Some(bytes)) = response.chunk().await {
        body.extend_from_slice(&bytes);
        if body.len() > READ {
            return None;
        }
    }
    let body: serde_json::Value = serde_json::from_slice(&body).ok()?;
    ["error", "message"]
        .iter()
        .find_map(|name| body.get(name)?.as_str())
        .map(str::to_owned)
}
