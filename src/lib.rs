//! comfyui-api: one static binary that turns ComfyUI into a production API.

pub mod amqp;
pub mod comfy;
pub mod command;
pub mod config;
pub mod document;
pub mod error;
pub mod events;
pub mod health;
pub mod http;
pub mod manifest;
pub mod media;
pub mod net;
pub mod prompt;
pub mod simulator;
pub mod storage;
pub mod telemetry;
pub mod webhook;
pub mod workflow;

/// The version that probes, documentation and registration show.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
