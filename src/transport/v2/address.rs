//! What addresses in answers begin with.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::V2State;
use crate::config::Config;
use crate::transport::rest::RouterState;

/// How the client has reached us.
#[derive(Debug, Clone)]
pub struct Base {
    /// Scheme, host and prefix, without a slash at the end.
    pub absolute: String,
    /// `X-Forwarded-Prefix`, without a slash at the end.
    pub prefix: String,
}

impl FromRequestParts<V2State> for Base {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &V2State,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts, &state.config))
    }
}

impl FromRequestParts<RouterState> for Base {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &RouterState,
    ) -> Result<Self, Self::Rejection> {
        Ok(Self::of(parts, &state.config))
    }
}

impl Base {
    /// How this request has reached us.
    pub fn of(parts: &Parts, config: &Config) -> Self {
        let authority = parts
            .uri
            .authority()
            .map(|authority| authority.as_str().to_owned());
        base(&parts.headers, authority, config)
    }
}

/// What addresses in the answer to this request begin with.
pub fn base(headers: &HeaderMap, authority: Option<String>, config: &Config) -> Base {
    let text = |name: &str| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(str::trim)
    };
    let prefix = text("x-forwarded-prefix")
        .map(|prefix| prefix.trim_end_matches('/'))
        .filter(|prefix| is_path(prefix));
    let prefix = prefix.unwrap_or_default().to_owned();
    if let Some(url) = &config.state.api_url {
        return Base {
            absolute: url.clone(),
            prefix,
        };
    }
    let scheme = match text("x-forwarded-proto")
        .and_then(|list| list.split(',').next())
        .map(str::trim)
    {
        Some("https") => "https",
        _ => "http",
    };
    let host = text(header::HOST.as_str())
        .map(str::to_owned)
        .or(authority)
        .filter(|host| is_authority(host))
        .unwrap_or_else(|| format!("localhost:{}", config.server.port));
    Base {
        absolute: format!("{scheme}://{host}{prefix}"),
        prefix,
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/')
        && !text.starts_with("//")
        && text.len() <= 200
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%".contains(&byte))
}

fn is_authority(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 300
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte))
}
