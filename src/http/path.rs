//! What stands in place of `{id}` or `{*path}` in a request's path.

use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;

use super::Door;
use crate::error::{Code, Failure};

/// The decoded text. A path that cannot be decoded names nothing that exists here.
#[derive(Debug)]
pub struct PathText(pub String);

impl FromRequestParts<Door> for PathText {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, door: &Door) -> Result<Self, Failure> {
        let Path(text) = Path::<String>::from_request_parts(parts, door)
            .await
            .map_err(|_| Failure::new(Code::NotFound, "the path is not valid UTF-8 when its percent signs are decoded: see /docs for what there is"))?;
        Ok(Self(text))
    }
}
