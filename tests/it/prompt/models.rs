//! URLs in model inputs.

use serde_json::{Value, json};

use crate::support::graphs::{picture, sampling, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage};

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
        // A custom class that only the probe knows, and a URL in a text, which is nobody's
        // business.
        graph["6"]["inputs"]["text"] = origin.url("/not/a/model.safetensors").into();
        let graph = with(
            graph,
            json!({
                "11": {
                    "class_type": "SimStyleLoader",
                    "inputs": {"style": origin.url("/styles/ink.safetensors")}
                },
                "12": {"class_type": "PreviewAny", "inputs": {"source": ["11", 0]}}
            }),
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
            json!({
                "4": {"class_type": "VAELoader", "inputs": {"vae_name": origin.url("/missing.pt")}}
            }),
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

async fn origin() -> Origin {
    Origin::start(|request, _| {
        let path = request.target.split('?').next().unwrap_or_default();
        if path.starts_with("/private") && request.header("authorization") != Some("Bearer sesame")
        {
            return Reply::status(401);
        }
        if path.starts_with("/missing") {
            return Reply::status(404);
        }
        Reply::ok(format!("model {path}"))
    })
    .await
}

fn stage() -> Stage {
    Stage::new().env("ALLOW_PRIVATE_NETWORKS", "true")
}

/// A picture, and a node whose text shows what another one has made.
fn shown(node: Value) -> Value {
    with(
        picture("p"),
        json!({"5": node, "8": {"class_type": "PreviewAny", "inputs": {"source": ["5", 0]}}}),
    )
}

async fn listed(product: &Product, folder: &str) -> Vec<String> {
    let (_, models) = product.get("/models").await;
    serde_json::from_value(models[folder].clone()).unwrap()
}

/// F30: loras in objects that the class does not list.
#[tokio::test]
async fn models_inside_objects() {
    let origin = origin().await;
    let product = stage().start().await;
    let graph = shown(
        json!({"class_type": "Power Lora Loader (rgthree)", "inputs": {
        "PowerLoraLoaderHeaderWidget": {"type": "PowerLoraLoaderHeaderWidget"},
        "lora_1": {"on": true, "lora": origin.url("/style.safetensors"), "strength": 1},
        "lora_2": {"on": false, "lora": origin.url("/off.safetensors"), "strength": 1},
        "lora_3": {
            "on": true,
            "lora": origin.url("/private.safetensors"),
            "strength": 0.5,
            "strengthTwo": null
        },
        "➕ Add Lora": ""}}),
    );
    let credentials = json!([{
        "url_pattern": origin.url("/private**"),
        "auth": {"type": "bearer", "token": "sesame"}
    }]);
    let (status, answer) = product
        .prompt(&json!({"prompt": graph, "credentials": credentials}))
        .await;
    assert_eq!(status, 200, "{answer}");
    let inputs = &answer["prompt"]["5"]["inputs"];
    let one = inputs["lora_1"]["lora"].as_str().unwrap();
    let three = inputs["lora_3"]["lora"].as_str().unwrap();
    assert_eq!(inputs["lora_2"]["lora"], origin.url("/off.safetensors"));
    assert_eq!(
        answer["texts"]["8"],
        json!([format!("<MODEL none+{one}+{three}>")])
    );
    assert_eq!(answer["stats"]["downloads"].as_array().unwrap().len(), 2);
    let names = listed(&product, "loras").await;
    assert!(
        names.contains(&one.to_owned()) && names.contains(&three.to_owned()),
        "{names:?}"
    );

    let manager = shown(json!({"class_type": "Lora Loader (LoraManager)",
    "inputs": {"text": "", "loras": {"__value__": [
    {"name": origin.url("/style.safetensors"), "strength": 1, "active": true},
    {"name": "here", "active": true}, {
        "name": origin.url("/off.safetensors"),
        "active": false
    }]}}}));
    let answer = product.run("manager", &manager).await;
    let stem = one.strip_suffix(".safetensors").unwrap();
    let entries = &answer["prompt"]["5"]["inputs"]["loras"]["__value__"];
    assert_eq!(
        (&entries[0]["name"], &entries[1]["name"]),
        (&json!(stem), &json!("here"))
    );
    assert_eq!(answer["texts"]["8"], json!([format!("<MODEL none+{one}>")]));

    // Any node, lists in lists; elsewhere a URL is left alone with a warning that names the place.
    let url = origin.url("/deep.gguf?token=marked");
    let any = with(
        picture("p"),
        json!({"5": {"class_type": "SimShowInputs", "inputs": {
        "stack": [[{"ckpt_name": origin.url("/c.ckpt")}], {"vae_name_2": origin.url("/v.pt")}],
        "upscale_model": {"__value__": [origin.url("/u.pth")]},
        "other": {"list": [url]}, "note": {"page": origin.url("/page")}}}}),
    );
    let answer = product.run("any", &any).await;
    let inputs = &answer["prompt"]["5"]["inputs"];
    for (pointer, folder) in [
        ("/stack/0/0/ckpt_name", "checkpoints"),
        ("/stack/1/vae_name_2", "vae"),
        ("/upscale_model/__value__/0", "upscale_models"),
    ] {
        let name = inputs.pointer(pointer).and_then(Value::as_str).unwrap();
        assert!(
            listed(&product, folder).await.contains(&name.to_owned()),
            "{folder} {name}"
        );
    }
    assert_eq!(inputs["other"]["list"][0], url);
    let warnings = answer["warnings"].as_array().unwrap();
    assert!(
        warnings.len() == 1 && !warnings[0].as_str().unwrap().contains("marked"),
        "{answer}"
    );
    assert!(
        warnings[0]
            .as_str()
            .unwrap()
            .starts_with("prompt.5.inputs.other.list.0: ")
    );

    let missing = shown(
        json!({"class_type": "Power Lora Loader (rgthree)", "inputs": {
        "lora_1": {"on": true, "lora": origin.url("/missing.safetensors"), "strength": 1}}}),
    );
    let (status, answer) = product.prompt(&json!({"prompt": missing})).await;
    assert_eq!(
        (status, answer["location"].as_str(), answer["code"].as_str()),
        (
            400,
            Some("prompt.5.inputs.lora_1.lora"),
            Some("download_failed")
        ),
        "{answer}"
    );
    product.until_clean().await;
}

/// F31: lists that show other names than the folder has.
#[tokio::test]
async fn choices_that_do_not_show_the_whole_folder() {
    let origin = origin().await;
    let product = stage().start().await;
    let loader = |class: &str, input: &str, url: &str| {
        let mut node = json!({"class_type": class, "inputs": {input: url}});
        match class {
            "easy svdLoader" => node["inputs"]["vae_name"] = "Baked VAE".into(),
            "Power Prompt (rgthree)" => node["inputs"]["prompt"] = "".into(),
            _ => {}
        }
        shown(node)
    };
    // Names without extension.
    let url = origin.url("/style.safetensors");
    let graph = loader("Power Prompt (rgthree)", "insert_lora", &url);
    let answer = product.run("stem", &graph).await;
    let stem = answer["prompt"]["5"]["inputs"]["insert_lora"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        listed(&product, "loras")
            .await
            .contains(&format!("{stem}.safetensors"))
    );
    // Only names with a word in them; another model of the same name is another one.
    let mut names = Vec::new();
    for url in [
        origin.url("/x/svd_xt.safetensors"),
        origin.url("/y/svd_xt.safetensors"),
    ] {
        let answer = product
            .run("svd", &loader("easy svdLoader", "ckpt_name", &url))
            .await;
        let name = answer["prompt"]["5"]["inputs"]["ckpt_name"]
            .as_str()
            .unwrap()
            .to_owned();
        let content = std::fs::read_to_string(product.path("models/checkpoints").join(&name));
        assert!(url.ends_with(content.unwrap().strip_prefix("model ").unwrap()));
        names.push(name);
    }
    assert_eq!(names[0], "svd_xt.safetensors");
    assert!(
        names[1].starts_with("svd_xt-") && names[1] != names[0],
        "{names:?}"
    );
    // What it does not offer at all is a 400 that says what it does offer.
    for (class, input, offered) in [
        ("easy svdLoader", "ckpt_name", "svd_xt.safetensors"),
        ("SimIndexedLoader", "lora_name", "None, indexed.safetensors"),
    ] {
        let graph = loader(class, input, &origin.url("/other.safetensors"));
        let (status, answer) = product.prompt(&json!({"prompt": graph})).await;
        let location = format!("prompt.5.inputs.{input}");
        assert_eq!(
            (status, answer["location"].as_str()),
            (400, Some(&*location)),
            "{answer}"
        );
        assert!(
            answer["error"].as_str().unwrap().contains(offered),
            "{answer}"
        );
        assert!(
            !listed(&product, "checkpoints")
                .await
                .contains(&"other.safetensors".to_owned())
        );
    }
    let folders: Vec<_> = std::fs::read_dir(product.path("models"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        !folders.iter().any(|name| name.contains("--")),
        "{folders:?}"
    );
    product.until_clean().await;
}

/// A54: where the file system's clock is coarse, ComfyUI does not see a second change within a
/// tick.
#[tokio::test]
async fn models_are_seen_although_times_are_coarse() {
    let origin = origin().await;
    let product = stage()
        .faults(&json!({"mtime_tick_ms": 1000}))
        .flags("--extra-model-paths-config extra.yaml")
        .file(
            "extra.yaml",
            "extra:\n  base_path: extra\n  is_default: true\n  loras: loras\n",
        )
        .file("extra/loras/sub/old.safetensors", "x")
        .start()
        .await;
    for n in 0..12 {
        let mut graph = sampling(1);
        graph["4"]["inputs"]["ckpt_name"] = origin.url(&format!("/{n}.safetensors")).into();
        let two = json!({
            "11": {
                "class_type": "SimStyleLoader",
                "inputs": {"style": origin.url(&format!("/s{n}.safetensors"))}
            },
            "12": {"class_type": "PreviewAny", "inputs": {"source": ["11", 0]}}
        });
        product.run(&format!("m{n}"), &with(graph, two)).await;
    }
    for n in 0..6 {
        let name = format!("sub/{n}.safetensors");
        let body = json!({
            "url": origin.url("/a.safetensors"),
            "model_type": "loras",
            "filename": name,
            "wait": true
        });
        let (status, answer) = product.post("/download", &body).await;
        assert_eq!(status, 200, "{answer}");
        assert!(listed(&product, "loras").await.contains(&name), "{name}");
    }
    let marks = listed(&product, "loras").await;
    assert!(
        !marks.iter().any(|name| name.contains("zz-probe")),
        "{marks:?}"
    );
}

/// A54: a refusal that names a model which we have placed is answered by one more try.
#[tokio::test]
async fn a_refusal_of_a_model_that_is_there_is_no_refusal() {
    let origin = origin().await;
    let product = stage().start().await;
    product.faults(json!({"hide_models": 1})).await;
    let mut graph = sampling(1);
    graph["4"]["inputs"]["ckpt_name"] = origin.url("/a.safetensors").into();
    product.run("again", &graph).await;
    // Once more, not for ever; and not for a model that we have not placed.
    product.faults(json!({"hide_models": 2})).await;
    let (status, answer) = product.prompt(&json!({"prompt": graph})).await;
    assert_eq!(
        (status, answer["code"].as_str()),
        (400, Some("invalid_prompt")),
        "{answer}"
    );
    product.faults(json!({"hide_models": 1})).await;
    graph["4"]["inputs"]["ckpt_name"] = "mine.safetensors".into();
    assert_eq!(product.prompt(&json!({"prompt": graph})).await.0, 400);
}
