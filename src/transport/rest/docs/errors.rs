//! The error answers of an operation, made from the codes it lists, so that codes and statuses
//! cannot drift from `error`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::error::Code;

/// Codes that any operation may answer with.
const EVERYWHERE: [Code; 2] = [Code::Internal, Code::ForbiddenOrigin];

fn meaning(code: Code) -> &'static str {
    match code {
        Code::InvalidRequest => "the request is wrong; `location` names the field",
        Code::InvalidPrompt => {
            "the graph is wrong, or ComfyUI refused it: `error` names node and input, `details` \
             and `node_errors` are ComfyUI's own"
        }
        Code::DownloadFailed => {
            "an input file or model could not be fetched; `location` names the input"
        }
        Code::Unauthorized => "the API key is missing or wrong",
        Code::ForbiddenOrigin => {
            "a browser sent the request for a page that may not: see `CORS_ALLOWED_ORIGINS` and \
             `ALLOWED_HOSTS`"
        }
        Code::NotFound => "there is no such thing here",
        Code::MethodNotAllowed => "the path has other methods; `Allow` lists them",
        Code::Conflict => "a prompt with the same `id` is in flight here",
        Code::PayloadTooLarge => "the body is larger than `MAX_BODY_SIZE_MB`",
        Code::UnsupportedMediaType => "the body is not `application/json`",
        Code::ExecutionError => {
            "a node raised while running: `details` holds `node_id`, `node_type`, \
             `exception_type`, `exception_message`, `traceback`"
        }
        Code::ExecutionInterrupted => "the prompt was interrupted or cancelled",
        Code::UploadFailed => "an output could not be uploaded after all retries",
        Code::ComfyuiUnavailable => {
            "ComfyUI is not up yet, restarts, or died under the prompt; try again after \
             `Retry-After` seconds"
        }
        Code::ShuttingDown => "the server is draining; try again after `Retry-After` seconds",
        Code::NotSupported => "this server is a gateway: what was asked for belongs to an instance",
        Code::Internal => "the server failed; this is a defect, please report it",
    }
}

fn sentence(code: Code) -> &'static str {
    match code {
        Code::InvalidRequest => "\"signed_url\" must be true or false",
        Code::InvalidPrompt => {
            "Prompt must contain a node with a \"filename_prefix\" input, such as \"SaveImage\""
        }
        Code::DownloadFailed => {
            "https://example.com/cat.png cannot be downloaded: it answered 404 Not Found"
        }
        Code::Unauthorized => {
            "an API key is needed: send it as \"Authorization: Bearer <key>\" or \"X-API-Key: \
             <key>\""
        }
        Code::ForbiddenOrigin => {
            "a page of another site sent this request: name its origin in CORS_ALLOWED_ORIGINS if \
             it may"
        }
        Code::NotFound => "there is nothing at /nowhere: see /docs for what there is",
        Code::MethodNotAllowed => "PUT is not a method of /prompt: see /docs",
        Code::Conflict => "a prompt with the id \"order-1234\" is in flight here",
        Code::PayloadTooLarge => {
            "the body is larger than 100 MiB: send large inputs as URLs, or raise MAX_BODY_SIZE_MB"
        }
        Code::UnsupportedMediaType => "the Content-Type is missing: send application/json",
        Code::ExecutionError => "node 3 (KSampler) failed: RuntimeError: CUDA out of memory",
        Code::ExecutionInterrupted => "prompt order-1234 was cancelled",
        Code::UploadFailed => {
            "cannot upload to s3://results/order-1234_ComfyUI_00001_.png: 403 Forbidden"
        }
        Code::ComfyuiUnavailable => "ComfyUI is not available (starting): try again in a moment",
        Code::ShuttingDown => {
            "the server is shutting down: send the prompt to another instance, or again later"
        }
        Code::NotSupported => "belongs to an instance: see GET /instances",
        Code::Internal => {
            "the server failed to answer this request; this is a defect, please report it"
        }
    }
}

/// Adds the error answers of an operation. Its `x-errors` are codes, or `code@status` where an
/// endpoint's status differs; answers that the operation describes itself are left alone.
pub fn add(operation: &mut Map<String, Value>, key_needed: bool) {
    let listed = operation.shift_remove("x-errors").unwrap_or_default();
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for word in listed
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
    {
        let (word, status) = word.split_once('@').unwrap_or((word, ""));
        let Some(code) = Code::ALL.into_iter().find(|code| code.as_str() == word) else {
            continue;
        };
        by_status
            .entry(status.parse().unwrap_or(code.status().as_u16()))
            .or_default()
            .push(code);
    }
    for code in EVERYWHERE
        .into_iter()
        .chain(key_needed.then_some(Code::Unauthorized))
    {
        by_status
            .entry(code.status().as_u16())
            .or_default()
            .push(code);
    }
    let Some(responses) = operation
        .entry("responses")
        .or_insert_with(|| json!({}))
        .as_object_mut()
    else {
        return;
    };
    for (status, codes) in by_status {
        responses
            .entry(status.to_string())
            .or_insert_with(|| response(status, &codes));
    }
}

