mod declared;
mod forms;

use std::collections::BTreeMap;

use super::Config;

fn config(pairs: &[(&str, &str)]) -> Result<Config, super::ConfigError> {
    let env: BTreeMap<String, String> = pairs
        .iter()
        .map(|(n, v)| ((*n).to_owned(), (*v).to_owned()))
        .collect();
    Config::from_env(&env)
}

#[test]
fn defaults_are_the_documented_ones() {
    let config = config(&[("HOME", "/home/me")]).unwrap();
    assert_eq!(config.server.port, 3000);
    assert_eq!(config.server.host, "::");
    assert_eq!(config.server.max_body_bytes, 100 * 1024 * 1024);
    assert_eq!(config.comfy.command, ["init.sh"]);
    assert_eq!(config.comfy.authority(), "127.0.0.1:8188");
    assert_eq!(
        config.storage.cache.dir.to_str(),
        Some("/home/me/.cache/comfyui-api")
    );
    assert_eq!(config.comfy.input_dir.to_str(), Some("/opt/ComfyUI/input"));
    assert!(
        config.amqp.is_none() && config.webhook.keys.is_empty() && config.prompt.prepend_filenames
    );
}

#[test]
fn all_problems_come_together_and_hide_secrets() {
    let error = config(&[
        ("PORT", "99999"),
        ("CANCEL_ON_DISCONNECT", "maybe"),
        ("SYSTEM_WEBHOOK_EVENTS", "status,nonsense"),
        ("AMQP_URL", "http://user:marked-secret@h"),
        ("MAX_BODY_SIZE_MB", "big"),
        ("HTTP_AUTH_HEADER_NAME", "x key"),
        ("HTTP_AUTH_HEADER_VALUE", "marked-secret"),
    ])
    .unwrap_err();
    let text = error.to_string();
    for name in [
        "PORT=\"99999\"",
        "CANCEL_ON_DISCONNECT=\"maybe\"",
        "nonsense",
        "AMQP_URL",
        "MAX_BODY_SIZE_MB=\"big\"",
        "HTTP_AUTH_HEADER_NAME",
    ] {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
    assert_eq!(error.0.len(), 6, "{text}");
    assert!(!text.contains("marked-secret"), "{text}");
}

#[test]
fn an_empty_cmd_attaches_and_quotes_are_honoured() {
    assert!(config(&[("CMD", "")]).unwrap().comfy.command.is_empty());
    let split = config(&[("CMD", "python main.py --x 'a b'")])
        .unwrap()
        .comfy
        .command;
    assert_eq!(split, ["python", "main.py", "--x", "a b"]);
}

#[test]
fn queue_names_follow_the_instance() {
    let queue = |pairs: &[(&str, &str)]| {
        let mut all = vec![("AMQP_HOST", "broker")];
        all.extend_from_slice(pairs);
        config(&all).unwrap().amqp.unwrap().queue
    };
    assert_eq!(queue(&[]), "q.gpu.20g");
    assert_eq!(queue(&[("INSTANCE_GPU_VRAM", "40G")]), "q.gpu.40g");
    assert_eq!(queue(&[("INSTANCE_IS_FREE", "yes")]), "q.gpu.free");
    assert_eq!(
        queue(&[("INSTANCE_WORKFLOW_ID", "w"), ("INSTANCE_IS_FREE", "1")]),
        "q.workflow.w"
    );
    assert_eq!(
        queue(&[
            ("INSTANCE_DEDICATED_ID", "d"),
            ("INSTANCE_WORKFLOW_ID", "w")
        ]),
        "q.instance.d"
    );
    assert_eq!(
        queue(&[("AMQP_QUEUE_INPUT", "mine"), ("INSTANCE_DEDICATED_ID", "d")]),
        "mine"
    );
}

#[test]
fn secrets_do_not_show_in_debug() {
    let config = config(&[
        ("API_KEYS", "marked-1,marked-2"),
        ("HF_TOKEN", "marked-3"),
        ("WEBHOOK_SECRET", "bWFya2VkLTQ="),
        ("AMQP_HOST", "h"),
        ("AMQP_PASS", "marked-5"),
    ])
    .unwrap();
    assert_eq!(config.server.api_keys.len(), 2);
    let shown = format!("{config:?}");
    assert!(!shown.contains("marked"), "{shown}");
}

/// drop-in.md, D18 and D19.
#[test]
fn tls_and_addresses_of_the_amqp_line() {
    let amqp = |pairs: &[(&str, &str)]| {
        let mut all = vec![("AMQP_HOST", "h")];
        all.extend_from_slice(pairs);
        config(&all).map(|config| config.amqp.unwrap())
    };
    for (pairs, uri) in [
        (&[][..], "amqp://guest:guest@h:5672/%2F"),
        (
            &[("AMQP_PROTOCOL", "amqps")],
            "amqps://guest:guest@h:5671/%2F",
        ),
        (&[("AMQP_PORT", "5671")], "amqps://guest:guest@h:5671/%2F"),
        (
            &[("AMQP_PROTOCOL", "AMQPS"), ("AMQP_PORT", "9")],
            "amqps://guest:guest@h:9/%2F",
        ),
    ] {
        assert_eq!(amqp(pairs).unwrap().uri.expose(), uri);
    }
    let tls = amqp(&[
        ("AMQP_CA_FILE", "/second"),
        ("AMQP_TLS_CA_FILE", "/first"),
        ("AMQP_TLS_CERT_FILE", "/c"),
        ("AMQP_TLS_KEY_FILE", "/k"),
        ("AMQP_TLS_REJECT_UNAUTHORIZED", "false"),
        ("AMQP_SNI", "broker.example"),
    ])
    .unwrap()
    .tls;
    assert_eq!(tls.ca_file.unwrap().to_str(), Some("/first"));
    assert!(tls.identity.is_some() && tls.any_certificate);
    assert_eq!(tls.server_name.as_deref(), Some("broker.example"));
    for wrong in [
        ("AMQP_TLS_CERT_FILE", "/c"),
        ("AMQP_TLS_KEY_FILE", "/k"),
        ("AMQP_PROTOCOL", "http"),
        ("AMQP_SERVERNAME", "a b"),
        ("AMQP_TLS_REJECT_UNAUTHORIZED", "none"),
    ] {
        assert!(amqp(&[wrong]).is_err(), "{wrong:?}");
    }
    let instance = |pairs: &[(&str, &str)]| amqp(pairs).unwrap().instance;
    assert_eq!(instance(&[]).api_url, "http://localhost:3000");
    let meta = [("SYSTEM_META_host", "http://pod-7:3000")];
    assert_eq!(instance(&meta).api_url, "http://pod-7:3000");
    assert_eq!(
        (
            &*instance(&meta).public_url,
            &*instance(&meta).public_ws_url
        ),
        ("", "")
    );
    let both = [("API_URL", "http://me"), meta[0]];
    assert_eq!(instance(&both).api_url, "http://me");
}
