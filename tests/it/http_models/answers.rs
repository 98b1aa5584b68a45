//! Every answer, and one download for all who want the model.

use serde_json::json;

use super::{listed, origin, product, uses};
use crate::support::product::{Stage, until};

#[tokio::test(flavor = "multi_thread")]
async fn models_are_there_at_once() {
    let (product, origin) = (product().await, origin().await);
    assert!(!listed(&product, "checkpoints", "a.safetensors").await);
    let (status, body) = product
        .post(
            "/models",
            &json!({"url": origin.url("/a.safetensors"), "type": "checkpoints"}),
        )
        .await;
    let path = product.path("models/checkpoints/a.safetensors");
    assert_eq!((status, body), (200, json!({"status": "ok", "path": path})));
    assert_eq!(std::fs::read(&path).unwrap(), b"weights");
    assert!(listed(&product, "checkpoints", "a.safetensors").await);
    product.run("a", &uses("a.safetensors")).await;

    let download = json!({
        "url": origin.url("/b.safetensors?token=marked"),
        "model_type": "checkpoints",
        "filename": "sub/dir/c.safetensors",
        "wait": true
    });
    let (status, body) = product.post("/download", &download).await;
    assert_eq!(
        (
            status,
            body["status"].as_str(),
            body["size"].as_u64(),
            body["filename"].as_str()
        ),
        (
            200,
            Some("completed"),
            Some(7),
            Some("sub/dir/c.safetensors")
        ),
        "{body}"
    );
    assert!(
        body["duration"].is_number()
            && body["model_type"] == "checkpoints"
            && !body.to_string().contains("marked"),
        "{body}"
    );
    assert!(listed(&product, "checkpoints", "sub/dir/c.safetensors").await);
    product.run("b", &uses("sub/dir/c.safetensors")).await;

    let (status, mut body) = product
        .post(
            "/download",
            &json!({
                "url": origin.url("/d.safetensors"),
                "model_type": "loras",
                "auth": {"type": "bearer", "token": "t"}
            }),
        )
        .await;
    let id = body.as_object_mut().unwrap().remove("id");
    assert!(id.is_some_and(|id| id.is_string()));
    assert_eq!(
        (status, &body),
        (
            202,
            &json!({
                "url": origin.url("/d.safetensors"),
                "model_type": "loras",
                "filename": "d.safetensors",
                "status": "started"
            })
        )
    );
    until("the download in the background ends", async || {
        listed(&product, "loras", "d.safetensors")
            .await
            .then_some(())
    })
    .await;

    let private = |token: &str| {
        json!({
            "url": origin.url("/private.safetensors"),
            "type": "vae",
            "auth": {"type": "bearer", "token": token}
        })
    };
    let (status, body) = product.post("/models", &private("wrong")).await;
    assert_eq!(
        (status, body["location"].as_str()),
        (500, Some("body.url")),
        "{body}"
    );
    assert_eq!(product.post("/models", &private("marked")).await.0, 200);
    // It is in the cache now, but not for everybody.
    let (status, body) = product
        .post(
            "/download",
            &json!({"url": origin.url("/private.safetensors"), "model_type": "clip", "wait": true}),
        )
        .await;
    assert_eq!(status, 400, "{body}");
    assert!(
        body["error"]
            .as_str()
            .unwrap()
            .contains("Authentication required to access cached file for URL: "),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said() {
    let (product, origin) = (product().await, origin().await);
    let good = origin.url("/x.safetensors");
    let cases = [
        (
            "/models",
            json!({"url": good, "type": "nonsense"}),
            400,
            "body.type",
            "checkpoints",
        ),
        ("/models", json!({"type": "vae"}), 400, "body.url", "url"),
        ("/models", json!({"url": good}), 400, "body.type", "type"),
        (
            "/models",
            json!({"url": 5, "type": "vae"}),
            400,
            "body.url",
            "string",
        ),
        (
            "/models",
            json!({"url": "nonsense", "type": "vae"}),
            400,
            "body.url",
            "URL",
        ),
        (
            "/models",
            json!({"url": origin.url("/missing.safetensors"), "type": "vae"}),
            500,
            "body.url",
            "404",
        ),
        (
            "/models",
            json!({"url": good, "type": "custom_nodes"}),
            400,
            "body.type",
            "custom_nodes",
        ),
        (
            "/download",
            json!({"url": good, "model_type": "nonsense"}),
            400,
            "model_type",
            "checkpoints",
        ),
        (
            "/download",
            json!({"url": "file:///etc/passwd", "model_type": "vae"}),
            400,
            "url",
            "http",
        ),
        (
            "/download",
            json!({"url": origin.url("/missing.safetensors"), "model_type": "vae", "wait": true}),
            400,
            "url",
            "404",
        ),
        (
            "/download",
            json!({"url": good, "model_type": "vae", "wait": "yes"}),
            400,
            "wait",
            "true or false",
        ),
        (
            "/download",
            json!({"url": good, "model_type": "vae", "auth": {"type": "magic"}}),
            400,
            "auth.type",
            "bearer",
        ),
        (
            "/models",
            json!({"url": good, "type": "vae", "auth": {"type": "bearer"}}),
            400,
            "body.auth.token",
            "token",
        ),
    ];
    for (path, body, status, location, word) in cases {
        let (got, answer) = product.post(path, &body).await;
        assert_eq!(
            (got, answer["location"].as_str()),
            (status, Some(location)),
            "{path} {body}: {answer}"
        );
        assert!(
            answer["error"].as_str().unwrap().contains(word),
            "{word} in {answer}"
        );
    }
    for name in [
        "../x",
        "/etc/x",
        "a/../../x",
        ".hidden",
        "a/.b/x",
        "con",
        "x\u{0}y",
        "x\ny",
        "",
        "a//b",
        "nul.bin",
        "..",
        "a\\..\\b",
    ] {
        let (status, answer) = product
            .post(
                "/download",
                &json!({"url": good, "model_type": "vae", "filename": name, "wait": true}),
            )
            .await;
        assert_eq!(
            (status, answer["location"].as_str()),
            (400, Some("filename")),
            "{name:?}: {answer}"
        );
    }
    assert_eq!(
        std::fs::read_dir(product.path("models/vae")).map_or(0, Iterator::count),
        0,
        "something was written"
    );
    let refusing = Stage::new().start().await;
    for (path, body) in [
        ("/models", json!({"url": good, "type": "vae"})),
        ("/download", json!({"url": good, "model_type": "vae"})),
    ] {
        let (status, answer) = refusing.post(path, &body).await;
        assert_eq!(status, 400, "{answer}");
        assert!(
            answer["error"]
                .as_str()
                .unwrap()
                .contains("ALLOW_PRIVATE_NETWORKS"),
            "{answer}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_download_for_sixty_four_requests() {
    let (product, origin) = (product().await, origin().await);
    let calls = (0..64).map(|n| {
        let body = json!({
            "url": origin.url("/slow.safetensors"),
            "type": "checkpoints",
            "filename": format!("n{}.safetensors", n % 4)
        });
        let request = product
            .http
            .post(format!("{}/models", product.url))
            .json(&body);
        async move { request.send().await.unwrap().status().as_u16() }
    });
    let statuses = futures_util::future::join_all(calls).await;
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    assert_eq!(origin.count("GET"), 1, "{:?}", origin.requests());
    for n in 0..4 {
        assert!(listed(&product, "checkpoints", &format!("n{n}.safetensors")).await);
    }
}
