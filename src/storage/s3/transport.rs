//! The AWS SDK's way out: our own clients instead of a second HTTP stack with its own resolver,
//! roots and (no) guard.

use std::sync::Arc;

use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient,
    SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use futures_util::TryStreamExt;
use url::{Host, Url};

use crate::net::Outbound;
use crate::storage::cloud::Meter;
use crate::telemetry::trace::seen_status;

tokio::task_local! {
    /// The upload that a request belongs to.
    pub static SENT: Arc<Meter>;
}

/// Which of our clients requests leave through.
#[derive(Debug, Clone)]
enum Exit {
    /// To S3: with or without the address guard.
    Storage { outbound: Outbound, guarded: bool },
    /// For the credential chain: metadata services on link-local or loopback addresses are never
    /// asked through a proxy.
    Chain(Outbound),
}

/// An HTTP client for the SDK.
#[derive(Debug, Clone)]
pub struct Transport {
    exit: Exit,
}

impl Transport {
    /// To S3, `guarded` when a request chose the endpoint.
    pub fn through(outbound: &Outbound, guarded: bool) -> SharedHttpClient {
        SharedHttpClient::new(Self {
            exit: Exit::Storage {
                outbound: outbound.clone(),
                guarded,
            },
        })
    }

    /// For the chain of credential providers.
    pub fn for_chain(outbound: &Outbound) -> SharedHttpClient {
        SharedHttpClient::new(Self {
            exit: Exit::Chain(outbound.clone()),
        })
    }

    fn client(&self, url: &Url) -> reqwest::Client {
        match &self.exit {
            Exit::Storage { outbound, guarded } => outbound.client(*guarded).clone(),
            Exit::Chain(outbound) => {
                let local = match url.host() {
                    Some(Host::Ipv4(address)) => address.is_link_local() || address.is_loopback(),
                    Some(Host::Ipv6(address)) => address.is_unique_local() || address.is_loopback(),
                    _ => false,
                };
                if local && url.scheme() == "http" {
                    outbound.comfyui().clone()
                } else {
                    outbound.operator().clone()
                }
            }
        }
    }
}

impl HttpClient for Transport {
    fn http_connector(
        &self,
        _settings: &HttpConnectorSettings,
        _components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        SharedHttpConnector::new(self.clone())
    }
}

impl HttpConnector for Transport {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let this = self.clone();
        HttpConnectorFuture::new(async move { this.send(request).await })
    }
}

impl Transport {
    async fn send(&self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let user = |error: Box<dyn std::error::Error + Send + Sync>| ConnectorError::user(error);
        let request = request
            .try_into_http1x()
            .map_err(|error| user(error.into()))?;
        let (parts, body) = request.into_parts();
        let url = Url::parse(&parts.uri.to_string()).map_err(|error| user(error.into()))?;
        let body = match body.bytes() {
            Some([]) => None,
            Some(bytes) => Some(reqwest::Body::from(bytes.to_vec())),
            None => Some(counted(body)),
        };
        let mut sent = self
            .client(&url)
            .request(parts.method, url)
            .headers(parts.headers);
        if let Some(body) = body {
            sent = sent.body(body);
        }
        let response = sent.send().await.map_err(connector_error)?;
        seen_status(response.status().as_u16());
        let response: axum::http::Response<reqwest::Body> = response.into();
        HttpResponse::try_from(response.map(SdkBody::from_body_1_x))
            .map_err(|error| ConnectorError::other(error.into(), None))
    }
}

/// What leaves of a file is counted where it leaves: the SDK would say it at the end.
fn counted(body: SdkBody) -> reqwest::Body {
    let Ok(meter) = SENT.try_with(Arc::clone) else {
        return reqwest::Body::wrap(body);
    };
    let bytes = axum::body::Body::new(body).into_data_stream();
    reqwest::Body::wrap_stream(bytes.inspect_ok(move |bytes| meter.add(bytes.len() as u64)))
}

fn connector_error(error: reqwest::Error) -> ConnectorError {
    let error = error.without_url();
    if error.is_timeout() {
        ConnectorError::timeout(error.into())
    } else if error.is_builder() {
        ConnectorError::user(error.into())
    } else {
        ConnectorError::io(error.into())
    }
}
