//! What /proc says of processes.

use std::fs;

/// One process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process {
    pub pid: i32,
    /// Its process group.
    pub group: i32,
    /// When it was started, in ticks since the machine was: with the pid, its identity.
    pub started: u64,
    /// It is no zombie.
    pub runs: bool,
}

impl Process {
    /// A process by its id; `None` when there is none.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
        // `pid (name) state ppid pgrp ...`; the name may hold blanks and brackets, so fields count
        // from the last bracket.
        let text = String::from_utf8_lossy(&stat);
        let (_, fields) = text.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        Some(Self {
            pid,
            group: fields.get(2)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            runs: !matches!(fields.first(), Some(&("Z" | "X"))),
        })
    }
}

/// All processes that can be seen; `None` when there is no /proc.
pub(crate) fn processes() -> Option<impl Iterator<Item = Process>> {
    let entries = fs::read_dir("/proc").ok()?;
    Some(
        entries
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter_map(Process::of),
    )
}
