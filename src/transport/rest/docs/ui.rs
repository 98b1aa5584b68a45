//! Swagger UI's files. The page lies at `/docs`; everything it asks for is relative to that, so
//! that it also works behind a proxy that puts a prefix in front.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use utoipa_swagger_ui::{Config, serve};

use super::super::path::PathText;
use crate::error::{Code, Failure};
use crate::transport::rest::RouterState;

/// Swagger UI's own page.
pub async fn page(State(_): State<RouterState>) -> Result<Response, Failure> {
    let mut response = file("index.html")?;
    let body = std::mem::take(response.body_mut());
    let html = axum::body::to_bytes(body, usize::MAX)
        .await
        .map_err(|error| unreadable(&error.to_string()))?;
    // Its assets are one level below the page.
    let html = String::from_utf8_lossy(&html)
        .replace("\"./", "\"./docs/")
        .replace("href=\"index.css\"", "href=\"./docs/index.css\"")
        .replace("<title>Swagger UI</title>", "<title>comfyui-api</title>");
    Ok(([(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response())
}

/// `/docs/` is `/docs`.
pub async fn without_slash() -> Response {
    (
        StatusCode::PERMANENT_REDIRECT,
        [(header::LOCATION, "../docs")],
    )
        .into_response()
}

/// A file of Swagger UI.
pub async fn asset(PathText(name): PathText) -> Result<Response, Failure> {
    file(&name)
}

fn file(name: &str) -> Result<Response, Failure> {
    // "none" keeps the page from showing the document to a validator on the internet.
    let config = Config::new(["docs/json"])
        .validator_url("none")
        .display_request_duration(true)
        .doc_expansion("list")
        .display_operation_id(false)
        .persist_authorization(true);
    let found = serve(name, Arc::new(config)).map_err(|error| unreadable(&error.to_string()))?;
    let shown: String = name.chars().take(200).collect();
    let found = found.ok_or_else(|| {
        Failure::new(
            Code::NotFound,
            format!("there is nothing at /docs/{shown}: see /docs for what there is"),
        )
    })?;
    Ok((
        [(header::CONTENT_TYPE, found.content_type)],
        found.bytes.into_owned(),
    )
        .into_response())
}

fn unreadable(reason: &str) -> Failure {
    Failure::new(
        Code::Internal,
        format!("a file of Swagger UI cannot be served: {reason}; take /docs/json"),
    )
}
