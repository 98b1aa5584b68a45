//! A stand-in for the Hugging Face hub that speaks its protocol: resolve with redirects and
//! `x-linked-*` headers, preupload, LFS batch with `basic` and `multipart` transfers, verify,
//! commit. Large files are served by a second origin, as by the CDN. The public Python client is
//! run against it too, so that it is the hub's protocol and not ours.

mod cdn;
mod commit;
mod serving;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;
use sha2::{Digest, Sha256};

use serving::Serving;

/// The token that opens everything.
pub const TOKEN: &str = "hf_marked_secret_token";
/// LFS objects above this go in parts of this size.
pub const CHUNK: usize = 1024 * 1024;

/// A file of a branch.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Its bytes.
    Regular(Vec<u8>),
    /// Its name in LFS.
    Large(String),
}

/// A repository.
#[derive(Default)]
pub struct Repository {
    /// Files by branch and path.
    pub branches: BTreeMap<String, BTreeMap<String, Entry>>,
    /// Needs the token to be read.
    pub private: bool,
    /// Is closed even with the token.
    pub gated: bool,
    /// Paths of each commit.
    pub commits: Vec<Vec<String>>,
}

/// What happened at one request.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `hub` or `cdn`.
    pub origin: &'static str,
    /// Method.
    pub method: String,
    /// Path, without query.
    pub path: String,
    /// The `Authorization` header.
    pub authorization: Option<String>,
}

/// Everything the hub knows.
#[derive(Default)]
pub struct State {
    /// By `owner/name` or `datasets/owner/name`.
    pub repositories: HashMap<String, Repository>,
    /// LFS objects.
    pub lfs: HashMap<String, Vec<u8>>,
    parts: HashMap<String, BTreeMap<usize, Vec<u8>>>,
    verified: Vec<String>,
    /// All requests.
    pub seen: Vec<Seen>,
    /// Answer to the next commits.
    pub commit_faults: Vec<u16>,
}

/// A running stand-in; it ends when dropped.
pub struct Hub {
    /// Base URL of the hub.
    pub url: String,
    /// Base URL of the CDN.
    pub cdn: String,
    state: Arc<Mutex<State>>,
    servers: Vec<tokio::task::JoinHandle<()>>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.servers.iter().for_each(tokio::task::JoinHandle::abort);
    }
}

impl Hub {
    /// Starts it, with an empty model `owner/model` and an empty dataset `owner/data`.
    pub async fn start() -> Self {
        let hub = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let cdn = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = Arc::new(Mutex::new(State::default()));
        let serving = Serving {
            state: state.clone(),
            hub: hub.local_addr().unwrap(),
            cdn: cdn.local_addr().unwrap(),
        };
        let (url, cdn_url) = (
            format!("http://{}", serving.hub),
            format!("http://{}", serving.cdn),
        );
        let mut servers = Vec::new();
        for (listener, origin) in [(hub, "hub"), (cdn, "cdn")] {
            let serving = serving.clone();
            let router = Router::new().fallback(move |request: Request| {
                let serving = serving.clone();
                async move { serving.serve(origin, request).await }
            });
            servers.push(tokio::spawn(async move {
                axum::serve(listener, router).await.unwrap()
            }));
        }
        let this = Self {
            url,
            cdn: cdn_url,
            state,
            servers,
        };
        for name in ["owner/model", "datasets/owner/data"] {
            let branches = BTreeMap::from([("main".to_owned(), BTreeMap::new())]);
            this.state().repositories.insert(
                name.to_owned(),
                Repository {
                    branches,
                    ..Repository::default()
                },
            );
        }
        this
    }

    /// Look at it or change it.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Puts a file into a branch.
    pub fn put(&self, repository: &str, path: &str, bytes: &[u8], large: bool) {
        let mut state = self.state();
        let entry = if large {
            Entry::Large(sha256(bytes))
        } else {
            Entry::Regular(bytes.to_vec())
        };
        if large {
            state.lfs.insert(sha256(bytes), bytes.to_vec());
        }
        state
            .repositories
            .get_mut(repository)
            .unwrap()
            .branches
            .get_mut("main")
            .unwrap()
            .insert(path.to_owned(), entry);
    }

    /// What a branch holds under a path.
    pub fn content(&self, repository: &str, path: &str) -> Option<Vec<u8>> {
        let state = self.state();
        match state
            .repositories
            .get(repository)?
            .branches
            .get("main")?
            .get(path)?
        {
            Entry::Regular(bytes) => Some(bytes.clone()),
            Entry::Large(oid) => state.lfs.get(oid).cloned(),
        }
    }
}

/// Hex SHA-256.
pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn refusal(status: u16, code: &str, message: &str) -> Response {
    let mut response = (
        StatusCode::from_u16(status).unwrap(),
        axum::Json(json!({ "error": message })),
    )
        .into_response();
    response
        .headers_mut()
        .insert("x-error-code", code.parse().unwrap());
    response
        .headers_mut()
        .insert("x-error-message", message.parse().unwrap());
    response
}

fn key(kind: &str, owner: &str, name: &str) -> String {
    if kind == "models" {
        format!("{owner}/{name}")
    } else {
        format!("{kind}/{owner}/{name}")
    }
}
