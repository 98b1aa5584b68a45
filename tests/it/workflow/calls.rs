//! Calls: input parsed, errors placed, globals there, the world outside not.

use serde_json::json;

use super::{file, loaded};

#[tokio::test]
async fn the_first_issue_is_the_message_and_all_are_the_details() {
    let schema = "z.object({ prompt: z.string(), steps: \
                  z.number().int().min(1).max(100).optional().default(20), loras: \
                  z.array(z.object({ name: z.string() })).default([]) })";
    let text = file(schema, "return { 1: { inputs: input } }");
    let (_dir, workflows) = loaded(&[("w.ts", &text)]).await;
    let generated = workflows
        .generate("w", json!({"prompt": "x", "else": 1}))
        .await
        .unwrap();
    assert_eq!(
        generated.input,
        json!({"prompt": "x", "steps": 20, "loras": []})
    );
    let failure = workflows
        .generate("w", json!({"steps": 0, "loras": [{"name": "a"}, {}]}))
        .await
        .unwrap_err();
    assert_eq!(
        (
            failure.message.as_str(),
            failure.location.as_deref(),
            failure.code.as_str()
        ),
        ("Required", Some("input.prompt"), "invalid_request")
    );
    let paths: Vec<_> = failure
        .details
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|issue| issue["path"].clone())
        .collect();
    assert_eq!(
        paths,
        [
            json!(["prompt"]),
            json!(["steps"]),
            json!(["loras", 1, "name"])
        ]
    );
    let failure = workflows
        .generate("w", json!({"prompt": "x", "loras": [{}]}))
        .await
        .unwrap_err();
    assert_eq!(failure.location.as_deref(), Some("input.loras.0.name"));
    let failure = workflows.generate("w", json!("text")).await.unwrap_err();
    assert_eq!(
        (failure.message.as_str(), failure.location.as_deref()),
        ("Expected object, received string", Some("input"))
    );
}

#[tokio::test]
async fn throwing_and_odd_results_are_400() {
    let cases = [
        (
            "throw new Error('no such style')",
            "Failed to generate workflow prompt: no such style",
        ),
        ("throw 'text'", "Failed to generate workflow prompt: text"),
        (
            "return Promise.reject(new Error('later'))",
            "Failed to generate workflow prompt: later",
        ),
        (
            "return (null as any).x",
            "Failed to generate workflow prompt: cannot read property 'x' of null",
        ),
        (
            "return 5",
            "Failed to generate workflow prompt: generateWorkflow must return an object (node id \
             -> node), it returned number",
        ),
        (
            "return [1]",
            "Failed to generate workflow prompt: generateWorkflow must return an object (node id \
             -> node), it returned an array",
        ),
        (
            "",
            "Failed to generate workflow prompt: generateWorkflow must return an object (node id \
             -> node), it returned undefined",
        ),
        (
            "return new Promise(() => {})",
            "Failed to generate workflow prompt: it awaits a promise that never settles",
        ),
    ];
    for (body, message) in cases {
        let (_dir, workflows) = loaded(&[("w.ts", &file("z.object({})", body))]).await;
        let failure = workflows.generate("w", json!({})).await.unwrap_err();
        assert_eq!(
            (
                failure.message.as_str(),
                failure.status.as_u16(),
                failure.location.as_deref()
            ),
            (message, 400, Some("input")),
            "{body}"
        );
    }
}

#[tokio::test]
async fn async_workflows_and_schemas_work() {
    let text = file(
        "z.object({ a: z.string().refine(async (s) => { await null; return s !== 'bad'; }, 'bad \
         word') })",
        "return (async () => { await new Promise((done) => setTimeout(done, 20)); return { got: \
         input.a }; })()",
    );
    let (_dir, workflows) = loaded(&[("w.ts", &text)]).await;
    assert_eq!(
        workflows
            .generate("w", json!({"a": "good"}))
            .await
            .unwrap()
            .prompt,
        json!({"got": "good"})
    );
    assert_eq!(
        workflows
            .generate("w", json!({"a": "bad"}))
            .await
            .unwrap_err()
            .message,
        "bad word"
    );
}

