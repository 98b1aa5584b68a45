use crate::webhook::Kind;
use serde_json::json;

use super::*;
use crate::error::Code;

fn parse(body: Value) -> Result<PromptRequest, Failure> {
    let Value::Object(body) = body else {
        panic!("not an object")
    };
    PromptRequest::parse(body)
}

fn with(extra: Value) -> Result<PromptRequest, Failure> {
    let mut body = json!({"prompt": {"1": {"class_type": "SaveImage", "inputs": {}}}});
    body.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    parse(body)
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn every_bad_field_is_named() {
    let cases = [
        (json!({}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": {"7": null}}), "prompt.7"),
        (
            json!({"prompt": {"7": {"inputs": {}}}}),
            "prompt.7.class_type",
        ),
        (
            json!({"prompt": {"7": {"class_type": "X", "inputs": []}}}),
            "prompt.7.inputs",
        ),
    ];
    for (body, location) in cases {
        assert_eq!(parse(body).unwrap_err().location.as_deref(), Some(location));
    }
    let cases = [
        (json!({"id": "a\nb"}), "id"),
        (json!({"id": ""}), "id"),
        (json!({"id": "x".repeat(257)}), "id"),
        (json!({"id": 5}), "id"),
        (json!({"webhook_v2": "nonsense"}), "webhook_v2"),
        (json!({"webhook": 7}), "webhook"),
        (json!({"webhook": "http://h/a\nb"}), "webhook"),
        (
            json!({"webhook_v2": format!("http://h/{}", "x".repeat(8192))}),
            "webhook_v2",
        ),
        (json!({"front": "yes"}), "front"),
        (json!({"number": "1"}), "number"),
        (json!({"number": true}), "number"),
        (
            json!({"partial_execution_targets": "1"}),
            "partial_execution_targets",
        ),
        (
            json!({"partial_execution_targets": [1]}),
            "partial_execution_targets",
        ),
        (
            json!({"partial_execution_targets": ["1", "2"]}),
            "partial_execution_targets",
        ),
        (json!({"s3": {"bucket": "a b"}}), "s3.bucket"),
        (
            json!({"s3": {"bucket": "b", "prefix": "a\u{0}"}}),
            "s3.prefix",
        ),
        (json!({"hf_upload": {"repo": "a/ä"}}), "hf_upload.repo"),
        (
            json!({"hf_upload": {"repo": "a/b", "revision": "a\nb"}}),
            "hf_upload.revision",
        ),
        (
            json!({"azure_blob_upload": {"container": "c\r"}}),
            "azure_blob_upload.container",
        ),
        (
            json!({"http_upload": {"url_prefix": "http://h/\tx"}}),
            "http_upload.url_prefix",
        ),
        (
            json!({"http_upload": {"url_prefix": "x".repeat(9000)}}),
            "http_upload.url_prefix",
        ),
        (json!({"compress_outputs": "rar"}), "compress_outputs"),
        (json!({"signed_url": "yes"}), "signed_url"),
        (json!({"signed_url": true}), "signed_url"),
        (
            json!({"signed_url": true, "http_upload": {"url_prefix": "http://x"}}),
            "signed_url",
        ),
        (json!({"s3": {"prefix": "x"}}), "s3.bucket"),
        (json!({"s3": {"bucket": 5}}), "s3.bucket"),
        (json!({"s3": {"bucket": "b", "async": "yes"}}), "s3.async"),
        (
            json!({"s3": {"bucket": "b"}, "hf_upload": {"repo": "r"}}),
            "hf_upload",
        ),
        (
            json!({"hf_upload": {"repo": "r", "repo_type": "space"}}),
            "hf_upload.repo_type",
        ),
        (json!({"extra_data": [1]}), "extra_data"),
        (
            json!({"convert_output": {"options": {}}}),
            "convert_output.format",
        ),
    ];
    for (body, location) in cases {
        let failure = with(body.clone()).unwrap_err();
        assert_eq!(
            failure.location.as_deref(),
            Some(location),
            "{body}: {failure}"
        );
        assert_eq!(failure.code, Code::InvalidRequest);
    }
}

#[test]
fn credentials_are_not_quoted_in_errors() {
    for auth in [
        json!("marked"),
        json!({"type": "bearer", "token": ["marked"]}),
        json!({"type": "basic", "username": "u", "password": {"marked": 1}}),
        json!({"type": "bearer"}),
    ] {
        let failure =
            with(json!({"credentials": [{"url_pattern": "*", "auth": auth}]})).unwrap_err();
        assert!(!failure.message.contains("marked"), "{failure}");
        assert!(failure.location.unwrap().starts_with("credentials"));
    }
}

#[test]
fn what_is_echoed_and_what_is_not() {
    let request = with(json!({
        "id": "a.b-c_D",
        "webhook": "http://a/",
        "webhook_v2": "http://b/",
        "extra_data": {"k": 1},
        "credentials": [],
        "unknown": 1,
        "signed_url": null
    }))
    .unwrap();
    assert_eq!(
        request.echo.keys().collect::<Vec<_>>(),
        ["webhook", "webhook_v2"]
    );
    let receivers = |request: &PromptRequest| -> Vec<(Kind, String)> {
        let webhooks = request.webhooks.iter();
        webhooks
            .map(|hook| (hook.kind, hook.url.to_string()))
            .collect()
    };
    // D05
    assert_eq!(
        receivers(&request),
        [
            (Kind::V2, "http://b/".to_owned()),
            (Kind::Legacy, "http://a/".to_owned())
        ]
    );
    assert!(request.is_async() && &*request.id == "a.b-c_D");
    // F14
    let request = with(json!({"webhook": "", "webhook_v2": " "})).unwrap();
    assert!(!request.is_async() && request.webhooks.is_empty());
    let request = with(json!({
        "webhook_v2": "http://u:marked@b/x?token=marked&id=7",
        "http_upload": {"url_prefix": "http://u:marked@c/p"}
    }))
    .unwrap();
    assert_eq!(
        Value::Object(request.echo),
        json!({"webhook_v2": "http://b/x?id=7", "http_upload": {"url_prefix": "http://c/p"}})
    );
    assert!(request.webhooks[0].url.as_str().contains("marked"));
}

/// A20, A22, A02
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn credentials_that_cannot_be_used_are_named() {
    let bearer = json!({"type": "bearer", "token": "t"});
    let auth = |auth: Value| {
        json!([
            {"url_pattern": "*", "auth": bearer},
            {"url_pattern": "*", "auth": auth}
        ])
    };
    for (credentials, location) in [
        (
            json!(vec![json!({"url_pattern": "*", "auth": bearer}); 101]),
            "credentials",
        ),
        (
            json!([{"url_pattern": "*".repeat(1025), "auth": bearer}]),
            "credentials.0.url_pattern",
        ),
        (
            json!([{"url_pattern": "a\n", "auth": bearer}]),
            "credentials.0.url_pattern",
        ),
        (
            auth(json!({"type": "bearer", "token": "a\nb"})),
            "credentials.1.auth.token",
        ),
        (
            auth(json!({"type": "bearer", "token": "ä"})),
            "credentials.1.auth.token",
        ),
        (
            auth(json!({"type": "basic", "username": "a\u{7f}", "password": "b"})),
            "credentials.1.auth.username",
        ),
        (
            auth(json!({"type": "basic", "username": "a", "password": "b\u{0}"})),
            "credentials.1.auth.password",
        ),
        (
            auth(json!({"type": "header", "header_name": "X Y", "header_value": "b"})),
            "credentials.1.auth.header_name",
        ),
        (
            auth(json!({"type": "header", "header_name": "Host", "header_value": "b"})),
            "credentials.1.auth.header_name",
        ),
        (
            auth(json!({"type": "header", "header_name": "x-forwarded-host", "header_value": "b"})),
            "credentials.1.auth.header_name",
        ),
        (
            auth(json!({"type": "header", "header_name": "X-Key", "header_value": "b\r\nHost: x"})),
            "credentials.1.auth.header_value",
        ),
        (
            auth(json!({"type": "query", "query_param": "a\n", "query_value": "b"})),
            "credentials.1.auth.query_param",
        ),
        (
            auth(json!({"type": "query", "query_param": "a", "query_value": "\u{1}"})),
            "credentials.1.auth.query_value",
        ),
        (
            auth(json!({"type": "s3", "access_key_id": "AK\nB", "secret_access_key": "s"})),
            "credentials.1.auth.access_key_id",
        ),
        (
            auth(json!({"type": "s3", "access_key_id": "A", "secret_access_key": "s\u{0}"})),
            "credentials.1.auth.secret_access_key",
        ),
        (
            auth(json!({
                "type": "s3",
                "access_key_id": "A",
                "secret_access_key": "s",
                "session_token": "ü"
            })),
            "credentials.1.auth.session_token",
        ),
        (
            auth(json!({
                "type": "s3",
                "access_key_id": "A",
                "secret_access_key": "s",
                "region": "eu\n"
            })),
            "credentials.1.auth.region",
        ),
        (
            auth(json!({
                "type": "s3",
                "access_key_id": "A",
                "secret_access_key": "s",
                "endpoint": "http://h\n/"
            })),
            "credentials.1.auth.endpoint",
        ),
    ] {
        let failure = with(json!({"credentials": credentials})).unwrap_err();
        assert_eq!(failure.location.as_deref(), Some(location), "{failure}");
        assert_eq!(failure.code, Code::InvalidRequest);
    }
    let most = vec![json!({"url_pattern": "*".repeat(1024), "auth": bearer}); 100];
    assert!(with(json!({"credentials": most})).is_ok());
    assert!(
        with(
            auth(json!({"type": "basic", "username": "ä", "password": "ö"}))
                .as_array()
                .map(|list| json!({"credentials": list}))
                .unwrap()
        )
        .is_ok()
    );
}
