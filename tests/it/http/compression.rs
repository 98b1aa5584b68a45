//! Answers are compressed for those who ask, in both versions of HTTP.

use std::io::Read as _;
use std::process::Command;

use reqwest::{Method, Response, Version};
use serde_json::{Value, json};

use super::{JSON, plain, send};
use crate::support::graphs::picture;
use crate::support::product::{Product, Stage};

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

#[tokio::test]
async fn one_job_is_not_worth_it_and_a_list_of_them_is() {
    let product = Product::start(&[]).await;
    let packed = [JSON, ("accept-encoding", "gzip, br")];
    let ask = async |method, path: &str, body: String| {
        let response = send(&product, method, path, &packed, body).await;
        let coding = response.headers().get("content-encoding").cloned();
        (response.status().as_u16(), coding)
    };
    for number in 0..30 {
        let body = json!({"workflow": picture(&format!("n{number}"))}).to_string();
        assert_eq!(
            ask(Method::POST, "/api/v2/jobs", body).await,
            (201, None),
            "{number}"
        );
    }
    let (status, coding) = ask(Method::GET, "/api/v2/jobs", String::new()).await;
    assert!(status == 200 && coding.is_some(), "{status} {coding:?}");
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
