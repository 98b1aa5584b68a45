//! `GET /status`, `GET /config`.

use serde_json::{Value, json};

use crate::support::graphs::slow;
use crate::support::product::{Product, Stage, until};

#[tokio::test(flavor = "multi_thread")]
async fn the_status_shows_all_that_health_shows() {
    let product = Stage::new()
        .env("WEBHOOK_SPOOL_DIR", "/tmp")
        .flags("--slow-start 1.5")
        .launch()
        .await;
    let (status, early) = product.get("/status").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&early["ready"], &early["comfyui"]["state"]),
        (&json!(false), &json!("starting")),
        "{early}"
    );
    assert!(
        early["reason"].as_str().unwrap().contains("starting"),
        "{early}"
    );
    product.until_ready().await;
    let (_, now) = product.get("/status").await;
    assert_eq!(now["version"], env!("CARGO_PKG_VERSION"));
    let samples = until("memory was looked at", async || {
        let (_, now) = product.get("/status?samples=true").await;
        let samples = now["samples"].as_array().unwrap().clone();
        (!samples.is_empty()).then_some(samples)
    })
    .await;
    assert_eq!(now.get("samples"), None);
    let latest = &samples[samples.len() - 1];
    assert!(latest["memory_used"].as_u64() > Some(0), "{latest}");
    let (status, refused) = product.get("/status?samples=5").await;
    assert_eq!((status, &refused["location"]), (400, &json!("samples")));
    assert_eq!(
        (&now["ready"], now.get("reason")),
        (&json!(true), None),
        "{now}"
    );
    assert!(now["started_at"].as_u64().unwrap() > 1_600_000_000_000);
    let comfyui = &now["comfyui"];
    assert_eq!(
        (&comfyui["state"], &comfyui["restarts"]),
        (&json!("ready"), &json!(0)),
        "{comfyui}"
    );
    assert!(comfyui["pid"].as_u64().unwrap() > 1);
    assert!(comfyui["since"].as_u64() >= now["started_at"].as_u64());
    for name in ["version", "python", "torch"] {
        assert!(
            comfyui[name].as_str().is_some_and(|text| !text.is_empty()),
            "{comfyui}"
        );
    }
    let device = &comfyui["devices"][0];
    assert!(
        device["vram_free"].as_u64() <= device["vram_total"].as_u64(),
        "{device}"
    );
    assert_eq!(now["queue"], json!({"running": 0, "pending": 0}));
    assert!(now.get("amqp").is_none());
    assert!(now["memory"]["total"].as_u64().unwrap() > now["memory"]["process"].as_u64().unwrap());
    let disks: Vec<&str> = now["disks"]
        .as_array()
        .unwrap()
        .iter()
        .map(|disk| disk["name"].as_str().unwrap())
        .collect();
    assert_eq!(
        disks,
        [
            "OUTPUT_DIR",
            "INPUT_DIR",
            "MODEL_DIR",
            "CACHE_DIR",
            "STATE_DIR",
            "WEBHOOK_SPOOL_DIR"
        ]
    );
    assert!(now["disks"][0]["free"].as_u64().unwrap() > 0);
    assert_eq!(
        (
            &now["features"]["webhook_spool"],
            &now["features"]["api_keys"]
        ),
        (&json!(true), &json!(false))
    );

    let running = product.prompt_later(json!({"id": "a", "prompt": slow(5.0, 50)}));
    product.until_prompt("a", "running").await;
    let waiting = product.prompt_later(json!({"id": "b", "prompt": slow(5.0, 50)}));
    product.until_prompt("b", "pending").await;
    let (_, now) = product.get("/status").await;
    assert_eq!(now["queue"], json!({"running": 1, "pending": 1}));
    product.delete("/prompt/b").await;
    product.delete("/prompt/a").await;
    let _ = (running.await, waiting.await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comfyui_that_dies_is_seen_to() {
    let product = Product::start(&[("ALWAYS_RESTART_COMFYUI", "true")]).await;
    let (_, before) = product.get("/status").await;
    product.faults(json!({"crash": 3})).await;
    let after = until("it was started again", async || {
        let (_, now) = product.get("/status").await;
        let again = now["comfyui"]["restarts"] == 1 && now["comfyui"]["state"] == "ready";
        again.then_some(now)
    })
    .await;
    assert_ne!(before["comfyui"]["pid"], after["comfyui"]["pid"]);
    assert!(after["comfyui"]["since"].as_u64() > before["comfyui"]["since"].as_u64());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_is_shown_without_secrets() {
    let product = Product::start(&[
        ("API_KEYS", "marked-key"),
        (
            "SYSTEM_WEBHOOK_URL",
            "http://user:marked@127.0.0.1:9/x?sig=marked&name=a",
        ),
        ("SYSTEM_META_region", "eu"),
        ("HF_TOKEN", "marked-token"),
    ])
    .await;
    let (status, body) = product.get("/config").await;
    assert_eq!((status, &body["code"]), (401, &json!("unauthorized")));
    let ask = product.http.get(format!("{}/config", product.url));
    let text = ask.header("X-API-Key", "marked-key").send().await.unwrap();
    let text = text.text().await.unwrap();
    assert!(!text.contains("marked"), "{text}");
    let list: Vec<Value> = serde_json::from_str(&text).unwrap();
    let row = |name: &str| {
        let row = list.iter().find(|row| row["name"] == name);
        let row = row.unwrap_or_else(|| panic!("no {name}"));
        assert!(!row["description"].as_str().unwrap().is_empty());
        (
            row["value"].as_str().unwrap(),
            row["default"].as_str().unwrap(),
            row["origin"].as_str().unwrap(),
        )
    };
    assert_eq!(row("API_KEYS"), ("***", "", "environment"));
    assert_eq!(row("HF_TOKEN"), ("***", "", "environment"));
    assert_eq!(row("PORT"), ("0", "3000", "environment"));
    assert_eq!(row("LOG_LEVEL"), ("info", "info", "default"));
    assert_eq!(row("WEBHOOK_SECRET"), ("", "", "default"));
    assert_eq!(row("SYSTEM_META_region"), ("eu", "", "environment"));
    assert_eq!(
        row("SYSTEM_WEBHOOK_URL"),
        ("http://127.0.0.1:9/x?name=a", "", "environment")
    );
}
