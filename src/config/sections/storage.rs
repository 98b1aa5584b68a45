//! Downloads, uploads, cache, where requests may reach.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::MIB;
use super::cloud::{AzureConfig, HfConfig, S3Config, read_azure, read_hf, read_s3};
use crate::config::variables::Variable;
use crate::config::variables::storage::*;
use crate::config::variables::webhooks::WEBHOOK_ALLOW_PRIVATE;
use crate::config::{Reader, Secret};

/// `HTTP_AUTH_HEADER_NAME` and `HTTP_AUTH_HEADER_VALUE`, which only count together.
#[derive(Debug, Clone)]
pub struct HttpAuthHeader {
    /// A valid header name, lower case.
    pub name: String,
    /// Its value.
    pub value: Secret,
    /// `HTTP_AUTH_ALLOWED_ORIGINS`: who gets it; `None` means everybody.
    pub origins: Option<Vec<String>>,
}

/// The download cache.
#[derive(Debug, Clone)]
pub struct CacheConfig {
    /// `CACHE_DIR`.
    pub dir: PathBuf,
    /// `LRU_CACHE_SIZE_GB` in bytes; 0 means that nothing is evicted.
    pub max_bytes: u64,
}

/// Where requests made for clients may reach.
#[derive(Debug, Clone, Default)]
pub struct GuardConfig {
    /// `ALLOW_PRIVATE_NETWORKS`.
    pub allow_private_networks: bool,
    /// `HTTP_TRUSTED_ORIGINS`, each as `scheme://host[:port]`, default ports left out.
    pub trusted_origins: Vec<String>,
    /// `WEBHOOK_ALLOW_PRIVATE`: webhooks may also go to private networks.
    pub webhooks_to_private: bool,
    /// Host and port of every ComfyUI, which no webhook may reach.
    pub comfyui: Vec<(String, u16)>,
}

/// `HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY` (lower-case spellings too).
#[derive(Debug, Clone, Default)]
pub struct ProxyConfig {
    /// For `http://` targets.
    pub http: Option<Secret>,
    /// For `https://` targets.
    pub https: Option<Secret>,
    /// Hosts that are reached directly.
    pub no_proxy: Option<String>,
}

/// Downloads, uploads, cache, credentials.
#[derive(Debug, Clone)]
pub struct StorageConfig {
    /// The download cache.
    pub cache: CacheConfig,
    /// Where requests made for clients may reach.
    pub guard: GuardConfig,
    /// Outbound proxies; never used for ComfyUI.
    pub proxy: ProxyConfig,
    /// A header added to storage HTTP requests that bring no credentials of their own.
    pub http_auth: Option<HttpAuthHeader>,
    /// Only one of its two variables is set, so that there is none.
    pub http_auth_incomplete: bool,
    /// `MAX_CONCURRENT_DOWNLOADS`.
    pub max_concurrent_downloads: usize,
    /// `MAX_CONCURRENT_UPLOADS`.
    pub max_concurrent_uploads: usize,
    /// `DOWNLOAD_CONNECTIONS` per large file.
    pub download_connections: usize,
    /// `SIGNED_URL_EXPIRY_S`.
    pub signed_url_expiry: Duration,
    /// S3.
    pub s3: S3Config,
    /// Azure Blob Storage.
    pub azure: AzureConfig,
    /// Hugging Face.
    pub hf: HfConfig,
}

impl StorageConfig {
    /// What the start says about settings that are allowed, but hardly meant; `open`: everybody may
    /// send requests.
    pub fn warnings(&self, open: bool) -> Vec<&'static str> {
        let mut warnings = Vec::new();
        if self.http_auth_incomplete {
            warnings.push(
                "HTTP_AUTH_HEADER_NAME and HTTP_AUTH_HEADER_VALUE only work together: without the \
                 other one, it is ignored",
            );
        }
        if open
            && self
                .http_auth
                .as_ref()
                .is_some_and(|auth| auth.origins.is_none())
        {
            warnings.push(
                "HTTP_AUTH_HEADER_VALUE is sent to every host that a request names, and without \
                 API_KEYS anybody may send requests: set HTTP_AUTH_ALLOWED_ORIGINS",
            );
        }
        warnings
    }

    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let gigabytes: f64 = r.number(&LRU_CACHE_SIZE_GB);
        Self {
            cache: CacheConfig {
                dir: cache_dir(r),
                max_bytes: (gigabytes * 1024.0 * MIB as f64) as u64,
            },
            guard: read_guard(r),
            proxy: read_proxy(r),
            http_auth: read_http_auth(r),
            http_auth_incomplete: r.text(&HTTP_AUTH_HEADER_NAME).is_some()
                != r.text(&HTTP_AUTH_HEADER_VALUE).is_some(),
            max_concurrent_downloads: r.number(&MAX_CONCURRENT_DOWNLOADS),
            max_concurrent_uploads: r.number(&MAX_CONCURRENT_UPLOADS),
            download_connections: r.number(&DOWNLOAD_CONNECTIONS),
            signed_url_expiry: Duration::from_secs(r.number(&SIGNED_URL_EXPIRY_S)),
            s3: read_s3(r),
            azure: read_azure(r),
            hf: read_hf(r),
        }
    }
}

