//! One integration binary: the whole product through real sockets, against real peers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::allow_attributes,
    reason = "a test says what it expects by failing"
)]
#![allow(
    clippy::too_many_lines,
    reason = "a test tells one story from its beginning to its end"
)]
#![allow(dead_code, reason = "not every test module uses every helper yet")]

mod amqp;
mod amqp_product;
mod console;
mod console_api;
mod delivered;
mod documentation;
mod faults;
mod fleet;
mod generated_clients;
mod graph;
mod http;
mod http_models;
mod instances;
mod limits;
mod manifest;
mod mcp;
mod media;
mod operations;
mod process;
mod prometheus;
mod prompt;
mod readme;
mod real_comfyui;
mod requests;
mod secrets;
mod simulator;
mod start;
mod storage;
mod storage_cloud;
mod storage_product;
mod streaming;
mod support;
mod telemetry;
mod v2;
mod webhook;
mod workflow;
mod workflow_product;
