//! Reads `tests/corpus/ui-format` and compares as its README says.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use comfyui_api::graph::catalogue::NodeClasses;
use comfyui_api::graph::ui::Moment;
use serde_json::{Map, Value};

/// One case.
pub struct Case {
    pub id: String,
    pub workflow: Map<String, Value>,
    pub case: Value,
    /// With the classes of custom packs.
    pub packs: bool,
}

pub fn dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/ui-format")
}

/// The recorded `/object_info`.
pub static OBJECT_INFO: LazyLock<Value> = LazyLock::new(|| read("object_info.json.gz"));
/// Its classes.
pub static CLASSES: LazyLock<NodeClasses> = LazyLock::new(|| NodeClasses::read(&OBJECT_INFO));
/// With those of packs.
pub static WITH_PACKS: LazyLock<NodeClasses> = LazyLock::new(|| {
    let mut all = OBJECT_INFO.as_object().unwrap().clone();
    let packs = read("packs_object_info.json.gz");
    all.extend(packs.as_object().unwrap().clone());
    NodeClasses::read(&Value::Object(all))
});

pub fn cases() -> Vec<Case> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(dir().join("hand"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    let hand = files
        .iter()
        .map(|path| (std::fs::read_to_string(path).unwrap(), false));
    let mut all: Vec<Case> = hand.map(|(text, packs)| case(&text, packs)).collect();
    for (name, packs) in [
        ("templates-1", false),
        ("templates-2", false),
        ("auto", false),
        ("packs", true),
    ] {
        let lines = unpacked(&format!("{name}.ndjson.gz"));
        all.extend(lines.lines().map(|line| case(line, packs)));
    }
    all
}

fn case(text: &str, packs: bool) -> Case {
    let mut case: Value = serde_json::from_str(text).unwrap();
    let Value::Object(workflow) = case["workflow"].take() else {
        panic!("no workflow")
    };
    Case {
        id: case["id"].as_str().unwrap().to_owned(),
        workflow,
        case,
        packs,
    }
}

pub fn classes(packs: bool) -> &'static NodeClasses {
    if packs { &WITH_PACKS } else { &CLASSES }
}

pub fn moment() -> Moment {
    Moment {
        now: jiff::civil::date(2026, 3, 4).at(5, 6, 7, 0),
        seed: 1,
    }
}

fn read(name: &str) -> Value {
    serde_json::from_str(&unpacked(name)).unwrap()
}

fn unpacked(name: &str) -> String {
    let mut text = String::new();
    let file = std::fs::File::open(dir().join(name)).unwrap();
    flate2::read::GzDecoder::new(file)
        .read_to_string(&mut text)
        .unwrap();
    text
}

/// The first difference between an expected graph and a converted one.
pub fn difference(case: &Value, graph: &Map<String, Value>) -> Option<String> {
    let want = case["expect"]["prompt"].as_object().unwrap();
    let ignored: BTreeSet<&str> = case["ignore"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if case["free_ids"] == true {
        let same = same_up_to_ids(want, graph);
        return (!same).then(|| "not the same graph, whatever the ids".to_owned());
    }
    let ids: BTreeSet<&String> = want.keys().chain(graph.keys()).collect();
    ids.into_iter().find_map(|id| {
        let (Some(want), Some(got)) = (want.get(id), graph.get(id)) else {
            return Some(format!("node {id} is there in one of both only"));
        };
        let title = want["_meta"]["title"].as_str();
        if title.is_some() && title != got["_meta"]["title"].as_str() {
            return Some(format!("the title of {id} is {}", got["_meta"]["title"]));
        }
        if want["class_type"] != got["class_type"] {
            return Some(format!("the class of {id} is {}", got["class_type"]));
        }
        let (want, got) = (
            want["inputs"].as_object().unwrap(),
            got["inputs"].as_object().unwrap(),
        );
        let names: BTreeSet<&String> = want.keys().chain(got.keys()).collect();
        names.into_iter().find_map(|name| {
            let at = format!("{id}.{name}");
            let (want, got) = (want.get(name).map(plain), got.get(name).map(plain));
            let differs = want != got && !ignored.contains(at.as_str());
            differs.then(|| format!("{at} is {got:?}, want {want:?}"))
        })
    })
}

/// All numbers as floats.
fn plain(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().unwrap().into(),
        Value::Array(list) => list.iter().map(plain).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| (name.clone(), plain(value)))
            .collect(),
        other => other.clone(),
    }
}

/// Whether a one-to-one renaming of ids turns one small graph into the other.
fn same_up_to_ids(want: &Map<String, Value>, got: &Map<String, Value>) -> bool {
    fn search(
        left: &[&String],
        names: &mut Vec<(String, String)>,
        want: &Map<String, Value>,
        got: &Map<String, Value>,
    ) -> bool {
        let Some((id, left)) = left.split_first() else {
            let renamed = renamed(want, names);
            return renamed.iter().all(|(id, node)| {
                got[id]["class_type"] == node["class_type"]
                    && plain(&got[id]["inputs"]) == plain(&node["inputs"])
            });
        };
        got.keys().any(|other| {
            let free = names.iter().all(|(_, taken)| taken != other);
            if !free || want[*id]["class_type"] != got[other]["class_type"] {
                return false;
            }
            names.push(((*id).clone(), other.clone()));
            let found = search(left, names, want, got);
            names.pop();
            found
        })
    }
    let ids: Vec<&String> = want.keys().collect();
    want.len() == got.len() && search(&ids, &mut Vec::new(), want, got)
}

fn renamed(graph: &Map<String, Value>, names: &[(String, String)]) -> Map<String, Value> {
    let name = |id: &str| {
        names
            .iter()
            .find(|(from, _)| from == id)
            .map(|(_, to)| to.clone())
    };
    let mut renamed = Map::new();
    for (id, node) in graph {
        let mut node = node.clone();
        for value in node["inputs"].as_object_mut().unwrap().values_mut() {
            if let Some(link) = value.as_array_mut()
                && let Some(to) = link.first().and_then(Value::as_str).and_then(name)
            {
                link[0] = to.into();
            }
        }
        renamed.insert(name(id).unwrap(), node);
    }
    renamed
}
