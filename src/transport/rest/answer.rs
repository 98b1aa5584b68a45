//! How values, documents and failures become HTTP answers.

use axum::Json;
use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value};

use crate::document::Document;
use crate::error::{Code, ErrorCode, Failure};

/// Marks an answer that is not to be compressed: base64 of media that is compressed already, a
/// stream, or what is too short for it.
#[derive(Debug, Clone, Copy)]
pub struct Uncompressed;

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        answer_with(&self, self.body())
    }
}

/// A failure whose body has other members than usual, because existing clients rely on them.
pub fn answer_with(failure: &Failure, body: Map<String, Value>) -> Response {
    let mut response = (failure.status, Json(Value::Object(body))).into_response();
    let code = ErrorCode(failure.code.as_str());
    response.extensions_mut().insert(code);
    let headers = response.headers_mut();
    if failure.code == Code::Unauthorized {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(wait) = failure.retry_after {
        headers.insert(
            header::RETRY_AFTER,
            HeaderValue::from(wait.as_secs().max(1)),
        );
    }
    response
}

/// Documents up to this length (bytes) are read before the answer begins: one write to the client,
/// and an error is still a status.
const WHOLE: u64 = 1 << 20;

/// Answers with a document as JSON; a long one is streamed.
///
/// # Errors
/// 500 when the files of a short document cannot be read.
pub async fn document(document: Document) -> Result<Response, Failure> {
    let body = if document.len() <= WHOLE {
        let whole = document.collect().await;
        whole.map(Body::from).map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("the output files cannot be read: {error}; send the prompt again"),
            )
        })?
    } else {
        Body::from_stream(document.stream())
    };
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(document.len()));
    if document.has_files() {
        response.extensions_mut().insert(Uncompressed);
    }
    Ok(response)
}
