//! The pipeline, from request to delivered files. The only module that knows the order of the
//! stages; which transport a prompt came through makes no difference here.

pub mod asset_input;
mod cancelling;
mod cleanup;
mod continuation;
mod conversion;
mod deliver;
mod elsewhere;
pub mod event;
mod execution;
mod going_on;
mod guard;
mod keep;
mod links;
pub mod media_inputs;
mod node_error;
mod nodes;
pub mod origin;
mod outputs;
#[cfg(test)]
mod panics;
mod pipeline;
pub mod policy;
mod preprocess;
pub mod progress;
pub mod registry;
mod rejection;
pub mod remote;
pub mod request;
mod rounds;
pub mod service;
mod stats;
pub mod stream;
pub mod witness;

pub use conversion::with_workflow;
pub use event::{JobEvent, Listener};
pub use policy::{Keep, Policy, Submission};
pub use request::{PromptRequest, Source};
pub use service::{CancelOnDrop, JobHandle, Parts, Service};
