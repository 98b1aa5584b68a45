//! What is said wrongly ends the start with 2.

use crate::support::product::{Stage, free_ports};

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_together_ends_the_start_with_2() {
    let port = free_ports(3);
    let own = (port + 2).to_string();
    let ports = port.to_string();
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("COMFYUI_INSTANCES", "0")], "COMFYUI_INSTANCES"),
        (&[("COMFYUI_INSTANCES", "many")], "COMFYUI_INSTANCES"),
        (
            &[("COMFYUI_INSTANCES", "3"), ("COMFYUI_DEVICES", "0;1")],
            "COMFYUI_DEVICES",
        ),
        (&[("COMFYUI_DEVICES", "0;1")], "COMFYUI_DEVICES"),
        (
            &[("COMFYUI_INSTANCES", "2"), ("COMFYUI_DEVICES", "0;;1")],
            "COMFYUI_DEVICES",
        ),
        (
            &[("COMFYUI_INSTANCES", "2"), ("COMFYUI_INSTANCE_ARGS", "'x")],
            "COMFYUI_INSTANCE_ARGS",
        ),
        (
            &[
                ("COMFYUI_INSTANCES", "3"),
                ("COMFYUI_PORT_HOST", &ports),
                ("PORT", &own),
            ],
            &own,
        ),
        (
            &[("COMFYUI_INSTANCES", "3"), ("COMFYUI_PORT_HOST", "65534")],
            "65536",
        ),
        (&[("COMFYUI_URLS", "http://127.0.0.1:1")], "COMFYUI_URLS"),
        (
            &[("CMD", ""), ("COMFYUI_URLS", "https://127.0.0.1:1")],
            "COMFYUI_URLS",
        ),
        (
            &[("CMD", ""), ("COMFYUI_URLS", "http://a:1,http://a:1")],
            "twice",
        ),
        (
            &[
                ("CMD", ""),
                ("COMFYUI_URLS", "http://a:1,http://b:1"),
                ("COMFYUI_INSTANCES", "3"),
            ],
            "COMFYUI_INSTANCES",
        ),
        (&[("MODEL_SWITCH_JOBS", "-1")], "MODEL_SWITCH_JOBS"),
    ];
    for (env, named) in cases {
        let mut product = Stage::new().envs(env).spawn();
        assert_eq!(product.ended().await.code(), Some(2), "{env:?}");
        product.log.line(named).await;
    }
}
