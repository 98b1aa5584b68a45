//! What tools there are, and the built-in ones that run nothing.

use serde_json::{Value, json};

use super::{call, refused, result, structured, texts, tool};
use crate::support::graphs;
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage};

fn workflow(summary: &str) -> String {
    json!({
        "summary": summary,
        "description": format!("{summary}, in long."),
        "input": {"type": "object", "properties": {
            "width": {
                "type": "integer",
                "minimum": 16,
                "maximum": 64,
                "default": 32,
                "description": "Pixels"
            },
            "image": {"type": "string", "description": "What to look at"},
        }},
        "bind": {"width": "1.inputs.width"},
        "prompt": graphs::picture("bound"),
    })
    .to_string()
}

#[tokio::test]
async fn each_workflow_is_a_tool() {
    let long = "x".repeat(70);
    let product = Stage::new()
        .file("workflows/portrait/square.json", workflow("Square"))
        .file("workflows/portrait_square.json", workflow("Other"))
        .file("workflows/run_graph.json", workflow("Mine"))
        .file(&format!("workflows/{long}.json"), workflow("Long"))
        .start()
        .await;
    let tools = result(&product, "tools/list", json!({})).await;
    let tools = tools["tools"].as_array().unwrap();
    let names: Vec<&str> = tools
        .iter()
        .map(|tool| tool["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        names[..3],
        ["portrait_square", "portrait_square_2", "run_graph_2"]
    );
    assert!(names[3].len() == 64 && names[3].starts_with("xxx"));
    assert_eq!(
        names[4..],
        [
            "run_graph",
            "get_job",
            "cancel_job",
            "list_jobs",
            "list_models",
            "download_model",
            "search_nodes",
            "describe_node",
            "create_upload"
        ]
    );
    let square = &tools[0];
    assert_eq!(square["title"], "Square");
    let about = square["description"].as_str().unwrap();
    assert!(about.starts_with("Square, in long.") && about.contains("Returns"));
    let properties = &square["inputSchema"]["properties"];
    assert_eq!(
        properties["width"],
        json!({
            "type": "integer",
            "minimum": 16,
            "maximum": 64,
            "default": 32,
            "description": "Pixels"
        })
    );
    let image = properties["image"]["description"].as_str().unwrap();
    assert!(
        image.starts_with("What to look at")
            && image.contains("data:")
            && image.contains("create_upload")
    );
    for tool in tools {
        for needed in [
            "title",
            "description",
            "inputSchema",
            "outputSchema",
            "annotations",
        ] {
            assert!(!tool[needed].is_null(), "{} {needed}", tool["name"]);
        }
        // Some clients know no lists of types (the inspector's --strict says which).
        assert!(!tool.to_string().contains("\"type\":["), "{tool}");
        let name = tool["name"].as_str().unwrap();
        let hint = |hint: &str| tool["annotations"][hint].as_bool().unwrap();
        assert_eq!(hint("destructiveHint"), name == "cancel_job");
        let reads = [
            "get_job",
            "list_jobs",
            "list_models",
            "search_nodes",
            "describe_node",
        ];
        assert_eq!(hint("readOnlyHint"), reads.contains(&name), "{name}");
    }
    let small = structured(&product, "portrait_square", json!({"width": 20})).await;
    assert_eq!(
        (
            &small["outputs"][0]["width"],
            &small["outputs"][0]["height"]
        ),
        (&json!(20), &json!(32))
    );
    let wrong = tool(&product, "portrait_square", json!({"width": 5000})).await;
    assert_eq!(wrong["isError"], true);
    assert_eq!(
        wrong["structuredContent"]["error"]["location"],
        "input.width"
    );
    assert!(texts(&wrong).contains("input.width: "), "{wrong}");
    let (_, queue) = product.get("/queue").await;
    assert_eq!(queue["finished"][0]["source"], "mcp");
    let (_, job) = product
        .get(&format!("/api/v2/jobs/{}", small["id"].as_str().unwrap()))
        .await;
    assert_eq!(
        (&job["source"], &job["status"]),
        (&json!("mcp"), &json!("succeeded"))
    );
    assert_eq!(job["outputs"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn long_lists_come_in_pages() {
    let mut stage = Stage::new();
    for number in 0..103 {
        stage = stage.file(&format!("workflows/w{number:03}.json"), workflow("W"));
    }
    let product = stage.start().await;
    let first = result(&product, "tools/list", json!({})).await;
    assert_eq!(first["tools"].as_array().unwrap().len(), 100);
    let second = result(
        &product,
        "tools/list",
        json!({"cursor": first["nextCursor"]}),
    )
    .await;
    let names: Vec<&Value> = second["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| &tool["name"])
        .collect();
    assert_eq!(names.len(), 12);
    assert_eq!(names[..4], ["w100", "w101", "w102", "run_graph"]);
    assert!(second["nextCursor"].is_null());
}

#[tokio::test]
async fn models_and_nodes_can_be_found() {
    let product = Stage::new()
        .file("models/checkpoints/fox.safetensors", "x")
        .file("models/checkpoints/owl.safetensors", "x")
        .file("models/loras/fox_style.safetensors", "x")
        .start()
        .await;
    let all = structured(&product, "list_models", json!({})).await;
    assert_eq!(
        all["folders"]["checkpoints"],
        json!(["fox.safetensors", "owl.safetensors"])
    );
    assert_eq!(all["truncated"], false);
    let foxes = structured(&product, "list_models", json!({"search": "FOX"})).await;
    assert_eq!(
        foxes["folders"],
        json!({"checkpoints": ["fox.safetensors"], "loras": ["fox_style.safetensors"]})
    );
    let one = structured(
        &product,
        "list_models",
        json!({"folder": "checkpoints", "limit": 1}),
    )
    .await;
    assert_eq!(
        one,
        json!({"folders": {"checkpoints": ["fox.safetensors"]}, "truncated": true})
    );
    let nodes = structured(
        &product,
        "search_nodes",
        json!({"query": "ksampler", "limit": 1}),
    )
    .await;
    assert_eq!(nodes["nodes"][0]["class_type"], "KSampler");
    assert_eq!(nodes["nodes"].as_array().unwrap().len(), 1);
    let node = structured(&product, "describe_node", json!({"class_type": "KSampler"})).await;
    let inputs = node["inputs"].as_array().unwrap();
    let seed = inputs.iter().find(|input| input["name"] == "seed").unwrap();
    assert_eq!((&seed["type"], &seed["min"]), (&json!("INT"), &json!(0)));
    let sampler = inputs
        .iter()
        .find(|input| input["name"] == "sampler_name")
        .unwrap();
    assert!(
        sampler["choices"]
            .as_array()
            .unwrap()
            .iter()
            .any(|choice| choice == "euler")
    );
    assert_eq!(node["outputs"][0]["type"], "LATENT");
    for (name, arguments, named) in [
        ("describe_node", json!({"class_type": "Nope"}), "Nope"),
        ("list_models", json!({"folder": "nope"}), "nope"),
        ("get_job", json!({"id": "nope"}), "nope"),
        ("cancel_job", json!({"id": "nope"}), "nope"),
        ("list_jobs", json!({"status": "nope"}), "input.status"),
        ("list_jobs", json!({"limit": 0}), "input.limit"),
        ("search_nodes", json!({}), "input.query"),
        (
            "get_job",
            json!({"id": "x", "wait_s": 9999}),
            "input.wait_s",
        ),
    ] {
        let result = tool(&product, name, arguments).await;
        assert_eq!(result["isError"], true, "{name}");
        assert!(texts(&result).contains(named), "{name}: {result}");
    }
    let bad = call(
        super::STATELESS,
        "tools/call",
        json!({"name": "list_jobs", "arguments": []}),
    );
    assert_eq!(refused(&product, &bad).await, (200, -32602));
}

#[tokio::test]
async fn a_model_is_downloaded() {
    let origin = Origin::start(|_, _| Reply::ok(vec![7; 1000])).await;
    let product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let url = origin.url("/new.safetensors");
    let entry = structured(
        &product,
        "download_model",
        json!({"url": url, "folder": "loras", "wait_s": 20}),
    )
    .await;
    assert_eq!(entry["status"], "completed", "{entry}");
    assert_eq!(
        (&entry["received"], &entry["folder"]),
        (&json!(1000), &json!("loras"))
    );
    let (_, downloads) = product.get("/downloads").await;
    assert_eq!(downloads[0]["id"], entry["id"]);
    let models = structured(&product, "list_models", json!({"folder": "loras"})).await;
    assert_eq!(models["folders"]["loras"], json!(["new.safetensors"]));
    let nowhere = json!({"url": "http://x/y.safetensors", "folder": "nope"});
    let result = tool(&product, "download_model", nowhere).await;
    assert_eq!(result["isError"], true, "{result}");
    assert!(texts(&result).contains("nope"), "{result}");
}
