//! URLs in model inputs.

use serde_json::json;

use crate::support::graphs::{picture, sampling, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::Stage;

#[tokio::test]
async fn models_by_url_with_both_versions() {
    for version in ["0.3.64", "current"] {
        let origin = Origin::start(|request, _| {
            if request.target.contains("missing") {
                Reply::status(404)
            } else {
                Reply::ok(b"model".to_vec())
            }
        })
        .await;
        let product = Stage::new()
            .env("ALLOW_PRIVATE_NETWORKS", "true")
            .flags(&format!("--imitate {version}"))
            .start()
            .await;
        // A class of the table, with a file that has no extension of a model.
        let mut graph = sampling(1);
        graph["4"]["inputs"]["ckpt_name"] = origin.url("/download/12345").into();
        // A custom class that only the probe knows, and a URL in a text, which is nobody's business.
        graph["6"]["inputs"]["text"] = origin.url("/not/a/model.safetensors").into();
        let graph = with(
            graph,
            json!({"11": {"class_type": "SimStyleLoader", "inputs": {"style": origin.url("/styles/ink.safetensors")}}, "12": {"class_type": "PreviewAny", "inputs": {"source": ["11", 0]}}}),
        );
        let answer = product.run("models", &graph).await;
        let checkpoint = answer["prompt"]["4"]["inputs"]["ckpt_name"]
            .as_str()
            .unwrap();
        let style = answer["prompt"]["11"]["inputs"]["style"].as_str().unwrap();
        assert!(
            checkpoint.ends_with(".safetensors") && !checkpoint.contains('/'),
            "{checkpoint}"
        );
        assert_eq!(
            answer["prompt"]["6"]["inputs"]["text"],
            origin.url("/not/a/model.safetensors")
        );
        for (folder, name) in [("checkpoints", checkpoint), ("simulator_styles", style)] {
            let (_, listed) = product.get("/models").await;
            assert!(
                listed[folder].as_array().unwrap().contains(&json!(name)),
                "{folder}/{name} in {listed}"
            );
        }
        let place = product.path("models/checkpoints").join(checkpoint);
        assert!(
            place.is_symlink() && std::fs::read(&place).unwrap() == b"model",
            "{}",
            place.display()
        );
        assert_eq!(
            (
                answer["stats"]["downloads"].as_array().unwrap().len(),
                origin.count("GET")
            ),
            (2, 2)
        );

        let again = product.run("again", &graph).await;
        assert_eq!(again["prompt"]["4"]["inputs"]["ckpt_name"], checkpoint);
        assert!(
            again["stats"]["downloads"]
                .as_array()
                .unwrap()
                .iter()
                .all(|download| download["cached"] == true)
        );

        let graph = with(
            picture("p"),
            json!({"4": {"class_type": "VAELoader", "inputs": {"vae_name": origin.url("/missing.pt")}}}),
        );
        let (status, answer) = product.prompt(&json!({"prompt": graph})).await;
        assert_eq!(
            (status, &answer["code"], &answer["location"]),
            (
                400,
                &json!("download_failed"),
                &json!("prompt.4.inputs.vae_name")
            ),
            "{answer}"
        );
        product.until_clean().await;
    }
}
