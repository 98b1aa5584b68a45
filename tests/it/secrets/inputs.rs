//! Downloads and inputs with marked secrets, and mistakes in both.

use serde_json::json;

use super::Heard;
use super::everything::{loads, signed};
use crate::delivered::picture;
use crate::support::origin::Origin;
use crate::support::product::Product;

/// Downloads with each kind of credentials.
pub(super) async fn credentials(
    heard: &mut Heard,
    product: &Product,
    origin: &Origin,
    bucket: &str,
) {
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
            signed(origin, &format!("/m{n}.safetensors"))
        };
        let (status, text) = heard
            .ask(
                product,
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
            signed(origin, &format!("/p{n}.png"))
        };
        let status = if n == 4 { 400 } else { 200 };
        heard
            .prompt(
                product,
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
                .prompt(product, json!({"prompt": loads(&url)}), 200)
                .await;
            heard
                .prompt(
                    product,
                    json!({
                        "prompt": loads(&signed(origin, "/closed.png")),
                        "credentials": credentials
                    }),
                    400,
                )
                .await;
        }
    }
}

/// What is not there, or asked for with credentials that are none.
pub(super) async fn refused_downloads(heard: &mut Heard, product: &Product, origin: &Origin) {
    for path in ["/missing.png", "/closed.png", "/loop.png", "/away.png"] {
        heard
            .prompt(
                product,
                json!({"id": "bad", "prompt": loads(&signed(origin, path))}),
                400,
            )
            .await;
    }
    heard
        .prompt(
            product,
            json!({"prompt": loads(&signed(origin, "/redirect.png"))}),
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
                product,
                "POST",
                "/models",
                &json!({"url": url, "type": "vae", "auth": auth}),
            )
            .await;
        heard
            .ask(
                product,
                "POST",
                "/download",
                &json!({"url": url, "model_type": "vae", "auth": auth}),
            )
            .await;
        heard
            .prompt(
                product,
                json!({"prompt": picture(1), "credentials": [{"url_pattern": "**", "auth": auth}]}),
                400,
            )
            .await;
    }
}

/// URLs that are mistyped, and those that cannot be resolved.
pub(super) async fn mistyped(heard: &mut Heard, product: &Product) {
    for url in [
        "http:/user:MARKED@host/x.png",
        "https//user:MARKED@host/x.png?sig=MARKED",
        "http://user:MARKED@/x.png?sig=MARKED",
        "ftp://user:MARKED@host/x.png",
        "s3://MARKED@/",
    ] {
        heard
            .ask(product, "POST", "/prompt", &json!({"prompt": loads(url)}))
            .await;
        heard
            .ask(
                product,
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
            .ask(product, "POST", "/prompt", &json!({"prompt": checkpoint}))
            .await;
        heard
            .ask(
                product,
                "POST",
                "/prompt",
                &json!({"prompt": picture(1), "webhook_v2": url}),
            )
            .await;
        heard
            .ask(
                product,
                "POST",
                "/prompt",
                &json!({"prompt": picture(1), "http_upload": {"url_prefix": url}}),
            )
            .await;
    }
}
