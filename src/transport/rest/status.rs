//! `GET /status`, `GET /config`: how the server and its ComfyUI stand, and how they are set up.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use tokio::sync::watch;
use tokio::time::timeout;

use super::RouterState;
use super::query::Query;
use crate::comfy::life::Phase;
use crate::config::Config;
use crate::error::Failure;

mod samples;

pub use samples::keep as keep_samples;

/// How long ComfyUI and the disks are waited for; then what was known last is shown.
const PATIENCE: Duration = Duration::from_secs(1);
/// What was asked within this time is not asked again, however many look.
const FRESH: Duration = Duration::from_secs(1);

/// The connection to the broker, as far as it is shown.
#[derive(Clone)]
pub struct BrokerLink {
    /// Whether it stands.
    pub connected: watch::Receiver<bool>,
    /// `AMQP_REQUIRED`.
    pub required: bool,
    /// Where tasks come from.
    pub queue: String,
    /// The name under which the instance registers.
    pub instance_id: String,
    /// Tasks that are here.
    pub tasks: Arc<dyn Fn() -> usize + Send + Sync>,
}

/// What does not change in the life of the server, and what was measured last. Cheap to clone.
#[derive(Clone)]
pub struct Machine {
    inner: Arc<Inner>,
}

struct Inner {
    /// Epoch milliseconds.
    started_at: u64,
    /// Directories by the variables that name them.
    directories: Vec<(&'static str, PathBuf)>,
    features: Map<String, Value>,
    measured: Mutex<Option<(Instant, Measured)>>,
    samples: samples::Samples,
    /// One measures, the others wait for that.
    measuring: tokio::sync::Mutex<()>,
    /// Rises with every measurement that nobody has waited for.
    version: watch::Sender<u64>,
}

#[derive(Debug, Clone, Default)]
struct Measured {
    /// ComfyUI's `/system_stats`.
    stats: Value,
    disks: Vec<Value>,
    memory: Value,
}

impl Machine {
    /// Of a server that starts now.
    pub fn new(config: &Config) -> Self {
        let inner = Inner {
            started_at: crate::telemetry::logging::epoch_ms(),
            directories: directories(config),
            features: features(config),
            measured: Mutex::default(),
            samples: samples::Samples::default(),
            measuring: tokio::sync::Mutex::default(),
            version: watch::Sender::new(0),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// A number that rises when what [`view_now`] has asked for is there.
    pub fn measurements(&self) -> watch::Receiver<u64> {
        self.inner.version.subscribe()
    }

    fn fresh(&self) -> Option<Measured> {
        let measured = self.last();
        measured
            .filter(|(at, _)| at.elapsed() < FRESH)
            .map(|(_, measured)| measured)
    }

    fn last(&self) -> Option<(Instant, Measured)> {
        let measured = &self.inner.measured;
        measured.lock().clone()
    }

    async fn measured(&self, state: &RouterState) -> Measured {
        if let Some(measured) = self.fresh() {
            return measured;
        }
        let _measuring = self.inner.measuring.lock().await;
        if let Some(measured) = self.fresh() {
            return measured;
        }
        let before = self
            .last()
            .map(|(_, measured)| measured)
            .unwrap_or_default();
        let stats = async {
            // One that is down cannot answer.
            let comfy = state.comfy.any();
            let down = comfy.life.now().phase == Phase::Down;
            let asked = match down {
                true => None,
                false => timeout(PATIENCE, comfy.client.system_stats()).await.ok(),
            };
            asked.and_then(Result::ok).unwrap_or(before.stats)
        };
        let machine = self.clone();
        let looking = tokio::task::spawn_blocking(move || {
            let disks = machine.inner.directories.iter();
            let disks = disks.filter_map(|(name, path)| disk(name, path)).collect();
            (disks, memory())
        });
        let (stats, looked) = tokio::join!(stats, timeout(PATIENCE, looking));
        let (disks, memory) = match looked {
            Ok(Ok(looked)) => looked,
            _ => (before.disks, before.memory),
        };
        let measured = Measured {
            stats,
            disks,
            memory,
        };
        let kept = Some((Instant::now(), measured.clone()));
        *self.inner.measured.lock() = kept;
        measured
    }
}

/// `GET /status`
pub async fn status(State(state): State<RouterState>, query: Query) -> Result<Response, Failure> {
    let wanted = query.word("samples", &[("true", true), ("false", false)])?;
    let mut view = view(&state).await;
    if wanted == Some(true) {
        view["samples"] = state.machine.inner.samples.list();
    }
    Ok(Json(view).into_response())
}

/// `GET /config`
pub async fn config(State(state): State<RouterState>) -> Response {
    Json(&state.config.shown).into_response()
}

/// How all stands now.
pub async fn view(state: &RouterState) -> Value {
    let measured = state.machine.measured(state).await;
    view_of(state, measured)
}

/// How all stands now, with what was measured last. With `measure` that is done anew meanwhile,
/// unless it is fresh.
pub fn view_now(state: &RouterState, measure: bool) -> Value {
    if measure && state.machine.fresh().is_none() {
        let state = state.clone();
        tokio::spawn(async move {
            state.machine.measured(&state).await;
            state
                .machine
                .inner
                .version
                .send_modify(|version| *version += 1);
        });
    }
    let last = state.machine.last();
    view_of(
        state,
        last.map(|(_, measured)| measured).unwrap_or_default(),
    )
}

fn view_of(state: &RouterState, measured: Measured) -> Value {
    let mut view = Map::new();
    view.insert("version".into(), crate::VERSION.into());
    view.insert("started_at".into(), state.machine.inner.started_at.into());
    let reason = state.not_ready();
    view.insert("ready".into(), reason.is_none().into());
    if let Some(reason) = reason {
        view.insert("reason".into(), reason.into());
    }
    view.insert("comfyui".into(), comfyui(state, &measured.stats));
    if state.comfy.several() {
        view.insert("instances".into(), instances(state));
    }
    let (running, pending) = state.service.counts();
    view.insert(
        "queue".into(),
        json!({"running": running, "pending": pending}),
    );
    if let Some(broker) = &state.broker_link {
        let amqp = json!({
            "connected": *broker.connected.borrow(),
            "required": broker.required,
            "queue": broker.queue,
            "instance_id": broker.instance_id,
            "tasks": (broker.tasks)(),
        });
        view.insert("amqp".into(), amqp);
    }
    if let Some(fleet) = &state.fleet {
        view.insert("queues".into(), super::fleet::queues(fleet));
    }
    view.insert("memory".into(), measured.memory);
    view.insert("disks".into(), measured.disks.into());
    view.insert(
        "features".into(),
        state.machine.inner.features.clone().into(),
    );
    Value::Object(view)
}

fn comfyui(state: &RouterState, stats: &Value) -> Value {
    // Of several, the worst counts.
    let all = state.comfy.instances().iter();
    let worst = all.min_by_key(|comfy| rank(comfy.life.now().phase));
    let life = worst.unwrap_or(state.comfy.instance(0)).life.now();
    let system = |name: &str| stats.pointer(&format!("/system/{name}")).cloned();
    let version = system("comfyui_version")
        .or_else(|| state.comfy.catalogue().version.clone().map(Value::from))
        .unwrap_or_default();
    let phase = match state.health.now().draining {
        true => json!("draining"),
        false => json!(life.phase),
    };
    let mut view = json!({"state": phase, "version": version});
    if let Some(pid) = life.pid {
        view["pid"] = pid.into();
    }
    view["restarts"] = life.restarts.into();
    view["since"] = life.since.into();
    view["devices"] = devices(stats);
    view["python"] = system("python_version").unwrap_or_default();
    view["torch"] = system("pytorch_version").unwrap_or_default();
    view
}

/// From what is worst.
const fn rank(phase: Phase) -> u8 {
    match phase {
        Phase::Down => 0,
        Phase::Restarting => 1,
        Phase::Starting => 2,
        Phase::Ready => 3,
    }
}

/// Each of several ComfyUI.
fn instances(state: &RouterState) -> Value {
    let loads = state.comfy.loads();
    let all = state.comfy.instances().iter().zip(loads);
    let shown = all.map(|(comfy, load)| {
        let life = comfy.life.now();
        json!({
            "index": comfy.index(),
            "url": comfy.client.base(),
            "devices": comfy.config.devices,
            "state": life.phase,
            "pid": life.pid,
            "version": comfy.catalogue().version,
            "restarts": life.restarts,
            "running": load.running,
            "waiting": load.waiting,
            "models": load.models,
        })
    });
    shown.collect()
}

/// The devices with what is known of their memory, in bytes.
fn devices(stats: &Value) -> Value {
    const MEMBERS: [&str; 7] = [
        "name",
        "type",
        "index",
        "vram_total",
        "vram_free",
        "torch_vram_total",
        "torch_vram_free",
    ];
    let devices = stats.get("devices").and_then(Value::as_array);
    let devices = devices.map(Vec::as_slice).unwrap_or_default().iter();
    let shown = devices.map(|device| {
        let member = |name: &str| {
            (
                name.to_owned(),
                device.get(name).cloned().unwrap_or_default(),
            )
        };
        Value::Object(MEMBERS.map(member).into_iter().collect())
    });
    shown.collect()
}

fn directories(config: &Config) -> Vec<(&'static str, PathBuf)> {
    let always = [
        ("OUTPUT_DIR", &config.comfy.output_dir),
        ("INPUT_DIR", &config.comfy.input_dir),
        ("MODEL_DIR", &config.comfy.model_dir),
        ("CACHE_DIR", &config.storage.cache.dir),
    ];
    let sometimes = [
        ("STATE_DIR", &config.state.dir),
        ("WEBHOOK_SPOOL_DIR", &config.webhook.spool_dir),
    ];
    let sometimes = sometimes
        .into_iter()
        .filter_map(|(name, path)| Some((name, path.as_ref()?)));
    always
        .into_iter()
        .chain(sometimes)
        .map(|(name, path)| (name, path.clone()))
        .collect()
}

/// What is switched on or there. Things of their own have their own members.
fn features(config: &Config) -> Map<String, Value> {
    let features = [
        ("amqp", config.amqp.is_some()),
        ("api_keys", !config.server.api_keys.is_empty()),
        ("cache_limit", config.storage.cache.max_bytes > 0),
        ("console", config.server.console),
        ("demo", config.demo),
        ("ffmpeg", is_command(&config.media.ffmpeg)),
        ("mcp", config.mcp.enabled),
        ("restart", !config.comfy.command.is_empty()),
        ("system_webhook", config.events.url.is_some()),
        (
            "telemetry",
            config.telemetry.traces.is_some() || config.telemetry.metrics.is_some(),
        ),
        ("v2", config.state.v2_enabled),
        ("webhook_secret", !config.webhook.keys.is_empty()),
        ("webhook_spool", config.webhook.spool_dir.is_some()),
    ];
    features
        .into_iter()
        .map(|(name, on)| (name.to_owned(), on.into()))
        .collect()
}

fn is_command(command: impl AsRef<Path>) -> bool {
    let command = command.as_ref();
    if command.components().count() > 1 {
        return command.is_file();
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|dir| dir.join(command).is_file())
}

/// Of the file system that a directory is on, or will be.
fn disk(name: &str, path: &Path) -> Option<Value> {
    let there = path.ancestors().find(|path| path.exists())?;
    let stat = nix::sys::statvfs::statvfs(there).ok()?;
    let fragment = stat.fragment_size() as u64;
    let (free, total) = (stat.blocks_available() as u64, stat.blocks() as u64);
    Some(json!({"name": name, "path": path, "free": free * fragment, "total": total * fragment}))
}

/// Of the machine, and of this process, in bytes.
fn memory() -> Value {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kilobytes * 1024)
    };
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let resident = statm.split(' ').nth(1);
    let resident = resident.and_then(|pages| pages.parse::<u64>().ok());
    json!({
        "total": field("MemTotal:"),
        "free": field("MemAvailable:"),
        "process": resident.map(|pages| pages * 4096),
    })
}
