//! One message in, one answer out: as JSON, or as a stream when there is progress to tell.
//!
//! The work on a request is done inside its answer. When the client closes the connection the
//! answer is dropped, and the work with it: that is how a request is cancelled.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, stream};
use rmcp::model::ErrorCode;
use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use super::context::{Context, Progress, knows_tasks, progress_token};
use super::message::{Message, RpcError};
use super::revision::Revision;
use super::{McpState, listen, methods, origin, server, span};
use crate::error::{Code, Failure};
use crate::telemetry::trace;
use crate::transport::event_stream::event_stream;
use crate::transport::rest::{Uncompressed, body};
use crate::transport::v2::address::{Base, base};

/// How often a stream shows that it lives.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Messages of one batch.
const MOST_IN_A_BATCH: usize = 50;
/// Answers from this length on are not compressed: they hold pictures.
const LARGE: usize = 64 * 1024;

/// `POST /mcp`
pub async fn receive(State(state): State<McpState>, request: Request) -> Response {
    let headers = request.headers().clone();
    let authority = request
        .uri()
        .authority()
        .map(|authority| authority.as_str().to_owned());
    let config = state.rest.config.clone();
    if let Err(failure) = origin::check(
        &headers,
        authority.as_deref(),
        &config.server.cors_allowed_origins,
    ) {
        return failure.into_response();
    }
    let value = match body::value(request, config.server.max_body_bytes).await {
        Ok(value) => value,
        Err(failure) => return unreadable(&failure),
    };
    let caller = Caller {
        base: base(&headers, authority, &config),
        headers,
        state,
    };
    match value {
        Value::Array(messages) => caller.batch(messages).await,
        message => caller.single(message).await,
    }
}

fn unreadable(failure: &Failure) -> Response {
    let (code, status) = match failure.code {
        Code::InvalidRequest => (ErrorCode::PARSE_ERROR, StatusCode::BAD_REQUEST),
        Code::Internal => (ErrorCode::INTERNAL_ERROR, failure.status),
        _ => (ErrorCode::INVALID_REQUEST, failure.status),
    };
    let error = RpcError::new(code, failure.message.clone());
    (status, Json(error.message(None))).into_response()
}

fn refusal(id: Option<&Value>, error: &RpcError, revision: Option<Revision>) -> Response {
    (error.status(revision), Json(error.message(id))).into_response()
}

/// Who asks, and how we were reached.
#[derive(Clone)]
struct Caller {
    state: McpState,
    headers: HeaderMap,
    base: Base,
}

/// A request that can be worked on.
struct Call {
    id: Value,
    method: String,
    params: Map<String, Value>,
    context: Context,
}

impl Call {
    async fn answer(self) -> Value {
        let Self {
            id,
            method,
            params,
            context,
        } = self;
        let mut span = span::begin(context.revision, &id, &method, &params);
        let work = methods::call(&context, &method, params);
        let message = match trace::scope(span.context().cloned(), work).await {
            Ok(result) => {
                json!({"jsonrpc": "2.0", "id": id, "result": server::finished(&context, result)})
            }
            Err(error) => error.message(Some(&id)),
        };
        span::end(&mut span, &message);
        message
    }
}

impl Caller {
    async fn single(self, message: Value) -> Response {
        let (id, method, params) = match Message::read(message) {
            Ok(Message::Request { id, method, params }) => (id, method, params),
            Ok(Message::Notification | Message::Answer) => {
                return match Revision::of_header(&self.headers) {
                    Ok(_) => StatusCode::ACCEPTED.into_response(),
                    Err(error) => refusal(None, &error, None),
                };
            }
            Err((id, error)) => return refusal(id.as_ref(), &error, None),
        };
        let revision = match Revision::of_request(&self.headers, &method, &params) {
            Ok(revision) => revision,
            Err(error) => return refusal(Some(&id), &error, None),
        };
        if !methods::exists(revision, &method) {
            return refusal(Some(&id), &RpcError::method(&method), Some(revision));
        }
        if method == "subscriptions/listen" {
            let span = span::begin(revision, &id, &method, &params);
            return match listen::open(&self.state, &id, &params, span) {
                Ok(body) => event_stream(body),
                Err(error) => refusal(Some(&id), &error, Some(revision)),
            };
        }
        let token = progress_token(&params)
            .filter(|_| method == "tools/call" && takes_streams(&self.headers));
        let (to, notes) = mpsc::unbounded_channel();
        let streams = token.is_some();
        let call = self.call(
            revision,
            (id, method, params),
            token.map(|token| Progress::new(token, to)),
        );
        if streams {
            return event_stream(told(call.answer().boxed(), notes));
        }
        plain(&call.answer().await, revision)
    }

