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
    // COMFYUI_PASS_ENV is read where a child's environment is made.
    for name in ["AMQP_USER", "AMQP_PASS", "AMQP_VHOST", "COMFYUI_PASS_ENV"] {
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
                | "SYSTEM_META_host"
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

/// drop-in.md, D14: what the Node server would have made of the value, with one warning that says so.
#[test]
fn what_javascript_took_starts_with_a_warning() {
    let gib = 1024.0 * 1024.0 * 1024.0;
    for (name, value, understood, read) in [
        (
            "LRU_CACHE_SIZE_GB",
            "50GB",
            "50",
            (|config: &Config| config.storage.cache.max_bytes as f64) as fn(&Config) -> f64,
        ),
        ("LRU_CACHE_SIZE_GB", "-3", "0", |config| {
            config.storage.cache.max_bytes as f64
        }),
        ("MAX_BODY_SIZE_MB", "100MB", "100", |config| {
            config.server.max_body_bytes as f64
        }),
        ("STARTUP_CHECK_INTERVAL_S", "1s", "1", |config| {
            config.comfy.startup_check_interval.as_secs_f64()
        }),
        ("MAX_QUEUE_DEPTH", "10.0", "10", |config| {
            config.server.max_queue_depth as f64
        }),
        ("PROMPT_WEBHOOK_RETRIES", "-1", "0", |config| {
            f64::from(config.webhook.retries)
        }),
        ("ALWAYS_RESTART_COMFYUI", "on", "false", |config| {
            f64::from(u8::from(config.comfy.always_restart))
        }),
        ("PREPEND_FILENAMES", "None", "false", |config| {
            f64::from(u8::from(config.prompt.prepend_filenames))
        }),
    ] {
        let config = config(&[(name, value)]).unwrap();
        assert_eq!(config.warnings.len(), 1, "{name}: {:?}", config.warnings);
        let warning = &config.warnings[0];
        assert!(
            warning.contains(name) && warning.contains(value) && warning.contains(understood),
            "{warning}"
        );
        let unit = match name {
            "LRU_CACHE_SIZE_GB" => gib,
            "MAX_BODY_SIZE_MB" => 1024.0 * 1024.0,
            _ => 1.0,
        };
        let expected = understood
            .parse::<f64>()
            .unwrap_or(f64::from(u8::from(understood == "true")));
        assert_eq!(read(&config), expected * unit, "{name}={value}");
    }
    let quiet = config(&[("LOG_LEVEL", "silent")]).unwrap();
    assert_eq!(
        (quiet.log.level.as_str(), quiet.warnings.len()),
        ("fatal", 1)
    );
    for (name, value) in [
        ("ALWAYS_RESTART_COMFYUI", "yes"),
        ("ALWAYS_RESTART_COMFYUI", "TRUE"),
        ("LRU_CACHE_SIZE_GB", "0.5"),
    ] {
        assert!(config(&[(name, value)]).unwrap().warnings.is_empty());
    }
    // What no reading gives a sense to; our own variables; ports.
    for (name, value) in [
        ("MAX_BODY_SIZE_MB", "big"),
        ("MAX_BODY_SIZE_MB", "-1"),
        ("MAX_CONCURRENT_DOWNLOADS", "none"),
        ("MAX_QUEUE_DEPTH", ".x"),
        ("LOG_LEVEL", "loud"),
        ("AMQP_PREFETCH", "2x"),
        ("SHUTDOWN_GRACE_S", "30s"),
        ("CANCEL_ON_DISCONNECT", "on"),
        ("AMQP_PORT", "56a"),
        ("PORT", "3000/tcp"),
    ] {
        let error = config(&[(name, value)]).unwrap_err();
        assert!(error.0.len() == 1 && error.0[0].contains(name), "{error}");
    }
}

/// faults.md, F05: a guard whose list came out empty must close, not open.
#[test]
fn a_list_that_holds_nothing_is_a_problem() {
    for name in [
        "API_KEYS",
        "CORS_ALLOWED_ORIGINS",
        "HTTP_TRUSTED_ORIGINS",
        "ALLOWED_INPUT_PATHS",
        "SYSTEM_WEBHOOK_EVENTS",
        "SUPPORTED_MODELS",
    ] {
        for value in [",", " , ,", ",,"] {
            let error = config(&[(name, value)]).unwrap_err();
            assert!(
                error.0.len() == 1 && error.0[0].contains(name),
                "{name}={value}: {error}"
            );
        }
        assert!(config(&[(name, " ")]).is_ok(), "blank is unset: {name}");
    }
    let error = config(&[("METRICS_REQUIRE_KEY", "true")]).unwrap_err();
    assert!(error.to_string().contains("API_KEYS"), "{error}");
    let guarded = config(&[("METRICS_REQUIRE_KEY", "true"), ("API_KEYS", ",a")]).unwrap();
    assert!(guarded.server.metrics_require_key && guarded.server.api_keys.len() == 1);
}

/// faults.md, F15: `<SERVICE>_PORT` as Kubernetes sets it.
#[test]
fn service_links_are_no_mistakes() {
    let link = "tcp://10.0.0.1:5673";
    let alone = config(&[("AMQP_PORT", link)]).unwrap();
    assert!(alone.amqp.is_none() && alone.warnings.len() == 1);
    assert!(
        alone.warnings[0].contains("AMQP_PORT")
            && alone.warnings[0].contains("enableServiceLinks: false")
    );
    let with_host = config(&[("AMQP_PORT", link), ("AMQP_HOST", "rabbit")]).unwrap();
    assert_eq!(with_host.warnings.len(), 1);
    assert_eq!(
        with_host.amqp.unwrap().uri.expose(),
        "amqp://guest:guest@rabbit:5673/%2F"
    );
    let with_url = config(&[("AMQP_PORT", link), ("AMQP_URL", "amqp://h:5")]).unwrap();
    assert_eq!(with_url.amqp.unwrap().uri.expose(), "amqp://h:5");
    let ours = config(&[
        ("PORT", "tcp://[fd00::1]:80"),
        ("COMFYUI_PORT_HOST", "tcp://10.0.0.1:80"),
    ])
    .unwrap();
    assert_eq!(
        (ours.server.port, ours.comfy.port, ours.warnings.len()),
        (3000, 8188, 2)
    );
    for other in ["tcp://10.0.0.1", "udp://10.0.0.1:53", "http://h:80", "56a"] {
        assert!(config(&[("AMQP_PORT", other)]).is_err(), "{other}");
    }
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

/// drop-in.md, D07: one key for each word, and the Node server's reading of the whole text.
#[test]
fn any_text_is_a_webhook_secret() {
    let keys = |secret: &str| {
        let config = config(&[("WEBHOOK_SECRET", secret)]).unwrap();
        let keys: Vec<Vec<u8>> = config
            .webhook
            .keys
            .iter()
            .map(|key| key.0.clone())
            .collect();
        (keys, config.warnings.len())
    };
    assert_eq!(keys("bWFya2Vk"), (vec![b"marked".to_vec()], 0));
    let (prefixed, warned) = keys("whsec_bWFya2Vk");
    assert_eq!(
        (prefixed.len(), &*prefixed[0], warned),
        (2, &b"marked"[..], 0)
    );
    let (two, warned) = keys("bWFya2Vk whsec_b3RoZXI=");
    assert_eq!((two.len(), &*two[1], warned), (3, &b"other"[..], 0));
    for odd in ["abcde", "p@ssw0rd", "some words here", "!"] {
        let (found, warned) = keys(odd);
        assert!(!found.is_empty() && warned == 1, "{odd}");
    }
}

/// A22: what cannot be sent is known at the start.
#[test]
fn values_that_cannot_be_sent_are_problems() {
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AK\nB"),
        ("AWS_SECRET_ACCESS_KEY", "a\u{0}b"),
        ("AWS_SESSION_TOKEN", "ü"),
        ("AWS_REGION", "eu\rx"),
        ("HF_TOKEN", "a\nb"),
        ("AZURE_STORAGE_KEY", "a\tb"),
    ] {
        let error = config(&[(name, value)]).unwrap_err();
        assert_eq!(error.0.len(), 1, "{error}");
        assert!(
            error.0[0].contains(name) && !error.0[0].contains(value),
            "{error}"
        );
    }
    let header = [
        ("HTTP_AUTH_HEADER_NAME", "x-key"),
        ("HTTP_AUTH_HEADER_VALUE", "a\nb"),
    ];
    assert!(config(&header).is_err());
    // White space at the end is what files of secrets have.
    assert!(config(&[("HF_TOKEN", "hf_x\n")]).is_ok());
}