/// Codes of the Comfy API v2 that operations list, with status and meaning.
const V2: [(&str, u16, &str); 16] = [
    (
        "invalid_request",
        400,
        "the request is wrong, or a filter or cursor of a list",
    ),
    ("unauthorized", 401, "the API key is missing or wrong"),
    (
        "forbidden_origin",
        403,
        "a browser's request from another site's page",
    ),
    ("not_found", 404, "there is no such thing, or not any more"),
    ("blob_not_found", 404, "no bytes with this hash are here"),
    (
        "hash_mismatch",
        409,
        "the bytes have another hash, or a model of that name is there",
    ),
    ("asset_in_use", 409, "an output of a job that has not ended"),
    ("payload_too_large", 413, "the body is over its limit"),
    ("unsupported_media_type", 415, "the body is of another type"),
    (
        "invalid_workflow",
        422,
        "the workflow cannot run (`invalid_workflow`, `workflow_format_ui`, `missing_asset`, \
         `download_failed`), the labels are wrong (`metadata_invalid`), or the key was used \
         (`idempotency_key_reuse`)",
    ),
    (
        "invalid_form",
        422,
        "a field is missing or wrong (`invalid_request`), or the key was used \
         (`idempotency_key_reuse`)",
    ),
    (
        "queue_full",
        429,
        "`queue_full` or `deployment_not_ready`: try again after `Retry-After` seconds",
    ),
    ("too_many_streams", 429, "V2_MAX_STREAMS are open"),
    ("upstream_error", 500, "the server failed; its log says why"),
    ("storage_full", 507, "the store has no room"),
    ("method_not_allowed", 405, "the path has other methods"),
];

/// The error answers of an operation of the Comfy API v2, made from the codes in its `x-v2-errors`.
pub fn add_v2(operation: &mut Map<String, Value>, key_needed: bool) {
    let listed = operation.shift_remove("x-v2-errors");
    let mut words: Vec<&str> = listed
        .as_ref()
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    words.extend(["forbidden_origin", "upstream_error"]);
    if key_needed {
        words.push("unauthorized");
    }
    let mut by_status: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for word in words {
        if let Some((word, status, meaning)) = V2.iter().find(|(known, ..)| *known == word) {
            by_status
                .entry(*status)
                .or_default()
                .push(format!("`{word}`: {meaning}."));
        }
    }
    let Some(responses) = operation
        .get_mut("responses")
        .and_then(Value::as_object_mut)
    else {
        return;
    };
    for (status, lines) in by_status {
        let mut response = json!({
            "description": lines.join("\n\n"),
            "content": {
                "application/json": {"schema": {"$ref": "#/components/schemas/ErrorEnvelope"}}
            },
        });
        if status == 429 {
            response["headers"] = json!({
                "Retry-After": {
                    "required": true,
                    "description": "Seconds",
                    "schema": {"type": "integer", "minimum": 1}
                }
            });
        }
        responses.entry(status.to_string()).or_insert(response);
    }
}

/// The answer with one of the codes.
pub fn response(status: u16, codes: &[Code]) -> Value {
    let lines: Vec<String> = codes
        .iter()
        .map(|code| format!("`{}`: {}.", code.as_str(), meaning(*code)))
        .collect();
    let examples: Map<String, Value> = codes
        .iter()
        .map(|code| {
            (
                code.as_str().to_owned(),
                json!({"value": {"error": sentence(*code), "code": code.as_str()}}),
            )
        })
        .collect();
    let mut response = json!({
        "description": lines.join("\n\n"),
        "content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/Error"},
            "examples": examples,
        }},
    });
    match status {
        401 => {
            response["headers"] = json!({
                "WWW-Authenticate": {
                    "required": true,
                    "schema": {"type": "string", "enum": ["Bearer"]}
                }
            })
        }
        405 => {
            response["headers"] = json!({
                "Allow": {"required": true, "schema": {"type": "string"}, "example": "GET,HEAD"}
            })
        }
        503 => {
            response["headers"] = json!({
                "Retry-After": {
                    "required": true,
                    "description": "Seconds",
                    "schema": {"type": "integer", "minimum": 1}
                }
            })
        }
        _ => {}
    }
    response
}

/// The schema of every error body.
pub fn schema() -> Value {
    let words: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
    json!({
        "type": "object",
        "description": "Every answer that is not 2xx.",
        "required": ["error", "code"],
        "properties": {
            "error": {
                "type": "string",
                "description": "One sentence: what happened, where, what to do."
            },
            "code": {"type": "string", "enum": words, "description": "A stable word for programs."},
            "location": {
                "type": "string",
                "description": "A path into the request.",
                "examples": ["prompt.12.inputs.ckpt_name"]
            },
            "details": {
                "description": "More, for programs; ComfyUI's own `error` for a graph it refused, \
                                the exception for a node that raised."
            },
            "node_errors": {
                "type": "object",
                "description": "ComfyUI's own, by node id.",
                "additionalProperties": true
            },
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_grouped_by_status_and_own_answers_stay() {
        let mut operation = json!({
            "x-errors": ["invalid_request", "invalid_prompt", "download_failed@500", "not_found"],
            "responses": {"404": {"description": "own"}},
        });
        let operation = operation.as_object_mut().unwrap();
        add(operation, true);
        let responses = &operation["responses"];
        assert_eq!(
            responses.as_object().unwrap().keys().collect::<Vec<_>>(),
            ["404", "400", "401", "403", "500"]
        );
        assert_eq!(responses["404"]["description"], "own");
        let codes = |status: &str| {
            responses[status]
                .pointer("/content/application~1json/examples")
                .and_then(Value::as_object)
                .map(|examples| examples.keys().cloned().collect::<Vec<_>>())
                .unwrap()
        };
        assert_eq!(codes("400"), ["invalid_request", "invalid_prompt"]);
        assert_eq!(codes("500"), ["download_failed", "internal"]);
        assert!(!operation.contains_key("x-errors"));
    }
}
