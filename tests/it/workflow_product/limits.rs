//! Files that loop, and what is left of them.

use std::time::{Duration, Instant};

use serde_json::json;

use super::*;
use crate::support::memory;
use crate::support::product::until;

fn resident_mib(pid: u32) -> u64 {
    memory::of(pid, "VmRSS") >> 20
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endless_loop_is_nobody_elses_problem() {
    let eats =
        "const all: any[] = []; for (;;) { all.push(new Array(10000).fill('x' + all.length)); }";
    let files = [
        ("loop.ts", script("z.object({})", "for (;;) {}")),
        ("eat.ts", script("z.object({})", eats)),
        ("draw.ts", script(COLOR, PICTURE)),
    ];
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(name, text)| (*name, text.as_str()))
        .collect();
    let product = stage(&files).start().await;
    for _ in 0..20 {
        assert_eq!(
            product
                .post("/workflow/draw", &json!({"input": {}}))
                .await
                .0,
            200
        );
    }
    let before = resident_mib(product.pid());
    let began = Instant::now();
    let bad: Vec<_> = ["loop", "eat", "loop", "eat"]
        .iter()
        .map(|name| {
            let request = product
                .http
                .post(format!("{}/workflow/{name}", product.url))
                .json(&json!({"input": {}}));
            tokio::spawn(async move {
                let response = request.send().await.unwrap();
                (
                    response.status().as_u16(),
                    response.json::<Value>().await.unwrap(),
                    began.elapsed(),
                )
            })
        })
        .collect();
    let mut slowest = Duration::ZERO;
    let mut calls = 0;
    while bad.iter().any(|one| !one.is_finished()) {
        let began = Instant::now();
        let (status, body) = product
            .post("/workflow/draw", &json!({"input": {"color": calls}}))
            .await;
        assert_eq!(status, 200, "{body}");
        slowest = slowest.max(began.elapsed());
        calls += 1;
    }
    for one in bad {
        let (status, body, took) = one.await.unwrap();
        assert_eq!(status, 400, "{body}");
        assert!(
            body["error"]
                .as_str()
                .unwrap()
                .starts_with("Failed to generate workflow prompt: "),
            "{body}"
        );
        // 5 s of processor time, at most 10 s from start to end, on machines that have better
        // things to do.
        assert!(took < Duration::from_secs(20), "{took:?}");
    }
    assert!(
        calls >= 5 && slowest < Duration::from_secs(20),
        "{calls} calls meanwhile, the slowest took {slowest:?}"
    );
    until("memory returns", async || {
        (resident_mib(product.pid()) < before + 60).then_some(())
    })
    .await;
}
