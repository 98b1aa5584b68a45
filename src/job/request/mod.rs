//! What a client asked for, parsed and checked once; after that the types cannot be wrong (http-api.md, `POST /prompt`).

pub mod graph;
mod id;
mod passed_on;
mod read;
mod shown;
mod upload;

use std::sync::Arc;

use serde_json::{Map, Number, Value};
use url::Url;

use crate::error::Failure;
use crate::limits::MAX_CREDENTIALS;
use crate::media::{ArchiveFormat, Conversion};
use crate::storage::{Auth, Credential, Credentials};
use crate::webhook::Kind;
pub use id::file_name;
pub use passed_on::PassedOn;
use read::{boolean, take_string, wrong_type};
pub use read::{read, sendable, url_text};
pub use shown::{IsMedia, shown_body, shown_graph};
pub use upload::UploadRequest;

/// Where a prompt came from. Nothing in `prompt` acts on it but the statistics and the list of prompts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// `POST /prompt`
    Http,
    /// The queue.
    Amqp,
    /// `POST /workflow/...`
    Workflow,
    /// The warmup prompt.
    Warmup,
    /// `POST /api/v2/jobs`
    V2,
    /// A tool of an agent.
    Mcp,
}

impl Source {
    /// The word in bodies and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Amqp => "amqp",
            Self::Workflow => "workflow",
            Self::Warmup => "warmup",
            Self::V2 => "v2",
            Self::Mcp => "mcp",
        }
    }

    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Http,
        Self::Amqp,
        Self::Workflow,
        Self::Warmup,
        Self::V2,
        Self::Mcp,
    ];

    /// The word for a transport as it was recorded.
    pub fn word(recorded: &str) -> &'static str {
        let words = Self::ALL.into_iter().map(Self::as_str);
        words
            .into_iter()
            .find(|word| *word == recorded)
            .unwrap_or("v2")
    }
}

/// A graph that nobody changes any more.
pub type Graph = Arc<Map<String, Value>>;

/// A webhook that was asked for. Both kinds may be, and both are told then.
#[derive(Debug, Clone)]
pub struct WebhookRequest {
    /// From `webhook_v2` or `webhook`.
    pub kind: Kind,
    /// The receiver.
    pub url: Url,
}

/// Fields of ComfyUI's own `POST /prompt`, passed on as given.
#[derive(Debug, Clone, Default)]
pub struct SubmitFields {
    /// Node ids; each is in the graph.
    pub partial_execution_targets: Option<Vec<String>>,
    /// Ahead of those that wait.
    pub front: Option<bool>,
    /// The place in the queue.
    pub number: Option<Number>,
}

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
    /// The request's own fields that are answered again: all known ones but the graph, `credentials` and `extra_data`.
    pub echo: Map<String, Value>,
    /// Who is told of the end.
    pub webhooks: Vec<WebhookRequest>,
    /// `convert_output`
    pub conversion: Option<Conversion>,
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
    pub upload: Option<UploadRequest>,
    /// What was read otherwise than written; for the answer.
    pub warnings: Vec<String>,
    /// What another server needs to run it.
    pub passed_on: PassedOn,
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
        let upload = upload::find(&body)?;
        let signed_url = boolean(&body, "signed_url")?;
        if signed_url {
            upload::check_signable(upload.as_ref())?;
        }
        let conversion = conversion(&body)?;
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
                "nobody would learn of the result: send \"keep\": true, a webhook or an upload target beside \"async\"",
            ));
        }
        Ok(())
    }
}

fn credentials(given: Option<Value>) -> Result<Credentials, Failure> {
    let Some(given) = given else {
        return Ok(Credentials::default());
    };
    if given
        .as_array()
        .is_some_and(|list| list.len() > MAX_CREDENTIALS)
    {
        let message = format!("a request can have {MAX_CREDENTIALS} credentials at most");
        return Err(Failure::invalid("credentials", message));
    }
    let list: Vec<Credential> = read(given, "credentials")?;
    for (index, credential) in list.iter().enumerate() {
        let at = |member: &str| format!("credentials.{index}.{member}");
        credential
            .check_pattern()
            .map_err(|reason| Failure::invalid(at("url_pattern"), reason))?;
        check_auth(&credential.auth, &at("auth"))?;
    }
    Ok(list.into())
}

