//! The HTTP transport: what every endpoint has in common, before any prompt runs.

use std::io::Read as _;
use std::process::Command;
use std::time::{Duration, Instant};

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Method, Response, Version};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::support::graphs::picture;
use crate::support::product::{Product, Stage};

/// A client that says only what it is told to say, and shows what came over the wire.
fn plain() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .no_proxy()
        .gzip(false)
        .timeout(Duration::from_secs(20))
}

async fn send(
    product: &Product,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> Response {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        map.append(
            HeaderName::try_from(*name).unwrap(),
            HeaderValue::from_str(value).unwrap(),
        );
    }
    plain()
        .build()
        .unwrap()
        .request(method, format!("{}{path}", product.url))
        .headers(map)
        .body(body)
        .send()
        .await
        .unwrap()
}

/// Status, code and body of a refusal. Every one is JSON with a sentence.
async fn refusal(response: Response) -> (u16, String, Value) {
    let status = response.status().as_u16();
    assert_eq!(
        response.headers()["content-type"],
        "application/json",
        "{response:?}"
    );
    let body: Value = response.json().await.unwrap();
    assert!(
        body["error"]
            .as_str()
            .is_some_and(|sentence| sentence.len() > 10),
        "{body}"
    );
    (status, body["code"].as_str().unwrap().to_owned(), body)
}

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_request_is_said() {
    let product = Stage::new().env("MAX_BODY_SIZE_MB", 1).start().await;
    for path in ["/prompt", "/interrupt", "/models", "/download"] {
        bodies(&product, path).await;
    }
    types(&product).await;
    sizes(&product).await;
    depths(&product).await;
    paths_and_methods(&product).await;
    // Still well after all that.
    product.run("after", &picture("after")).await;
}

/// Bodies that are not a JSON object, and fields of other types.
async fn bodies(product: &Product, path: &str) {
    for body in [
        "",
        "{",
        "nonsense",
        "{\"id\": }",
        "[]",
        "null",
        "5",
        "\"text\"",
        "{} {}",
        "{'id': 1}",
    ] {
        let (status, code, answer) =
            refusal(send(product, Method::POST, path, &[JSON], body).await).await;
        assert_eq!(
            (status, code.as_str()),
            (400, "invalid_request"),
            "{path} {body:?}: {answer}"
        );
        assert!(answer["location"].is_string(), "{path} {body:?}: {answer}");
    }
    let (status, code, answer) = refusal(
        send(
            product,
            Method::POST,
            path,
            &[JSON],
            vec![b'{', b'"', 0xff, b'"', b'}'],
        )
        .await,
    )
    .await;
    assert_eq!(
        (status, code.as_str()),
        (400, "invalid_request"),
        "{path} not UTF-8: {answer}"
    );
    let (status, code, answer) =
        refusal(send(product, Method::POST, path, &[JSON], "{}").await).await;
    assert_eq!(
        (status, code.as_str()),
        (400, "invalid_request"),
        "{path} without a field: {answer}"
    );
    let (status, _, answer) = refusal(
        send(
            product,
            Method::POST,
            path,
            &[JSON],
            json!({"id": 5, "url": 5, "prompt": 5, "type": 5}).to_string(),
        )
        .await,
    )
    .await;
    assert_eq!(status, 400, "{path} wrong types: {answer}");
}

async fn types(product: &Product) {
    let body = json!({"id": "unknown"}).to_string();
    for wrong in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "application/jsonx",
        "text/json",
        "",
    ] {
        let (status, code, answer) = refusal(
            send(
                product,
                Method::POST,
                "/interrupt",
                &[("content-type", wrong)],
                body.clone(),
            )
            .await,
        )
        .await;
        assert_eq!(
            (status, code.as_str()),
            (415, "unsupported_media_type"),
            "{wrong}: {answer}"
        );
    }
    let (status, code, answer) =
        refusal(send(product, Method::POST, "/interrupt", &[], body.clone()).await).await;
    assert_eq!(
        (status, code.as_str()),
        (415, "unsupported_media_type"),
        "none: {answer}"
    );
    for right in [
        "application/json",
        "Application/JSON; charset=utf-8",
        "application/problem+json",
    ] {
        let (status, _, answer) = refusal(
            send(
                product,
                Method::POST,
                "/interrupt",
                &[("content-type", right)],
                body.clone(),
            )
            .await,
        )
        .await;
        assert_eq!(
            (status, &answer["interrupted"]),
            (404, &json!("failed")),
            "{right}: {answer}"
        );
    }
}

