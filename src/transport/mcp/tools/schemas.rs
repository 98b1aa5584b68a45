//! JSON Schemas of what the tools take and return.

use serde_json::{Value, json};

use super::builtin::Builtin;

/// Said of every tool that runs something.
pub const WHAT_A_RUN_RETURNS: &str = "Returns the job's id and status, and for every file that \
                                      was made a preview (of pictures and videos), its uri to \
                                      read it with and a url that needs no key. A status of \
                                      pending or running means that the job goes on: call get_job \
                                      with its id.";

fn object(required: &[&str], properties: Value) -> Value {
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// Of one type or another. Some clients know no lists of types.
fn either(one: &str, other: &str) -> Value {
    json!({"anyOf": [{"type": one}, {"type": other}]})
}

fn wait(about: &str) -> Value {
    json!({"type": "number", "minimum": 0, "maximum": 3600, "description": about})
}

fn limit(default: u64, most: u64) -> Value {
    json!({"type": "integer", "minimum": 1, "maximum": most, "default": default})
}

/// What a built-in tool takes.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn input(tool: Builtin) -> Value {
    let id = json!({"type": "string", "description": "The id of the job."});
    match tool {
        Builtin::RunGraph => object(
            &["graph"],
            json!({
                "graph": {
                    "anyOf": [{"type": "object"}, {"type": "string"}],
                    "description": "The graph: API format ({\"<node id>\": {\"class_type\": ..., \
                                    \"inputs\": {...}}}), a workflow as the editor saves it, or \
                                    either as JSON text. An input that takes media takes a URL, a \
                                    data: URI, the `input` of create_upload, or the `uri` of an \
                                    output.",
                },
                "set": {
                    "type": "object",
                    "description": "Inputs to set before it runs: {\"<node id>.inputs.<name>\": \
                                    value}.",
                },
                "convert_output": {
                    "type": "object",
                    "description": "Another format for the files, such as {\"format\": \"webp\", \
                                    \"options\": {\"quality\": 80}}.",
                    "properties": {"format": {"type": "string"}, "options": {"type": "object"}},
                    "required": ["format"],
                },
                "wait_s": wait(
                    "How long to wait for the end before the answer says that the job goes on, \
                     seconds."
                ),
            }),
        ),
        Builtin::GetJob => {
            let mut wait = wait("How long to wait for its end, seconds.");
            wait["default"] = 0.into();
            object(&["id"], json!({"id": id, "wait_s": wait}))
        }
        Builtin::CancelJob => object(&["id"], json!({"id": id})),
        Builtin::ListJobs => object(
            &[],
            json!({
                "status": {"type": "string", "enum": STATUSES, "description": "Only these."},
                "limit": limit(20, 200),
            }),
        ),
        Builtin::ListModels => object(
            &[],
            json!({
                "folder": {
                    "type": "string",
                    "description": "Only this folder, such as checkpoints or loras."
                },
                "search": {
                    "type": "string",
                    "description": "Only names that hold this text, whatever the case."
                },
                "limit": limit(200, 5000),
            }),
        ),
        Builtin::DownloadModel => {
            let mut wait = wait("How long to wait for its end, seconds.");
            wait["default"] = 0.into();
            object(
                &["url", "folder"],
                json!({
                    "url": {
                        "type": "string",
                        "description": "Where the file is: http://, https:// or s3://."
                    },
                    "folder": {
                        "type": "string",
                        "description": "The model folder, such as checkpoints or loras."
                    },
                    "filename": {
                        "type": "string",
                        "description": "What the file shall be called; else as in the URL."
                    },
                    "wait_s": wait,
                }),
            )
        }
        Builtin::SearchNodes => object(
            &["query"],
            json!({
                "query": {
                    "type": "string",
                    "description": "Words; a class must match all of them."
                },
                "limit": limit(20, 200),
            }),
        ),
        Builtin::DescribeNode => object(
            &["class_type"],
            json!({
                "class_type": {"type": "string", "description": "The class, such as KSampler."}
            }),
        ),
        Builtin::CreateUpload => object(
            &["filename"],
            json!({
                "filename": {
                    "type": "string",
                    "description": "What the file is called, with its extension."
                },
                "content_type": {
                    "type": "string",
                    "description": "Its media type, such as image/png."
                },
            }),
        ),
    }
}

/// The words for where a job is.
pub const STATUSES: [&str; 5] = ["pending", "running", "succeeded", "failed", "interrupted"];

