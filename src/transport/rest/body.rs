//! Request bodies: a JSON object within the limits ([`crate::limits`]), or an answer that says what is wrong.
//!
//! A body is counted while it arrives, before anything is built from it, and what is large is built beside the runtime's threads.

use std::marker::PhantomData;
use std::time::{Duration, Instant};

use axum::body::BodyDataStream;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, header};
use futures_util::StreamExt;
use serde_json::{Map, Value};

use super::RouterState;
use super::inflate::{Decoder, Encoding, Sink, encoding};
use crate::error::{Code, Failure, panicked};
use crate::job::request::graph;
use crate::json::{Counter, JsonError, Keep, counted_members};
use crate::limits::bodies::{Share, bodies};
use crate::limits::{SMALL_BODY, is_large};
use crate::net::http_fields::media_type;

/// A body that stops coming for so long is given up.
const STALLED: Duration = Duration::from_secs(60);
/// How much of a body that is too large is read before the answer, and for how long.
const POURED_AWAY: usize = 1 << 30;
const POURING: Duration = Duration::from_secs(30);

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

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    /// JSON, whose values are counted.
    Json,
    /// JSON or a file.
    Any,
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
        let text = Text::receive(request, state.config.server.max_body_bytes).await?;
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

/// The fields of `POST /prompt` and of workflow endpoints.
pub const FIELDS: &[&str] = &[
    "id",
    "prompt",
    "workflow",
    "input",
    "webhook",
    "webhook_v2",
    "convert_output",
    "compress_outputs",
    "signed_url",
    "extra_data",
    "credentials",
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

impl FromRequest<RouterState> for PromptBody {
    type Rejection = Failure;

    async fn from_request(request: Request, state: &RouterState) -> Result<Self, Failure> {
        check_type(request.headers())?;
        let text = Text::receive(request, state.config.server.max_body_bytes).await?;
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
        let text = Text::receive(request, state.config.server.max_body_bytes).await?;
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
    if FIELDS.contains(&name) {
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
        if FIELDS.contains(&name) {
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

/// A whole body, decoded.
struct Text {
    text: Vec<u8>,
    values: usize,
    /// Its part of the memory that all bodies share.
    _share: Share,
}

impl Text {
    async fn receive(request: Request, limit: usize) -> Result<Self, Failure> {
        Self::receive_as(request, limit, Content::Json).await
    }

    async fn receive_as(request: Request, limit: usize, content: Content) -> Result<Self, Failure> {
        let encoding = encoding(request.headers())?;
        let declared = request
            .headers()
            .get(header::CONTENT_LENGTH)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.parse::<u64>().ok());
        // A client that asks first has sent nothing yet, and will not after this answer.
        let asks_first = request.headers().contains_key(header::EXPECT);
        let mut stream = request.into_body().into_data_stream();
        if declared.is_some_and(|length| length > limit as u64) {
            if !asks_first {
                pour_away(stream).await;
            }
            return Err(too_large(limit));
        }
        let length = declared
            .filter(|_| encoding == Encoding::Identity)
            .and_then(|length| usize::try_from(length).ok());
        match Self::collect(&mut stream, encoding, (length, limit), content).await {
            Ok(text) => Ok(text),
            Err((failure, still_coming)) => {
                if still_coming {
                    pour_away(stream).await;
                }
                Err(failure)
            }
        }
    }

    /// The error says whether the client may be sending on.
    async fn collect(
        stream: &mut BodyDataStream,
        encoding: Encoding,
        (length, limit): (Option<usize>, usize),
        content: Content,
    ) -> Result<Self, (Failure, bool)> {
        let began = Instant::now();
        // A length that nobody knows may be small: a place is taken when it is not.
        let mut share = match length {
            Some(length) => Some(bodies().text(Some(length)).await),
            None => None,
        };
        let mut decoder = Decoder::new(encoding, Collected::new(length, limit, content));
        let mut brought = 0;
        loop {
            let chunk = match tokio::time::timeout(STALLED, stream.next()).await {
                Ok(None) => break,
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(_))) => {
                    let reason = "the connection broke before the whole body had arrived";
                    return Err((Failure::invalid("body", reason), false));
                }
                Err(_) => {
                    let reason = format!(
                        "the body stopped coming: nothing for {} s",
                        STALLED.as_secs()
                    );
                    return Err((Failure::invalid("body", reason), false));
                }
            };
            brought += chunk.len();
            if brought > SMALL_BODY && bodies().gives_way(began, brought) {
                let reason = "the body came too slowly while others waited for their turn: send it again, or large inputs as URLs";
                return Err((Failure::invalid("body", reason), false));
            }
            // A kilobyte may become a megabyte: others get their turn, and the place is taken, in between.
            for part in decoder.parts(&chunk) {
                decoder.feed(part).map_err(|failure| (failure, true))?;
                if share.is_none()
                    && decoder
                        .sink()
                        .is_some_and(|sink| sink.text.len() > SMALL_BODY / 2)
                {
                    share = Some(bodies().text(None).await);
                }
                tokio::task::consume_budget().await;
            }
        }
        let collected = decoder.finish().map_err(|failure| (failure, false))?;
        Ok(Self {
            text: collected.text,
            values: collected.counter.values(),
            _share: share.unwrap_or_default(),
        })
    }

    /// What `build` makes of the text, and whether that was much work.
    async fn build<T: Send + 'static>(
        self,
        build: impl FnOnce(&mut Vec<u8>) -> Result<T, JsonError> + Send + 'static,
    ) -> Result<(T, bool), Failure> {
        let refused = |error: JsonError| error.failure("body", "the body");
        let Self {
            mut text,
            values,
            _share: share,
        } = self;
        if !is_large(text.len()) {
            return build(&mut text)
                .map(|built| (built, false))
                .map_err(refused);
        }
        let cost = bodies().built(text.len(), values).await;
        let built = tokio::task::spawn_blocking(move || {
            let built = build(&mut text);
            drop((text, share, cost));
            built
        });
        match built.await {
            Ok(built) => built.map(|built| (built, true)).map_err(refused),
            Err(_) => Err(panicked("reading the body")),
        }
    }
}

fn too_large(limit: usize) -> Failure {
    let shown = limit as f64 / (1024.0 * 1024.0);
    Failure::new(
        Code::PayloadTooLarge,
        format!(
            "the body is larger than {shown} MiB: send large inputs as URLs, or raise MAX_BODY_SIZE_MB"
        ),
    )
}

/// Decoded text up to the limits.
struct Collected {
    text: Vec<u8>,
    counter: Counter,
    length: Option<usize>,
    limit: usize,
    content: Content,
}

impl Collected {
    fn new(length: Option<usize>, limit: usize, content: Content) -> Self {
        Self {
            // What is declared is not there yet: memory is taken as it arrives.
            text: Vec::with_capacity(length.unwrap_or(0).min(SMALL_BODY / 8)),
            counter: Counter::default(),
            length,
            limit,
            content,
        }
    }
}

impl Sink for Collected {
    fn take(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if self.text.len() + piece.len() > self.limit {
            self.text = Vec::new();
            return Err(too_large(self.limit));
        }
        if self.content == Content::Json && !self.counter.feed(piece) {
            self.text = Vec::new();
            return Err(JsonError::TooMany.failure("body", "the body"));
        }
        if self.text.capacity() < self.text.len() + piece.len()
            && let Some(length) = self.length
            && self.text.len() > SMALL_BODY / 16
        {
            self.text
                .reserve_exact(length.saturating_sub(self.text.len()));
        }
        self.text.extend_from_slice(piece);
        Ok(())
    }
}

/// Reads on for a while. A client that is still sending when the connection is closed would see a broken connection instead of
/// the answer that explains it.
pub(super) async fn pour_away(mut stream: BodyDataStream) {
    let mut left = POURED_AWAY;
    let pouring = async {
        while let Some(Ok(chunk)) = stream.next().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(POURING, pouring).await;
}
