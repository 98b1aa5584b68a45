//! What is found, and what is left alone.

use serde_json::json;

use super::*;
use crate::job::cleanup::{Claims, Cleaner, Prefix};

struct Stage {
    home: tempfile::TempDir,
    claims: Claims,
}

impl Stage {
    fn new(files: &[&str]) -> Self {
        let stage = Self {
            home: tempfile::tempdir().unwrap(),
            claims: Claims::default(),
        };
        std::fs::create_dir_all(stage.home.path().join("temp")).unwrap();
        stage.write(files);
        stage
    }

    fn write(&self, files: &[&str]) {
        for name in files {
            let path = self.home.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, name).unwrap();
        }
    }

    fn facts(&self, graph: Value) -> RunFacts {
        let nodes = graph.as_object().unwrap();
        let prefixes = nodes.iter().filter_map(|(node, about)| {
            Some(Prefix::new(
                node,
                about["inputs"]["filename_prefix"].as_str()?,
                "id",
            ))
        });
        let (output, temp) = (
            self.home.path().join("output"),
            self.home.path().join("temp"),
        );
        RunFacts {
            claim: Arc::new(
                self.claims
                    .open(prefixes.collect(), &output, &temp, Arc::default()),
            ),
            graph: Arc::new(nodes.clone()),
            cached: HashSet::new(),
            alone: true,
            has_files: false,
            goes_on: false,
        }
    }

    fn collect(&self, facts: &RunFacts, outputs: &Value) -> (Collected, FileCleanup) {
        let cleanup = FileCleanup::new(Cleaner::default(), facts.claim.clone());
        let outputs = outputs.as_object().unwrap().iter();
        let outputs: Vec<NodeOutput> = outputs
            .map(|(node, output)| NodeOutput {
                node: node.clone(),
                output: output.clone(),
            })
            .collect();
        (collect(&outputs, facts, &cleanup), cleanup)
    }

    fn left(&self) -> Vec<String> {
        let home = self.home.path();
        let mut left: Vec<String> = ["output", "temp"]
            .iter()
            .flat_map(|dir| crate::job::cleanup::files_below(&home.join(dir), |_| true))
            .map(|path| path.strip_prefix(home).unwrap().display().to_string())
            .collect();
        left.sort();
        left
    }
}

fn found(files: &[OutputFile]) -> Vec<(String, String, String)> {
    files
        .iter()
        .map(|file| {
            let content = std::fs::read_to_string(&file.path).unwrap();
            let node = file.node_id.clone().unwrap_or_default();
            assert!(content.ends_with(&file.filename), "{content}");
            (node, file.output.clone(), file.filename.clone())
        })
        .collect()
}

fn named(list: &[(&str, &str, &str)]) -> Vec<(String, String, String)> {
    list.iter()
        .map(|(node, key, name)| ((*node).into(), (*key).into(), (*name).into()))
        .collect()
}

/// F09: everything reported once and nothing else; what is old or another's stays.
#[test]
#[expect(clippy::too_many_lines, reason = "one directory with everything in it")]
fn every_reported_file_once_and_nothing_else() {
    let stage = Stage::new(&["output/id_model_00001_.safetensors"]);
    let facts = stage.facts(json!({
        "21": {"inputs": {"filename_prefix": "id_model"}},
        "22": {"inputs": {"filename_prefix": "id_model"}},
    }));
    let theirs = vec![Prefix::new("1", "id_x_b", "id_x")];
    let output = facts.claim.output_dir.clone();
    let other = stage
        .claims
        .open(theirs, &output, &facts.claim.temp_dir(), Arc::default());
    stage.write(&[
        "output/a.png",
        "output/b.png",
        "output/video/v.mp4",
        "output/id_x_b_1.png",
        "temp/t.png",
        "output/id_model_00002_.safetensors",
        "output/untyped.png",
        "output/3d/x.glb",
    ]);
    std::os::unix::fs::symlink("/etc/passwd", output.join("link.png")).unwrap();
    let file = |name: &str, sub: &str, kind: &str| {
        json!({
            "filename": name,
            "subfolder": sub,
            "type": kind,
            "extra": null
        })
    };
    let (collected, cleanup) = stage.collect(
        &facts,
        &json!({
            "9": {
                "images": [file("a.png", "", "output"), file("b.png", "", "output")],
                "animated": [true],
                "odd": 5
            },
            "8": {"images": [file("a.png", "", "output")]},
            "7": {
                "gifs": [file("v.mp4", "video", "output")],
                "text": ["not told: this node has files"]
            },
            "6": {"images": [file("t.png", "", "temp"), {"filename": "untyped.png"}]},
            "5": {"text": ["hello", "you"]},
            "4": {"images": [file(
                "passwd",
                "../../etc",
                "output"
            ), file("../../a.png", "", "output"), file("link.png", "", "output"),
                file("gone.png", "", "output"), file("passwd", "/etc", "output"),
                file("id_x_b_1.png", "", "output")]},
            "3": null,
            "2": {"result": ["3d/x.glb", {"camera": 1}, null]},
        }),
    );
    assert_eq!(
        found(&collected.files),
        named(&[
            ("9", "images", "a.png"),
            ("9", "images", "b.png"),
            ("7", "gifs", "v.mp4"),
            ("6", "images", "untyped.png"),
            ("2", "result", "x.glb"),
            ("21", "files", "id_model_00002_.safetensors"),
        ])
    );
    assert_eq!(
        Value::Object(collected.texts.clone()),
        json!({"5": ["hello", "you"]})
    );
    assert_eq!(collected.missing.len(), 6, "{:?}", collected.missing);
    assert!(collected.previews.is_empty() && collected.stale.is_empty());
    drop((other, cleanup, facts));
    let stays = [
        "output/id_model_00001_.safetensors",
        "output/id_x_b_1.png",
        "output/link.png",
    ];
    assert_eq!(stage.left(), stays);
    assert!(!output.join("video").exists() && !output.join("3d").exists());
}

