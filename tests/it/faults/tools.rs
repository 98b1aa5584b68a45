//! A15: tools get neither the server's own secrets nor what only custom nodes use.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::support::graphs::{loaded, picture};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Stage, until};

const KEPT: [(&str, &str); 10] = [
    ("WEBHOOK_SECRET", "kept-1-0123456789abcdef0123456789"),
    ("HTTP_AUTH_HEADER_NAME", "x-auth"),
    ("HTTP_AUTH_HEADER_VALUE", "kept-2"),
    ("SYSTEM_WEBHOOK_URL", "http://127.0.0.1:9/kept-3"),
    ("AZURE_STORAGE_SAS_TOKEN", "kept-4"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "x-key=kept-5"),
    ("AWS_ACCESS_KEY_ID", "kept-6"),
    ("AWS_SECRET_ACCESS_KEY", "kept-7"),
    ("HF_TOKEN", "kept-8"),
    ("HUGGING_FACE_HUB_TOKEN", "kept-9"),
];

#[tokio::test]
async fn no_tool_gets_the_servers_secrets() {
    let stage = Stage::new().file("manifest.yml", "apt: [a-package]\npip: [another]\n");
    let (bin, seen) = (stage.path("bin"), stage.path("seen"));
    for folder in [&bin, &seen] {
        std::fs::create_dir(folder).unwrap();
    }
    // Each says what it got. Only ffmpeg and git are asked for what they cannot do.
    let script = format!(
        "#!/bin/sh\nenv >> '{}/'\"${{0##*/}}\"\ncase \"${{0##*/}}\" in ffmpeg|git) exit 1;; esac\n",
        seen.display()
    );
    let tools = ["apt-get", "uv", "git", "ffmpeg"];
    for tool in tools {
        let path = bin.join(tool);
        std::fs::write(&path, &script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let manifest = stage.path("manifest.yml").display().to_string();
    let origin = Origin::start(|_, _| Reply::ok("refs")).await;
    let product = stage
        .envs(&KEPT)
        .env("PATH", path)
        .env("MANIFEST", manifest)
        .env("ALLOW_PRIVATE_NETWORKS", "true")
        .env("SALAD_MACHINE_ID", "passed-1")
        .start()
        .await;
    let mut clone = loaded("x.png");
    clone["1"] =
        json!({"class_type": "DiffusersLoader", "inputs": {"model_path": origin.url("/x.git")}});
    let (status, answer) = product.prompt(&json!({"prompt": clone})).await;
    assert!((400..600).contains(&status), "{answer}");
    let body = json!({"prompt": picture("x"), "convert_output": {"format": "mp4"}});
    let (status, answer) = product.prompt(&body).await;
    assert!((200..600).contains(&status), "{answer}");
    for tool in tools {
        let said = until(&format!("{tool} is run"), async || {
            std::fs::read_to_string(seen.join(tool)).ok()
        })
        .await;
        assert!(said.contains("passed-1"), "{tool}: {said}");
        for (name, value) in KEPT.iter().filter(|(_, value)| value.contains("kept")) {
            assert!(!said.contains(value), "{tool} gets {name}");
        }
    }
}
