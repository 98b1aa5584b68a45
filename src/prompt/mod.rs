//! The way of a prompt, from request to delivered files. The only module that knows the order of the stages; which door a
//! prompt came through makes no difference here.

mod deliver;
mod execution;
pub mod flight;
mod forgetting;
mod outputs;
mod preprocess;
mod rejection;
mod removal;
pub mod request;
mod runner;
pub mod service;
mod stats;
pub mod stream;

pub use request::{PromptRequest, Source};
pub use service::{CancelOnDrop, Parts, Running, Service};
