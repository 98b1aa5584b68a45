//! OpenAPI and the markdown table from zod schemas.

use serde_json::json;

use super::{Stage, config, file, loaded, write};
use comfyui_api::config::WorkflowConfig;
use comfyui_api::workflow::Workflows;

const SCHEMA: &str = r#"z.object({
  prompt: z.string().min(1).max(1000).describe("The | prompt"),
  email: z.string().email().optional(),
  site: z.string().url().nullable(),
  id: z.string().regex(/^[a-z]+$/).optional(),
  steps: z.number().int().min(1).max(100).optional().default(20).describe("Steps"),
  cfg: z.number().gt(0).lt(20).multipleOf(0.5).default(7),
  seed: z.number().int().default(() => Math.floor(Math.random() * 1e15)),
  sampler: z.enum(["euler", "ddim"]).default("euler"),
  mode: z.literal("fast").optional(),
  size: z.union([z.literal("s"), z.literal("m")]).optional(),
  either: z.union([z.string(), z.number()]),
  list: z.array(z.object({ name: z.string(), weight: z.number().default(1) })).min(1).max(3),
  pair: z.tuple([z.number(), z.string()]).optional(),
  map: z.record(z.string(), z.number()).optional(),
  strict: z.object({ a: z.boolean() }).strict().optional(),
  shape: z.discriminatedUnion("kind", [z.object({ kind: z.literal("a") }), z.object({ kind: z.literal("b"), n: z.number() })]).optional(),
  refined: z.string().refine((s) => s !== "x").describe("No x"),
  when: z.string().datetime().optional(),
})"#;

#[tokio::test]
async fn a_schema_becomes_json_schema() {
    let (_dir, workflows) = loaded(&[("w.ts", &file(SCHEMA, "return {}"))]).await;
    let schema = workflows.endpoints().remove(0).input_schema;
    let expected = json!({
        "prompt": {
            "type": "string",
            "minLength": 1,
            "maxLength": 1000,
            "description": "The | prompt"
        },
        "email": {"type": "string", "format": "email"},
        "site": {"type": ["string", "null"], "format": "uri"},
        "id": {"type": "string", "pattern": "^[a-z]+$"},
        "steps": {
            "type": "integer",
            "minimum": 1,
            "maximum": 100,
            "default": 20,
            "description": "Steps"
        },
        "cfg": {
            "type": "number",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 20,
            "multipleOf": 0.5,
            "default": 7
        },
        "seed": {"type": "integer"},
        "sampler": {"type": "string", "enum": ["euler", "ddim"], "default": "euler"},
        "mode": {"type": "string", "const": "fast"},
        "size": {"type": "string", "enum": ["s", "m"]},
        "either": {"anyOf": [{"type": "string"}, {"type": "number"}]},
        "list": {
            "type": "array",
            "minItems": 1,
            "maxItems": 3,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string"},
                    "weight": {"type": "number", "default": 1}
                },
                "required": ["name"]
            }
        },
        "pair": {
            "type": "array",
            "prefixItems": [{"type": "number"}, {"type": "string"}],
            "minItems": 2,
            "maxItems": 2
        },
        "map": {"type": "object", "additionalProperties": {"type": "number"}},
        "strict": {
            "type": "object",
            "properties": {"a": {"type": "boolean"}},
            "required": ["a"],
            "additionalProperties": false
        },
        "shape": {"oneOf": [
            {
                "type": "object",
                "properties": {"kind": {"type": "string", "const": "a"}},
                "required": ["kind"]
            },
            {
                "type": "object",
                "properties": {"kind": {"type": "string", "const": "b"}, "n": {"type": "number"}},
                "required": ["kind", "n"]
            },
        ]},
        "refined": {"type": "string", "description": "No x"},
        "when": {"type": "string", "format": "date-time"},
    });
    assert_eq!(schema["properties"], expected);
    assert_eq!(
        schema["required"],
        json!(["prompt", "site", "either", "list", "refined"])
    );
}

#[tokio::test]
async fn the_description_is_a_markdown_table() {
    let (_dir, workflows) = loaded(&[("w.ts", &file(SCHEMA, "return {}"))]).await;
    let endpoint = workflows.endpoints().remove(0);
    assert_eq!(endpoint.summary.as_deref(), Some("w"));
    let description = endpoint.description.unwrap();
    let rows: Vec<&str> = description.lines().collect();
    assert_eq!(
        rows[..3],
        [
            "| Field | Type | Description | Default |",
            "|-|-|-|-|",
            "| prompt | string | The \\| prompt | **Required** |"
        ]
    );
    for row in [
        "| email | string |  | - |",
        "| steps | number | Steps | 20 |",
        "| seed | number |  | *generated* |",
        "| sampler | enum (`euler`, `ddim`) |  | \"euler\" |",
        "| mode | literal (\"fast\") |  | - |",
        "| either | string, number |  | **Required** |",
        "| list | object[] |  | **Required** |",
        "| refined | string | No x | **Required** |",
    ] {
        assert!(rows.contains(&row), "{row} is not in\n{description}");
    }
}

#[tokio::test]
async fn without_tables_the_description_is_the_files_own() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        "w.ts",
        "import { z } from 'zod';\nexport default { RequestSchema: z.object({}), \
         generateWorkflow: () => ({}), summary: 'S', description: 'D' };",
    );
    write(dir.path(), "x.ts", &file("z.object({})", "return {}"));
    let workflows = Workflows::new(
        &WorkflowConfig {
            markdown_descriptions: false,
            ..config(dir.path())
        },
        Stage::new(),
    );
    workflows.load().await;
    let endpoints = workflows.endpoints();
    assert_eq!(
        (
            endpoints[0].summary.as_deref(),
            endpoints[0].description.as_deref()
        ),
        (Some("S"), Some("D"))
    );
    assert_eq!(
        (
            endpoints[1].summary.as_deref(),
            endpoints[1].description.as_deref()
        ),
        (Some("x"), None)
    );
}

#[tokio::test]
async fn a_schema_that_contains_itself_ends() {
    let schema = "z.object({ tree: (() => { const t: any = z.object({ children: z.lazy(() => \
                  z.array(t)).default([]) }); return t; })() })";
    let (_dir, workflows) = loaded(&[("w.ts", &file(schema, "return {}"))]).await;
    let schema = workflows.endpoints().remove(0).input_schema;
    assert_eq!(
        schema["properties"]["tree"]["properties"]["children"]["items"]["type"],
        "object"
    );
}
