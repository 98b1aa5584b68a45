//! Records of jobs.

use serde_json::{Value, json};

use crate::support::graphs::{picture, slow};
use crate::support::product::{Product, until};

async fn submit(product: &Product, graph: &Value) -> (u16, Value) {
    product
        .post("/api/v2/jobs", &json!({"workflow": graph}))
        .await
}

#[tokio::test]
async fn the_oldest_ended_job_makes_room_and_one_in_flight_does_not() {
    let product = Product::start(&[("V2_MAX_JOBS", "3")]).await;
    let mut ids = Vec::new();
    for number in 0..5 {
        let (status, job) = submit(&product, &picture(&number.to_string())).await;
        assert_eq!(status, 201, "{job}");
        let path = format!("/api/v2/jobs/{}", job["id"].as_str().unwrap());
        until("its end", async || {
            let (_, job) = product.get(&format!("{path}?wait=5")).await;
            (job["status"] == "succeeded").then_some(())
        })
        .await;
        ids.push(path);
    }
    until("the oldest are gone", async || {
        let (status, _) = product.get(&ids[0]).await;
        (status == 404).then_some(())
    })
    .await;
    assert_eq!(product.get(&ids[4]).await.0, 200, "the newest is there");
    let mut taken = 0;
    let refused = loop {
        let (status, answer) = submit(&product, &slow(20.0, 10)).await;
        if status != 201 {
            break (status, answer);
        }
        taken += 1;
        assert!(taken <= 3, "more than V2_MAX_JOBS are in flight");
    };
    assert_eq!(refused.0, 429, "{}", refused.1);
    assert_eq!(taken, 3);
}
