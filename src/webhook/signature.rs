//! Standard Webhooks signatures: HMAC-SHA256 of `id.timestamp.body`, computed while the body
//! streams by. <https://www.standardwebhooks.com>

use std::io;

use futures_util::{Stream, StreamExt};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::config::SigningKey;
use crate::document;

/// Reads a body to its end and returns the value of `webhook-signature`: one `v1,` per key, so that
/// a receiver that knows any of them accepts (rotation). `None` without keys; the body is not read
/// then.
///
/// # Errors
/// When the body cannot be read.
pub async fn sign<S>(
    keys: &[SigningKey],
    id: &str,
    timestamp: u64,
    body: S,
) -> io::Result<Option<String>>
where
    S: Stream<Item = io::Result<bytes::Bytes>>,
{
    if keys.is_empty() {
        return Ok(None);
    }
    let prefix = format!("{id}.{timestamp}.");
    let mut states = Vec::with_capacity(keys.len());
    for key in keys {
        // HMAC takes keys of any length; the error type is generic over other constructions.
        let mut state = Hmac::<Sha256>::new_from_slice(&key.0).map_err(io::Error::other)?;
        state.update(prefix.as_bytes());
        states.push(state);
    }
    let mut body = std::pin::pin!(body);
    while let Some(chunk) = body.next().await {
        let chunk = chunk?;
        for state in &mut states {
            state.update(&chunk);
        }
        // Text parts are ready at once: without this a long one would keep the thread.
        tokio::task::consume_budget().await;
    }
    let signatures: Vec<String> = states
        .into_iter()
        .map(|state| format!("v1,{}", document::base64(&state.finalize().into_bytes())))
        .collect();
    Ok(Some(signatures.join(" ")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::stream;

    use super::*;

    /// The example of the Standard Webhooks specification.
    #[tokio::test]
    async fn agrees_with_the_published_example() {
        use base64::Engine;
        let key = SigningKey(
            base64::engine::general_purpose::STANDARD
                .decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
                .unwrap(),
        );
        let body = || {
            stream::iter([
                Ok(Bytes::from_static(b"{\"test\"")),
                Ok(Bytes::from_static(b": 2432232314}")),
            ])
        };
        let one = sign(
            std::slice::from_ref(&key),
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            body(),
        )
        .await
        .unwrap();
        assert_eq!(
            one.as_deref(),
            Some("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=")
        );
        let two = sign(
            &[key, SigningKey(b"other".to_vec())],
            "msg_p5jXN8AQM9LWM0D4loKWxJek",
            1_614_265_330,
            body(),
        )
        .await
        .unwrap();
        assert!(
            two.unwrap()
                .starts_with("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE= v1,")
        );
        assert_eq!(sign(&[], "id", 1, body()).await.unwrap(), None);
    }
}
