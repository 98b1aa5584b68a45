//! Runs that are more than one graph with its own nodes: nodes that replace themselves (U2), images
//! over the websocket (F28), runs that go on under another id (F27).

use serde_json::{Value, json};

use crate::support::graphs::{colour_of, coloured, picture, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage, until};
use crate::support::sse::Sse;

fn ended_by(colour: u32, class: &str, inputs: Value) -> Value {
    let mut graph = with(
        coloured("x", colour),
        json!({"9": {"class_type": class, "inputs": inputs}}),
    );
    graph["9"]["inputs"]["images"] = json!(["1", 0]);
    graph
}

/// U2: everything names the client's node.
#[tokio::test]
async fn inner_nodes_are_told_as_the_clients_node() {
    for version in ["0.3.64", "current"] {
        let product = Stage::new()
            .flags(&format!("--imitate {version}"))
            .start()
            .await;
        let graph = ended_by(0x0010_2030, "SimExpand", json!({"filename_prefix": "x"}));
        let answer = product.run("e", &graph).await;
        assert_eq!(
            answer["filenames"],
            json!(["e_x_00001_.png", "e_x_more_00001_.png"]),
            "{answer}"
        );
        assert!(
            answer["outputs"]
                .as_array()
                .unwrap()
                .iter()
                .all(|output| output["node_id"] == "9"),
            "{answer}"
        );
        let nodes = answer["stats"]["comfy_execution"]["nodes"]
            .as_object()
            .unwrap();
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["1", "9"]);
        assert_eq!(nodes["9"]["class_type"], "SimExpand");
        assert!(!answer.to_string().contains("9.0.0"), "{answer}");
        let texts = with(
            graph.clone(),
            json!({
                "9": {
                    "class_type": "SimExpand",
                    "inputs": {"images": ["1", 0], "filename_prefix": "t", "fail": "inner trouble"}
                }
            }),
        );
        let (status, answer) = product.prompt(&json!({"id": "f", "prompt": texts})).await;
        assert_eq!(
            (
                status,
                &answer["details"]["node_id"],
                &answer["details"]["node_type"]
            ),
            (500, &json!("9"), &json!("SimExpand")),
            "{answer}"
        );
        let error = answer["error"].as_str().unwrap();
        assert!(
            error.contains("node 9 (SimExpand)") && error.contains("inner trouble"),
            "{error}"
        );
        product.until_clean().await;
    }
}

/// F28: images that come over the websocket only.
#[tokio::test]
async fn images_over_the_websocket_are_files() {
    let product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let origin = Origin::start(|_, _| Reply::status(200)).await;
    for class in ["SaveImageWebsocket", "SimSendWebsocket"] {
        let mut graph = ended_by(0x0001_0203, class, json!({}));
        graph["1"]["inputs"]["batch_size"] = json!(3);
        graph["2"] = json!({
            "class_type": "EmptyImage",
            "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0x00F0_E0D0}
        });
        graph["10"] = json!({"class_type": class, "inputs": {"images": ["2", 0]}});
        let answer = product.run("w", &graph).await;
        let outputs = answer["outputs"].as_array().unwrap();
        assert_eq!(outputs.len(), 4, "{class}: {answer}");
        for (image, output) in answer["images"].as_array().unwrap().iter().zip(outputs) {
            let colour = if output["node_id"] == "9" {
                [1, 2, 3]
            } else {
                [0xF0, 0xE0, 0xD0]
            };
            assert_eq!(colour_of(image), colour, "{class}");
            assert_eq!(
                (&output["output"], &output["content_type"]),
                (&json!("images"), &json!("image/png"))
            );
        }
        let mut names: Vec<_> = answer["filenames"]
            .as_array()
            .unwrap()
            .iter()
            .map(|name| name.as_str().unwrap())
            .collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "w_10_00001.png",
                "w_9_00001.png",
                "w_9_00002.png",
                "w_9_00003.png"
            ]
        );
        // Others at the same time, asynchronous, converted, packed and uploaded.
        let running: Vec<_> = (1..5_u32)
            .map(|number| {
                let mut body = json!({
                    "id": format!("w{number}"),
                    "prompt": ended_by(number * 0x0020_1008, class, json!({}))
                });
                match number {
                    2 => {
                        body["convert_output"] = json!({
                            "format": "webp",
                            "options": {"lossless": true}
                        })
                    }
                    3 => body["webhook_v2"] = json!(origin.url("/hook")),
                    4 => body["http_upload"] = json!({"url_prefix": origin.url("/up")}),
                    _ => {}
                }
                (number, product.prompt_later(body))
            })
            .collect();
        for (number, running) in running {
            let (status, answer) = running.await.unwrap();
            assert_eq!(status, if number == 3 { 202 } else { 200 }, "{answer}");
            if number < 3 {
                let [_, r, g, b] = (number * 0x0020_1008).to_be_bytes();
                assert_eq!(colour_of(&answer["images"][0]), [r, g, b], "{class}");
            }
        }
    }
    origin.wait_for(4).await;
    let hooks: Vec<_> = origin
        .requests()
        .into_iter()
        .filter(|request| request.target == "/hook")
        .collect();
    let told: Value = serde_json::from_slice(&hooks[0].body).unwrap();
    assert_eq!(colour_of(&told["images"][0]), [0x60, 0x30, 0x18]);
    product.until_clean().await;
}

