//! The tools: one for each workflow, and the built-in ones.

mod arguments;
mod builtin;
mod downloads;
mod jobs;
mod models;
mod names;
mod nodes;
mod schemas;
mod uploads;

use serde_json::{Map, Value, json};

pub use arguments::Arguments;
use builtin::Builtin;

use super::context::Context;
use super::message::RpcError;
use super::methods::{page, text};
use super::result::{ToolFailure, ToolResult};
use super::{fleet, media_inputs, run, server};
use crate::workflow::Listed;

/// Tools of one page.
const PAGE: usize = 100;

/// What a tool runs.
enum Target {
    Workflow(Box<Listed>),
    Builtin(Builtin),
}

/// Everything that is offered, in its order.
fn offered(context: &Context) -> Vec<(String, Target)> {
    let filter = &context.state.rest.config.mcp.tools;
    let classes = context.state.rest.comfy.node_classes();
    let listed = context.state.rest.workflows.listed(classes.as_deref());
    let paths: Vec<&str> = listed.iter().map(|one| one.name.as_str()).collect();
    let names = names::of(&paths, &Builtin::ALL.map(Builtin::name));
    let workflows = names
        .into_iter()
        .zip(listed)
        .map(|(name, listed)| (name, Target::Workflow(Box::new(listed))));
    let builtin = Builtin::ALL
        .into_iter()
        .map(|tool| (tool.name().to_owned(), Target::Builtin(tool)));
    workflows
        .chain(builtin)
        .filter(|(name, _)| filter.offers(name))
        .collect()
}

/// `tools/list`
///
/// # Errors
/// When the cursor is not ours.
pub fn list(context: &Context, params: &Map<String, Value>) -> Result<Value, RpcError> {
    let (tools, next) = page(offered(context), params, PAGE)?;
    let tools: Vec<Value> = tools
        .into_iter()
        .map(|(name, target)| match target {
            Target::Workflow(listed) => (true, workflow(&name, *listed)),
            Target::Builtin(tool) => (tool == Builtin::RunGraph, tool.described()),
        })
        .map(|(runs, mut tool)| {
            if runs {
                fleet::describe(context, &mut tool["inputSchema"]);
            }
            tool
        })
        .collect();
    let mut result = json!({
        "tools": tools,
        "ttlMs": server::LISTS_LIVE_MS,
        "cacheScope": server::cache_scope(context),
    });
    if let Some(next) = next {
        result["nextCursor"] = next.into();
    }
    Ok(result)
}

fn workflow(name: &str, listed: Listed) -> Value {
    let title = listed.summary.unwrap_or(listed.name);
    let about = listed.description.as_deref().unwrap_or(&title);
    let description = format!("{}\n\n{}", about.trim_end(), schemas::WHAT_A_RUN_RETURNS);
    json!({
        "name": name,
        "title": title,
        "description": description,
        "inputSchema": media_inputs::described(listed.input),
        "outputSchema": schemas::run(),
        "annotations": {
            "title": title,
            "readOnlyHint": false,
            "destructiveHint": false,
            "idempotentHint": false,
            "openWorldHint": true,
        },
    })
}

/// `tools/call`
///
/// # Errors
/// When there is no such tool.
pub async fn call(context: &Context, mut params: Map<String, Value>) -> Result<Value, RpcError> {
    let name = text(&params, "name")?.to_owned();
    let arguments = match params.remove("arguments") {
        None | Some(Value::Null) => Map::new(),
        Some(Value::Object(arguments)) => arguments,
        Some(_) => return Err(RpcError::params("\"arguments\" must be an object")),
    };
    let target = offered(context)
        .into_iter()
        .find_map(|(offered, target)| (offered == name).then_some(target));
    match target {
        None => Err(RpcError::params(format!(
            "there is no tool \"{}\": tools/list says which there are",
            crate::limits::text::quoted(&name)
        ))),
        Some(Target::Workflow(listed)) => {
            Ok(run::workflow(context, &name, &listed, arguments).await)
        }
        Some(Target::Builtin(Builtin::RunGraph)) => match builtin(Builtin::RunGraph, arguments) {
            Ok(arguments) => Ok(run::graph(context, arguments).await),
            Err(failure) => Ok(run::refused(&failure)),
        },
        Some(Target::Builtin(tool)) => Ok(answer(context, tool, arguments).await.into_value()),
    }
}

fn builtin(tool: Builtin, arguments: Map<String, Value>) -> Result<Arguments, ToolFailure> {
    Arguments::new(tool.name(), tool.arguments(), arguments)
}

async fn answer(context: &Context, tool: Builtin, arguments: Map<String, Value>) -> ToolResult {
    let answered = match builtin(tool, arguments) {
        Err(failure) => Err(failure),
        Ok(arguments) => match tool {
            Builtin::GetJob => return jobs::get(context, arguments).await,
            Builtin::CancelJob => jobs::cancel(context, arguments).await,
            Builtin::ListJobs => jobs::list(context, arguments).await,
            Builtin::ListModels => models::list(context, arguments).await,
            Builtin::DownloadModel => downloads::start(context, arguments).await,
            Builtin::SearchNodes => nodes::search(context, arguments).await,
            Builtin::DescribeNode => nodes::describe(context, arguments).await,
            Builtin::CreateUpload => uploads::create(context, arguments),
            Builtin::RunGraph => Err(ToolFailure::new("internal", "it is run elsewhere")),
        },
    };
    match answered {
        Ok(value) => ToolResult::of_value(value),
        Err(failure) => ToolResult::of_failure(&failure),
    }
}
