//! Names that several prompts want, and those that nobody shares.

use serde_json::{Value, json};

use super::{saved_by, until_clean};
use crate::support::graphs::{colour_of, from_base64, picture, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, is_behind};

fn rgb(colour: u32) -> [u8; 3] {
    let [_, r, g, b] = colour.to_be_bytes();
    [r, g, b]
}

/// F04: thirty prompts of a node that always writes one name.
#[tokio::test]
async fn thirty_prompts_of_a_fixed_file_name_get_their_own() {
    let product = Product::start(&[]).await;
    let fixed = json!({"class_type": "SimFixedName", "inputs": {}});
    let running: Vec<_> = (0..30_u32)
        .map(|number| {
            let colour = number * 0x0007_0503;
            let mut body =
                json!({"id": format!("p{number}"), "prompt": saved_by(colour, fixed.clone())});
            if number % 3 == 1 {
                body["convert_output"] = json!({"format": "webp", "options": {"lossless": true}});
            }
            (number, colour, product.prompt_later(body))
        })
        .collect();
    for (number, colour, running) in running {
        let (status, answer) = running.await.unwrap();
        assert_eq!(status, 200, "{number}: {answer}");
        assert_eq!(colour_of(&answer["images"][0]), rgb(colour), "{number}");
        let name = if number % 3 == 1 {
            "result.webp"
        } else {
            "result.png"
        };
        assert_eq!(answer["filenames"], json!([name]));
    }
    // The same again comes from ComfyUI's cache, whose file is gone.
    let answer = product.run("again", &saved_by(0x0007_0503, fixed)).await;
    assert_eq!(colour_of(&answer["images"][0]), rgb(0x0007_0503));
    until_clean(&product).await;
}

/// F04: the other ways to a shared name, all at once, with everything that reads the files late.
#[tokio::test]
async fn names_that_are_not_ours_are_shared_in_many_ways() {
    let product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let origin = Origin::start(|_, _| Reply::status(200)).await;
    let link = json!({"5": {"class_type": "PrimitiveString", "inputs": {"value": "linked"}}});
    let silent_note = json!({
        "write": "{\"note.txt\": \"by\"}",
        "ui": "{\"files\": [{\"filename\": \"note.txt\"}]}"
    });
    let kinds: Vec<(&str, Value)> = vec![
        (
            "linked",
            json!({"class_type": "SaveImage", "inputs": {"filename_prefix": ["5", 0]}}),
        ),
        (
            "empty",
            json!({"class_type": "SaveImage", "inputs": {"filename_prefix": ""}}),
        ),
        (
            "number",
            json!({"class_type": "SaveImage", "inputs": {"filename_prefix": 7}}),
        ),
        (
            "batch",
            json!({"class_type": "SaveImage", "inputs": {"filename_prefix": ["6", 0]}}),
        ),
        (
            "chosen",
            json!({"class_type": "SimFixedName", "inputs": {"filename": "sub/chosen.png"}}),
        ),
        (
            "temporary",
            json!({"class_type": "SimFixedName", "inputs": {"filename": "t.png", "type": "temp"}}),
        ),
    ];
    let graph = |kind: usize, colour: u32| {
        let batch =
            json!({"6": {"class_type": "PrimitiveString", "inputs": {"value": "b%batch_num%"}}});
        with(
            with(saved_by(colour, kinds[kind].1.clone()), link.clone()),
            batch,
        )
    };
    let mut running = Vec::new();
    for round in 0..4_u32 {
        for (kind, (name, _)) in kinds.iter().enumerate() {
            let colour = 0x0010_0000 * u32::try_from(kind).unwrap() + 0x0000_1010 * round + 5;
            let mut body = json!({"id": format!("{name}-{round}"), "prompt": graph(kind, colour)});
            match round {
                1 => body["http_upload"] = json!({"url_prefix": origin.url("/up")}),
                2 => body["webhook_v2"] = json!(origin.url(&format!("/hook/{kind}"))),
                3 => body["compress_outputs"] = json!(true),
                _ => {}
            }
            running.push((*name, round, colour, product.prompt_later(body)));
        }
    }
    let mut uploaded = Vec::new();
    for (kind, round, colour, running) in running {
        let (status, answer) = running.await.unwrap();
        match round {
            0 => {
                assert_eq!(status, 200, "{kind}: {answer}");
                assert_eq!(colour_of(&answer["images"][0]), rgb(colour), "{kind}");
            }
            1 => {
                assert_eq!(status, 200, "{kind}: {answer}");
                uploaded.push(colour);
            }
            2 => assert_eq!(status, 202, "{kind}: {answer}"),
            _ => {
                let archive = from_base64(&answer["images"][0]);
                let mut archive = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
                let mut content = Vec::new();
                std::io::copy(&mut archive.by_index(0).unwrap(), &mut content).unwrap();
                let picture = image::load_from_memory(&content).unwrap().to_rgb8();
                assert_eq!(picture.get_pixel(1, 1).0, rgb(colour), "{kind}");
            }
        }
    }
    origin.wait_for(2 * kinds.len()).await;
    for request in origin.requests() {
        if request.target.starts_with("/hook") {
            let told: Value = serde_json::from_slice(&request.body).unwrap();
            let kind: u32 = request.target.trim_start_matches("/hook/").parse().unwrap();
            assert_eq!(
                colour_of(&told["images"][0]),
                rgb(0x0010_0000 * kind + 0x2020 + 5),
                "{told}"
            );
        } else {
            let picture = image::load_from_memory(&request.body).unwrap().to_rgb8();
            let colour = uploaded
                .iter()
                .position(|colour| rgb(*colour) == picture.get_pixel(1, 1).0);
            uploaded.remove(colour.unwrap_or_else(|| panic!("{}", request.target)));
        }
    }
    assert!(uploaded.is_empty());
    // A node that ends no run and has no prefix either; nobody can know before it has run once.
    let inside = json!({"class_type": "SimReportInside", "inputs": silent_note});
    let graph = |text: &str| {
        let mut inside = inside.clone();
        inside["inputs"]["write"] = json!(format!("{{\"note.txt\": \"{text}\"}}"));
        json!({"1": inside, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}})
    };
    let running: Vec<_> = ["a", "b", "c", "d"]
        .map(|text| (text, product.prompt_later(json!({"prompt": graph(text)}))))
        .into();
    for (text, running) in running {
        let (status, answer) = running.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(from_base64(&answer["images"][0]), text.as_bytes());
        assert!(!answer["prompt"].to_string().contains("comfyui_api_run"));
    }
    until_clean(&product).await;
}

