//! A tool that runs something: it becomes a job, and is answered with its result, with where it
//! stands, or with a task.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::context::Context;
use super::result::{self, ToolFailure};
use super::tools::Arguments;
use super::wait::{self, Waited};
use super::{earlier, fleet, tasks};
use crate::durable::{DurableJobs, LiveJob, NewSubmission, Refused};
use crate::error::{Code, Failure};
use crate::job::request::graph;
use crate::job::{Source, with_workflow};
use crate::telemetry::trace;
use crate::transport::rest;
use crate::workflow::Listed;

/// The longest value of a label.
const LONGEST_LABEL: usize = 256;

/// What is to be run.
struct Run {
    id: String,
    tool: String,
    /// The path of the workflow, if it is one.
    workflow: Option<String>,
    /// Of `POST /prompt`.
    body: Map<String, Value>,
    warnings: Vec<String>,
    patience: Duration,
}

/// Runs a workflow.
pub async fn workflow(
    context: &Context,
    tool: &str,
    listed: &Listed,
    mut arguments: Map<String, Value>,
) -> Value {
    let path = listed.name.as_str();
    let id = new_id();
    let chosen = fleet::take(context, &listed.input, &mut arguments);
    let run = async {
        fleet::check(context, &chosen)?;
        accepts(context)?;
        let rest = &context.state.rest;
        let generated = rest
            .workflows
            .generate(path, Value::Object(arguments))
            .await?;
        let mut body = chosen;
        body.insert("input".into(), generated.input);
        body.insert("prompt".into(), generated.prompt);
        if let Some(workflow) = &generated.workflow {
            body.insert("extra_data".into(), with_workflow(None, workflow));
        }
        let run = Run {
            id: id.clone(),
            tool: tool.to_owned(),
            workflow: Some(path.to_owned()),
            body,
            warnings: generated.warnings,
            patience: rest.config.mcp.wait,
        };
        started(context, run).await
    };
    match run.await {
        Ok(value) => value,
        Err(failure) => result::refused(&id, &failure).into_value(),
    }
}

/// Runs a graph of the agent's own.
pub async fn graph(context: &Context, arguments: Arguments) -> Value {
    let id = new_id();
    match own_graph(context, &id, arguments).await {
        Ok(value) => value,
        Err(failure) => result::refused(&id, &failure).into_value(),
    }
}

/// A run whose arguments are refused.
pub fn refused(failure: &ToolFailure) -> Value {
    result::refused(&new_id(), failure).into_value()
}

fn new_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

async fn own_graph(
    context: &Context,
    id: &str,
    mut arguments: Arguments,
) -> Result<Value, ToolFailure> {
    let patience = arguments
        .wait()?
        .unwrap_or(context.state.rest.config.mcp.wait);
    let missing = || Failure::invalid("input.graph", "it is missing: it must be a ComfyUI graph");
    let given = arguments.take("graph").ok_or_else(missing)?;
    let set = match arguments.take("set") {
        None => Map::new(),
        Some(Value::Object(set)) => set,
        Some(_) => {
            let message = "it must be an object such as {\"3.inputs.seed\": 5}";
            return Err(Failure::invalid("input.set", message).into());
        }
    };
    let chosen = fleet::NAMES
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), arguments.take(name)?)));
    let mut body: Map<String, Value> = chosen.collect();
    fleet::check(context, &body)?;
    accepts(context)?;
    body.insert("prompt".into(), given);
    let mut warnings = Vec::new();
    if !set.is_empty() {
        warnings = with_inputs(context, &mut body, set).await?;
    }
    if let Some(conversion) = arguments.take("convert_output") {
        body.insert("convert_output".into(), conversion);
    }
    let run = Run {
        id: id.to_owned(),
        tool: "run_graph".to_owned(),
        workflow: None,
        body,
        warnings,
        patience,
    };
    started(context, run).await
}

/// Sets inputs of a graph; what the editor has saved becomes one first.
async fn with_inputs(
    context: &Context,
    body: &mut Map<String, Value>,
    set: Map<String, Value>,
) -> Result<Vec<String>, ToolFailure> {
    let mut warnings = Vec::new();
    let mut nodes = match graph::take(body)? {
        graph::Workflow::Api(nodes) => nodes,
        graph::Workflow::Editor(workflow) => {
            let workflow = Arc::new(workflow);
            let converted = context.state.rest.comfy.convert(workflow.clone(), "prompt");
            let converted = converted.await?;
            body.insert("extra_data".into(), with_workflow(None, &workflow));
            warnings.extend(converted.warnings.iter().map(ToString::to_string));
            converted.prompt
        }
    };
    let catalogue = context.state.rest.comfy.catalogue();
    for (path, value) in set {
        let unknown = |why: &str| {
            let shown = crate::limits::text::quoted(&path).into_owned();
            ToolFailure::from(Failure::invalid(format!("input.set.{shown}"), why))
        };
        let Some((node, input)) = path.split_once(".inputs.") else {
            return Err(unknown("it is no path of the form <node id>.inputs.<name>"));
        };
        let Some(found) = nodes.get_mut(node).and_then(Value::as_object_mut) else {
            return Err(unknown("the graph has no node of this id"));
        };
        let class = found
            .get("class_type")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned();
        let inputs = found
            .entry("inputs")
            .or_insert_with(|| json!({}))
            .as_object_mut();
        let known = |inputs: &Map<String, Value>| {
            inputs.contains_key(input)
                || catalogue.outputs(&class).is_some() && catalogue.takes(&class, input)
        };
        match inputs {
            Some(inputs) if known(inputs) => {
                inputs.insert(input.to_owned(), value);
            }
            _ => return Err(unknown("the node has no input of this name")),
        }
    }
    body.insert("prompt".into(), nodes.into());
    Ok(warnings)
}

