//! The span of an HTTP request, from its first byte to the last of its answer.

use axum::body::Body;
use axum::extract::{MatchedPath, Request as AxumRequest};
use axum::http::{HeaderMap, Method, Request, Response, Version, header};
use axum::middleware::Next;

use super::{Context, Kind, Span, names, tracer};
use crate::error::ErrorCode;
use crate::limits::text::shorten;
use crate::net::held_body::HeldBody;

/// Asked all the time, or looked at by people in a browser; `/mcp` has spans of its own.
const WITHOUT_SPAN: &[&str] = &["/health", "/ready", "/metrics", "/docs", "/console", "/mcp"];
/// Characters of a `User-Agent`.
const LONGEST_AGENT: usize = 256;

/// The route that a request has taken, in the extensions of its answer.
#[derive(Debug, Clone)]
pub struct MatchedRoute(MatchedPath);

/// A request under way.
#[derive(Debug)]
pub struct RequestTrace {
    span: Span,
    method: &'static str,
}

impl RequestTrace {
    /// Begins with its head.
    pub fn begin<B>(request: &Request<B>) -> Self {
        let parent = Context::from_headers(request.headers());
        let path = request.uri().path();
        let without = tracer().is_none() || WITHOUT_SPAN.iter().any(|start| is_below(path, start));
        let method = known(request.method());
        if without {
            let span = Span::passing(parent);
            return Self { span, method };
        }
        let mut span = Span::begin(method, Kind::Server, parent.as_ref());
        if span.is_recorded() {
            describe(&mut span, request, method);
        }
        Self { span, method }
    }

    /// Where its work belongs.
    pub fn context(&self) -> Option<Context> {
        self.span.context().cloned()
    }

    /// Notes the answer; the span ends with its last byte.
    pub fn answered(mut self, mut response: Response<Body>) -> Response<Body> {
        if !self.span.is_recorded() {
            return response;
        }
        let status = response.status();
        self.span.set(names::HTTP_STATUS, status.as_u16());
        let method = self.method;
        let shown = if method == "_OTHER" { "HTTP" } else { method };
        match response.extensions_mut().remove::<MatchedRoute>() {
            Some(MatchedRoute(route)) => {
                let route = template(route.as_str());
                // What opens something is not told.
                if route.contains("{token}") {
                    self.span.set(names::URL_PATH, route.clone());
                }
                self.span.set(names::HTTP_ROUTE, route.clone());
                self.span.rename(|| format!("{shown} {route}"));
            }
            None => self.span.rename(|| shown.to_owned()),
        }
        let code = response.extensions_mut().remove::<ErrorCode>();
        let code = code.map(|ErrorCode(code)| code);
        if status.is_server_error() {
            self.span.fail(code.unwrap_or("internal_error"));
        } else if let Some(code) = code {
            self.span.set(names::ERROR_TYPE, code);
        }
        let span = self.span;
        response.map(|body| HeldBody::of(body, span))
    }
}

fn describe<B>(span: &mut Span, request: &Request<B>, method: &'static str) {
    let (uri, headers) = (request.uri(), request.headers());
    span.set(names::HTTP_METHOD, method);
    if method == "_OTHER" {
        let original = shorten(request.method().as_str(), 32).into_owned();
        span.set(names::HTTP_METHOD_ORIGINAL, original);
    }
    span.set(names::URL_PATH, uri.path().to_owned());
    span.set(names::URL_SCHEME, "http");
    let version = match request.version() {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    span.set(names::PROTOCOL_VERSION, version);
    let host = text(headers, &header::HOST);
    let authority = uri
        .authority()
        .cloned()
        .or_else(|| host.and_then(|host| host.parse().ok()));
    if let Some(authority) = authority {
        let name = authority.host().trim_matches(['[', ']']).to_owned();
        span.set(names::SERVER_ADDRESS, name);
        span.set(names::SERVER_PORT, authority.port_u16().unwrap_or(80));
    }
    if let Some(agent) = text(headers, &header::USER_AGENT) {
        let agent = shorten(agent, LONGEST_AGENT).into_owned();
        span.set(names::USER_AGENT, agent);
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_below(path: &str, start: &str) -> bool {
    path.strip_prefix(start)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Methods that are not of the standard are one to whoever counts them.
fn known(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        Method::CONNECT => "CONNECT",
        Method::TRACE => "TRACE",
        _ => "_OTHER",
    }
}

/// A route as documentation writes it: `/workflow/{path}`.
fn template(route: &str) -> String {
    match route.find("{*__private") {
        Some(end) => route[..end].trim_end_matches('/').to_owned(),
        None => route.replace("{*", "{"),
    }
}

/// Notes which route a request takes. The innermost router knows it best, so whoever has noted it
/// already is right.
pub async fn matched_route(request: AxumRequest, next: Next) -> axum::response::Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let extensions = response.extensions_mut();
    if let Some(route) = route
        && extensions.get::<MatchedRoute>().is_none()
    {
        extensions.insert(MatchedRoute(route));
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_named_as_documentation_names_them() {
        assert_eq!(template("/workflow/{*path}"), "/workflow/{path}");
        assert_eq!(template("/api/v2/jobs/{id}"), "/api/v2/jobs/{id}");
        assert_eq!(
            template("/api/v2/{*__private__axum_nest_tail_param}"),
            "/api/v2"
        );
        assert!(is_below("/docs", "/docs") && is_below("/docs/x", "/docs"));
        assert!(!is_below("/docsx", "/docs"));
    }
}
