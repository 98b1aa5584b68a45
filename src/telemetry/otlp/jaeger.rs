//! The sampling strategy of a Jaeger collector (`jaeger_remote`): asked for again and again, by
//! gRPC as the standard has it.
//!
//! It is one call without streams, so that a request of HTTP/2 with a framed message is all that is
//! needed of gRPC.

use std::time::Duration;

use axum::http::{HeaderValue, header};
use bytes::{BufMut, Bytes, BytesMut};
use futures_util::StreamExt;
use prost::Message;
use reqwest::Client;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::config::{RemoteSampler, public};
use crate::error::chain;

const METHOD: &str = "jaeger.api_v2.SamplingManager/GetSamplingStrategy";
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Before a message: whether it is compressed, and its length.
const FRAME: usize = 5;
/// Bytes of an answer.
const LONGEST: usize = 1 << 20;

#[derive(Clone, PartialEq, Message)]
struct Asked {
    #[prost(string, tag = "1")]
    service: String,
}

#[derive(Clone, PartialEq, Message)]
struct Answer {
    #[prost(message, optional, tag = "2")]
    share: Option<Share>,
    #[prost(message, optional, tag = "3")]
    rate: Option<Rate>,
    #[prost(message, optional, tag = "4")]
    by_operation: Option<ByOperation>,
}

#[derive(Clone, PartialEq, Message)]
struct Share {
    #[prost(double, tag = "1")]
    of_all: f64,
}

#[derive(Clone, PartialEq, Message)]
struct Rate {
    #[prost(int32, tag = "1")]
    per_second: i32,
}

/// A trace begins before its route is known, so that only what holds for all operations can be
/// meant.
#[derive(Clone, PartialEq, Message)]
struct ByOperation {
    #[prost(double, tag = "1")]
    default_share: f64,
}

/// Asks until the end. What was said last holds while nobody answers.
pub(super) async fn follow(
    sampler: RemoteSampler,
    service: String,
    client: Client,
    ending: CancellationToken,
) {
    let mut silent = false;
    loop {
        let asking = timeout(PATIENCE, ask(&sampler, &service, &client));
        let asked = tokio::select! {
            () = ending.cancelled() => return,
            asked = asking => asked.unwrap_or_else(|_| Err("it does not answer".to_owned())),
        };
        match asked {
            Ok(()) => silent = false,
            Err(reason) => {
                if !std::mem::replace(&mut silent, true) {
                    let url = public(&sampler.endpoint);
                    warn!(
                        %url,
                        "which traces are recorded cannot be asked; what was said last holds: \
                         {reason}"
                    );
                }
            }
        }
        tokio::select! {
            () = ending.cancelled() => return,
            () = sleep(sampler.interval) => {}
        }
    }
}

async fn ask(sampler: &RemoteSampler, service: &str, client: &Client) -> Result<(), String> {
    let url = format!(
        "{}/{METHOD}",
        sampler.endpoint.as_str().trim_end_matches('/')
    );
    let message = Asked {
        service: service.to_owned(),
    };
    let response = client
        .post(url)
        .header(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/grpc"),
        )
        .header(header::TE, HeaderValue::from_static("trailers"))
        .body(framed(&message))
        .send()
        .await
        .map_err(|error| chain(&error.without_url()))?;
    if !response.status().is_success() {
        return Err(format!("it answered {}", response.status()));
    }
    // An error has no message, and says what it is in the headers or behind the body.
    let refused = response.headers().get("grpc-status").cloned();
    let mut body = BytesMut::new();
    let mut pieces = response.bytes_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|error| chain(&error.without_url()))?;
        body.extend_from_slice(&piece);
        if body.len() > LONGEST {
            return Err("its answer is too long".to_owned());
        }
    }
    let answer = unframed(&body).ok_or_else(|| match refused {
        Some(status) => format!("it refuses (gRPC status {status:?})"),
        None => "its answer is no sampling strategy".to_owned(),
    })?;
    match answer {
        Answer {
            by_operation: Some(by_operation),
            ..
        } => sampler.strategy.share(by_operation.default_share),
        Answer {
            rate: Some(rate), ..
        } => sampler.strategy.rate(rate.per_second.into()),
        Answer { share, .. } => sampler.strategy.share(share.unwrap_or_default().of_all),
    }
    Ok(())
}

fn framed(message: &Asked) -> Bytes {
    let length = message.encoded_len();
    let mut bytes = BytesMut::with_capacity(FRAME + length);
    bytes.put_u8(0);
    bytes.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    bytes.extend_from_slice(&message.encode_to_vec());
    bytes.freeze()
}

fn unframed(body: &[u8]) -> Option<Answer> {
    let (head, message) = body.split_at_checked(FRAME)?;
    let length = u32::from_be_bytes(head[1..].try_into().ok()?);
    let message = message.get(..usize::try_from(length).ok()?)?;
    (head[0] == 0).then(|| Answer::decode(message).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_framed() {
        let asked = Asked {
            service: "x".to_owned(),
        };
        assert_eq!(&*framed(&asked), b"\0\0\0\0\x03\x0a\x01x");
        let answer = unframed(b"\0\0\0\0\x06\x08\x01\x1a\x02\x08\x07").unwrap();
        assert_eq!(answer.rate, Some(Rate { per_second: 7 }));
        for broken in [&b""[..], b"\0\0\0\0\x06\x08", b"\x01\0\0\0\0"] {
            assert_eq!(unframed(broken), None);
        }
        assert_eq!(unframed(b"\0\0\0\0\0"), Some(Answer::default()));
    }
}
