//! A stand-in for the Hugging Face hub that speaks its protocol: resolve with redirects and
//! `x-linked-*` headers, preupload, LFS batch with `basic` and `multipart` transfers, verify,
//! commit. Large files are served by a second origin, as by the CDN. The public Python client is
//! run against it too, so that it is the hub's protocol and not ours.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

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

#[derive(Clone)]
struct Serving {
    state: Arc<Mutex<State>>,
    hub: SocketAddr,
    cdn: SocketAddr,
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

impl Serving {
    async fn serve(self, origin: &'static str, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = to_bytes(body, 64 << 20).await.unwrap_or_default();
        let authorization = parts
            .headers
            .get(header::AUTHORIZATION)
            .map(|value| value.to_str().unwrap().to_owned());
        let path = parts.uri.path().to_owned();
        let mut state = self.state.lock().unwrap();
        state.seen.push(Seen {
            origin,
            method: parts.method.to_string(),
            path: path.clone(),
            authorization: authorization.clone(),
        });
        let segments: Vec<String> = path
            .trim_start_matches('/')
            .split('/')
            .map(|segment| {
                percent_decode_str(segment)
                    .decode_utf8()
                    .unwrap()
                    .into_owned()
            })
            .collect();
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        let permitted = authorization.as_deref() == Some(&format!("Bearer {TOKEN}"));
        if origin == "cdn" {
            // As S3 does with two kinds of credentials at once.
            if authorization.is_some() {
                return (StatusCode::BAD_REQUEST, "only one auth mechanism allowed")
                    .into_response();
            }
            return cdn(&mut state, &parts.method, &segments, &parts.headers, body);
        }
        match (parts.method.as_str(), segments.as_slice()) {
            ("POST", ["api", kind, owner, name, "preupload", revision]) => {
                match find(&mut state, kind, owner, name, revision, permitted) {
                    Ok(_) => preupload(&body),
                    Err(response) => response,
                }
            }
            ("POST", ["api", kind, owner, name, "commit", revision]) => {
                if let Some(status) = state.commit_faults.pop() {
                    return refusal(
                        status,
                        "",
                        "A commit has happened since. Please refresh and try again.",
                    );
                }
                match find(&mut state, kind, owner, name, revision, permitted) {
                    Ok(_) => commit(&mut state, &key(kind, owner, name), revision, &body, &self),
                    Err(response) => response,
                }
            }
            ("POST", [.., "info", "lfs", "objects", "batch"]) if permitted => {
                self.batch(&state, &body)
            }
            ("POST", ["lfs-verify", oid]) if permitted => {
                let asked: Value = serde_json::from_slice(&body).unwrap();
                let size = state.lfs.get(*oid).map(Vec::len);
                if size.is_none() || asked["size"].as_u64() != size.map(|size| size as u64) {
                    return refusal(422, "", "the object is not whole");
                }
                state.verified.push((*oid).to_owned());
                StatusCode::OK.into_response()
            }
            ("POST", ["lfs-complete", oid]) => complete(&mut state, oid, &body),
            ("GET" | "HEAD", ["api", "resolve-cache", rest @ ..])
            | ("GET" | "HEAD", rest @ [_, _, "resolve", ..] | rest @ [_, _, _, "resolve", ..]) => {
                let cached = segments.first() == Some(&"api");
                self.resolve(&mut state, rest, cached, permitted, &path, &parts.headers)
            }
            _ => refusal(404, "", "nothing here"),
        }
    }

    fn resolve(
        &self,
        state: &mut State,
        segments: &[&str],
        cached: bool,
        permitted: bool,
        path: &str,
        headers: &HeaderMap,
    ) -> Response {
        let (kind, rest) = if segments[0] == "datasets" {
            ("datasets", &segments[1..])
        } else {
            ("models", segments)
        };
        let [owner, name, _, revision, file @ ..] = rest else {
            return refusal(404, "", "no such page");
        };
        let file = file.join("/");
        let repository = key(kind, owner, name);
        let Some(known) = state.repositories.get(&repository) else {
            return refusal(
                if permitted { 404 } else { 401 },
                "RepoNotFound",
                "Repository not found",
            );
        };
        if known.private && !permitted {
            return refusal(401, "RepoNotFound", "Invalid username or password.");
        }
        if known.gated {
            return refusal(
                403,
                "GatedRepo",
                "Access to model owner/model is restricted and you are not in the authorized list.",
            );
        }
        let Some(files) = known.branches.get(*revision) else {
            return refusal(404, "RevisionNotFound", "Invalid rev id");
        };
        let Some(entry) = files.get(&file) else {
            return refusal(404, "EntryNotFound", "Entry not found");
        };
        let mut response = match entry {
            Entry::Large(oid) => {
                let size = state.lfs[oid].len();
                let location = format!("http://{}/{oid}?X-Signature=marked", self.cdn);
                let headers = [
                    (header::LOCATION, location),
                    (header::ETAG, format!("\"{oid}\"")),
                ];
                let linked = [
                    ("x-linked-size", size.to_string()),
                    ("x-linked-etag", format!("\"{oid}\"")),
                ];
                (StatusCode::FOUND, headers, linked, "Found. Redirecting").into_response()
            }
            Entry::Regular(_) if !cached => {
                // Small files are redirected within the hub.
                (
                    StatusCode::TEMPORARY_REDIRECT,
                    [(header::LOCATION, format!("/api/resolve-cache{path}"))],
                    "Temporary Redirect",
                )
                    .into_response()
            }
            Entry::Regular(bytes) => {
                ranged(bytes, &format!("\"{}\"", &sha256(bytes)[..40]), headers)
            }
        };
        response.headers_mut().insert(
            "x-repo-commit",
            "c0ffee0000000000000000000000000000000000".parse().unwrap(),
        );
        response
    }

