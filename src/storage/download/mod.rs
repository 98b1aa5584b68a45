//! One download per URL and credentials, however many want it; everyone may leave, and the last one
//! out stops it. Who brings other credentials asks the origin for themselves, so that nobody's
//! credentials can hold up others (A01).

mod meter;
mod partial;
mod ranges;
mod run;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::cache::Entry;
use super::{Auth, ErrorKind, Progress, StorageError};
pub(super) use meter::Meter;
pub(super) use run::{Download, run};

/// The downloads in flight.
#[derive(Default)]
pub(super) struct SingleFlights {
    flying: Mutex<HashMap<Wanted, Arc<SingleFlight>>>,
}

/// What is downloaded, and with what credentials: only who brings the same may have the result
/// unasked.
type Wanted = (String, Option<Auth>);

/// One download in flight.
pub(super) struct SingleFlight {
    wanted: Wanted,
    result: watch::Sender<Option<Result<Entry, StorageError>>>,
    waiters: Mutex<Waiters>,
    pub stop: CancellationToken,
    pub meter: Arc<Meter>,
}

#[derive(Default)]
struct Waiters {
    count: usize,
    /// The last one has left: nobody may join any more.
    closed: bool,
}

/// A place among those who wait. Leaving is dropping it.
pub(super) struct Permit {
    flight: Arc<SingleFlight>,
}

/// What joining a flight gives.
pub(super) enum JoinedDownload {
    /// Nobody is downloading that URL: the caller must launch it.
    First(Permit),
    /// Somebody is, with the same credentials.
    Waiting(Permit),
}

impl SingleFlights {
    pub fn join(&self, key: &str, auth: Option<&Auth>) -> JoinedDownload {
        let wanted = (key.to_owned(), auth.cloned());
        let mut flying = self.flying.lock();
        if let Some(flight) = flying.get(&wanted) {
            let mut waiters = flight.waiters.lock();
            if !waiters.closed {
                waiters.count += 1;
                drop(waiters);
                return JoinedDownload::Waiting(Permit {
                    flight: Arc::clone(flight),
                });
            }
        }
        let flight = Arc::new(SingleFlight {
            wanted: wanted.clone(),
            result: watch::Sender::new(None),
            waiters: Mutex::new(Waiters {
                count: 1,
                closed: false,
            }),
            stop: CancellationToken::new(),
            meter: Arc::default(),
        });
        flying.insert(wanted, Arc::clone(&flight));
        JoinedDownload::First(Permit { flight })
    }

    /// Ends a flight: later comers find its file in the cache, or try again.
    pub fn land(&self, flight: &Arc<SingleFlight>, result: Result<Entry, StorageError>) {
        let mut flying = self.flying.lock();
        if flying
            .get(&flight.wanted)
            .is_some_and(|known| Arc::ptr_eq(known, flight))
        {
            flying.remove(&flight.wanted);
        }
        drop(flying);
        flight.result.send_replace(Some(result));
    }

    /// [`SingleFlights::land`] for a flight that ended without a result; does nothing to one that
    /// has landed.
    pub fn crash(&self, flight: &Arc<SingleFlight>, reason: impl FnOnce() -> StorageError) {
        if flight.result.borrow().is_none() {
            self.land(flight, Err(reason()));
        }
    }
}

impl Permit {
    pub fn flight(&self) -> &Arc<SingleFlight> {
        &self.flight
    }

    /// Waits for the result, telling how far it is from time to time.
    pub async fn result(
        &self,
        progress: Option<&Progress>,
        interval: Duration,
    ) -> Result<Entry, StorageError> {
        let mut result = self.flight.result.subscribe();
        let waiting = async {
            let ended = result.wait_for(Option::is_some).await;
            ended
                .ok()
                .and_then(|result| result.clone())
                .unwrap_or_else(|| {
                    Err(StorageError::new(
                        ErrorKind::Transient,
                        "the download was given up",
                    ))
                })
        };
        let Some(progress) = progress else {
            return waiting.await;
        };
        let told = async {
            loop {
                tokio::time::sleep(interval).await;
                let (done, total) = self.flight.meter.read();
                if done > 0 {
                    progress(done, total);
                }
            }
        };
        tokio::select! {
            result = waiting => {
                if let Ok(entry) = &result {
                    progress(entry.size, Some(entry.size));
                }
                result
            }
            () = told => Err(StorageError::new(ErrorKind::Transient, "the download was given up")),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut waiters = self.flight.waiters.lock();
        waiters.count -= 1;
        if waiters.count == 0 {
            waiters.closed = true;
            self.flight.stop.cancel();
        }
    }
}
