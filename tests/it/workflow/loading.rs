//! Files become endpoints; broken ones are named and stop nobody.

use std::sync::Arc;
use std::time::{Duration, Instant};

use comfyui_api::config::WorkflowConfig;
use comfyui_api::workflow::{ContextSource, Workflows};
use serde_json::json;

use super::{Stage, config, file, loaded, routes, staged, write};

const GOOD: &str = "z.object({ a: z.number() })";

#[tokio::test]
async fn every_extension_and_directory_becomes_a_route() {
    let esm = file(GOOD, "return { n: { inputs: input } }").replace(": any", "");
    let typescript = file(GOOD, "return { n: { inputs: input } }");
    let common = "const { z } = require('zod'); module.exports = { RequestSchema: z.object({ a: \
                  z.number() }), generateWorkflow: (input) => ({ n: { inputs: input } }) };";
    let last = "const { z } = require('zod');\nconst workflow = { RequestSchema: z.object({ a: \
                z.number() }), generateWorkflow: (input) => ({ n: { inputs: input } }) \
                };\nworkflow;";
    let compiled = "\"use strict\";\nObject.defineProperty(exports, '__esModule', { value: true \
                    });\nvar zod_1 = require('zod');\nvar w = { RequestSchema: zod_1.z.object({ \
                    a: zod_1.z.number() }), generateWorkflow: function (input) { return { n: { \
                    inputs: input } }; } };\nexports.default = w;";
    let mixed = "import { z } from 'zod';\nmodule.exports = { RequestSchema: z.object({ a: \
                 z.number() }), generateWorkflow: async (input: any) => ({ n: { inputs: input } \
                 }) };";
    let import_and_last = "import { z } from 'zod';\nconst w = { RequestSchema: z.object({ a: \
                           z.number() }), generateWorkflow: (input: { a: number }) => ({ n: { \
                           inputs: input } }) };\nw";
    let files = [
        ("a.ts", typescript.as_str()),
        ("b.mjs", &esm),
        ("c.js", common),
        ("d.js", last),
        ("e.mts", &typescript),
        ("deep/er/f.js", compiled),
        ("g.ts", mixed),
        ("h.ts", import_and_last),
        ("sd1.5/i.js", &esm),
    ];
    let (_dir, workflows) = loaded(&files).await;
    let expected = ["a", "b", "c", "d", "deep/er/f", "e", "g", "h", "sd1.5/i"]
        .map(|name| format!("/workflow/{name}"));
    assert_eq!(routes(&workflows), expected);
    for route in expected {
        let path = route.strip_prefix("/workflow/").unwrap();
        let generated = workflows
            .generate(path, json!({"a": 5, "unknown": 1}))
            .await
            .unwrap();
        assert_eq!(
            generated.prompt,
            json!({"n": {"inputs": {"a": 5}}}),
            "{path}"
        );
        assert_eq!(generated.input, json!({"a": 5}), "{path}");
    }
}

#[tokio::test]
async fn a_missing_directory_is_fine() {
    let dir = tempfile::tempdir().unwrap();
    let workflows = Workflows::new(&config(&dir.path().join("none")), Stage::new());
    workflows.load().await;
    assert!(workflows.endpoints().is_empty());
    let failure = workflows.generate("x", json!({})).await.unwrap_err();
    assert_eq!(
        (failure.status.as_u16(), failure.code.as_str()),
        (404, "not_found")
    );
}

