//! Uploads: preupload and commit.

use axum::response::{IntoResponse, Response};
use base64::Engine;
use serde_json::{Value, json};

use super::serving::Serving;
use super::{Entry, State, refusal};

pub(super) fn preupload(body: &[u8]) -> Response {
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

pub(super) fn commit(
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
