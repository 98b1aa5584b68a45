//! One job from its message to its end, as the gateway sees it.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tracing::{info, warn};

use super::publish::Published;
use super::task::{Claimed, News, State, Task, too_often};
use super::{Inner, files, record};
use crate::broker::envelope::service;
use crate::broker::publisher::properties;
use crate::broker::spans;
use crate::comfy::message::TextMessage;
use crate::error::{Code, Failure};
use crate::job::registry::Job;
use crate::job::remote::{Done, Errand, Told};
use crate::telemetry::logging::epoch_ms;
use crate::telemetry::metrics;
use crate::telemetry::trace::{Context, names};

/// How long a cancelled job waits for the instance that has it.
const CANCELLING: Duration = Duration::from_secs(15);
/// An instance may not have listened the first time.
const ASK_AGAIN: Duration = Duration::from_secs(2);
/// The priority of a job with `front`.
const FRONT: u8 = 9;
/// A message to that end is tried so often, for five seconds each.
const CALLING_OFF: u32 = 24;
/// Priorities of messages.
const PRIORITIES: std::ops::RangeInclusive<u64> = 0..=9;

/// Runs it.
pub(super) async fn run(
    inner: &Arc<Inner>,
    errand: Errand,
    tell: mpsc::UnboundedSender<Told>,
) -> Result<Done, Failure> {
    let job = errand.job.clone();
    let (task, mut publish) = match taken_up(inner, &errand) {
        Some((task, publish, superseded)) => {
            inner.call_off(superseded);
            (task, publish)
        }
        None => (begin(inner, errand).await?, true),
    };
    let Some(mut news) = taken(&task) else {
        return Err(conflict(&task.id));
    };
    let name = queue_name(inner, task.queue);
    let rank = 9 - task.priority.unwrap_or(0);
    let queue = u16::try_from(task.queue).unwrap_or(u16::MAX);
    let _ = tell.send(Told::Queue(queue, rank));
    let idle = inner.seen.any_idle(&name) && !inner.tasks.any_waiting(task.queue, &task);
    let mut running = Running {
        inner,
        task: &task,
        job: &job,
        tell,
        idle,
        shown: false,
    };
    if !publish {
        running.published();
    }
    let ended = running.until_its_end(&mut news, &mut publish).await;
    let suspended =
        matches!(&ended, Err(failure) if failure.code == Code::ShuttingDown) && task.kept;
    if suspended {
        return Err(job.stop_reason());
    }
    inner.end(&task);
    let outcome = match &ended {
        Ok(_) => "succeeded",
        Err(failure) if failure.code == Code::ExecutionInterrupted => "canceled",
        Err(_) => "failed",
    };
    metrics::gateway_task(&name, outcome);
    if ended.is_err() {
        files::remove(&task.dir);
    }
    ended
}

fn taken(task: &Task) -> Option<mpsc::UnboundedReceiver<News>> {
    let mut inbox = task.inbox.lock().unwrap_or_else(PoisonError::into_inner);
    inbox.take()
}

fn conflict(id: &str) -> Failure {
    Failure::new(
        Code::Conflict,
        format!("a job with the id \"{id}\" is with the fleet already"),
    )
}

/// A job of the process before; whether it has to be published anew, and which publications count no more.
fn taken_up(inner: &Inner, errand: &Errand) -> Option<(Arc<Task>, bool, Vec<String>)> {
    let known = inner.tasks.by_id(&errand.job.id)?;
    known.state().secrets = secrets(errand);
    let address = inner.address_of(&known.token);
    if known.address == address || known.state().ended {
        let there = {
            let state = known.state();
            state.ended || state.ever_claimed || !state.correlations.is_empty()
        };
        return Some((known, !there, Vec::new()));
    }
    // Instances cannot find their way here any more: what was published is worth nothing.
    let (from, superseded) = (known.address.clone(), known.state().correlations.clone());
    inner.end(&known);
    let state = std::mem::take(&mut *known.state());
    let body = match (from, &address) {
        (Some(from), Some(to)) => {
            let text = String::from_utf8_lossy(&known.body).replace(&from, to);
            Bytes::from(text)
        }
        _ => known.body.clone(),
    };
    let state = State {
        secrets: state.secrets,
        lost: state.lost,
        ..State::default()
    };
    let task = Task::new(
        (known.id.clone(), known.token.clone(), known.dir.clone()),
        true,
        (known.queue, known.priority),
        (known.previews, known.wants_all),
        known.needs_secrets,
        (body, known.inputs.clone()),
        address,
        state,
    );
    inner.tasks.insert(&task);
    Some((task, true, superseded))
}

