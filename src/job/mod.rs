//! The pipeline, from request to delivered files. The only module that knows the order of the stages; which transport a
//! prompt came through makes no difference here.

mod cleaner;
mod deliver;
mod execution;
mod history_cleanup;
mod outputs;
pub mod policy;
mod preprocess;
pub mod registry;
mod rejection;
pub mod request;
mod runner;
pub mod service;
mod stats;
pub mod stream;

pub use policy::{Policy, Submission};
pub use request::{PromptRequest, Source};
pub use service::{CancelOnDrop, JobHandle, Parts, Service};
