//! One folder per protocol. Each translates between its protocol and [`crate::job::Service`]; none
//! knows another.

pub mod access;
pub mod amqp;
mod check;
pub mod console;
mod event_stream;
pub mod mcp;
pub mod rest;
pub mod v2;
