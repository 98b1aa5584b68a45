//! Values in the forms in which other tools, platforms and the Node server take them.

use super::super::Config;
use super::config;

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

/// drop-in.md, D14: what the Node server would have made of the value, with one warning that says
/// so.
#[test]
#[expect(clippy::too_many_lines, reason = "a table of cases")]
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
