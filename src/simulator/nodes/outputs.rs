//! Nodes as packs write them: files under names of their own, reports in every shape, nodes that
//! replace themselves by others, that send their images over the websocket, and that put their own
//! graph into the queue again.

use std::path::Path;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::call::{Call, Datum, Produced, Raised};
use super::files::SavePath;
use super::spec::{Class, class, int, plain, text};
use crate::paths::normal;
use crate::simulator::picture::png;
use crate::simulator::queue::Item;
use crate::simulator::shape::ring;

/// The classes of this file.
pub fn classes() -> Vec<Class> {
    let sim = |name, run| class(name, "simulator", run).in_module("custom_nodes.simulator");
    vec![
        sim("SimReport", report)
            .takes(text("filename_prefix", "report", false).optional())
            .takes(text("write", "{}", true).optional())
            .takes(text("ui", "", true).optional())
            .takes(plain("value", "*").optional())
            .saves(),
        sim("SimReportInside", report)
            .takes(text("write", "{}", true).optional())
            .takes(text("ui", "", true).optional())
            .gives("*"),
        sim("SimFixedName", fixed)
            .takes(plain("images", "IMAGE"))
            .takes(text("filename", "result.png", false).optional())
            .takes(text("type", "output", false).optional())
            .saves(),
        sim("Save3DAdvanced", save_3d)
            .takes(text("filename_prefix", "3d/ComfyUI", false))
            .saves(),
        sim("SimSendWebsocket", send_websocket)
            .takes(plain("images", "IMAGE"))
            .saves()
            .changing(),
        sim("SimExpand", expand)
            .takes(plain("images", "IMAGE"))
            .takes(text("filename_prefix", "ComfyUI", false))
            .takes(text("fail", "", false).optional())
            .saves(),
        sim("SimMetaBatch", meta_batch)
            .takes(plain("images", "IMAGE"))
            .takes(text("filename_prefix", "batch", false))
            .takes(int("parts", 3, 1, 1000))
            .takes(int("requeue", 0, 0, 1000).optional())
            .takes(int("lose", 0, 0, 1).optional())
            .saves(),
    ]
}

/// Writes files and reports: `write` is `{path: text}` (below the output directory, or
/// `temp:path`), `ui` what is reported as it is; `{prefix}` in both is the prefix, `{output}` and
/// `{temp}` are the directories.
fn report(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let folders = &call.instance.folders;
    let filled = |text: String| {
        text.replace("{prefix}", &call.text("filename_prefix"))
            .replace("{output}", &folders.output.display().to_string())
            .replace("{temp}", &folders.temp.display().to_string())
    };
    let wrong = |error: serde_json::Error| Raised::new("json.JSONDecodeError", error.to_string());
    let files: Map<String, Value> =
        serde_json::from_str(&filled(call.text("write"))).or_else(|error| {
            if call.text("write").is_empty() {
                Ok(Map::new())
            } else {
                Err(wrong(error))
            }
        })?;
    for (name, content) in &files {
        let (root, name) = match name.strip_prefix("temp:") {
            Some(name) => (&folders.temp, name),
            None => (&folders.output, name.as_str()),
        };
        write(
            &root.join(name),
            content.as_str().unwrap_or_default().as_bytes(),
        )?;
    }
    let ui = filled(call.text("ui"));
    let ui = (!ui.is_empty()).then(|| serde_json::from_str(&ui).map_err(wrong));
    Ok(Produced {
        outputs: vec![Datum::Json(Value::Null)],
        ui: ui.transpose()?,
        ..Produced::default()
    })
}

fn write(path: &Path, content: &[u8]) -> Result<(), Raised> {
    let path = normal(path);
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    Ok(std::fs::write(path, content)?)
}

