//! What the tests of this folder share: a transport with a scripted runner, and a client of the
//! fleet.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use comfyui_api::config::{AmqpConfig, Config};
use comfyui_api::document::Document;
use comfyui_api::error::{Code, Failure};
use comfyui_api::transport::amqp::{Amqp, Load, Setup, TaskOutcome, TaskRun, TaskRunner};
use lapin::Connection;
use serde_json::{Map, Value, json};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::client::Client;
use crate::support::chaos_proxy::ChaosProxy;
use crate::support::rabbitmq::RabbitMq;

/// Long enough for a loaded machine; nothing waits for it when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A configuration as the environment would make it, with queue and exchange of its own.
pub fn config(uri: &str, name: &str, more: &[(&str, &str)]) -> AmqpConfig {
    let mut variables = BTreeMap::from([
        ("AMQP_URL".to_owned(), uri.to_owned()),
        ("AMQP_QUEUE_INPUT".to_owned(), format!("in.{name}")),
        ("AMQP_EXCHANGE_TOPIC".to_owned(), format!("topic.{name}")),
    ]);
    variables.extend(
        more.iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
    );
    Config::from_env(&variables).unwrap().amqp.unwrap()
}

/// A name nobody else uses.
pub fn unique(name: &str) -> String {
    format!("{name}.{}", uuid::Uuid::new_v4().simple())
}

/// Does what the task's body says: `{"do": "succeed" | "refuse" | "interrupt" | "fail" | "hold" |
/// "panic", "ms": 5, "bytes": 10}`.
pub struct ScriptedRunner {
    pub ready: watch::Sender<bool>,
    /// The ids in the order of their starts.
    pub runs: Mutex<Vec<String>>,
    /// Those that no attempt follows.
    pub given_up: Mutex<Vec<String>>,
    /// Tasks that `hold` end when there is a permit.
    pub release: Semaphore,
    running: AtomicUsize,
    pub most_at_a_time: AtomicUsize,
    pub load: Mutex<Load>,
}

impl ScriptedRunner {
    pub fn new(ready: bool) -> Arc<Self> {
        Arc::new(Self {
            ready: watch::Sender::new(ready),
            runs: Mutex::default(),
            given_up: Mutex::default(),
            release: Semaphore::new(0),
            running: AtomicUsize::new(0),
            most_at_a_time: AtomicUsize::new(0),
            load: Mutex::new(Load {
                available: true,
                ..Load::default()
            }),
        })
    }

    pub fn runs(&self) -> Vec<String> {
        self.runs.lock().unwrap().clone()
    }

    async fn act(
        &self,
        id: &str,
        body: &Map<String, Value>,
        give_back: CancellationToken,
    ) -> TaskOutcome {
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| body.get(name).and_then(Value::as_u64).unwrap_or(0);
        tokio::time::sleep(Duration::from_millis(number("ms"))).await;
        match text("do") {
            "refuse" => {
                let mut failure = Failure::new(Code::InvalidPrompt, "The graph is bad.")
                    .with_details(json!({"traceback": ["a\n", "b"]}));
                failure.node_errors = Some(json!({"3": {}}));
                TaskOutcome::Failed(failure)
            }
            "interrupt" => {
                TaskOutcome::Failed(Failure::new(Code::ExecutionInterrupted, "Interrupted."))
            }
            "fail" => {
                TaskOutcome::Failed(Failure::new(Code::Internal, "The disk is full.").transient())
            }
            "panic" => panic!("as the task asked"),
            "hold" => tokio::select! {
                permit = self.release.acquire() => {
                    permit.unwrap().forget();
                    success(id, 1)
                }
                () = give_back.cancelled() => TaskOutcome::Failed(
                    Failure::new(Code::ShuttingDown, "The server is shutting down.")
                ),
            },
            _ => success(id, usize::try_from(number("bytes")).unwrap()),
        }
    }
}

fn success(id: &str, bytes: usize) -> TaskOutcome {
    TaskOutcome::Success(Document::from_value(
        &json!({"id": id, "images": ["x".repeat(bytes)], "filenames": ["a.png"], "stats": {}}),
    ))
}

#[async_trait::async_trait]
impl TaskRunner for ScriptedRunner {
    async fn run(&self, task: TaskRun) -> TaskOutcome {
        let TaskRun {
            id,
            body,
            give_back,
            milestones,
            ..
        } = task;
        self.runs.lock().unwrap().push(id.to_string());
        milestones.submitted.cancel();
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_a_time.fetch_max(running, Ordering::SeqCst);
        let outcome = self.act(&id, &body, give_back).await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    async fn given_up(&self, id: &str, _body: Map<String, Value>, _failure: &Failure) {
        self.given_up.lock().unwrap().push(id.to_owned());
    }

    fn comfyui_has_died(&self) -> bool {
        false
    }

    fn comfyui_was_restarted(&self) -> bool {
        false
    }

    fn other_prompt_was_executing(&self) -> bool {
        false
    }

    fn ready(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    fn load(&self) -> Load {
        self.load.lock().unwrap().clone()
    }

    fn cancel(&self, _id: &str) -> bool {
        false
    }

    fn catalogue_hash(&self) -> Option<String> {
        None
    }

    async fn catalogue(&self) -> Option<Value> {
        None
    }
}

/// Starts a transport.
pub fn open(config: AmqpConfig, runner: &Arc<ScriptedRunner>) -> Amqp {
    // Claims are asked for by HTTP.
    comfyui_api::net::install_crypto();
    let metadata = BTreeMap::from([("region".to_owned(), "eu".to_owned())]);
    Amqp::start(Setup {
        config,
        runner: Arc::clone(runner) as Arc<dyn TaskRunner>,
        version: "9.9.9".to_owned(),
        metadata,
        http: reqwest::Client::new(),
    })
    .unwrap()
}

/// A client, and a transport with its runner, at a queue of their own on the shared broker.
pub async fn at_work(
    name: &str,
    ready: bool,
    more: &[(&str, &str)],
) -> (Client, Arc<ScriptedRunner>, Amqp) {
    let uri = RabbitMq::shared().await.uri();
    let name = unique(name);
    let client = Client::connect(&uri, &name).await;
    let runner = ScriptedRunner::new(ready);
    let transport = open(config(&uri, &name, more), &runner);
    (client, runner, transport)
}

/// Connects as the guest would.
pub async fn connect(uri: &str) -> Connection {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match Connection::connect(uri, lapin::ConnectionProperties::default()).await {
            Ok(connection) => return connection,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A proxy before the broker, which counts and cuts connections, and the address behind which it
/// stands.
pub async fn proxied(broker: &RabbitMq) -> (ChaosProxy, String) {
    let proxy = ChaosProxy::start(broker.address()).await;
    let uri = format!("amqp://guest:guest@{}", proxy.address());
    (proxy, uri)
}

/// Ends a transport as SIGTERM would.
pub async fn close(transport: &Amqp) {
    transport
        .shutdown(Instant::now() + Duration::from_secs(20), "test")
        .await;
}