/// The limit is one MiB here.
async fn sizes(product: &Product) {
    let padded = |size: usize| {
        let text = r#"{"id": "unknown"}"#;
        text.to_owned() + &" ".repeat(size - text.len())
    };
    let (status, _, answer) = refusal(
        send(
            product,
            Method::POST,
            "/interrupt",
            &[JSON],
            padded(1 << 20),
        )
        .await,
    )
    .await;
    assert_eq!(status, 404, "exactly the limit: {answer}");
    for size in [(1 << 20) + 1, 9 << 20] {
        let (status, code, answer) =
            refusal(send(product, Method::POST, "/interrupt", &[JSON], padded(size)).await).await;
        assert_eq!(
            (status, code.as_str()),
            (413, "payload_too_large"),
            "{size} with Content-Length: {answer}"
        );
        assert!(
            answer["error"]
                .as_str()
                .unwrap()
                .contains("MAX_BODY_SIZE_MB"),
            "{answer}"
        );
        let pieces: Vec<std::io::Result<Vec<u8>>> = padded(size)
            .as_bytes()
            .chunks(50_000)
            .map(|piece| Ok(piece.to_vec()))
            .collect();
        let body = reqwest::Body::wrap_stream(futures_util::stream::iter(pieces));
        let (status, code, answer) =
            refusal(send(product, Method::POST, "/interrupt", &[JSON], body).await).await;
        assert_eq!(
            (status, code.as_str()),
            (413, "payload_too_large"),
            "{size} in chunks: {answer}"
        );
    }
    // Who asks before sending is told before sending.
    let expecting = [
        JSON,
        ("expect", "100-continue"),
        ("content-length", "8000000000"),
    ];
    let asked = send_head(product, "/interrupt", &expecting).await;
    assert!(asked.starts_with("HTTP/1.1 413 "), "{asked}");
}