/// F27: one request, one prompt, however many runs.
#[tokio::test]
async fn a_run_that_goes_on_under_other_ids_is_one_prompt() {
    let product = Product::start(&[]).await;
    let graph = ended_by(
        0x0030_2010,
        "SimMetaBatch",
        json!({"filename_prefix": "long", "parts": 4}),
    );
    let running: Vec<_> = ["m1", "m2", "m3"]
        .map(|id| (id, product.prompt_later(json!({"id": id, "prompt": graph}))))
        .into();
    for (id, running) in running {
        let (status, answer) = running.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(
            answer["filenames"],
            json!([format!("{id}_long_00001_.png")]),
            "{answer}"
        );
        assert_eq!(colour_of(&answer["images"][0]), [0x30, 0x20, 0x10]);
    }
    product.until_clean().await;
    // The events of all parts come under the one id.
    let request = product.http.post(format!("{}/prompt", product.url));
    let request = request
        .header("accept", "text/event-stream")
        .json(&json!({"id": "told", "prompt": graph}));
    let events = Sse::new(request.send().await.unwrap()).rest().await;
    let starts = events
        .iter()
        .filter(|event| event.data["type"] == "execution_start")
        .count();
    assert!((1..=4).contains(&starts), "{starts}");
    assert_eq!(events.last().unwrap().name, "complete");
    // Cancelling ends the part that is there, and none follows.
    let mut slow = graph.clone();
    slow["9"]["inputs"]["parts"] = json!(500);
    slow["5"] = json!({"class_type": "SimSleep", "inputs": {"seconds": 0.05, "steps": 5}});
    let cancelled = product.prompt_later(json!({"id": "cancelled", "prompt": slow}));
    product.until_prompt("cancelled", "running").await;
    until("some parts are through", async || {
        let (_, entry) = product.get("/prompt/cancelled").await;
        (entry["status"] == "running"
            && product.comfy("/simulator/stats").await["prompts_run"].as_u64() > Some(20))
        .then_some(())
    })
    .await;
    assert_eq!(product.delete("/prompt/cancelled").await.0, 200);
    assert_eq!(cancelled.await.unwrap().0, 409);
    until("ComfyUI has nothing more to do", async || {
        let queue = product.comfy("/queue").await;
        (queue["queue_running"] == json!([]) && queue["queue_pending"] == json!([])).then_some(())
    })
    .await;
    product.run("after", &picture("p")).await;
    product.until_clean().await;
}

/// F27: the next part never comes.
#[tokio::test]
async fn a_continuation_that_does_not_come_is_an_error() {
    let product = Product::start(&[]).await;
    let graph = ended_by(
        1,
        "SimMetaBatch",
        json!({"filename_prefix": "long", "parts": 2, "lose": 1}),
    );
    let (status, answer) = product
        .prompt(&json!({"id": "lost", "prompt": graph}))
        .await;
    assert_eq!(
        (status, &answer["code"]),
        (500, &json!("execution_error")),
        "{answer}"
    );
    assert!(
        answer["error"].as_str().unwrap().contains("unfinished"),
        "{answer}"
    );
    product.until_clean().await;
}
