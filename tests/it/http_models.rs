//! `GET /models`, `POST /models`, `POST /download`: every answer, and that a model is usable as
//! soon as the call has returned.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage, until};

async fn product() -> Product {
    Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .start()
        .await
}

async fn origin() -> Origin {
    Origin::start(
        |request, _| match request.target.split('?').next().unwrap_or_default() {
            "/missing.safetensors" => Reply::status(404),
            "/private.safetensors" if request.header("authorization") != Some("Bearer marked") => {
                Reply::status(401)
            }
            "/slow.safetensors" => Reply {
                delay: Some(Duration::from_millis(400)),
                ..Reply::ok("weights")
            },
            _ => Reply::ok("weights"),
        },
    )
    .await
}

/// A graph that only works when ComfyUI knows the checkpoint.
fn uses(checkpoint: &str) -> Value {
    json!({
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}},
        "2": {
            "class_type": "EmptyLatentImage",
            "inputs": {"width": 64, "height": 64, "batch_size": 1}
        },
        "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "vae": ["1", 2]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "pic"}},
    })
}

async fn listed(product: &Product, folder: &str, name: &str) -> bool {
    let (status, models) = product.get("/models").await;
    assert_eq!(status, 200, "{models}");
    models[folder]
        .as_array()
        .is_some_and(|names| names.iter().any(|known| known == name))
}

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

/// F02: after a 200 ComfyUI lists exactly the name of the answer, in that folder.
#[tokio::test(flavor = "multi_thread")]
async fn a_model_gets_a_name_that_comfyui_lists() {
    let origin = Origin::start(
        |request, _| match request.target.split('?').next().unwrap() {
            "/api/download/models/128713" => Reply::ok("weights").with(
                "Content-Disposition",
                "attachment; filename=\"dream.safetensors\"",
            ),
            "/moved-v1.5" => Reply::redirect("/cdn/model.ckpt"),
            "/sniffed" => {
                Reply::ok([&20_u64.to_le_bytes()[..], b"{\"__metadata__\": {}}"].concat())
            }
            "/zipped.zip" => Reply::ok(b"PK\x03\x04 and so on and so on".as_slice()),
            "/pickled" => Reply::ok(b"\x80\x02}q\x00(X\x05\x00\x00".as_slice()),
            _ => Reply::ok("unknown weights"),
        },
    )
    .await;
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .flags("--extra-model-paths-config extra.yaml")
        .file(
            "extra.yaml",
            "extra:\n  base_path: extra\n  anything: anything\n",
        )
        .file("extra/anything/there.txt", "x")
        .start()
        .await;
    let cases = [
        (
            "checkpoints",
            "/api/download/models/128713",
            None,
            "128713.safetensors",
        ),
        (
            "checkpoints",
            "/api/download/models/128713",
            Some("sd-v1.5"),
            "sd-v1.5.safetensors",
        ),
        (
            "checkpoints",
            "/api/download/models/128713",
            Some("sub/notes.txt"),
            "sub/notes.txt.safetensors",
        ),
        ("vae", "/moved-v1.5", None, "moved-v1.5.ckpt"),
        ("loras", "/sniffed", Some("v2.0"), "v2.0.safetensors"),
        ("loras", "/zipped.zip", None, "zipped.zip.pt"),
        ("loras", "/pickled", None, "pickled.pt"),
        ("loras", "/plain.PTH", None, "plain.PTH"),
        ("anything", "/any", Some("any.thing"), "any.thing"),
        ("classifiers", "/pickled", Some("bare"), "bare"),
        ("configs", "/v1.yaml", None, "v1.yaml"),
    ];
    for (folder, path, filename, expected) in cases {
        let mut body = json!({"url": origin.url(path), "model_type": folder, "wait": true});
        if let Some(filename) = filename {
            body["filename"] = filename.into();
        }
        let (status, answer) = product.post("/download", &body).await;
        assert_eq!(
            (status, answer["filename"].as_str()),
            (200, Some(expected)),
            "{path}: {answer}"
        );
        assert!(
            listed(&product, folder, expected).await,
            "{folder}/{expected}"
        );
        let mut body = json!({"url": origin.url(path), "type": folder});
        if let Some(filename) = filename {
            body["filename"] = filename.into();
        }
        let (status, answer) = product.post("/models", &body).await;
        let place = answer["path"].as_str().unwrap_or_default();
        assert!(
            status == 200 && place.ends_with(&format!("{folder}/{expected}")),
            "{answer}"
        );
    }
    // A name that nobody can load.
    for (folder, path, filename) in [
        ("checkpoints", "/unknown", "model"),
        ("checkpoints", "/unknown", "model.zip"),
        ("checkpoints", "/x.yaml", "x.yaml"),
    ] {
        let url = origin.url(path);
        let download =
            json!({"url": url, "model_type": folder, "filename": filename, "wait": true});
        let models = json!({"url": url, "type": folder, "filename": filename});
        for (endpoint, body, code) in [("/download", download, 400), ("/models", models, 500)] {
            let (status, answer) = product.post(endpoint, &body).await;
            assert_eq!(status, code, "{answer}");
            assert!(
                answer["error"]
                    .as_str()
                    .unwrap()
                    .contains(".safetensors, .sft"),
                "{answer}"
            );
        }
        let link = product.path("models").join(folder).join(filename);
        assert!(!link.is_symlink(), "{}", link.display());
    }
    // In the background the same.
    let body = json!({"url": origin.url("/api/download/models/128713"), "model_type": "loras"});
    assert_eq!(product.post("/download", &body).await.0, 202);
    until("the model is listed", async || {
        listed(&product, "loras", "128713.safetensors")
            .await
            .then_some(())
    })
    .await;
}