/// Always the same name; another input may choose it.
fn fixed(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let folders = &call.instance.folders;
    let (root, kind) = match call.text("type").as_str() {
        "temp" => (&folders.temp, "temp"),
        _ => (&folders.output, "output"),
    };
    let name = match call.text("filename") {
        name if name.is_empty() => "result.png".to_owned(),
        name => name,
    };
    for picture in images.iter() {
        let content = png(picture, &[]).map_err(|message| Raised::new("OSError", message))?;
        write(&root.join(&name), &content)?;
    }
    Ok(Produced::shown(
        json!({"images": [{"filename": name, "subfolder": "", "type": kind}]}),
        vec![],
    ))
}

/// As ComfyUI's own 3D nodes: a bare path, a camera, more.
fn save_3d(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let mut path = SavePath::new(call, &call.text("filename_prefix"), "output", (0, 0))?;
    let (file, about) = path.next(0, "glb");
    std::fs::write(file, ring())?;
    let (name, folder) = (about["filename"].as_str(), about["subfolder"].as_str());
    let whole = format!(
        "{}/{}",
        folder.unwrap_or_default(),
        name.unwrap_or_default()
    );
    let whole = whole.trim_start_matches('/');
    Ok(Produced::shown(
        json!({"result": [whole, {"position": {"x": 1}, "type": "perspective"}, {"meshes": 1}]}),
        vec![],
    ))
}

/// Without metadata, and said only afterwards, as older node packs do.
fn send_websocket(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let images = call.images("images")?;
    let client = call.current.client_id.as_deref();
    for picture in images.iter() {
        let file = png(picture, &[]).map_err(|message| Raised::new("OSError", message))?;
        call.instance.hub.preview(2, &file, client);
    }
    let shown: Vec<Value> = images
        .iter()
        .map(|_| json!({"source": "websocket", "content-type": "image/png", "type": "output"}))
        .collect();
    Ok(Produced::shown(json!({"images": shown}), vec![]))
}

/// Two nodes that save, and one that shows a text; or one that fails.
fn expand(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let (prefix, fail) = (call.text("filename_prefix"), call.text("fail"));
    let images = call.link("images");
    let save = |name: &str| {
        json!({
            "class_type": "SaveImage",
            "inputs": {"images": images, "filename_prefix": format!("{prefix}{name}")}
        })
    };
    let mut graph = json!({
        "1": save(""),
        "2": save("_more"),
        "3": {"class_type": "PreviewAny", "inputs": {"source": "inner"}},
        "4": {"class_type": "PreviewAny", "inputs": {"source": "outer"}},
    });
    if !fail.is_empty() {
        graph = json!({"1": save(""), "2": {"class_type": "SimFail", "inputs": {"message": fail}}});
    }
    Ok(Produced {
        expand: graph.as_object().cloned(),
        ..Produced::default()
    })
}

/// Works through its parts, each in a run of its own; reports the file with the last.
fn meta_batch(call: &mut Call<'_>) -> Result<Produced, Raised> {
    let part = call.count("requeue", 0) + 1;
    let images = call.images("images")?;
    let mut path = SavePath::new(call, &call.text("filename_prefix"), "output", (0, 0))?;
    let picture = images
        .first()
        .ok_or_else(|| Raised::new("IndexError", "no image"))?;
    if part >= call.count("parts", 1) {
        let content = png(picture, &[]).map_err(|message| Raised::new("OSError", message))?;
        let file = path.write(0, "png", &content)?;
        return Ok(Produced::shown(
            json!({"gifs": [file], "text": [format!("part {part}")]}),
            vec![],
        ));
    }
    if call.count("lose", 0) == 0 {
        let mut graph = call.current.graph().clone();
        graph[call.node]["inputs"]["requeue"] = part.into();
        let number = call.instance.counter.fetch_add(1, Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a count of prompts")]
        let item = Item {
            number: -(number as f64),
            float_number: false,
            prompt_id: uuid::Uuid::new_v4().to_string(),
            graph: Value::Object(graph),
            extra: call.current.extra.clone(),
            outputs: call.current.outputs.to_vec(),
        };
        let hub = &call.instance.hub;
        call.instance
            .queue
            .put_announced(item, |remaining| hub.status(remaining));
    }
    Ok(Produced::shown(json!({"unfinished_batch": [true]}), vec![]))
}
