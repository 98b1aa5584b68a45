//! Requests to the hub, and their answers.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};

use super::cdn::{cdn, complete, ranged};
use super::commit::{commit, preupload};
use super::{CHUNK, Entry, Repository, Seen, State, TOKEN, key, refusal, sha256};

#[derive(Clone)]
pub(super) struct Serving {
    pub(super) state: Arc<Mutex<State>>,
    pub(super) hub: SocketAddr,
    pub(super) cdn: SocketAddr,
}

impl Serving {
    pub(super) async fn serve(self, origin: &'static str, request: Request) -> Response {
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
