//! One struct per concern, each reading its own variables.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use url::Url;

use super::variables::EVENT_NAMES;
use super::{Reader, Secret};

const MIB: u64 = 1024 * 1024;

/// The HTTP door.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// `HOST`, an address or a name to resolve.
    pub host: String,
    /// `PORT`; 0 lets the system choose.
    pub port: u16,
    /// `MAX_BODY_SIZE_MB` in bytes.
    pub max_body_bytes: usize,
    /// `API_KEYS`; empty means open.
    pub api_keys: Vec<Secret>,
    /// `METRICS_REQUIRE_KEY`.
    pub metrics_require_key: bool,
    /// `CORS_ALLOWED_ORIGINS`; empty means no CORS headers.
    pub cors_allowed_origins: Vec<String>,
    /// `MAX_QUEUE_DEPTH`; 0 means no limit.
    pub max_queue_depth: u64,
    /// `SHUTDOWN_GRACE_S`.
    pub shutdown_grace: Duration,
}

impl ServerConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let cors_allowed_origins = r.list("CORS_ALLOWED_ORIGINS");
        for origin in &cors_allowed_origins {
            if origin != "*" && !Url::parse(origin).is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == *origin) {
                r.problem(format!("CORS_ALLOWED_ORIGINS: \"{origin}\" is not an origin: write it like https://app.example.com, or *"));
            }
        }
        Self {
            host: r.text_or("HOST", "::"),
            port: r.number("PORT", 3000, 0, u16::MAX, "a TCP port"),
            max_body_bytes: usize::try_from((r.number("MAX_BODY_SIZE_MB", 100.0_f64, 0.001, 1_048_576.0, "MiB") * MIB as f64) as u64).unwrap_or(usize::MAX),
            api_keys: r.list("API_KEYS").into_iter().map(Secret::new).collect(),
            metrics_require_key: r.bool_or("METRICS_REQUIRE_KEY", false),
            cors_allowed_origins,
            max_queue_depth: r.number("MAX_QUEUE_DEPTH", 0, 0, u64::from(u32::MAX), "prompts, 0 for no limit"),
            shutdown_grace: r.seconds("SHUTDOWN_GRACE_S", 30.0, 0.0),
        }
    }
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
    /// Pretty on a terminal, JSON otherwise.
    Auto,
}

/// Log level and form.
#[derive(Debug, Clone)]
pub struct LogConfig {
    /// `LOG_LEVEL`: trace, debug, info, warn, error or fatal.
    pub level: String,
    /// `LOG_FORMAT`.
    pub format: LogFormat,
}

impl LogConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let format = match r.one_of("LOG_FORMAT", "auto", &["json", "pretty", "auto"]).as_str() {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            _ => LogFormat::Auto,
        };
        Self { level: r.one_of("LOG_LEVEL", "info", &["trace", "debug", "info", "warn", "error", "fatal"]), format }
    }
}

/// Where the warmup prompt comes from.
#[derive(Debug, Clone)]
pub enum WarmupSource {
    /// `WARMUP_PROMPT_FILE`.
    File(PathBuf),
    /// `WARMUP_PROMPT_URL`.
    Url(Url),
}

/// The ComfyUI that is started or attached to.
#[derive(Debug, Clone)]
pub struct ComfyConfig {
    /// `COMFY_HOME`.
    pub home: PathBuf,
    /// `CMD` split into words; empty means: attach to the ComfyUI that is already there.
    pub command: Vec<String>,
    /// `BASE` is `ai-dock`: load that image's environment first.
    pub ai_dock: bool,
    /// `DIRECT_ADDRESS`.
    pub address: String,
    /// `COMFYUI_PORT_HOST`.
    pub port: u16,
    /// `INPUT_DIR`.
    pub input_dir: PathBuf,
    /// `OUTPUT_DIR`.
    pub output_dir: PathBuf,
    /// `MODEL_DIR`.
    pub model_dir: PathBuf,
    /// `ALWAYS_RESTART_COMFYUI`.
    pub always_restart: bool,
    /// `STARTUP_CHECK_INTERVAL_S`.
    pub startup_check_interval: Duration,
    /// `STARTUP_CHECK_MAX_TRIES`.
    pub startup_check_max_tries: u32,
    /// `COMFYUI_HANG_TIMEOUT_S`; zero means off.
    pub hang_timeout: Duration,
    /// `WS_IDLE_TIMEOUT_S`.
    pub ws_idle_timeout: Duration,
    /// The warmup prompt, if there is one.
    pub warmup: Option<WarmupSource>,
}

