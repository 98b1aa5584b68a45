//! The ComfyUI that is started or attached to.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::absolute;
use super::instances::{self, ComfyInstance};
use crate::config::Reader;
use crate::config::variables::comfy::*;
use crate::config::variables::prompts::PROMPT_TIMEOUT_S;

/// Where the warmup prompt comes from.
#[derive(Debug, Clone)]
pub enum WarmupSource {
    /// `WARMUP_PROMPT_FILE`.
    File(PathBuf),
    /// `WARMUP_PROMPT_URL`.
    Url(Url),
}

/// The ComfyUI that is started or attached to; where there are several, what they have in common,
/// and one of them.
#[derive(Debug, Clone)]
pub struct ComfyConfig {
    /// Every ComfyUI, this one included.
    pub instances: Arc<[ComfyInstance]>,
    /// The number of this one.
    pub index: usize,
    /// Its GPUs, where they are said.
    pub devices: Option<String>,
    /// Its own directory for temporary files, to be made before it starts.
    pub temp: Option<PathBuf>,
    /// `MODEL_SWITCH_JOBS`.
    pub model_switch_jobs: usize,
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
    /// `PROMPT_TIMEOUT_S`; zero means none.
    pub prompt_timeout: Duration,
    /// `WS_IDLE_TIMEOUT_S`.
    pub ws_idle_timeout: Duration,
    /// The warmup prompt, if there is one.
    pub warmup: Option<WarmupSource>,
}

impl ComfyConfig {
    pub(in crate::config) fn read(r: &mut Reader) -> Self {
        let home = absolute(r.path_or(&COMFY_HOME));
        let attached =
            r.set_but_empty(&CMD) || r.text(&CMD).is_none() && r.text(&COMFYUI_URLS).is_some();
        let command = if attached {
            Vec::new()
        } else {
            let text = r.text_or(&CMD);
            shell_words::split(&text).unwrap_or_else(|_| {
                r.problem(
                    "CMD has an unclosed quote: write it as a shell would accept it".to_owned(),
                );
                Vec::new()
            })
        };
        let warmup_url = r.url(&WARMUP_PROMPT_URL);
        let base = r.text_or(&BASE);
        let common = instances::Common {
            command: &command,
            address: &r.text_or(&DIRECT_ADDRESS),
            port: r.port(&COMFYUI_PORT_HOST, false),
            home: &home,
        };
        let instances: Arc<[ComfyInstance]> = instances::read(r, &common).into();
        let several = instances.len() > 1;
        let config = Self {
            index: 0,
            ai_dock: base == "ai-dock",
            // What is each one's own is set below.
            command: Vec::new(),
            address: String::new(),
            port: 0,
            devices: None,
            temp: None,
            instances,
            model_switch_jobs: r.number(&MODEL_SWITCH_JOBS),
            input_dir: r
                .path(&INPUT_DIR)
                .map_or_else(|| home.join("input"), absolute),
            output_dir: r
                .path(&OUTPUT_DIR)
                .map_or_else(|| home.join("output"), absolute),
            model_dir: r
                .path(&MODEL_DIR)
                .map_or_else(|| home.join("models"), absolute),
            always_restart: r.bool(&ALWAYS_RESTART_COMFYUI).unwrap_or(several),
            startup_check_interval: r.seconds(&STARTUP_CHECK_INTERVAL_S),
            startup_check_max_tries: r.number(&STARTUP_CHECK_MAX_TRIES),
            hang_timeout: r.seconds(&COMFYUI_HANG_TIMEOUT_S),
            prompt_timeout: r.seconds(&PROMPT_TIMEOUT_S),
            ws_idle_timeout: r.seconds(&WS_IDLE_TIMEOUT_S),
            warmup: r
                .path(&WARMUP_PROMPT_FILE)
                .map(WarmupSource::File)
                .or(warmup_url.map(WarmupSource::Url)),
            home,
        };
        config.of(0)
    }

    /// The configuration of one of them.
    pub fn of(&self, index: usize) -> Self {
        let Some(one) = self.instances.get(index) else {
            return self.clone();
        };
        Self {
            index,
            command: one.command.clone(),
            address: one.address.clone(),
            port: one.port,
            devices: one.devices.clone(),
            temp: one.temp.clone(),
            ..self.clone()
        }
    }

    /// Whether there are several.
    pub fn several(&self) -> bool {
        self.instances.len() > 1
    }

    /// Its number where there are several: for everything that is shown, which stays as it was
    /// where there is one.
    pub fn label(&self) -> Option<usize> {
        self.several().then_some(self.index)
    }

    /// Several that we start must not meet our own port.
    pub(in crate::config) fn check_ports(&self, r: &mut Reader, ours: u16) {
        let meets = |instance: &&ComfyInstance| instance.port == ours;
        let started = self.several() && !self.command.is_empty();
        if let Some(instance) = self.instances.iter().find(meets).filter(|_| started) {
            r.problem(format!(
                "COMFYUI_PORT_HOST={}: ComfyUI {} would listen on {ours}, which is PORT: choose \
                 another PORT or COMFYUI_PORT_HOST",
                self.instances[0].port, instance.index
            ));
        }
    }

    /// `host:port` of ComfyUI, an IPv6 address in brackets; `0.0.0.0` and `::` become the loopback
    /// address.
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
