//! The gateway that has sent a task: secrets are claimed from it, inputs are fetched from it,
//! outputs are put there (fleet.md, "The token"). Its address comes in a header, which only those
//! can set who may publish; so it is trusted, and never reached through a proxy.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt;
use lapin::BasicProperties;
use serde_json::{Map, Value, json};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};
use url::Url;

use super::reply::{flag, text};
use crate::net::http_fields;
use crate::net::retry::Pauses;
use crate::telemetry::trace;

/// For the answer to a claim.
const CLAIM: Duration = Duration::from_secs(2);
/// How long a file is tried to be put (`Gateway::putting`), and to be fetched.
const PUTTING: Duration = Duration::from_secs(600);
const FETCHING: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A gateway that is silent for so long is not there.
const SILENCE: Duration = Duration::from_secs(30);

/// The gateway as one task knows it.
#[derive(Debug)]
pub struct Gateway {
    /// `<GATEWAY_URL>/fleet/<token>`, without a slash at its end.
    base: String,
    instance: Arc<str>,
    http: reqwest::Client,
    /// Header `secrets`: the task cannot run without what is claimed.
    pub(super) secrets: bool,
    /// Header `keep`: everything is wanted as soon as it is made.
    pub keeps: bool,
    /// How long a file is tried to be put.
    putting: Duration,
}

/// What came of a claim.
#[derive(Debug)]
pub(super) enum Claim {
    /// It runs, with these fields.
    Granted(Map<String, Value>),
    /// Nobody waits for it.
    Over,
    /// No answer.
    Silent,
}

/// A file that was put.
#[derive(Debug, Clone)]
pub struct Put {
    /// Bytes.
    pub size: u64,
    /// `blake3:...`
    pub hash: String,
}

impl Gateway {
    /// Of a message; most have none.
    pub(super) fn of(
        properties: &BasicProperties,
        instance: &Arc<str>,
        http: &reqwest::Client,
    ) -> Option<Arc<Self>> {
        let base = text(properties, "gateway")?;
        let base = base.trim_end_matches('/');
        if !is_address(base) {
            tracing::warn!(
                "the header \"gateway\" of a task is not an http address: the task is run as one \
                 without it"
            );
            return None;
        }
        Some(Arc::new(Self {
            base: base.to_owned(),
            instance: Arc::clone(instance),
            http: http.clone(),
            secrets: flag(properties, "secrets"),
            keeps: flag(properties, "keep"),
            putting: PUTTING,
        }))
    }

    /// Whether an address is below the task's own.
    pub fn owns(&self, url: &str) -> bool {
        url.strip_prefix(&self.base).is_some_and(|rest| {
            rest.starts_with('/') && !rest.contains("..") && !rest.contains(['?', '#', '%'])
        })
    }

    /// Says that the task is about to run here.
    pub(super) async fn claim(&self) -> Claim {
        let sending = async {
            let request = self.http.post(format!("{}/claim", self.base));
            let sent = request.json(&json!({"instance_id": &*self.instance}));
            let answer = traced(sent).send().await.ok()?;
            match answer.status() {
                StatusCode::NOT_FOUND | StatusCode::GONE => Some(Claim::Over),
                status if status.is_success() => {
                    let body: Value = answer.json().await.unwrap_or_default();
                    let mut granted = Map::new();
                    for name in ["credentials", "extra_data"] {
                        if let Some(value) = body.get(name).filter(|value| !value.is_null()) {
                            granted.insert(name.to_owned(), value.clone());
                        }
                    }
                    Some(Claim::Granted(granted))
                }
                _ => None,
            }
        };
        timeout(CLAIM, sending)
            .await
            .ok()
            .flatten()
            .unwrap_or(Claim::Silent)
    }

    /// Brings one of its files into a directory.
    ///
    /// # Errors
    /// One sentence without the address, which is a secret.
    pub async fn fetch(&self, url: &str, into: &Path) -> Result<(PathBuf, u64), String> {
        self.fetch_until(url, into, Instant::now() + FETCHING).await
    }