    /// Several messages at once, as the oldest revision has them; the answers come together.
    async fn batch(self, messages: Vec<Value>) -> Response {
        let refused = |message: &str| refusal(None, &RpcError::request(message), None);
        match Revision::of_header(&self.headers) {
            Ok(Revision::V2025_03_26) => {}
            Ok(_) => return refused("only revision 2025-03-26 has batches: send one message"),
            Err(error) => return refusal(None, &error, None),
        }
        if !messages.iter().all(Value::is_object) {
            return refused("each message of a batch must be a JSON object");
        }
        if messages.is_empty() || messages.len() > MOST_IN_A_BATCH {
            return refused("a batch has 1 to 50 messages");
        }
        let answers = messages
            .into_iter()
            .filter_map(|message| self.one_of(message));
        let answers = join_all(answers).await;
        if answers.is_empty() {
            return StatusCode::ACCEPTED.into_response();
        }
        Json(answers).into_response()
    }

    /// The answer to a message of a batch, if there is one.
    fn one_of(&self, message: Value) -> Option<BoxFuture<'static, Value>> {
        let error = |error: RpcError, id: Option<Value>| {
            Some(std::future::ready(error.message(id.as_ref())).boxed())
        };
        let (id, method, params) = match Message::read(message) {
            Ok(Message::Request { id, method, params }) => (id, method, params),
            Ok(Message::Notification | Message::Answer) => return None,
            Err((id, wrong)) => return error(wrong, id),
        };
        let revision = match Revision::of_request(&self.headers, &method, &params) {
            Ok(revision) => revision,
            Err(wrong) => return error(wrong, Some(id)),
        };
        if !methods::exists(revision, &method) || method == "subscriptions/listen" {
            return error(RpcError::method(&method), Some(id));
        }
        let call = self.clone().call(revision, (id, method, params), None);
        Some(call.answer().boxed())
    }

    fn call(
        self,
        revision: Revision,
        (id, method, params): (Value, String, Map<String, Value>),
        progress: Option<Progress>,
    ) -> Call {
        let context = Context {
            revision,
            base: self.base,
            knows_tasks: revision.is_stateless() && knows_tasks(&params),
            progress,
            state: self.state,
        };
        Call {
            id,
            method,
            params,
            context,
        }
    }
}

fn plain(message: &Value, revision: Revision) -> Response {
    let code = message.pointer("/error/code").and_then(Value::as_i64);
    let status = if code.is_some() && revision.is_stateless() {
        match code {
            Some(-32601) => StatusCode::NOT_FOUND,
            _ => StatusCode::OK,
        }
    } else {
        StatusCode::OK
    };
    let text = message.to_string();
    let large = text.len() >= LARGE;
    let mut response = (status, [(header::CONTENT_TYPE, "application/json")], text).into_response();
    if large {
        response.extensions_mut().insert(Uncompressed);
    }
    response
}

/// Whether a client takes a stream. Most say so; those that say nothing take what comes.
fn takes_streams(headers: &HeaderMap) -> bool {
    let mut accepted = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .peekable();
    accepted.peek().is_none()
        || accepted.any(|value| value.contains("text/event-stream") || value.contains("*/*"))
}

/// One frame of a stream.
pub fn frame(message: &Value) -> Bytes {
    format!("event: message\ndata: {message}\n\n").into()
}

/// Notes while the work goes on, then its answer.
fn told(work: BoxFuture<'static, Value>, notes: mpsc::UnboundedReceiver<Value>) -> Body {
    let frames = stream::unfold((Some(work), notes), |(work, mut notes)| async move {
        let mut going = work?;
        let frame = tokio::select! {
            biased;
            Some(note) = notes.recv() => frame(&note),
            answer = &mut going => {
                let mut last = Vec::new();
                while let Ok(note) = notes.try_recv() {
                    last.extend_from_slice(&frame(&note));
                }
                last.extend_from_slice(&frame(&answer));
                return Some((Ok::<_, std::io::Error>(Bytes::from(last)), (None, notes)));
            }
            () = tokio::time::sleep(KEEP_ALIVE) => keep_alive(),
        };
        Some((Ok(frame), (Some(going), notes)))
    });
    Body::from_stream(frames)
}

/// A comment, which clients do not look at.
pub fn keep_alive() -> Bytes {
    Bytes::from_static(b": still here\n\n")
}