fn secrets(errand: &Errand) -> Map<String, Value> {
    let both = [
        ("credentials", &errand.credentials),
        ("extra_data", &errand.extra_data),
    ];
    let some = both.into_iter().filter_map(|(name, value)| {
        let value = value.clone()?;
        Some((name.to_owned(), value))
    });
    some.collect()
}

/// A new job: its queue is checked, its files are put where instances find them.
async fn begin(inner: &Arc<Inner>, errand: Errand) -> Result<Arc<Task>, Failure> {
    let queue = queue(inner, errand.queue.as_ref())?;
    let asked = priority(errand.priority.as_ref())?;
    // What is to be in front goes before all that wait, here as in a queue of ComfyUI.
    let front = errand.body.get("front") == Some(&Value::Bool(true));
    let priority = asked.or(front.then_some(FRONT));
    let token = inner.token(&errand.job);
    let dir = inner.task_dir(&token);
    let secrets = secrets(&errand);
    let body = serde_json::to_vec(&errand.body).map_err(|error| {
        let message = format!("the job cannot be written as JSON: {error}");
        Failure::new(Code::Internal, message)
    })?;
    let longest = inner.publisher.longest();
    if body.len() > longest {
        return Err(too_large(longest));
    }
    let inputs = files::place(&dir, errand.inputs).await?;
    let task = Task::new(
        (errand.job.id.clone(), token.clone(), dir),
        errand.kept,
        (queue, priority),
        (errand.previews, errand.wants_all),
        !secrets.is_empty(),
        (body.into(), inputs),
        inner.address_of(&token),
        State {
            secrets,
            ..State::default()
        },
    );
    inner.tasks.insert(&task);
    Ok(task)
}

async fn noted(task: &Arc<Task>, with_body: bool) -> Result<(), Failure> {
    let task = task.clone();
    let noting = tokio::task::spawn_blocking(move || record::note(&task, with_body));
    noting
        .await
        .map_err(|_| crate::error::panicked("recording a job of the fleet"))?
        .map_err(|error| files::unwritable(&error))
}

fn queue(inner: &Inner, wanted: Option<&Value>) -> Result<usize, Failure> {
    let Some(wanted) = wanted else { return Ok(0) };
    let queues = &inner.gateway.queues;
    let known = |name: &str| queues.iter().position(|queue| queue == name);
    wanted.as_str().and_then(known).ok_or_else(|| {
        let list = queues.join(", ");
        Failure::invalid("queue", format!("\"queue\" must be one of: {list}"))
    })
}

fn priority(wanted: Option<&Value>) -> Result<Option<u8>, Failure> {
    let Some(wanted) = wanted else {
        return Ok(None);
    };
    let number = wanted.as_u64().filter(|number| PRIORITIES.contains(number));
    let number = number.and_then(|number| u8::try_from(number).ok());
    number.map(Some).ok_or_else(|| {
        Failure::invalid(
            "priority",
            "\"priority\" must be a whole number from 0 to 9",
        )
    })
}

fn queue_name(inner: &Inner, queue: usize) -> String {
    inner.gateway.queues.get(queue).cloned().unwrap_or_default()
}

fn too_large(longest: usize) -> Failure {
    Failure::new(
        Code::PayloadTooLarge,
        format!(
            "the job does not fit into a message of {} MiB (AMQP_MAX_MESSAGE_MB): send large inputs as files, assets or URLs",
            longest >> 20
        ),
    )
}

struct Running<'a> {
    inner: &'a Arc<Inner>,
    task: &'a Arc<Task>,
    job: &'a Arc<Job>,
    tell: mpsc::UnboundedSender<Told>,
    idle: bool,
    shown: bool,
}

