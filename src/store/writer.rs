//! The one thread that writes. What waits is written in one transaction; whoever waits for a write
//! is told when it is committed.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::StoreError;

/// Writes per transaction at most: nobody waits long behind a crowd.
const BATCH: usize = 256;

/// What a write may use.
pub struct Write<'a> {
    /// The open transaction.
    pub db: &'a Connection,
    /// Files to remove once the transaction is committed.
    pub remove: &'a mut Vec<PathBuf>,
}

type Order =
    Box<dyn FnOnce(&mut Write<'_>) -> Box<dyn FnOnce(Result<(), StoreError>) + Send> + Send>;

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
        work: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> oneshot::Receiver<Result<T, StoreError>> {
        let (tell, told) = oneshot::channel();
        let order: Order = Box::new(move |write| {
            let result = nested(write, work);
            Box::new(move |committed| {
                let _ = tell.send(committed.and(result));
            })
        });
        if let Some(orders) = &self.orders {
            let _ = orders.send(order);
        }
        told
    }
}

/// One write inside the transaction of many: what fails leaves nothing behind.
fn nested<T>(
    write: &mut Write<'_>,
    work: impl FnOnce(&mut Write<'_>) -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    write.db.execute_batch("SAVEPOINT one")?;
    let before = write.remove.len();
    let result = std::panic::catch_unwind(AssertUnwindSafe(|| work(&mut *write)))
        .unwrap_or_else(|_| Err(StoreError::Failed("a write panicked".into())));
    if result.is_err() {
        write.remove.truncate(before);
        write.db.execute_batch("ROLLBACK TO one")?;
    }
    write.db.execute_batch("RELEASE one")?;
    result
}

fn run(connection: Connection, ordered: &mpsc::Receiver<Order>) {
    while let Ok(first) = ordered.recv() {
        let mut waiting = vec![first];
        while waiting.len() < BATCH
            && let Ok(next) = ordered.try_recv()
        {
            waiting.push(next);
        }
        let mut remove = Vec::new();
        let mut tell = Vec::with_capacity(waiting.len());
        let begun = connection.execute_batch("BEGIN IMMEDIATE");
        if begun.is_ok() {
            let mut write = Write {
                db: &connection,
                remove: &mut remove,
            };
            for order in waiting {
                tell.push(order(&mut write));
            }
        }
        let committed = begun
            .and_then(|()| connection.execute_batch("COMMIT"))
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