    async fn fetch_until(
        &self,
        url: &str,
        into: &Path,
        until: Instant,
    ) -> Result<(PathBuf, u64), String> {
        let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            match self.fetch_once(url, into).await {
                Ok(fetched) => return Ok(fetched),
                Err((why, false)) => return Err(why),
                Err((why, true)) if Instant::now() + pauses.peek() > until => return Err(why),
                Err(_) => pauses.wait().await,
            }
        }
    }

    /// The error says whether trying again may help.
    async fn fetch_once(&self, url: &str, into: &Path) -> Result<(PathBuf, u64), (String, bool)> {
        let lost = |error: reqwest::Error| (public(&error), true);
        let asked = timeout(SILENCE, traced(self.http.get(url)).send()).await;
        let answer = asked
            .map_err(|_| ("it does not answer".to_owned(), true))?
            .map_err(lost)?;
        let status = answer.status();
        if !status.is_success() {
            return Err((format!("it answered {status}"), status.is_server_error()));
        }
        let disposition = answer.headers().get("content-disposition");
        let name = disposition
            .and_then(|value| value.to_str().ok())
            .and_then(http_fields::disposition_name)
            .filter(|name| !name.contains(['/', '\\']) && !name.starts_with('.'))
            .unwrap_or_else(|| "input".to_owned());
        let broken = |error: std::io::Error| (format!("it cannot be written: {error}"), false);
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let dir = into.join(&unique[..8]);
        tokio::fs::create_dir_all(&dir).await.map_err(broken)?;
        let path = dir.join(name);
        let mut file = tokio::fs::File::create(&path).await.map_err(broken)?;
        let expected = answer.content_length();
        let mut size = 0;
        let mut body = answer.bytes_stream();
        while let Some(chunk) = timeout(SILENCE, body.next())
            .await
            .map_err(|_| ("it has stopped to send".to_owned(), true))?
        {
            let chunk = chunk.map_err(lost)?;
            size += chunk.len() as u64;
            file.write_all(&chunk).await.map_err(broken)?;
        }
        file.flush().await.map_err(broken)?;
        if expected.is_some_and(|expected| expected != size) {
            return Err(("the file was cut off".to_owned(), true));
        }
        Ok((path, size))
    }

    /// Puts a file there, and tries that for ten minutes.
    ///
    /// # Errors
    /// One sentence without the address; `true` with it: nobody waits for the task any more.
    pub async fn put(&self, path: &Path, name: &str) -> Result<Put, (String, bool)> {
        let until = Instant::now() + self.putting;
        self.put_until(path, name, until).await
    }

    async fn put_until(
        &self,
        path: &Path,
        name: &str,
        until: Instant,
    ) -> Result<Put, (String, bool)> {
        let mut pauses = Pauses::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut told = false;
        loop {
            match self.put_once(path, name).await {
                Ok(put) => return Ok(put),
                Err(PutError::Over) => {
                    return Err(("nobody waits for the task any more".to_owned(), true));
                }
                Err(PutError::Local(why)) => return Err((why, false)),
                Err(PutError::Lost(why)) if Instant::now() + pauses.peek() > until => {
                    return Err((why, false));
                }
                Err(PutError::Lost(why)) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::warn!(
                            name,
                            why,
                            "an output cannot be handed to the gateway that has sent the task; \
                             trying for ten minutes before the task goes back"
                        );
                    }
                    pauses.wait().await;
                }
            }
        }
    }

    async fn put_once(&self, path: &Path, name: &str) -> Result<Put, PutError> {
        let broken =
            |error: std::io::Error| PutError::Local(format!("the file cannot be read: {error}"));
        let file = tokio::fs::File::open(path).await.map_err(broken)?;
        let size = file.metadata().await.map_err(broken)?.len();
        let hasher = Arc::new(parking_lot::Mutex::new(blake3::Hasher::new()));
        let hashing = Arc::clone(&hasher);
        let chunks = tokio_util::io::ReaderStream::with_capacity(file, 256 * 1024);
        let body = chunks.map(move |chunk| {
            if let Ok(chunk) = &chunk {
                hashing.lock().update(chunk);
            }
            chunk
        });
        let name = percent_encoding::utf8_percent_encode(name, percent_encoding::NON_ALPHANUMERIC);
        let request = self
            .http
            .put(format!("{}/out/{name}", self.base))
            .header("content-length", size)
            .header("content-type", "application/octet-stream")
            .body(reqwest::Body::wrap_stream(body));
        let answer = traced(request).send().await;
        let answer = answer.map_err(|error| PutError::Lost(public(&error)))?;
        let status = answer.status();
        if !status.is_success() {
            return Err(match status {
                StatusCode::NOT_FOUND | StatusCode::GONE => PutError::Over,
                status => PutError::Lost(format!("it answered {status}")),
            });
        }
        let hash = hasher.lock().finalize().to_hex();
        Ok(Put {
            size,
            hash: format!("blake3:{hash}"),
        })
    }
}

