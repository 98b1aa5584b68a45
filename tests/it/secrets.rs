//! secrets: marked ones everywhere, everything that can go well or wrong, and a search through all
//! that the product wrote.

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};

use crate::delivered::{failing, nowhere, picture};
use crate::support::origin::{Origin, Reply, Request};
use crate::support::product::{BINARY, Product, Stage, until};
use crate::support::receiver::{Behaviour, Receiver};
use crate::support::{hub, moto};

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
        path if path.ends_with(".png") => Reply::ok(include_bytes!("delivered/one.png").to_vec())
            .with("Content-Type", "image/png"),
        _ => Reply::ok("weights"),
    }
}

/// The origin's URL with userinfo and a signed query.
fn signed(origin: &Origin, path: &str) -> String {
    let url = origin.url(path).replace("://", "://user:MARKED-userinfo@");
    format!("{url}?X-Amz-Signature=MARKED-query&sig=MARKED-sig&token=MARKED-token#MARKED-fragment")
}

fn loads(url: &str) -> Value {
    let mut graph = picture(1);
    graph["1"] = json!({"class_type": "LoadImage", "inputs": {"image": url}});
    graph
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

async fn everything(level: &str) {
    let (receiver, hub, origin) = (
        Receiver::start().await,
        hub::Hub::start().await,
        Origin::start(|request, _| origin(request)).await,
    );
    let s3 = tokio::task::spawn_blocking(moto::url).await.unwrap();
    let bucket = moto::bucket().await;
    let spool = tempfile::tempdir().unwrap();
    let after = json!({
        "models": {
            "after_start": [
                {"url": signed(&origin, "/missing.bin"), "local_path": "models/vae/late.bin"},
                {"url": signed(&origin, "/missing.png"), "local_path": "models/vae/never.bin"}
            ]
        }
    });
    let stage = environment(Stage::new(), &receiver, &hub, s3, level)
        .env("MANIFEST_JSON", &after)
        .env("WEBHOOK_SPOOL_DIR", spool.path().display());
    let environment = stage.environment();
    let mut product = stage.start().await;
    let mut heard = Heard::default();
    heard.add("check", check(&environment).await);

    // Downloads with each kind of credentials.
    let kinds = [
        json!({"type": "bearer", "token": "MARKED-bearer"}),
        json!({"type": "basic", "username": "u", "password": "MARKED-basic"}),
        json!({"type": "header", "header_name": "X-Secret", "header_value": "MARKED-header"}),
        json!({"type": "query", "query_param": "apikey", "query_value": "MARKED-query"}),
        json!({
            "type": "s3",
            "access_key_id": "AKIAMARKED2",
            "secret_access_key": "MARKED-s3",
            "session_token": "MARKED-token"
        }),
    ];
    for (n, auth) in kinds.iter().enumerate() {
        let url = if n == 4 {
            format!("s3://{bucket}/none.bin")
        } else {
            signed(&origin, &format!("/m{n}.safetensors"))
        };
        let (status, text) = heard
            .ask(
                &product,
                "POST",
                "/download",
                &json!({
                    "url": url,
                    "model_type": "loras",
                    "filename": format!("m{n}.safetensors"),
                    "auth": auth,
                    "wait": true
                }),
            )
            .await;
        assert_eq!(status, if n == 4 { 400 } else { 200 }, "{text}");
        let credentials = json!([{"url_pattern": "**", "auth": auth}]);
        let url = if n == 4 {
            format!("s3://{bucket}/none.png")
        } else {
            signed(&origin, &format!("/p{n}.png"))
        };
        let status = if n == 4 { 400 } else { 200 };
        heard
            .prompt(
                &product,
                json!({
                    "prompt": loads(&url),
                    "credentials": credentials,
                    "extra_data": {"api_key_comfy_org": "MARKED-comfy"}
                }),
                status,
            )
            .await;
        if n < 4 {
            // Cached, protected, and asked for without credentials.
            heard
                .prompt(&product, json!({"prompt": loads(&url)}), 200)
                .await;
            heard
                .prompt(
                    &product,
                    json!({
                        "prompt": loads(&signed(&origin, "/closed.png")),
                        "credentials": credentials
                    }),
                    400,
                )
                .await;
        }
    }
    for path in ["/missing.png", "/closed.png", "/loop.png", "/away.png"] {
        heard
            .prompt(
                &product,
                json!({"id": "bad", "prompt": loads(&signed(&origin, path))}),
                400,
            )
            .await;
    }
    heard
        .prompt(
            &product,
            json!({"prompt": loads(&signed(&origin, "/redirect.png"))}),
            200,
        )
        .await;
    for auth in [
        json!("MARKED"),
        json!({"type": "magic", "token": "MARKED"}),
        json!({"type": "bearer", "token": ["MARKED"]}),
        json!({"type": "basic", "username": "MARKED"}),
    ] {
        let url = origin.url("/m.bin");
        heard
            .ask(
                &product,
                "POST",
                "/models",
                &json!({"url": url, "type": "vae", "auth": auth}),
            )
            .await;
        heard
            .ask(
                &product,
                "POST",
                "/download",
                &json!({"url": url, "model_type": "vae", "auth": auth}),
            )
            .await;
        heard
            .prompt(
                &product,
                json!({"prompt": picture(1), "credentials": [{"url_pattern": "**", "auth": auth}]}),
                400,
            )
            .await;
    }
    // Mistyped, unresolvable, and through the proxy that is not there.
    for url in [
        "http:/user:MARKED@host/x.png",
        "https//user:MARKED@host/x.png?sig=MARKED",
        "http://user:MARKED@/x.png?sig=MARKED",
        "ftp://user:MARKED@host/x.png",
        "s3://MARKED@/",
    ] {
        heard
            .ask(&product, "POST", "/prompt", &json!({"prompt": loads(url)}))
            .await;
        heard
            .ask(
                &product,
                "POST",
                "/models",
                &json!({"url": url, "type": "vae"}),
            )
            .await;
        let checkpoint = json!({
            "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": url}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
        });
        heard
            .ask(&product, "POST", "/prompt", &json!({"prompt": checkpoint}))
            .await;
        heard
            .ask(
                &product,
                "POST",
                "/prompt",
                &json!({"prompt": picture(1), "webhook_v2": url}),
            )
            .await;
        heard
            .ask(
                &product,
                "POST",
                "/prompt",
                &json!({"prompt": picture(1), "http_upload": {"url_prefix": url}}),
            )
            .await;
    }

    // Prompts that end in every way, with a webhook whose URL is secret; streams; uploads.
    let hook = |path: &str| {
        format!(
            "{}?token=MARKED-hook",
            receiver
                .url(path)
                .to_string()
                .replace("://", "://user:MARKED-hook@")
        )
    };
    receiver.behave(
        "/deaf",
        Behaviour::Answer(reqwest::StatusCode::INTERNAL_SERVER_ERROR),
    );
    let secret =
        json!({"api_key_comfy_org": "MARKED-comfy", "auth_token_comfy_org": "MARKED-comfy2"});
    let hooked = |id: &str, prompt: Value, path: &str| {
        json!({
            "id": id,
            "prompt": prompt,
            "webhook_v2": hook(path),
            "extra_data": secret
        })
    };
    heard
        .prompt(&product, hooked("well", picture(1), "/well"), 202)
        .await;
    heard
        .prompt(&product, hooked("fails", failing(), "/fails"), 202)
        .await;
    heard
        .prompt(&product, hooked("deaf", picture(1), "/deaf"), 202)
        .await;
    heard.prompt(
        &product,
        json!({"id": "old", "prompt": picture(1), "webhook": hook("/old"), "extra_data": secret}),
        202
    ).await;
    heard
        .prompt(
            &product,
            json!({
                "prompt": {"1": {"class_type": "Nothing", "inputs": {"filename_prefix": "x"}}},
                "extra_data": secret
            }),
            400,
        )
        .await;
    heard
        .prompt(
            &product,
            json!({"prompt": failing(), "extra_data": secret}),
            500,
        )
        .await;
    heard
        .ask_as(
            &product,
            "POST",
            "/prompt",
            &hooked("stream", picture(1), "/stream"),
            KEY,
            "text/event-stream",
        )
        .await;
    let put = receiver
        .url("/put")
        .to_string()
        .replace("://", "://user:MARKED-put@");
    heard
        .prompt(
            &product,
            json!({"id": "put", "prompt": picture(1), "http_upload": {"url_prefix": put}}),
            200,
        )
        .await;
    heard
        .prompt(
            &product,
            json!({"id": "s3", "prompt": picture(1), "s3": {"bucket": bucket, "prefix": ""}}),
            200,
        )
        .await;
    heard
        .prompt(
            &product,
            json!({"id": "hf", "prompt": picture(1), "hf_upload": {"repo": "owner/model"}}),
            200,
        )
        .await;
    let dead = nowhere().replace("://", "://user:MARKED-put@");
    let (mut one, mut two, mut three) = (Heard::default(), Heard::default(), Heard::default());
    tokio::join!(
        one.prompt(
            &product,
            json!({"id": "dead", "prompt": picture(1), "http_upload": {"url_prefix": dead}}),
            502
        ),
        two.prompt(
            &product,
            json!({
                "id": "az",
                "prompt": picture(1),
                "azure_blob_upload": {"container": "container"}
            }),
            502
        ),
        three.prompt(
            &product,
            json!({
                "id": "nos3",
                "prompt": picture(1),
                "s3": {"bucket": "no-bucket", "prefix": ""}
            }),
            502
        ),
    );
    heard.0.extend([one.0, two.0, three.0].concat());
    heard
        .ask(
            &product,
            "POST",
            "/prompt",
            &json!({"prompt": loads("http://user:MARKED@proxied.example/x.png?sig=MARKED")}),
        )
        .await;

    for path in [
        "/queue",
        "/prompt/bad",
        "/prompt/deaf",
        "/models",
        "/metrics",
        "/docs",
        "/docs/json",
        "/docs/yaml",
        "/openapi.json",
        "/health",
        "/ready",
        "/nothing?key=MARKED",
    ] {
        heard.ask(&product, "GET", path, &Value::Null).await;
    }
    heard
        .ask_as(
            &product,
            "GET",
            "/queue",
            &Value::Null,
            "MARKED-wrong-key",
            "*/*",
        )
        .await;
    for path in ["/well", "/fails", "/old", "/stream"] {
        receiver.wait(path, 1).await;
    }
    receiver.wait("/deaf", 2).await;
    until("the spool holds what could not be delivered", async || {
        std::fs::read_dir(spool.path())
            .unwrap()
            .flatten()
            .next()
            .map(|_| ())
    })
    .await;
    assert_eq!(product.stop().await, Some(0));

    for path in ["/well", "/fails", "/deaf", "/old", "/stream", "/events"] {
        for received in receiver.at(path) {
            heard.add(
                format!("webhook {path}"),
                String::from_utf8_lossy(&received.body),
            );
        }
    }
    assert!(receiver.at("/events").len() > 20);
    let home = product.path("");
    heard.files(&home.join("cache"), |_| false);
    heard.files(&home.join("output"), |_| false);
    heard.files(&home.join("input"), |_| false);
    heard.files(&home.join("models"), |_| false);
    heard.files(&home.join("tmp"), |_| false);
    // The documented exception: a delivery needs its URL, so its file is for its owner only.
    heard.files(spool.path(), |path| {
        path.extension()
            .is_some_and(|extension| extension == "webhook")
    });
    for line in product.log.lines() {
        heard.add("the log", line);
    }
    assert!(
        product.log.lines().len() > 50
            && std::fs::read_dir(home.join("cache"))
                .unwrap()
                .flatten()
                .any(|entry| entry.path().extension().is_some_and(|e| e == "meta"))
    );
    heard.search();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaks_at_info() {
    everything("info").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_leaks_at_trace() {
    everything("trace").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_manifest_and_a_bad_configuration_keep_their_secrets() {
    let origin = Origin::start(|_, _| Reply::status(403)).await;
    let url = origin
        .url("/owner/repo.git")
        .replace("://", "://oauth2:MARKED-git@");
    for manifest in [
        json!({"custom_nodes": [url]}),
        json!({"custom_nodes": [url], "unknown": "MARKED"}),
        json!({
            "models": {
                "before_start": [{"url": format!("{url}?sig=MARKED"), "local_path": "models/x.bin"}]
            }
        }),
    ] {
        let stage = Stage::new()
            .envs(&[("LOG_LEVEL", "trace"), ("ALLOW_PRIVATE_NETWORKS", "true")])
            .env("MANIFEST_JSON", &manifest);
        let environment = stage.environment();
        let mut product = stage.spawn();
        let ended = tokio::time::timeout(Duration::from_secs(60), product.ended())
            .await
            .unwrap();
        assert_eq!(ended.code(), Some(1), "{}", product.log.text());
        let mut heard = Heard::default();
        heard.add("the log", product.log.text());
        heard.add("check", check(&environment).await);
        heard.search();
    }
    let bad = [
        ("WEBHOOK_SECRET", "MARKED not base64!"),
        ("HTTP_PROXY", "MARKED"),
        ("AMQP_URL", "http://u:MARKED@h"),
        ("HTTP_AUTH_HEADER_VALUE", "MARKED\u{1}"),
        ("HF_ENDPOINT", "ftp://u:MARKED@h"),
        ("AWS_ENDPOINT_URL", "u:MARKED@h"),
        ("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=MARKED"),
        ("SYSTEM_WEBHOOK_URL", "//u:MARKED@h?token=MARKED"),
        ("WARMUP_PROMPT_URL", "//u:MARKED@h?token=MARKED"),
        ("MANIFEST_JSON", "{\"MARKED"),
        ("PORT", "x"),
    ];
    let stage = Stage::new().envs(&bad);
    let environment = stage.environment();
    let mut product = stage.spawn();
    assert_eq!(product.ended().await.code(), Some(2));
    until("the problems are printed", async || {
        (product.log.count("PORT") > 0).then_some(())
    })
    .await;
    let mut heard = Heard::default();
    heard.add("the log", product.log.text());
    heard.add("check", check(&environment).await);
    heard.search();
}
