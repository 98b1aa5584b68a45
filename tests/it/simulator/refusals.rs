//! What is refused at the transport, word for word.

use super::*;

#[tokio::test]
async fn j_validation_errors_word_for_word() {
    let stand = Stand::start(OLD).await;
    let refused = async |graph: Value| {
        let (status, body) = stand.post("/prompt", &json!({"prompt": graph})).await;
        assert_eq!(status, 400, "{body}");
        body
    };
    assert_eq!(
        refused(json!({"1": {"class_type": "NoSuchNode", "inputs": {}}})).await,
        json!({
            "error": {
                "type": "invalid_prompt",
                "message": "Cannot execute because node NoSuchNode does not exist.",
                "details": "Node ID '#1'",
                "extra_info": {}
            },
            "node_errors": {}
        })
    );
    assert_eq!(
        refused(json!({"2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}}))
            .await,
        json!({"error": {
            "type": "prompt_outputs_failed_validation",
            "message": "Prompt outputs failed validation",
            "details": "Required input is missing: images",
            "extra_info": {}
        },
            "node_errors": {"2": {"errors": [{
                "type": "required_input_missing",
                "message": "Required input is missing",
                "details": "images",
                "extra_info": {"input_name": "images"}
            }],
                "dependent_outputs": ["2"], "class_type": "SaveImage"}}})
    );
    assert_eq!(
        refused(json!({})).await["error"]["type"],
        "prompt_no_outputs"
    );
    assert_eq!(
        refused(json!({"nodes": {}})).await["error"]["details"],
        "Node ID '#nodes'"
    );
    let body = refused(json!({
        "1": {
            "class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": "nope.safetensors"}
        },
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
    }))
    .await;
    assert_eq!(body["error"]["details"], "");
    let error = &body["node_errors"]["1"];
    assert_eq!(
        (&error["errors"][0]["details"], &error["dependent_outputs"]),
        (
            &json!("ckpt_name: 'nope.safetensors' not in []"),
            &json!(["4"])
        )
    );
    assert_eq!(
        error["errors"][0]["extra_info"]["input_config"][0],
        json!([])
    );
    let body = refused(json!({
        "1": {"class_type": "LoadImage", "inputs": {"image": "nope.png"}},
        "4": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    }))
    .await;
    assert_eq!(
        body["node_errors"]["1"]["errors"][0],
        json!({"type": "custom_validation_failed", "message": "Custom validation failed for node",
        "details": "image - Invalid image file: nope.png", "extra_info": {"input_name": "image"}})
    );
    let cycle = json!({
        "1": {"class_type": "ImageInvert", "inputs": {"image": ["2", 0]}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}
    });
    let body = refused(cycle.clone()).await;
    assert_eq!(
        (&body["error"]["details"], &body["node_errors"]),
        (&json!(""), &json!({}))
    );
    let body =
        refused(json!({"1": {"class_type": "PreviewImage", "inputs": {"images": ["99", 0]}}}))
            .await;
    assert_eq!(
        (
            &body["node_errors"]["1"]["errors"][0]["type"],
            &body["node_errors"]["1"]["errors"][0]["details"]
        ),
        (&json!("exception_during_validation"), &json!("'99'"))
    );
    // One good and one bad output: 200 with the errors.
    let mut mixed = simple("good");
    mixed["3"] = json!({"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}});
    let (status, body) = stand.post("/prompt", &json!({"prompt": mixed})).await;
    assert_eq!(
        (status, body["node_errors"].get("3").is_some()),
        (200, true)
    );
    // What is not JSON, and what is too large.
    let (status, text) = stand.post_text("/prompt", "{".into()).await;
    assert_eq!(
        (status, text.as_str()),
        (
            500,
            "500 Internal Server Error\n\nServer got itself in trouble"
        )
    );
    assert_eq!(
        stand.post("/prompt", &json!({})).await.1["error"]["type"],
        "no_prompt"
    );
    // V3 combos are not checked in this version, and are in the newer one.
    let v3 = json!({
        "1": {"class_type": "UpscaleModelLoader", "inputs": {"model_name": "nope.safetensors"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
    });
    let id = stand.submit(&v3, "c").await;
    let entry = stand.outcome(&id).await;
    assert_eq!(
        entry["status"]["messages"][2][1]["exception_message"],
        "Model in folder 'upscale_models' with filename 'nope.safetensors' not found.\n"
    );
    let newer = Stand::start(&[]).await;
    assert_eq!(
        newer.post("/prompt", &json!({"prompt": v3})).await.1["node_errors"]["1"]["errors"][0]["type"],
        "value_not_in_list"
    );
    assert!(
        newer.post("/prompt", &json!({"prompt": cycle})).await.1["node_errors"]
            .to_string()
            .contains("dependency_cycle")
    );
    assert_eq!(
        newer
            .post(
                "/prompt",
                &json!({"prompt": {"1": {"class_type": "No", "inputs": {}}}})
            )
            .await
            .1["error"]["type"],
        "missing_node_type"
    );
}

#[tokio::test]
async fn l_ids_old_and_new() {
    let old = Stand::start(OLD).await;
    for (given, shown, path) in [
        (json!("my-job-1"), "my-job-1", "my-job-1"),
        (json!("a/b c"), "a/b c", "a%2Fb%20c"),
        (json!(12345), "12345", "12345"),
        (json!(null), "None", "None"),
    ] {
        let (status, body) = old
            .post(
                "/prompt",
                &json!({"prompt": simple("ids"), "prompt_id": given}),
            )
            .await;
        assert_eq!((status, &body["prompt_id"]), (200, &json!(shown)));
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while old
            .get_json(&format!("/history/{path}"))
            .await
            .get(shown)
            .is_none()
        {
            assert!(tokio::time::Instant::now() < deadline, "{shown}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let new = Stand::start(&[]).await;
    for id in [
        json!("my-job-1"),
        json!("6BA7B810-9DAD-11D1-80B4-00C04FD430C8"),
        json!(5),
    ] {
        let (status, body) = new
            .post(
                "/prompt",
                &json!({"prompt": simple("ids"), "prompt_id": id}),
            )
            .await;
        assert_eq!(
            (status, &body["error"]["type"]),
            (400, &json!("invalid_prompt_id"))
        );
    }
    assert_eq!(
        new.post(
            "/prompt",
            &json!({"prompt": simple("ids"), "prompt_id": "6ba7b810-9dad-11d1-80b4-00c04fd430c8"})
        )
        .await
        .0,
        200
    );
}