/// Whether a header can be the address of a gateway.
fn is_address(base: &str) -> bool {
    let Ok(url) = Url::parse(base) else {
        return false;
    };
    matches!(url.scheme(), "http" | "https") && url.has_host() && url.query().is_none()
}

/// What is asked of the gateway belongs to the trace that it has begun or passed on.
fn traced(request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
    let Some(context) = trace::current() else {
        return request;
    };
    let mut headers = HeaderMap::new();
    context.put_into(&mut headers);
    request.headers(headers)
}

/// Why a file was not put.
enum PutError {
    /// Nobody waits for the task any more.
    Over,
    /// Our own file.
    Local(String),
    /// Trying again may help.
    Lost(String),
}

/// What went wrong, without the address.
fn public(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return "it does not answer".to_owned();
    }
    if error.is_connect() {
        return "it cannot be reached".to_owned();
    }
    "the connection broke".to_owned()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::extract::State;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    impl Gateway {
        /// One that tries to put files for so long.
        pub fn patient(base: String, putting: Duration) -> Arc<Self> {
            Arc::new(Self {
                base,
                instance: "one".into(),
                http: reqwest::Client::builder().no_proxy().build().unwrap(),
                secrets: false,
                keeps: false,
                putting,
            })
        }
    }

    /// A gateway that is asked again and again, and answers this.
    async fn gateway(status: StatusCode) -> (Arc<Gateway>, Arc<AtomicUsize>) {
        crate::net::install_crypto();
        let asked = Arc::new(AtomicUsize::new(0));
        let answer = move |State(asked): State<Arc<AtomicUsize>>| async move {
            asked.fetch_add(1, Ordering::Relaxed);
            status
        };
        let router = Router::new().fallback(answer).with_state(asked.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}/fleet/t", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (Gateway::patient(base, PUTTING), asked)
    }

    #[test]
    fn a_header_is_an_http_address_or_none() {
        for good in ["http://gw:3000/fleet/t", "https://10.0.0.1/fleet/t"] {
            assert!(is_address(good), "{good}");
        }
        for bad in [
            "gw:3000/fleet/t",
            "",
            "file:///etc/passwd",
            "http://gw/fleet/t?a=b",
        ] {
            assert!(!is_address(bad), "{bad}");
        }
    }

    #[tokio::test]
    async fn files_are_tried_for_so_long_and_no_longer() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("out.png");
        std::fs::write(&file, "picture").unwrap();
        let soon = || Instant::now() + FIRST_PAUSE + FIRST_PAUSE / 2;
        let url = |gateway: &Gateway| format!("{}/in/0", gateway.base);

        // It is in trouble: tried again, then given up. The task goes back into the queue.
        let (broken, asked) = gateway(StatusCode::BAD_GATEWAY).await;
        let (why, over) = broken.put_until(&file, "o", soon()).await.unwrap_err();
        assert!(why.contains("502") && !over, "{why}");
        assert!(asked.swap(0, Ordering::Relaxed) > 1);
        let from = url(&broken);
        let fetched = broken.fetch_until(&from, dir.path(), soon()).await;
        assert!(fetched.unwrap_err().contains("502"));
        assert!(asked.load(Ordering::Relaxed) > 1);

        // What is over is not tried again.
        let (over, asked) = gateway(StatusCode::NOT_FOUND).await;
        assert!(over.put(&file, "o").await.unwrap_err().1);
        assert!(over.fetch(&url(&over), dir.path()).await.is_err());
        assert_eq!(asked.load(Ordering::Relaxed), 2);
        assert_eq!((PUTTING.as_secs(), FETCHING.as_secs()), (10 * 60, 30));
    }
}
