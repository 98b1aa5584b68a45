//! The threads of ComfyUI: as long as those that it had when it was ready still run, its worker is
//! among them.

use std::fs;

use crate::process::{ProcessGroup, proc};

/// A part of the worker's name where Python tells the system its threads' names (3.14: `Thread-1
/// (promp`).
const WORKER: &str = "(promp";
/// What the simulator calls it.
const SIMULATED_WORKER: &str = "prompt_worker";

/// Threads by their places in /proc.
#[derive(Debug, Default)]
pub(super) struct Threads(Vec<String>);

impl Threads {
    /// The threads of a group; of the worker alone, where it can be told by its name.
    pub fn of(group: ProcessGroup) -> Self {
        let members = proc::processes().into_iter().flatten();
        let all: Vec<(String, bool)> = members
            .filter(|process| process.group == group.0.as_raw() && process.runs)
            .filter_map(|process| fs::read_dir(format!("/proc/{}/task", process.pid)).ok())
            .flat_map(|tasks| tasks.flatten())
            .map(|task| {
                let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
                let worker = name.contains(WORKER) || name.contains(SIMULATED_WORKER);
                (task.path().display().to_string(), worker)
            })
            .collect();
        let named = all.iter().any(|(_, worker)| *worker);
        let counts = all.into_iter().filter(|(_, worker)| *worker || !named);
        Self(counts.map(|(path, _)| path).collect())
    }

    /// Whether all of them still run; `false` when none are known.
    pub fn all_run(&self) -> bool {
        !self.0.is_empty() && self.0.iter().all(|path| fs::exists(path).unwrap_or(false))
    }
}
