//! `GET /cache`, `DELETE /cache/{name}`.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::graphs::png;
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage};

async fn product(limit: &str) -> Product {
    Stage::new()
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .env("LRU_CACHE_SIZE_GB", limit)
        .start()
        .await
}

async fn origin() -> Origin {
    Origin::start(|request, _| match request.target.starts_with("/p") {
        true => Reply::ok(png([1, 2, 3])),
        false => Reply::ok("weights"),
    })
    .await
}

async fn entries(product: &Product) -> Vec<Value> {
    let (status, cache) = product.get("/cache").await;
    assert_eq!(status, 200, "{cache}");
    cache["entries"].as_array().unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cache_is_listed_and_a_file_goes_with_its_links() {
    let (product, origin) = (product("1").await, origin().await);
    let (_, cache) = product.get("/cache").await;
    assert_eq!(
        cache,
        json!({"size": 0, "limit": 1_u64 << 30, "count": 0, "entries": []})
    );
    let url = origin.url("/a.safetensors?token=marked");
    let wanted =
        json!({"url": url, "model_type": "loras", "filename": "x/a.safetensors", "wait": true});
    assert_eq!(product.post("/download", &wanted).await.0, 200);
    tokio::time::sleep(Duration::from_millis(20)).await;
    product
        .run("p", &crate::support::graphs::loaded(&origin.url("/p.png")))
        .await;
    let (_, cache) = product.get("/cache").await;
    assert_eq!(cache["count"], 2);
    let list = entries(&product).await;
    let sizes: u64 = list
        .iter()
        .map(|entry| entry["size"].as_u64().unwrap())
        .sum();
    assert_eq!(cache["size"].as_u64(), Some(sizes));
    assert_eq!(
        list[0]["url"],
        origin.url("/p.png"),
        "the last used is first"
    );
    assert_eq!(list[0]["links"], json!([]));
    let model = &list[1];
    assert_eq!(
        (&model["url"], &model["size"], &model["in_use"]),
        (
            &json!(origin.url("/a.safetensors")),
            &json!(7),
            &json!(false)
        ),
        "{model}"
    );
    let link = product.path("models/loras/x/a.safetensors");
    assert_eq!(model["links"], json!([link]));
    for name in ["used_at", "cached_at"] {
        assert!(model[name].as_u64().unwrap() > 1_600_000_000_000, "{model}");
    }
    let name = model["name"].as_str().unwrap();
    let cached = product.path("cache").join(name);
    assert!(cached.exists() && link.exists());

    let (status, gone) = product.delete(&format!("/cache/{name}")).await;
    assert_eq!((status, gone), (200, json!({"name": name, "size": 7})));
    assert!(!cached.exists() && std::fs::symlink_metadata(&link).is_err());
    assert_eq!(entries(&product).await.len(), 1);
    let (_, models) = product.get("/models").await;
    assert!(
        !models["loras"].to_string().contains("a.safetensors"),
        "{models}"
    );
    for unknown in [name, "nonsense", "..%2f..%2fetc%2fpasswd", ".links"] {
        let (status, body) = product.delete(&format!("/cache/{unknown}")).await;
        assert_eq!(
            (status, &body["code"]),
            (404, &json!("not_found")),
            "{body}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_prompt_uses_stays() {
    // Whether there is a limit or not.
    for limit in ["0", "1"] {
        let (product, origin) = (product(limit).await, origin().await);
        let wanted =
            json!({"url": origin.url("/m.safetensors"), "model_type": "checkpoints", "wait": true});
        assert_eq!(product.post("/download", &wanted).await.0, 200);
        let name = entries(&product).await[0]["name"]
            .as_str()
            .unwrap()
            .to_owned();
        let mut graph = crate::support::graphs::slow(20.0, 200);
        graph["7"] = json!({
            "class_type": "CheckpointLoaderSimple",
            "inputs": {"ckpt_name": "m.safetensors"}
        });
        let running = product.prompt_later(json!({"id": "user", "prompt": graph}));
        product.until_prompt("user", "running").await;
        assert_eq!(entries(&product).await[0]["in_use"], true);
        let (status, body) = product.delete(&format!("/cache/{name}")).await;
        assert_eq!((status, &body["code"]), (409, &json!("conflict")), "{body}");
        assert!(product.path("models/checkpoints/m.safetensors").exists());
        product.delete("/prompt/user").await;
        running.await.unwrap();
        crate::support::product::until("it is let go", async || {
            (product.delete(&format!("/cache/{name}")).await.0 == 200).then_some(())
        })
        .await;
    }
}
