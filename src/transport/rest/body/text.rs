//! The text of a body, received as it is meant to be.

use std::time::{Duration, Instant};

use axum::body::BodyDataStream;
use axum::extract::Request;
use axum::http::header;
use futures_util::StreamExt;

use super::pour::pour_away;
use crate::error::{Code, Failure, panicked};
use crate::json::{Counter, JsonError};
use crate::limits::bodies::{Share, bodies};
use crate::limits::{SMALL_BODY, is_large};
use crate::transport::rest::inflate::{Decoder, Encoding, Sink, encoding};

/// A body that stops coming for so long is given up.
const STALLED: Duration = Duration::from_secs(60);

/// What a body holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    /// JSON, whose values are counted.
    Json,
    /// JSON or a file.
    Any,
}

/// A whole body, decoded.
pub(super) struct Text {
    pub(super) text: Vec<u8>,
    values: usize,
    /// Its part of the memory that all bodies share.
    pub(super) _share: Share,
}

impl Text {
    pub(super) async fn receive(request: Request, limit: usize) -> Result<Self, Failure> {
        Self::receive_as(request, limit, Content::Json).await
    }

    pub(super) async fn receive_as(
        request: Request,
        limit: usize,
        content: Content,
    ) -> Result<Self, Failure> {
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
                let reason = "the body came too slowly while others waited for their turn: send \
                              it again, or large inputs as URLs";
                return Err((Failure::invalid("body", reason), false));
            }
            // A kilobyte may become a megabyte: others get their turn, and the place is taken, in
            // between.
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
    pub(super) async fn build<T: Send + 'static>(
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

/// Decoded text up to the limits.
struct Collected {
    pub(super) text: Vec<u8>,
    counter: Counter,
    length: Option<usize>,
    pub(super) limit: usize,
    content: Content,
}

impl Collected {
    pub(super) fn new(length: Option<usize>, limit: usize, content: Content) -> Self {
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

fn too_large(limit: usize) -> Failure {
    let shown = limit as f64 / (1024.0 * 1024.0);
    Failure::new(
        Code::PayloadTooLarge,
        format!(
            "the body is larger than {shown} MiB: send large inputs as URLs, or raise \
             MAX_BODY_SIZE_MB"
        ),
    )
}
