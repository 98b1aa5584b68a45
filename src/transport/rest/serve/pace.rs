//! A request body that comes too slowly to be meant is given up: one byte a minute is no way to
//! stay (attack.md, A19).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};

use super::crowd::Exchange;

/// Nothing at all for so long ends it.
const STALLED: Duration = Duration::from_secs(75);
/// Less than this (bytes a second) over `OVER`, counting only the time that the client is waited
/// for, ends it too.
const FLOOR: f64 = 1024.0;
const OVER: Duration = Duration::from_secs(300);

/// A body with a floor under its speed.
pub(super) struct PacedBody<B> {
    body: B,
    stalled: Duration,
    over: Duration,
    /// Since when the client is waited for.
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
    /// How long it was waited for, and what came meanwhile.
    waited: Duration,
    came: u64,
    /// Told when it has come whole.
    exchange: Option<Arc<Exchange>>,
}

impl<B: HttpBody> PacedBody<B> {
    pub fn new(body: B, exchange: Arc<Exchange>) -> Self {
        if body.is_end_stream() {
            exchange.is_received();
        }
        Self {
            exchange: Some(exchange),
            ..Self::with(body, STALLED, OVER)
        }
    }

    const fn with(body: B, stalled: Duration, over: Duration) -> Self {
        Self {
            exchange: None,
            body,
            stalled,
            over,
            waiting: None,
            waited: Duration::ZERO,
            came: 0,
        }
    }

    fn is_received(&self) {
        if let Some(exchange) = &self.exchange {
            exchange.is_received();
        }
    }

    /// Whether what came in the time that it took is too little.
    fn is_too_slow(&mut self, bytes: usize) -> bool {
        self.came += bytes as u64;
        if let Some((since, _)) = self.waiting.take() {
            self.waited += since.elapsed();
        }
        if self.waited < self.over {
            return false;
        }
        let slow = (self.came as f64) < FLOOR * self.waited.as_secs_f64();
        (self.waited, self.came) = (Duration::ZERO, 0);
        slow
    }
}

fn too_slow() -> axum::Error {
    axum::Error::new(io::Error::new(
        io::ErrorKind::TimedOut,
        "the body comes too slowly",
    ))
}

impl<B> HttpBody for PacedBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        match Pin::new(&mut this.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                if this.body.is_end_stream() {
                    this.is_received();
                }
                Poll::Ready(Some(if this.is_too_slow(bytes) {
                    Err(too_slow())
                } else {
                    Ok(frame)
                }))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(axum::Error::new(error)))),
            Poll::Ready(None) => {
                this.is_received();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let now = Instant::now();
                let end = now + this.stalled;
                let (_, end) = this
                    .waiting
                    .get_or_insert_with(|| (now, Box::pin(sleep_until(end))));
                end.as_mut().poll(context).map(|()| Some(Err(too_slow())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use futures_util::StreamExt;
    use tokio::time::sleep;

    use super::*;

    const STALLED: Duration = Duration::from_millis(150);
    const OVER: Duration = Duration::from_millis(600);

    /// The time until a body ends or is given up, in which every piece comes after a pause.
    async fn lasted(piece: usize, pause_ms: u64, pieces: usize) -> (bool, Duration) {
        let stream = futures_util::stream::iter(0..pieces).then(move |_| async move {
            sleep(Duration::from_millis(pause_ms)).await;
            Ok::<_, io::Error>(vec![0; piece])
        });
        let body = PacedBody::with(Body::from_stream(Box::pin(stream)), STALLED, OVER);
        let mut body = Body::new(body).into_data_stream();
        let began = Instant::now();
        while let Some(read) = body.next().await {
            if read.is_err() {
                return (false, began.elapsed());
            }
        }
        (true, began.elapsed())
    }

    /// A19
    #[tokio::test]
    async fn drops_are_given_up_and_slow_lines_are_not() {
        let (whole, took) = lasted(1, 20, 1000).await;
        assert!(!whole && took < OVER * 3, "{took:?}");
        let (whole, took) = lasted(1, 10_000, 10).await;
        assert!(!whole && took < OVER * 3, "{took:?}");
        assert!(lasted(20_000, 10, 80).await.0);
        assert!(lasted(1, 1, 20).await.0, "small bodies may take their time");
    }
}