    fn batch(&self, state: &State, body: &[u8]) -> Response {
        let asked: Value = serde_json::from_slice(body).unwrap();
        assert_eq!(
            (&asked["operation"], &asked["hash_algo"]),
            (&json!("upload"), &json!("sha256"))
        );
        let object = |object: &Value| {
            let (oid, size) = (
                object["oid"].as_str().unwrap(),
                object["size"].as_u64().unwrap() as usize,
            );
            if state.lfs.contains_key(oid) {
                return json!({ "oid": oid, "size": size });
            }
            let mut header = serde_json::Map::new();
            let mut href = format!("http://{}/upload/{oid}?X-Signature=marked", self.cdn);
            if size > CHUNK {
                header.insert("chunk_size".into(), json!(CHUNK.to_string()));
                for part in 1..=size.div_ceil(CHUNK) {
                    header.insert(
                        format!("{part:05}"),
                        json!(format!(
                            "http://{}/part/{oid}/{part}?X-Signature=marked",
                            self.cdn
                        )),
                    );
                }
                href = format!("http://{}/lfs-complete/{oid}", self.hub);
            }
            let verify = json!({ "href": format!("http://{}/lfs-verify/{oid}", self.hub) });
            json!({
                "oid": oid,
                "size": size,
                "actions": { "upload": { "href": href, "header": header }, "verify": verify }
            })
        };
        let objects: Vec<Value> = asked["objects"]
            .as_array()
            .unwrap()
            .iter()
            .map(object)
            .collect();
        axum::Json(json!({ "transfer": "multipart", "objects": objects })).into_response()
    }
}

fn key(kind: &str, owner: &str, name: &str) -> String {
    if kind == "models" {
        format!("{owner}/{name}")
    } else {
        format!("{kind}/{owner}/{name}")
    }
}

fn find<'a>(
    state: &'a mut State,
    kind: &str,
    owner: &str,
    name: &str,
    revision: &str,
    permitted: bool,
) -> Result<&'a mut Repository, Response> {
    if !permitted {
        return Err(refusal(
            401,
            "RepoNotFound",
            "Invalid username or password.",
        ));
    }
    let repository = state
        .repositories
        .get_mut(&key(kind, owner, name))
        .ok_or_else(|| refusal(404, "RepoNotFound", "Repository not found"))?;
    if repository.branches.contains_key(revision) {
        Ok(repository)
    } else {
        Err(refusal(404, "RevisionNotFound", "Invalid rev id"))
    }
}

