//! What a client asked for, parsed and checked once; after that the types cannot be wrong (http-api.md, `POST /prompt`).

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use url::Url;

use crate::error::{Code, Failure};
use crate::media::{ArchiveFormat, Conversion};
use crate::storage::{Credential, HfTarget, Target};
use crate::webhook::Kind;

/// Longest id; it becomes part of file names.
const MAX_ID: usize = 128;

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
}

/// A graph that nobody changes any more.
pub type Graph = Arc<Map<String, Value>>;

/// An upload that was asked for.
#[derive(Debug, Clone)]
pub struct UploadRequest {
    /// The request's field, for locations: `s3`, `azure_blob_upload`, `hf_upload` or `http_upload`.
    pub field: &'static str,
    /// Where to.
    pub target: Target,
    /// `async`: the client does not wait.
    pub background: bool,
}

/// A webhook that was asked for.
#[derive(Debug, Clone)]
pub struct WebhookRequest {
    /// `webhook_v2` wins over `webhook`.
    pub kind: Kind,
    /// The receiver.
    pub url: Url,
}

/// A checked request.
#[derive(Debug, Clone)]
pub struct PromptRequest {
    /// The caller's id, or a UUID.
    pub id: Arc<str>,
    /// Whether the caller chose it, so that it may come again.
    pub id_is_callers: bool,
    /// The graph: node id to `{inputs, class_type, _meta?}`; every node has a class and inputs.
    pub graph: Map<String, Value>,
    /// The request's own fields that are answered again: all known ones but the graph, `credentials` and `extra_data`.
    pub echo: Map<String, Value>,
    /// Who is told of the end.
    pub webhook: Option<WebhookRequest>,
    /// `convert_output`
    pub conversion: Option<Conversion>,
    /// `compress_outputs`
    pub archive: Option<ArchiveFormat>,
    /// `signed_url`
    pub signed_url: bool,
    /// Passed to ComfyUI; never logged or answered.
    pub extra_data: Option<Value>,
    /// For downloads; never logged or answered.
    pub credentials: Arc<[Credential]>,
    /// Where the files go, if not into the answer.
    pub upload: Option<UploadRequest>,
}

impl PromptRequest {
    /// Parses the body of a request.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn parse(mut body: Map<String, Value>) -> Result<Self, Failure> {
        // An explicit null is as good as nothing at all.
        body.retain(|_, value| !value.is_null());
        let callers_id = take_string(&mut body, "id")?;
        let id_is_callers = callers_id.is_some();
        let id: Arc<str> = match callers_id {
            Some(id) => check_id(id)?.into(),
            None => uuid::Uuid::new_v4().to_string().into(),
        };
        let graph = match body.remove("prompt") {
            Some(prompt) => check_graph(prompt)?,
            None => {
                return Err(Failure::invalid(
                    "prompt",
                    "the field \"prompt\" is missing: it must be a ComfyUI graph in API format",
                ));
            }
        };
        let extra_data = match body.remove("extra_data") {
            Some(value @ Value::Object(_)) => Some(value),
            Some(_) => return Err(wrong_type("extra_data", "an object")),
            None => None,
        };
        let credentials: Vec<Credential> = body
            .remove("credentials")
            .map(|value| read(value, "credentials"))
            .transpose()?
            .unwrap_or_default();
        let upload = upload(&body)?;
        let signed_url = boolean(&body, "signed_url")?;
        if signed_url {
            check_signable(upload.as_ref())?;
        }
        let request = Self {
            webhook: WebhookRequest::find(&body)?,
            conversion: conversion(&body)?,
            archive: archive(&body)?,
            echo: echo(body),
            credentials: credentials.into(),
            id,
            id_is_callers,
            graph,
            signed_url,
            extra_data,
            upload,
        };
        Ok(request)
    }

    /// The client does not wait for the end: it gets a 202.
    pub fn is_async(&self) -> bool {
        self.webhook.is_some() || self.upload.as_ref().is_some_and(|upload| upload.background)
    }
}

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

