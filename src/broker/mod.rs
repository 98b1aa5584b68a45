//! RabbitMQ without knowledge of jobs: a connection ([`dial`]), exchange and queue ([`topology`]),
//! messages that wait for the broker's confirm ([`outbox`]) and the channel that they go through
//! ([`publisher`]), the outer form of events ([`envelope`]).
//!
//! A channel that the broker closes costs that channel: whoever uses it opens the next on the same
//! connection. Only what ends the connection ends everything that runs on it.

pub mod dial;
pub mod envelope;
pub mod listening;
pub mod outbox;
pub mod publisher;
mod reopen;
pub mod spans;
pub mod topology;

pub use reopen::Reopening;

use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection};

/// A new channel on which the broker confirms what is published.
///
/// # Errors
/// When the connection or the channel ends meanwhile.
pub async fn confirming_channel(connection: &Connection) -> lapin::Result<Channel> {
    let channel = connection.create_channel().await?;
    channel
        .confirm_select(ConfirmSelectOptions::default())
        .await?;
    Ok(channel)
}
