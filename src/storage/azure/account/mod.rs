//! The operator's account, and which credentials a request goes out with.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, header};
use azure_core::auth::TokenCredential;
use azure_storage::prelude::BlobSasPermissions;
use azure_storage::{CloudLocation, StorageCredentials};
use azure_storage_blobs::prelude::{BlobClient, BlobServiceClient, ClientBuilder};
use base64::Engine;
use time::OffsetDateTime;
use url::Url;

use super::failure::from_sdk;
use super::identity::Identity;
use super::location::Location;
use super::transport::Transport;
use crate::config::{AzureConfig, Secret};
use crate::net::Outbound;
use crate::storage::{Auth, ErrorKind, StorageError, auth_headers};

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
            use azure_storage::clients::{EMULATOR_ACCOUNT, EMULATOR_ACCOUNT_KEY};
            let host = field("DevelopmentStorageProxyUri")
                .unwrap_or("http://127.0.0.1")
                .trim_end_matches('/');
            let endpoint = Url::parse(&format!("{host}:10000/{EMULATOR_ACCOUNT}"))
                .map_err(|_| wrong("has a DevelopmentStorageProxyUri that is not a URL"))?;
            return Ok(Self {
                name: EMULATOR_ACCOUNT.to_owned(),
                endpoint,
                permission: Permission::Key(Secret::new(EMULATOR_ACCOUNT_KEY)),
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
        if let Permission::Key(key) = &self.permission
            && base64::engine::general_purpose::STANDARD
                .decode(key.expose())
                .is_err()
        {
            return Err(format!(
                "{variable} is not base64: copy it whole, with the = at its end"
            ));
        }
        Ok(self)
    }

    fn credentials(&self) -> Result<StorageCredentials, StorageError> {
        match &self.permission {
            Permission::Key(key) => Ok(StorageCredentials::access_key(
                self.name.clone(),
                key.expose().to_owned(),
            )),
            Permission::Sas(sas) => sas_credentials(sas.expose()),
            Permission::Identity(identity) => Ok(StorageCredentials::token_credential(
                identity.clone() as Arc<dyn TokenCredential>,
            )),
        }
    }

    /// A client for the account.
    pub fn client(&self, outbound: &Outbound) -> BlobServiceClient {
        // A SAS that cannot be read makes requests without one, which the service then refuses with
        // 401.
        let credentials = self
            .credentials()
            .unwrap_or_else(|_| StorageCredentials::anonymous());
        service(
            &self.name,
            &self.endpoint,
            credentials,
            Transport::new(outbound.client(false), HeaderMap::new()),
        )
    }

    /// A GET URL for a blob that is valid for `expiry` from now.
    pub async fn sign(
        &self,
        client: &BlobClient,
        shown: &str,
        expiry: Duration,
    ) -> Result<String, StorageError> {
        let failed = |error| from_sdk(shown, &error);
        let permissions = BlobSasPermissions {
            read: true,
            ..BlobSasPermissions::default()
        };
        let now = OffsetDateTime::now_utc()
            .replace_nanosecond(0)
            .unwrap_or_else(|_| OffsetDateTime::now_utc());
        let signature = match &self.permission {
            Permission::Key(_) => client
                .shared_access_signature(permissions, now + expiry)
                .await
                .map_err(failed)?,
            Permission::Identity(_) => {
                // The key begins a little earlier, for clocks that differ; the service allows it
                // seven days in all.
                let start = now - time::Duration::minutes(5);
                let end = (now + expiry).min(start + time::Duration::days(7));
                let service = client.container_client().service_client();
                let key = service
                    .get_user_deligation_key(start, end)
                    .await
                    .map_err(failed)?;
                client
                    .user_delegation_shared_access_signature(permissions, &key.user_deligation_key)
                    .await
                    .map_err(failed)?
            }
            Permission::Sas(_) => {
                return Err(StorageError::new(
                    ErrorKind::Invalid,
                    "a SAS token cannot sign URLs: set AZURE_STORAGE_KEY",
                ));
            }
        };
        client
            .generate_signed_blob_url(&signature)
            .map(String::from)
            .map_err(failed)
    }
}

/// The client for one download: the request's credentials, else the URL's own signature, else the
/// operator's where the account is the operator's, else none at all (a public blob).
pub fn client_for(
    location: &Location,
    auth: Option<&Auth>,
    account: Option<&Account>,
    outbound: &Outbound,
) -> Result<BlobClient, StorageError> {
    let (credentials, extra) = credentials(location, auth, account)?;
    let client = if location.own {
        outbound.operator()
    } else {
        outbound.guarded()
    };
    let name = account.map_or_else(
        || name_in(&location.endpoint),
        |account| account.name.clone(),
    );
    let service = service(
        &name,
        &location.endpoint,
        credentials,
        Transport::new(client, extra),
    );
    Ok(service
        .container_client(&location.container)
        .blob_client(&location.blob))
}

/// Which credentials count, and the headers that they go in where the SDK has no place for them.
fn credentials(
    location: &Location,
    auth: Option<&Auth>,
    account: Option<&Account>,
) -> Result<(StorageCredentials, HeaderMap), StorageError> {
    let mut extra = HeaderMap::new();
    let credentials = match (auth, account) {
        (
            Some(Auth::Query {
                query_param,
                query_value,
            }),
            _,
        ) if query_param.eq_ignore_ascii_case("sas") => {
            sas_credentials(query_value.expose().trim().trim_start_matches('?'))?
        }
        (
            Some(Auth::Query {
                query_param,
                query_value,
            }),
            _,
        ) => sas_credentials(&location.query_with(query_param, query_value.expose()))?,
        (Some(Auth::Bearer { token }), _) => {
            StorageCredentials::bearer_token(token.expose().to_owned())
        }
        (Some(Auth::Basic { username, password }), _) => {
            let pair = auth_headers::basic(username, password.expose());
            extra.insert(header::AUTHORIZATION, auth_headers::value(&pair)?);
            StorageCredentials::anonymous()
        }
        (
            Some(Auth::Header {
                header_name,
                header_value,
            }),
            _,
        ) => {
            let name = auth_headers::name(header_name)?;
            extra.insert(name, auth_headers::value(header_value.expose())?);
            StorageCredentials::anonymous()
        }
        (Some(Auth::S3 { .. }), _) => {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                format!(
                    "{}: credentials of type \"s3\" are for s3:// URLs",
                    location.shown
                ),
            ));
        }
        (None, _) if location.parameter("sig").is_some() => sas_credentials(
            &location.query_with("sig", location.parameter("sig").unwrap_or_default()),
        )?,
        (None, Some(account)) => account.credentials()?,
        (None, None) => StorageCredentials::anonymous(),
    };
    Ok((credentials, extra))
}

fn service(
    account: &str,
    endpoint: &Url,
    credentials: StorageCredentials,
    transport: Transport,
) -> BlobServiceClient {
    let uri = endpoint.as_str().trim_end_matches('/').to_owned();
    ClientBuilder::with_location(
        CloudLocation::Custom {
            account: account.to_owned(),
            uri,
        },
        credentials,
    )
    .client_options(transport.into_options())
    .blob_service_client()
}

fn sas_credentials(query: &str) -> Result<StorageCredentials, StorageError> {
    // The SDK's own error would quote the token.
    StorageCredentials::sas_token(query).map_err(|_| {
        StorageError::new(
            ErrorKind::Invalid,
            "the SAS is not a query string like sv=...&sig=...",
        )
    })
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
