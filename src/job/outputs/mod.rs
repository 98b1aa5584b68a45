//! From what ComfyUI reports to files that are ready to be delivered.

mod collect;
mod file;
mod place;
mod process;
mod received;
mod reported;
mod view;

pub use super::cleanup::FileCleanup;
pub use collect::{Collected, Elsewhere, NodeOutput, RunFacts, collect};
pub use file::OutputFile;
pub use place::{Place, Roots};
pub use process::{DeliveryOptions, finish};
pub use received::ReceivedImages;
pub use reported::{Name, reported, says_unfinished, says_websocket};
pub use view::view;