/// Checks that credentials can be sent as what they are (attack.md, A02 and A22).
///
/// # Errors
/// A 400 at the member of `field`.
pub fn check_auth(auth: &Auth, field: &str) -> Result<(), Failure> {
    auth.check()
        .map_err(|(member, reason)| Failure::invalid(format!("{field}.{member}"), reason))
}

impl SubmitFields {
    /// Without a graph nothing is compared with it: [`SubmitFields::check`] does so when there is one.
    fn find(
        body: &Map<String, Value>,
        graph: Option<&Map<String, Value>>,
    ) -> Result<Self, Failure> {
        let partial_execution_targets = match body.get(TARGETS) {
            None => None,
            Some(Value::Array(list)) => {
                let ids = list.iter().map(|id| id.as_str().map(str::to_owned));
                Some(
                    ids.collect::<Option<Vec<String>>>()
                        .ok_or_else(|| wrong_type(TARGETS, "a list of node ids"))?,
                )
            }
            Some(_) => return Err(wrong_type(TARGETS, "a list of node ids")),
        };
        let front = match body.get("front") {
            None => None,
            Some(Value::Bool(front)) => Some(*front),
            Some(_) => return Err(wrong_type("front", "true or false")),
        };
        let number = match body.get("number") {
            None => None,
            Some(Value::Number(number)) => Some(number.clone()),
            Some(_) => return Err(wrong_type("number", "a number")),
        };
        let fields = Self {
            partial_execution_targets,
            front,
            number,
        };
        if let Some(graph) = graph {
            fields.check(graph)?;
        }
        Ok(fields)
    }

    /// Checks that the nodes it names are there.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn check(&self, graph: &Map<String, Value>) -> Result<(), Failure> {
        let mut targets = self.partial_execution_targets.iter().flatten();
        match targets.find(|id| !graph.contains_key(*id)) {
            Some(id) => Err(Failure::invalid(
                TARGETS,
                format!("\"{id}\" is no node of the graph"),
            )),
            None => Ok(()),
        }
    }
}

const TARGETS: &str = "partial_execution_targets";

/// The fields that are answered again, in the order of the documentation.
const ECHOED: &[&str] = &[
    "input",
    "webhook",
    "webhook_v2",
    "convert_output",
    "compress_outputs",
    "signed_url",
    "s3",
    "azure_blob_upload",
    "hf_upload",
    "http_upload",
    "partial_execution_targets",
    "front",
    "number",
    "queue",
    "priority",
    "keep",
    "async",
];

fn echo(mut body: Map<String, Value>) -> Map<String, Value> {
    for pointer in ["webhook", "webhook_v2"] {
        body.get_mut(pointer).into_iter().for_each(hide_secrets);
    }
    body.get_mut("http_upload")
        .and_then(|upload| upload.get_mut("url_prefix"))
        .into_iter()
        .for_each(hide_secrets);
    ECHOED
        .iter()
        .filter_map(|name| body.remove(*name).map(|value| ((*name).to_owned(), value)))
        .collect()
}

/// A URL's userinfo and signatures are credentials, and answers are read by others too: attached streams, webhooks, the queue.
fn hide_secrets(url: &mut Value) {
    if let Some(parsed) = url.as_str().and_then(|text| url::Url::parse(text).ok()) {
        let public = crate::config::public(&parsed);
        if public != parsed.as_str() {
            *url = public.into();
        }
    }
}

