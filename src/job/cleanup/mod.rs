//! What is tidied up after a prompt: its files, its folders, its entry in ComfyUI's history; and
//! what a process that was killed has left of its prompts.
//!
//! ```text
//!   claims    which file names belong to which prompt in flight, and which folders came with it
//!   files     the files of one prompt: taken into a folder of its own, removed with the last user
//!             of the result
//!   journal   what prompts in flight write, known after a kill
//!   recovery  removes it at the next start
//!   going_on  prompts of a killed process that an attached ComfyUI may still have: followed on
//!   history   entries in ComfyUI's memory
//!   worker    does the removing, away from the runtime's threads
//! ```

mod claims;
mod files;
mod going_on;
mod history;
mod journal;
mod recovery;
mod walk;
mod worker;

pub use claims::{Age, Claim, Claims, Owner, Prefix};
pub use files::FileCleanup;
pub use going_on::GoingOn;
pub(super) use history::HistoryCleanup;
pub use journal::{Entry, Journal, Record};
pub(super) use recovery::{Leftovers, remove_files_of_the_dead, temp_files};
#[cfg(test)]
pub use walk::files_below;
pub use worker::Cleaner;
