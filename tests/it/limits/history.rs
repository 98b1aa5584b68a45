//! What is remembered of a run.

use serde_json::{Value, json};

use crate::support::graphs::{picture, with};
use crate::support::product::Product;

#[tokio::test]
async fn what_is_long_is_not_remembered_of_a_run() {
    let product = Product::start(&[]).await;
    let shows = |text: String| {
        let node = json!({
            "5": {"class_type": "PreviewAny", "inputs": {"source": text}, "_meta": {"title": text}}
        });
        with(picture("x"), node)
    };
    let just = 50 * 1024;
    product.run("short", &shows("x".repeat(just))).await;
    product.run("long", &shows("y ".repeat(33 * 1024))).await;
    let (_, short) = product.get("/history/short").await;
    assert_eq!(short["texts"]["5"][0].as_str().unwrap().len(), just);
    for part in ["request", "prompt", "stats"] {
        assert!(short[part].is_object(), "{part}");
    }
    let (_, long) = product.get("/history/long").await;
    for part in ["request", "prompt"] {
        assert_eq!(long[part], Value::Null, "{part}");
    }
    assert_eq!(long["texts"], json!({}));
    assert_eq!(
        (&long["status"], &long["outputs"][0]["filename"]),
        (&json!("succeeded"), &json!("long_x_00001_.png"))
    );
    assert!(long["stats"].is_object(), "each part counts by itself");
    assert!(long.to_string().len() < 64 * 1024);
    // Statistics and warnings of as many nodes.
    let mut many = picture("many");
    for number in 100..1500 {
        many[number.to_string()] =
            json!({"class_type": "PreviewAny", "inputs": {"source": number}});
    }
    product.run("many", &many).await;
    let (_, many) = product.get("/history/many").await;
    assert!(
        many["stats"]["comfy_execution"]["nodes"].is_null(),
        "{many}"
    );
    for part in ["request", "prompt", "stats", "texts", "warnings"] {
        let bytes = many[part].to_string().len();
        assert!(bytes <= 64 * 1024, "{part}: {bytes}");
    }
}
