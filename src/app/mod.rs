//! The only place that knows everything: builds the parts from the configuration, starts and stops
//! them in order.

mod amqp_bridge;
mod connection;
mod context;
mod disk;
mod gateway;
mod greeting;
mod idle;
mod lifecycle;
mod shutdown;
mod starts;
mod warmup;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::comfy::Comfy;
use crate::comfy::pool::Pool;
use crate::config::{Config, StateConfig};
use crate::durable::{DurableJobs, Rules};
use crate::events::{EventSink, Events};
use crate::fleet::Fleet;
use crate::health::Health;
use crate::history::{History, Memory};
use crate::job::remote::Remote;
use crate::job::{Parts, Service};
use crate::media::Media;
use crate::net::Outbound;
use crate::storage::Storage;
use crate::store::{Limits, Store};
use crate::telemetry::metrics;
use crate::telemetry::otlp::{Exporter, Refresh};
use crate::transport::amqp::{Amqp, Setup};
use crate::transport::mcp::{self, McpState};
use crate::transport::rest::{self, BrokerLink, Machine, OpenStreams, RouterState};
use crate::transport::v2::{self, V2State};
use crate::webhook::system::SystemWebhook;
use crate::webhook::{Webhooks, salad};
use crate::workflow::Workflows;

/// Every part, wired.
pub(crate) struct App {
    pub config: Arc<Config>,
    pub health: Health,
    pub outbound: Outbound,
    pub comfy: Pool,
    pub storage: Storage,
    pub webhooks: Webhooks,
    pub system_webhook: Option<SystemWebhook>,
    pub workflows: Workflows,
    pub service: Service,
    pub media: Media,
    pub store: Store,
    pub durable: DurableJobs,
    /// Sends spans and metrics to a collector, if there is one.
    pub exporter: Option<Exporter>,
    pub history: History,
    /// What runs the jobs, where this is a gateway.
    pub fleet: Option<Fleet>,
    pub amqp: OnceLock<Arc<Amqp>>,
    /// What the warmup prompt's checkpoint is called, for workflow files.
    pub warmup_checkpoint: Arc<OnceLock<String>>,
    /// Where we listen.
    pub address: OnceLock<SocketAddr>,
    /// Cancelled when the process shall end.
    pub stop: CancellationToken,
    /// Cancelled when the last answers are to end.
    pub closing: CancellationToken,
    /// When the grace period of the shutdown ends, once it has begun.
    pub grace_ends: OnceLock<Instant>,
}

/// Why the process ends before anybody asked it to.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Fatal(pub String);

/// Serves until told to stop, or until something fatal happens.
pub async fn serve(config: Config) -> ExitCode {
    match run(config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fatal(reason)) => {
            error!("{reason}");
            ExitCode::FAILURE
        }
    }
}

async fn run(config: Config) -> Result<(), Fatal> {
    let stop = shutdown::on_signal();
    let app = Arc::new(App::build(config, stop)?);
    let listener = rest::bind(&app.config.server).await.map_err(|error| {
        Fatal(format!(
            "cannot listen on HOST={} PORT={}: {error}{}",
            app.config.server.host,
            app.config.server.port,
            if error.kind() == std::io::ErrorKind::AddrInUse {
                "; another program has that port: choose another PORT"
            } else {
                ""
            }
        ))
    })?;
    if let Ok(address) = listener.address() {
        let _ = app.address.set(address);
        info!(version = crate::VERSION, address = %address, "listening");
    }
    app.durable.take_up().await;
    let closing = app.closing.clone();
    let state = app.router_state();
    if app.config.server.console {
        tokio::spawn(rest::keep_samples(state.clone()));
    }
    let server = tokio::spawn(listener.serve(
        rest::router(
            state,
            v2::router(app.v2_state()),
            mcp::router(app.mcp_state()),
        ),
        closing.clone(),
    ));
    app.start_background();
    let ended = match &app.fleet {
        Some(fleet) => {
            gateway::keep(&app, fleet).await;
            Ok(())
        }
        None => lifecycle::keep(&app).await,
    };
    shutdown::wind_down(&app, closing, server, ended.is_err()).await;
    ended.map(drop)
}

/// On the disk of this machine that keeps 1 GiB for others.
const DISK_RESERVE: u64 = 1 << 30;

