//! RabbitMQ without knowledge of jobs: a connection ([`dial`]), exchange and queue ([`topology`]), messages that wait for the
//! broker's confirm ([`outbox`]) and the channel that they go through ([`publisher`]), the outer form of events ([`envelope`]).
//!
//! A channel that the broker closes costs that channel: whoever uses it opens the next on the same connection. Only what ends
//! the connection ends everything that runs on it.

pub mod dial;
pub mod envelope;
pub mod outbox;
pub mod publisher;
mod reopen;
pub mod topology;

pub use reopen::Reopening;
