//! The five kinds of credentials, and the patterns that say for which URLs they are.

mod auth;
mod pattern;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use auth::unsendable;
use pattern::Pattern;
use serde::Deserialize;
use utoipa::ToSchema;

use super::{ErrorKind, StorageError};
use crate::limits;
use crate::limits::{MATCHING_STEPS, MAX_PATTERN};

pub use auth::Auth;

/// Credentials with the URLs that they are for.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
pub struct Credential {
    /// `*` any characters but `/`, `**` any characters, `?` exactly one; the whole URL must match.
    #[schema(example = "https://files.example.com/**", max_length = 1024)]
    pub url_pattern: String,
    /// What to present.
    pub auth: Auth,
}

impl Credential {
    /// Why the pattern cannot be used, if it cannot.
    ///
    /// # Errors
    /// A sentence.
    pub fn check_pattern(&self) -> Result<(), String> {
        let length = self.url_pattern.chars().count();
        if length > MAX_PATTERN {
            return Err(format!(
                "this pattern has {length} characters: at most {MAX_PATTERN} are taken"
            ));
        }
        unsendable(&self.url_pattern, "the pattern", |char| !char.is_control())
    }
}

/// The credentials of a request, with their patterns read once. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Credentials(Option<Arc<Chosen>>);

#[derive(Debug)]
struct Chosen {
    list: Vec<(Pattern, Auth)>,
    /// Of [`MATCHING_STEPS`]; all URLs of the request draw on it.
    spent: AtomicU64,
}

impl From<Vec<Credential>> for Credentials {
    fn from(list: Vec<Credential>) -> Self {
        if list.is_empty() {
            return Self::default();
        }
        let list = list
            .into_iter()
            .map(|credential| (Pattern::new(&credential.url_pattern), credential.auth))
            .collect();
        Self(Some(Arc::new(Chosen {
            list,
            spent: AtomicU64::new(0),
        })))
    }
}

impl Credentials {
    /// The credentials for a URL: those of the first pattern that matches.
    ///
    /// # Errors
    /// When the request's patterns and URLs together have taken too much time.
    pub(super) fn choose(&self, url: &str) -> Result<Option<Auth>, StorageError> {
        let Some(chosen) = &self.0 else {
            return Ok(None);
        };
        let large = chosen.list.len() * url.len() > 16 * 1024;
        limits::off_runtime(large, || chosen.choose(url))
    }
}

impl Chosen {
    fn choose(&self, url: &str) -> Result<Option<Auth>, StorageError> {
        for (pattern, auth) in &self.list {
            let (matches, steps) = pattern.matches(url);
            if matches {
                return Ok(Some(auth.clone()));
            }
            if self.spent.fetch_add(steps, Ordering::Relaxed) > MATCHING_STEPS {
                return Err(StorageError::new(
                    ErrorKind::Invalid,
                    "the patterns in \"credentials\" take too long to compare with the URLs of \
                     this request: use shorter ones, with fewer *",
                ));
            }
        }
        Ok(None)
    }
}
