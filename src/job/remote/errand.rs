//! What is handed to whoever runs the graph.

use std::path::PathBuf;
use std::sync::Arc;

use serde_json::{Map, Value};

use super::{LARGE, Remote};
use crate::error::{Code, Failure};
use crate::job::conversion::Runnable;
use crate::job::preprocess::away;
use crate::job::preprocess::away::{Embedded, decode};
use crate::job::registry::Job;
use crate::job::request::PromptRequest;
use crate::job::service::Inner;
use crate::job::{asset_input, conversion, preprocess};
use crate::webhook::Kind;

/// A file that a graph needs.
#[derive(Debug, Clone)]
pub enum Input {
    /// Of the store.
    Asset {
        /// Where it is.
        path: PathBuf,
        /// Its name.
        name: String,
        /// Keeps it from eviction.
        held: Arc<dyn std::any::Any + Send + Sync>,
    },
    /// It came with the graph.
    Bytes {
        /// The file.
        bytes: bytes::Bytes,
        /// By its kind.
        name: String,
    },
}

/// A job for somebody else to run.
pub struct Errand {
    /// The job; it is cancelled through it.
    pub job: Arc<Job>,
    /// The body of the message, but for the files that travel beside it.
    pub body: Map<String, Value>,
    /// What [`Remote::address`] stands for, in its order.
    pub inputs: Vec<Input>,
    /// Nothing that a broker may write to its disk.
    pub credentials: Option<Value>,
    /// Likewise.
    pub extra_data: Option<Value>,
    /// `queue`, unchecked.
    pub queue: Option<Value>,
    /// `priority`, unchecked.
    pub priority: Option<Value>,
    /// It goes on although this process ends.
    pub kept: bool,
    /// Files are wanted although they are uploaded.
    pub wants_all: bool,
    /// Somebody looks at previews.
    pub previews: bool,
}

/// What goes to the fleet: as a graph where its nodes are known here, else as it was sent.
pub(super) async fn runnable(
    inner: &Inner,
    job: &Job,
    request: &PromptRequest,
    graph: Map<String, Value>,
) -> Result<Runnable, Failure> {
    match &request.workflow {
        Some(workflow) if inner.comfy.node_classes().is_none() => Ok(Runnable {
            graph: Map::clone(workflow),
            extra_data: request.extra_data.clone(),
            warnings: Vec::new(),
            titles: Arc::default(),
        }),
        _ => conversion::runnable(inner, job, request, graph).await,
    }
}

pub(super) async fn errand(
    inner: &Inner,
    engine: &dyn Remote,
    job: &Arc<Job>,
    request: &PromptRequest,
    mut graph: Map<String, Value>,
    extra_data: Option<Value>,
) -> Result<Errand, Failure> {
    let address = engine.address(job);
    let mut inputs = place_assets(inner, &mut graph, address.as_deref()).await?;
    let catalogue = inner.comfy.catalogue();
    let mut embedded = away::embedded(&mut graph, &catalogue)?;
    embedded.sort_by_key(|file| std::cmp::Reverse(file.length));
    let passed_on = request.passed_on.as_deref().cloned().unwrap_or_default();
    let mut body = passed_on.fields;
    let length = written(&graph) + written(&body);
    if let Some(address) = &address {
        let room = (length, engine.longest());
        separate(&mut graph, embedded, (address, room), &mut inputs).await?;
    }
    body.insert("prompt".to_owned(), Value::Object(graph));
    let webhooks = &request.webhooks;
    let mut errand = Errand {
        job: job.clone(),
        body,
        inputs,
        credentials: passed_on.credentials,
        extra_data,
        queue: passed_on.queue,
        priority: passed_on.priority,
        kept: job.keeping.is_some() && job.policy.given_back,
        // A legacy webhook carries the files themselves, also of a result that was uploaded.
        wants_all: job.keeping.is_some()
            || request.upload.is_some()
                && webhooks.iter().any(|webhook| webhook.kind == Kind::Legacy),
        previews: job.streams.has_readers(),
    };
    if address.is_none() {
        errand.carry_secrets();
    }
    Ok(errand)
}

impl Errand {
    /// They travel in the message where there is no other way.
    fn carry_secrets(&mut self) {
        let secrets = [
            ("credentials", self.credentials.take()),
            ("extra_data", self.extra_data.take()),
        ];
        for (name, value) in secrets {
            self.body
                .extend(value.map(|value| (name.to_owned(), value)));
        }
    }
}

/// Puts addresses in the place of assets, or, where there are none, the assets themselves.
async fn place_assets(
    inner: &Inner,
    graph: &mut Map<String, Value>,
    address: Option<&str>,
) -> Result<Vec<Input>, Failure> {
    let mut inputs = Vec::new();
    let store = &inner.store;
    let mut embedding = Vec::new();
    let catalogue = inner.comfy.catalogue();
    let text_means = |class: &str, input: &str| preprocess::text_means(class, input, &catalogue);
    asset_input::give_addresses(graph, store, text_means, |asset, path| {
        let name = asset.file_path.rsplit('/').next().unwrap_or("input");
        let Some(address) = address else {
            embedding.push((path, asset.content_type.clone()));
            return format!("\u{0}{}", embedding.len() - 1);
        };
        let held = asset.hash.as_deref().map(|hash| store.hold(hash));
        store.used_now(asset);
        inputs.push(Input::Asset {
            path,
            name: name.to_owned(),
            held: Arc::new(held),
        });
        format!("{address}{}", inputs.len() - 1)
    })
    .await?;
    for (number, (path, content_type)) in embedding.into_iter().enumerate() {
        let bytes = tokio::fs::read(&path).await.map_err(|error| {
            Failure::new(Code::Internal, format!("an asset cannot be read: {error}"))
        })?;
        let text = format!(
            "data:{content_type};base64,{}",
            crate::document::base64(&bytes)
        );
        graph
            .values_mut()
            .for_each(|value| put_text(value, &format!("\u{0}{number}"), &text));
    }
    Ok(inputs)
}

/// Takes files that stand in the graph out of it, the largest first, until only small ones are left
/// and the message is not too long.
async fn separate(
    graph: &mut Map<String, Value>,
    embedded: Vec<Embedded>,
    (address, (mut length, longest)): (&str, (usize, usize)),
    inputs: &mut Vec<Input>,
) -> Result<(), Failure> {
    for file in embedded {
        if file.length <= LARGE && length <= longest {
            break;
        }
        let Some(place) = file.place_in(graph) else {
            continue;
        };
        let text = place.take();
        let decoding = move || (decode(text.as_str().unwrap_or_default()), text);
        let (decoded, text) = tokio::task::spawn_blocking(decoding)
            .await
            .map_err(|_| crate::error::panicked("decoding an embedded file"))?;
        if let Some(place) = file.place_in(graph) {
            *place = match decoded {
                Some((bytes, extension)) => {
                    length -= file.length;
                    inputs.push(Input::Bytes {
                        bytes: bytes.into(),
                        name: format!("input.{extension}"),
                    });
                    format!("{address}{}", inputs.len() - 1).into()
                }
                None => text,
            };
        }
    }
    Ok(())
}

/// The bytes of a value as JSON.
fn written(value: &Map<String, Value>) -> usize {
    crate::json::length(value).unwrap_or(0)
}

fn put_text(value: &mut Value, mark: &str, text: &str) {
    match value {
        Value::String(known) if known == mark => *value = text.into(),
        Value::Array(items) => items.iter_mut().for_each(|item| put_text(item, mark, text)),
        Value::Object(members) => members
            .values_mut()
            .for_each(|item| put_text(item, mark, text)),
        _ => {}
    }
}