#[tokio::test]
async fn a_broken_file_is_named_with_its_place_and_the_others_are_served() {
    let good = file(GOOD, "return {}");
    let throws = "import { z } from 'zod';\ntype A = { x: number };\ninterface B {\n  y: \
                  string;\n}\nconst v: any = undefined;\nconst w = v.missing;\nexport default w;";
    let files = [
        ("good.ts", good.as_str()),
        (
            "syntax.ts",
            "import { z } from 'zod';\n\nconst x: number = = 5;\n",
        ),
        ("plainjs.js", "const a = 1;\nconst b = (;\n"),
        ("throws.ts", throws),
        ("common.js", "const a = 1;\n  nothing.here();\n"),
        (
            "missing.ts",
            "import { x } from './nowhere';\nexport default x;",
        ),
        ("outside.ts", "import fs from 'fs';\nexport default fs;"),
        (
            "uses_broken.ts",
            "import x from './syntax';\nexport default x;",
        ),
        ("bad.json", "{\n  \"prompt\": oops\n}"),
        (
            "noschema.ts",
            "export default { RequestSchema: {}, generateWorkflow() { return {}; } };",
        ),
    ];
    let (_dir, workflows) = loaded(&files).await;
    assert_eq!(routes(&workflows), ["/workflow/good"]);
    let broken = workflows.broken();
    let expected = [
        ("bad", "bad.json", 2, 13, "expected value"),
        ("common", "common.js", 2, 0, "nothing is not defined"),
        ("missing", "missing.ts", 1, 19, "./nowhere"),
        (
            "noschema",
            "noschema.ts",
            1,
            1,
            "RequestSchema is not a zod schema",
        ),
        ("outside", "outside.ts", 1, 16, "'fs'"),
        ("plainjs", "plainjs.js", 2, 12, "Unexpected token"),
        ("syntax", "syntax.ts", 3, 19, "Unexpected token"),
        (
            "throws",
            "throws.ts",
            7,
            0,
            "cannot read property 'missing' of undefined",
        ),
        ("uses_broken", "syntax.ts", 3, 19, "Unexpected token"),
    ];
    assert_eq!(broken.len(), expected.len(), "{broken:#?}");
    for (broken, (name, file, line, column, message)) in broken.iter().zip(expected) {
        assert_eq!(
            (broken.name.as_str(), broken.line),
            (name, line),
            "{broken:?}"
        );
        assert!(
            broken.file.ends_with(file) && broken.message.contains(message),
            "{broken:?}"
        );
        // Where in an expression a read fails is the engine's business; that there is a column is
        // ours.
        assert!(
            broken.column == column || (column == 0 && broken.column > 0),
            "{broken:?}"
        );
    }
    let failure = workflows.generate("syntax", json!({})).await.unwrap_err();
    assert_eq!(failure.status.as_u16(), 404);
}

#[tokio::test]
async fn of_two_files_with_one_name_the_typescript_is_served() {
    let ts = file(GOOD, "return { from: 'ts' }");
    let js = file(GOOD, "return { from: 'js' }").replace(": any", "");
    let graph = "{\"1\": {\"inputs\": {}, \"class_type\": \"X\"}}";
    let (_dir, workflows) = loaded(&[("a.js", &js), ("a.ts", &ts), ("a.json", graph)]).await;
    assert_eq!(routes(&workflows), ["/workflow/a"]);
    assert_eq!(
        workflows
            .generate("a", json!({"a": 1}))
            .await
            .unwrap()
            .prompt,
        json!({"from": "ts"})
    );
}

#[tokio::test]
async fn files_import_each_other_and_data() {
    let files = [
        (
            "main.ts",
            "import { z } from 'zod';\nimport { scale } from './lib/scale';\nimport { more } from \
             './lib/more.js';\nimport graph from './graph.json';\nimport type { Workflow } from \
             '../types';\nimport { ComfyPrompt } from '../types';\nimport old from \
             './lib/old';\nconst w: Workflow = { RequestSchema: z.object({ a: \
             z.number().transform(scale) }), generateWorkflow: (i: any): ComfyPrompt => ({ \
             ...(graph as any), n: [i.a, more, old.name] }) };\nexport default w;",
        ),
        (
            "lib/scale.ts",
            "export enum Factor { Two = 2 }\nexport const scale = (n: number): number => n * \
             Factor.Two;",
        ),
        ("lib/more.ts", "export const more = 'more' as const;"),
        ("lib/old.js", "exports.name = require('./data.json').name;"),
        ("lib/data.json", "{\"name\": \"old\"}"),
        (
            "graph.json",
            "{\"9\": {\"inputs\": {}, \"class_type\": \"SaveImage\"}}",
        ),
    ];
    let (_dir, workflows) = loaded(&files).await;
    // A bare graph is an endpoint, too.
    assert_eq!(routes(&workflows), ["/workflow/graph", "/workflow/main"]);
    let generated = workflows.generate("main", json!({"a": 4})).await.unwrap();
    assert_eq!(
        generated.prompt,
        json!({"9": {"inputs": {}, "class_type": "SaveImage"}, "n": [8, "more", "old"]})
    );
}

