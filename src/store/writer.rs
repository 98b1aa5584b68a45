//! The one thread that writes. What waits is written in one transaction; whoever waits for a write
//! is told when it is committed. What nobody waits for may lie a moment, so that it goes with what
//! comes next.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::StoreError;

/// Writes per transaction at most: nobody waits long behind a crowd.
const BATCH: usize = 256;
/// How long a write that may lie waits for another: a short job writes its end within it.
const LIES: Duration = Duration::from_millis(25);

/// What a write may use.
pub struct Write<'a> {
    /// The open transaction.
    pub db: &'a Connection,
    /// Files to remove once the transaction is committed.
    pub remove: &'a mut Vec<PathBuf>,
}

/// A write, and what is to be told of it.
type Work =
    Box<dyn FnOnce(&mut Write<'_>) -> Box<dyn FnOnce(Result<(), StoreError>) + Send> + Send>;

struct Order {
    work: Work,
    haste: Haste,
}

/// How soon something is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Haste {
    /// Now.
    Now,
    /// With the next write that is written now, or a moment later: a kill in between loses nothing
    /// that was promised.
    MayLie,
}

/// The way to the thread.
pub struct Writer {
    orders: Option<mpsc::Sender<Order>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub fn start(connection: Connection) -> std::io::Result<Self> {
        let (orders, ordered) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || run(connection, &ordered))?;
        Ok(Self {
            orders: Some(orders),
            thread: Some(thread),
        })
    }

    /// Hands a write over at once; the receiver is told when it is committed. Writes keep their
    /// order.
    pub fn send<T: Send + 'static>(
        &self,
        haste: Haste,
        work: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, StoreError>> {
        let (tell, told) = oneshot::channel();
        let work: Work = Box::new(move |write| {
            let result = nested(write, work);
            Box::new(move |committed| {
                let _ = tell.send(committed.and(result));
            })
        });
        if let Some(orders) = &self.orders {
            let _ = orders.send(Order { work, haste });
        }
        told
    }
}

/// One write inside the transaction of many: what fails leaves nothing behind.
fn nested<T>(
    write: &mut Write<'_>,
    work: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    execute(write.db, "SAVEPOINT one")?;
    let before = write.remove.len();
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(&mut *write)))
        .unwrap_or_else(|_| Err(StoreError::Failed("a write panicked".into())));
    if result.is_err() {
        write.remove.truncate(before);
        execute(write.db, "ROLLBACK TO one")?;
    }
    execute(write.db, "RELEASE one")?;
    result
}

/// Runs a statement that is parsed only once.
fn execute(db: &Connection, sql: &str) -> rusqlite::Result<()> {
    db.prepare_cached(sql)?.execute([]).map(drop)
}

/// What there is to write, one transaction's worth; empty at the end.
fn next(ordered: &mpsc::Receiver<Order>) -> Vec<Order> {
    let mut waiting: Vec<Order> = ordered.recv().into_iter().collect();
    let until = Instant::now() + LIES;
    while !waiting.is_empty() && waiting.len() < BATCH {
        let more = match waiting.iter().any(|order| order.haste == Haste::Now) {
            true => ordered.try_recv().ok(),
            false => {
                let left = until.saturating_duration_since(Instant::now());
                ordered.recv_timeout(left).ok()
            }
        };
        let Some(more) = more else { break };
        waiting.push(more);
    }
    waiting
}

fn run(connection: Connection, ordered: &mpsc::Receiver<Order>) {
    loop {
        let waiting = next(ordered);
        if waiting.is_empty() {
            return;
        }
        let mut remove = Vec::new();
        let mut tell = Vec::with_capacity(waiting.len());
        let begun = execute(&connection, "BEGIN IMMEDIATE");
        if begun.is_ok() {
            let mut write = Write {
                db: &connection,
                remove: &mut remove,
            };
            for order in waiting {
                tell.push((order.work)(&mut write));
            }
        }
        let committed = begun
            .and_then(|()| execute(&connection, "COMMIT"))
            .map_err(StoreError::from);
        if committed.is_err() {
            let _ = connection.execute_batch("ROLLBACK");
            tracing::error!(error = ?committed, "the store cannot write");
        } else {
            for path in remove {
                let _ = std::fs::remove_file(path);
            }
        }
        for tell in tell {
            tell(committed.clone());
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        drop(self.orders.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
