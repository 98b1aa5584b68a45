//! Announced uploads, `asset:<id>` in graphs, thumbnails.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::ended;
use crate::support::graphs::{colour_of, loaded, png};
use crate::support::product::{Product, Stage};

/// An address as the server announces it: signed with the key in its state directory.
fn token(state: &Path, id: &str, lives: i64, name: &str) -> String {
    let now = i64::try_from(
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    )
    .unwrap();
    let ticket = json!({"i": id, "u": now + lives, "f": name});
    let text = URL_SAFE_NO_PAD.encode(ticket.to_string());
    let key: [u8; 32] = std::fs::read(state.join("signing.key"))
        .unwrap()
        .try_into()
        .unwrap();
    let signature = blake3::keyed_hash(&key, format!("upload|{text}").as_bytes());
    format!("{text}.{}", &signature.to_hex()[..48])
}

async fn put(product: &Product, token: &str, bytes: Vec<u8>) -> (u16, Value) {
    let sent = product
        .http
        .put(format!("{}/uploads/{token}", product.url))
        .body(bytes)
        .send()
        .await
        .unwrap();
    let status = sent.status().as_u16();
    (status, sent.json().await.unwrap())
}

#[tokio::test]
async fn an_announced_upload_is_taken_once_without_a_key_and_is_an_input_everywhere() {
    let product = Stage::new()
        .envs(&[("API_KEYS", "sesame"), ("V2_MAX_UPLOAD_MB", "0.5")])
        .start()
        .await;
    let state = product.path(".local/state/comfyui-api");
    let id = uuid::Uuid::new_v4().to_string();
    let address = token(&state, &id, 600, "red.png");
    let (status, answer) = put(&product, &address, vec![0; 600_000]).await;
    assert_eq!(
        (status, &answer["code"]),
        (413, &json!("payload_too_large"))
    );
    let (status, asset) = put(&product, &address, png([200, 10, 20])).await;
    assert_eq!(status, 201, "{asset}");
    assert_eq!(asset["input"], format!("asset:{id}"));
    assert_eq!(asset["content_type"], "image/png");
    for (bad, what) in [
        (address.clone(), "used"),
        (token(&state, &id, -1, "x.png"), "late"),
        (address.replace('.', ".0"), "forged"),
        ("x".to_owned(), "no token"),
    ] {
        let (status, answer) = put(&product, &bad, b"x".to_vec()).await;
        assert_eq!(
            (status, &answer["code"]),
            (404, &json!("not_found")),
            "{what}"
        );
    }
    let prompt = json!({"id": "uses", "prompt": loaded(&format!("asset:{id}"))});
    let sent = product
        .http
        .post(format!("{}/prompt", product.url))
        .bearer_auth("sesame")
        .json(&prompt);
    let answer: Value = sent.send().await.unwrap().json().await.unwrap();
    assert_eq!(colour_of(&answer["images"][0]), [200, 10, 20], "{answer}");
    let missing = json!({"prompt": loaded(&format!("asset:{}", uuid::Uuid::new_v4()))});
    let sent = product
        .http
        .post(format!("{}/prompt", product.url))
        .bearer_auth("sesame")
        .json(&missing);
    let answer: Value = sent.send().await.unwrap().json().await.unwrap();
    assert_eq!(answer["location"], "prompt.1.inputs.image", "{answer}");
}

#[tokio::test]
async fn a_text_that_looks_like_an_asset_is_left_alone_where_no_media_are_taken() {
    let product = Product::start(&[]).await;
    let text = format!("asset:{}", uuid::Uuid::new_v4());
    let mut graph = crate::support::graphs::sampling(1);
    graph["6"]["inputs"]["text"] = json!(text);
    graph["4"]["inputs"]["ckpt_name"] = json!("m.safetensors");
    std::fs::create_dir_all(product.path("models/checkpoints")).unwrap();
    std::fs::write(product.path("models/checkpoints/m.safetensors"), b"m").unwrap();
    let (status, answer) = product.prompt(&json!({"prompt": graph})).await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["prompt"]["6"]["inputs"]["text"], text.as_str());
}