fn check_id(id: String) -> Result<String, Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if id.is_empty()
        || id.len() > MAX_ID
        || !id.chars().all(allowed)
        || id.chars().all(|c| c == '.')
    {
        return Err(Failure::invalid(
            "id",
            format!(
                "\"id\" becomes part of file names: it must be 1 to {MAX_ID} characters of A-Z, a-z, 0-9, '.', '_' and '-'"
            ),
        ));
    }
    Ok(id)
}

fn check_graph(prompt: Value) -> Result<Map<String, Value>, Failure> {
    let Value::Object(graph) = prompt else {
        return Err(wrong_type(
            "prompt",
            "an object: a ComfyUI graph in API format",
        ));
    };
    if graph.get("nodes").is_some_and(Value::is_array) {
        let message = "this is a workflow as the ComfyUI editor saves it, not a graph that can be run: export it with \"Export (API)\" and send that";
        return Err(Failure::new(Code::InvalidPrompt, message).at("prompt"));
    }
    for (id, node) in &graph {
        let Some(node) = node.as_object() else {
            return Err(wrong_type(
                format!("prompt.{id}"),
                "an object with \"class_type\" and \"inputs\"",
            ));
        };
        if !node.get("class_type").is_some_and(Value::is_string) {
            return Err(wrong_type(
                format!("prompt.{id}.class_type"),
                "a string: the node's class",
            ));
        }
        if !node.get("inputs").is_some_and(Value::is_object) {
            return Err(wrong_type(
                format!("prompt.{id}.inputs"),
                "an object: the node's inputs",
            ));
        }
    }
    Ok(graph)
}