/// Whether jobs are taken at all.
fn accepts(context: &Context) -> Result<(), ToolFailure> {
    let rest = &context.state.rest;
    rest.health.accepts(false)?;
    match context
        .state
        .jobs
        .full_queue(rest.config.server.max_queue_depth)
    {
        None => Ok(()),
        Some(message) => Err(ToolFailure::queue_full(message)),
    }
}

/// Starts the job and answers for it.
async fn started(context: &Context, mut run: Run) -> Result<Value, ToolFailure> {
    earlier::resolve(context, &mut run.body).await?;
    let patience = run.patience;
    let jobs = &context.state.jobs;
    let live = start(jobs, submission(run, &context.base.absolute)).await?;
    let leaving = Leaving {
        jobs: jobs.clone(),
        id: live.id.clone(),
        armed: true,
    };
    if let Some(progress) = &context.progress {
        wait::tell_first(progress, &jobs.view_of(&live));
    }
    let waited = wait::wait(context, &live, patience, context.knows_tasks).await;
    if waited == Waited::Ended {
        // It cannot be cancelled any more.
        leaving.disarm();
        let view = jobs.view_of(&live);
        return Ok(result::of_job(context, &view).await?.into_value());
    }
    // It is handed over, and goes on whatever the connection does.
    leaving.disarm();
    let view = jobs.view_of(&live);
    if waited == Waited::Task && !view.record.status.has_ended() {
        return Ok(tasks::created(&view));
    }
    Ok(result::of_job(context, &view).await?.into_value())
}

fn submission(run: Run, base_url: &str) -> NewSubmission {
    let workflow = run.workflow.clone();
    let mut labels = vec![("tool".to_owned(), run.tool)];
    labels.extend(
        run.workflow
            .filter(|path| path.len() <= LONGEST_LABEL)
            .map(|path| ("workflow".to_owned(), path)),
    );
    let metadata: Map<String, Value> = labels
        .iter()
        .map(|(name, value)| (name.clone(), value.clone().into()))
        .collect();
    NewSubmission {
        id: Some(run.id),
        source: Source::Mcp,
        body: run.body,
        warnings: run.warnings,
        metadata: Some(metadata.into()),
        labels,
        priority: None,
        key: None,
        base_url: base_url.to_owned(),
        workflow,
    }
}

/// A client that leaves while its job is being recorded has cancelled it, too.
async fn start(jobs: &DurableJobs, new: NewSubmission) -> Result<Arc<LiveJob>, ToolFailure> {
    let of_workflow = new.body.contains_key("input");
    let (tell, told) = oneshot::channel();
    let theirs = jobs.clone();
    let starting = async move {
        if let Err(Ok(live)) = tell.send(theirs.start(new).await) {
            let live: Arc<LiveJob> = live;
            let _ = theirs.cancel(&live.id).await;
        }
    };
    tokio::spawn(trace::scope(trace::current(), starting));
    let started = told.await.map_err(|_| {
        ToolFailure::new(
            Code::Internal.as_str(),
            "the job could not be started; this is a defect of the server, please report it",
        )
    })?;
    started.map_err(|refused| match refused {
        Refused::Failure(failure) if of_workflow => rest::from_file(failure).into(),
        Refused::Failure(failure) => failure.into(),
        Refused::Store(error) => error.into(),
        Refused::MissingAssets(ids) => Failure::new(
            Code::InvalidRequest,
            format!(
                "there is no asset {} (any more): hand the file in again",
                ids.join(", ")
            ),
        )
        .into(),
    })
}

/// Cancels a job whose client has left before it was answered for.
struct Leaving {
    jobs: DurableJobs,
    id: String,
    armed: bool,
}

impl Leaving {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        if self.armed {
            tracing::info!(
                id = %self.id,
                "the client has closed its connection; its job is cancelled"
            );
            let (jobs, id) = (self.jobs.clone(), std::mem::take(&mut self.id));
            tokio::spawn(async move { jobs.cancel(&id).await.map(drop) });
        }
    }
}
