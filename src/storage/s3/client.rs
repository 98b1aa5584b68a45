//! Clients of the SDK: one with the operator's configuration, a few with credentials that requests
//! brought.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use aws_config::default_provider::credentials::DefaultCredentialsChain;
use aws_config::meta::region::ProvideRegion;
use aws_config::profile::region::ProfileFileRegionProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_sdk_s3::Client;
use aws_sdk_s3::config::{
    BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
    SharedCredentialsProvider, StalledStreamProtectionConfig,
};
use parking_lot::Mutex;
use tokio::sync::OnceCell;
use url::Url;

use super::transport::Transport;
use crate::config::{S3Config, Secret};
use crate::net::Outbound;
use crate::storage::{Auth, ErrorKind, StorageError};

/// Clients for credentials of requests that are kept.
const KEPT: usize = 16;
/// Until an answer begins.
const ANSWER: Duration = Duration::from_secs(300);
/// MinIO, R2 and most others do not care, but a region is part of every signature.
const NO_REGION: &str = "us-east-1";

/// Makes and keeps clients.
pub struct Clients {
    config: S3Config,
    outbound: Outbound,
    /// The configured endpoint, else that of the profile.
    endpoint: OnceCell<Option<Url>>,
    operator: OnceCell<Client>,
    brought: Mutex<Vec<(Auth, Client)>>,
    /// Endpoints that do not know checksums (F08).
    plain: Arc<Mutex<HashSet<String>>>,
}

/// A service, as one client reaches it.
#[derive(Clone)]
pub struct Store {
    /// The SDK's client.
    pub client: Client,
    endpoint: String,
    plain: Arc<Mutex<HashSet<String>>>,
}

impl Store {
    /// Whether checksums may be asked for.
    pub fn knows_checksums(&self) -> bool {
        let plain = self.plain.lock();
        !plain.contains(&self.endpoint)
    }

    /// It has refused a request for its checksum headers, and taken it without.
    pub fn without_checksums(&self) {
        let mut plain = self.plain.lock();
        if plain.len() < ENDPOINTS && plain.insert(self.endpoint.clone()) {
            tracing::info!(
                endpoint = %crate::config::public_url(&self.endpoint),
                "this S3 service knows no checksums; it is asked without them from now on"
            );
        }
    }
}

/// Endpoints of which it is remembered that they know no checksums: requests may name any number.
const ENDPOINTS: usize = 1000;

impl Clients {
    /// Makes none yet.
    pub fn new(config: S3Config, outbound: Outbound) -> Self {
        Self {
            config,
            outbound,
            endpoint: OnceCell::new(),
            operator: OnceCell::new(),
            brought: Mutex::new(Vec::new()),
            plain: Arc::default(),
        }
    }

    /// The service for a request's credentials, or the operator's.
    pub async fn of(&self, auth: Option<&Auth>) -> Result<Store, StorageError> {
        let client = self.client(auth).await?;
        let own = match auth {
            Some(Auth::S3 { endpoint, .. }) => endpoint.clone(),
            _ => None,
        };
        let endpoint = match own {
            Some(endpoint) => endpoint,
            None => self
                .endpoint()
                .await
                .map(Url::to_string)
                .unwrap_or_default(),
        };
        Ok(Store {
            client,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            plain: Arc::clone(&self.plain),
        })
    }

    /// Where the operator's service is, if not at AWS: as configured, else as the profile says
    /// (F08).
    async fn endpoint(&self) -> Option<&Url> {
        let found = async {
            if let Some(endpoint) = &self.config.endpoint {
                return Some(endpoint.clone());
            }
            let profile = aws_config::defaults(BehaviorVersion::latest())
                .region(Region::new(NO_REGION))
                .no_credentials()
                .http_client(Transport::for_chain(&self.outbound))
                .load()
                .await;
            Url::parse(profile.endpoint_url()?).ok()
        };
        self.endpoint.get_or_init(|| found).await.as_ref()
    }