impl Running<'_> {
    /// It waits in its queue, as far as anybody can tell.
    fn published(&mut self) {
        if !std::mem::replace(&mut self.shown, true) {
            let _ = self.tell.send(Told::Published { idle: self.idle });
        }
    }

    async fn until_its_end(
        &mut self,
        news: &mut mpsc::UnboundedReceiver<News>,
        publish: &mut bool,
    ) -> Result<Done, Failure> {
        let mut asked_at: Option<Instant> = None;
        let mut cancelled_at: Option<Instant> = None;
        loop {
            if std::mem::take(publish) {
                match self.publish().await {
                    Ok(()) => self.published(),
                    // It was there before, and may be there still.
                    Err(failure) if self.shown => {
                        warn!(id = %self.task.id, error = %failure, "a job cannot be published anew");
                    }
                    Err(failure) => return Err(failure),
                }
            }
            let cancelled = self.job.cancel.is_cancelled();
            let next = async {
                if cancelled {
                    tokio::time::sleep(ASK_AGAIN / 4).await;
                } else {
                    self.job.cancel.cancelled().await;
                }
            };
            tokio::select! {
                biased;
                Some(one) = news.recv() => match one {
                    News::Told(told) => drop(self.tell.send(told)),
                    News::Ended(kind, data) => return self.ended(&kind, data).await,
                    News::GivenUp(reason) => {
                        let mut failure = Failure::new(Code::ComfyuiUnavailable, reason);
                        failure.transient = false;
                        return Err(failure);
                    }
                    News::Publish => {
                        info!(id = %self.task.id, "a job is published anew: its queue is empty, and nobody has it");
                        *publish = true;
                    }
                },
                () = next => {
                    let reason = self.job.stop_reason();
                    if reason.code == Code::ShuttingDown && self.task.kept {
                        return Err(reason);
                    }
                    if self.task.end_unclaimed() {
                        return Err(reason);
                    }
                    let since = *cancelled_at.get_or_insert_with(Instant::now);
                    if asked_at.is_none_or(|at| at.elapsed() >= ASK_AGAIN) {
                        asked_at = Some(Instant::now());
                        self.ask_to_cancel().await;
                    }
                    if reason.code == Code::ShuttingDown || since.elapsed() >= CANCELLING {
                        return Err(reason);
                    }
                }
            }
        }
    }

    async fn ask_to_cancel(&self) {
        let correlations = self.task.state().correlations.clone();
        for correlation in correlations {
            let context = self.job.trace.context();
            self.inner.ask_to_cancel(&correlation, context).await;
        }
    }

    async fn publish(&self) -> Result<(), Failure> {
        let (inner, task) = (self.inner, self.task);
        let correlation = uuid::Uuid::new_v4().to_string();
        inner.tasks.correlate(task, &correlation);
        if task.kept {
            // Before it is published: whatever comes of it is known as its.
            noted(task, true).await?;
        }
        {
            let mut state = task.state();
            state.published = Some(Instant::now());
            state.waits_since.get_or_insert_with(Instant::now);
        }
        let name = queue_name(inner, task.queue);
        let mut properties = self.properties(&correlation);
        let mut span = spans::publish("", &name, self.job.trace.context());
        span.set(names::MESSAGING_MESSAGE_ID, task.id.to_string());
        if let Some(context) = span.context() {
            properties = spans::outgoing(properties, context);
        }
        let published = inner
            .publisher
            .to_queue(&name, properties, task.body.clone())
            .await;
        let outcome = outcome(&name, published);
        if let Err(failure) = &outcome {
            span.fail(failure.code.as_str());
        }
        outcome
    }

    fn properties(&self, correlation: &str) -> BasicProperties {
        let task = self.task;
        let short = |text: &str| ShortString::try_new(text).unwrap_or_default();
        let mut headers = FieldTable::default();
        if let Some(address) = &task.address {
            let address = AMQPValue::LongString(address.as_bytes().into());
            headers.insert("gateway".into(), address);
        }
        let flags = [
            ("secrets", task.needs_secrets),
            ("previews", task.previews),
            ("keep", task.wants_all),
        ];
        for (name, flag) in flags {
            headers.insert(name.into(), AMQPValue::Boolean(flag));
        }
        properties(true)
            .with_message_id(short(&task.id))
            .with_correlation_id(short(correlation))
            .with_reply_to(self.inner.reply_queue.clone())
            .with_priority(task.priority.unwrap_or(0))
            .with_headers(headers)
    }

    async fn ended(&self, kind: &str, mut data: Map<String, Value>) -> Result<Done, Failure> {
        match kind {
            "execution_success" => {
                // ComfyUI says so, too, but instances tell it once, with the outputs.
                let about = json!({"prompt_id": &*self.task.id, "timestamp": epoch_ms()});
                let said = json!({"type": kind, "data": about}).to_string();
                if let Some(message) = TextMessage::parse(Utf8Bytes::from(said)) {
                    let _ = self.tell.send(Told::Message(message));
                }
                let task = self.task.clone();
                let collecting = tokio::task::spawn_blocking(move || {
                    files::collect(&task, &mut data).map(|files| (files, data))
                });
                let (files, answer) = collecting
                    .await
                    .map_err(|_| crate::error::panicked("collecting the files of a job"))??;
                Ok(Done {
                    answer,
                    files,
                    folder: self.task.dir.clone(),
                })
            }
            "execution_interrupted" if self.job.cancel.is_cancelled() => {
                Err(self.job.stop_reason())
            }
            _ => Err(failure(kind, data)),
        }
    }
}

