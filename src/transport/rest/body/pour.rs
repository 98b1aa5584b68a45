//! A body that nobody reads.

use std::time::Duration;

use axum::body::BodyDataStream;
use futures_util::StreamExt;

/// How much of a body that is too large is read before the answer, and for how long.
const POURED_AWAY: usize = 1 << 30;

const POURING: Duration = Duration::from_secs(30);

/// Reads on for a while. A client that is still sending when the connection is closed would see a
/// broken connection instead of the answer that explains it.
pub(in crate::transport::rest) async fn pour_away(mut stream: BodyDataStream) {
    let mut left = POURED_AWAY;
    let pouring = async {
        while let Some(Ok(chunk)) = stream.next().await {
            match left.checked_sub(chunk.len()) {
                Some(rest) => left = rest,
                None => return,
            }
        }
    };
    let _ = tokio::time::timeout(POURING, pouring).await;
}