impl WebhookRequest {
    /// Finds who is told of the end in the body of a request. An empty text is nobody (faults.md, F14).
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn find(body: &Map<String, Value>) -> Result<Vec<Self>, Failure> {
        let mut found = Vec::new();
        for (field, kind) in [("webhook_v2", Kind::V2), ("webhook", Kind::Legacy)] {
            let text = match body.get(field) {
                None | Some(Value::Null) => continue,
                Some(Value::String(text)) if text.trim().is_empty() => continue,
                Some(Value::String(text)) => url_text(text, field)?,
                Some(_) => return Err(wrong_type(field, "a URL")),
            };
            match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                    found.push(Self { kind, url });
                }
                _ => {
                    return Err(Failure::invalid(
                        field,
                        format!("\"{field}\" is not a URL that begins with http:// or https://"),
                    ));
                }
            }
        }
        Ok(found)
    }

    /// The request's field, for locations.
    pub const fn field(&self) -> &'static str {
        match self.kind {
            Kind::V2 => "webhook_v2",
            Kind::Legacy => "webhook",
        }
    }
}

fn conversion(body: &Map<String, Value>) -> Result<Option<Conversion>, Failure> {
    let Some(value) = body.get("convert_output") else {
        return Ok(None);
    };
    let object = value.as_object().ok_or_else(|| {
        wrong_type(
            "convert_output",
            "an object with \"format\" and perhaps \"options\"",
        )
    })?;
    let format = object
        .get("format")
        .and_then(Value::as_str)
        .ok_or_else(|| {
            wrong_type(
                "convert_output.format",
                "a string such as \"jpeg\" or \"webp\"",
            )
        })?;
    let options = object.get("options").filter(|options| !options.is_null());
    Conversion::parse(format, options).map(Some)
}

