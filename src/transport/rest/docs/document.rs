//! Puts the document together: the texts of `text/*.yaml`, schemas of real types, error answers,
//! access control, workflows.

use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use utoipa::PartialSchema;

use super::{errors, inputs, named};
use crate::error::Code;
use crate::job::registry::{JobSnapshot, Progress, Status};
use crate::storage::{Auth, Credential};
use crate::workflow::Endpoint;

/// The parts, in the order in which they are shown.
const TEXTS: &[(&str, &str)] = &[
    ("info", include_str!("text/info.yaml")),
    ("prompt", include_str!("text/prompt.yaml")),
    ("convert", include_str!("text/convert.yaml")),
    ("models", include_str!("text/models.yaml")),
    ("operations", include_str!("text/operations.yaml")),
    ("fleet", include_str!("text/fleet.yaml")),
    ("service", include_str!("text/service.yaml")),
    ("request", include_str!("text/request.yaml")),
    ("conversion", include_str!("text/conversion.yaml")),
    ("response", include_str!("text/response.yaml")),
    ("webhooks", include_str!("text/webhooks.yaml")),
    ("v2", include_str!("text/v2.yaml")),
    ("mcp", include_str!("text/mcp.yaml")),
    ("runs", include_str!("text/runs.yaml")),
];

/// What of the document depends on how the server is configured and what it has loaded.
#[derive(Debug, Clone, Copy, Default)]
pub struct ApiSurface<'a> {
    /// The workflow endpoints.
    pub workflows: &'a [Endpoint],
    /// `API_KEYS` is set.
    pub keys: bool,
    /// `METRICS_REQUIRE_KEY`
    pub metrics_key: bool,
}

static TEXT: LazyLock<Value> = LazyLock::new(|| {
    let mut whole = json!({});
    for (name, text) in TEXTS {
        match serde_saphyr::from_str::<Value>(text) {
            Ok(part) => merge(&mut whole, part),
            Err(error) => {
                tracing::error!(
                    name,
                    %error,
                    "a part of the documentation cannot be read; this is a defect, please report it"
                )
            }
        }
    }
    whole
});

fn merge(into: &mut Value, part: Value) {
    match (into, part) {
        (Value::Object(into), Value::Object(part)) => {
            for (key, value) in part {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, part) => *into = part,
    }
}

/// The OpenAPI 3.1 document.
pub fn document(surface: &ApiSurface<'_>) -> Value {
    let mut document = TEXT.clone();
    document["info"]["version"] = crate::VERSION.into();
    let schemas = &mut document["components"]["schemas"];
    schemas["Error"] = errors::schema();
    for (name, schema) in derived() {
        schemas[name] = schema;
    }
    document["components"]["responses"] = json!({
        "NotFound": errors::response(404, &[Code::NotFound]),
        "MethodNotAllowed": errors::response(405, &[Code::MethodNotAllowed]),
    });
    inputs::add(&mut document, surface.workflows);
    for (path, item) in document["paths"].as_object_mut().into_iter().flatten() {
        let key_needed = surface.keys
            && match path.as_str() {
                "/health" | "/ready" | "/api/v2/health" => false,
                "/metrics" => surface.metrics_key,
                "/uploads/{token}" => false,
                _ => true,
            };
        for operation in item
            .as_object_mut()
            .into_iter()
            .flat_map(Map::values_mut)
            .filter_map(Value::as_object_mut)
        {
            if path.starts_with("/api/v2/") {
                errors::add_v2(operation, key_needed);
            } else {
                errors::add(operation, key_needed);
            }
            if surface.keys && !key_needed {
                operation.insert("security".into(), json!([]));
            }
        }
    }
    named::make_explicit(&mut document);
    if surface.keys {
        document["security"] = json!([{"bearer": []}, {"apiKey": []}]);
        document["components"]["securitySchemes"] = json!({
            "bearer": {"type": "http", "scheme": "bearer", "description": "One of `API_KEYS`."},
            "apiKey": {
                "type": "apiKey",
                "in": "header",
                "name": "X-API-Key",
                "description": "One of `API_KEYS`."
            },
        });
    }
    document
}

/// Schemas of types that are read or written as they are.
fn derived() -> Vec<(&'static str, Value)> {
    let schema = |schema| serde_json::to_value(schema).unwrap_or_default();
    vec![
        ("Entry", schema(JobSnapshot::schema())),
        ("Status", schema(Status::schema())),
        ("EntryProgress", schema(Progress::schema())),
        ("Auth", schema(Auth::schema())),
        ("Credential", schema(Credential::schema())),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_read_and_every_reference_leads_somewhere() {
        for (name, text) in TEXTS {
            serde_saphyr::from_str::<Value>(text).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        let document = document(&ApiSurface {
            keys: true,
            ..ApiSurface::default()
        });
        let mut waiting = vec![&document];
        let mut references = 0;
        while let Some(value) = waiting.pop() {
            if let Some(reference) = value.get("$ref").and_then(Value::as_str) {
                references += 1;
                assert!(
                    document
                        .pointer(reference.trim_start_matches('#'))
                        .is_some(),
                    "{reference} leads nowhere"
                );
            }
            waiting.extend(value.as_object().into_iter().flat_map(Map::values));
            waiting.extend(value.as_array().into_iter().flatten());
        }
        assert!(references > 20);
        let text = document.to_string();
        for word in ["\"allOf\"", "\"const\""] {
            assert!(!text.contains(word), "{word}");
        }
        for name in document["components"]["schemas"]
            .as_object()
            .unwrap()
            .keys()
        {
            assert!(name.chars().all(|c| c.is_ascii_alphanumeric()), "{name}");
        }
    }

    #[test]
    fn keys_are_asked_for_only_when_there_are_any() {
        let open = document(&ApiSurface::default());
        assert!(
            open.get("security").is_none() && open["components"].get("securitySchemes").is_none()
        );
        assert!(open.pointer("/paths/~1queue/get/responses/401").is_none());
        let locked = document(&ApiSurface {
            keys: true,
            ..ApiSurface::default()
        });
        assert!(locked.pointer("/paths/~1queue/get/responses/401").is_some());
        assert_eq!(locked["paths"]["/health"]["get"]["security"], json!([]));
        assert_eq!(locked["paths"]["/metrics"]["get"]["security"], json!([]));
        assert!(locked["paths"]["/queue"]["get"].get("security").is_none());
    }
}
