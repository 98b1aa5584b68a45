//! Keys and what they open, and pages of strangers.

use reqwest::header::HeaderValue;
use reqwest::{Method, Response};
use serde_json::Value;

use super::{refusal, send, status};
use crate::support::product::{Product, Stage};

#[tokio::test(flavor = "multi_thread")]
async fn keys_open_everything_but_the_probes_which_are_open() {
    let keys = [
        ("API_KEYS", "first-key, second-key,"),
        (
            "CORS_ALLOWED_ORIGINS",
            "https://app.example,https://other.example",
        ),
    ];
    let product = Product::start(&keys).await;
    for path in [
        "/queue",
        "/models",
        "/docs",
        "/docs/json",
        "/openapi.json",
        "/prompt/x",
        "/prompt/x/events",
        "/nowhere",
        "/docs/swagger-ui.css",
    ] {
        for headers in [
            &[][..],
            &[("authorization", "Bearer wrong")],
            &[("authorization", "Bearer ")],
            &[("authorization", "Basic first-key")],
            &[("authorization", "first-key")],
            &[("authorization", "Bearer first-key-and-more")],
            &[("authorization", "Bearer first")],
            &[("x-api-key", "wrong")],
            &[("x-api-key", "")],
            &[("x-api-key", "first-key, second-key")],
        ] {
            let response = send(&product, Method::GET, path, headers, "").await;
            assert_eq!(
                response
                    .headers()
                    .get("www-authenticate")
                    .map(HeaderValue::as_bytes),
                Some(&b"Bearer"[..]),
                "{path} {headers:?}"
            );
            let (status, code, answer) = refusal(response).await;
            assert_eq!(
                (status, code.as_str()),
                (401, "unauthorized"),
                "{path} {headers:?}: {answer}"
            );
            assert!(!answer.to_string().contains("first-key"), "{answer}");
        }
        if opened_by_a_key(path) {
            for right in [
                ("authorization", "Bearer first-key"),
                ("authorization", "bearer second-key"),
                ("x-api-key", "first-key"),
                ("X-API-Key", "second-key"),
            ] {
                assert_eq!(
                    status(&product, path, &[right]).await,
                    200,
                    "{path} {right:?}"
                );
            }
            // A proxy's own Authorization does not get in the way.
            assert_eq!(
                status(
                    &product,
                    path,
                    &[
                        ("authorization", "Basic cHJveHk="),
                        ("x-api-key", "first-key")
                    ]
                )
                .await,
                200,
                "{path}"
            );
        }
    }
    // No body is read, and nothing is learned, without a key.
    for (method, path) in [
        (Method::POST, "/prompt"),
        (Method::POST, "/interrupt"),
        (Method::DELETE, "/prompt/x"),
        (Method::PUT, "/prompt"),
    ] {
        assert_eq!(
            send(&product, method, path, &[], "").await.status(),
            401,
            "{path}"
        );
    }
    for path in ["/health", "/ready", "/metrics"] {
        assert_eq!(status(&product, path, &[]).await, 200, "{path}");
    }
    let document: Value = send(
        &product,
        Method::GET,
        "/openapi.json",
        &[("x-api-key", "first-key")],
        "",
    )
    .await
    .json()
    .await
    .unwrap();
    assert!(
        document["components"]["securitySchemes"]
            .as_object()
            .is_some_and(|schemes| schemes.len() == 2),
        "no Authorize button"
    );
    browsers(&product).await;
    assert!(
        !product.log.text().contains("first-key") && !product.log.text().contains("second-key"),
        "a key is in the log"
    );
}

/// What answers 200 once the key is right.
fn opened_by_a_key(path: &str) -> bool {
    !path.contains("/x") && path != "/nowhere"
}