/// F26: the first folder of the list is on a volume that is not there.
#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_is_passed_over() {
    let origin = origin().await;
    let extra = "a:\n  base_path: /not/mounted\n  is_default: true\n  vae: vae\n  loras: loras\n";
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .flags("--extra-model-paths-config extra.yaml")
        .file("extra.yaml", extra)
        .start()
        .await;
    for n in 0..2 {
        let name = format!("{n}.safetensors");
        let body = json!({"url": origin.url("/a.safetensors"), "type": "vae", "filename": name});
        let (status, answer) = product.post("/models", &body).await;
        let place = product.path("models/vae").join(&name);
        assert_eq!(
            (status, answer["path"].as_str()),
            (200, place.to_str()),
            "{answer}"
        );
        assert!(listed(&product, "vae", &name).await);
    }
    let told = product.log.lines();
    let told = told
        .iter()
        .filter(|line| line.contains("/not/mounted") && line.contains("\"warn\""));
    assert_eq!(told.count(), 1, "one warning");
    let mut graph = uses("m.safetensors");
    graph["1"] =
        json!({"class_type": "VAELoader", "inputs": {"vae_name": origin.url("/b.safetensors")}});
    graph["3"]["inputs"]["vae"] = json!(["1", 0]);
    product.run("vae", &graph).await;
}

/// A17, D10: names of the manifest and of the user are theirs.
#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_operator_stay_the_operators() {
    let origin = Origin::start(|request, _| Reply::ok(request.target.clone())).await;
    let manifest = json!({"models": {
    "before_start": [{
        "url": origin.url("/op.safetensors"),
        "local_path": "models/checkpoints/op.safetensors"
    },
        {"url": origin.url("/bare.ckpt"), "local_path": "models/checkpoints/sd-v1.5"}],
    "after_start": [{
        "url": origin.url("/late.safetensors"),
        "local_path": "models/loras/sub/late.safetensors"
    }]}});
    let product = Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .env("MANIFEST_JSON", &manifest)
        .file("models/vae/own.pt", "mine")
        .start()
        .await;
    // A manifest's model without an extension (F02), and one that comes later is listed (A54).
    assert!(listed(&product, "checkpoints", "sd-v1.5.ckpt").await);
    until("the late model is listed", async || {
        listed(&product, "loras", "sub/late.safetensors")
            .await
            .then_some(())
    })
    .await;
    for (folder, name, content) in [
        ("checkpoints", "op.safetensors", "/op.safetensors"),
        ("loras", "sub/late.safetensors", "/late.safetensors"),
        ("vae", "own.pt", "mine"),
    ] {
        let url = origin.url("/evil.safetensors");
        let body = json!({"url": url, "type": folder, "filename": name});
        let (status, answer) = product.post("/models", &body).await;
        let place = product.path("models").join(folder).join(name);
        assert_eq!(
            (status, answer["path"].as_str()),
            (200, place.to_str()),
            "{answer}"
        );
        let body = json!({"url": url, "model_type": folder, "filename": name, "wait": true});
        let (status, answer) = product.post("/download", &body).await;
        assert_eq!(
            (status, answer["filename"].as_str()),
            (200, Some(name)),
            "{answer}"
        );
        assert_eq!(std::fs::read_to_string(&place).unwrap(), content);
        product.log.line("model not linked").await;
    }
    // Clients' names stay replaceable, and it is told.
    for path in ["/one.pt?token=marked", "/two.pt"] {
        let body = json!({"url": origin.url(path), "type": "vae", "filename": "theirs.pt"});
        assert_eq!(product.post("/models", &body).await.0, 200);
    }
    let line = product.log.line("has taken the name").await;
    assert!(
        line.contains("/one.pt") && line.contains("/two.pt"),
        "{line}"
    );
    assert!(!line.contains("marked"), "{line}");
    let theirs = product.path("models/vae/theirs.pt");
    assert_eq!(std::fs::read_to_string(theirs).unwrap(), "/two.pt");
}
