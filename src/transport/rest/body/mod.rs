//! Request bodies: a JSON object within the limits ([`crate::limits`]), or an answer that says what
//! is wrong.
//!
//! A body is counted while it arrives, before anything is built from it, and what is large is built
//! beside the runtime's threads.

mod pour;
mod text;

use std::marker::PhantomData;

use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use serde_json::{Map, Value};
use text::{Content, Text};

use super::RouterState;
use crate::error::{Code, Failure};
use crate::fields;
use crate::job::request::graph;
use crate::json::{JsonError, Keep, counted_members};
use crate::limits::bodies::Share;
use crate::net::http_fields::media_type;

pub(super) use pour::pour_away;

/// Reads the body as a JSON object of at most `limit` bytes, whatever its type is said to be.
///
/// # Errors
/// 400 when it is none, 413 when it is larger.
pub async fn object(request: Request, limit: usize) -> Result<Map<String, Value>, Failure> {
    let text = Text::receive(request, limit).await?;
    let (members, _) = text
        .build(|text| counted_members(text, |_| Keep::All))
        .await?;
    Ok(members)
}

/// Reads the body as JSON of any kind, whatever its type is said to be.
///
/// # Errors
/// 400 when it is none, 413 when it is larger than `limit` bytes.
pub async fn value(request: Request, limit: usize) -> Result<Value, Failure> {
    let text = Text::receive(request, limit).await?;
    let built = text.build(|text| crate::json::parse(std::mem::take(text)));
    Ok(built.await?.0)
}

/// The bytes of a body that may be a file; they keep their part of the memory of all bodies.
pub struct FileBody {
    /// Decoded.
    pub bytes: Vec<u8>,
    _share: Share,
}

/// Reads a body of at most `limit` bytes that may be a file.
///
/// # Errors
/// 413 when it is larger.
pub async fn file(request: Request, limit: usize) -> Result<FileBody, Failure> {
    let body = Text::receive_as(request, limit, Content::Any).await?;
    Ok(FileBody {
        bytes: body.text,
        _share: body._share,
    })
}

/// Which members an endpoint knows.
pub trait Known {
    /// Their names.
    const FIELDS: &'static [&'static str];
}

/// The known members of a JSON object. Nothing else of the body is built.
#[derive(Debug)]
pub struct KnownObject<K>(pub Map<String, Value>, pub PhantomData<K>);

impl<K: Known> FromRequest<RouterState> for KnownObject<K> {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &RouterState) -> Result<Self, Failure> {
        check_type(request.headers())?;
        let receiving = Text::receive(request, state.config.server.max_body_bytes);
        let text = Box::pin(receiving).await?;
        let known = |name: &str| {
            if K::FIELDS.contains(&name) {
                Keep::All
            } else {
                Keep::Nothing
            }
        };
        let (members, _) = text.build(move |text| counted_members(text, known)).await?;
        Ok(Self(members, PhantomData))
    }
}

/// What a prompt or a workflow is asked for with. Nothing else of the body is built.
#[derive(Debug)]
pub struct PromptBody {
    /// The known members; all of them when the body itself is the graph.
    pub members: Map<String, Value>,
    /// Work on it belongs beside the runtime's threads.
    pub large: bool,
}

impl FromRequest<RouterState> for PromptBody {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &RouterState) -> Result<Self, Failure> {
        check_type(request.headers())?;
        let receiving = Text::receive(request, state.config.server.max_body_bytes);
        let text = Box::pin(receiving).await?;
        let (members, large) = text.build(prompt_members).await?;
        Ok(Self { members, large })
    }
}

/// The same for a workflow endpoint, where all members are the input when none is called so.
#[derive(Debug)]
pub struct WorkflowBody(pub PromptBody);

impl FromRequest<RouterState> for WorkflowBody {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &RouterState) -> Result<Self, Failure> {
        check_type(request.headers())?;
        let receiving = Text::receive(request, state.config.server.max_body_bytes);
        let text = Box::pin(receiving).await?;
        let (members, large) = text.build(workflow_members).await?;
        Ok(Self(PromptBody { members, large }))
    }
}

fn workflow_members(text: &mut Vec<u8>) -> Result<Map<String, Value>, JsonError> {
    let known = counted_members(text, known_fields)?;
    if known.get("input").is_some_and(|input| !input.is_null()) {
        return Ok(known);
    }
    counted_members(text, |_| Keep::All)
}

fn known_fields(name: &str) -> Keep {
    if fields::is_known(name) {
        Keep::All
    } else {
        Keep::Nothing
    }
}

fn prompt_members(text: &mut Vec<u8>) -> Result<Map<String, Value>, JsonError> {
    let known = counted_members(text, known_fields)?;
    if graph::has_envelope(&known) {
        return Ok(known);
    }
    // Not even a name is known of what may be the graph itself, or hold it.
    counted_members(text, |name| {
        if fields::is_known(name) {
            Keep::All
        } else {
            graph::keep_of_bare(name)
        }
    })
}

fn check_type(headers: &HeaderMap) -> Result<(), Failure> {
    let content_type = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let essence = media_type(content_type);
    if essence == "application/json"
        || essence.starts_with("application/") && essence.ends_with("+json")
    {
        return Ok(());
    }
    let found = if essence.is_empty() {
        "missing".to_owned()
    } else {
        format!("\"{essence}\"")
    };
    Err(Failure::new(
        Code::UnsupportedMediaType,
        format!("the Content-Type is {found}: send application/json"),
    ))
}
