//! The HTTP server, and how logs look.

use std::time::Duration;

use url::Url;

use super::MIB;
use crate::config::{Reader, Secret};

/// The HTTP server.
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
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let cors_allowed_origins = r.list("CORS_ALLOWED_ORIGINS");
        for origin in &cors_allowed_origins {
            if origin != "*"
                && !Url::parse(origin).is_ok_and(|url| {
                    url.has_host() && url.origin().ascii_serialization() == *origin
                })
            {
                r.problem(format!("CORS_ALLOWED_ORIGINS: \"{origin}\" is not an origin: write it like https://app.example.com, or *"));
            }
        }
        Self {
            host: r.text_or("HOST", "::"),
            port: r.number("PORT", 3000, 0, u16::MAX, "a TCP port"),
            max_body_bytes: usize::try_from(
                (r.number("MAX_BODY_SIZE_MB", 100.0_f64, 0.001, 1_048_576.0, "MiB") * MIB as f64)
                    as u64,
            )
            .unwrap_or(usize::MAX),
            api_keys: r.list("API_KEYS").into_iter().map(Secret::new).collect(),
            metrics_require_key: r.bool_or("METRICS_REQUIRE_KEY", false),
            cors_allowed_origins,
            max_queue_depth: r.number(
                "MAX_QUEUE_DEPTH",
                0,
                0,
                u64::from(u32::MAX),
                "prompts, 0 for no limit",
            ),
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
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let format = match r
            .one_of("LOG_FORMAT", "auto", &["json", "pretty", "auto"])
            .as_str()
        {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            _ => LogFormat::Auto,
        };
        Self {
            level: r.one_of(
                "LOG_LEVEL",
                "info",
                &["trace", "debug", "info", "warn", "error", "fatal"],
            ),
            format,
        }
    }
}
