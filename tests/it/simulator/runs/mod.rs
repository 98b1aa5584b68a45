//! The observed runs: order of messages, outputs, queue, interrupt, previews.

mod graphs;
mod queue;
mod sockets;