impl ComfyConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let home = absolute(r.path("COMFY_HOME").unwrap_or_else(|| PathBuf::from("/opt/ComfyUI")));
        let command = if r.set_but_empty("CMD") {
            Vec::new()
        } else {
            let text = r.text_or("CMD", "init.sh");
            shell_words::split(&text).unwrap_or_else(|_| {
                r.problem("CMD has an unclosed quote: write it as a shell would accept it".to_owned());
                Vec::new()
            })
        };
        let warmup_url = r.url("WARMUP_PROMPT_URL", &["http", "https"]);
        let base = r.text_or("BASE", "");
        Self {
            ai_dock: base == "ai-dock",
            command,
            address: r.text_or("DIRECT_ADDRESS", "127.0.0.1"),
            port: r.number("COMFYUI_PORT_HOST", 8188, 1, u16::MAX, "a TCP port"),
            input_dir: r.path("INPUT_DIR").map_or_else(|| home.join("input"), absolute),
            output_dir: r.path("OUTPUT_DIR").map_or_else(|| home.join("output"), absolute),
            model_dir: r.path("MODEL_DIR").map_or_else(|| home.join("models"), absolute),
            always_restart: r.bool_or("ALWAYS_RESTART_COMFYUI", false),
            startup_check_interval: r.seconds("STARTUP_CHECK_INTERVAL_S", 1.0, 0.001),
            startup_check_max_tries: r.number("STARTUP_CHECK_MAX_TRIES", 20, 1, 1_000_000, "tries"),
            hang_timeout: r.seconds("COMFYUI_HANG_TIMEOUT_S", 0.0, 0.0),
            ws_idle_timeout: r.seconds("WS_IDLE_TIMEOUT_S", 30.0, 0.1),
            warmup: r.path("WARMUP_PROMPT_FILE").map(WarmupSource::File).or(warmup_url.map(WarmupSource::Url)),
            home,
        }
    }

    /// `host:port` of ComfyUI, an IPv6 address in brackets; `0.0.0.0` and `::` become the loopback address.
    pub fn authority(&self) -> String {
        let host = match self.address.parse::<IpAddr>() {
            Ok(IpAddr::V4(v4)) if v4.is_unspecified() => "127.0.0.1".to_owned(),
            Ok(IpAddr::V6(v6)) if v6.is_unspecified() => "[::1]".to_owned(),
            Ok(IpAddr::V6(v6)) => format!("[{v6}]"),
            _ => self.address.clone(),
        };
        format!("{host}:{}", self.port)
    }
}

/// ComfyUI runs in a directory of its own, so what it is told must not depend on ours.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

/// How prompts are treated.
#[derive(Debug, Clone)]
pub struct PromptConfig {
    /// `PREPEND_FILENAMES`.
    pub prepend_filenames: bool,
    /// `CANCEL_ON_DISCONNECT`.
    pub cancel_on_disconnect: bool,
    /// `ALLOWED_INPUT_PATHS`, separated by commas.
    pub allowed_input_paths: Vec<PathBuf>,
    /// `MAX_ARCHIVE_FILES`.
    pub max_archive_files: u64,
    /// `MAX_ARCHIVE_SIZE_MB` in bytes.
    pub max_archive_bytes: u64,
}

impl PromptConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            prepend_filenames: r.bool_or("PREPEND_FILENAMES", true),
            cancel_on_disconnect: r.bool_or("CANCEL_ON_DISCONNECT", false),
            allowed_input_paths: r.list("ALLOWED_INPUT_PATHS").into_iter().map(|path| absolute(PathBuf::from(path))).collect(),
            max_archive_files: r.number("MAX_ARCHIVE_FILES", 10_000, 1, u64::from(u32::MAX), "files"),
            max_archive_bytes: r.number("MAX_ARCHIVE_SIZE_MB", 4096, 1, 1 << 30, "MiB") * MIB,
        }
    }
}

