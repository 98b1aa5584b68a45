//! The query of an address, member by member, with errors that name the member.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::error::Failure;
use crate::limits::text::quoted;

/// The members of a query. Of several with a name the last counts.
#[derive(Debug, Default)]
pub struct Query(Vec<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let query = parts.uri.query().unwrap_or_default();
        let members = url::form_urlencoded::parse(query.as_bytes());
        Ok(Self(members.into_owned().collect()))
    }
}

impl Query {
    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().rev().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A whole number within bounds.
    ///
    /// # Errors
    /// A 400 at the member.
    pub fn number(&self, name: &str, default: usize, most: usize) -> Result<usize, Failure> {
        let Some(text) = self.text(name) else {
            return Ok(default);
        };
        let number = text.parse().ok();
        number
            .filter(|number| (1..=most).contains(number))
            .ok_or_else(|| {
                Failure::invalid(
                    name,
                    format!(
                        "\"{name}\" must be a whole number from 1 to {most}, not \"{}\"",
                        quoted(text)
                    ),
                )
            })
    }

    /// One of a few words, as what it stands for.
    ///
    /// # Errors
    /// A 400 at the member that lists the words.
    pub fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, Failure> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let found = words.iter().find(|(word, _)| *word == text);
        found.map(|(_, meaning)| Some(*meaning)).ok_or_else(|| {
            let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            Failure::invalid(
                name,
                format!(
                    "\"{}\" is no \"{name}\": use one of {}",
                    quoted(text),
                    words.join(", ")
                ),
            )
        })
    }
}
