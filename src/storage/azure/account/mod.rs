//! The operator's account, and which credentials a request goes out with.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderValue, header};
use object_store::azure::{AzureAccessKey, AzureCredential};
use percent_encoding::percent_decode_str;
use time::OffsetDateTime;
use url::{Url, form_urlencoded};

use super::identity::Identity;
use super::location::Location;
use super::request::{Credential, Resource, bearer};
use super::sas::{SigningKey, written};
use crate::config::{AzureConfig, Secret};
use crate::net::Outbound;
use crate::storage::{Auth, ErrorKind, StorageError, auth_headers};

/// The account that every emulator has, and its key, which is public knowledge.
const EMULATOR: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

/// What the operator's account is opened with.
#[derive(Clone)]
pub enum Permission {
    /// The account's key.
    Key(Secret),
    /// A SAS string without `?`.
    Sas(Secret),
    /// Workload identity or managed identity.
    Identity(Arc<Identity>),
}

/// The operator's account.
#[derive(Clone)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its endpoint, without a trailing `/` in its path unless that is all of it.
    pub endpoint: Url,
    /// What opens it.
    pub permission: Permission,
}

impl Account {
    /// Reads the configuration. `None` when nothing is configured.
    pub fn of(config: &AzureConfig, outbound: &Outbound) -> Option<Result<Self, String>> {
        if let Some(text) = &config.connection_string {
            return Some(Self::from_connection_string(text.expose()));
        }
        let name = config.account.as_ref()?.clone();
        let permission = match (&config.key, &config.sas_token) {
            (Some(key), _) => Permission::Key(key.clone()),
            (None, Some(sas)) => Permission::Sas(Secret::new(sas.expose().trim_start_matches('?'))),
            (None, None) => Permission::Identity(Arc::new(Identity::new(config, outbound.clone()))),
        };
        let wrong = |_| "AZURE_STORAGE_ACCOUNT is not the name of an account".to_owned();
        let endpoint = Url::parse(&format!("https://{name}.blob.core.windows.net")).map_err(wrong);
        Some(endpoint.and_then(|endpoint| {
            Self {
                name,
                endpoint,
                permission,
            }
            .checked("AZURE_STORAGE_KEY")
        }))
    }

    fn from_connection_string(text: &str) -> Result<Self, String> {
        // Values may contain `=`, so only the first one separates.
        let fields: Vec<(&str, &str)> = text
            .split(';')
            .filter_map(|field| field.trim().split_once('='))
            .collect();
        let field = |name: &str| {
            fields
                .iter()
                .find(|(known, _)| known.eq_ignore_ascii_case(name))
                .map(|(_, value)| *value)
                .filter(|value| !value.is_empty())
        };
        let wrong = |what: &str| format!("AZURE_STORAGE_CONNECTION_STRING {what}");
        if field("UseDevelopmentStorage").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            let (name, key) = EMULATOR;
            let host = field("DevelopmentStorageProxyUri")
                .unwrap_or("http://127.0.0.1")
                .trim_end_matches('/');
            let endpoint = Url::parse(&format!("{host}:10000/{name}"))
                .map_err(|_| wrong("has a DevelopmentStorageProxyUri that is not a URL"))?;
            return Ok(Self {
                name: name.to_owned(),
                endpoint,
                permission: Permission::Key(Secret::new(key)),
            });
        }
        let endpoint = match (field("BlobEndpoint"), field("AccountName")) {
            (Some(endpoint), _) => endpoint.trim_end_matches('/').to_owned(),
            (None, Some(name)) => {
                let scheme = field("DefaultEndpointsProtocol").unwrap_or("https");
                format!(
                    "{scheme}://{name}.blob.{}",
                    field("EndpointSuffix").unwrap_or("core.windows.net")
                )
            }
            (None, None) => return Err(wrong("has neither AccountName nor BlobEndpoint")),
        };
        let mut endpoint =
            Url::parse(&endpoint).map_err(|_| wrong("has a BlobEndpoint that is not a URL"))?;
        if !matches!(endpoint.scheme(), "http" | "https") || !endpoint.has_host() {
            return Err(wrong("has a BlobEndpoint that is not an http(s) URL"));
        }
        endpoint.set_query(None);
        let name = field("AccountName")
            .map(str::to_owned)
            .unwrap_or_else(|| name_in(&endpoint));
        let permission = match (field("AccountKey"), field("SharedAccessSignature")) {
            (Some(key), _) => Permission::Key(Secret::new(key)),
            (None, Some(sas)) => Permission::Sas(Secret::new(sas.trim_start_matches('?'))),
            (None, None) => return Err(wrong("has neither AccountKey nor SharedAccessSignature")),
        };
        Self {
            name,
            endpoint,
            permission,
        }
        .checked("the AccountKey of AZURE_STORAGE_CONNECTION_STRING")
    }

    fn checked(self, variable: &str) -> Result<Self, String> {
        let Permission::Key(key) = &self.permission else {
            return Ok(self);
        };
        if AzureAccessKey::try_new(key.expose()).is_err() {
            return Err(format!(
                "{variable} is not base64: copy it whole, with the = at its end"
            ));
        }
        // It goes into a header.
        if HeaderValue::from_str(&self.name).is_err() {
            return Err(format!(
                "\"{}\" cannot be the name of an Azure storage account",
                self.name.escape_default()
            ));
        }
        Ok(self)
    }

    fn credential(&self) -> Result<Credential, StorageError> {
        match &self.permission {
            Permission::Key(key) => {
                let key = AzureAccessKey::try_new(key.expose()).map_err(|_| {
                    let sentence = "the key of the Azure storage account is not base64";
                    StorageError::new(ErrorKind::Invalid, sentence)
                })?;
                Ok(Credential::Key {
                    account: self.name.clone(),
                    key: Arc::new(AzureCredential::AccessKey(key)),
                })
            }
            Permission::Sas(sas) => Ok(sas_of(sas.expose())),
            Permission::Identity(identity) => Ok(Credential::Identity(identity.clone())),
        }
    }

    /// The service, for a blob that is `shown` so.
    pub fn service(&self, outbound: &Outbound, shown: String) -> Result<Resource, StorageError> {
        Ok(Resource {
            client: outbound.operator().clone(),
            credential: self.credential()?,
            url: self.endpoint.clone(),
            shown,
        })
    }

    /// A GET URL for a blob that is valid for `expiry` from now.
    pub async fn sign(&self, blob: &Resource, expiry: Duration) -> Result<String, StorageError> {
        let now = OffsetDateTime::now_utc();
        let key = match &self.permission {
            Permission::Key(key) => SigningKey::of_account(key),
            Permission::Identity(_) => {
                // The key begins a little earlier, for clocks that differ; the service allows it
                // seven days in all.
                let start = now - time::Duration::minutes(5);
                let end = (now + expiry).min(start + time::Duration::days(7));
                let service = Resource {
                    url: self.endpoint.clone(),
                    ..blob.clone()
                };
                SigningKey::delegated(&service, start, end).await?
            }
            Permission::Sas(_) => {
                return Err(StorageError::new(
                    ErrorKind::Invalid,
                    "a SAS token cannot sign URLs: set AZURE_STORAGE_KEY",
                ));
            }
        };
        let expiry = match key.expiry() {
            Some(expiry) => expiry.to_owned(),
            None => written(now + expiry),
        };
        let base = self.endpoint.path().trim_end_matches('/');
        let path = blob.url.path().strip_prefix(base).unwrap_or_default();
        let name = percent_decode_str(path).decode_utf8_lossy();
        let resource = format!("/blob/{}{name}", self.name);
        key.sign(blob.url.clone(), &resource, &expiry)
            .map(String::from)
            .ok_or_else(|| {
                StorageError::new(
                    ErrorKind::Failed,
                    format!("{}: the key cannot sign URLs", blob.shown),
                )
            })
    }
}

