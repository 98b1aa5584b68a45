//! comfyui-api: one static binary that turns ComfyUI into a production API.
//!
//! # Architecture
//!
//! ```text
//!   transports                       the pipeline                            what it asks
//!   transport/rest  REST, SSE, docs ┐
//!   transport/v2    Comfy API v2    ├─►  durable/ ─► job/  (recorded in store/, tried again)
//!   transport/amqp  tasks, events   ├─►  job/  request > preprocess > execution > outputs > deliver
//!   app/warmup                      ┘        │         │            │          │         │
//!                                            │      storage/      comfy/     media/    webhook/,
//!                                            │                                        storage/
//!   workflow/  files -> graphs  ─────────────┘
//!   graph/     the editor's format -> the API's format, by itself
//! ```
//!
//! - [`app`] is the only place that knows everything: it builds the parts from [`config`], starts
//!   and stops them in order, and keeps ComfyUI alive ([`comfy::supervisor`]). Nobody imports it
//!   but `main`.
//! - A [`transport`] translates between its protocol and [`job::Service`], the one owner of all
//!   jobs.
//! - [`store`] is what survives: records of jobs, assets and idempotency keys in one database,
//!   their bytes as files named by their hash. [`durable`] are jobs that stand on it: recorded
//!   before they are answered for, run by [`job`], tried again when ComfyUI is lost, taken up again
//!   after a restart.
//! - [`comfy`] is ComfyUI as we see it: calls, messages, how the end of a prompt is noticed
//!   whatever happens to the websocket.
//! - `broker` is RabbitMQ: connection, channels that come back by themselves, confirmed publishing.
//! - [`storage`] brings files in and out: cache, backends, credentials. [`net`] holds the few
//!   shared ways out and the guard over addresses. [`media`] turns files into other files.
//!   [`webhook`] delivers documents. [`workflow`] turns input into graphs. [`manifest`] installs
//!   what a machine needs. None of them knows of jobs or transports.
//! - [`library`] are the model files: what is in ComfyUI's folders, and how more comes.
//! - [`config`], [`error`], [`document`], [`events`], [`fields`], `file_threads`, [`health`],
//!   [`json`], [`ledger`], [`limits`], [`mailbox`], [`mapped_code`] and [`telemetry`] are leaves
//!   that everybody may use. What a stranger can make us use is bounded in [`limits`].
//! - [`simulator`] is a faithful ComfyUI stand-in for [`demo`] and for tests.
//!
//! Data flows one way. Where a part must call upwards it owns a small trait and [`app`] hands it an
//! implementation: [`transport::amqp::TaskRunner`], [`workflow::ContextSource`],
//! [`events::EventSink`].
//!
//! A result is a [`document::Document`]: JSON with holes for files, so that base64 of a 1 GiB video
//! is never in memory, and files are deleted when the last user of the document is gone.

pub mod allocator;
pub mod app;
pub(crate) mod broker;
pub mod comfy;
pub mod command;
pub mod config;
pub mod demo;
pub mod document;
pub mod durable;
pub mod error;
pub mod events;
pub mod fields;
pub(crate) mod file_threads;
pub mod fleet;
pub mod graph;
pub mod health;
pub mod history;
pub mod job;
pub mod json;
pub mod ledger;
pub mod library;
pub mod limits;
pub mod mailbox;
pub mod manifest;
pub mod mapped_code;
pub mod media;
pub mod net;
pub mod paths;
pub(crate) mod process;
pub mod simulator;
pub mod storage;
pub mod store;
pub mod telemetry;
pub mod timestamp;
pub mod transport;
pub mod webhook;
pub mod workflow;

/// The version that probes, documentation and registration show.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
