//! `comfyui-api openapi`, `/docs` and the OpenAPI document: valid, complete, the same everywhere,
//! and served by us alone.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Map, Value};

use crate::support::peer_process::python;
use crate::support::product::{BINARY, Product, Stage};

/// Every route of the contract but the workflows', with its methods.
const ROUTES: &[(&str, &[&str])] = &[
    ("/health", &["get"]),
    ("/ready", &["get"]),
    ("/metrics", &["get"]),
    ("/prompt", &["post"]),
    ("/prompt/{id}", &["delete", "get"]),
    ("/prompt/{id}/events", &["get"]),
    ("/queue", &["get"]),
    ("/interrupt", &["post"]),
    ("/convert", &["post"]),
    ("/models", &["get", "post"]),
    ("/download", &["post"]),
    ("/models/{folder}", &["get"]),
    ("/downloads", &["get"]),
    ("/downloads/{id}", &["delete"]),
    ("/status", &["get"]),
    ("/config", &["get"]),
    ("/logs", &["get"]),
    ("/uploads/{token}", &["put"]),
    ("/workflows", &["get"]),
    ("/graph/inspect", &["post"]),
    ("/history", &["delete", "get"]),
    ("/history/{id}", &["delete", "get"]),
    ("/mcp", &["post"]),
    ("/instances", &["get"]),
    ("/fleet/{token}/claim", &["post"]),
    ("/fleet/{token}/in/{n}", &["get"]),
    ("/fleet/{token}/out/{name}", &["put"]),
    ("/events", &["get"]),
    ("/deliveries", &["get"]),
    ("/deliveries/{id}/resend", &["post"]),
    ("/restart", &["post"]),
    ("/free", &["post"]),
    ("/cache", &["get"]),
    ("/cache/{name}", &["delete"]),
    ("/docs", &["get"]),
    ("/docs/json", &["get"]),
    ("/docs/yaml", &["get"]),
    ("/openapi.json", &["get"]),
    ("/api/v2/jobs", &["get", "post"]),
    ("/api/v2/jobs/{id}", &["get"]),
    ("/api/v2/jobs/{id}/cancel", &["post"]),
    ("/api/v2/jobs/{id}/events", &["get"]),
    ("/api/v2/jobs/{id}/workflow", &["get"]),
    ("/api/v2/jobs/{id}/logs", &["get"]),
    ("/api/v2/assets", &["post"]),
    ("/api/v2/assets/from-hash", &["post"]),
    ("/api/v2/assets/from-path", &["post"]),
    ("/api/v2/assets/by-hash/{hash}", &["head"]),
    ("/api/v2/assets/{id}", &["delete", "get"]),
    ("/api/v2/assets/{id}/content", &["get"]),
    ("/api/v2/health", &["get"]),
];

fn example_workflows() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker/workflows")
}

fn printed(environment: &[(&str, &str)]) -> Value {
    let output = Command::new(BINARY)
        .arg("openapi")
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Paths with their methods.
fn operations(document: &Value) -> Vec<(String, Vec<String>)> {
    let methods = |item: &Value| {
        let names: BTreeSet<String> = item
            .as_object()
            .unwrap()
            .keys()
            .filter(|name| *name != "parameters")
            .cloned()
            .collect();
        names.into_iter().collect()
    };
    document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(path, item)| (path.clone(), methods(item)))
        .collect()
}

/// A text of `openapi-spec-validator` about a document.
fn validated(document: &Value) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("openapi.json");
    std::fs::write(&file, document.to_string()).unwrap();
    let python = python();
    Command::new(&python)
        .args([
            "-m",
            "openapi_spec_validator",
            "--errors",
            "all",
            "--schema",
            "3.1",
        ])
        .arg(&file)
        .output()
        .unwrap_or_else(|error| {
            panic!(
                "{} cannot be run ({error}): .ci/run installs it",
                python.display()
            )
        })
}

fn assert_valid(document: &Value) {
    let output = validated(document);
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn the_printed_document_is_valid_and_as_reviewed() {
    let mut document = printed(&[]);
    assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    assert_valid(&document);
    // The validator does object.
    let mut broken = document.clone();
    broken["paths"]["/queue"]["get"]["responses"]["200"]
        .as_object_mut()
        .unwrap()
        .remove("description");
    assert!(
        !validated(&broken).status.success(),
        "a response without a description went through"
    );

    document["info"]["version"] = "[version]".into();
    insta::with_settings!({
        sort_maps => true,
        snapshot_path => "snapshots",
        prepend_module_to_snapshot => false
    }, {
        insta::assert_json_snapshot!("openapi", document);
    });
}

#[test]
fn the_printed_document_knows_whether_keys_are_needed() {
    let locked = printed(&[("API_KEYS", "one,two")]);
    assert_valid(&locked);
    assert!(
        !locked.to_string().contains("\"one\""),
        "a key is in the document"
    );
    assert!(locked["components"]["securitySchemes"].is_object());
    assert!(printed(&[])["components"].get("securitySchemes").is_none());
}

#[test]
fn every_route_is_there_with_a_summary_and_what_may_go_wrong() {
    let document = printed(&[]);
    let mut expected: Vec<(String, Vec<String>)> = ROUTES
        .iter()
        .map(|(path, methods)| {
            (
                (*path).to_owned(),
                methods.iter().map(|method| (*method).to_owned()).collect(),
            )
        })
        .collect();
    let mut found = operations(&document);
    expected.sort();
    found.sort();
    assert_eq!(found, expected);
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item
            .as_object()
            .unwrap()
            .iter()
            .filter(|(name, _)| *name != "parameters")
        {
            let what = format!("{method} {path}");
            assert!(
                operation["summary"]
                    .as_str()
                    .is_some_and(|text| !text.is_empty()),
                "{what}: no summary"
            );
            assert!(
                names.insert(operation["operationId"].as_str().unwrap()),
                "{what}: its operationId is taken"
            );
            let responses = operation["responses"].as_object().unwrap();
            assert!(
                responses.keys().any(|status| status.starts_with('2')),
                "{what}: no success"
            );
            // An output of an instance has any size and any type.
            let any = operation["operationId"] == "putTaskOutput";
            if operation.get("requestBody").is_some() && !any {
                for status in ["400", "413", "415"] {
                    assert!(responses.contains_key(status), "{what}: no {status}");
                }
            }
        }
    }
}

