//! The name and the folder of a model.

use serde_json::json;

use super::{listed, origin, uses};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Stage, until};

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