#[tokio::test]
async fn thumbnails_are_small_made_once_and_gone_with_their_blob() {
    let product = Product::start(&[]).await;
    let graph = json!({
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 640, "height": 320, "batch_size": 1, "color": 255}
    },
    "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["1", 0], "filename_prefix": "wide"}
    }});
    let body = json!({"id": "wide", "prompt": graph, "keep": true, "async": true});
    assert_eq!(product.prompt(&body).await.0, 202);
    let run = ended(&product, "wide").await;
    let output = &run["outputs"][0];
    let get = async |url: &str| product.http.get(url).send().await.unwrap();
    let answer = get(output["thumbnail"].as_str().unwrap()).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.headers()["content-type"], "image/jpeg");
    let etag = answer.headers()["etag"].to_str().unwrap().to_owned();
    let bytes = answer.bytes().await.unwrap();
    let picture = image::load_from_memory(&bytes).unwrap();
    assert_eq!((picture.width(), picture.height()), (256, 128));
    assert!(
        !bytes.windows(9).any(|part| part == b"EmptyImag"),
        "no metadata"
    );
    let again = get(output["thumbnail"].as_str().unwrap()).await;
    assert_eq!(again.bytes().await.unwrap(), bytes);
    let unchanged = product
        .http
        .get(output["thumbnail"].as_str().unwrap())
        .header("if-none-match", etag);
    assert_eq!(unchanged.send().await.unwrap().status(), 304);
    let url = output["url"].as_str().unwrap();
    for (bad, status) in [
        ("31", 400),
        ("1025", 400),
        ("x", 400),
        ("32", 200),
        ("1024", 200),
    ] {
        let answer = get(&format!("{url}&thumbnail={bad}")).await;
        assert_eq!(answer.status().as_u16(), status, "{bad}");
    }
    let attachment = get(&format!("{url}&download=1")).await;
    let how = attachment.headers()["content-disposition"]
        .to_str()
        .unwrap();
    assert!(how.starts_with("attachment"), "{how}");
    let files = || {
        let blobs = product.path(".local/state/comfyui-api/blobs");
        let folders = std::fs::read_dir(blobs).unwrap().flatten();
        folders
            .flat_map(|folder| std::fs::read_dir(folder.path()).unwrap().flatten())
            .count()
    };
    assert_eq!(files(), 4, "the picture and three thumbnails");
    assert_eq!(product.delete("/history/wide").await.0, 200);
    crate::support::product::until("the files are gone", async || (files() == 0).then_some(()))
        .await;
    let (_, text) = crate::v2::upload(&product, crate::v2::form(b"no picture", "x.bin")).await;
    let url = format!("{}&thumbnail=64", text["url"].as_str().unwrap());
    assert_eq!(get(&url).await.status(), 404);
}

#[tokio::test]
async fn of_what_can_be_seen_through_the_thumbnail_can_be_too_and_of_a_video_it_is_a_picture() {
    let product = Product::start(&[]).await;
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbaImage::from_pixel(100, 50, image::Rgba([9, 9, 9, 0]))
        .write_to(&mut bytes, image::ImageFormat::Png)
        .unwrap();
    let (_, asset) =
        crate::v2::upload(&product, crate::v2::form(&bytes.into_inner(), "g.png")).await;
    let get = async |asset: &Value| {
        let url = format!("{}&thumbnail=40", asset["url"].as_str().unwrap());
        product.http.get(url).send().await.unwrap()
    };
    let answer = get(&asset).await;
    assert_eq!(answer.headers()["content-type"], "image/webp");
    let picture = image::load_from_memory(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!((picture.width(), picture.height()), (40, 20));
    if std::process::Command::new("ffmpeg")
        .arg("-version")
        .output()
        .is_err()
    {
        return;
    }
    let video = product.path("tmp/v.mp4");
    let made = std::process::Command::new("ffmpeg")
        .args([
            "-loglevel",
            "error",
            "-f",
            "lavfi",
            "-i",
            "color=red:s=320x160:d=1",
            "-pix_fmt",
            "yuv420p",
        ])
        .arg(&video)
        .status()
        .unwrap();
    assert!(made.success());
    let (_, asset) = crate::v2::upload(
        &product,
        crate::v2::form(&std::fs::read(&video).unwrap(), "v.mp4"),
    )
    .await;
    let answer = get(&asset).await;
    assert_eq!(answer.status(), 200);
    let picture = image::load_from_memory(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!((picture.width(), picture.height()), (40, 20));
}
