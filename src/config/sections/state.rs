//! What survives, and the Comfy API v2.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Map, Value};

use super::absolute;
use crate::config::Reader;
use crate::config::variables::Variable;
use crate::config::variables::amqp::API_URL;
use crate::config::variables::v2::*;
use crate::fields;

const GIB: f64 = (1_u64 << 30) as f64;
const HOUR: f64 = 3600.0;

/// The store, and the Comfy API v2 on top of it.
#[derive(Debug, Clone)]
pub struct StateConfig {
    /// `V2_ENABLED`.
    pub v2_enabled: bool,
    /// `STATE_DIR`; `None` when it is not set and there is no home directory.
    pub dir: Option<PathBuf>,
    /// `V2_RETENTION_HOURS`.
    pub retention: Duration,
    /// `V2_ASSET_RETENTION_HOURS`.
    pub asset_retention: Duration,
    /// `V2_STORE_MAX_GB` in bytes.
    pub max_bytes: u64,
    /// `V2_MAX_JOBS`.
    pub max_jobs: u64,
    /// `V2_MAX_UPLOAD_MB` in bytes.
    pub max_upload_bytes: u64,
    /// `V2_LONG_POLL_S`.
    pub long_poll_s: u64,
    /// `V2_MAX_STREAMS`; 0 means no limit.
    pub max_streams: usize,
    /// `V2_MAX_ATTEMPTS`.
    pub max_attempts: i64,
    /// `V2_QUEUE_TIMEOUT_S`; `None` means never.
    pub queue_timeout: Option<Duration>,
    /// `V2_DEFAULTS`.
    pub defaults: Map<String, Value>,
    /// `KEEP_RUNS`.
    pub keep_runs: bool,
    /// `HISTORY_RUNS`.
    pub history_runs: usize,
    /// `API_URL`: what absolute addresses begin with, without a slash at the end.
    pub api_url: Option<String>,
}

impl StateConfig {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let home = r
            .foreign("HOME")
            .map(PathBuf::from)
            .map(|home| home.join(".local/state/comfyui-api"));
        let hours = |r: &mut Reader, variable: &Variable| {
            Duration::from_secs_f64(r.number::<f64>(variable) * HOUR)
        };
        let queue_timeout = r.seconds(&V2_QUEUE_TIMEOUT_S);
        Self {
            v2_enabled: r.flag(&V2_ENABLED),
            dir: r.path(&STATE_DIR).or(home).map(absolute),
            retention: hours(r, &V2_RETENTION_HOURS),
            asset_retention: hours(r, &V2_ASSET_RETENTION_HOURS),
            max_bytes: (r.number::<f64>(&V2_STORE_MAX_GB) * GIB) as u64,
            max_jobs: r.number(&V2_MAX_JOBS),
            max_upload_bytes: (r.number::<f64>(&V2_MAX_UPLOAD_MB) * super::MIB as f64) as u64,
            long_poll_s: r.number(&V2_LONG_POLL_S),
            max_streams: r.number(&V2_MAX_STREAMS),
            max_attempts: r.number(&V2_MAX_ATTEMPTS),
            queue_timeout: (!queue_timeout.is_zero()).then_some(queue_timeout),
            defaults: defaults(r),
            keep_runs: r.flag(&KEEP_RUNS),
            history_runs: r.number(&HISTORY_RUNS),
            api_url: r
                .text(&API_URL)
                .filter(|text| url::Url::parse(text).is_ok_and(|url| url.has_host()))
                .map(|text| text.trim_end_matches('/').to_owned()),
        }
    }
}

fn defaults(r: &mut Reader) -> Map<String, Value> {
    let Some(text) = r.text(&V2_DEFAULTS) else {
        return Map::new();
    };
    // The value may hold credentials, so it is not repeated.
    match serde_json::from_str(&text) {
        Ok(Value::Object(members)) => {
            if let Some(odd) = members.keys().find(|name| !fields::is_option(name)) {
                let odd: String = odd.chars().take(60).collect();
                r.problem(format!(
                    "V2_DEFAULTS: \"{odd}\" is not one of {}",
                    fields::options().collect::<Vec<_>>().join(", ")
                ));
            }
            members
        }
        Ok(_) => {
            r.problem(
                "V2_DEFAULTS is not a JSON object such as {\"convert_output\": {\"format\": \
                 \"webp\"}}",
            );
            Map::new()
        }
        Err(error) => {
            r.problem(format!("V2_DEFAULTS is not JSON: {error}"));
            Map::new()
        }
    }
}