/// F09: files that were written but not reported.
#[test]
fn what_silent_nodes_wrote_is_delivered_and_by_products_are_not() {
    let stage = Stage::new(&[]);
    let facts = stage.facts(json!({
        "1": {"inputs": {"filename_prefix": "id_text"}},
        "2": {"inputs": {"filename_prefix": "v/id_clip"}},
        "3": {"inputs": {"filename_prefix": "id_away"}},
        "4": {"inputs": {"filename_prefix": "id_text_mask"}},
    }));
    stage.write(&[
        "output/id_text.txt",
        "output/id_text_0001.glb",
        "output/id_text_x_00001_.png",
        "output/id_text_mask_1.png",
        "output/v/id_clip_00001-audio.mp4",
        "output/v/id_clip_00001.mp4",
        "output/v/id_clip_notes.json",
        "output/2026/11/id_away.png",
        "output/other.png",
    ]);
    let (collected, cleanup) = stage.collect(&facts, &json!({
        "1": {"text": ["saved"], "images": []},
        "2": {
            "gifs": [{"filename": "id_clip_00001-audio.mp4", "subfolder": "v", "type": "output"}]
        },
        "4": {"result": ["id_text_mask_1.png", 5]},
    }));
    assert_eq!(
        found(&collected.files),
        named(&[
            ("2", "gifs", "id_clip_00001-audio.mp4"),
            ("4", "result", "id_text_mask_1.png"),
            ("1", "files", "id_text.txt"),
            ("1", "files", "id_text_0001.glb"),
            ("1", "files", "id_text_x_00001_.png"),
            ("3", "files", "id_away.png"),
        ])
    );
    assert_eq!(Value::Object(collected.texts), json!({"1": ["saved"]}));
    drop((cleanup, facts));
    assert_eq!(stage.left(), ["output/other.png"]);
    assert!(!stage.home.path().join("output/2026").exists());
}

/// F04: in doubt about who made a file the node runs anew; U1 and F21: previews.
#[test]
fn previews_and_files_of_uncertain_origin() {
    let stage = Stage::new(&[
        "output/result.png",
        "temp/a.png",
        "temp/clip_00001.mp4",
        "temp/clip_00001.png",
    ]);
    let graph = json!({
        "1": {"class_type": "Fixed"},
        "2": {"class_type": "PreviewImage"},
        "3": {"class_type": "Clip"}
    });
    let fixed = json!({"1": {"images": [{"filename": "result.png"}]}});
    let preview = json!({"2": {"images": [{"filename": "a.png", "type": "temp"}]},
    "3": {
        "gifs": [
            {"filename": "clip_00001.mp4", "type": "temp"},
            {"filename": "gone.mp4", "subfolder": "s", "type": "temp"}
        ]
    }});
    let facts = stage.facts(graph);
    let shared = RunFacts {
        alone: false,
        ..facts.clone()
    };
    let cached = RunFacts {
        cached: ["1".to_owned(), "2".to_owned()].into(),
        ..facts.clone()
    };
    let (collected, _) = stage.collect(&shared, &fixed);
    assert!(collected.names_shared && collected.files.is_empty() && collected.stale.contains("1"));
    let (collected, _) = stage.collect(&cached, &fixed);
    assert!(!collected.names_shared && collected.files.is_empty() && collected.stale.contains("1"));
    let (collected, _) = stage.collect(&cached, &preview);
    assert_eq!(collected.stale, ["2".to_owned()].into());
    assert!(stage.left().contains(&"temp/a.png".to_owned()));
    stage.write(&["temp/clip_00001.mp4", "temp/clip_00001.png"]);
    let (collected, cleanup) = stage.collect(&facts, &preview);
    assert_eq!(
        found(&collected.previews),
        named(&[("2", "images", "a.png"), ("3", "gifs", "clip_00001.mp4")])
    );
    assert_eq!(
        (
            collected.elsewhere[0].subfolder.as_str(),
            collected.elsewhere[0].filename.as_str()
        ),
        ("s", "gone.mp4")
    );
    drop(cleanup);
    assert_eq!(stage.left(), ["output/result.png"]);
    let (collected, cleanup) = stage.collect(&facts, &fixed);
    assert_eq!(
        found(&collected.files),
        named(&[("1", "images", "result.png")])
    );
    drop(cleanup);
    assert!(stage.left().is_empty());
}
