//! What is sent verifies with the public libraries of Standard Webhooks and Svix, in Python and
//! Node.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use super::{SECRET, delivery, webhooks};
use crate::support::receiver::{Received, Receiver};

const OTHER: &str = "whsec_b3RoZXIga2V5LCB3aGljaCBpcyBuZXc=";
const STRANGER: &str = "whsec_c29tZWJvZHkgZWxzZSdzIGtleSwgdW5rbm93bg==";

const PYTHON: &str = r#"
import base64, importlib, json, sys
for case in json.load(sys.stdin):
    body = base64.b64decode(case["body"]).decode()
    for name in ("standardwebhooks", "svix.webhooks"):
        module = importlib.import_module(name)
        try:
            module.Webhook(case["secret"]).verify(body, case["headers"])
            ok = True
        except module.WebhookVerificationError:
            ok = False
        assert ok == case["valid"], (name, case["what"], ok)
print("verified")
"#;

const NODE: &str = r#"
const cases = JSON.parse(require("fs").readFileSync(0, "utf8"));
for (const testCase of cases) {
  const body = Buffer.from(testCase.body, "base64").toString();
  for (const name of ["standardwebhooks", "svix"]) {
    const { Webhook } = require(name);
    let ok = true;
    try { new Webhook(testCase.secret).verify(body, testCase.headers); } catch { ok = false; }
    if (ok !== testCase.valid) throw new Error(`${name}: ${testCase.what}: ${ok}`);
  }
}
console.log("verified");
"#;

fn python() -> Command {
    let program = std::env::var("TEST_PYTHON")
        .unwrap_or_else(|_| "/opt/comfyui-api-test/venv/bin/python".to_owned());
    let mut command = Command::new(program);
    command.args(["-c", PYTHON]);
    command
}

fn node() -> Command {
    let modules = std::env::var("TEST_NODE_MODULES")
        .unwrap_or_else(|_| "/opt/comfyui-api-test/node_modules".to_owned());
    let mut command = Command::new("node");
    command.args(["-e", NODE]).env("NODE_PATH", modules);
    command
}

fn verify(mut command: Command, cases: &serde_json::Value) {
    let spawned = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = spawned.unwrap_or_else(|error| {
        panic!(
            "{command:?} cannot be run ({error}): this test needs Python and Node with \
             standardwebhooks and svix"
        )
    });
    child
        .stdin
        .take()
        .unwrap()
        .write_all(cases.to_string().as_bytes())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(
        output.status.success() && output.stdout.starts_with(b"verified"),
        "{}(the libraries standardwebhooks and svix must be installed)",
        String::from_utf8_lossy(&output.stderr)
    );
}