/// `HTTP_AUTH_HEADER_NAME` and `HTTP_AUTH_HEADER_VALUE`, which only count together.
#[derive(Debug, Clone)]
pub struct HttpAuthHeader {
    /// A valid header name, lower case.
    pub name: String,
    /// Its value.
    pub value: Secret,
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

/// S3; the SDK reads the rest (profile, IRSA, instance metadata) itself.
#[derive(Debug, Clone, Default)]
pub struct S3Config {
    /// `AWS_REGION`, else `AWS_DEFAULT_REGION`.
    pub region: Option<String>,
    /// `AWS_ENDPOINT_URL`, else `AWS_ENDPOINT`, else `S3_ENDPOINT`.
    pub endpoint: Option<Url>,
    /// `S3_FORCE_PATH_STYLE`; `None` means: when an endpoint is set.
    pub force_path_style: Option<bool>,
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: Option<Secret>,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Option<Secret>,
    /// `AWS_SESSION_TOKEN`.
    pub session_token: Option<Secret>,
}

/// Azure Blob Storage.
#[derive(Debug, Clone, Default)]
pub struct AzureConfig {
    /// `AZURE_STORAGE_CONNECTION_STRING`.
    pub connection_string: Option<Secret>,
    /// `AZURE_STORAGE_ACCOUNT`.
    pub account: Option<String>,
    /// `AZURE_STORAGE_KEY`.
    pub key: Option<Secret>,
    /// `AZURE_STORAGE_SAS_TOKEN`.
    pub sas_token: Option<Secret>,
    /// Workload identity as AKS injects it: `AZURE_TENANT_ID`, `AZURE_CLIENT_ID`, `AZURE_FEDERATED_TOKEN_FILE`, `AZURE_AUTHORITY_HOST`.
    pub tenant_id: Option<String>,
    /// See `tenant_id`; also names a user-assigned managed identity.
    pub client_id: Option<String>,
    /// See `tenant_id`.
    pub federated_token_file: Option<PathBuf>,
    /// See `tenant_id`.
    pub authority_host: Option<String>,
}

/// Hugging Face.
#[derive(Debug, Clone)]
pub struct HfConfig {
    /// `HF_TOKEN`.
    pub token: Option<Secret>,
    /// `HF_ENDPOINT` without a trailing slash.
    pub endpoint: Url,
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
    pub(super) fn read(r: &mut Reader) -> Self {
        let cache_dir = r.path("CACHE_DIR").unwrap_or_else(|| r.path("HOME").unwrap_or_else(|| PathBuf::from("/root")).join(".cache/comfyui-api"));
        let gigabytes: f64 = r.number("LRU_CACHE_SIZE_GB", 0.0, 0.0, 1e9, "GB, 0 for no limit");
        Self {
            cache: CacheConfig { dir: cache_dir, max_bytes: (gigabytes * 1024.0 * MIB as f64) as u64 },
            guard: read_guard(r),
            proxy: read_proxy(r),
            http_auth: read_http_auth(r),
            max_concurrent_downloads: r.number("MAX_CONCURRENT_DOWNLOADS", 10, 1, 10_000, "downloads"),
            max_concurrent_uploads: r.number("MAX_CONCURRENT_UPLOADS", 10, 1, 10_000, "uploads"),
            download_connections: r.number("DOWNLOAD_CONNECTIONS", 4, 1, 64, "connections per large file"),
            signed_url_expiry: Duration::from_secs(r.number("SIGNED_URL_EXPIRY_S", 3600, 1, 604_800, "seconds, at most 7 days")),
            s3: read_s3(r),
            azure: read_azure(r),
            hf: read_hf(r),
        }
    }
}

fn read_guard(r: &mut Reader) -> GuardConfig {
    let mut trusted_origins = Vec::new();
    for origin in r.list("HTTP_TRUSTED_ORIGINS") {
        match Url::parse(&origin) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() && matches!(url.path(), "" | "/") => {
                trusted_origins.push(url.origin().ascii_serialization());
            }
            _ => {
                r.problem(format!("HTTP_TRUSTED_ORIGINS: \"{}\" is not an origin: write it like http://minio:9000, without a path", super::public_url(&origin)))
            }
        }
    }
    GuardConfig { allow_private_networks: r.bool_or("ALLOW_PRIVATE_NETWORKS", false), trusted_origins }
}

