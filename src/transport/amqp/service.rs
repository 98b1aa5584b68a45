//! The handle of the AMQP transport: start, look, stop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use lapin::types::ShortString;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Duration, timeout_at};

use super::answers::Answers;
use super::host_metrics::{self, Vitals};
use super::notes::Notes;
use super::registry::Registry;
use super::reply::Replies;
use super::session::{self, Shared};
use super::sink::StreamSink;
use super::worker::{Parts, Worker};
use super::{TaskOutcome, TaskRunner, heartbeat};
use crate::broker::dial;
use crate::broker::envelope::EventFactory;
use crate::broker::outbox::Outbox;
use crate::broker::topology::Topology;
use crate::config::AmqpConfig;
use crate::events::EventSink;
use crate::telemetry::logging::epoch_ms;

/// Of a shutdown's time, what is kept for saying goodbye.
const FAREWELL: Duration = Duration::from_secs(3);
/// Pace of measuring when there are no heartbeats: only the registration looks.
const IDLE_MEASURING: Duration = Duration::from_secs(60);

/// What the transport needs to start.
pub struct Setup {
    /// `AMQP_*`, `INSTANCE_*` and `HEARTBEAT_*`.
    pub config: AmqpConfig,
    /// Runs the tasks.
    pub runner: Arc<dyn TaskRunner>,
    /// The product's version, for the registration.
    pub version: String,
    /// `SYSTEM_META_*` (and SaladCloud's), for events and the registration.
    pub metadata: BTreeMap<String, String>,
    /// For gateways: without proxy and guard.
    pub http: reqwest::Client,
}

/// The running transport.
pub struct Amqp {
    shared: Arc<Shared>,
    sink: Arc<StreamSink>,
    supervisor: Mutex<Option<JoinHandle<()>>>,
    /// Ended with the transport: heartbeat, measuring, pacing.
    companions: Vec<AbortHandle>,
}

/// What runs beside the connection: measuring, pacing, the heartbeat.
fn companions(
    shared: &Arc<Shared>,
    sink: &Arc<StreamSink>,
    host_metrics: watch::Sender<Vitals>,
    started: Instant,
) -> Vec<AbortHandle> {
    let interval = shared.config.heartbeat;
    let mut companions = vec![
        tokio::spawn(host_metrics::measure_gpus(
            host_metrics.clone(),
            interval.unwrap_or(IDLE_MEASURING),
        ))
        .abort_handle(),
        tokio::spawn({
            let sink = Arc::clone(sink);
            async move { sink.pace().await }
        })
        .abort_handle(),
    ];
    if let Some(interval) = interval {
        companions.push(
            tokio::spawn(heartbeat::run(
                Arc::clone(shared),
                interval,
                host_metrics.subscribe(),
                started,
            ))
            .abort_handle(),
        );
        companions.push(tokio::spawn(host_metrics::measure(host_metrics, interval)).abort_handle());
    }
    companions
}

