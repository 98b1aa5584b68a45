//! A real zod that the user put into the workflow directory is used in place of the built-in one.

use serde_json::json;

use super::{Stage, config, node_modules, routes, write};
use comfyui_api::workflow::Workflows;

const FILES: [(&str, &str); 3] = [
    (
        "esm.ts",
        "import { z } from 'zod';\nimport config from '../config';\nexport default { \
         RequestSchema: z.object({ s: config.samplers.default('euler'), n: \
         z.number().int().min(1).default(2).describe('N'), c: \
         config.models.checkpoints.enum.optional() }), generateWorkflow: (i: any) => ({ i, real: \
         !('__builtin' in z), v4: '_zod' in z.string() }) };",
    ),
    (
        "cjs.js",
        "const { z } = require('zod');\nmodule.exports = { RequestSchema: z.object({ a: \
         z.string().optional() }), generateWorkflow: (i) => ({ v4: '_zod' in z.string() }) };",
    ),
    (
        "star.ts",
        "import * as z from 'zod/v4';\nexport default { RequestSchema: z.object({ a: \
         z.string().optional() }), generateWorkflow: () => ({ v4: '_zod' in z.string() }) };",
    ),
];

async fn with_package(package: &str) -> (tempfile::TempDir, Workflows) {
    let dir = tempfile::tempdir().unwrap();
    let from = node_modules().join(package);
    assert!(
        from.join("package.json").is_file(),
        "{} is missing: npm install zod3@npm:zod@3.25.76 zod4@npm:zod@4 there",
        from.display()
    );
    let to = dir.path().join("node_modules");
    std::fs::create_dir(&to).unwrap();
    let status = std::process::Command::new("cp")
        .arg("-r")
        .arg(from)
        .arg(to.join("zod"))
        .status()
        .unwrap();
    assert!(status.success());
    for (name, text) in FILES {
        write(dir.path(), name, text);
    }
    let workflows = Workflows::new(&config(dir.path()), Stage::new());
    workflows.load().await;
    (dir, workflows)
}

#[tokio::test]
async fn real_zod_3_loads() {
    let (_dir, workflows) = with_package("zod3").await;
    assert_eq!(
        routes(&workflows),
        ["/workflow/cjs", "/workflow/esm", "/workflow/star"]
    );
    let generated = workflows
        .generate("esm", json!({"extra": 1}))
        .await
        .unwrap();
    assert_eq!(generated.input, json!({"s": "euler", "n": 2}));
    assert_eq!(generated.prompt["v4"], false);
    assert_eq!(
        workflows.generate("star", json!({})).await.unwrap().prompt,
        json!({"v4": true})
    );
    let failure = workflows
        .generate("esm", json!({"n": 0}))
        .await
        .unwrap_err();
    assert_eq!(
        (failure.message.as_str(), failure.location.as_deref()),
        ("Number must be greater than or equal to 1", Some("input.n"))
    );
    let schema = &workflows.endpoints()[1].input_schema["properties"];
    assert_eq!(
        schema["n"],
        json!({"type": "integer", "minimum": 1, "default": 2, "description": "N"})
    );
}

#[tokio::test]
async fn real_zod_4_loads() {
    let (_dir, workflows) = with_package("zod4").await;
    assert_eq!(
        routes(&workflows),
        ["/workflow/cjs", "/workflow/esm", "/workflow/star"]
    );
    let generated = workflows
        .generate("esm", json!({"extra": 1}))
        .await
        .unwrap();
    assert_eq!(generated.input, json!({"s": "euler", "n": 2}));
    assert_eq!(generated.prompt["v4"], true);
    assert_eq!(
        workflows.generate("cjs", json!({})).await.unwrap().prompt,
        json!({"v4": true})
    );
    let failure = workflows
        .generate("esm", json!({"c": "none"}))
        .await
        .unwrap_err();
    assert_eq!(failure.location.as_deref(), Some("input.c"));
    let endpoint = workflows.endpoints().remove(1);
    assert_eq!(endpoint.input_schema["properties"]["n"]["minimum"], 1);
    assert_eq!(endpoint.input_schema["properties"]["n"]["default"], 2);
    assert!(
        endpoint
            .description
            .unwrap()
            .contains("| n | number | N | 2 |")
    );
}