fn read_proxy(r: &mut Reader) -> ProxyConfig {
    let mut either = |upper: &str, lower: &str| -> Option<Secret> {
        let name = if r.text(upper).is_some() { upper } else { lower };
        let value = r.secret(name)?;
        if Url::parse(value.expose()).is_ok_and(|url| url.has_host()) {
            return Some(value);
        }
        r.problem(format!("{name} is not a URL: write it like http://proxy:3128"));
        None
    };
    let http = either("HTTP_PROXY", "http_proxy");
    let https = either("HTTPS_PROXY", "https_proxy");
    ProxyConfig { http, https, no_proxy: r.text("NO_PROXY").or_else(|| r.text("no_proxy")) }
}

fn read_http_auth(r: &mut Reader) -> Option<HttpAuthHeader> {
    let name = r.text("HTTP_AUTH_HEADER_NAME");
    let value = r.secret("HTTP_AUTH_HEADER_VALUE");
    match (name, value) {
        (Some(name), Some(value)) => {
            if axum::http::HeaderName::try_from(name.as_str()).is_err() {
                r.problem(format!("HTTP_AUTH_HEADER_NAME=\"{name}\" is not a valid HTTP header name"));
            }
            if axum::http::HeaderValue::try_from(value.expose()).is_err() {
                r.problem("HTTP_AUTH_HEADER_VALUE has characters that an HTTP header cannot carry");
            }
            Some(HttpAuthHeader { name: name.to_ascii_lowercase(), value })
        }
        (None, None) => None,
        _ => {
            r.problem("HTTP_AUTH_HEADER_NAME and HTTP_AUTH_HEADER_VALUE only work together: set both or neither");
            None
        }
    }
}

fn read_s3(r: &mut Reader) -> S3Config {
    let name = ["AWS_ENDPOINT_URL", "AWS_ENDPOINT", "S3_ENDPOINT"].into_iter().find(|name| r.text(name).is_some());
    S3Config {
        region: r.text("AWS_REGION").or_else(|| r.text("AWS_DEFAULT_REGION")),
        endpoint: name.and_then(|name| r.url(name, &["http", "https"])),
        force_path_style: if r.text("S3_FORCE_PATH_STYLE").is_some_and(|value| value.eq_ignore_ascii_case("auto")) {
            None
        } else {
            r.bool("S3_FORCE_PATH_STYLE")
        },
        access_key_id: r.secret("AWS_ACCESS_KEY_ID"),
        secret_access_key: r.secret("AWS_SECRET_ACCESS_KEY"),
        session_token: r.secret("AWS_SESSION_TOKEN"),
    }
}

fn read_azure(r: &mut Reader) -> AzureConfig {
    AzureConfig {
        connection_string: r.secret("AZURE_STORAGE_CONNECTION_STRING"),
        account: r.text("AZURE_STORAGE_ACCOUNT"),
        key: r.secret("AZURE_STORAGE_KEY"),
        sas_token: r.secret("AZURE_STORAGE_SAS_TOKEN"),
        tenant_id: r.text("AZURE_TENANT_ID"),
        client_id: r.text("AZURE_CLIENT_ID"),
        federated_token_file: r.path("AZURE_FEDERATED_TOKEN_FILE"),
        authority_host: r.text("AZURE_AUTHORITY_HOST"),
    }
}

fn read_hf(r: &mut Reader) -> HfConfig {
    let mut endpoint = r.url("HF_ENDPOINT", &["http", "https"]);
    if let Some(url) = &mut endpoint {
        let path = url.path().trim_end_matches('/').to_owned();
        url.set_path(&path);
    }
    #[expect(clippy::unwrap_used, reason = "a constant URL parses")]
    let endpoint = endpoint.unwrap_or_else(|| Url::parse("https://huggingface.co").unwrap());
    HfConfig { token: r.secret("HF_TOKEN"), endpoint }
}

/// Conversion by ffmpeg.
#[derive(Debug, Clone)]
pub struct MediaConfig {
    /// `FFMPEG_PATH`.
    pub ffmpeg: PathBuf,
    /// `FFMPEG_TIMEOUT_S`.
    pub ffmpeg_timeout: Duration,
}

impl MediaConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self { ffmpeg: r.path("FFMPEG_PATH").unwrap_or_else(|| PathBuf::from("ffmpeg")), ffmpeg_timeout: r.seconds("FFMPEG_TIMEOUT_S", 600.0, 0.1) }
    }
}