fn preupload(body: &[u8]) -> Response {
    let asked: Value = serde_json::from_slice(body).unwrap();
    let file = |file: &Value| {
        let sample = base64::engine::general_purpose::STANDARD
            .decode(file["sample"].as_str().unwrap())
            .unwrap();
        assert!(sample.len() <= 512 && sample.len() as u64 <= file["size"].as_u64().unwrap());
        let mode = if sample.contains(&0) || file["size"].as_u64() > Some(10 << 20) {
            "lfs"
        } else {
            "regular"
        };
        let path = file["path"].as_str().unwrap();
        json!({
            "path": path,
            "uploadMode": mode,
            "shouldIgnore": path.ends_with(".ignored"),
            "oid": null
        })
    };
    let files: Vec<Value> = asked["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(file)
        .collect();
    axum::Json(json!({ "files": files })).into_response()
}

fn commit(
    state: &mut State,
    repository: &str,
    revision: &str,
    body: &[u8],
    serving: &Serving,
) -> Response {
    let mut files = Vec::new();
    for (index, line) in body
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .enumerate()
    {
        let line: Value = serde_json::from_slice(line).unwrap();
        let value = &line["value"];
        match line["key"].as_str() {
            Some("header") => assert!(index == 0 && value["summary"].is_string()),
            Some("file") => {
                assert_eq!(value["encoding"], "base64");
                let content = base64::engine::general_purpose::STANDARD
                    .decode(value["content"].as_str().unwrap());
                let Ok(content) = content else {
                    return refusal(400, "", "content is not base64");
                };
                files.push((
                    value["path"].as_str().unwrap().to_owned(),
                    Entry::Regular(content),
                ));
            }
            Some("lfsFile") => {
                let oid = value["oid"].as_str().unwrap().to_owned();
                if value["algo"] != "sha256"
                    || !state.lfs.contains_key(&oid)
                    || !state.verified.contains(&oid)
                {
                    return refusal(
                        400,
                        "",
                        "a file points to an LFS object that does not exist",
                    );
                }
                files.push((
                    value["path"].as_str().unwrap().to_owned(),
                    Entry::Large(oid),
                ));
            }
            _ => return refusal(400, "", "unknown line"),
        }
    }
    let known = state.repositories.get_mut(repository).unwrap();
    known
        .commits
        .push(files.iter().map(|(path, _)| path.clone()).collect());
    known.branches.get_mut(revision).unwrap().extend(files);
    let oid = "c0ffee0000000000000000000000000000000000";
    axum::Json(json!({
        "success": true,
        "commitOid": oid,
        "commitUrl": format!("http://{}/{repository}/commit/{oid}", serving.hub)
    }))
    .into_response()
}

fn cdn(
    state: &mut State,
    method: &Method,
    segments: &[&str],
    headers: &HeaderMap,
    body: Bytes,
) -> Response {
    let sized = headers.contains_key(header::CONTENT_LENGTH)
        && !headers.contains_key(header::TRANSFER_ENCODING);
    match (method.as_str(), segments) {
        ("PUT", _) if !sized => (StatusCode::NOT_IMPLEMENTED, "Transfer-Encoding").into_response(),
        ("PUT", ["upload", oid]) if sha256(&body) == *oid => {
            state.lfs.insert((*oid).to_owned(), body.to_vec());
            StatusCode::OK.into_response()
        }
        ("PUT", ["part", oid, part]) => {
            state
                .parts
                .entry((*oid).to_owned())
                .or_default()
                .insert(part.parse().unwrap(), body.to_vec());
            (StatusCode::OK, [(header::ETAG, format!("\"part-{part}\""))]).into_response()
        }
        // The CDN's own etag is another one than the hub's.
        ("GET" | "HEAD", [oid]) if state.lfs.contains_key(*oid) => {
            ranged(&state.lfs[*oid], "\"cdn-etag\"", headers)
        }
        _ => StatusCode::FORBIDDEN.into_response(),
    }
}

fn complete(state: &mut State, oid: &str, body: &[u8]) -> Response {
    let asked: Value = serde_json::from_slice(body).unwrap();
    let parts = state.parts.remove(oid).unwrap_or_default();
    let named: Vec<_> = asked["parts"]
        .as_array()
        .unwrap()
        .iter()
        .map(|part| part["partNumber"].as_u64().unwrap() as usize)
        .collect();
    let etags = asked["parts"].as_array().unwrap().iter().all(|part| {
        part["etag"]
            .as_str()
            .is_some_and(|etag| etag.contains("part-"))
    });
    let bytes: Vec<u8> = parts.values().flatten().copied().collect();
    if !etags || !named.iter().copied().eq(parts.keys().copied()) || sha256(&bytes) != oid {
        return refusal(400, "", "the parts do not fit");
    }
    state.lfs.insert(oid.to_owned(), bytes);
    StatusCode::OK.into_response()
}

fn ranged(bytes: &[u8], etag: &str, headers: &HeaderMap) -> Response {
    let other = headers
        .get(header::IF_RANGE)
        .is_some_and(|wanted| wanted != etag);
    let range = headers
        .get(header::RANGE)
        .filter(|_| !other)
        .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split_once('-'));
    let common = [
        (header::ETAG, etag.to_owned()),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
    ];
    let Some((start, end)) = range else {
        return (StatusCode::OK, common, Body::from(bytes.to_vec())).into_response();
    };
    let start: usize = start.parse().unwrap();
    let end = end
        .parse()
        .map_or(bytes.len(), |end: usize| (end + 1).min(bytes.len()));
    if start >= end {
        return StatusCode::RANGE_NOT_SATISFIABLE.into_response();
    }
    let content = [(
        header::CONTENT_RANGE,
        format!("bytes {start}-{}/{}", end - 1, bytes.len()),
    )];
    (
        StatusCode::PARTIAL_CONTENT,
        common,
        content,
        Body::from(bytes[start..end].to_vec()),
    )
        .into_response()
}
