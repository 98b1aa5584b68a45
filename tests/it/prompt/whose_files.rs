//! Every prompt delivers what it made itself (F04), whatever the shape of the report (F09),
//! previews and texts included (U1), and leaves nothing behind (F16, F21).

use serde_json::{Value, json};

use crate::support::graphs::{colour_of, coloured, from_base64, picture, with};
use crate::support::origin::{Origin, Reply};
use crate::support::product::{Product, Stage, until};
use crate::support::sse::Sse;

/// A picture of a colour, saved by a node of another class.
fn saved_by(colour: u32, node: Value) -> Value {
    let mut graph = with(coloured("x", colour), json!({"9": node}));
    graph["9"]["inputs"]["images"] = json!(["1", 0]);
    graph
}

fn rgb(colour: u32) -> [u8; 3] {
    let [_, r, g, b] = colour.to_be_bytes();
    [r, g, b]
}

/// Names in the temp directory.
fn temp_files(product: &Product) -> Vec<String> {
    let entries = std::fs::read_dir(product.path("temp"))
        .into_iter()
        .flatten()
        .flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

async fn until_clean(product: &Product) {
    product.until_clean().await;
    until("no temporary file is left", async || {
        temp_files(product).is_empty().then_some(())
    })
    .await;
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
        1,
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

/// F09: shapes of reports, and files that are not reported.
#[tokio::test]
async fn reports_of_every_shape_are_read() {
    let product = Product::start(&[]).await;
    std::fs::write(product.path("secret.txt"), "outside").unwrap();
    let cases: Vec<(&str, Value, Value, &[&str])> = vec![
        (
            "no type",
            json!({"{prefix}.txt": "a"}),
            json!({"files": [{"filename": "{prefix}.txt", "subfolder": ""}]}),
            &["no-type_r.txt"],
        ),
        (
            "null type",
            json!({"{prefix}.txt": "a"}),
            json!({"files": [{"filename": "{prefix}.txt", "type": null}]}),
            &["null-type_r.txt"],
        ),
        (
            "folder in name",
            json!({"sub/{prefix}.txt": "a"}),
            json!({"files": [{"filename": "sub\\{prefix}.txt", "subfolder": ""}]}),
            &["folder-in-name_r.txt"],
        ),
        (
            "leading slash",
            json!({"sub/{prefix}.txt": "a"}),
            json!({"files": [{"filename": "{prefix}.txt", "subfolder": "/sub"}]}),
            &["leading-slash_r.txt"],
        ),
        (
            "absolute",
            json!({"{prefix}.txt": "a"}),
            json!({"files": [{"filename": "{output}/{prefix}.txt"}]}),
            &["absolute_r.txt"],
        ),
        (
            "deep",
            json!({"{prefix}.txt": "a", "{prefix}2.txt": "b"}),
            json!({
                "x": {"y": [[{"filename": "{prefix}.txt"}], {"filename": "{prefix}.txt"}]},
                "z": {"filename": "{prefix}2.txt"}
            }),
            &["deep_r.txt", "deep_r2.txt"],
        ),
        (
            "bare",
            json!({"3d/{prefix}.glb": "a"}),
            json!({"result": ["3d/{prefix}.glb", {"camera": 1}, null]}),
            &["bare_r.glb"],
        ),
        (
            "bare absolute",
            json!({"3d/{prefix}.glb": "a"}),
            json!({"text": ["{output}/3d/{prefix}.glb"]}),
            &["bare-absolute_r.glb"],
        ),
        (
            "fixed",
            json!({"plain.txt": "a"}),
            json!({"files": [{"filename": "plain.txt"}]}),
            &["plain.txt"],
        ),
        (
            "nothing",
            json!({"{prefix}.txt": "a", "{prefix}_0001.glb": "b", "{prefix}_mask_00001_.png": "c"}),
            json!({}),
            &[
                "nothing_r.txt",
                "nothing_r_0001.glb",
                "nothing_r_mask_00001_.png",
            ],
        ),
        (
            "a text",
            json!({"{prefix}.txt": "a"}),
            json!({"text": ["saved"]}),
            &["a-text_r.txt"],
        ),
        (
            "a date",
            json!({"2026/11/28/{prefix}.txt": "a"}),
            json!({"images": []}),
            &["a-date_r.txt"],
        ),
        (
            "by-product",
            json!({"{prefix}.txt": "a", "{prefix}.json": "b", "{prefix}_00001_.tmp": "c"}),
            json!({"files": [{"filename": "{prefix}.txt"}]}),
            &["by-product_r.txt"],
        ),
        (
            "a preview",
            json!({"{prefix}.txt": "a", "temp:{prefix}.png": "t"}),
            json!({"images": [{"filename": "{prefix}.png", "type": "temp"}]}),
            &["a-preview_r.txt"],
        ),
    ];
    for (name, write, ui, expected) in cases {
        let id = name.replace(' ', "-");
        let graph = json!({
            "1": {
                "class_type": "SimReport",
                "inputs": {"filename_prefix": "r", "write": write.to_string(), "ui": ui.to_string()}
            }
        });
        let answer = product.run(&id, &graph).await;
        assert_eq!(answer["filenames"], json!(expected), "{name}: {answer}");
        assert_eq!(answer["warnings"], json!([]), "{name}");
        // From the cache as well.
        let again = product.run(&id, &graph).await;
        assert_eq!(again["filenames"], answer["filenames"], "{name}");
    }
    let outside = json!({"1": {"class_type": "SimReport", "inputs": {"filename_prefix": "r", "write": "{\"{prefix}.txt\": \"a\"}",
        "ui": json!({
            "files": [
                {"filename": "{prefix}.txt"},
                {"filename": "../secret.txt"},
                {"filename": "{output}/../secret.txt"}
            ]
        }).to_string()}}});
    let answer = product.run("outside", &outside).await;
    assert_eq!(answer["filenames"], json!(["outside_r.txt"]));
    assert_eq!(answer["warnings"].as_array().unwrap().len(), 2, "{answer}");
    // ComfyUI's own 3D nodes, the same twice.
    let save =
        json!({"1": {"class_type": "Save3DAdvanced", "inputs": {"filename_prefix": "3d/x"}}});
    for _ in 0..2 {
        let answer = product.run("solid", &save).await;
        assert_eq!(answer["filenames"], json!(["solid_x_00001_.glb"]));
        assert_eq!(
            (&answer["texts"], &answer["outputs"][0]["output"]),
            (&json!({}), &json!("result"))
        );
    }
    until_clean(&product).await;
    let left: Vec<_> = std::fs::read_dir(product.path("output"))
        .unwrap()
        .flatten()
        .filter(|entry| entry.file_name() != "checkpoints")
        .collect();
    let left: Vec<_> = left
        .iter()
        .map(|entry| entry.file_name())
        .filter(|name| {
            !["loras", "vae", "clip", "diffusion_models"]
                .iter()
                .any(|own| name == own)
        })
        .collect();
    assert!(left.is_empty(), "folders that came with a prompt: {left:?}");
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

/// U1 and F21: what ComfyUI accepts runs, and previews go when they are delivered.
#[tokio::test]
async fn previews_and_texts_are_delivered_where_there_is_nothing_else() {
    let product = Product::start(&[("ALLOW_PRIVATE_NETWORKS", "true")]).await;
    let origin = Origin::start(|_, _| Reply::status(200)).await;
    let preview = saved_by(
        0x0011_2233,
        json!({"class_type": "PreviewImage", "inputs": {}}),
    );
    let video = saved_by(
        0x0011_2233,
        json!({"class_type": "VHS_VideoCombine", "inputs": {"frame_rate": 8, "loop_count": 0,
        "filename_prefix": "clip", "format": "image/webp", "pingpong": false,
        "save_output": false}}),
    );
    let text = json!({"1": {"class_type": "PreviewAny", "inputs": {"source": "only words"}}});
    for round in 0..2 {
        // The second time ComfyUI has it in its cache, and its file is gone.
        for id in ["same".to_owned(), format!("other{round}")] {
            let answer = product.run(&id, &preview).await;
            assert_eq!(colour_of(&answer["images"][0]), [0x11, 0x22, 0x33]);
            assert_eq!(
                (&answer["outputs"][0]["node_id"], &answer["warnings"]),
                (&json!("9"), &json!([]))
            );
        }
        let answer = product.run("video", &video).await;
        assert_eq!(answer["filenames"], json!(["video_clip_00001_.webp"]));
        let answer = product.run("text", &text).await;
        assert_eq!(
            (&answer["images"], &answer["filenames"], &answer["texts"]),
            (&json!([]), &json!([]), &json!({"1": ["only words"]}))
        );
    }
    let answer = product
        .run(
            "both",
            &with(preview.clone(), json!({"8": picture("kept")["9"]})),
        )
        .await;
    assert_eq!(answer["filenames"], json!(["both_kept_00001_.png"]));
    until_clean(&product).await;
    for (extra, images) in [
        (
            json!({"compress_outputs": "zip", "convert_output": {"format": "jpeg"}}),
            1,
        ),
        (json!({"http_upload": {"url_prefix": origin.url("/up")}}), 1),
    ] {
        let (status, answer) = product
            .prompt(&with(json!({"id": "p", "prompt": preview}), extra.clone()))
            .await;
        assert_eq!(
            (status, answer["images"].as_array().unwrap().len()),
            (200, images),
            "{answer}"
        );
        let (status, answer) = product
            .prompt(&with(json!({"id": "t", "prompt": text}), extra))
            .await;
        assert_eq!((status, &answer["images"]), (200, &json!([])), "{answer}");
    }
    let (status, _) = product
        .prompt(&json!({"id": "hooked", "prompt": text, "webhook_v2": origin.url("/hook")}))
        .await;
    assert_eq!(status, 202);
    origin.wait_for(2).await;
    let nothing = json!({"1": {"class_type": "SimReport", "inputs": {"filename_prefix": "x"}}});
    let (status, answer) = product.prompt(&json!({"prompt": nothing})).await;
    assert_eq!(
        (status, &answer["code"]),
        (500, &json!("execution_error")),
        "{answer}"
    );
    assert!(
        answer["error"]
            .as_str()
            .unwrap()
            .contains("there is no output to deliver")
    );
    until_clean(&product).await;
}

/// F21: temporary files where ComfyUI's command line says, or from ComfyUI itself.
#[tokio::test]
async fn temporary_files_are_found_elsewhere() {
    let preview = saved_by(
        0x0044_5566,
        json!({"class_type": "PreviewImage", "inputs": {}}),
    );
    let stage = Stage::new();
    let temp = stage.path("elsewhere");
    let product = stage
        .flags(&format!("--temp-directory '{}'", temp.display()))
        .start()
        .await;
    let answer = product.run("a", &preview).await;
    assert_eq!(colour_of(&answer["images"][0]), [0x44, 0x55, 0x66]);
    until("the file is gone", async || {
        std::fs::read_dir(temp.join("temp"))
            .unwrap()
            .next()
            .is_none()
            .then_some(())
    })
    .await;
    // One that runs in a container of its own: its folders are not ours.
    let stage = Stage::new().attached();
    let remote = Stage::new();
    let simulator = remote.simulator().await;
    let product = stage
        .env("COMFYUI_PORT_HOST", simulator.port())
        .start()
        .await;
    std::fs::rename(remote.path("temp"), remote.path("hidden")).unwrap();
    std::os::unix::fs::symlink(remote.path("hidden"), remote.path("temp")).unwrap();
    let answer = product.run("b", &preview).await;
    assert_eq!(colour_of(&answer["images"][0]), [0x44, 0x55, 0x66]);
}

/// F16: folders that came with a prompt go with it, those that were there stay.
#[tokio::test]
async fn empty_folders_go_unless_they_were_there() {
    let product = Product::start(&[]).await;
    std::fs::create_dir_all(product.path("output/kept/empty")).unwrap();
    let slow = with(
        picture("shared/slow"),
        json!({"5": {"class_type": "SimSleep", "inputs": {"seconds": 30, "steps": 300}}}),
    );
    let running = product.prompt_later(json!({"id": "slow", "prompt": slow}));
    product.until_prompt("slow", "running").await;
    std::fs::create_dir_all(product.path("output/shared")).unwrap();
    let failing = with(
        picture("failed/deep/x"),
        json!({"7": {"class_type": "SimFail", "inputs": {"message": "no", "value": ["1", 0]}}}),
    );
    let waiting: Vec<_> = [
        ("one", picture("video/take")),
        ("two", picture("kept/empty/x")),
        ("three", picture("shared/x")),
        ("four", failing),
    ]
    .map(|(id, graph)| {
        product.prompt_later(json!({"id": id, "prompt": graph, "compress_outputs": id == "one"}))
    })
    .into();
    product.until_prompt("three", "pending").await;
    assert_eq!(product.delete("/prompt/slow").await.0, 200);
    assert_eq!(running.await.unwrap().0, 409);
    for (answer, status) in waiting.into_iter().zip([200, 200, 200, 500]) {
        let (found, body) = answer.await.unwrap();
        assert_eq!(found, status, "{body}");
    }
    until_clean(&product).await;
    until("the folders are gone", async || {
        ["video", "failed", "shared"]
            .iter()
            .all(|name| !product.path("output").join(name).exists())
            .then_some(())
    })
    .await;
    assert!(product.path("output/kept/empty").exists());
}

/// U1 at the other doors: workflow endpoints and the warmup prompt.
#[tokio::test]
async fn previews_and_texts_run_as_workflows_and_to_warm_up() {
    let workflow = "import { z } from \"zod\";\nexport default { RequestSchema: z.object({}), \
                    summary: 'A test', generateWorkflow: (input) => ({ draw: { class_type: \
                    'EmptyImage', inputs: { width: 8, height: 8, batch_size: 1, color: 1122867 } \
                    }, show: { class_type: 'PreviewImage', inputs: { images: ['draw', 0] } } }) \
                    };\n";
    let warmup = json!({"1": {"class_type": "PreviewAny", "inputs": {"source": "warm"}}});
    let stage = Stage::new()
        .file("workflows/preview.js", workflow)
        .file("warmup.json", warmup.to_string());
    let path = stage.path("warmup.json");
    let product = stage
        .env("WARMUP_PROMPT_FILE", path.display())
        .start()
        .await;
    product.log.line("\"warm\"").await;
    let (status, answer) = product
        .post("/workflow/preview", &json!({"input": {}}))
        .await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(colour_of(&answer["images"][0]), [0x11, 0x22, 0x33]);
    until_clean(&product).await;
}

/// U1: streams.
#[tokio::test]
async fn a_text_alone_ends_a_stream_well() {
    let product = Product::start(&[]).await;
    let text = json!({"1": {"class_type": "PreviewAny", "inputs": {"source": "only words"}}});
    let request = product.http.post(format!("{}/prompt", product.url));
    let request = request
        .header("accept", "text/event-stream")
        .json(&json!({"prompt": text}));
    let mut stream = Sse::new(request.send().await.unwrap());
    let last = stream.rest().await.pop().unwrap();
    assert_eq!(
        (last.name.as_str(), &last.data["texts"]),
        ("complete", &json!({"1": ["only words"]}))
    );
}