/// What becomes of a job whose message was published.
fn outcome(name: &str, published: Published) -> Result<(), Failure> {
    match published {
        Published::Confirmed => Ok(()),
        Published::TooLarge(longest) => Err(too_large(longest)),
        Published::Returned | Published::Refused => {
            let why = match published {
                Published::Returned => "there is no such queue",
                _ => "the broker has not confirmed the job in time",
            };
            let message = format!("the job cannot be handed to the queue {name}: {why}");
            let mut failure = Failure::new(Code::ComfyuiUnavailable, message);
            // Nobody has it, and nobody will.
            failure.attempts = Some(0);
            Err(failure)
        }
    }
}

/// What an instance says of a failure, as the failure that it was there.
fn failure(kind: &str, mut data: Map<String, Value>) -> Failure {
    let word = data.get("type").and_then(Value::as_str);
    let known = Code::ALL
        .into_iter()
        .find(|code| Some(code.as_str()) == word);
    let code = match known {
        Some(code) => code,
        None if kind == "execution_interrupted" => Code::ExecutionInterrupted,
        None => Code::ExecutionError,
    };
    let text = |name: &str| data.get(name).and_then(Value::as_str).map(str::to_owned);
    let message = text("message").unwrap_or_else(|| "the job failed".to_owned());
    let location = text("location");
    let mut failure = Failure::new(code, message);
    failure.location = location;
    failure.details = data.remove("details");
    failure.node_errors = data.remove("node_errors");
    // The instance has tried whatever could be tried.
    failure.transient = false;
    failure
}

impl Inner {
    /// Whoever works on this publication is to stop. Whether the broker has taken the message.
    async fn ask_to_cancel(&self, correlation: &str, context: Option<&Context>) -> bool {
        let data = json!({"correlation_id": correlation});
        let body = service("control_cancel", data, None);
        let mut about = properties(false);
        if let Some(context) = context {
            about = spans::outgoing(about, context);
        }
        let published = self
            .publisher
            .to_exchange(&self.exchange, "control.cancel", about, body)
            .await;
        published == Published::Confirmed
    }

    /// Nobody waits for these publications, and whoever works on one of them, or tries to put its files here, is told so.
    pub(super) fn call_off(self: &Arc<Self>, correlations: Vec<String>) {
        if correlations.is_empty() {
            return;
        }
        let inner = self.clone();
        tokio::spawn(async move {
            for correlation in correlations {
                let mut tries = CALLING_OFF;
                while !inner.ask_to_cancel(&correlation, None).await && tries > 0 {
                    tries -= 1;
                }
            }
        });
    }

    pub(super) async fn claim(self: &Arc<Self>, token: &str, instance: &str) -> Option<Value> {
        let task = self.tasks.by_token(token)?;
        let secrets = match task.claim(instance, self.max_attempts) {
            Claimed::Granted(secrets) => secrets,
            Claimed::Over => return None,
            Claimed::TooOften => {
                let lost = task.state().lost;
                task.tell(News::GivenUp(too_often(lost)));
                return None;
            }
            Claimed::SecretsLost => {
                let reason = "the gateway was restarted, and the job had extra_data or credentials, which are not stored: submit it again";
                task.tell(News::GivenUp(reason.to_owned()));
                return None;
            }
        };
        self.seen.busy(instance);
        if task.kept && noted(&task, false).await.is_err() {
            warn!(id = %task.id, "the claim of a job cannot be recorded");
        }
        Some(Value::Object(secrets))
    }
}