/// Webhooks for prompts.
#[derive(Debug, Clone)]
pub struct WebhookConfig {
    /// The decoded keys of `WEBHOOK_SECRET`, which may hold several separated by spaces; empty means unsigned.
    pub keys: Vec<SigningKey>,
    /// `PROMPT_WEBHOOK_RETRIES` after the first attempt.
    pub retries: u32,
    /// `WEBHOOK_TIMEOUT_S` of one attempt.
    pub timeout: Duration,
    /// `WEBHOOK_SPOOL_DIR`.
    pub spool_dir: Option<PathBuf>,
}

/// A key for HMAC-SHA256.
#[derive(Clone)]
pub struct SigningKey(pub Vec<u8>);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("***")
    }
}

impl WebhookConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let mut keys = Vec::new();
        if let Some(secrets) = r.secret("WEBHOOK_SECRET") {
            for (index, secret) in secrets.expose().split_whitespace().enumerate() {
                match decode_key(secret) {
                    Some(key) => keys.push(SigningKey(key)),
                    None => r.problem(format!("WEBHOOK_SECRET: secret {} is not base64 (with or without the prefix whsec_)", index + 1)),
                }
            }
        }
        Self {
            keys,
            retries: r.number("PROMPT_WEBHOOK_RETRIES", 3, 0, 1000, "retries"),
            timeout: r.seconds("WEBHOOK_TIMEOUT_S", 30.0, 0.01),
            spool_dir: r.path("WEBHOOK_SPOOL_DIR"),
        }
    }
}

/// Decodes a Standard Webhooks secret leniently: optional prefix, either alphabet, padding or not.
fn decode_key(secret: &str) -> Option<Vec<u8>> {
    let text: String = secret
        .strip_prefix("whsec_")
        .unwrap_or(secret)
        .chars()
        .map(|c| {
            if c == '-' {
                '+'
            } else if c == '_' {
                '/'
            } else {
                c
            }
        })
        .collect();
    let lenient = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent).with_decode_allow_trailing_bits(true);
    let key = GeneralPurpose::new(&alphabet::STANDARD, lenient).decode(text).ok()?;
    (!key.is_empty()).then_some(key)
}

/// System events and their metadata.
#[derive(Debug, Clone, Default)]
pub struct EventsConfig {
    /// `SYSTEM_WEBHOOK_URL`.
    pub url: Option<Url>,
    /// The names of `SYSTEM_WEBHOOK_EVENTS`, `all` spelled out.
    pub names: Vec<&'static str>,
    /// `SYSTEM_META_*` and SaladCloud's variables, as they appear in `metadata`.
    pub metadata: BTreeMap<String, String>,
    /// Whether any of SaladCloud's variables is set.
    pub on_salad_cloud: bool,
}

impl EventsConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        let mut names = Vec::new();
        for name in r.list("SYSTEM_WEBHOOK_EVENTS") {
            if name == "all" {
                names = EVENT_NAMES.to_vec();
                break;
            }
            match EVENT_NAMES.iter().find(|known| **known == name) {
                Some(known) if !names.contains(known) => names.push(*known),
                Some(_) => {}
                None => r.problem(format!("SYSTEM_WEBHOOK_EVENTS: \"{name}\" is not known: use all, or some of {}", EVENT_NAMES.join(", "))),
            }
        }
        let mut metadata = BTreeMap::new();
        for (name, value) in r.all() {
            if let Some(key) = name.strip_prefix("SYSTEM_META_")
                && !key.is_empty()
            {
                metadata.insert(key.to_owned(), value);
            }
        }
        let mut on_salad_cloud = false;
        for name in SALAD_VARIABLES {
            if let Some(value) = r.text(name) {
                on_salad_cloud = true;
                metadata.insert(name.to_ascii_lowercase(), value);
            }
        }
        Self { url: r.url("SYSTEM_WEBHOOK_URL", &["http", "https"]), names, metadata, on_salad_cloud }
    }
}

/// The variables that SaladCloud sets in every container (events.md).
pub(super) const SALAD_VARIABLES: &[&str] = &[
    "SALAD_ORGANIZATION_NAME",
    "SALAD_ORGANIZATION_ID",
    "SALAD_PROJECT_NAME",
    "SALAD_PROJECT_ID",
    "SALAD_CONTAINER_GROUP_NAME",
    "SALAD_CONTAINER_GROUP_ID",
    "SALAD_INSTANCE_ID",
    "SALAD_MACHINE_ID",
];

