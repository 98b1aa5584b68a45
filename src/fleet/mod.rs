//! The gateway's side of a fleet (fleet.md, part 2): jobs become messages, instances that take them
//! work on them, and what they say and make comes back. For the pipeline it is a [`Remote`] like
//! any other.
//!
//! ```text
//!   run        one job from its message to its end
//!   task       what is known of one job meanwhile;  tasks  all of them
//!   record     jobs that survive this process
//!   files      inputs that instances fetch, outputs that they put
//!   link       the connection: topology, consumers, what is published
//!   reply      what instances say of jobs, in its order (`order`)
//!   seen       what they say of themselves
//!   catalogue  what their ComfyUI offers
//!   look       once a second: lost instances, lost messages, numbers for metrics
//! ```

mod catalogue;
mod files;
mod link;
mod look;
mod order;
mod publish;
mod record;
mod reply;
mod run;
mod seen;
mod task;
mod tasks;

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use lapin::types::ShortString;
use lapin::uri::AMQPUri;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::watch;

use crate::broker::dial::parse_uri;
use crate::comfy::pool::Pool;
use crate::config::{AmqpConfig, GatewayAddress, GatewayConfig};
use crate::error::Failure;
use crate::health::{ComfyState, Health};
use crate::job::registry::Job;
use crate::job::remote::{Done, Errand, Remote, Told};
use crate::mailbox::Mailbox;

pub use files::{InputFile, PutError};

/// What a gateway needs.
pub struct Setup {
    /// The broker.
    pub amqp: AmqpConfig,
    /// `GATEWAY_*`.
    pub gateway: GatewayConfig,
    /// Where its state is.
    pub dir: PathBuf,
    /// `V2_MAX_ATTEMPTS`.
    pub max_attempts: u32,
    /// Told whether jobs are taken.
    pub health: Health,
    /// Told what the ComfyUI of the instances offers.
    pub comfy: Pool,
}

/// The gateway. Cheap to clone.
#[derive(Clone)]
pub struct Fleet(Arc<Inner>);

struct Inner {
    amqp: AmqpConfig,
    gateway: GatewayConfig,
    uri: AMQPUri,
    id: String,
    exchange: ShortString,
    /// `q.gateway.<id>`
    reply_queue: ShortString,
    dir: PathBuf,
    max_attempts: u32,
    health: Health,
    comfy: Pool,
    /// Makes tokens.
    key: [u8; 32],
    tasks: tasks::Tasks,
    seen: seen::Seen,
    catalogue: catalogue::Known,
    publisher: publish::Publisher,
    queues: Mutex<Vec<QueueState>>,
    /// Our port, once it is bound.
    port: OnceLock<u16>,
    /// How instances reach this gateway.
    url: watch::Sender<Option<String>>,
}

/// One queue as it was when it was looked at last.
#[derive(Debug, Clone, Default)]
pub struct QueueState {
    /// Its name.
    pub name: String,
    /// Messages that wait.
    pub waiting: u32,
    /// Instances that take them.
    pub consumers: u32,
    /// Since when nothing waits.
    empty_since: Option<std::time::Instant>,
}