/// `CACHE_DIR`, absolute.
pub(super) fn cache_dir(r: &Reader) -> PathBuf {
    super::absolute(r.path(&CACHE_DIR).unwrap_or_else(|| {
        r.foreign("HOME")
            .map(PathBuf::from)
            .unwrap_or_else(|| PathBuf::from("/root"))
            .join(".cache/comfyui-api")
    }))
}

fn read_guard(r: &mut Reader) -> GuardConfig {
    GuardConfig {
        allow_private_networks: r.flag(&ALLOW_PRIVATE_NETWORKS),
        trusted_origins: read_origins(r, &HTTP_TRUSTED_ORIGINS),
        webhooks_to_private: r.flag(&WEBHOOK_ALLOW_PRIVATE),
        comfyui: Vec::new(),
    }
}

fn read_origins(r: &mut Reader, variable: &Variable) -> Vec<String> {
    let mut origins = Vec::new();
    for origin in r.list(variable) {
        match Url::parse(&origin) {
            Ok(url)
                if matches!(url.scheme(), "http" | "https")
                    && url.has_host()
                    && matches!(url.path(), "" | "/") =>
            {
                origins.push(url.origin().ascii_serialization());
            }
            _ => r.problem(format!(
                "{}: \"{}\" is not an origin: write it like http://minio:9000, without a path",
                variable.name,
                crate::config::public_url(&origin)
            )),
        }
    }
    origins
}

/// As curl and most tools: the lower-case name wins, and a proxy for http serves https too where no
/// other is named (D12).
fn read_proxy(r: &mut Reader) -> ProxyConfig {
    let mut either = |upper: &Variable, lower: &str| -> Option<Secret> {
        let (name, value) = match r.foreign(lower) {
            Some(value) => (lower, Secret::new(value)),
            None => (upper.name, r.secret(upper)?),
        };
        if Url::parse(value.expose()).is_ok_and(|url| url.has_host()) {
            return Some(value);
        }
        r.problem(format!(
            "{name} is not a URL: write it like http://proxy:3128"
        ));
        None
    };
    let http = either(&HTTP_PROXY, "http_proxy");
    let https = either(&HTTPS_PROXY, "https_proxy").or_else(|| http.clone());
    ProxyConfig {
        http,
        https,
        no_proxy: r.foreign("no_proxy").or_else(|| r.text(&NO_PROXY)),
    }
}

fn read_http_auth(r: &mut Reader) -> Option<HttpAuthHeader> {
    let name = r.text(&HTTP_AUTH_HEADER_NAME);
    let value = r.secret(&HTTP_AUTH_HEADER_VALUE);
    let origins = read_origins(r, &HTTP_AUTH_ALLOWED_ORIGINS);
    let origins = r.text(&HTTP_AUTH_ALLOWED_ORIGINS).map(|_| origins);
    // One without the other is no header at all: the Node server ignores it, and the start says so.
    let (Some(name), Some(value)) = (name, value) else {
        return None;
    };
    if axum::http::HeaderName::try_from(name.as_str()).is_err() {
        r.problem(format!(
            "HTTP_AUTH_HEADER_NAME=\"{name}\" is not a valid HTTP header name"
        ));
    }
    if axum::http::HeaderValue::try_from(value.expose()).is_err() {
        r.problem("HTTP_AUTH_HEADER_VALUE has characters that an HTTP header cannot carry");
    }
    Some(HttpAuthHeader {
        name: name.to_ascii_lowercase(),
        value,
        origins,
    })
}