fn archive(body: &Map<String, Value>) -> Result<Option<ArchiveFormat>, Failure> {
    match body.get("compress_outputs") {
        None | Some(Value::Bool(false)) => Ok(None),
        Some(Value::Bool(true)) => Ok(Some(ArchiveFormat::Zip)),
        Some(Value::String(name)) => match name.as_str() {
            "zip" => Ok(Some(ArchiveFormat::Zip)),
            "tar" => Ok(Some(ArchiveFormat::Tar)),
            "tar.gz" => Ok(Some(ArchiveFormat::TarGz)),
            _ => Err(Failure::invalid(
                "compress_outputs",
                format!(
                    "\"{name}\" is not an archive format: use true, \"zip\", \"tar\" or \"tar.gz\""
                ),
            )),
        },
        Some(_) => Err(wrong_type(
            "compress_outputs",
            "true, false, \"zip\", \"tar\" or \"tar.gz\"",
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::error::Code;

    fn parse(body: Value) -> Result<PromptRequest, Failure> {
        let Value::Object(body) = body else {
            panic!("not an object")
        };
        PromptRequest::parse(body)
    }

    fn with(extra: Value) -> Result<PromptRequest, Failure> {
        let mut body = json!({"prompt": {"1": {"class_type": "SaveImage", "inputs": {}}}});
        body.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        parse(body)
    }

    #[test]
    fn every_bad_field_is_named() {
        let cases = [
            (json!({}), "prompt"),
            (json!({"prompt": []}), "prompt"),
            (json!({"prompt": {"7": null}}), "prompt.7"),
            (
                json!({"prompt": {"7": {"inputs": {}}}}),
                "prompt.7.class_type",
            ),
            (
                json!({"prompt": {"7": {"class_type": "X", "inputs": []}}}),
                "prompt.7.inputs",
            ),
        ];
        for (body, location) in cases {
            assert_eq!(parse(body).unwrap_err().location.as_deref(), Some(location));
        }
        let cases = [
            (json!({"id": "a\nb"}), "id"),
            (json!({"id": ""}), "id"),
            (json!({"id": "x".repeat(257)}), "id"),
            (json!({"id": 5}), "id"),
            (json!({"webhook_v2": "nonsense"}), "webhook_v2"),
            (json!({"webhook": 7}), "webhook"),
            (json!({"webhook": "http://h/a\nb"}), "webhook"),
            (
                json!({"webhook_v2": format!("http://h/{}", "x".repeat(8192))}),
                "webhook_v2",
            ),
            (json!({"front": "yes"}), "front"),
            (json!({"number": "1"}), "number"),
            (json!({"number": true}), "number"),
            (
                json!({"partial_execution_targets": "1"}),
                "partial_execution_targets",
            ),
            (
                json!({"partial_execution_targets": [1]}),
                "partial_execution_targets",
            ),
            (
                json!({"partial_execution_targets": ["1", "2"]}),
                "partial_execution_targets",
            ),
            (json!({"s3": {"bucket": "a b"}}), "s3.bucket"),
            (
                json!({"s3": {"bucket": "b", "prefix": "a\u{0}"}}),
                "s3.prefix",
            ),
            (json!({"hf_upload": {"repo": "a/ä"}}), "hf_upload.repo"),
            (
                json!({"hf_upload": {"repo": "a/b", "revision": "a\nb"}}),
                "hf_upload.revision",
            ),
            (
                json!({"azure_blob_upload": {"container": "c\r"}}),
                "azure_blob_upload.container",
            ),
            (
                json!({"http_upload": {"url_prefix": "http://h/\tx"}}),
                "http_upload.url_prefix",
            ),
            (
                json!({"http_upload": {"url_prefix": "x".repeat(9000)}}),
                "http_upload.url_prefix",
            ),
            (json!({"compress_outputs": "rar"}), "compress_outputs"),
            (json!({"signed_url": "yes"}), "signed_url"),
            (json!({"signed_url": true}), "signed_url"),
            (
                json!({"signed_url": true, "http_upload": {"url_prefix": "http://x"}}),
                "signed_url",
            ),
            (json!({"s3": {"prefix": "x"}}), "s3.bucket"),
            (json!({"s3": {"bucket": 5}}), "s3.bucket"),
            (json!({"s3": {"bucket": "b", "async": "yes"}}), "s3.async"),
            (
                json!({"s3": {"bucket": "b"}, "hf_upload": {"repo": "r"}}),
                "hf_upload",
            ),
            (
                json!({"hf_upload": {"repo": "r", "repo_type": "space"}}),
                "hf_upload.repo_type",
            ),
            (json!({"extra_data": [1]}), "extra_data"),
            (
                json!({"convert_output": {"options": {}}}),
                "convert_output.format",
            ),
        ];
        for (body, location) in cases {
            let failure = with(body.clone()).unwrap_err();
            assert_eq!(
                failure.location.as_deref(),
                Some(location),
                "{body}: {failure}"
            );
            assert_eq!(failure.code, Code::InvalidRequest);
        }
    }

    #[test]
    fn credentials_are_not_quoted_in_errors() {
        for auth in [
            json!("marked"),
            json!({"type": "bearer", "token": ["marked"]}),
            json!({"type": "basic", "username": "u", "password": {"marked": 1}}),
            json!({"type": "bearer"}),
        ] {
            let failure =
                with(json!({"credentials": [{"url_pattern": "*", "auth": auth}]})).unwrap_err();
            assert!(!failure.message.contains("marked"), "{failure}");
            assert!(failure.location.unwrap().starts_with("credentials"));
        }
    }

    #[test]
    fn what_is_echoed_and_what_is_not() {
        let request = with(json!({"id": "a.b-c_D", "webhook": "http://a/", "webhook_v2": "http://b/", "extra_data": {"k": 1}, "credentials": [], "unknown": 1, "signed_url": null})).unwrap();
        assert_eq!(
            request.echo.keys().collect::<Vec<_>>(),
            ["webhook", "webhook_v2"]
        );
        let receivers = |request: &PromptRequest| -> Vec<(Kind, String)> {
            let webhooks = request.webhooks.iter();
            webhooks
                .map(|hook| (hook.kind, hook.url.to_string()))
                .collect()
        };
        // D05
        assert_eq!(
            receivers(&request),
            [
                (Kind::V2, "http://b/".to_owned()),
                (Kind::Legacy, "http://a/".to_owned())
            ]
        );
        assert!(request.is_async() && &*request.id == "a.b-c_D");
        // F14
        let request = with(json!({"webhook": "", "webhook_v2": " "})).unwrap();
        assert!(!request.is_async() && request.webhooks.is_empty());
        let request = with(json!({"webhook_v2": "http://u:marked@b/x?token=marked&id=7", "http_upload": {"url_prefix": "http://u:marked@c/p"}})).unwrap();
        assert_eq!(
            Value::Object(request.echo),
            json!({"webhook_v2": "http://b/x?id=7", "http_upload": {"url_prefix": "http://c/p"}})
        );
        assert!(request.webhooks[0].url.as_str().contains("marked"));
    }

    /// A20, A22, A02
    #[test]
    fn credentials_that_cannot_be_used_are_named() {
        let bearer = json!({"type": "bearer", "token": "t"});
        let auth = |auth: Value| json!([{"url_pattern": "*", "auth": bearer}, {"url_pattern": "*", "auth": auth}]);
        for (credentials, location) in [
            (
                json!(vec![json!({"url_pattern": "*", "auth": bearer}); 101]),
                "credentials",
            ),
            (
                json!([{"url_pattern": "*".repeat(1025), "auth": bearer}]),
                "credentials.0.url_pattern",
            ),
            (
                json!([{"url_pattern": "a\n", "auth": bearer}]),
                "credentials.0.url_pattern",
            ),
            (
                auth(json!({"type": "bearer", "token": "a\nb"})),
                "credentials.1.auth.token",
            ),
            (
                auth(json!({"type": "bearer", "token": "ä"})),
                "credentials.1.auth.token",
            ),
            (
                auth(json!({"type": "basic", "username": "a\u{7f}", "password": "b"})),
                "credentials.1.auth.username",
            ),
            (
                auth(json!({"type": "basic", "username": "a", "password": "b\u{0}"})),
                "credentials.1.auth.password",
            ),
            (
                auth(json!({"type": "header", "header_name": "X Y", "header_value": "b"})),
                "credentials.1.auth.header_name",
            ),
            (
                auth(json!({"type": "header", "header_name": "Host", "header_value": "b"})),
                "credentials.1.auth.header_name",
            ),
            (
                auth(
                    json!({"type": "header", "header_name": "x-forwarded-host", "header_value": "b"}),
                ),
                "credentials.1.auth.header_name",
            ),
            (
                auth(
                    json!({"type": "header", "header_name": "X-Key", "header_value": "b\r\nHost: x"}),
                ),
                "credentials.1.auth.header_value",
            ),
            (
                auth(json!({"type": "query", "query_param": "a\n", "query_value": "b"})),
                "credentials.1.auth.query_param",
            ),
            (
                auth(json!({"type": "query", "query_param": "a", "query_value": "\u{1}"})),
                "credentials.1.auth.query_value",
            ),
            (
                auth(json!({"type": "s3", "access_key_id": "AK\nB", "secret_access_key": "s"})),
                "credentials.1.auth.access_key_id",
            ),
            (
                auth(json!({"type": "s3", "access_key_id": "A", "secret_access_key": "s\u{0}"})),
                "credentials.1.auth.secret_access_key",
            ),
            (
                auth(
                    json!({"type": "s3", "access_key_id": "A", "secret_access_key": "s", "session_token": "ü"}),
                ),
                "credentials.1.auth.session_token",
            ),
            (
                auth(
                    json!({"type": "s3", "access_key_id": "A", "secret_access_key": "s", "region": "eu\n"}),
                ),
                "credentials.1.auth.region",
            ),
            (
                auth(
                    json!({"type": "s3", "access_key_id": "A", "secret_access_key": "s", "endpoint": "http://h\n/"}),
                ),
                "credentials.1.auth.endpoint",
            ),
        ] {
            let failure = with(json!({"credentials": credentials})).unwrap_err();
            assert_eq!(failure.location.as_deref(), Some(location), "{failure}");
            assert_eq!(failure.code, Code::InvalidRequest);
        }
        let most = vec![json!({"url_pattern": "*".repeat(1024), "auth": bearer}); 100];
        assert!(with(json!({"credentials": most})).is_ok());
        assert!(
            with(
                auth(json!({"type": "basic", "username": "ä", "password": "ö"}))
                    .as_array()
                    .map(|list| json!({"credentials": list}))
                    .unwrap()
            )
            .is_ok()
        );
    }
}
