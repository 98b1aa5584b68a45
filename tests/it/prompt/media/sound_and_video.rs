//! Sound and video.

use serde_json::json;

use crate::support::graphs::{picture, to_base64, with};
use crate::support::product::Product;

#[tokio::test]
async fn sound_and_video() {
    let product = Product::start(&[]).await;
    let made = product
        .run(
            "v",
            &json!({"1": {
                "class_type": "EmptyImage",
                "inputs": {"width": 32, "height": 32, "batch_size": 2, "color": 255}
            }, "2": {"class_type": "CreateVideo", "inputs": {"images": ["1", 0], "fps": 8}},
                "3": {
                    "class_type": "SaveVideo",
                    "inputs": {
                        "video": ["2", 0],
                        "filename_prefix": "video/x",
                        "format": "auto",
                        "codec": "auto"
                    }
                }}),
        )
        .await;
    assert_eq!(made["filenames"], json!(["v_x_00001_.mp4"]));
    let video = made["images"][0].as_str().unwrap();
    for (class, input, text) in [
        ("LoadVideo", "file", video.to_owned()),
        (
            "VHS_LoadVideo",
            "video",
            format!("data:video/mp4;base64,{video}"),
        ),
    ] {
        let mut graph = with(
            picture("p"),
            json!({
                "4": {"class_type": class, "inputs": {}},
                "6": {"class_type": "PreviewAny", "inputs": {"source": ["4", 0]}}
            }),
        );
        graph["4"]["inputs"][input] = text.into();
        if class == "VHS_LoadVideo" {
            graph["4"]["inputs"]["frame_load_cap"] = 0.into();
        }
        let answer = product.run(class, &graph).await;
        let name = answer["prompt"]["4"]["inputs"][input].as_str().unwrap();
        assert!(
            name.starts_with(&format!("{class}/")) && name.ends_with(".mp4"),
            "{name}"
        );
    }
    let mut wav = b"RIFF\x24\x01\0\0WAVEfmt \
                    \x10\0\0\0\x01\0\x01\0\x44\xac\0\0\x88\x58\x01\0\x02\0\x10\0data\0\x01\0\0"
        .to_vec();
    wav.extend([0; 256]);
    let graph = with(
        picture("p"),
        json!({
            "4": {"class_type": "LoadAudio", "inputs": {"audio": to_base64(&wav)}},
            "6": {"class_type": "PreviewAny", "inputs": {"source": ["4", 0]}}
        }),
    );
    let answer = product.run("sound", &graph).await;
    assert!(
        answer["prompt"]["4"]["inputs"]["audio"]
            .as_str()
            .unwrap()
            .ends_with(".wav"),
        "{}",
        answer["prompt"]["4"]
    );
    product.until_clean().await;
}