#[tokio::test]
async fn config_is_what_comfyui_offers_now() {
    let text = r#"
import { z } from "zod";
import config from "../../config";
const again = require("../config").default;
if (again.samplers.options.length !== config.samplers.options.length) throw new Error("two configs");
let checkpoint: any = config.models.checkpoints.enum.optional();
if (config.warmupCkpt) checkpoint = checkpoint.default(config.warmupCkpt);
const RequestSchema = z.object({
  sampler: config.samplers.optional().default("euler"),
  scheduler: config.schedulers.optional().default("normal"),
  checkpoint,
  unknown: config.models.no_such_folder.enum.optional(),
  empty: config.models.loras.enum.optional(),
});
export default { RequestSchema, generateWorkflow: (i: any) => ({ url: config.comfyURL, dir: config.models.checkpoints.dir, all: config.models.checkpoints.all, none: config.models.no_such_folder.all }) };
"#;
    let (_dir, workflows, stage) = staged(&[("deep/w.ts", text)]).await;
    let generated = workflows
        .generate("deep/w", json!({"checkpoint": "one.safetensors"}))
        .await
        .unwrap();
    assert_eq!(
        generated.input,
        json!({"sampler": "euler", "scheduler": "normal", "checkpoint": "one.safetensors"})
    );
    assert_eq!(
        generated.prompt,
        json!({
            "url": "http://127.0.0.1:8188",
            "dir": "/opt/ComfyUI/models/checkpoints",
            "all": ["one.safetensors", "two.safetensors"],
            "none": []
        })
    );
    for (input, place) in [
        (json!({"checkpoint": "new.safetensors"}), "input.checkpoint"),
        (json!({"unknown": "x"}), "input.unknown"),
        (json!({"empty": "x"}), "input.empty"),
        (json!({"sampler": "no"}), "input.sampler"),
    ] {
        let failure = workflows.generate("deep/w", input).await.unwrap_err();
        assert_eq!(
            (failure.status.as_u16(), failure.location.as_deref()),
            (400, Some(place))
        );
        assert!(
            failure.message.starts_with("Invalid enum value. Expected "),
            "{}",
            failure.message
        );
    }
    stage.change(|context| {
        context
            .models
            .get_mut("checkpoints")
            .unwrap()
            .all
            .push("new.safetensors".into());
        context.warmup_ckpt = Some("new.safetensors".into());
    });
    let generated = workflows.generate("deep/w", json!({})).await.unwrap();
    assert_eq!(generated.input["checkpoint"], "new.safetensors");
    // The documentation follows in the background.
    let deadline = Instant::now() + Duration::from_secs(10);
    while workflows.endpoints()[0].input_schema["properties"]["checkpoint"]["default"]
        != "new.safetensors"
    {
        assert!(
            Instant::now() < deadline,
            "{}",
            workflows.endpoints()[0].input_schema
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_file_that_needs_what_is_not_there_yet_loads_when_it_is() {
    let text = "import { z } from 'zod';\nimport config from '../config';\nconst first = \
                config.models.checkpoints.all[2].toUpperCase();\nexport default { RequestSchema: \
                z.object({}), generateWorkflow: () => ({ first }) };";
    let (_dir, workflows, stage) = staged(&[("w.ts", text)]).await;
    assert_eq!(
        workflows
            .generate("w", json!({}))
            .await
            .unwrap_err()
            .status
            .as_u16(),
        404
    );
    stage.change(|context| {
        context
            .models
            .get_mut("checkpoints")
            .unwrap()
            .all
            .push("third".into())
    });
    assert_eq!(
        workflows.generate("w", json!({})).await.unwrap().prompt,
        json!({"first": "THIRD"})
    );
}

#[tokio::test]
async fn changed_files_are_loaded_while_running_when_watched() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "a.ts", &file(GOOD, "return { version: 1 }"));
    let watched = WorkflowConfig {
        watch: true,
        ..config(dir.path())
    };
    let workflows = Workflows::new(&watched, Stage::new() as Arc<dyn ContextSource>);
    workflows.load().await;
    write(dir.path(), "a.ts", &file(GOOD, "return { version: 'two' }"));
    write(dir.path(), "new/b.ts", &file(GOOD, "return {}"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while workflows
        .generate("a", json!({"a": 1}))
        .await
        .unwrap()
        .prompt
        != json!({"version": "two"})
        || routes(&workflows).len() != 2
    {
        assert!(Instant::now() < deadline, "the change was not seen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    std::fs::remove_file(dir.path().join("a.ts")).unwrap();
    while routes(&workflows) != ["/workflow/new/b"] {
        assert!(Instant::now() < deadline, "the removal was not seen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn typescript_of_all_kinds_loads() {
    let equals = "import zod = require('zod');\nconst z = zod.z;\nnamespace Sizes { export const \
                  small = 64; }\nenum Mode { Fast = 'fast' }\nabstract class Base<T> { \
                  constructor(protected readonly value: T) {} get(): T { return this.value; } \
                  }\nclass Real extends Base<number> {}\nfunction over(a: string): \
                  string;\nfunction over(a: any) { return a; }\ndeclare const nowhere: \
                  number;\nconst s = { RequestSchema: z.object({ a: z.number() }), \
                  generateWorkflow: (i: any) => ({ a: [Sizes.small, Mode.Fast, new \
                  Real(i.a).get(), over('x'), (<any>i).a!, i satisfies object] }) } as \
                  const;\nexport = s;";
    let star = "import * as zod from 'zod';\nimport def, { z, type ZodType, ZodError } from \
                'zod';\nimport { z as z3 } from 'zod/v3';\nimport { z as z4 } from \
                'zod/v4';\nconst t: ZodType<number> = zod.number();\nexport const RequestSchema = \
                z.object({ a: t, b: z4.email().optional(), c: z3.any(), d: \
                def.string().optional() });\nexport async function generateWorkflow(i: \
                z.infer<typeof RequestSchema>) { return { e: typeof ZodError, same: z === z3 }; }";
    let deep = format!("export default {}1{};", "[".repeat(5000), "]".repeat(5000));
    let long = format!(
        "import {{ z }} from 'zod';\nconst n = 0{};\nexport default {{ RequestSchema: \
         z.object({{}}), generateWorkflow: () => ({{ n }}) }};",
        " + 1".repeat(3000)
    );
    let (_dir, workflows) = loaded(&[
        ("equals.ts", equals),
        ("star.mts", star),
        ("deep.ts", &deep),
        ("long.ts", &long),
    ])
    .await;
    let broken = workflows.broken();
    assert_eq!(
        routes(&workflows),
        ["/workflow/equals", "/workflow/long", "/workflow/star"],
        "{broken:#?}"
    );
    assert!(broken[0].message.contains("nested"), "{broken:#?}");
    let generated = workflows.generate("equals", json!({"a": 7})).await.unwrap();
    assert_eq!(
        generated.prompt,
        json!({"a": [64, "fast", 7, "x", 7, {"a": 7}]})
    );
    assert_eq!(
        workflows
            .generate("star", json!({"a": 7}))
            .await
            .unwrap()
            .prompt,
        json!({"e": "function", "same": true})
    );
    assert_eq!(
        workflows.generate("long", json!({})).await.unwrap().prompt,
        json!({"n": 3000})
    );
}
