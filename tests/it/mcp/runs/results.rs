//! What a run answers.

use serde_json::{Value, json};

use crate::mcp::{structured, texts, tool};
use crate::support::graphs;
use crate::support::product::Product;

#[tokio::test]
async fn a_result_has_a_preview_and_a_link_for_each_file() {
    let product = Product::start(&[]).await;
    let result = tool(
        &product,
        "run_graph",
        json!({"graph": graphs::picture("one")}),
    )
    .await;
    let job = &result["structuredContent"];
    assert_eq!(job["status"], "succeeded");
    let output = &job["outputs"][0];
    let id = job["id"].as_str().unwrap();
    assert!(uuid::Uuid::parse_str(id).is_ok());
    assert_eq!(output["uri"], format!("comfyui://jobs/{id}/outputs/0"));
    assert_eq!(
        (
            &output["index"],
            &output["node_id"],
            &output["content_type"]
        ),
        (&json!(0), &json!("9"), &json!("image/png"))
    );
    assert_eq!(
        (&output["width"], &output["height"]),
        (&json!(32), &json!(32))
    );
    let content = result["content"].as_array().unwrap();
    let kinds: Vec<&str> = content
        .iter()
        .map(|block| block["type"].as_str().unwrap())
        .collect();
    assert_eq!(kinds, ["text", "image", "resource_link"]);
    assert_eq!(
        serde_json::from_str::<Value>(content[0]["text"].as_str().unwrap()).unwrap(),
        *job
    );
    assert_eq!(content[1]["mimeType"], "image/jpeg");
    assert_eq!(
        (
            &content[2]["uri"],
            &content[2]["name"],
            &content[2]["mimeType"],
            &content[2]["size"]
        ),
        (
            &output["uri"],
            &output["filename"],
            &output["content_type"],
            &output["size"]
        )
    );
    let file = product
        .http
        .get(output["url"].as_str().unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(file.status(), 200);
    assert_eq!(
        file.bytes().await.unwrap().len() as u64,
        output["size"].as_u64().unwrap()
    );
    let jobs = structured(&product, "list_jobs", json!({})).await;
    assert_eq!(
        (&jobs["jobs"][0]["id"], &jobs["jobs"][0]["tool"]),
        (&job["id"], &json!("run_graph"))
    );
}

#[tokio::test]
async fn graphs_come_in_every_form_and_inputs_can_be_set() {
    let product = Product::start(&[]).await;
    let graph = graphs::picture("form");
    for form in [
        json!(graph.to_string()),
        json!({"prompt": graph}),
        graph.clone(),
    ] {
        let job = structured(&product, "run_graph", json!({"graph": form})).await;
        assert_eq!(job["status"], "succeeded");
    }
    let job = structured(
        &product,
        "run_graph",
        json!({
            "graph": graph,
            "set": {"1.inputs.width": 48},
            "convert_output": {"format": "webp"}
        }),
    )
    .await;
    assert_eq!(
        (
            &job["outputs"][0]["width"],
            &job["outputs"][0]["content_type"]
        ),
        (&json!(48), &json!("image/webp"))
    );
    for path in ["5.inputs.width", "1.inputs.nope", "1.width", "width"] {
        let wrong = tool(
            &product,
            "run_graph",
            json!({"graph": graph, "set": {path: 1}}),
        )
        .await;
        assert_eq!(wrong["isError"], true);
        assert!(texts(&wrong).contains(path), "{wrong}");
    }
}

#[tokio::test]
async fn what_goes_wrong_is_a_result() {
    let product = Product::start(&[]).await;
    let unknown = json!({"1": {"class_type": "Nope", "inputs": {}}});
    let rejected = tool(&product, "run_graph", json!({"graph": unknown})).await;
    assert_eq!(rejected["isError"], true);
    let job = &rejected["structuredContent"];
    assert_eq!(
        (&job["status"], &job["error"]["code"]),
        (&json!("failed"), &json!("invalid_prompt"))
    );
    assert!(texts(&rejected).contains("Nope"));
    let raises = graphs::with(
        graphs::picture("raises"),
        json!({"5": {"class_type": "SimFail", "inputs": {"message": "the fuse has blown"}}}),
    );
    let raised = tool(&product, "run_graph", json!({"graph": raises})).await;
    assert_eq!(raised["isError"], true, "{raised}");
    assert_eq!(
        raised["structuredContent"]["error"]["code"], "execution_error",
        "{raised}"
    );
    assert!(texts(&raised).contains("the fuse has blown"));
    assert!(!texts(&raised).contains("Traceback"));
    let again = tool(
        &product,
        "get_job",
        json!({"id": raised["structuredContent"]["id"]}),
    )
    .await;
    assert_eq!(
        again["structuredContent"]["error"],
        raised["structuredContent"]["error"]
    );
}

#[tokio::test]
async fn jobs_of_other_doors_are_known() {
    let product = Product::start(&[]).await;
    product.run("order-1", &graphs::picture("http")).await;
    let job = structured(&product, "get_job", json!({"id": "order-1"})).await;
    assert_eq!(
        (&job["status"], &job["outputs"]),
        (&json!("succeeded"), &json!([]))
    );
    let (_, made) = product
        .post("/api/v2/jobs", &json!({"workflow": graphs::picture("v2")}))
        .await;
    let job = structured(&product, "get_job", json!({"id": made["id"], "wait_s": 20})).await;
    assert_eq!(job["outputs"].as_array().unwrap().len(), 1);
    let later = product.prompt_later(json!({"id": "order-2", "prompt": graphs::slow(20.0, 100)}));
    product.until_prompt("order-2", "running").await;
    let cancelled = structured(&product, "cancel_job", json!({"id": "order-2"})).await;
    assert_eq!(cancelled["interrupted"], "success");
    assert_eq!(later.await.unwrap().0, 409);
    let ended = tool(&product, "get_job", json!({"id": "order-2"})).await;
    assert_eq!(
        (&ended["isError"], &ended["structuredContent"]["status"]),
        (&json!(true), &json!("interrupted"))
    );
}
