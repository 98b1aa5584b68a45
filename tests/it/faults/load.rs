//! Many prompts at once, and many short ones after each other.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::graphs::{colour_of, coloured, picture};
use crate::support::product::{Product, Stage, free_port};

#[tokio::test]
async fn two_hundred_prompts_of_32_clients_are_not_mixed_and_not_lost() {
    for version in ["0.3.64", "current"] {
        let product = Arc::new(
            Stage::new()
                .flags(&format!("--imitate {version}"))
                .start()
                .await,
        );
        let clients = (0..32_u32).map(|client| {
            let product = product.clone();
            tokio::spawn(async move {
                let mut seen = Vec::new();
                for number in (client..200).step_by(32) {
                    let colour = 0x0001_0101 * number;
                    let answer = product
                        .run(
                            &format!("job-{number}"),
                            &coloured(&format!("n{number}"), colour),
                        )
                        .await;
                    assert_eq!(
                        answer["filenames"],
                        json!([format!("job-{number}_n{number}_00001_.png")])
                    );
                    let value = u8::try_from(number).unwrap();
                    assert_eq!(
                        colour_of(&answer["images"][0]),
                        [value, value, value],
                        "{number}"
                    );
                    seen.push(answer["id"].as_str().unwrap().to_owned());
                }
                seen
            })
        });
        let mut ids = HashSet::new();
        for client in clients.collect::<Vec<_>>() {
            ids.extend(client.await.unwrap());
        }
        assert_eq!(ids.len(), 200);
        product.until_clean().await;
        assert_eq!(product.get("/queue").await.1["pending"], json!([]));
    }
}

#[tokio::test]
async fn prompts_of_milliseconds_never_hang() {
    let product = Product::start(&[]).await;
    for number in 0..300 {
        let before = Instant::now();
        product.run(&format!("q{number}"), &picture("p")).await;
        assert!(
            before.elapsed() < Duration::from_secs(10),
            "number {number} took {:?}",
            before.elapsed()
        );
    }
    product.until_clean().await;
}

#[tokio::test]
async fn a_log_that_nobody_reads_stops_nothing() {
    let port = free_port();
    let mut product = Stage::new()
        .env("PORT", port)
        .env("LOG_LEVEL", "debug")
        .unread()
        .spawn();
    product.url = format!("http://127.0.0.1:{port}");
    product.until_ready().await;
    for number in 0..40 {
        product.run(&format!("n{number}"), &picture("p")).await;
    }
    product.until_clean().await;
    assert_eq!(product.stop().await, Some(0));
}
