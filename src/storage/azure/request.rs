//! One request to the service: signed, or let in by whatever else there is, and sent through the
//! product's own clients.
//!
//! What signs with an account's key is `object_store`'s. Its client is not used: it holds what it
//! uploads in memory, hides the headers of a refusal, and cannot name every blob (decision 0012).

use std::sync::Arc;
use std::time::SystemTime;

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};
use object_store::azure::{AzureAuthorizer, AzureCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::{Body, Response};
use url::Url;

use super::identity::Identity;
use crate::storage::{ErrorKind, StorageError, auth_headers, cloud};
use crate::telemetry::trace::seen_status;

/// The version of the service's interface that requests and signatures are written in.
pub const VERSION: &str = "2022-11-02";

const MS_VERSION: HeaderName = HeaderName::from_static("x-ms-version");

/// What a request is let in by.
#[derive(Clone)]
pub enum Credential {
    /// The key of an account: every request is signed with it.
    Key {
        /// The account's name.
        account: String,
        /// Its key.
        key: Arc<AzureCredential>,
    },
    /// The parameters of a SAS, decoded.
    Sas(Vec<(String, String)>),
    /// A token of an identity.
    Identity(Arc<Identity>),
    /// A header.
    Header(HeaderName, HeaderValue),
    /// Nothing: for blobs that are public.
    None,
}

/// A blob, or the service itself, and how it is asked.
#[derive(Clone)]
pub struct Resource {
    /// The way out.
    pub client: reqwest::Client,
    /// What lets requests in.
    pub credential: Credential,
    /// Where it is, without a query.
    pub url: Url,
    /// For messages.
    pub shown: String,
}

impl Resource {
    /// The blob of a container, seen from the service. A URL cannot begin or end a name with `/`.
    pub fn blob(mut self, container: &str, blob: &str) -> Self {
        if let Ok(mut path) = self.url.path_segments_mut() {
            path.pop_if_empty()
                .push(container)
                .extend(blob.trim_matches('/').split('/'));
        }
        self
    }

    /// Sends one request; whatever the answer is, it is handed back.
    ///
    /// # Errors
    /// When there was no answer.
    pub async fn ask(
        &self,
        method: Method,
        query: &[(&str, &str)],
        mut headers: HeaderMap,
        body: Option<Body>,
    ) -> Result<Response, StorageError> {
        let mut url = self.url.clone();
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        headers.insert(MS_VERSION, HeaderValue::from_static(VERSION));
        let now = httpdate::fmt_http_date(SystemTime::now());
        headers.insert(header::DATE, auth_headers::value(&now)?);
        self.let_in(&method, &mut url, &mut headers).await?;
        let mut request = self.client.request(method, url).headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        let response = request
            .send()
            .await
            .map_err(|error| cloud::from_reqwest(&self.shown, &error))?;
        seen_status(response.status().as_u16());
        Ok(response)
    }

    async fn let_in(
        &self,
        method: &Method,
        url: &mut Url,
        headers: &mut HeaderMap,
    ) -> Result<(), StorageError> {
        let (name, value) = match &self.credential {
            Credential::Key { account, key } => {
                return self.sign(account, key, method, url, headers);
            }
            Credential::Sas(pairs) => {
                let known: Vec<String> = url.query_pairs().map(|(name, _)| name.into()).collect();
                let missing = pairs.iter().filter(|(name, _)| !known.contains(name));
                url.query_pairs_mut().extend_pairs(missing);
                return Ok(());
            }
            Credential::Identity(identity) => {
                let token = identity.token().await.map_err(|sentence| {
                    StorageError::new(
                        ErrorKind::Unauthorized,
                        format!("{}: {sentence}", self.shown),
                    )
                })?;
                (header::AUTHORIZATION, bearer(token.expose())?)
            }
            Credential::Header(name, value) => (name.clone(), value.clone()),
            Credential::None => return Ok(()),
        };
        headers.insert(name, value);
        Ok(())
    }

    /// Signs method, URL and headers. The body is no part of that, so it stays outside and is
    /// streamed.
    fn sign(
        &self,
        account: &str,
        key: &AzureCredential,
        method: &Method,
        url: &Url,
        headers: &mut HeaderMap,
    ) -> Result<(), StorageError> {
        let failed = || {
            StorageError::new(
                ErrorKind::Invalid,
                format!("{}: the request cannot be signed", self.shown),
            )
        };
        let mut request = HttpRequest::new(HttpRequestBody::empty());
        *request.method_mut() = method.clone();
        *request.uri_mut() = Uri::try_from(url.as_str()).map_err(|_| failed())?;
        std::mem::swap(request.headers_mut(), headers);
        AzureAuthorizer::new(key, account)
            .try_authorize(&mut request)
            .map_err(|_| failed())?;
        std::mem::swap(request.headers_mut(), headers);
        if let Some(signature) = headers.get_mut(header::AUTHORIZATION) {
            signature.set_sensitive(true);
        }
        Ok(())
    }
}

/// A token as a header.
pub fn bearer(token: &str) -> Result<HeaderValue, StorageError> {
    auth_headers::value(&format!("Bearer {token}"))
}