/// CORS, on a server with keys: a preflight carries none.
async fn browsers(product: &Product) {
    let preflight = async |origin: &str| {
        let headers = [
            ("origin", origin),
            ("access-control-request-method", "POST"),
            ("access-control-request-headers", "content-type,x-api-key"),
        ];
        send(product, Method::OPTIONS, "/prompt", &headers, "").await
    };
    let field = |response: &Response, name: &str| {
        response.headers().get(name).map_or(String::new(), |value| {
            value.to_str().unwrap().to_ascii_lowercase()
        })
    };
    for origin in ["https://app.example", "https://other.example"] {
        let allowed = preflight(origin).await;
        assert!(allowed.status().is_success(), "{allowed:?}");
        assert_eq!(field(&allowed, "access-control-allow-origin"), origin);
        for method in ["get", "post", "delete"] {
            assert!(
                field(&allowed, "access-control-allow-methods").contains(method),
                "{allowed:?}"
            );
        }
        for header in ["content-type", "authorization", "x-api-key"] {
            assert!(
                field(&allowed, "access-control-allow-headers").contains(header),
                "{allowed:?}"
            );
        }
    }
    for origin in [
        "https://evil.example",
        "http://app.example",
        "https://app.example.evil.example",
        "null",
    ] {
        let denied = preflight(origin).await;
        assert_eq!(
            field(&denied, "access-control-allow-origin"),
            "",
            "{origin}"
        );
    }
    // The page must be able to read a refusal, too.
    let refused = send(
        product,
        Method::GET,
        "/queue",
        &[("origin", "https://app.example")],
        "",
    )
    .await;
    assert_eq!(
        (
            refused.status().as_u16(),
            field(&refused, "access-control-allow-origin").as_str()
        ),
        (401, "https://app.example")
    );
    let evil = send(
        product,
        Method::GET,
        "/health",
        &[("origin", "https://evil.example")],
        "",
    )
    .await;
    assert_eq!(field(&evil, "access-control-allow-origin"), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_have_a_switch_of_their_own_and_every_origin_may_be_allowed() {
    let product = Stage::new()
        .env("API_KEYS", "key")
        .env("METRICS_REQUIRE_KEY", true)
        .env("CORS_ALLOWED_ORIGINS", "*")
        .launch()
        .await;
    assert_eq!(status(&product, "/metrics", &[]).await, 401);
    assert_eq!(
        status(&product, "/metrics", &[("x-api-key", "key")]).await,
        200
    );
    let anyone = send(
        &product,
        Method::GET,
        "/metrics",
        &[("origin", "https://any.example")],
        "",
    )
    .await;
    assert_eq!(anyone.headers()["access-control-allow-origin"], "*");
}

/// A21
#[tokio::test]
async fn pages_of_strangers_are_refused() {
    let product = Product::start(&[("ALLOWED_HOSTS", "studio.lan")]).await;
    let ask = |method: reqwest::Method, path: &str, lines: &[(&str, &str)]| {
        let mut request = product
            .http
            .request(method, format!("{}{path}", product.url));
        for (name, value) in lines {
            request = request.header(*name, *value);
        }
        async move {
            let answer = request.send().await.unwrap();
            let status = answer.status().as_u16();
            (status, answer.text().await.unwrap())
        }
    };
    let rebound = [
        ("host", "rebound.evil:3000"),
        ("sec-fetch-site", "same-origin"),
    ];
    for path in ["/docs", "/queue", "/prompt/x", "/health", "/nowhere"] {
        let (status, body) = ask(reqwest::Method::GET, path, &rebound).await;
        assert_eq!(status, 403, "{path}: {body}");
        assert!(
            body.contains("ALLOWED_HOSTS") && body.contains("forbidden_origin"),
            "{body}"
        );
    }
    let allowed = [
        ("host", "studio.lan:3000"),
        ("origin", "http://studio.lan:3000"),
    ];
    assert_eq!(ask(reqwest::Method::GET, "/queue", &allowed).await.0, 200);
    let foreign = [("origin", "https://evil.example")];
    for (method, path) in [
        (reqwest::Method::POST, "/prompt"),
        (reqwest::Method::POST, "/download"),
        (reqwest::Method::DELETE, "/prompt/x"),
    ] {
        let (status, body) = ask(method, path, &foreign).await;
        assert_eq!(status, 403, "{path}: {body}");
    }
    assert_eq!(ask(reqwest::Method::GET, "/queue", &foreign).await.0, 200);
}
