//! When a conversion is to end: its job was cancelled, or its time is up. Codecs are C and Rust
//! libraries that know nothing of our tokens, so what is true for the thread is asked here, between
//! rows and between frames (attack.md, A14).

use std::cell::RefCell;
use std::io::{self, Read, Seek};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

/// What ends a conversion.
#[derive(Debug, Clone)]
pub(super) struct Stop {
    cancel: CancellationToken,
    /// When its time is up, and how long that was.
    deadline: Option<(Instant, Duration)>,
}

thread_local! {
    static CURRENT: RefCell<Option<Stop>> = const { RefCell::new(None) };
}

impl Stop {
    /// From now on for at most `limit`.
    pub(super) fn new(cancel: &CancellationToken, limit: Duration) -> Self {
        Self {
            cancel: cancel.clone(),
            deadline: Some((Instant::now() + limit, limit)),
        }
    }

    /// However long it takes.
    pub(super) fn when_cancelled(cancel: &CancellationToken) -> Self {
        Self {
            cancel: cancel.clone(),
            deadline: None,
        }
    }

    /// Runs work on this thread that asks [`check`] now and then.
    pub(super) fn over<T>(self, work: impl FnOnce() -> T) -> T {
        struct Reset;
        impl Drop for Reset {
            fn drop(&mut self) {
                CURRENT.with_borrow_mut(|current| *current = None);
            }
        }
        CURRENT.with_borrow_mut(|current| *current = Some(self));
        let _reset = Reset;
        work()
    }
}

/// Why the work on this thread is to end, if it is.
///
/// # Errors
/// A sentence fragment with the reason.
pub(super) fn check() -> Result<(), String> {
    CURRENT.with_borrow(|current| match current {
        Some(stop) if stop.cancel.is_cancelled() => Err("it was cancelled".to_owned()),
        Some(Stop {
            deadline: Some((deadline, limit)),
            ..
        }) if Instant::now() >= *deadline => Err(format!(
            "it took longer than FFMPEG_TIMEOUT_S ({} s)",
            limit.as_secs()
        )),
        _ => Ok(()),
    })
}

/// A source that ends with an error when the work is to end.
#[derive(Debug)]
pub(super) struct Stoppable<R>(pub(super) R);

impl<R: Read> Read for Stoppable<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        check().map_err(io::Error::other)?;
        self.0.read(buffer)
    }
}

impl<R: Seek> Seek for Stoppable<R> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_runs_under_it_is_stopped_and_says_why() {
        let cancel = CancellationToken::new();
        let long = Duration::from_secs(60);
        assert_eq!(Stop::new(&cancel, long).over(check), Ok(()));
        let late = Stop::new(&cancel, Duration::ZERO).over(check).unwrap_err();
        assert!(late.contains("FFMPEG_TIMEOUT_S"), "{late}");
        cancel.cancel();
        let stopped = Stop::new(&cancel, long).over(|| {
            let mut text = String::new();
            Stoppable(&b"abc"[..]).read_to_string(&mut text)
        });
        assert!(stopped.unwrap_err().to_string().contains("cancelled"));
        assert_eq!(check(), Ok(()));
    }
}
