//! No input panics, and none takes long: workflows and media files with anything changed in them.

use std::time::{Duration, Instant};

use comfyui_api::graph::embedded::{Preference, recognise_bytes};
use comfyui_api::graph::recognise::recognise;
use comfyui_api::graph::ui::convert;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::corpus::{cases, classes, dir, moment};

/// Far more than any of these small workflows needs, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// One change: where (of all values, by number) and what.
type Change = (prop::sample::Index, prop::sample::Index, u8);

fn strange(by: prop::sample::Index, kind: u8, other: &Value) -> Value {
    match kind % 14 {
        0 => Value::Null,
        1 => json!(-1),
        2 => json!(by.index(12)),
        3 => json!(u64::MAX),
        4 => json!(1e300),
        5 => json!([]),
        6 => json!({}),
        7 => json!(["-1", "seed"]),
        8 => json!("{a|{b|c"),
        9 => json!("%date:yyyy%/%KSampler.seed%%%"),
        10 => json!("SetNode"),
        11 => json!([[[[]]]]),
        12 => json!("4"),
        _ => other.clone(),
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum(),
        _ => 0,
    }
}

fn nth<'v>(value: &'v mut Value, left: &mut usize) -> Option<&'v mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|item| nth(item, left)),
        Value::Object(map) => map.values_mut().find_map(|item| nth(item, left)),
        _ => None,
    }
}

fn change(workflow: &mut Value, (at, by, kind): &Change) {
    let total = count(workflow);
    let other = nth(workflow, &mut by.index(total))
        .cloned()
        .unwrap_or_default();
    if let Some(place) = nth(workflow, &mut at.index(total)) {
        match (kind % 3, &mut *place) {
            (0, Value::Array(list)) if list.len() < 64 => list.extend(list.clone()),
            (1, Value::Object(map)) if !map.is_empty() => {
                let name = map.keys().nth(by.index(map.len())).cloned().unwrap();
                map.remove(&name);
            }
            _ => *place = strange(*by, kind / 3, &other),
        }
    }
}

#[test]
fn no_workflow_panics_or_takes_long() {
    let cases = cases();
    let small: Vec<_> = cases
        .iter()
        .filter(|case| count(&json!(case.workflow)) < 1500)
        .collect();
    let strategy = (
        any::<prop::sample::Index>(),
        prop::collection::vec(any::<Change>(), 1..12),
    );
    let mut runner = TestRunner::new(Config {
        cases: 1000,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&strategy, |(which, changes)| {
            let case = which.get(&small);
            let mut workflow = json!(case.workflow);
            for one in &changes {
                change(&mut workflow, one);
            }
            let began = Instant::now();
            if let Some(workflow) = workflow.as_object() {
                let _ = convert(workflow, classes(case.packs), moment());
            }
            let _ = recognise(workflow);
            prop_assert!(began.elapsed() < PATIENCE);
            Ok(())
        })
        .unwrap();
}

#[test]
fn no_media_file_panics_or_takes_long() {
    let names = std::fs::read_dir(dir().join("media")).unwrap();
    let files: Vec<Vec<u8>> = names
        .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
        .collect();
    let strategy = (
        any::<prop::sample::Index>(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..20),
        any::<prop::sample::Index>(),
    );
    let mut runner = TestRunner::new(Config {
        cases: 500,
        failure_persistence: None,
        ..Config::default()
    });
    runner
        .run(&strategy, |(which, changes, length)| {
            let mut file = which.get(&files).clone();
            for (at, byte) in &changes {
                // Metadata is mostly near the ends.
                let at = if byte % 2 == 0 {
                    at.index(file.len())
                } else {
                    at.index(128)
                };
                if let Some(place) = file.get_mut(at) {
                    *place = *byte;
                }
            }
            if changes.len() % 2 == 0 {
                file.truncate(length.index(file.len()));
            }
            let began = Instant::now();
            let _ = recognise_bytes(&file, Preference::Prompt);
            prop_assert!(began.elapsed() < PATIENCE);
            Ok(())
        })
        .unwrap();
}
