//! A child that ends with whoever wanted it.

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::process::Child;

use super::{Guarded, ProcessGroup, protect};

/// The process group of a child. It is killed when this is dropped: by an error, a cancelled task
/// or a panic.
pub(crate) struct KilledGroup {
    group: Option<ProcessGroup>,
    _guarded: Option<Guarded>,
}

impl KilledGroup {
    /// The group that a child started with `process_group(0)` leads.
    pub fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok());
        let group = leader.map(|id| ProcessGroup(Pid::from_raw(id)));
        Self {
            group,
            _guarded: group.and_then(protect),
        }
    }

    /// The child has been waited for, so its number may soon be somebody else's.
    pub fn ended(mut self) {
        self.group = None;
    }
}

impl Drop for KilledGroup {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            // It may just have ended by itself; then there is nobody to kill.
            group.signal(Signal::SIGKILL);
        }
    }
}
