//! What happens on an HTTP/2 connection: requests under way, and answers that nobody reads.
//!
//! HTTP/1.1 needs none of it: one request at a time, whose answer blocks the socket itself. A
//! client of HTTP/2 can close the window of a stream and leave the socket alone.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep};

/// Bytes in a while below which only pings and the like have moved.
const ONLY_CONTROL: u64 = 1024;
/// Bytes a second below which an answer counts as unread, while others on its connection are read.
const FLOOR: u64 = 1024;
/// Over how long that floor is measured.
const FLOOR_TIME: Duration = Duration::from_secs(300);

/// One connection's.
#[derive(Debug, Default)]
pub(super) struct Activity {
    written: AtomicU64,
    under_way: AtomicUsize,
    answers: Mutex<Vec<Arc<Answer>>>,
}

impl Activity {
    /// So many bytes were sent.
    pub fn moved(&self, count: usize) {
        self.written.fetch_add(count as u64, Ordering::Relaxed);
    }

    /// A request has begun; it is over when the guard is dropped.
    pub fn request(self: &Arc<Self>) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        UnderWay(self.clone())
    }

    /// Resolves when no request was under way for `quiet`, and nothing but pings moved. Drops
    /// unread answers meanwhile.
    pub async fn idle(&self, quiet: Duration) {
        let pause = quiet / 5;
        let mut idle_since = Instant::now();
        let mut moved_since = Instant::now();
        let mut written = 0;
        loop {
            sleep(pause).await;
            let now = self.written.load(Ordering::Relaxed);
            if now - written >= ONLY_CONTROL {
                moved_since = Instant::now();
                written = now;
            }
            let still = moved_since.elapsed() >= quiet;
            self.drop_unread(|unread, given| {
                unread >= quiet && still
                    || unread >= FLOOR_TIME + Duration::from_secs(given as u64 / FLOOR)
            });
            if self.under_way.load(Ordering::Relaxed) > 0 {
                idle_since = Instant::now();
            } else if idle_since.elapsed() >= quiet && still {
                return;
            }
        }
    }

    /// Drops the answers of which a piece was given and no further one asked for, for too long.
    fn drop_unread(&self, too_long: impl Fn(Duration, usize) -> bool) {
        let mut dropped = Vec::new();
        self.answers.lock().retain(|answer| {
            if Arc::strong_count(answer) == 1 {
                return false;
            }
            let mut state = answer.0.lock();
            let unread = state
                .given
                .is_some_and(|given| too_long(state.since.elapsed(), given));
            if unread {
                dropped.push(state.body.take());
            }
            !unread
        });
        // Not while anything is locked: files are removed with them.
        drop(dropped);
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Activity>);

impl UnderWay {
    /// Its answer, which is dropped, and its files with it, when nobody reads it.
    pub fn answer(self, body: Body) -> Body {
        let activity = self.0.clone();
        let answer = Arc::new(Answer(Mutex::new(State {
            body: Some((body, self)),
            since: Instant::now(),
            given: None,
        })));
        activity.answers.lock().push(answer.clone());
        Body::new(WatchedBody(answer))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Answer(Mutex<State>);

#[derive(Debug)]
struct State {
    /// `None` when it was dropped unread.
    body: Option<(Body, UnderWay)>,
    /// The last time that it was asked for a piece.
    since: Instant,
    /// The length of the piece that was given then; `None` while we are the ones to be waited for.
    given: Option<usize>,
}

struct WatchedBody(Arc<Answer>);

impl HttpBody for WatchedBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, axum::Error>>> {
        let mut state = self.0.0.lock();
        let Some((body, _)) = &mut state.body else {
            let unread = std::io::Error::from(std::io::ErrorKind::TimedOut);
            return Poll::Ready(Some(Err(axum::Error::new(unread))));
        };
        let polled = Pin::new(body).poll_frame(context);
        state.since = Instant::now();
        state.given = match &polled {
            Poll::Ready(Some(Ok(frame))) => Some(frame.data_ref().map_or(0, Bytes::len)),
            _ => None,
        };
        polled
    }

    fn is_end_stream(&self) -> bool {
        let state = self.0.0.lock();
        state
            .body
            .as_ref()
            .is_some_and(|(body, _)| body.is_end_stream())
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        let state = self.0.0.lock();
        state
            .body
            .as_ref()
            .map(|(body, _)| body.size_hint())
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    const QUIET: Duration = Duration::from_millis(100);

    /// A04, A19
    #[tokio::test]
    async fn an_answer_that_nobody_reads_is_dropped_and_the_connection_is_idle_then() {
        let activity = Arc::new(Activity::default());
        let pieces = futures_util::stream::repeat(()).map(|()| Ok::<_, axum::Error>("piece"));
        let body = activity.request().answer(Body::from_stream(pieces));
        let mut reading = body.into_data_stream();
        assert!(reading.next().await.unwrap().is_ok());
        let before = Instant::now();
        activity.idle(QUIET).await;
        assert!(before.elapsed() >= QUIET, "{:?}", before.elapsed());
        assert!(reading.next().await.unwrap().is_err(), "it was dropped");
    }

    /// A04
    #[tokio::test]
    async fn a_stream_that_waits_for_us_is_left_alone_and_one_that_is_read_too() {
        let activity = Arc::new(Activity::default());
        let silent =
            Body::from_stream(futures_util::stream::pending::<Result<Bytes, axum::Error>>());
        let mut waiting = activity.request().answer(silent).into_data_stream();
        let idle = activity.idle(QUIET);
        tokio::select! {
            () = idle => panic!("a request is under way"),
            _ = waiting.next() => panic!("there is nothing to read"),
            () = sleep(QUIET * 10) => {}
        }
        let pieces = futures_util::stream::repeat(()).map(|()| Ok::<_, axum::Error>("piece"));
        let mut read = activity
            .request()
            .answer(Body::from_stream(pieces))
            .into_data_stream();
        let reading = async {
            for _ in 0..20 {
                assert!(read.next().await.unwrap().is_ok());
                sleep(QUIET / 2).await;
            }
        };
        tokio::select! {
            () = activity.idle(QUIET) => panic!("requests are under way"),
            () = reading => {}
        }
    }
}
