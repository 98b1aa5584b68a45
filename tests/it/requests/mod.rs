//! What a request may look like, what is bounded about it, and the texts that come back (faults.md
//! F12 to F20, drop-in.md D01 to D05, attack.md A10, A11, A20, A22).

mod bodies;
mod costs;
mod fields;
mod ids;
mod texts;

use serde_json::{Value, json};

use crate::support::product::Product;

/// Sends bytes as a JSON body; the status and the answer.
async fn post(
    product: &Product,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<reqwest::Body>,
) -> (u16, Value) {
    let mut request = product
        .http
        .post(format!("{}{path}", product.url))
        .header("content-type", "application/json");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.body(body).send().await.unwrap();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    let answer = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
    (status, answer)
}

/// Asserts a refusal: status, code, location, and a word of its sentence.
fn refused(
    what: &str,
    (status, answer): &(u16, Value),
    expected: (u16, &str),
    location: Option<&str>,
    word: &str,
) {
    let said = (
        *status,
        answer["code"].as_str().unwrap_or_default(),
        answer["location"].as_str(),
    );
    let shown: String = answer.to_string().chars().take(600).collect();
    assert_eq!(said, (expected.0, expected.1, location), "{what}: {shown}");
    assert!(
        answer["error"].as_str().unwrap().contains(word),
        "{what}: no {word:?} in {shown}"
    );
    assert!(
        answer["error"].as_str().unwrap().chars().count() <= 4_001,
        "{what}"
    );
}

/// Two pictures, saved by the nodes 9 and 10.
fn two_pictures() -> Value {
    json!({"2": {
        "class_type": "EmptyImage",
        "inputs": {"width": 16, "height": 16, "batch_size": 1, "color": 7}
    },
           "9": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "x"}},
           "10": {
               "class_type": "SaveImage",
               "inputs": {"images": ["2", 0], "filename_prefix": "y"}
           }})
}
