//! Children of ours: each in a process group of its own, killed whole, and not left behind when we
//! die.

mod group;
pub(crate) mod guard;
pub(crate) mod inheritance;
mod killed;
mod parent_thread;
pub(crate) mod proc;

pub(crate) use group::{ProcessGroup, spawn_in_group};
pub(crate) use guard::{Guarded, protect};
pub(crate) use killed::KilledGroup;