/// What an instance says of itself when it registers (amqp.md).
#[derive(Debug, Clone)]
pub struct InstanceConfig {
    /// `INSTANCE_ID`; unset means `comfyui-api-<hostname>-<start ms>`.
    pub id: Option<String>,
    /// `INSTANCE_DEDICATED_ID`.
    pub dedicated_id: Option<String>,
    /// `INSTANCE_WORKFLOW_ID`.
    pub workflow_id: Option<String>,
    /// `INSTANCE_IS_FREE`.
    pub is_free: bool,
    /// `INSTANCE_GPU_VRAM`.
    pub gpu_vram: String,
    /// `API_URL`, else `http://localhost:<PORT>`.
    pub api_url: String,
    /// `COMFY_PUBLIC_URL`.
    pub public_url: Option<String>,
    /// `COMFY_PUBLIC_WS_URL`.
    pub public_ws_url: Option<String>,
    /// `GPU_MEMORY`.
    pub gpu_memory: Option<String>,
    /// `SUPPORTED_MODELS`.
    pub supported_models: Vec<String>,
}

/// RabbitMQ.
#[derive(Debug, Clone)]
pub struct AmqpConfig {
    /// The whole URI, made from `AMQP_HOST` and its companions when `AMQP_URL` is unset. Holds the password.
    pub uri: Secret,
    /// `AMQP_CA_FILE`.
    pub ca_file: Option<PathBuf>,
    /// `AMQP_EXCHANGE_TOPIC`.
    pub exchange: String,
    /// The input queue after amqp.md's rules.
    pub queue: String,
    /// `AMQP_PREFETCH`.
    pub prefetch: u16,
    /// `AMQP_MAX_ATTEMPTS`.
    pub max_attempts: u32,
    /// `AMQP_MAX_RESULT_MB` in bytes.
    pub max_result_bytes: u64,
    /// `AMQP_PUBLISH_ALL`.
    pub publish_all: bool,
    /// `AMQP_PROGRESS_INTERVAL_MS`.
    pub progress_interval: Duration,
    /// `AMQP_PREVIEWS`.
    pub previews: bool,
    /// `AMQP_REQUIRED`.
    pub required: bool,
    /// `HEARTBEAT_INTERVAL`; `None` when `HEARTBEAT_ENABLED=false`.
    pub heartbeat: Option<Duration>,
    /// What the instance says of itself.
    pub instance: InstanceConfig,
}

impl AmqpConfig {
    /// `None` when neither `AMQP_URL` nor `AMQP_HOST` is set. The other variables are checked all the same.
    pub(super) fn read(r: &mut Reader, port: u16) -> Option<Self> {
        let url = r.url("AMQP_URL", &["amqp", "amqps"]).map(|_| r.secret("AMQP_URL").unwrap_or_default());
        let host = r.text("AMQP_HOST");
        let amqp_port: u16 = r.number("AMQP_PORT", 5672, 1, u16::MAX, "a TCP port");
        let encode = |text: String| percent_encoding::utf8_percent_encode(&text, percent_encoding::NON_ALPHANUMERIC).to_string();
        let from_parts = host.map(|host| {
            let (user, pass, vhost) = (r.text_or("AMQP_USER", "guest"), r.text_or("AMQP_PASS", "guest"), r.text_or("AMQP_VHOST", "/"));
            let host = if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host };
            Secret::new(format!("amqp://{}:{}@{host}:{amqp_port}/{}", encode(user), encode(pass), encode(vhost)))
        });
        let instance = InstanceConfig {
            id: r.text("INSTANCE_ID"),
            dedicated_id: r.text("INSTANCE_DEDICATED_ID"),
            workflow_id: r.text("INSTANCE_WORKFLOW_ID"),
            is_free: r.bool_or("INSTANCE_IS_FREE", false),
            gpu_vram: r.text_or("INSTANCE_GPU_VRAM", "20G"),
            api_url: r.text_or("API_URL", &format!("http://localhost:{port}")),
            public_url: r.text("COMFY_PUBLIC_URL"),
            public_ws_url: r.text("COMFY_PUBLIC_WS_URL"),
            gpu_memory: r.text("GPU_MEMORY"),
            supported_models: r.list("SUPPORTED_MODELS"),
        };
        let queue = r.text("AMQP_QUEUE_INPUT").unwrap_or_else(|| instance.input_queue());
        let heartbeat_enabled = r.bool_or("HEARTBEAT_ENABLED", true);
        let heartbeat_interval = Duration::from_millis(r.number("HEARTBEAT_INTERVAL", 5000, 10, 3_600_000, "milliseconds"));
        let config = Self {
            uri: url.or(from_parts).unwrap_or_default(),
            ca_file: r.path("AMQP_CA_FILE"),
            exchange: r.text_or("AMQP_EXCHANGE_TOPIC", "runnode.comfyui.topic"),
            queue,
            prefetch: r.number("AMQP_PREFETCH", 1, 1, u16::MAX, "tasks"),
            max_attempts: r.number("AMQP_MAX_ATTEMPTS", 3, 1, 1000, "deliveries"),
            max_result_bytes: r.number("AMQP_MAX_RESULT_MB", 64, 1, 4096, "MiB") * MIB,
            publish_all: r.bool_or("AMQP_PUBLISH_ALL", false),
            progress_interval: Duration::from_millis(r.number("AMQP_PROGRESS_INTERVAL_MS", 200, 0, 3_600_000, "milliseconds")),
            previews: r.bool_or("AMQP_PREVIEWS", false),
            required: r.bool_or("AMQP_REQUIRED", false),
            heartbeat: heartbeat_enabled.then_some(heartbeat_interval),
            instance,
        };
        (!config.uri.expose().is_empty()).then_some(config)
    }
}

