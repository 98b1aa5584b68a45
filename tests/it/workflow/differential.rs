//! The built-in zod against the real zod 3 and 4: the same schemas, the same inputs, the same
//! answers.

use serde_json::{Value, json};

use super::{loaded, node_modules, write};

/// The cases and what runs them, by their names.
const FILES: [(&str, &str); 6] = [
    ("zod_run.js", include_str!("zod_run.js")),
    ("zod_cases.js", include_str!("zod_cases.js")),
    ("zod_cases/values.js", include_str!("zod_cases/values.js")),
    (
        "zod_cases/structures.js",
        include_str!("zod_cases/structures.js"),
    ),
    (
        "zod_cases/wrappers.js",
        include_str!("zod_cases/wrappers.js"),
    ),
    (
        "zod_cases/messages.js",
        include_str!("zod_cases/messages.js"),
    ),
];
const RUNNER: &str = r#"
const { z } = require("zod");
const { run } = require("./lib/zod_run.js");
module.exports = {
  RequestSchema: z.object({}),
  generateWorkflow: async () => ({ results: await run(z, require("./lib/zod_cases.js")) }),
};
"#;

async fn built_in() -> Vec<Value> {
    let placed = FILES.map(|(name, text)| (format!("lib/{name}"), text));
    let mut files: Vec<(&str, &str)> = placed
        .iter()
        .map(|(name, text)| (name.as_str(), *text))
        .collect();
    files.push(("run.js", RUNNER));
    let (_dir, workflows) = loaded(&files).await;
    let generated = workflows.generate("run", json!({})).await.unwrap();
    generated.prompt["results"].as_array().unwrap().clone()
}

async fn real(package: &str) -> Vec<Value> {
    let path = node_modules().join(package);
    assert!(
        path.join("package.json").is_file(),
        "{} is missing: npm install zod3@npm:zod@3.25.76 zod4@npm:zod@4 there",
        path.display()
    );
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in FILES {
        write(dir.path(), name, text);
    }
    let output = tokio::process::Command::new("node")
        .arg("zod_run.js")
        .arg(path)
        .current_dir(dir.path())
        .output()
        .await
        .expect("node can be started");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test]
async fn the_built_in_zod_answers_as_zod_3_does() {
    let (ours, theirs) = tokio::join!(built_in(), real("zod3"));
    assert_eq!(ours.len(), theirs.len());
    assert!(ours.len() > 900, "only {} cases", ours.len());
    let different: Vec<String> = ours
        .iter()
        .zip(&theirs)
        .filter(|(a, b)| a != b)
        .map(|(a, b)| format!("ours   {a}\nzod 3  {b}\n"))
        .collect();
    assert!(
        different.is_empty(),
        "{} of {} differ:\n{}",
        different.len(),
        ours.len(),
        different.join("\n")
    );
}

/// What zod 4 calls the issues of zod 3.
fn code_of_4(code: &str) -> &str {
    match code {
        "invalid_string" => "invalid_format",
        "invalid_literal" | "invalid_enum_value" => "invalid_value",
        "invalid_union_discriminator" => "invalid_union",
        "invalid_date" | "not_finite" => "invalid_type",
        other => other,
    }
}

type Places = Vec<(Vec<Value>, String)>;

/// Path and code of each issue, in zod 4's words.
fn places(result: &Value, translate: bool) -> Option<Places> {
    let place = |issue: &Value| {
        let code = issue["code"].as_str().unwrap_or_default();
        // zod 4 says invalid_value for any wrong value of an enum, also for one of the wrong type.
        let enumerated = issue["expected"]
            .as_str()
            .is_some_and(|expected| expected.contains('\''));
        let code = match code {
            _ if translate && enumerated => "invalid_value",
            _ if translate => code_of_4(code),
            _ => code,
        };
        (
            issue["path"].as_array().cloned().unwrap_or_default(),
            code.to_owned(),
        )
    };
    Some(
        result
            .get("issues")?
            .as_array()?
            .iter()
            .map(place)
            .collect(),
    )
}

/// Leaves out what the two libraries do differently by design, on both sides:
/// - zod 4 reports a half-fitting option of a union as `invalid_union`, zod 3 as that option's own
///   issues;
/// - at a place of the wrong type (also: no integer) only one of them goes on to check lengths and
///   ranges;
/// - below an array or tuple of the wrong length only zod 3 looks at the items.
fn comparable(places: &Places, unions: &[Vec<Value>]) -> Vec<(String, String)> {
    const SIZES: [&str; 3] = ["too_small", "too_big", "not_multiple_of"];
    let is_size = |code: &str| SIZES.contains(&code);
    let mut left: Vec<(String, String)> = places
        .iter()
        .filter(|(path, code)| {
            !(is_size(code)
                && places
                    .iter()
                    .any(|(other, kind)| other == path && kind == "invalid_type"))
        })
        .filter(|(path, _)| {
            !places.iter().any(|(other, kind)| {
                is_size(kind) && other.len() < path.len() && path.starts_with(other)
            })
        })
        .map(
            |(path, code)| match unions.iter().find(|union| path.starts_with(union)) {
                Some(union) => (
                    Value::from(union.clone()).to_string(),
                    "invalid_union".to_owned(),
                ),
                None => (Value::from(path.clone()).to_string(), code.clone()),
            },
        )
        .collect();
    left.sort();
    left.dedup();
    left
}

/// zod 4 lets the optional last items of a tuple be absent; zod 3 wants them all.
const OPTIONAL_TUPLE_TAIL: [&str; 1] = ["generated 594"];

fn alike(ours: &Value, theirs: &Value) -> bool {
    if OPTIONAL_TUPLE_TAIL.iter().any(|name| ours["name"] == *name) {
        return true;
    }
    let (Some(a), Some(b)) = (places(ours, true), places(theirs, false)) else {
        return ours.get("issues").is_some() == theirs.get("issues").is_some()
            && ours.get("value") == theirs.get("value");
    };
    let unions: Vec<Vec<Value>> = a
        .iter()
        .chain(&b)
        .filter(|(_, code)| code == "invalid_union")
        .map(|(path, _)| path.clone())
        .collect();
    comparable(&a, &unions) == comparable(&b, &unions)
}

#[tokio::test]
async fn the_built_in_zod_accepts_and_refuses_what_zod_4_does() {
    let (ours, theirs) = tokio::join!(built_in(), real("zod4"));
    assert_eq!(ours.len(), theirs.len());
    let compared: Vec<_> = ours
        .iter()
        .zip(&theirs)
        .filter(|(ours, _)| ours["not4"].is_null())
        .collect();
    assert!(compared.len() > 800, "only {} cases", compared.len());
    let different: Vec<String> = compared
        .iter()
        .filter(|(ours, theirs)| !alike(ours, theirs))
        .map(|(a, b)| format!("ours   {a}\nzod 4  {b}\n"))
        .collect();
    assert!(
        different.is_empty(),
        "{} of {} differ:\n{}",
        different.len(),
        compared.len(),
        different.join("\n")
    );
}