/// F04: only graphs that share names wait for each other, and one that waits can be seen and
/// cancelled.
#[tokio::test]
async fn who_shares_no_name_does_not_wait() {
    let product = Product::start(&[]).await;
    let mut slow = saved_by(1, json!({"class_type": "SimFixedName", "inputs": {}}));
    slow["5"] = json!({"class_type": "SimSleep", "inputs": {"seconds": 30, "steps": 300}});
    let first = product.prompt_later(json!({"id": "first", "prompt": slow}));
    product.until_prompt("first", "running").await;
    let second = product.prompt_later(json!({"id": "second", "prompt": slow}));
    let second_waits = product.until_prompt("second", "pending").await;
    assert_eq!(second_waits["position"], 1);
    let plain = product.prompt_later(json!({"id": "plain", "prompt": picture("x")}));
    product.until_prompt("plain", "pending").await;
    let queue = product.comfy("/queue").await;
    assert_eq!(
        queue["queue_pending"].as_array().unwrap().len(),
        usize::from(!is_behind()),
        "{queue}"
    );
    assert_eq!(product.delete("/prompt/second").await.0, 200);
    assert_eq!(second.await.unwrap().0, 409);
    assert_eq!(product.delete("/prompt/first").await.0, 200);
    assert_eq!(first.await.unwrap().0, 409);
    assert_eq!(plain.await.unwrap().0, 200);
    let third = saved_by(
        0x00AB_CDEF,
        json!({"class_type": "SimFixedName", "inputs": {}}),
    );
    let answer = product.run("third", &third).await;
    assert_eq!(colour_of(&answer["images"][0]), [0xAB, 0xCD, 0xEF]);
    until_clean(&product).await;
}

/// F09: an id that is the beginning of another one in flight.
#[tokio::test]
async fn an_id_that_begins_another_takes_none_of_its_files() {
    let product = Product::start(&[]).await;
    let silent = |prefix: &str, text: &str| {
        json!({"1": {
            "class_type": "SimReport",
            "inputs": {
                "filename_prefix": prefix,
                "write": format!("{{\"{{prefix}}_1.txt\": \"{text}\"}}")
            }
        },
               "2": {"class_type": "SimSleep", "inputs": {"seconds": 0.2, "steps": 2}}})
    };
    let running: Vec<_> = [("a", "x"), ("a_x", "y"), ("a_x_y", "z"), ("b", "x")]
        .map(|(id, prefix)| {
            let body = json!({"id": id, "prompt": silent(prefix, id)});
            (id, product.prompt_later(body))
        })
        .into();
    for (id, running) in running {
        let (status, answer) = running.await.unwrap();
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["filenames"].as_array().unwrap().len(), 1, "{answer}");
        assert_eq!(from_base64(&answer["images"][0]), id.as_bytes());
    }
    until_clean(&product).await;
}
