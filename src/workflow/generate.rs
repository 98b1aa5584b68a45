//! From an input to a graph.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde_json::Value;

use super::engine::{Isolate, Outcome};
use super::find::WORTH_REPEATING;
use super::pool::Pool;
use super::registry::Workflow;
use super::{Inner, Workflows, engine, plain, schedule};
use crate::comfy::conversion;
use crate::error::{Code, Failure};
use crate::graph::catalogue::NodeClasses;
use crate::json;
use crate::limits::{is_large, off_runtime};

/// A parsed input and the graph made from it.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The input after the schema: defaults filled in, unknown keys stripped.
    pub input: Value,
    /// The graph.
    pub prompt: Value,
    /// The file as the editor saved it, if it was such a file.
    pub workflow: Option<Arc<serde_json::Map<String, Value>>>,
    /// Of its conversion.
    pub warnings: Vec<String>,
}

impl Workflows {
    /// Runs one. `path` is what follows `/workflow/`.
    ///
    /// # Errors
    /// 404 for an unknown path; 400 with location `input.<path>` for input that breaks the schema;
    /// 400 when generating fails.
    pub async fn generate(&self, path: &str, input: Value) -> Result<Generated, Failure> {
        let context = self.0.context_json().await;
        if !self.0.exists(path) {
            return Err(self.0.unknown(path));
        }
        let (tried, began, input) = (context.0, Instant::now(), Arc::new(input));
        match self.generate_under(context, path, &input).await {
            Err(failure) if began.elapsed() < WORTH_REPEATING => {
                let context = self.0.fresh_json().await;
                if context.0 == tried {
                    return Err(self.0.blamed_on_context(tried, failure));
                }
                let number = context.0;
                let ended = self.generate_under(context, path, &input).await;
                ended.map_err(|failure| self.0.blamed_on_context(number, failure))
            }
            ended => ended,
        }
    }

    async fn generate_under(
        &self,
        context: (u64, Arc<str>),
        path: &str,
        input: &Arc<Value>,
    ) -> Result<Generated, Failure> {
        let workflow = match self.0.find(path, context.0) {
            Some(workflow) => workflow,
            None if self.0.may_load_now(path, context.0) => {
                self.0.load(false).await;
                self.0
                    .find(path, context.0)
                    .ok_or_else(|| self.0.unknown(path))?
            }
            None => return Err(self.0.unknown(path)),
        };
        match &*workflow {
            Workflow::Script(_) => {
                self.0
                    .run_script(path, workflow, context, input.clone())
                    .await
            }
            Workflow::Plain(_) => {
                run_plain(workflow, input.clone(), self.0.source.node_classes()).await
            }
        }
    }
}

impl Inner {
    async fn run_script(
        &self,
        path: &str,
        workflow: Arc<Workflow>,
        (number, json): (u64, Arc<str>),
        input: Arc<Value>,
    ) -> Result<Generated, Failure> {
        let Some(script) = workflow.script() else {
            return Err(self.unknown(path));
        };
        let turn = self.scheduler.admit(&script.share).await;
        let (cancel, places) = (CancelOnDrop(turn.cancellation()), turn.places());
        let (pool, running) = (Arc::clone(&self.pool), Arc::clone(&workflow));
        let ran = tokio::task::spawn_blocking(move || {
            let input = serde_json::to_string(&*input).unwrap_or_default();
            run_blocking(&running, &pool, number, &json, &input, turn)
        });
        let Ok(ran) = tokio::time::timeout(schedule::GIVE_UP, ran).await else {
            places.release();
            tracing::error!(
                workflow = path,
                "a call has not ended within its limits and is given up"
            );
            return Err(Failure::invalid(
                "input",
                format!(
                    "Failed to generate workflow prompt: {}",
                    schedule::Limit::Wall.sentence()
                ),
            ));
        };
        let outcome = ran.map_err(|error| {
            Failure::new(
                Code::Internal,
                format!("the workflow \"{path}\" could not be run: {error}"),
            )
        })?;
        drop(cancel);
        match outcome {
            Outcome::Done { input, prompt } => Ok(Generated {
                input: read_back(&input)?,
                prompt: read_back(&prompt)?,
                workflow: None,
                warnings: Vec::new(),
            }),
            Outcome::Invalid(issues) => Err(invalid_input(read_back(&issues)?)),
            Outcome::Failed { message, at, .. } => {
                tracing::warn!(workflow = path, at, "generateWorkflow failed: {message}");
                Err(Failure::invalid(
                    "input",
                    format!("Failed to generate workflow prompt: {message}"),
                ))
            }
        }
    }
}

/// Ends a call whose caller has left.
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn run_blocking(
    workflow: &Workflow,
    pool: &Pool,
    number: u64,
    json: &Arc<str>,
    input: &str,
    turn: schedule::Slot,
) -> Outcome {
    let failed = |message: String, at| Outcome::Failed {
        message,
        at,
        discard: true,
    };
    let Some(script) = workflow.script() else {
        return failed("it is no script".to_owned(), None);
    };
    let key = (script.number, number);
    let (mut isolate, turn) = match pool.take(key) {
        Some(isolate) => (isolate, turn),
        None => match Isolate::open(&script.library, json, &script.id, turn) {
            Ok((isolate, _, turn)) => (isolate, turn),
            Err(fault) => {
                return failed(
                    fault.message,
                    Some(format!("{}:{}:{}", fault.file, fault.line, fault.column)),
                );
            }
        },
    };
    let outcome = isolate.call(input, turn);
    if isolate.changed() || matches!(outcome, Outcome::Failed { discard: true, .. }) {
        drop(isolate);
        engine::give_memory_back();
    } else {
        pool.put(key, isolate);
    }
    outcome
}

async fn run_plain(
    workflow: Arc<Workflow>,
    input: Arc<Value>,
    classes: Option<Arc<NodeClasses>>,
) -> Result<Generated, Failure> {
    let ran = tokio::task::spawn_blocking(move || match &*workflow {
        Workflow::Plain(plain) => plain.generate(&input, classes.as_deref()),
        Workflow::Script(_) => Err(plain::Refusal::Input(Vec::new())),
    });
    let ran = ran.await.map_err(|error| {
        Failure::new(
            Code::Internal,
            format!("the workflow could not be run: {error}"),
        )
    })?;
    ran.map_err(|refusal| match refusal {
        plain::Refusal::Input(issues) => {
            invalid_input(issues.iter().map(plain::Issue::to_json).collect())
        }
        plain::Refusal::Unknown => conversion::unknown_yet(),
        plain::Refusal::Workflow(error) => conversion::failure(error, "workflow"),
    })
}

fn read_back(text: &str) -> Result<Value, Failure> {
    // JSON.stringify wrote it, so only its size, and nesting beyond what serde_json follows, can be
    // wrong with it.
    let text = text.as_bytes().to_vec();
    off_runtime(is_large(text.len()), || json::parse(text))
        .map_err(|error| error.failure("input", "Failed to generate workflow prompt: its result"))
}

/// The first issue is the message, all of them are the details.
fn invalid_input(issues: Value) -> Failure {
    let first = issues.get(0);
    let message = first
        .and_then(|issue| issue.get("message"))
        .and_then(Value::as_str)
        .unwrap_or("Invalid input")
        .to_owned();
    let mut location = String::from("input");
    for step in first
        .and_then(|issue| issue.get("path"))
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        location.push('.');
        match step {
            Value::String(key) => location.push_str(key),
            other => location.push_str(&other.to_string()),
        }
    }
    Failure::invalid(location, message).with_details(issues)
}
