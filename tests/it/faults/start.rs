//! Starts that are slow, impossible, or warm up first.

use serde_json::json;

use crate::support::graphs::{picture, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::Stage;

#[tokio::test]
async fn the_listener_is_there_before_comfyui() {
    let product = Stage::new().flags("--slow-start 3").launch().await;
    for (path, status) in [("/health", 500), ("/ready", 503), ("/queue", 200)] {
        assert_eq!(product.get(path).await.0, status, "{path}");
    }
    let (status, answer) = product.prompt(&json!({"prompt": picture("p")})).await;
    assert_eq!(
        (status, &answer["code"]),
        (503, &json!("comfyui_unavailable")),
        "{answer}"
    );
    product.until_ready().await;
    assert_eq!(product.get("/health").await.0, 200);
    product.run("p", &picture("p")).await;
}

#[tokio::test]
async fn a_comfyui_that_cannot_start_ends_the_server_with_its_last_lines() {
    for (command, code, part) in [
        (
            "sh -c 'echo loading; echo \"ModuleNotFoundError: torch\" >&2; exit 4'",
            1,
            "ModuleNotFoundError: torch",
        ),
        ("/no/such/comfyui", 1, "/no/such/comfyui does not exist"),
    ] {
        for restart in ["false", "true"] {
            let mut product = Stage::new()
                .command(command)
                .env("ALWAYS_RESTART_COMFYUI", restart)
                .spawn();
            assert_eq!(product.ended().await.code(), Some(code));
            product.log.line(part).await;
            assert!(
                product
                    .log
                    .lines()
                    .iter()
                    .any(|line| line.contains(r#""level":"error""#) && line.contains(part)),
                "{}",
                product.log.text()
            );
        }
    }
    let mut product = Stage::new()
        .command("sleep 1000")
        .env("STARTUP_CHECK_MAX_TRIES", "5")
        .spawn();
    assert_eq!(product.ended().await.code(), Some(1));
    product.log.line("STARTUP_CHECK_MAX_TRIES").await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_said_so() {
    let stage = Stage::new();
    let _other = stage.simulator().await;
    let port = stage.comfy_port();
    let mut product = stage.spawn();
    assert_eq!(product.ended().await.code(), Some(1));
    let line = product.log.line("already answers").await;
    assert!(
        line.contains(&port.to_string()) && line.contains("COMFYUI_PORT_HOST"),
        "{line}"
    );
    // Our own port, too.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut product = Stage::new()
        .env("PORT", taken.local_addr().unwrap().port())
        .spawn();
    assert_eq!(product.ended().await.code(), Some(1));
    product.log.line("cannot listen on HOST=127.0.0.1").await;
}

#[tokio::test]
async fn warmup_by_file_and_by_url() {
    let graph = picture("warm").to_string();
    let file = Stage::new().file("warmup.json", &graph);
    let path = file.path("warmup.json");
    let product = file
        .env("WARMUP_PROMPT_FILE", path.display())
        .flags("--node-ms 300")
        .launch()
        .await;
    assert_ne!(product.get("/health").await.0, 200);
    product.until_ready().await;
    let (_, queue) = product.get("/queue").await;
    assert_eq!(
        (
            &queue["finished"][0]["source"],
            &queue["finished"][0]["status"]
        ),
        (&json!("warmup"), &json!("succeeded"))
    );
    product.until_clean().await;

    let origin = Origin::start(move |request, _| {
        if request.header("x-token") == Some("sesame") {
            Reply::ok(graph.clone())
        } else {
            Reply::status(401)
        }
    })
    .await;
    let stage = || Stage::new().env("WARMUP_PROMPT_URL", origin.url("/warm.json?sig=hidden"));
    let product = stage()
        .env("HTTP_AUTH_HEADER_NAME", "X-Token")
        .env("HTTP_AUTH_HEADER_VALUE", "sesame")
        .start()
        .await;
    assert_eq!(
        product.get("/queue").await.1["finished"][0]["source"],
        "warmup"
    );
    let mut refused = stage().spawn();
    assert_eq!(refused.ended().await.code(), Some(1));
    refused.log.line("401").await;
    assert!(!refused.log.text().contains("hidden") && !product.log.text().contains("sesame"));
}

#[tokio::test]
async fn a_warmup_that_fails_is_fatal_at_first_and_not_after_a_restart() {
    let failing = with(
        picture("warm"),
        json!({"7": {"class_type": "SimFail", "inputs": {"message": "no such kernel"}}}),
    );
    let stage = Stage::new().file("warmup.json", failing.to_string());
    let path = stage.path("warmup.json");
    let mut product = stage.env("WARMUP_PROMPT_FILE", path.display()).spawn();
    assert_eq!(product.ended().await.code(), Some(1));
    let line = product.log.line("the warmup prompt failed").await;
    assert!(
        line.contains("no such kernel") && line.contains("SimFail"),
        "{line}"
    );

    let stage = Stage::new().file("warmup.json", picture("warm").to_string());
    let path = stage.path("warmup.json");
    let product = stage
        .env("WARMUP_PROMPT_FILE", path.display())
        .env("ALWAYS_RESTART_COMFYUI", "true")
        .start()
        .await;
    product.faults(json!({"crash": 1})).await;
    product.log.nth_line("\"ready\"", 1).await;
    product.until_ready().await;
    let (_, queue) = product.get("/queue").await;
    assert_eq!(
        queue["finished"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|entry| entry["source"] == "warmup")
            .count(),
        2,
        "{queue}"
    );
    product.run("after", &picture("p")).await;
}