async fn text(product: &Product, path: &str) -> (String, String) {
    let response = product
        .http
        .get(format!("{}{path}", product.url))
        .send()
        .await
        .unwrap();
    assert_eq!(response.status(), 200, "{path}");
    let kind = response.headers()["content-type"]
        .to_str()
        .unwrap()
        .to_owned();
    (kind, response.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_served_document_has_the_workflows_and_is_the_same_in_every_form() {
    let product = Stage::new()
        .env("WORKFLOW_DIR", example_workflows().display())
        .start()
        .await;
    let (_, document) = product.get("/openapi.json").await;
    // Generators of clients get it without webhooks (drop-in.md, D20).
    let mut plain = document.clone();
    assert!(plain.as_object_mut().unwrap().remove("webhooks").is_some());
    assert_eq!(product.get("/docs/json").await, (200, plain.clone()));
    let (kind, yaml) = text(&product, "/docs/yaml").await;
    assert_eq!(kind, "application/yaml");
    assert!(!yaml.trim_start().starts_with('{'), "this is JSON");
    assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), plain);
    assert_valid(&document);

    for name in ["txt2img", "img2img", "txt2video", "upscale"] {
        let operation = &document["paths"][format!("/workflow/{name}")]["post"];
        assert!(
            operation["summary"]
                .as_str()
                .is_some_and(|text| !text.is_empty()),
            "{name}: {operation}"
        );
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let named = schema["$ref"].as_str().unwrap().trim_start_matches('#');
        let body = &document.pointer(named).unwrap()["properties"]["input"];
        let reference = body
            .get("$ref")
            .or_else(|| body.pointer("/anyOf/0/$ref"))
            .and_then(Value::as_str)
            .unwrap();
        let input = document.pointer(reference.trim_start_matches('#')).unwrap();
        assert!(
            input["properties"]
                .as_object()
                .is_some_and(|members| !members.is_empty()),
            "{name}: {input}"
        );
    }

    // Nothing is documented that is not there.
    for (path, methods) in operations(&document) {
        // Only a gateway has tasks.
        if path.starts_with("/fleet/") {
            continue;
        }
        for method in methods {
            let url = format!("{}{}", product.url, path.replace("{id}", "unknown"));
            let response = product
                .http
                .request(method.to_uppercase().parse().unwrap(), url)
                .send()
                .await
                .unwrap();
            let status = response.status().as_u16();
            let kind = response.headers().get("content-type");
            // A stream has no end.
            let endless = kind.is_some_and(|kind| kind == "text/event-stream");
            let answer = match endless {
                true => String::new(),
                false => response.text().await.unwrap(),
            };
            assert!(
                status != 405 && (status != 404 || !answer.contains("there is nothing at")),
                "{method} {path}: {status} {answer}"
            );
        }
    }
}

/// What a page asks for: the values of `src` and `href`.
fn asked_for(html: &str) -> Vec<&str> {
    ["src=\"", "href=\""]
        .into_iter()
        .flat_map(|start| html.split(start).skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_and_all_it_needs_come_from_us() {
    let product = Stage::new().launch().await;
    let base = url::Url::parse(&format!("{}/docs", product.url)).unwrap();
    let (kind, page) = text(&product, "/docs").await;
    assert!(kind.starts_with("text/html"), "{kind}");
    let assets = asked_for(&page);
    assert!(assets.len() >= 5, "{assets:?}");
    let mut scripts = Map::new();
    for asset in assets {
        let url = base.join(asset).unwrap();
        assert_eq!(url.origin(), base.origin(), "{asset}");
        let (kind, content) = text(&product, url.path()).await;
        assert!(
            !content.is_empty() && !kind.contains("json"),
            "{asset}: {kind}"
        );
        scripts.insert(asset.rsplit('/').next().unwrap().to_owned(), content.into());
    }
    assert!(
        scripts["swagger-ui-bundle.js"]
            .as_str()
            .unwrap()
            .contains("SwaggerUIBundle")
    );
    let starter = scripts["swagger-initializer.js"].as_str().unwrap();
    assert!(starter.contains("docs/json"), "{starter}");
    for text in [page.as_str(), starter] {
        assert!(
            !text.contains("http://") && !text.contains("https://") && !text.contains("\"//"),
            "something comes from elsewhere: {text}"
        );
    }

    // The page is the same with a slash, and what is not there is an ordinary 404.
    assert_eq!(text(&product, "/docs/").await.1, page);
    let (status, answer) = product.get("/docs/nothing.js").await;
    assert_eq!(
        (status, &answer["code"]),
        (404, &"not_found".into()),
        "{answer}"
    );
    for name in ["/docs/..%2f..%2fCargo.toml", "/docs/%2e%2e%2fCargo.toml"] {
        assert_eq!(product.get(name).await.0, 404, "{name}");
    }
}