/// What a built-in tool returns.
#[expect(clippy::too_many_lines, reason = "a table")]
pub fn output(tool: Builtin) -> Value {
    let text = json!({"type": "string"});
    let texts = json!({"type": "array", "items": {"type": "string"}});
    match tool {
        Builtin::RunGraph | Builtin::GetJob => run(),
        Builtin::CancelJob => json!({
            "type": "object",
            "properties": {"id": text, "interrupted": text},
            "required": ["id", "interrupted"],
        }),
        Builtin::ListJobs => json!({
            "type": "object",
            "properties": {"jobs": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "id": text,
                    "tool": either("string", "null"),
                    "status": {"type": "string", "enum": STATUSES},
                    "position": either("integer", "null"),
                    "progress": either("object", "null"),
                    "created_at": text,
                    "started_at": either("string", "null"),
                    "completed_at": either("string", "null"),
                    "expires_at": text,
                },
                "required": ["id", "tool", "status"],
            }}},
            "required": ["jobs"],
        }),
        Builtin::ListModels => json!({
            "type": "object",
            "properties": {
                "folders": {"type": "object", "additionalProperties": texts},
                "truncated": {"type": "boolean"},
            },
            "required": ["folders", "truncated"],
        }),
        Builtin::DownloadModel => json!({
            "type": "object",
            "properties": {
                "id": text,
                "url": text,
                "folder": text,
                "filename": text,
                "status": {
                    "type": "string",
                    "enum": ["running", "completed", "failed", "cancelled"]
                },
                "received": {"type": "integer"},
                "total": either("integer", "null"),
                "bytes_per_second": either("number", "null"),
                "error": either("string", "null"),
            },
            "required": ["id", "status"],
        }),
        Builtin::SearchNodes => json!({
            "type": "object",
            "properties": {"nodes": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "class_type": text,
                    "title": text,
                    "category": text,
                    "description": text
                },
                "required": ["class_type", "title", "category"],
            }}},
            "required": ["nodes"],
        }),
        Builtin::DescribeNode => json!({
            "type": "object",
            "properties": {
                "class_type": text,
                "title": text,
                "category": text,
                "description": text,
                "output_node": {"type": "boolean"},
                "inputs": {"type": "array", "items": {
                    "type": "object",
                    "properties": {
                        "name": text,
                        "type": text,
                        "required": {"type": "boolean"},
                        "choices": {"type": "array"},
                        "choices_left_out": {"type": "integer"},
                    },
                    "required": ["name", "type", "required"],
                }},
                "outputs": {"type": "array", "items": {
                    "type": "object",
                    "properties": {"name": text, "type": text},
                    "required": ["name", "type"],
                }},
            },
            "required": ["class_type", "inputs", "outputs"],
        }),
        Builtin::CreateUpload => json!({
            "type": "object",
            "properties": {
                "upload_url": text,
                "method": text,
                "input": text,
                "expires_at": text,
                "max_bytes": {"type": "integer"},
                "example": text,
            },
            "required": ["upload_url", "method", "input", "expires_at", "max_bytes", "example"],
        }),
    }
}

/// What a run returns.
pub fn run() -> Value {
    let text = json!({"type": "string"});
    json!({
        "type": "object",
        "properties": {
            "id": text,
            "status": {"type": "string", "enum": STATUSES},
            "position": {"type": "integer", "description": "Its place in the queue, 1 = next."},
            "progress": {
                "type": "object",
                "description": "`value` 0 to 1, the node that works, its steps."
            },
            "outputs": {"type": "array", "items": {
                "type": "object",
                "properties": {
                    "index": {"type": "integer"},
                    "node_id": text,
                    "filename": text,
                    "content_type": text,
                    "size": {"type": "integer"},
                    "width": {"type": "integer"},
                    "height": {"type": "integer"},
                    "duration": {"type": "number"},
                    "uri": {"type": "string", "description": "To read it with resources/read."},
                    "url": {"type": "string", "description": "Needs no key until `expires_at`."},
                    "expires_at": text,
                },
                "required": [
                    "index",
                    "node_id",
                    "filename",
                    "content_type",
                    "size",
                    "uri",
                    "url",
                    "expires_at"
                ],
            }},
            "texts": {"type": "object", "description": "Texts of nodes, by node."},
            "warnings": {"type": "array", "items": text},
            "error": {
                "type": "object",
                "properties": {"error": text, "code": text, "location": text},
                "required": ["error", "code"],
            },
            "seconds": {"type": "number"},
        },
        "required": ["id", "status", "outputs"],
    })
}