impl Fleet {
    /// Nothing is connected yet. Blocks for a moment: the jobs of the process before are read.
    ///
    /// # Errors
    /// One sentence when the configuration cannot be used.
    pub fn new(setup: Setup) -> Result<Self, String> {
        let Setup {
            amqp,
            gateway,
            dir,
            max_attempts,
            health,
            comfy,
        } = setup;
        let dir = dir.join("fleet");
        let id = match &gateway.id {
            Some(id) => id.clone(),
            None => record::own_id(&dir)
                .map_err(|error| format!("the gateway's id cannot be kept: {error}"))?,
        };
        let short = |what: &str, text: &str| {
            ShortString::try_new(text).map_err(|_| format!("{what} is too long: shorten it"))
        };
        let queues = gateway.queues.iter().map(|name| QueueState {
            name: name.clone(),
            ..QueueState::default()
        });
        // Clients are told "not ready" from here on, but the process is well.
        health.of(0).set(ComfyState::Ready);
        health.of(0).set(ComfyState::Down(
            "the AMQP broker is not connected".to_owned(),
        ));
        let mut key = [0; 32];
        rand::Rng::fill(&mut rand::rng(), &mut key[..]);
        let queues = Mutex::new(queues.collect());
        let inner = Inner {
            uri: parse_uri(amqp.uri.expose())?,
            exchange: short("AMQP_EXCHANGE_TOPIC", &amqp.exchange)?,
            reply_queue: short("GATEWAY_ID", &format!("q.gateway.{id}"))?,
            tasks: tasks::Tasks::default(),
            seen: seen::Seen::default(),
            catalogue: catalogue::Known::new(&dir),
            publisher: publish::Publisher::new(amqp.max_message_bytes),
            port: OnceLock::new(),
            url: watch::Sender::new(None),
            queues,
            amqp,
            gateway,
            id,
            dir,
            max_attempts,
            health,
            comfy,
            key,
        };
        inner.catalogue.load(&inner.comfy);
        for task in record::read(&inner.dir) {
            inner.tasks.insert(&task);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// Connects, and stays connected. `port` is ours.
    pub fn start(&self, port: u16) {
        let _ = self.0.port.set(port);
        if let GatewayAddress::Url(url) = &self.0.gateway.url {
            self.0.url.send_replace(Some(url.clone()));
        }
        let (linked, looking) = (self.0.clone(), self.0.clone());
        tokio::spawn(async move { link::keep(&linked).await });
        tokio::spawn(async move { look::keep(&looking).await });
    }

    /// Those jobs of the process before go that are not known any more.
    pub fn forget_all_but(&self, known: impl Fn(&str) -> bool) {
        let mut unknown = self.0.tasks.dormant();
        unknown.retain(|task| !known(&task.id));
        for task in unknown {
            self.0.end(&task);
            files::remove(&task.dir);
        }
    }

    /// An instance is about to run the task of a token: what it needs for that, or nothing when it
    /// shall not.
    pub async fn claim(&self, token: &str, instance: &str) -> Option<Value> {
        self.0.claim(token, instance).await
    }

    /// An input of the task of a token.
    pub fn input(&self, token: &str, number: usize) -> Option<InputFile> {
        self.0.tasks.by_token(token)?.input(number)
    }

    /// Takes an output of the task of a token; `None` when there is no such task.
    pub async fn put(
        &self,
        token: &str,
        name: &str,
        body: axum::body::Body,
    ) -> Option<Result<Value, PutError>> {
        let task = self.0.tasks.by_token(token)?;
        Some(files::put(&task, name, body).await)
    }

    /// The instances that have been heard of lately.
    pub fn instances(&self) -> Vec<Value> {
        self.0.seen.list()
    }

    /// The queues with what is known of them, and how long the oldest of our jobs has waited in
    /// each, in milliseconds.
    pub fn queues(&self) -> Vec<(QueueState, Option<u64>)> {
        let queues = self.0.queues().clone();
        let with_age = |(index, queue): (usize, QueueState)| {
            let age = self.0.tasks.oldest_waiting(index);
            (queue, age)
        };
        queues.into_iter().enumerate().map(with_age).collect()
    }
}

impl Inner {
    /// Whether jobs can be handed out.
    fn stands(&self, state: ComfyState) {
        let life = &self.comfy.instance(0).life;
        match state {
            ComfyState::Down(_) => life.is_lost(),
            _ => life.is_ready(),
        }
        self.health.of(0).set(state);
    }

    fn queues(&self) -> parking_lot::MutexGuard<'_, Vec<QueueState>> {
        self.queues.lock()
    }

    /// The address of a task, without a slash at its end.
    fn address_of(&self, token: &str) -> Option<String> {
        if self.gateway.url == GatewayAddress::Nowhere {
            return None;
        }
        let url = self.url.borrow();
        url.as_ref().map(|url| format!("{url}/fleet/{token}"))
    }

    /// 128 bits that nobody can guess.
    fn token(&self, job: &Job) -> String {
        if let Some(known) = self.tasks.by_id(&job.id) {
            return known.token.clone();
        }
        let text = format!("{} {}", job.number, job.id);
        let hash = blake3::keyed_hash(&self.key, text.as_bytes());
        hash.to_hex()[..32].to_owned()
    }

    /// Nobody may come for this task any more.
    fn end(&self, task: &task::Task) {
        self.tasks.remove(task);
        let owner = task.state().claimed_by.clone();
        if let Some(owner) = owner.filter(|owner| !self.tasks.has_any(owner)) {
            self.seen.free(&owner);
        }
    }

    fn task_dir(&self, token: &str) -> PathBuf {
        self.dir.join("jobs").join(token)
    }
}

#[async_trait]
impl Remote for Fleet {
    async fn run(&self, errand: Box<Errand>, told: Arc<Mailbox<Told>>) -> Result<Done, Failure> {
        run::run(&self.0, errand, told).await
    }

    fn has(&self, id: &str) -> bool {
        self.0.tasks.by_id(id).is_some()
    }

    fn forget(&self, id: &str) {
        let dormant = self.0.tasks.dormant();
        for task in dormant.iter().filter(|task| *task.id == *id) {
            self.0.end(task);
            files::remove(&task.dir);
        }
    }

    fn address(&self, job: &Job) -> Option<String> {
        let base = self.0.address_of(&self.0.token(job))?;
        Some(format!("{base}/in/"))
    }

    fn longest(&self) -> usize {
        self.0.publisher.longest()
    }
}

fn join(dir: &Path, name: &str) -> PathBuf {
    dir.join(name)
}
