//! The variable part of a path.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use crate::error::Failure;

/// The one variable part of a route's path, decoded.
#[derive(Debug)]
pub struct PathText(pub String);

impl<S: Send + Sync> FromRequestParts<S> for PathText {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(text) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| {
                Failure::invalid(
                    "path",
                    "the path does not decode to UTF-8: percent-encode its characters as UTF-8",
                )
            })?;
        Ok(Self(text))
    }
}
