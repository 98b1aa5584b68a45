//! Answers are compressed where that is worth it and the client takes it.
//!
//! The layer of `tower-http` gives the body of every answer room for the state of every
//! compression, 6 KB for each stream that somebody follows. So it sees only what may be compressed.

use std::convert::Infallible;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures_util::future::{BoxFuture, ready};
use tower::{Layer, Service, service_fn};
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate};

use super::answer::Uncompressed;

/// The layer.
#[derive(Debug, Clone, Copy)]
pub struct Compress;

/// A service whose answers may be compressed.
#[derive(Debug, Clone)]
pub struct Compressing<S>(S);

impl<S> Layer<S> for Compress {
    type Service = Compressing<S>;

    fn layer(&self, inner: S) -> Compressing<S> {
        Compressing(inner)
    }
}

impl<S> Service<Request> for Compressing<S>
where
    S: Service<Request, Response = Response>,
    S::Future: Send + 'static,
{
    type Response = Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<Response, S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let accepted = request.headers().get_all(header::ACCEPT_ENCODING);
        let accepted: Vec<HeaderValue> = accepted.iter().cloned().collect();
        let answering = self.0.call(request);
        Box::pin(async move {
            let answer = answering.await?;
            Ok(match is_worth_it(&answer) {
                true => Box::pin(compressed(accepted, answer)).await,
                false => answer,
            })
        })
    }
}

/// Only JSON and documentation are; answers full of encoded media say so themselves.
fn is_worth_it(answer: &Response) -> bool {
    answer.extensions().get::<Uncompressed>().is_none()
        && DefaultPredicate::new().should_compress(answer)
}

async fn compressed(accepted: Vec<HeaderValue>, mut answer: Response) -> Response {
    let mut asked = Request::new(());
    let names = std::iter::repeat(header::ACCEPT_ENCODING);
    *asked.headers_mut() = HeaderMap::from_iter(names.zip(accepted));
    let answering =
        move |_: axum::http::Request<()>| ready(Ok::<_, Infallible>(std::mem::take(&mut answer)));
    let mut layered = CompressionLayer::new()
        .gzip(true)
        .br(true)
        .quality(CompressionLevel::Fastest)
        .layer(service_fn(answering));
    let Ok(answer) = layered.call(asked).await;
    answer.map(Body::new)
}
