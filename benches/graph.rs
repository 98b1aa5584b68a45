//! Conversion of the editor's workflows: the largest official template, and reading what ComfyUI
//! says of its nodes.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::allow_attributes,
    reason = "criterion's macros make undocumented functions; a benchmark may stop"
)]

use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use comfyui_api::graph::catalogue::NodeClasses;
use comfyui_api::graph::ui::{Moment, convert};
use criterion::{Criterion, criterion_group, criterion_main};
use flate2::read::GzDecoder;
use serde_json::{Map, Value};

fn unpacked(name: &str) -> impl Read {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/ui-format");
    GzDecoder::new(std::fs::File::open(dir.join(name)).unwrap())
}

fn largest_template() -> Map<String, Value> {
    let lines = ["templates-1.ndjson.gz", "templates-2.ndjson.gz"]
        .into_iter()
        .flat_map(|name| BufReader::new(unpacked(name)).lines().map(Result::unwrap));
    let largest = lines.max_by_key(String::len).unwrap();
    let mut case: Value = serde_json::from_str(&largest).unwrap();
    match case["workflow"].take() {
        Value::Object(workflow) => workflow,
        _ => Map::new(),
    }
}

fn conversion(criterion: &mut Criterion) {
    let info: Value = serde_json::from_reader(unpacked("object_info.json.gz")).unwrap();
    criterion.bench_function("read object_info", |bencher| {
        bencher.iter(|| NodeClasses::read(&info));
    });
    let classes = NodeClasses::read(&info);
    let workflow = largest_template();
    criterion.bench_function("convert the largest template", |bencher| {
        bencher.iter(|| convert(&workflow, &classes, Moment::now()).unwrap());
    });
}

criterion_group!(benches, conversion);
criterion_main!(benches);