impl Amqp {
    /// Starts connecting in the background and returns at once; a broker that is down is not an
    /// error.
    ///
    /// # Errors
    /// One sentence when the configuration cannot be used: the URI, or a name longer than AMQP
    /// allows.
    #[expect(
        clippy::too_many_lines,
        reason = "the parts, in the order in which they need each other"
    )]
    pub fn start(setup: Setup) -> Result<Self, String> {
        let Setup {
            config,
            runner,
            version,
            metadata,
            http,
        } = setup;
        let started = Instant::now();
        let uri = dial::parse_uri(config.uri.expose())?;
        let topology = Topology {
            exchange: short("AMQP_EXCHANGE_TOPIC", &config.exchange)?,
            queue: short("AMQP_QUEUE_INPUT (or INSTANCE_*)", &config.queue)?,
        };
        let hostname = hostname();
        let instance_id = config
            .instance
            .id
            .clone()
            .unwrap_or_else(|| format!("comfyui-api-{hostname}-{}", epoch_ms()));
        short("INSTANCE_ID", &instance_id)?;
        let broker = dial::public_name(&uri);
        log_settings(&config, &broker, &instance_id);

        let outbox = Outbox::new(config.max_result_bytes).into_exchange(&config.exchange);
        let outbox = Arc::new(outbox);
        let events = EventFactory::new(&metadata);
        let sink = Arc::new(StreamSink::new(
            Arc::clone(&outbox),
            config.publish_all,
            config.previews,
            config.progress_interval,
        ));
        let notes = Notes::new(config.notes_dir.clone());
        notes.clean();
        let parts = Parts {
            runner: Arc::clone(&runner),
            outbox: Arc::clone(&outbox),
            sink: Arc::clone(&sink),
            answers: Answers::new(events.clone(), config.max_result_bytes),
            notes,
            replies: Replies {
                instance: instance_id.as_str().into(),
                outbox: Arc::clone(&outbox),
                events: events.clone(),
            },
            http,
        };
        let worker = Arc::new(Worker::new(&config, parts));
        let host_metrics = watch::Sender::new(Vitals::default());
        let registry = Registry::new(
            &config,
            &instance_id,
            &version,
            &metadata,
            &hostname,
            host_metrics.subscribe(),
        );
        let shared = Arc::new(Shared {
            config,
            uri,
            broker,
            topology,
            instance_id,
            runner,
            worker,
            outbox,
            events,
            registry,
            connected: watch::Sender::new(false),
            stop_consuming: tokio_util::sync::CancellationToken::new(),
            farewell: tokio_util::sync::CancellationToken::new(),
            reason: Mutex::default(),
            pulse: watch::Sender::new(None),
        });
        let companions = companions(&shared, &sink, host_metrics, started);
        let supervisor = tokio::spawn({
            let shared = Arc::clone(&shared);
            async move { session::supervise(&shared).await }
        });
        Ok(Self {
            shared,
            sink,
            supervisor: Mutex::new(Some(supervisor)),
            companions,
        })
    }

    /// The listener for events of prompts; give it to [`crate::events::Events::connect`].
    pub fn sink(&self) -> Arc<dyn EventSink> {
        Arc::clone(&self.sink) as Arc<dyn EventSink>
    }

    /// Whether the broker connection stands and is set up.
    pub fn connected(&self) -> bool {
        *self.shared.connected.borrow()
    }

    /// [`Amqp::connected`], and its changes.
    pub fn connection(&self) -> watch::Receiver<bool> {
        self.shared.connected.subscribe()
    }

    /// The queue that tasks come from.
    pub fn queue(&self) -> &str {
        &self.shared.config.queue
    }

    /// `AMQP_REQUIRED`: [`Amqp::connected`] counts for `/ready`.
    pub fn required(&self) -> bool {
        self.shared.config.required
    }

    /// The name under which the instance registers.
    pub fn instance_id(&self) -> &str {
        &self.shared.instance_id
    }

    /// Tasks that are here: running, or waiting for a slot or for the broker's confirm.
    pub fn tasks(&self) -> usize {
        self.shared.worker.len()
    }

    /// Takes no more tasks, at once and for good. What was delivered and not started goes back.
    pub fn stop_consuming(&self) {
        self.shared.stop_consuming.cancel();
    }

    /// Resolves when no task is here any more; for the grace period between
    /// [`Amqp::stop_consuming`] and [`Amqp::shutdown`].
    pub async fn idle(&self) {
        while self.tasks() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// With `AMQP_PUBLISH_ALL`: publishes the end of a prompt that came through another transport.
    /// Does nothing otherwise. Never waits for the broker.
    pub async fn publish_result(&self, id: &str, outcome: &TaskOutcome) {
        if self.shared.config.publish_all {
            self.shared.worker.publish_result(id, outcome).await;
        }
    }

    /// Ends the transport: unfinished tasks go back into the queue, results are flushed, the
    /// instance unregisters, the connection closes. Whatever is not done by the deadline is left to
    /// the broker, which requeues what has no answer.
    pub async fn shutdown(&self, deadline: Instant, reason: &str) {
        self.stop_consuming();
        self.shared.worker.give_everything_back();
        let left = deadline.saturating_duration_since(Instant::now());
        let work_until = deadline - FAREWELL.min(left / 2);
        let in_time = timeout_at(work_until.into(), async {
            self.shared.worker.empty().await;
            self.shared.outbox.flushed().await;
        });
        if in_time.await.is_err() {
            tracing::warn!(
                tasks = self.tasks(),
                "AMQP shutdown is late: tasks without an answer are left to the broker, which \
                 delivers them again"
            );
        }
        reason.clone_into(&mut self.shared.reason.lock());
        self.end_companions();
        self.shared.farewell.cancel();
        let supervisor = self.supervisor.lock().take();
        if let Some(mut supervisor) = supervisor
            && timeout_at(deadline.into(), &mut supervisor).await.is_err()
        {
            supervisor.abort();
        }
    }

    fn end_companions(&self) {
        for companion in &self.companions {
            companion.abort();
        }
    }
}

/// A transport that is dropped without [`Amqp::shutdown`] closes its connection; the broker
/// requeues its tasks.
impl Drop for Amqp {
    fn drop(&mut self) {
        self.end_companions();
        if let Some(supervisor) = self.supervisor.lock().take() {
            supervisor.abort();
        }
    }
}

fn log_settings(config: &AmqpConfig, broker: &str, instance_id: &str) {
    tracing::info!(
        broker,
        queue = config.queue,
        exchange = config.exchange,
        prefetch = config.prefetch,
        max_attempts = config.max_attempts,
        instance_id,
        gpu_vram = config.instance.gpu_vram,
        dedicated_id = config.instance.dedicated_id,
        workflow_id = config.instance.workflow_id,
        is_free = config.instance.is_free,
        "AMQP is on"
    );
}

fn short(variable: &str, text: &str) -> Result<ShortString, String> {
    ShortString::try_new(text).map_err(|_| {
        format!("{variable} is longer than the 255 bytes that AMQP allows for a name: shorten it")
    })
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