impl WebhookRequest {
    /// Finds who is told of the end in the body of a request.
    ///
    /// # Errors
    /// A 400 that names the field.
    pub fn find(body: &Map<String, Value>) -> Result<Option<Self>, Failure> {
        let mut found = None;
        // Checked in this order so that v2 wins when both are given, and both are checked.
        for (field, kind) in [("webhook", Kind::Legacy), ("webhook_v2", Kind::V2)] {
            let Some(value) = body.get(field).filter(|value| !value.is_null()) else {
                continue;
            };
            let text = value.as_str().ok_or_else(|| wrong_type(field, "a URL"))?;
            match Url::parse(text) {
                Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {
                    found = Some(Self { kind, url })
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

#[derive(serde::Deserialize)]
struct S3Upload {
    bucket: String,
    #[serde(default)]
    prefix: String,
}

#[derive(serde::Deserialize)]
struct AzureUpload {
    container: String,
    #[serde(default)]
    blob_prefix: String,
}

#[derive(serde::Deserialize)]
struct HttpUpload {
    url_prefix: String,
}

fn upload(body: &Map<String, Value>) -> Result<Option<UploadRequest>, Failure> {
    let mut found: Option<UploadRequest> = None;
    for field in ["s3", "azure_blob_upload", "hf_upload", "http_upload"] {
        let Some(value) = body.get(field) else {
            continue;
        };
        let Some(object) = value.as_object() else {
            return Err(wrong_type(field, "an object"));
        };
        if let Some(first) = &found {
            return Err(Failure::invalid(
                field,
                format!(
                    "both \"{}\" and \"{field}\" are given: outputs can be uploaded to one target only",
                    first.field
                ),
            ));
        }
        let background = match object.get("async") {
            None | Some(Value::Null) => false,
            Some(Value::Bool(background)) => *background,
            Some(_) => return Err(wrong_type(format!("{field}.async"), "true or false")),
        };
        let mut value = value.clone();
        if let Some(object) = value.as_object_mut() {
            object.retain(|_, value| !value.is_null());
        }
        let target = match field {
            "s3" => read::<S3Upload>(value, field).map(|s3| Target::S3 {
                bucket: s3.bucket,
                prefix: s3.prefix,
            }),
            "azure_blob_upload" => read::<AzureUpload>(value, field).map(|azure| Target::Azure {
                container: azure.container,
                blob_prefix: azure.blob_prefix,
            }),
            "hf_upload" => read::<HfTarget>(value, field).map(Target::HuggingFace),
            _ => read::<HttpUpload>(value, field).map(|http| Target::Http {
                url_prefix: http.url_prefix,
            }),
        }?;
        found = Some(UploadRequest {
            field,
            target,
            background,
        });
    }
    Ok(found)
}

/// Only S3 and Azure can sign; whether they are configured for it is asked before the prompt runs.
fn check_signable(upload: Option<&UploadRequest>) -> Result<(), Failure> {
    match upload.map(|upload| &upload.target) {
        Some(Target::S3 { .. } | Target::Azure { .. }) => Ok(()),
        Some(_) => Err(Failure::invalid(
            "signed_url",
            "\"signed_url\" needs an upload target that can sign URLs: \"s3\" or \"azure_blob_upload\"",
        )),
        None => Err(Failure::invalid(
            "signed_url",
            "\"signed_url\" needs an upload target: add \"s3\" or \"azure_blob_upload\"",
        )),
    }
}

/// Reads a part of the request into a type; the location of a problem is `field.<path>`.
pub fn read<T: DeserializeOwned>(value: Value, field: &str) -> Result<T, Failure> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let mut location = if path == "." {
            field.to_owned()
        } else {
            format!(
                "{field}.{}",
                path.replace('[', ".")
                    .replace(']', "")
                    .replace("..", ".")
                    .trim_start_matches('.')
            )
        };
        if let Some(name) = error
            .inner()
            .to_string()
            .strip_prefix("missing field `")
            .and_then(|rest| rest.split('`').next())
        {
            location = format!("{location}.{name}");
        }
        // serde quotes what it found; for credentials that may be a secret, so only the type of the problem is told there.
        let reason = if matches!(field.rsplit('.').next(), Some("credentials" | "auth")) {
            redact(&error.into_inner().to_string())
        } else {
            error.into_inner().to_string()
        };
        Failure::invalid(
            location.clone(),
            format!("\"{location}\" cannot be used: {reason}"),
        )
    })
}

/// serde's texts quote the offending value: `invalid type: string "s3cr3t", expected ...`.
fn redact(reason: &str) -> String {
    if reason.starts_with("missing field")
        || reason.starts_with("unknown variant") && !reason.contains("://")
    {
        return reason.to_owned();
    }
    reason.split_once(", expected ").map_or_else(
        || "it has the wrong form".to_owned(),
        |(_, expected)| format!("expected {expected}"),
    )
}

fn take_string(body: &mut Map<String, Value>, field: &str) -> Result<Option<String>, Failure> {
    match body.remove(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(field, "a string")),
    }
}

fn boolean(body: &Map<String, Value>, field: &str) -> Result<bool, Failure> {
    match body.get(field) {
        None => Ok(false),
        Some(Value::Bool(value)) => Ok(*value),
        Some(_) => Err(wrong_type(field, "true or false")),
    }
}

fn wrong_type(location: impl Into<String>, expected: &str) -> Failure {
    let location = location.into();
    Failure::invalid(
        location.clone(),
        format!("\"{location}\" must be {expected}"),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

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
            (json!({"prompt": {"nodes": [], "links": []}}), "prompt"),
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
            (json!({"id": "a/b"}), "id"),
            (json!({"id": ""}), "id"),
            (json!({"id": ".."}), "id"),
            (json!({"id": "x".repeat(129)}), "id"),
            (json!({"id": 5}), "id"),
            (json!({"webhook_v2": "nonsense"}), "webhook_v2"),
            (json!({"webhook": 7}), "webhook"),
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
        assert_eq!(
            (
                request.webhook.as_ref().unwrap().kind,
                request.webhook.as_ref().unwrap().url.as_str()
            ),
            (Kind::V2, "http://b/")
        );
        assert!(request.is_async() && &*request.id == "a.b-c_D");
        let request = with(json!({"webhook_v2": "http://u:marked@b/x?token=marked&id=7", "http_upload": {"url_prefix": "http://u:marked@c/p"}})).unwrap();
        assert_eq!(
            Value::Object(request.echo),
            json!({"webhook_v2": "http://b/x?id=7", "http_upload": {"url_prefix": "http://c/p"}})
        );
        assert!(request.webhook.unwrap().url.as_str().contains("marked"));
    }
}
