//! The Azure SDK's way out: our own clients. Without it the SDK would panic at its first request
//! (its built-in client is a stub unless its reqwest features, with a second reqwest and TLS
//! provider, are on).

use std::sync::Arc;

use axum::http::{HeaderMap, Method};
use azure_core::error::{Error, ErrorKind, ResultExt};
use azure_core::headers::{HeaderName, HeaderValue, Headers, RANGE_GET_CONTENT_CRC64};
use azure_core::{
    Body, ClientOptions, Context, HttpClient, Policy, PolicyResult, Request, Response,
    RetryOptions, StatusCode, TransportOptions,
};
use futures_util::TryStreamExt;

use crate::telemetry::trace::seen_status;

/// One of our clients, with headers that every request carries.
#[derive(Debug)]
pub struct Transport {
    client: reqwest::Client,
    extra: HeaderMap,
}

impl Transport {
    /// Through a client.
    pub fn new(client: &reqwest::Client, extra: HeaderMap) -> Self {
        Self {
            client: client.clone(),
            extra,
        }
    }

    /// The SDK's options with this way out. The engine retries, with its own classifier and
    /// backoff.
    pub fn into_options(self) -> ClientOptions {
        let policy: Arc<dyn Policy> = Arc::new(WithoutRangeChecksum);
        ClientOptions::new(TransportOptions::new(Arc::new(self)))
            .retry(RetryOptions::none())
            .per_call_policies(vec![policy])
    }
}

/// Takes out the header by which the SDK asks for a checksum with every range under 4 MiB: nobody
/// reads it, the service has to compute it, and Azurite answers 500. It must go before the request
/// is signed.
#[derive(Debug)]
struct WithoutRangeChecksum;

#[async_trait::async_trait]
impl Policy for WithoutRangeChecksum {
    async fn send(
        &self,
        context: &Context,
        request: &mut Request,
        next: &[Arc<dyn Policy>],
    ) -> PolicyResult {
        let mut plain = Request::new(request.url().clone(), *request.method());
        for (name, value) in request
            .headers()
            .iter()
            .filter(|(name, _)| **name != RANGE_GET_CONTENT_CRC64)
        {
            plain.insert_header(name.clone(), value.clone());
        }
        plain.set_body(request.body().clone());
        let Some((first, rest)) = next.split_first() else {
            return Err(Error::message(
                ErrorKind::Other,
                "a pipeline that ends before the transport",
            ));
        };
        first.send(context, &mut plain, rest).await
    }
}

#[async_trait::async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core::Result<Response> {
        let method = Method::from_bytes(request.method().as_ref().as_bytes())
            .map_err(|error| Error::new(ErrorKind::DataConversion, error))?;
        let mut sent = self.client.request(method, request.url().clone());
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        sent = sent.headers(self.extra.clone());
        sent = match request.body().clone() {
            Body::Bytes(bytes) => sent.body(bytes),
            Body::SeekableStream(mut stream) => {
                // Our streams open their file here, so that each attempt begins at its own first
                // byte.
                stream.reset().await?;
                sent.body(reqwest::Body::wrap_stream(stream))
            }
        };
        let response = sent
            .send()
            .await
            .map_err(reqwest::Error::without_url)
            .context(ErrorKind::Io, "the request was not answered")?;
        seen_status(response.status().as_u16());
        let status = StatusCode::try_from(response.status().as_u16());
        let status = status.map_err(|_| {
            Error::message(
                ErrorKind::DataConversion,
                "an answer with an unknown status",
            )
        })?;
        let mut headers = Headers::new();
        for (name, value) in response.headers() {
            if let Ok(value) = value.to_str() {
                headers.insert(
                    HeaderName::from(name.as_str().to_owned()),
                    HeaderValue::from(value.to_owned()),
                );
            }
        }
        let body = response.bytes_stream().map_err(|error| {
            Error::full(ErrorKind::Io, error.without_url(), "the transfer broke off")
        });
        Ok(Response::new(status, headers, Box::pin(body)))
    }
}