impl InstanceConfig {
    /// amqp.md, "Topology": the first rule that applies.
    fn input_queue(&self) -> String {
        if let Some(id) = &self.dedicated_id {
            format!("q.instance.{id}")
        } else if let Some(id) = &self.workflow_id {
            format!("q.workflow.{id}")
        } else if self.is_free {
            "q.gpu.free".to_owned()
        } else {
            format!("q.gpu.{}", self.gpu_vram.to_ascii_lowercase())
        }
    }
}

/// Endpoints made from files.
#[derive(Debug, Clone)]
pub struct WorkflowConfig {
    /// `WORKFLOW_DIR`.
    pub dir: PathBuf,
    /// `WORKFLOW_WATCH`.
    pub watch: bool,
    /// `MARKDOWN_SCHEMA_DESCRIPTIONS`.
    pub markdown_descriptions: bool,
}

impl WorkflowConfig {
    pub(super) fn read(r: &mut Reader) -> Self {
        Self {
            dir: r.path("WORKFLOW_DIR").unwrap_or_else(|| PathBuf::from("/workflows")),
            watch: r.bool_or("WORKFLOW_WATCH", false),
            markdown_descriptions: r.bool_or("MARKDOWN_SCHEMA_DESCRIPTIONS", true),
        }
    }
}

/// What is installed before ComfyUI starts.
#[derive(Debug, Clone, Default)]
pub struct ManifestConfig {
    /// `MANIFEST_JSON`; may hold tokens in URLs.
    pub json: Option<Secret>,
    /// `MANIFEST`, a file.
    pub file: Option<PathBuf>,
    /// `VIRTUAL_ENV` or `CONDA_DEFAULT_ENV` is set: uv installs there and needs no `--system`.
    pub in_virtual_env: bool,
    /// `VIRTUAL_ENV`, the environment's directory.
    pub virtual_env: Option<PathBuf>,
    /// `PATH`: where apt-get, uv, pip, git and comfy are looked for.
    pub search_path: Vec<PathBuf>,
}

impl ManifestConfig {
    /// Reads only this section, for `check`, which looks at the manifest even if other sections have problems.
    pub fn from_reader(r: &mut Reader) -> Self {
        Self::read(r)
    }

    pub(super) fn read(r: &mut Reader) -> Self {
        let in_virtual_env = r.text("VIRTUAL_ENV").or_else(|| r.text("CONDA_DEFAULT_ENV")).is_some();
        let search_path = r.text("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default();
        Self { json: r.secret("MANIFEST_JSON"), file: r.path("MANIFEST"), in_virtual_env, virtual_env: r.path("VIRTUAL_ENV"), search_path }
    }
}