fn case(
    what: &str,
    secret: &str,
    received: &Received,
    valid: bool,
    tamper: bool,
) -> serde_json::Value {
    let headers: serde_json::Map<String, serde_json::Value> =
        ["webhook-id", "webhook-timestamp", "webhook-signature"]
            .into_iter()
            .map(|name| (name.to_owned(), received.header(name).into()))
            .collect();
    let mut body = received.body.to_vec();
    if tamper {
        body.push(b' ');
    }
    json!({
        "what": what,
        "secret": secret,
        "headers": headers,
        "body": comfyui_api::document::base64(&body),
        "valid": valid
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn public_libraries_verify_what_is_sent() {
    let receiver = Receiver::start().await;
    webhooks(&[("WEBHOOK_SECRET", SECRET)]).deliver(delivery(receiver.url("/one"), "prompt-1"));
    webhooks(&[("WEBHOOK_SECRET", &format!("{SECRET} {OTHER}"))])
        .deliver(delivery(receiver.url("/rotated"), "prompt-2"));
    // The prefix, the padding and the alphabet are the operator's choice.
    let bare = SECRET.trim_start_matches("whsec_");
    webhooks(&[("WEBHOOK_SECRET", bare)]).deliver(delivery(receiver.url("/bare"), "prompt-3"));
    let one = receiver.wait("/one", 1).await.remove(0);
    let rotated = receiver.wait("/rotated", 1).await.remove(0);
    let plain = receiver.wait("/bare", 1).await.remove(0);
    assert_eq!(one.header("content-type"), "application/json");
    assert_eq!(one.header("content-length"), one.body.len().to_string());
    assert_eq!(
        (one.header("webhook-id"), one.method.as_str()),
        ("prompt-1", "POST")
    );
    // One for each, and one for the whole text as the Node server reads it (D07).
    assert_eq!(rotated.header("webhook-signature").split(' ').count(), 3);
    let cases = json!([
        case("one secret", SECRET, &one, true, false),
        case("a changed body", SECRET, &one, false, true),
        case("somebody else's secret", STRANGER, &one, false, false),
        case("rotation, old secret", SECRET, &rotated, true, false),
        case("rotation, new secret", OTHER, &rotated, true, false),
        case("rotation, neither", STRANGER, &rotated, false, false),
        case("a secret without prefix", SECRET, &plain, true, false),
    ]);
    let (in_python, in_node) = (cases.clone(), cases);
    let python = tokio::task::spawn_blocking(move || verify(python(), &in_python));
    tokio::task::spawn_blocking(move || verify(node(), &in_node))
        .await
        .unwrap();
    python.await.unwrap();
}

#[tokio::test]
async fn without_a_secret_there_is_no_signature() {
    let receiver = Receiver::start().await;
    webhooks(&[]).deliver(delivery(receiver.url("/"), "prompt-1"));
    let received = receiver.wait("/", 1).await.remove(0);
    assert_eq!(received.header("webhook-id"), "prompt-1");
    assert!(
        received.headers.contains_key("webhook-timestamp")
            && !received.headers.contains_key("webhook-signature")
    );
}

#[tokio::test]
async fn legacy_webhooks_are_plain_posts() {
    let receiver = Receiver::start().await;
    let mut delivery = delivery(receiver.url("/"), "prompt-1");
    delivery.kind = comfyui_api::webhook::Kind::Legacy;
    webhooks(&[("WEBHOOK_SECRET", SECRET)]).deliver(delivery);
    let received = receiver.wait("/", 1).await.remove(0);
    assert_eq!(received.body, super::body("prompt-1"));
    assert!(
        !received
            .headers
            .keys()
            .any(|name| name.as_str().starts_with("webhook-")),
        "{:?}",
        received.headers
    );
}

/// D06: bodies are what Node makes of them when it parses and writes them again, so that receivers
/// who sign that agree.
#[tokio::test]
async fn bodies_are_written_as_node_writes_them_again() {
    let receiver = Receiver::start().await;
    let webhooks = webhooks(&[("WEBHOOK_SECRET", SECRET)]);
    let texts = [
        r#"{"type": "prompt.complete", "prompt": {"9": {"inputs": {"b": 8.0, "a": 1e21}}, "10": {}, "3": {"x": -0.0}}}"#,
        r#"{"z": [1.10, 1e-7, 123456789.123e5, 12345678901234567890, 0.1, 5e-324], "1": 1, "01": 2, "4294967295": 3, "0": 4}"#,
        r#"{"t": "\u00e9 \u2028 \/ \u001f \" \\ \t \ud83d\ude00", "n": [null, true, false, [], {}], "a": 1, "a": {"2": 0, "b": 0, "1": 0}}"#,
    ];
    for (index, text) in texts.iter().enumerate() {
        let mut delivery = delivery(receiver.url("/"), &index.to_string());
        delivery.body = comfyui_api::document::Document::from_text((*text).to_owned());
        webhooks.deliver(delivery);
    }
    let received = receiver.wait("/", texts.len()).await;
    let cases: Vec<serde_json::Value> = received
        .iter()
        .map(|one| {
            let index: usize = one.header("webhook-id").parse().unwrap();
            json!({"text": texts[index], "body": String::from_utf8_lossy(&one.body)})
        })
        .collect();
    const AGAIN: &str = r#"
for (const { text, body } of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
  const again = JSON.stringify(JSON.parse(text));
  if (again !== body) throw new Error(`${again}\nis not\n${body}`);
}
console.log("verified");
"#;
    let mut command = Command::new("node");
    command.args(["-e", AGAIN]);
    verify(command, &json!(cases));
}

/// D07: a receiver that decodes any text as Node does, prefix and all, finds a signature that it
/// knows.
#[tokio::test]
async fn any_text_signs_as_the_node_server_does() {
    const CHECK: &str = r#"
const { createHmac } = require("crypto");
for (const { secret, id, timestamp, body, signatures } of JSON.parse(require("fs").readFileSync(0, "utf8"))) {
  const key = Buffer.from(secret, "base64");
  const own = "v1," + createHmac("sha256", key).update(`${id}.${timestamp}.${body}`).digest("base64");
  if (!signatures.split(" ").includes(own)) throw new Error(`${secret}: ${signatures}`);
}
console.log("verified");
"#;
    let receiver = Receiver::start().await;
    let secrets = [
        "abcde",
        "p@ssw0rd",
        "two words",
        SECRET,
        "bWFya2Vk",
        "a=b=c",
        "-_-_x",
    ];
    let mut cases = Vec::new();
    for (index, secret) in secrets.iter().enumerate() {
        let path = format!("/{index}");
        webhooks(&[("WEBHOOK_SECRET", secret)]).deliver(delivery(receiver.url(&path), "an-id"));
        let one = receiver.wait(&path, 1).await.remove(0);
        cases.push(json!({
            "secret": secret, "id": "an-id", "timestamp": one.header("webhook-timestamp"),
            "body": String::from_utf8_lossy(&one.body),
            "signatures": one.header("webhook-signature"),
        }));
    }
    let mut command = Command::new("node");
    command.args(["-e", CHECK]);
    verify(command, &json!(cases));
}