/// Sends a head and no body; gives what comes back first.
async fn send_head(product: &Product, path: &str, headers: &[(&str, &str)]) -> String {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let address = product.url.trim_start_matches("http://");
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let fields: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    stream
        .write_all(format!("POST {path} HTTP/1.1\r\nhost: {address}\r\n{fields}\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut answer))
        .await
        .expect("no answer before the body")
        .unwrap();
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

/// Nesting must not cost the stack.
async fn depths(product: &Product) {
    for levels in [200, 100_000] {
        let (opened, closed) = ("[".repeat(levels), "]".repeat(levels));
        let nested = format!(
            r#"{{"prompt": {{"1": {{"class_type": "SaveImage", "inputs": {{"filename_prefix": "x", "images": {opened}{closed}}}}}}}}}"#
        );
        for body in [opened.clone(), format!("{opened}{closed}"), nested] {
            let (status, code, answer) =
                refusal(send(product, Method::POST, "/prompt", &[JSON], body).await).await;
            assert_eq!(
                (status, code.as_str()),
                (400, "invalid_request"),
                "{levels} levels: {answer}"
            );
        }
    }
}

async fn paths_and_methods(product: &Product) {
    for path in [
        "/nowhere",
        "/prompts",
        "/prompt/",
        "/prompt/a/b",
        "/workflow/nowhere",
        "/docs/x/y",
        "/%00",
        "//prompt",
        "/prompt/unknown",
    ] {
        let method = if path.starts_with("/workflow") {
            Method::POST
        } else {
            Method::GET
        };
        let (status, code, answer) =
            refusal(send(product, method, path, &[JSON], "{\"input\": {}}").await).await;
        assert_eq!(
            (status, code.as_str()),
            (404, "not_found"),
            "{path}: {answer}"
        );
    }
    let cases = [
        (Method::GET, "/prompt", "POST"),
        (Method::PUT, "/prompt", "POST"),
        (Method::POST, "/queue", "GET"),
        (Method::DELETE, "/models", "GET POST"),
        (Method::PATCH, "/prompt/x", "DELETE GET"),
        (Method::POST, "/health", "GET"),
        (Method::POST, "/openapi.json", "GET"),
        (Method::GET, "/workflow/x", "POST"),
        (Method::OPTIONS, "/prompt", "POST"),
    ];
    for (method, path, methods) in cases {
        let response = send(product, method.clone(), path, &[], "").await;
        let allowed = response
            .headers()
            .get("allow")
            .unwrap_or_else(|| panic!("{method} {path}: {response:?}"))
            .to_str()
            .unwrap()
            .to_owned();
        let mut named: Vec<&str> = allowed
            .split(',')
            .map(str::trim)
            .filter(|name| *name != "HEAD")
            .collect();
        named.sort_unstable();
        assert_eq!(named.join(" "), methods, "{method} {path}");
        let (status, code, answer) = refusal(response).await;
        assert_eq!(
            (status, code.as_str()),
            (405, "method_not_allowed"),
            "{method} {path}: {answer}"
        );
    }
}

async fn status(product: &Product, path: &str, headers: &[(&str, &str)]) -> u16 {
    send(product, Method::GET, path, headers, "")
        .await
        .status()
        .as_u16()
}

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

/// The content coding of an answer, and its text.
async fn encoded(response: Response) -> (String, Vec<u8>) {
    assert_eq!(response.status(), 200);
    let coding = response
        .headers()
        .get("content-encoding")
        .map_or(String::new(), |value| value.to_str().unwrap().to_owned());
    (coding, response.bytes().await.unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_are_compressed_when_asked_for_and_worth_it() {
    // A model folder with many names makes an answer that is worth compressing.
    let stage = (0..40).fold(Stage::new(), |stage, n| {
        stage.file(&format!("models/loras/style-number-{n}.safetensors"), "x")
    });
    let product = stage.start().await;
    for path in ["/models", "/openapi.json"] {
        let (coding, whole) = encoded(send(&product, Method::GET, path, &[], "").await).await;
        assert_eq!(coding, "", "{path}: nobody asked");
        let expected: Value = serde_json::from_slice(&whole).unwrap();
        let (coding, packed) = encoded(
            send(
                &product,
                Method::GET,
                path,
                &[("accept-encoding", "gzip")],
                "",
            )
            .await,
        )
        .await;
        assert!(
            coding == "gzip" && packed.len() < whole.len() / 2,
            "{path}: {coding} {} of {}",
            packed.len(),
            whole.len()
        );
        let mut text = String::new();
        flate2::read::GzDecoder::new(packed.as_slice())
            .read_to_string(&mut text)
            .unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            expected,
            "{path}"
        );
        let (coding, packed) = encoded(
            send(
                &product,
                Method::GET,
                path,
                &[("accept-encoding", "br")],
                "",
            )
            .await,
        )
        .await;
        assert!(
            coding == "br" && packed.len() < whole.len() / 2,
            "{path}: {coding} {} of {}",
            packed.len(),
            whole.len()
        );
        assert_eq!(
            through_curl(
                &product,
                path,
                &["--compressed", "-H", "Accept-Encoding: br"]
            )
            .0,
            expected,
            "{path}"
        );
        let (coding, _) = encoded(
            send(
                &product,
                Method::GET,
                path,
                &[("accept-encoding", "identity, zstd, gzip;q=0")],
                "",
            )
            .await,
        )
        .await;
        assert_eq!(coding, "", "{path}: not these");
    }
    // Media are compressed already, and a stream must not wait in a compressor.
    let body = json!({"prompt": picture("shown")}).to_string();
    let (coding, answer) = encoded(
        send(
            &product,
            Method::POST,
            "/prompt",
            &[JSON, ("accept-encoding", "gzip, br")],
            body.clone(),
        )
        .await,
    )
    .await;
    assert!(
        coding.is_empty()
            && serde_json::from_slice::<Value>(&answer).unwrap()["images"][0].is_string(),
        "{coding}"
    );
    let stream = [
        JSON,
        ("accept-encoding", "gzip, br"),
        ("accept", "text/event-stream"),
    ];
    let (coding, answer) =
        encoded(send(&product, Method::POST, "/prompt", &stream, body).await).await;
    assert!(
        coding.is_empty()
            && String::from_utf8(answer)
                .unwrap()
                .contains("event: complete"),
        "{coding}"
    );
    versions(&product).await;
}

/// A `GET` by curl: the JSON, and the version of HTTP that was spoken.
fn through_curl(product: &Product, path: &str, options: &[&str]) -> (Value, String) {
    let output = Command::new("curl")
        .args([
            "--silent",
            "--show-error",
            "--noproxy",
            "*",
            "--max-time",
            "20",
            "--write-out",
            "\n%{http_version}",
        ])
        .args(options)
        .arg(format!("{}{path}", product.url))
        .output()
        .expect("curl is not installed: .ci/run installs it");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (body, version) = text.rsplit_once('\n').unwrap();
    (serde_json::from_str(body).unwrap(), version.to_owned())
}

/// HTTP/1.1, and HTTP/2 without TLS when the client begins with it.
async fn versions(product: &Product) {
    let ready = json!({"version": env!("CARGO_PKG_VERSION"), "status": "ready"});
    assert_eq!(
        through_curl(product, "/ready", &["--http1.1"]),
        (ready.clone(), "1.1".to_owned())
    );
    assert_eq!(
        through_curl(product, "/ready", &["--http2-prior-knowledge"]),
        (ready, "2".to_owned())
    );
    let two = plain().http2_prior_knowledge().build().unwrap();
    let calls = (0..20).map(|n| {
        two.post(format!("{}/prompt", product.url))
            .json(&json!({"id": format!("two-{n}"), "prompt": picture("two")}))
            .send()
    });
    for response in futures_util::future::join_all(calls).await {
        let response = response.unwrap();
        assert_eq!(
            (response.version(), response.status().as_u16()),
            (Version::HTTP_2, 200)
        );
        assert!(response.json::<Value>().await.unwrap()["images"][0].is_string());
    }
}

/// What comes back until the connection is closed, and after how long.
async fn until_closed(product: &Product, sent: &str) -> (String, Duration) {
    let mut stream = tokio::net::TcpStream::connect(product.url.strip_prefix("http://").unwrap())
        .await
        .unwrap();
    stream.write_all(sent.as_bytes()).await.unwrap();
    let began = Instant::now();
    let mut answer = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(100), stream.read_to_end(&mut answer))
        .await
        .expect("the connection stays open");
    // What was sent and never read turns the close into a reset.
    assert!(
        closed.as_ref().map_or_else(
            |error| error.kind() == std::io::ErrorKind::ConnectionReset,
            |_| true
        ),
        "{closed:?}"
    );
    (String::from_utf8(answer).unwrap(), began.elapsed())
}

#[tokio::test]
async fn who_says_nothing_is_shown_the_door() {
    let product = Product::start(&[]).await;
    let half = "POST /prompt HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                content-length: 100\r\nconnection: close\r\n\r\n{\"prompt";
    let ((silent, _), (letter, _), (head, _), (idle, waited), (body, _)) = tokio::join!(
        until_closed(&product, ""),
        // Could be HTTP/2 as well.
        until_closed(&product, "P"),
        until_closed(&product, "GET /health HTTP/1.1\r\nHo"),
        until_closed(&product, "GET /health HTTP/1.1\r\nhost: x\r\n\r\n"),
        until_closed(&product, half),
    );
    assert_eq!(
        (silent.as_str(), letter.as_str(), head.as_str()),
        ("", "", "")
    );
    assert!(
        idle.starts_with("HTTP/1.1 200") && waited > Duration::from_secs(60),
        "a client with a pool may pause: {waited:?} {idle}"
    );
    assert!(
        body.starts_with("HTTP/1.1 400") && body.contains("stopped coming"),
        "{body}"
    );
}

/// A50, A04: a beginning is kept, whatever it is, and both versions are spoken on what follows.
#[tokio::test]
async fn a_beginning_in_pieces_is_served() {
    let product = Product::start(&[]).await;
    let address = product.url.strip_prefix("http://").unwrap();
    for pieces in [
        &[
            "P",
            "OST /prompt HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        ][..],
        &[
            "PR",
            "OPFIND / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        ][..],
        &["GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"][..],
    ] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            tokio::io::AsyncWriteExt::write_all(&mut stream, piece.as_bytes())
                .await
                .unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer)
            .await
            .unwrap();
        assert!(answer.starts_with("HTTP/1.1 "), "{pieces:?}: {answer}");
    }
    let client = reqwest::Client::builder()
        .no_proxy()
        .http2_prior_knowledge()
        .build()
        .unwrap();
    for _ in 0..3 {
        let answer = client
            .get(format!("{}/health", product.url))
            .send()
            .await
            .unwrap();
        assert_eq!(
            (answer.status().as_u16(), answer.version()),
            (200, reqwest::Version::HTTP_2)
        );
    }
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
