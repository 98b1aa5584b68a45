//! Where a repository really is, and how git gets there.

use axum::http::{HeaderMap, HeaderValue, Method, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::percent_decode_str;
use url::Url;

use super::Repository;
use crate::config::public;
use crate::net::redirect::send_guarded;
use crate::net::{Outbound, http_fields, refusal_of, retry};
use crate::storage::{ErrorKind, StorageError, error};

/// For the first answer of a server; git has its own rule for slow ones.
const ANSWER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(60);

impl Repository {
    /// Follows redirects under the guard and notes the addresses that it let through.
    pub(super) async fn locate(outbound: &Outbound, text: &str) -> Result<Self, StorageError> {
        let mut url = Url::parse(text)
            .ok()
            .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
            .ok_or_else(|| {
                StorageError::new(
                    ErrorKind::Invalid,
                    format!(
                        "{} is not an http or https URL of a git repository",
                        crate::config::public_url(text)
                    ),
                )
            })?;
        let reference = url
            .fragment()
            .filter(|fragment| !fragment.is_empty())
            .map(str::to_owned);
        if reference
            .as_deref()
            .is_some_and(|reference| reference.starts_with('-'))
        {
            return Err(StorageError::new(
                ErrorKind::Invalid,
                format!("{}: a git reference does not begin with -", public(&url)),
            ));
        }
        let authorization = authorization(&url);
        // Neither fails on web URLs.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        let found = follow(outbound, &url, authorization.as_deref()).await?;
        let mut settings = safe_settings(outbound, &found);
        if let Some(authorization) = authorization.filter(|_| found.origin() == url.origin()) {
            let origin = found.origin().ascii_serialization();
            settings.push((
                format!("http.{origin}/.extraHeader"),
                format!("Authorization: {authorization}"),
            ));
        }
        settings.extend(checked_addresses(outbound, &found).await?);
        Ok(Self {
            url: found,
            reference,
            settings,
            dirs: Vec::new(),
        })
    }
}

/// What git may do at all.
fn safe_settings(outbound: &Outbound, found: &Url) -> Vec<(String, String)> {
    let proxy = outbound.proxy_of(found);
    let proxy = proxy.map(|proxy| proxy.expose().to_owned());
    let settings = [
        ("http.followRedirects", "false".to_owned()),
        ("http.lowSpeedLimit", "1000".to_owned()),
        ("http.lowSpeedTime", "60".to_owned()),
        ("http.proxy", proxy.unwrap_or_default()),
        ("credential.helper", String::new()),
        ("protocol.allow", "never".to_owned()),
        ("protocol.http.allow", "always".to_owned()),
        ("protocol.https.allow", "always".to_owned()),
        ("core.hooksPath", "/dev/null".to_owned()),
        ("advice.detachedHead", "false".to_owned()),
    ];
    settings
        .map(|(name, value)| (name.to_owned(), value))
        .into()
}

/// The addresses that the guard let through, for git, which resolves names itself. None behind a
/// proxy, which does that.
async fn checked_addresses(
    outbound: &Outbound,
    found: &Url,
) -> Result<Option<(String, String)>, StorageError> {
    let (Some(host), Some(port), None) = (
        found.host_str(),
        found.port_or_known_default(),
        outbound.proxy_of(found),
    ) else {
        return Ok(None);
    };
    let addresses = outbound
        .addresses(found)
        .await
        .map_err(|refused| StorageError::new(ErrorKind::Invalid, refused.to_string()))?;
    if addresses.is_empty() {
        return Ok(None);
    }
    let list: Vec<String> = addresses
        .iter()
        .map(|ip| {
            if ip.is_ipv6() {
                format!("[{ip}]")
            } else {
                ip.to_string()
            }
        })
        .collect();
    Ok(Some((
        "http.curloptResolve".to_owned(),
        format!("{host}:{port}:{}", list.join(",")),
    )))
}

fn authorization(url: &Url) -> Option<String> {
    let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
    let given = !url.username().is_empty() || url.password().is_some();
    given.then(|| {
        format!(
            "Basic {}",
            STANDARD.encode(format!(
                "{}:{}",
                decoded(url.username()),
                decoded(url.password().unwrap_or_default())
            ))
        )
    })
}

/// Asks as git will ask, to learn where redirects lead.
async fn follow(
    outbound: &Outbound,
    url: &Url,
    authorization: Option<&str>,
) -> Result<Url, StorageError> {
    const QUESTION: &str = "/info/refs";
    let mut asked = url.clone();
    asked.set_path(&format!("{}{QUESTION}", url.path().trim_end_matches('/')));
    asked.set_query(Some("service=git-upload-pack"));
    let mut private = HeaderMap::new();
    private.extend(
        authorization
            .and_then(|value| HeaderValue::from_str(value).ok())
            .map(|value| (header::AUTHORIZATION, value)),
    );
    let mut open = HeaderMap::new();
    // GitLab and others answer browsers otherwise than git.
    open.insert(
        header::USER_AGENT,
        HeaderValue::from_static("git/2.0 (comfyui-api)"),
    );
    let policy = retry::RetryPolicy::default();
    retry::retried(&policy, StorageError::asked, || async {
        let sent = send_guarded(outbound, Method::GET, &asked, &open, &private);
        match tokio::time::timeout(ANSWER_TIMEOUT, sent).await {
            Err(_) => Err(StorageError::new(
                ErrorKind::Transient,
                format!("the git repository {} does not answer", public(url)),
            )),
            Ok(Ok((response, mut at))) if response.status().is_success() => {
                let path = at
                    .path()
                    .strip_suffix(QUESTION)
                    .unwrap_or(url.path())
                    .to_owned();
                at.set_path(&path);
                at.set_query(None);
                Ok(at)
            }
            Ok(Ok((response, _))) => Err(refused(response, url, authorization).await),
            Ok(Err(error)) => Err(match refusal_of(&error) {
                Some(refused) => {
                    StorageError::new(ErrorKind::Invalid, format!("{}: {refused}", public(url)))
                }
                None => StorageError::new(
                    ErrorKind::Transient,
                    format!(
                        "the git repository {}: {}",
                        public(url),
                        crate::error::chain(&error)
                    ),
                ),
            }),
        }
    })
    .await
}

/// What an answer that is no success means, with the server's own words.
async fn refused(
    response: reqwest::Response,
    url: &Url,
    authorization: Option<&str>,
) -> StorageError {
    let status = response.status();
    let kind = match status.as_u16() {
        401 | 403 => ErrorKind::Unauthorized,
        404 | 410 => ErrorKind::NotFound,
        _ if retry::is_transient_status(status) => ErrorKind::Transient,
        _ => ErrorKind::Failed,
    };
    let mut message = format!("the git repository {} answered {status}", public(url));
    let headers = response.headers().clone();
    let body = error::read_refusal(response).await;
    let mut secrets: Vec<String> = Vec::new();
    if let Some(pair) = authorization.and_then(|value| value.strip_prefix("Basic ")) {
        secrets.push(pair.to_owned());
        let decoded = STANDARD.decode(pair).unwrap_or_default();
        let decoded = String::from_utf8_lossy(&decoded);
        secrets.extend(decoded.split_once(':').map(|(_, word)| word.to_owned()));
    }
    if let Some(words) = error::origin_words(&headers, &body, &secrets) {
        message.push_str(": ");
        message.push_str(&words);
    }
    StorageError {
        kind,
        message,
        retry_after: http_fields::retry_after(&headers),
    }
}
