//! The Azure SDK's way out: our own clients. Without it the SDK would panic at its first request (its built-in client is a stub
//! unless its reqwest features, with a second reqwest and TLS provider, are on).

use axum::http::{HeaderMap, Method};
use azure_core::error::{Error, ErrorKind, ResultExt};
use azure_core::headers::{HeaderName, HeaderValue, Headers};
use azure_core::{Body, HttpClient, Request, Response, StatusCode};
use futures_util::TryStreamExt;

/// One of our clients, with headers that every request carries.
#[derive(Debug)]
pub struct Transport {
    client: reqwest::Client,
    extra: HeaderMap,
}

impl Transport {
    /// Through a client.
    pub fn new(client: &reqwest::Client, extra: HeaderMap) -> Self {
        Self { client: client.clone(), extra }
    }
}

#[async_trait::async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let method = Method::from_bytes(request.method().as_ref().as_bytes()).map_err(|error| Error::new(ErrorKind::DataConversion, error))?;
        let mut sent = self.client.request(method, request.url().clone());
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        sent = sent.headers(self.extra.clone());
        sent = match request.body().clone() {
            Body::Bytes(bytes) => sent.body(bytes),
            Body::SeekableStream(mut stream) => {
                // Our streams open their file here, so that each attempt begins at its own first byte.
                stream.reset().await?;
                sent.body(reqwest::Body::wrap_stream(stream))
            }
        };
        let response = sent.send().await.map_err(reqwest::Error::without_url).context(ErrorKind::Io, "the request was not answered")?;
        let status = StatusCode::try_from(response.status().as_u16());
        let status = status.map_err(|_| Error::message(ErrorKind::DataConversion, "an answer with an unknown status"))?;
        let mut headers = Headers::new();
        for (name, value) in response.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(HeaderName::from(name.as_str().to_owned()), HeaderValue::from(value.to_owned()));
            }
        }
        let body = response.bytes_stream().map_err(|error| Error::full(ErrorKind::Io, error.without_url(), "the transfer broke off"));
        Ok(Response::new(status, headers, Box::pin(body)))
    }
}
