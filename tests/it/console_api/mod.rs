//! What the API gained for the web console and for tools (docs/contract/console.md): kept runs,
//! history, uploads, thumbnails, graphs.

mod graphs;
mod history;
mod keep;
mod uploads;

use serde_json::Value;

use crate::support::product::{Product, until};

/// Waits until a run has ended; with everything that is known of it.
pub async fn ended(product: &Product, id: &str) -> Value {
    until(&format!("the end of {id}"), async || {
        let (status, run) = product.get(&format!("/history/{id}")).await;
        assert_eq!(status, 200, "{run}");
        let over = matches!(
            run["status"].as_str(),
            Some("succeeded" | "failed" | "interrupted")
        );
        over.then_some(run)
    })
    .await
}

/// The ids of a page.
fn ids(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["id"].as_str().unwrap())
        .collect()
}
