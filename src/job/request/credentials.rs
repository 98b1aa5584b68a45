//! The credentials of a request.

use serde_json::Value;

use super::read::read;
use crate::error::Failure;
use crate::limits::MAX_CREDENTIALS;
use crate::storage::{Auth, Credential, Credentials};

pub(super) fn credentials(given: Option<Value>) -> Result<Credentials, Failure> {
    let Some(given) = given else {
        return Ok(Credentials::default());
    };
    if given
        .as_array()
        .is_some_and(|list| list.len() > MAX_CREDENTIALS)
    {
        let message = format!("a request can have {MAX_CREDENTIALS} credentials at most");
        return Err(Failure::invalid("credentials", message));
    }
    let list: Vec<Credential> = read(given, "credentials")?;
    for (index, credential) in list.iter().enumerate() {
        let at = |member: &str| format!("credentials.{index}.{member}");
        credential
            .check_pattern()
            .map_err(|reason| Failure::invalid(at("url_pattern"), reason))?;
        check_auth(&credential.auth, &at("auth"))?;
    }
    Ok(list.into())
}

/// Checks that credentials can be sent as what they are (attack.md, A02 and A22).
///
/// # Errors
/// A 400 at the member of `field`.
pub fn check_auth(auth: &Auth, field: &str) -> Result<(), Failure> {
    auth.check()
        .map_err(|(member, reason)| Failure::invalid(format!("{field}.{member}"), reason))
}