#[tokio::test]
async fn the_globals_of_a_browser_that_recipes_use_are_there() {
    let body = r#"
const url = new URL("../b?x=1&y=a%20b#h", "https://u:p@example.com:8080/a/c");
url.searchParams.set("x", "2");
url.pathname = "/new";
const order: string[] = [];
return new Promise((done) => {
  setTimeout(() => { order.push("late"); done(finish()); }, 15);
  const dropped = setTimeout(() => order.push("never"), 5);
  clearTimeout(dropped);
  setTimeout(() => order.push("soon"), 1);
  queueMicrotask(() => order.push("micro"));
});
function finish() {
  const clone = structuredClone({ a: [1, { b: new Date(5) }], m: new Map([[1, 2]]) });
  return {
    uuid: crypto.randomUUID(), random: Math.random() < 1, clone: [clone.a[1].b instanceof Date, clone.m.get(1)],
    bytes: Array.from(new TextEncoder().encode("é€😀")), text: new TextDecoder().decode(new Uint8Array([0xf0, 0x9f, 0x98, 0x80])),
    href: url.href, host: url.host, query: url.searchParams.get("y"), bad: URL.canParse("nonsense"),
    params: new URLSearchParams({ a: "1 2", b: "ü" }).toString(), base64: [btoa("hello"), atob("aGVsbG8=")], order,
    filled: crypto.getRandomValues(new Uint8Array(4)).length, big: 5n, nothing: undefined,
  };
}"#;
    let (_dir, workflows) = loaded(&[("w.ts", &file("z.object({})", body))]).await;
    let mut prompt = workflows.generate("w", json!({})).await.unwrap().prompt;
    let uuid = prompt["uuid"].take();
    assert!(uuid::Uuid::parse_str(uuid.as_str().unwrap()).is_ok());
    let expected = json!({
        "uuid": null, "random": true, "clone": [true, 2], "bytes": [
            195,
            169,
            226,
            130,
            172,
            240,
            159,
            152,
            128
        ], "text": "😀",
        "href": "https://u:p@example.com:8080/new?x=2&y=a+b#h", "host": "example.com:8080",
        "query": "a b", "bad": false,
        "params": "a=1+2&b=%C3%BC", "base64": ["aGVsbG8=", "hello"],
        "order": ["micro", "soon", "late"], "filled": 4, "big": 5,
    });
    assert_eq!(prompt, expected);
}

#[tokio::test]
async fn there_is_no_way_out() {
    let body = r#"
const tried: Record<string, string> = {};
for (const name of ["fetch", "XMLHttpRequest", "WebSocket", "Deno", "Bun", "std", "os", "Worker", "require"]) {
  tried[name] = typeof (globalThis as any)[name];
}
return Promise.all(["fs", "node:fs", "child_process", "/etc/passwd", "../../../../etc/passwd", "file:///etc/passwd", "https://example.com/x.js", "std", "os", "net"].map(
  (name) => import(name).then(() => "imported", () => "refused"),
)).then((imports) => ({ tried, imports }));"#;
    let (_dir, workflows) = loaded(&[("w.ts", &file("z.object({})", body))]).await;
    let prompt = workflows.generate("w", json!({})).await.unwrap().prompt;
    assert!(
        prompt["tried"]
            .as_object()
            .unwrap()
            .values()
            .all(|kind| kind == "undefined"),
        "{prompt}"
    );
    assert!(
        prompt["imports"]
            .as_array()
            .unwrap()
            .iter()
            .all(|outcome| outcome == "refused"),
        "{prompt}"
    );
}

#[tokio::test]
async fn the_engines_own_doors_lead_nowhere_either() {
    let body = r#"
const tried: Record<string, string> = {};
for (const id of ["/etc/hostname", "/proc/self/environ", "/dev/zero", "/etc/passwd", "../secret.json", input.outside]) {
  try { (globalThis as any).__comfyui_api.load(id); tried[id] = "loaded"; } catch (error) { tried[id] = "refused"; }
}
return tried;"#;
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret.json"), "{\"token\": 1}").unwrap();
    let (_dir, workflows) =
        loaded(&[("w.ts", &file("z.object({ outside: z.string() })", body))]).await;
    let input = json!({"outside": outside.path().join("secret.json")});
    let prompt = workflows.generate("w", input).await.unwrap().prompt;
    assert!(
        prompt.as_object().unwrap().len() == 6
            && prompt
                .as_object()
                .unwrap()
                .values()
                .all(|outcome| outcome == "refused"),
        "{prompt}"
    );
}

#[tokio::test]
async fn large_inputs_pass_and_calls_do_not_share_their_input() {
    let text = file(
        "z.object({ image: z.string(), list: z.array(z.number()).default([]) })",
        "input.list.push(1); return { image: input.image, list: input.list }",
    );
    let (_dir, workflows) = loaded(&[("w.ts", &text)]).await;
    let image = "A".repeat(30_000_000);
    let generated = workflows
        .generate("w", json!({"image": image}))
        .await
        .unwrap();
    assert_eq!(
        generated.prompt["image"].as_str().unwrap().len(),
        image.len()
    );
    assert_eq!(
        generated.input["list"],
        json!([]),
        "the echo is what the schema gave"
    );
}