fn open_store(config: &StateConfig) -> Result<Store, Fatal> {
    let limits = Limits {
        retention: config.retention,
        asset_retention: config.asset_retention,
        max_bytes: config.max_bytes,
        max_jobs: config.max_jobs,
        reserve: DISK_RESERVE,
    };
    let (store, notes) = Store::open(config.dir.as_deref(), limits)
        .map_err(|reason| Fatal(format!("cannot open a store: {reason}")))?;
    for note in notes {
        if note.contains("set aside") {
            error!("{note}");
        } else {
            warn!("{note}");
        }
    }
    Ok(store)
}

/// Every ComfyUI, and whether they are ready.
fn comfyuis(config: &Arc<Config>, outbound: &Outbound, events: &Events) -> (Pool, Health) {
    let count = config.comfy.instances.len();
    crate::telemetry::metrics::comfyuis(count);
    let health = Health::new(count);
    let one = |index: usize| {
        Comfy::new(
            Arc::new(config.comfy.of(index)),
            outbound.comfyui().clone(),
            events.clone(),
            health.of(index),
            // A gateway has none of a ComfyUI's.
            disk::folders(config, config.is_gateway),
        )
    };
    let comfy = (0..count).map(one).collect();
    let comfy = Pool::new(comfy, &config.comfy, health.clone());
    (comfy, health)
}

fn rules(config: &Config) -> Rules {
    Rules {
        max_attempts: config.state.max_attempts,
        queue_timeout: config.state.queue_timeout,
        address_lives: config.storage.signed_url_expiry,
        attached: config.comfy.command.is_empty() && !config.is_gateway,
        max_unfinished: usize::try_from(config.state.max_jobs).unwrap_or(usize::MAX),
    }
}

/// Brings the gauges up to date.
fn refresh(service: Service, comfy: Pool) -> Refresh {
    Arc::new(move || {
        metrics::process();
        let queues = comfy.instances().iter().map(|comfy| {
            let length = *comfy.watch.queue_remaining().borrow();
            (comfy.label(), length)
        });
        metrics::queue(service.in_flight(), queues);
    })
}