/// The blob of one download, opened with the request's credentials, else the URL's own signature,
/// else the operator's where the account is the operator's, else none at all (a public blob).
pub fn blob_at(
    location: &Location,
    auth: Option<&Auth>,
    account: Option<&Account>,
    outbound: &Outbound,
) -> Result<Resource, StorageError> {
    let service = Resource {
        client: outbound.client(!location.own).clone(),
        credential: credential(location, auth, account)?,
        url: location.endpoint.clone(),
        shown: location.shown.clone(),
    };
    Ok(service.blob(&location.container, &location.blob))
}

/// Which credentials count.
fn credential(
    location: &Location,
    auth: Option<&Auth>,
    account: Option<&Account>,
) -> Result<Credential, StorageError> {
    Ok(match (auth, account) {
        (
            Some(Auth::Query {
                query_param,
                query_value,
            }),
            _,
        ) if query_param.eq_ignore_ascii_case("sas") => {
            sas_of(query_value.expose().trim().trim_start_matches('?'))
        }
        (
            Some(Auth::Query {
                query_param,
                query_value,
            }),
            _,
        ) => sas_of(&location.query_with(query_param, query_value.expose())),
        (Some(Auth::Bearer { token }), _) => {
            Credential::Header(header::AUTHORIZATION, bearer(token.expose())?)
        }
        (Some(Auth::Basic { username, password }), _) => {
            let pair = auth_headers::basic(username, password.expose());
            Credential::Header(header::AUTHORIZATION, auth_headers::value(&pair)?)
        }
        (
            Some(Auth::Header {
                header_name,
                header_value,
            }),
            _,
        ) => Credential::Header(
            auth_headers::name(header_name)?,
            auth_headers::value(header_value.expose())?,
        ),
        (Some(Auth::S3 { .. }), _) => {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                format!(
                    "{}: credentials of type \"s3\" are for s3:// URLs",
                    location.shown
                ),
            ));
        }
        (None, _) if location.parameter("sig").is_some() => {
            sas_of(&location.query_with("sig", location.parameter("sig").unwrap_or_default()))
        }
        (None, Some(account)) => account.credential()?,
        (None, None) => Credential::None,
    })
}

/// A SAS from its text.
fn sas_of(query: &str) -> Credential {
    Credential::Sas(
        form_urlencoded::parse(query.as_bytes())
            .into_owned()
            .collect(),
    )
}

/// The account in an endpoint: the first label of the host, or the path where the host is an
/// address (Azurite).
fn name_in(endpoint: &Url) -> String {
    let path = endpoint.path().trim_matches('/');
    if path.is_empty() {
        endpoint
            .host_str()
            .unwrap_or_default()
            .split('.')
            .next()
            .unwrap_or_default()
            .to_owned()
    } else {
        path.to_owned()
    }
}
