//! The pace at which channels are opened again, and what is said of it.

use std::time::Duration;

use lapin::Connection;

use super::dial::describe;
use crate::net::retry::Pauses;

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// One purpose for which channels are opened, one after the other.
#[derive(Debug)]
pub struct Reopening {
    purpose: &'static str,
    pauses: Pauses,
    told: Option<String>,
}

impl Reopening {
    /// `purpose` completes "the channel for ...".
    pub const fn of(purpose: &'static str) -> Self {
        Self {
            purpose,
            pauses: Pauses::new(SHORTEST, LONGEST),
            told: None,
        }
    }

    /// The channel works.
    pub fn works(&mut self) {
        self.pauses.reset();
        self.told = None;
    }

    /// Says why the channel failed, once for each reason, and waits before the next, longer each
    /// time.
    ///
    /// # Errors
    /// The error itself, when it is the connection that has ended.
    pub async fn after(
        &mut self,
        error: lapin::Error,
        connection: &Connection,
    ) -> Result<(), lapin::Error> {
        if !connection.status().connected() {
            return Err(error);
        }
        let reason = describe(&error);
        if self.told.as_ref() != Some(&reason) {
            tracing::warn!(
                reason,
                "the AMQP broker has closed the channel for {}; opening another",
                self.purpose
            );
            self.told = Some(reason);
        }
        self.pauses.wait().await;
        Ok(())
    }
}
