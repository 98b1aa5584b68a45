//! One attempt: sign, send, judge the answer.
//!
//! `WEBHOOK_TIMEOUT_S` bounds standstill, not the whole transfer: resolving and connecting, each 64
//! KiB of the body, and the wait for the answer may each take so long. A 1 GiB body on a slow line
//! is delivered; a receiver that hangs is left.

use std::borrow::Cow;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::StreamExt;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT,
};
use reqwest::{Client, Response, StatusCode};
use url::Url;

use super::body::{Body, Progress};
use super::signature::sign;
use crate::config::SigningKey;
use crate::error::chain;
use crate::net::http_fields::retry_after;
use crate::net::{Outbound, Refused, refusal_of};
use crate::telemetry::trace::{Context, Transfer, seen_status};

const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// How much of an answer's body is read, so that its connection can be used again.
const ANSWER: usize = 16 * 1024;
const ANSWER_PATIENCE: Duration = Duration::from_secs(1);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// 2xx.
    Delivered(StatusCode),
    /// 410: the receiver wants no more.
    Gone,
    /// No attempt can ever succeed: the address is refused, the body is unreadable.
    Hopeless(String),
    /// Another attempt may succeed.
    Failed {
        /// What happened, without secrets.
        reason: String,
        /// The status, if there was an answer.
        status: Option<StatusCode>,
        /// `Retry-After`.
        asked: Option<Duration>,
    },
}

impl Outcome {
    /// Whether the receiver has it.
    pub const fn is_delivered(&self) -> bool {
        matches!(self, Self::Delivered(_))
    }

    fn failed(reason: impl Into<String>) -> Self {
        Self::Failed {
            reason: reason.into(),
            status: None,
            asked: None,
        }
    }
}

/// Who chose the URL, which decides the client.
#[derive(Debug, Clone, Copy)]
pub enum Route<'a> {
    /// A client of ours: only what webhooks may reach.
    Guarded(&'a Outbound),
    /// The operator.
    Operator(&'a Outbound),
}

impl Route<'_> {
    fn client(&self, url: &Url) -> &Client {
        match self {
            Self::Guarded(outbound) => outbound.webhook(url),
            Self::Operator(outbound) => outbound.operator(),
        }
    }
}

/// Everything one attempt needs.
#[derive(Debug)]
pub struct Attempt<'a> {
    /// The way out.
    pub route: Route<'a>,
    /// The receiver.
    pub url: &'a Url,
    /// `webhook-id`; `None` sends no Standard Webhooks headers at all (legacy).
    pub id: Option<&'a str>,
    /// The keys; empty means unsigned.
    pub keys: &'a [SigningKey],
    /// The body.
    pub body: &'a Body,
    /// The longest standstill.
    pub patience: Duration,
}

/// An id as a header can hold it, which is what is signed, too: receivers do not agree on what a
/// byte beyond ASCII means there. The body has the id itself.
fn header_id(id: &str) -> Cow<'_, str> {
    const NOT_SENT: &AsciiSet = &CONTROLS.add(b'%');
    if id
        .bytes()
        .all(|byte| (0x21..0x7f).contains(&byte) || byte == b' ')
        && id.trim() == id
    {
        return Cow::Borrowed(id);
    }
    // White space at the ends would be lost on the way.
    let encoded = utf8_percent_encode(id, NOT_SENT).to_string();
    let inner = encoded.trim_matches(' ');
    let start = encoded.len() - encoded.trim_start_matches(' ').len();
    let end = encoded.len() - start - inner.len();
    Cow::Owned(format!(
        "{}{inner}{}",
        "%20".repeat(start),
        "%20".repeat(end)
    ))
}

