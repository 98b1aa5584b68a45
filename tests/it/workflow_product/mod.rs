//! Workflow endpoints of the whole product: files in, the real binary, the simulator as ComfyUI.

mod examples;
mod limits;
mod liveness;
mod transports;

use serde_json::{Value, json};

use crate::support::product::Stage;

/// A workflow file of one schema and one body of `generateWorkflow`.
fn script(schema: &str, body: &str) -> String {
    format!(
        "import {{ z }} from \"zod\";\nimport config from \"../config\";\nconst RequestSchema = \
         {schema};\nexport default {{ RequestSchema, generateWorkflow: (input: any): any => {{ \
         {body} }}, summary: \"A test\" }};\n"
    )
}

/// A workflow that draws one picture of the given colour.
const PICTURE: &str = "return { draw: { class_type: 'EmptyImage', inputs: { width: 64, height: \
                       64, batch_size: 1, color: input.color } }, save: { class_type: \
                       'SaveImage', inputs: { filename_prefix: 'w', images: ['draw', 0] } } };";

/// The same after a while.
const SLOW: &str = "return { draw: { class_type: 'EmptyImage', inputs: { width: 64, height: 64, \
                    batch_size: 1, color: 1 } }, wait: { class_type: 'SimSleep', inputs: { \
                    seconds: input.seconds, steps: 5, value: ['draw', 0] } }, save: { class_type: \
                    'SaveImage', inputs: { filename_prefix: 'w', images: ['wait', 0] } } };";

const COLOR: &str = "z.object({ color: z.number().int().min(0).max(16777215).default(7), style: \
                     z.object({ name: z.enum(['a', 'b']) }).optional() })";

fn stage(files: &[(&str, &str)]) -> Stage {
    let stage = Stage::new().env("ALLOW_PRIVATE_NETWORKS", "true");
    files.iter().fold(stage, |stage, (name, text)| {
        stage.file(&format!("workflows/{name}"), text)
    })
}

/// The first image of an answer, decoded.
fn first_image(answer: &Value) -> Vec<u8> {
    use base64::Engine as _;
    let text = answer["images"][0]
        .as_str()
        .unwrap_or_else(|| panic!("no image in {answer}"));
    base64::engine::general_purpose::STANDARD
        .decode(text)
        .unwrap()
}

fn input(input: &Value) -> Value {
    json!({ "input": input })
}
