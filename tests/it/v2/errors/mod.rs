//! Each error of the contract's table: code, status, one readable sentence.

mod endpoints;
mod jobs;
mod limits;

use serde_json::Value;

fn check(answer: &(u16, Value), status: u16, code: &str) {
    let (found, body) = answer;
    assert_eq!(
        (*found, body["error"]["code"].as_str()),
        (status, Some(code)),
        "{body}"
    );
    let message = body["error"]["message"].as_str().unwrap();
    assert!(
        message.len() > 10 && message.len() < 600 && !message.contains('\n'),
        "{message}"
    );
    assert!(body["error"].get("details").is_some(), "{body}");
}
