use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::variables::VARIABLES;
use super::{Config, Env};

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
        ("ALWAYS_RESTART_COMFYUI", "maybe"),
        ("SYSTEM_WEBHOOK_EVENTS", "status,nonsense"),
        ("AMQP_URL", "http://user:marked-secret@h"),
        ("WEBHOOK_SECRET", "whsec_!!marked-secret"),
        ("HTTP_AUTH_HEADER_NAME", "x key"),
        ("HTTP_AUTH_HEADER_VALUE", "marked-secret"),
    ])
    .unwrap_err();
    let text = error.to_string();
    for name in [
        "PORT=\"99999\"",
        "ALWAYS_RESTART_COMFYUI=\"maybe\"",
        "nonsense",
        "AMQP_URL",
        "WEBHOOK_SECRET",
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

/// An environment that notes which names are asked for.
#[derive(Default)]
struct Recorder(RefCell<BTreeSet<String>>);

impl Env for Recorder {
    fn get(&self, name: &str) -> Option<String> {
        self.0.borrow_mut().insert(name.to_owned());
        None
    }
    fn all(&self) -> Vec<(String, String)> {
        Vec::new()
    }
}

#[test]
fn the_list_of_variables_and_the_code_agree() {
    let recorder = Recorder::default();
    let mut asked = {
        Config::from_env(&recorder).unwrap();
        recorder.0.into_inner()
    };
    // Read only next to others that are unset here, or not ours to document.
    for name in ["AMQP_USER", "AMQP_PASS", "AMQP_VHOST"] {
        asked.insert(name.to_owned());
    }
    asked.retain(|name| {
        !matches!(
            name.as_str(),
            "HOME"
                | "PATH"
                | "VIRTUAL_ENV"
                | "CONDA_DEFAULT_ENV"
                | "http_proxy"
                | "https_proxy"
                | "no_proxy"
        ) && !name.starts_with("SALAD_")
    });
    let listed: BTreeSet<String> = VARIABLES
        .iter()
        .flat_map(|(_, group)| *group)
        .map(|v| v.name.to_owned())
        .filter(|name| !name.ends_with('*'))
        .collect();
    assert_eq!(asked, listed);
}

/// D12, D13.
#[test]
fn proxies_and_the_operators_header_as_other_tools_read_them() {
    let storage = |pairs: &[(&str, &str)]| config(pairs).unwrap().storage;
    let proxy = storage(&[
        ("HTTP_PROXY", "http://upper:1"),
        ("http_proxy", "http://lower:1"),
        ("NO_PROXY", "a"),
        ("no_proxy", "b"),
    ])
    .proxy;
    assert_eq!(proxy.http.unwrap().expose(), "http://lower:1");
    assert_eq!(proxy.https.unwrap().expose(), "http://lower:1");
    assert_eq!(proxy.no_proxy.as_deref(), Some("b"));
    let proxy = storage(&[("HTTP_PROXY", "http://a:1"), ("HTTPS_PROXY", "http://b:1")]).proxy;
    assert_eq!(proxy.https.unwrap().expose(), "http://b:1");
    // A name without a value is no header, and no error.
    let incomplete = storage(&[("HTTP_AUTH_HEADER_NAME", "x-key")]);
    assert!(incomplete.http_auth.is_none() && incomplete.warnings(false).len() == 1);
    let header = [
        ("HTTP_AUTH_HEADER_NAME", "x-key"),
        ("HTTP_AUTH_HEADER_VALUE", "v"),
    ];
    let unlimited = storage(&header);
    assert_eq!(
        (
            unlimited.warnings(true).len(),
            unlimited.warnings(false).len()
        ),
        (1, 0)
    );
    assert_eq!(unlimited.http_auth.unwrap().origins, None);
    let limited = [
        &header[..],
        &[(
            "HTTP_AUTH_ALLOWED_ORIGINS",
            "https://a.example:443, http://b:9/",
        )],
    ]
    .concat();
    assert_eq!(
        storage(&limited).http_auth.unwrap().origins.unwrap(),
        ["https://a.example", "http://b:9"]
    );
    let wrong = [
        &header[..],
        &[("HTTP_AUTH_ALLOWED_ORIGINS", "https://a.example/path")],
    ]
    .concat();
    assert!(
        config(&wrong)
            .unwrap_err()
            .to_string()
            .contains("HTTP_AUTH_ALLOWED_ORIGINS")
    );
}
