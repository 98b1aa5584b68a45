//! One running stand-in: everything that its parts share.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::Mutex;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::macros::format_description;

use super::args::{Args, Imitate};
use super::faults::Switchboard;
use super::folders::Folders;
use super::hub::Hub;
use super::nodes::Classes;
use super::queue::Queue;

/// Log lines that `/internal/logs` shows.
const LOG_LINES: usize = 300;

/// The shared state.
pub struct Instance {
    /// The command line.
    pub args: Args,
    /// The imitated version.
    pub imitate: Imitate,
    /// Directories.
    pub folders: Folders,
    /// Websockets.
    pub hub: Hub,
    /// Prompts.
    pub queue: Queue,
    /// What is broken on purpose.
    pub faults: Switchboard,
    /// Node classes.
    pub classes: Classes,
    /// Someone wants the running node to end.
    pub interrupt: AtomicBool,
    /// The number of the next prompt.
    pub counter: AtomicI64,
    /// Prompts that ended with success.
    pub succeeded: AtomicU64,
    /// Prompts that ended otherwise.
    pub failed: AtomicU64,
    /// Nodes that ran, cached ones not counted.
    pub nodes_run: AtomicU64,
    requests: Mutex<BTreeMap<String, u64>>,
    log: Mutex<VecDeque<Value>>,
    exit: Box<dyn Fn(i32) + Send + Sync>,
}

impl fmt::Debug for Instance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Instance")
            .field("imitate", &self.imitate)
            .finish_non_exhaustive()
    }
}

impl Instance {
    /// Puts the parts together; `exit` ends the process or what stands for it.
    pub fn new(args: Args, exit: Box<dyn Fn(i32) + Send + Sync>) -> Result<Self, String> {
        let faults = Switchboard::new(args.initial_faults()?);
        let folders = Folders::prepare(&args)
            .map_err(|e| format!("cannot prepare the simulator's directories: {e}"))?;
        folders.set_tick(faults.read(|faults| faults.mtime_tick_ms));
        let imitate = args.imitated();
        Ok(Self {
            imitate,
            folders,
            faults,
            classes: Classes::new(imitate, &args.without_class),
            args,
            hub: Hub::default(),
            queue: Queue::default(),
            interrupt: AtomicBool::new(false),
            counter: AtomicI64::new(0),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            nodes_run: AtomicU64::new(0),
            requests: Mutex::default(),
            log: Mutex::default(),
            exit,
        })
    }

    /// Ends the process.
    pub fn crash(&self, code: i32) {
        (self.exit)(code);
    }

    /// Sends the number of prompts to everybody.
    pub fn announce_queue(&self) {
        self.hub.status(self.queue.remaining());
    }

    /// A log line: to the terminal, the ring and the subscribers.
    pub fn log(&self, line: &str) {
        let coloured;
        let line = if self.faults.read(|faults| faults.colours) {
            coloured = format!("\u{1b}[32m[INFO]\u{1b}[0m {line}");
            &coloured
        } else {
            line
        };
        if self.args.log_stdout {
            println!("{line}");
        } else {
            eprintln!("{line}");
        }
        let entry = json!({"t": local_time(), "m": format!("{line}\n")});
        self.hub.log(&entry);
        let mut log = self.log.lock();
        if log.len() >= LOG_LINES {
            log.pop_front();
        }
        log.push_back(entry);
    }

    /// The last log lines.
    pub fn log_entries(&self) -> Vec<Value> {
        self.log.lock().iter().cloned().collect()
    }

    /// Counts a request of a route.
    pub fn count_request(&self, route: String) {
        *self.requests.lock().entry(route).or_default() += 1;
    }

    /// The counters.
    pub fn stats(&self) -> Value {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "prompts_run": count(&self.succeeded) + count(&self.failed),
            "prompts_succeeded": count(&self.succeeded),
            "prompts_failed": count(&self.failed), "nodes_run": count(&self.nodes_run),
            "queue_remaining": self.queue.remaining(),
            "sockets_open": self.hub.open.load(Ordering::Relaxed),
            "history_entries": self.queue.history(None, None).len(),
            "requests": *self.requests.lock(),
        })
    }
}

/// The time as Python's `isoformat()` writes it.
fn local_time() -> String {
    OffsetDateTime::now_utc()
        .format(format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]"
        ))
        .unwrap_or_default()
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0))
}