impl App {
    #[expect(
        clippy::too_many_lines,
        reason = "the parts, in the order in which they need each other"
    )]
    fn build(config: Config, stop: CancellationToken) -> Result<Self, Fatal> {
        let config = Arc::new(config);
        crate::limits::bodies::configure(config.server.max_body_bytes);
        let open = config.server.api_keys.is_empty();
        for warning in config.storage.warnings(open) {
            tracing::warn!("{warning}");
        }
        let outbound = Outbound::new(&config.storage)
            .map_err(|reason| Fatal(format!("cannot set up outgoing connections: {reason}")))?;
        let events = Events::default();
        let (comfy, health) = comfyuis(&config, &outbound, &events);
        let storage = Storage::new(&config.storage, outbound.clone(), events.clone());
        let webhooks = Webhooks::new(&config.webhook, outbound.clone());
        let system_webhook = SystemWebhook::new(
            &config.events,
            &config.webhook,
            outbound.clone(),
            webhooks.deliveries().clone(),
        );
        let warmup_checkpoint = Arc::new(OnceLock::new());
        let workflows = Workflows::new(
            &config.workflow,
            Arc::new(context::LiveContext::new(
                &config,
                comfy.clone(),
                warmup_checkpoint.clone(),
            )),
        );
        let store = open_store(&config.state)?;
        let fleet = gateway::fleet(&config, &store, &health, &comfy)?;
        let media = Media::new(&config.media);
        let memory = Arc::new(Memory::new(config.state.history_runs, comfy.clone()));
        let service = Service::new(Parts {
            config: config.prompt.clone(),
            comfy_config: config.comfy.clone(),
            comfy: comfy.clone(),
            max_runs: u32::try_from(config.state.max_attempts).unwrap_or(u32::MAX),
            storage: storage.clone(),
            media: media.clone(),
            webhooks: webhooks.clone(),
            outbound: outbound.clone(),
            events: events.clone(),
            health: health.clone(),
            store: store.clone(),
            witness: memory.clone(),
            journal_dir: config.storage.cache.dir.join(".in-flight"),
            remote: fleet
                .clone()
                .map(|fleet| Arc::new(fleet) as Arc<dyn Remote>),
        });
        let durable = DurableJobs::new(
            service.clone(),
            store.clone(),
            comfy.clone(),
            health.clone(),
            rules(&config),
        );
        let exporter = Exporter::start(
            &config.telemetry,
            &outbound,
            refresh(service.clone(), comfy.clone()),
        );
        let history = History::new(
            memory,
            service.clone(),
            durable.clone(),
            comfy.clone(),
            media.clone(),
            webhooks.clone(),
        );
        let app = Self {
            health,
            outbound,
            comfy,
            storage,
            webhooks,
            system_webhook,
            workflows,
            service,
            media,
            store,
            durable,
            exporter,
            history,
            fleet,
            amqp: OnceLock::new(),
            warmup_checkpoint,
            address: OnceLock::new(),
            stop,
            closing: CancellationToken::new(),
            grace_ends: OnceLock::new(),
            config,
        };
        app.connect_broker()?;
        app.connect_events(&events);
        Ok(app)
    }

    /// Whoever listens to events, is told from now on.
    fn connect_events(&self, events: &Events) {
        let mut sinks: Vec<Arc<dyn EventSink>> = Vec::new();
        sinks.extend(
            self.system_webhook
                .clone()
                .map(|sink| Arc::new(sink) as Arc<dyn EventSink>),
        );
        sinks.extend(self.amqp.get().map(|amqp| amqp.sink()));
        events.connect(sinks);
    }

    /// Starts the AMQP transport; it takes tasks only once the product is ready.
    fn connect_broker(&self) -> Result<(), Fatal> {
        let Some(config) = self.config.amqp.clone().filter(|_| self.fleet.is_none()) else {
            return Ok(());
        };
        let publish_all = config.publish_all;
        let runner = Arc::new(amqp_bridge::Runner::new(
            self.service.clone(),
            self.comfy.clone(),
            self.health.clone(),
            self.workflows.clone(),
        ));
        let setup = Setup {
            config,
            runner,
            version: crate::VERSION.to_owned(),
            metadata: self.config.events.metadata.clone(),
            http: self.outbound.comfyui().clone(),
        };
        let amqp = Arc::new(Amqp::start(setup).map_err(Fatal)?);
        if publish_all {
            amqp_bridge::publish_results(&self.service, &amqp);
        }
        let _ = self.amqp.set(amqp);
        Ok(())
    }

    fn start_background(&self) {
        tokio::spawn(idle::give_memory_back(self.service.clone()));
        let service = self.service.clone();
        tokio::spawn(async move { service.keep_telling_positions().await });
        let store = self.store.clone();
        tokio::spawn(async move { store.keep_clean().await });
        tokio::spawn(disk::watch(
            self.health.clone(),
            self.comfy.instance(0).folders.clone(),
        ));
        self.webhooks.start();
        if let Some(system) = &self.system_webhook {
            system.start();
        }
        if self.config.events.on_salad_cloud
            && let Ok(base) = url::Url::parse(salad::METADATA_SERVICE)
        {
            tokio::spawn(salad::follow_queue(
                self.comfy.queue_length(),
                self.outbound.clone(),
                base,
            ));
        }
    }

    fn v2_state(&self) -> V2State {
        Arc::new(v2::Services {
            config: self.config.clone(),
            jobs: self.durable.clone(),
            health: self.health.clone(),
            comfy: self.comfy.clone(),
            media: self.media.clone(),
            streams: Arc::default(),
        })
    }

    fn mcp_state(&self) -> McpState {
        McpState {
            rest: self.router_state(),
            jobs: self.durable.clone(),
            media: self.media.clone(),
            listeners: Arc::default(),
            previews: Arc::new(tokio::sync::Semaphore::new(2)),
        }
    }

    fn router_state(&self) -> RouterState {
        let amqp = self.amqp.get().cloned();
        let broker_link = amqp.clone().map(|amqp| BrokerLink {
            connected: amqp.connection(),
            required: amqp.required(),
            queue: amqp.queue().to_owned(),
            instance_id: amqp.instance_id().to_owned(),
            tasks: Arc::new(move || amqp.tasks()),
        });
        Arc::new(rest::Services {
            fleet: self.fleet.clone(),
            broker_link,
            machine: Machine::new(&self.config),
            streams: OpenStreams::default(),
            closing: self.closing.clone(),
            config: self.config.clone(),
            health: self.health.clone(),
            service: self.service.clone(),
            comfy: self.comfy.clone(),
            storage: self.storage.clone(),
            outbound: self.outbound.clone(),
            webhooks: self.webhooks.clone(),
            workflows: self.workflows.clone(),
            durable: self.durable.clone(),
            history: self.history.clone(),
            broker: Arc::new(move || {
                let missing = amqp
                    .as_ref()
                    .is_some_and(|amqp| amqp.required() && !amqp.connected());
                missing.then(|| {
                    "the AMQP broker is not connected, and AMQP_REQUIRED is true".to_owned()
                })
            }),
        })
    }
}
