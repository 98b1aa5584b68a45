//! What a client asked for, parsed and checked once; after that the types cannot be wrong
//! (http-api.md, `POST /prompt`).

mod credentials;
mod echo;
mod format;
pub mod graph;
mod id;
mod passed_on;
mod read;
mod shown;
mod source;
mod submit_fields;
mod upload;
mod webhook;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use credentials::credentials;
use echo::echo;
use format::{archive, conversion};
use read::{boolean, take_string, wrong_type};
use serde_json::{Map, Value};

use crate::error::Failure;
use crate::media::{ArchiveFormat, Conversion};
use crate::storage::Credentials;

pub use credentials::check_auth;
pub use id::file_name;
pub use passed_on::PassedOn;
pub use read::{read, sendable, url_text};
pub use shown::{IsMedia, shown_body, shown_graph};
pub use source::Source;
pub use submit_fields::SubmitFields;
pub use upload::UploadRequest;
pub use webhook::WebhookRequest;

/// A graph that nobody changes any more.
pub type Graph = Arc<Map<String, Value>>;

/// A checked request.
#[derive(Debug, Clone)]
pub struct PromptRequest {
    /// The caller's id, or a UUID.
    pub id: Arc<str>,
    /// The id as file names hold it.
    pub file_id: Arc<str>,
    /// Whether the caller chose it, so that it may come again.
    pub id_is_callers: bool,
    /// It was made for this run, of a random number: nothing can bear it yet.
    pub id_is_fresh: bool,
    /// The graph: node id to `{inputs, class_type, _meta?}`; every node has a class and inputs.
    pub graph: Map<String, Value>,
    /// The workflow as the editor saves it, if that was sent; then there is no graph yet.
    pub workflow: Option<Arc<Map<String, Value>>>,
    /// The request's own fields that are answered again: all known ones but the graph,
    /// `credentials` and `extra_data`.
    pub echo: Map<String, Value>,
    /// Who is told of the end.
    pub webhooks: Vec<WebhookRequest>,
    /// `convert_output`
    pub conversion: Option<Box<Conversion>>,
    /// `compress_outputs`
    pub archive: Option<ArchiveFormat>,
    /// `signed_url`
    pub signed_url: bool,
    /// Passed to ComfyUI; never logged or answered.
    pub extra_data: Option<Value>,
    /// Passed to ComfyUI.
    pub submit: SubmitFields,
    /// For downloads; never logged or answered.
    pub credentials: Credentials,
    /// `keep`
    pub keep: bool,
    /// `async`
    pub background: bool,
    /// Where the files go, if not into the answer.
    pub upload: Option<Box<UploadRequest>>,
    /// What was read otherwise than written; for the answer.
    pub warnings: Vec<String>,
    /// What another server needs to run it.
    pub passed_on: Option<Box<PassedOn>>,
}

impl PromptRequest {
    /// Parses the body of a request.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn parse(mut body: Map<String, Value>) -> Result<Self, Failure> {
        // An explicit null is as good as nothing at all.
        body.retain(|_, value| !value.is_null());
        let workflow = graph::take(&mut body)?;
        let callers_id = take_string(&mut body, "id")?;
        Self::read(workflow, callers_id, body)
    }

    /// Parses a body whose id is known from elsewhere.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn parse_with_id(id: &str, mut body: Map<String, Value>) -> Result<Self, Failure> {
        body.retain(|_, value| !value.is_null());
        let workflow = graph::take(&mut body)?;
        // Of requests over HTTP only (console.md).
        body.shift_remove("keep");
        body.shift_remove("async");
        Self::read(workflow, Some(id.to_owned()), body)
    }

    fn read(
        workflow: graph::Workflow,
        callers_id: Option<String>,
        mut body: Map<String, Value>,
    ) -> Result<Self, Failure> {
        let id_is_callers = callers_id.is_some();
        let id = callers_id.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
        id::check(&id)?;
        let (graph, workflow) = match workflow {
            graph::Workflow::Api(mut graph) => {
                graph::check(&mut graph)?;
                (graph, None)
            }
            // The pipeline makes the graph of it.
            graph::Workflow::Editor(workflow) => (Map::new(), Some(Arc::new(workflow))),
        };
        let passed_on = PassedOn::of(&body);
        let extra_data = match body.remove("extra_data") {
            Some(value @ Value::Object(_)) => Some(value),
            Some(_) => return Err(wrong_type("extra_data", "an object")),
            None => None,
        };
        let credentials = credentials(body.remove("credentials"))?;
        let upload = upload::find(&body)?.map(Box::new);
        let signed_url = boolean(&body, "signed_url")?;
        if signed_url {
            upload::check_signable(upload.as_deref())?;
        }
        let conversion = conversion(&body)?.map(Box::new);
        let warnings = conversion
            .as_ref()
            .map(|conversion| conversion.warnings().to_vec())
            .unwrap_or_default();
        Ok(Self {
            webhooks: WebhookRequest::find(&body)?,
            archive: archive(&body)?,
            keep: boolean(&body, "keep")?,
            background: boolean(&body, "async")?,
            submit: SubmitFields::find(&body, workflow.is_none().then_some(&graph))?,
            echo: echo(body),
            file_id: file_name(&id).into(),
            id: id.into(),
            conversion,
            credentials,
            id_is_callers,
            id_is_fresh: !id_is_callers,
            graph,
            workflow,
            signed_url,
            extra_data,
            upload,
            warnings,
            passed_on,
        })
    }

    /// What was sent to be run.
    pub fn sent(&self) -> Map<String, Value> {
        self.workflow.as_deref().unwrap_or(&self.graph).clone()
    }

    /// The client does not wait for the end: it gets a 202.
    pub fn is_async(&self) -> bool {
        self.background
            || !self.webhooks.is_empty()
            || self.upload.as_ref().is_some_and(|upload| upload.background)
    }

    /// Checks that a client that does not wait can learn of the result.
    ///
    /// # Errors
    /// A 400 at `async`.
    pub fn check_background(&self) -> Result<(), Failure> {
        if self.background && !self.keep && self.webhooks.is_empty() && self.upload.is_none() {
            return Err(Failure::invalid(
                "async",
                "nobody would learn of the result: send \"keep\": true, a webhook or an upload \
                 target beside \"async\"",
            ));
        }
        Ok(())
    }
}
