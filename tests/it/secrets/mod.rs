//! secrets: marked ones everywhere, everything that can go well or wrong, and a search through all
//! that the product wrote.

mod everything;
mod inputs;
mod start;

use std::path::Path;

use serde_json::Value;

use crate::delivered::nowhere;
use crate::support::hub;
use crate::support::origin::{Reply, Request};
use crate::support::product::{BINARY, Product, Stage};
use crate::support::receiver::Receiver;

/// Every secret of this test holds one of these, also after base64 of its own (a WEBHOOK_SECRET and
/// a key of Azure must be base64).
const MARKS: &[&str] = &[
    "MARKED",
    "marked",
    "TUFSS0VE",
    "bWFya2Vk",
    hub::TOKEN,
    "%4dARKED",
];

/// Opens the transports.
const KEY: &str = "MARKED-api-key";

/// All that the product said or wrote, with where.
#[derive(Default)]
struct Heard(Vec<(String, String)>);

impl Heard {
    fn add(&mut self, place: impl Into<String>, text: impl Into<String>) {
        self.0.push((place.into(), text.into()));
    }

    async fn ask(
        &mut self,
        product: &Product,
        method: &str,
        path: &str,
        body: &Value,
    ) -> (u16, String) {
        self.ask_as(product, method, path, body, KEY, "*/*").await
    }

    async fn ask_as(
        &mut self,
        product: &Product,
        method: &str,
        path: &str,
        body: &Value,
        key: &str,
        accept: &str,
    ) -> (u16, String) {
        let method: reqwest::Method = method.parse().unwrap();
        let mut request = product
            .http
            .request(method.clone(), format!("{}{path}", product.url))
            .header("x-api-key", key)
            .header("accept", accept);
        if method == reqwest::Method::POST {
            request = request.json(body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (
            response.status().as_u16(),
            format!("{:?}", response.headers()),
        );
        let text = response.text().await.unwrap();
        self.add(
            format!("{method} {path} -> {status} for {body}"),
            format!("{headers}\n{text}"),
        );
        (status, text)
    }

    async fn prompt(&mut self, product: &Product, body: Value, status: u16) {
        let (got, text) = self.ask(product, "POST", "/prompt", &body).await;
        assert_eq!(got, status, "{body}: {text}");
    }

    fn files(&mut self, dir: &Path, except: impl Fn(&Path) -> bool + Copy) {
        for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            self.add("a file's name", path.display().to_string());
            if entry.file_type().unwrap().is_dir() {
                self.files(&path, except);
            } else if !except(&path) {
                self.add(
                    path.display().to_string(),
                    String::from_utf8_lossy(&std::fs::read(&path).unwrap_or_default()),
                );
            }
        }
    }

    fn search(&self) {
        let mut found = Vec::new();
        for (place, text) in &self.0 {
            for mark in MARKS {
                if let Some(at) = text.find(mark) {
                    let around: String = text
                        .chars()
                        .skip(text[..at].chars().count().saturating_sub(160))
                        .take(320)
                        .collect();
                    found.push(format!(
                        "{mark} in {}: ...{around}...",
                        place.chars().take(200).collect::<String>()
                    ));
                }
            }
        }
        assert!(
            found.is_empty(),
            "{} leaks:\n{}",
            found.len(),
            found.join("\n\n")
        );
    }
}

fn origin(request: &Request) -> Reply {
    match request.target.split('?').next().unwrap_or_default() {
        "/missing.png" => Reply::status(404),
        "/closed.png" => Reply::status(401),
        "/redirect.png" => Reply::redirect("/one.png?sig=MARKED-redirect"),
        "/loop.png" => Reply::redirect("/loop.png?sig=MARKED-loop"),
        "/away.png" => Reply::redirect("http://user:MARKED-away@localhost:1/x.png?sig=MARKED-away"),
        path if path.ends_with(".png") => {
            Reply::ok(include_bytes!("../delivered/one.png").to_vec())
                .with("Content-Type", "image/png")
        }
        _ => Reply::ok("weights"),
    }
}

fn environment(stage: Stage, receiver: &Receiver, hub: &hub::Hub, s3: &str, level: &str) -> Stage {
    let events = receiver
        .url("/events")
        .to_string()
        .replace("://", "://user:MARKED-events@");
    stage
        .envs(&[
            ("LOG_LEVEL", level),
            ("ALLOW_PRIVATE_NETWORKS", "true"),
            ("API_KEYS", KEY),
            (
                "WEBHOOK_SECRET",
                "whsec_TUFSS0VELXdlYmhvb2s= whsec_bWFya2VkLW90aGVy",
            ),
        ])
        .envs(&[
            ("HTTP_AUTH_HEADER_NAME", "X-Operator"),
            ("HTTP_AUTH_HEADER_VALUE", "MARKED-operator"),
            ("SYSTEM_WEBHOOK_EVENTS", "all"),
        ])
        .envs(&[
            ("AWS_REGION", "us-east-1"),
            ("AWS_ACCESS_KEY_ID", "AKIAMARKED"),
            ("AWS_SECRET_ACCESS_KEY", "MARKED-aws"),
            ("AWS_SESSION_TOKEN", "MARKED-session"),
        ])
        .envs(&[
            ("AWS_ENDPOINT_URL", s3),
            ("HF_TOKEN", hub::TOKEN),
            ("HF_ENDPOINT", &hub.url),
            ("PROMPT_WEBHOOK_RETRIES", "1"),
            ("HEARTBEAT_INTERVAL", "100"),
        ])
        .env(
            "AZURE_STORAGE_CONNECTION_STRING",
            format!(
                "DefaultEndpointsProtocol=http;AccountName=acc;AccountKey=TUFSS0VELWF6dXJl;\
                 BlobEndpoint={}/acc;",
                nowhere()
            ),
        )
        .envs(&[
            ("AMQP_HOST", "127.0.0.1"),
            ("AMQP_PORT", nowhere().rsplit(':').next().unwrap()),
            ("AMQP_USER", "broker"),
            ("AMQP_PASS", "MARKED-pass/with@signs"),
        ])
        .env(
            "HTTP_PROXY",
            nowhere().replace("://", "://proxyuser:MARKED-proxy@"),
        )
        .env(
            "SYSTEM_WEBHOOK_URL",
            format!("{events}?token=MARKED-events"),
        )
}

async fn check(stage_env: &[(String, String)]) -> String {
    let mut command = tokio::process::Command::new(BINARY);
    command
        .arg("check")
        .env_clear()
        .envs(stage_env.iter().cloned());
    let output = command.output().await.unwrap();
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