impl Attempt<'_> {
    /// Makes the attempt.
    pub async fn make(&self, transfer: &mut Transfer) -> Outcome {
        let progress = Progress::new();
        let context = transfer.context().cloned();
        let making = async {
            tokio::select! {
                outcome = self.exchange(&progress, context.as_ref()) => outcome,
                () = progress.stalled(self.patience) => Outcome::failed(
                    format!("nothing moved for {} s", self.patience.as_secs_f64())
                ),
            }
        };
        let (outcome, status) = transfer.watch(making).await;
        match &outcome {
            Outcome::Delivered(_) => {}
            Outcome::Hopeless(_) => transfer.failed(status, "refused"),
            Outcome::Gone | Outcome::Failed { .. } => transfer.failed(status, "no_answer"),
        }
        outcome
    }

    async fn exchange(&self, progress: &Progress, context: Option<&Context>) -> Outcome {
        if let Route::Guarded(outbound) = self.route
            && let Err(Refused(reason)) = outbound.check_webhook(self.url).await
        {
            return Outcome::Hopeless(reason);
        }
        progress.mark();
        let mut headers = match self.headers(progress).await {
            Ok(headers) => headers,
            Err(error) => return unreadable(&error),
        };
        if let Some(context) = context {
            context.put_into(&mut headers);
        }
        let broken = Arc::new(OnceLock::new());
        let body = self.moving_body(progress, Arc::clone(&broken));
        let request = self
            .route
            .client(self.url)
            .post(self.url.clone())
            .headers(headers)
            .body(body);
        match request.send().await {
            Ok(response) => judge(response).await,
            Err(_) if broken.get().is_some() => broken.get().cloned().unwrap_or(Outcome::Gone),
            Err(error) => network(error),
        }
    }

    /// The headers. The timestamp is that of this attempt, so each attempt hashes the whole body
    /// anew.
    async fn headers(&self, progress: &Progress) -> io::Result<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("comfyui-api/", env!("CARGO_PKG_VERSION"))),
        );
        // The stream has no length of its own; with this header it is sent as it is instead of
        // chunked.
        headers.insert(CONTENT_LENGTH, HeaderValue::from(self.body.len()));
        let Some(id) = self.id else {
            return Ok(headers);
        };
        let timestamp = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let id = &*header_id(id);
        headers.insert(
            WEBHOOK_ID,
            HeaderValue::try_from(id).map_err(io::Error::other)?,
        );
        headers.insert(WEBHOOK_TIMESTAMP, HeaderValue::from(timestamp));
        let body = self.body.stream().inspect(|_| progress.mark());
        if let Some(signature) = sign(self.keys, id, timestamp, body).await? {
            headers.insert(
                WEBHOOK_SIGNATURE,
                HeaderValue::try_from(signature).map_err(io::Error::other)?,
            );
        }
        Ok(headers)
    }

    /// The body, which marks progress as it is taken, and keeps its own error, which reqwest would
    /// bury.
    fn moving_body(&self, progress: &Progress, broken: Arc<OnceLock<Outcome>>) -> reqwest::Body {
        let progress = progress.clone();
        reqwest::Body::wrap_stream(self.body.stream().inspect(move |chunk| {
            progress.mark();
            if let Err(error) = chunk {
                let _ = broken.set(unreadable(error));
            }
        }))
    }
}

/// A file that is gone stays gone; a lack of descriptors passes.
fn unreadable(error: &io::Error) -> Outcome {
    let reason = format!("its body cannot be read: {error}");
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidInput => {
            Outcome::Hopeless(reason)
        }
        _ => Outcome::failed(reason),
    }
}

/// A refused address is final by rule; the guard reports it through the resolver, deep in the chain
/// of causes.
fn network(error: reqwest::Error) -> Outcome {
    // The URL in reqwest's own text has its query, where tokens live.
    let error = error.without_url();
    if let Some(Refused(reason)) = refusal_of(&error) {
        return Outcome::Hopeless(reason.clone());
    }
    if error.is_builder() {
        return Outcome::Hopeless(chain(&error));
    }
    Outcome::failed(chain(&error))
}

async fn judge(response: Response) -> Outcome {
    let status = response.status();
    seen_status(status.as_u16());
    let outcome = if status.is_success() {
        Outcome::Delivered(status)
    } else if status == StatusCode::GONE {
        Outcome::Gone
    } else {
        let redirected = if status.is_redirection() {
            " (redirects are not followed)"
        } else {
            ""
        };
        Outcome::Failed {
            reason: format!("it answered {status}{redirected}"),
            status: Some(status),
            asked: retry_after(response.headers()),
        }
    };
    // Neither the length nor the end of this matters to the outcome.
    let _ = tokio::time::timeout(ANSWER_PATIENCE, read_rest(response)).await;
    outcome
}

async fn read_rest(mut response: Response) {
    let mut read = 0;
    while let Ok(Some(chunk)) = response.chunk().await {
        read += chunk.len();
        if read > ANSWER {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use reqwest::dns::{Name, Resolve, Resolving};

    use super::*;

    struct Refuser;

    impl Resolve for Refuser {
        fn resolve(&self, _: Name) -> Resolving {
            Box::pin(async { Err(Refused("not there".to_owned()).into()) })
        }
    }

    /// The guard speaks through the resolver, several causes deep.
    #[tokio::test]
    async fn a_refused_address_is_hopeless_and_an_unreachable_one_is_not() {
        crate::net::install_crypto();
        let client = reqwest::Client::builder()
            .no_proxy()
            .dns_resolver(Arc::new(Refuser))
            .build()
            .unwrap();
        let error = client
            .post("http://name.example/?token=secret")
            .send()
            .await
            .unwrap_err();
        assert_eq!(network(error), Outcome::Hopeless("not there".to_owned()));
        let error = client
            .post("http://127.0.0.1:1/?token=secret")
            .send()
            .await
            .unwrap_err();
        let Outcome::Failed { reason, .. } = network(error) else {
            panic!("unreachable is not hopeless")
        };
        assert!(
            !reason.contains("secret") && !reason.contains("http://"),
            "{reason}"
        );
    }
}
