//! The HTTP server, and how logs look.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::MIB;
use crate::config::variables::server::*;
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
    /// `ALLOWED_HOSTS`, in lower case and without ports.
    pub allowed_hosts: Vec<String>,
    /// `MAX_QUEUE_DEPTH`; 0 means no limit.
    pub max_queue_depth: u64,
    /// `SHUTDOWN_GRACE_S`.
    pub shutdown_grace: Duration,
    /// `CONSOLE`: whether the web console is served.
    pub console: bool,
    /// `CONSOLE_DIR`: where its files are read from instead of the binary.
    pub console_dir: Option<PathBuf>,
}

impl ServerConfig {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let cors_allowed_origins = r.list(&CORS_ALLOWED_ORIGINS);
        for origin in &cors_allowed_origins {
            if origin != "*"
                && !Url::parse(origin).is_ok_and(|url| {
                    url.has_host() && url.origin().ascii_serialization() == *origin
                })
            {
                r.problem(format!(
                    "CORS_ALLOWED_ORIGINS: \"{origin}\" is not an origin: write it like \
                         https://app.example.com, or *"
                ));
            }
        }
        let api_keys: Vec<Secret> = r.list(&API_KEYS).into_iter().map(Secret::new).collect();
        Self {
            host: r.text_or(&HOST),
            port: r.port(&PORT, false),
            max_body_bytes: usize::try_from(
                (r.number::<f64>(&MAX_BODY_SIZE_MB) * MIB as f64) as u64,
            )
            .unwrap_or(usize::MAX),
            metrics_require_key: read_metrics_require_key(r, !api_keys.is_empty()),
            api_keys,
            cors_allowed_origins,
            allowed_hosts: r
                .list(&ALLOWED_HOSTS)
                .iter()
                .filter_map(|host| host.parse::<axum::http::uri::Authority>().ok())
                .map(|host| host.host().to_ascii_lowercase())
                .collect(),
            max_queue_depth: r.number(&MAX_QUEUE_DEPTH),
            shutdown_grace: r.seconds(&SHUTDOWN_GRACE_S),
            console: r.flag(&CONSOLE),
            console_dir: read_console_dir(r),
        }
    }
}

/// A folder that is none would make the console a row of 404.
fn read_console_dir(r: &mut Reader) -> Option<PathBuf> {
    let directory = r.path(&CONSOLE_DIR)?;
    if !directory.join("index.html").is_file() {
        r.problem(format!(
            "CONSOLE_DIR: there is no index.html in {}: name a folder with the console's files, \
             or leave it unset",
            directory.display()
        ));
    }
    Some(directory)
}

/// Asking for a key that nobody can have would leave open what was to be closed (faults.md, F05).
fn read_metrics_require_key(r: &mut Reader, has_keys: bool) -> bool {
    let required = r.flag(&METRICS_REQUIRE_KEY);
    if required && !has_keys && r.text(&API_KEYS).is_none() {
        r.problem(
            "METRICS_REQUIRE_KEY is true, but there are no API_KEYS: set API_KEYS, or \
             METRICS_REQUIRE_KEY=false",
        );
    }
    required
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
        let format = match r.one_of(&LOG_FORMAT).as_str() {
            "json" => LogFormat::Json,
            "pretty" => LogFormat::Pretty,
            _ => LogFormat::Auto,
        };
        let mut level = r.one_of(&LOG_LEVEL);
        if level == "silent" {
            // The Node server's logger has it; ours always says why it ends.
            r.warning("LOG_LEVEL=\"silent\" is understood as fatal: only errors are logged");
            "fatal".clone_into(&mut level);
        }
        Self { level, format }
    }
}