    async fn client(&self, auth: Option<&Auth>) -> Result<Client, StorageError> {
        let Some(auth) = auth else {
            return self
                .operator
                .get_or_try_init(|| self.operator_client())
                .await
                .cloned();
        };
        let Auth::S3 {
            access_key_id,
            secret_access_key,
            session_token,
            region,
            endpoint,
        } = auth
        else {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                "an s3:// URL takes credentials of type \"s3\" only",
            ));
        };
        if let Some(region) = region {
            check_region(region)?;
        }
        let endpoint = endpoint.as_deref().map(parse_endpoint).transpose()?;
        if let Some(endpoint) = &endpoint {
            // Each time, not only when the client is made: what a name resolves to changes.
            self.outbound
                .check(endpoint)
                .await
                .map_err(|refused| StorageError::new(ErrorKind::Invalid, refused.to_string()))?;
        }
        if let Some(client) = self.kept(auth) {
            return Ok(client);
        }
        let credentials = keys(access_key_id, secret_access_key, session_token.as_ref());
        let region = region
            .clone()
            .or_else(|| self.config.region.clone())
            .unwrap_or_else(|| NO_REGION.to_owned());
        let client = if endpoint.is_some() {
            // Path style: a bucket's name in front of the host would be a host that nobody has
            // checked.
            self.build(
                region,
                endpoint.as_ref(),
                SharedCredentialsProvider::new(credentials),
                true,
                true,
            )
        } else {
            let endpoint = self.endpoint().await;
            self.build(
                region,
                endpoint,
                SharedCredentialsProvider::new(credentials),
                self.path_style(endpoint),
                false,
            )
        };
        let mut brought = self.brought.lock();
        brought.truncate(KEPT - 1);
        brought.insert(0, (auth.clone(), client.clone()));
        Ok(client)
    }

    fn kept(&self, auth: &Auth) -> Option<Client> {
        let mut brought = self.brought.lock();
        let at = brought.iter().position(|(known, _)| known == auth)?;
        let entry = brought.remove(at);
        let client = entry.1.clone();
        brought.insert(0, entry);
        Some(client)
    }

    async fn operator_client(&self) -> Result<Client, StorageError> {
        let endpoint = self.endpoint().await;
        let region = match (&self.config.region, endpoint) {
            (Some(region), _) => region.clone(),
            (None, Some(_)) => NO_REGION.to_owned(),
            (None, None) => match ProfileFileRegionProvider::builder().build().region().await {
                Some(region) => region.to_string(),
                None => {
                    return Err(StorageError::new(
                        ErrorKind::Invalid,
                        "S3 is not configured: set AWS_REGION (and AWS_ACCESS_KEY_ID with \
                         AWS_SECRET_ACCESS_KEY unless the instance has a role), or \
                         AWS_ENDPOINT_URL for another service",
                    ));
                }
            },
        };
        let provider = match (&self.config.access_key_id, &self.config.secret_access_key) {
            (Some(id), Some(secret)) => {
                SharedCredentialsProvider::new(keys(id, secret, self.config.session_token.as_ref()))
            }
            _ => {
                let chain = ProviderConfig::without_region()
                    .with_region(Some(Region::new(region.clone())))
                    .with_http_client(Transport::for_chain(&self.outbound));
                SharedCredentialsProvider::new(
                    DefaultCredentialsChain::builder()
                        .configure(chain)
                        .build()
                        .await,
                )
            }
        };
        let path_style = self.path_style(endpoint);
        Ok(self.build(region, endpoint, provider, path_style, false))
    }

    fn path_style(&self, endpoint: Option<&Url>) -> bool {
        self.config.force_path_style.unwrap_or(endpoint.is_some())
    }

    fn build(
        &self,
        region: String,
        endpoint: Option<&Url>,
        provider: SharedCredentialsProvider,
        path_style: bool,
        guarded: bool,
    ) -> Client {
        let mut config = aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new(region))
            .credentials_provider(provider)
            .http_client(Transport::through(&self.outbound, guarded))
            // The engine retries, with its own classifier and backoff.
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .operation_attempt_timeout(ANSWER)
                    .build(),
            )
            .stalled_stream_protection(
                StalledStreamProtectionConfig::enabled()
                    .grace_period(Duration::from_secs(60))
                    .build(),
            )
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .force_path_style(path_style);
        if let Some(endpoint) = endpoint {
            // Other services often know only the checksums of old.
            config = config
                .endpoint_url(endpoint.as_str().trim_end_matches('/'))
                .request_checksum_calculation(RequestChecksumCalculation::WhenRequired);
        }
        Client::from_conf(config.build())
    }
}

fn keys(id: &Secret, secret: &Secret, session: Option<&Secret>) -> Credentials {
    Credentials::new(
        id.expose(),
        secret.expose(),
        session.map(|token| token.expose().to_owned()),
        None,
        "comfyui-api",
    )
}

/// A region becomes part of a host name: it must not be able to make another host of it.
fn check_region(region: &str) -> Result<(), StorageError> {
    let usual = (1..=63).contains(&region.len())
        && region
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    usual.then_some(()).ok_or_else(|| {
        StorageError::new(
            ErrorKind::Invalid,
            "the region of the S3 credentials is none: write it like eu-central-1",
        )
    })
}

fn parse_endpoint(text: &str) -> Result<Url, StorageError> {
    let url = Url::parse(text).ok().filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.has_host() && url.username().is_empty()
    });
    url.ok_or_else(|| {
        StorageError::new(
            ErrorKind::Invalid,
            "the endpoint of the S3 credentials is not a URL: write it like https://s3.example.com",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_region_cannot_lead_elsewhere() {
        for good in ["eu-central-1", "auto", "us-gov-west-1", "EU"] {
            assert!(check_region(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "x@10.0.0.5:8443/",
            "127.0.0.1.nip.io:5432/",
            "a.b",
            "a/b",
            "a#",
            "ä",
        ] {
            assert!(check_region(bad).is_err(), "{bad}");
        }
    }
}
