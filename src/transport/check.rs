//! What may refuse a request before anything else looks at it.
//!
//! A check answers at once, so it needs no future of its own around the request: thousands of
//! clients may wait behind it.

use std::sync::Arc;
use std::task::{Context, Poll};

use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::future::{Either, Ready, ready};
use tower::{Layer, Service};

/// Puts a check before a service, which asks what all requests share. `None` lets a request
/// through.
pub fn check<S, R>(
    services: &Arc<S>,
    refusal: fn(&S, &Request) -> Option<R>,
) -> Check<impl Fn(&Request) -> Option<Response> + Clone + Send + Sync + use<S, R>>
where
    S: Send + Sync + 'static,
    R: IntoResponse + 'static,
{
    let services = services.clone();
    Check(move |request: &Request| refusal(&services, request).map(IntoResponse::into_response))
}

/// See [`check`].
#[derive(Clone)]
pub struct Check<F>(F);

impl<S, F: Clone> Layer<S> for Check<F> {
    type Service = Checked<S, F>;

    fn layer(&self, inner: S) -> Checked<S, F> {
        let refusal = self.0.clone();
        Checked { inner, refusal }
    }
}

/// A service behind a check.
#[derive(Clone)]
pub struct Checked<S, F> {
    inner: S,
    refusal: F,
}

impl<S, F> Service<Request> for Checked<S, F>
where
    S: Service<Request, Response = Response>,
    F: Fn(&Request) -> Option<Response>,
{
    type Response = Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<Response, S::Error>>, S::Future>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request) -> Self::Future {
        match (self.refusal)(&request) {
            Some(response) => Either::Left(ready(Ok(response))),
            None => Either::Right(self.inner.call(request)),
        }
    }
}
