//! What a widget holds that was never touched.

use serde_json::{Value, json};

use crate::graph::catalogue::{Control, InputDefinition};
use crate::graph::ui::text;

/// Control widgets behind a number or a choice.
pub fn controls(input: &InputDefinition, name: &str) -> usize {
    let implicit = is_implicit_seed(input, name);
    usize::from(input.control == Control::On || implicit)
}

/// A seed has a control widget although its class does not say so.
pub fn is_implicit_seed(input: &InputDefinition, name: &str) -> bool {
    input.control == Control::Absent
        && input.widget_kind() == "INT"
        && matches!(name, "seed" | "noise_seed")
}

/// The value of a widget that the file says nothing of.
pub fn default(input: &InputDefinition) -> Option<Value> {
    let is_choice = matches!(input.widget_kind(), "COMBO" | "COMFY_DYNAMICCOMBO_V3");
    if is_choice {
        let default = input.default.clone().filter(text::is_truthy);
        return default.or_else(|| input.first_choice());
    }
    if input.default.is_some() {
        return input.default.clone();
    }
    Some(match input.widget_kind() {
        "INT" | "FLOAT" => json!(0),
        "BOOLEAN" => json!(false),
        "STRING" | "TEXTAREA" | "MARKDOWN" | "PAINTER" => json!(""),
        "LOAD_3D" | "WEBCAM" | "AUDIO_RECORD" => json!(""),
        "COLOR" => json!("#000000"),
        "BOUNDING_BOX" => json!({"x": 0, "y": 0, "width": 512, "height": 512}),
        "BOUNDING_BOXES" | "COLORS" => json!([]),
        "CURVE" => json!({"points": [[0, 0], [1, 1]], "interpolation": "monotone_cubic"}),
        _ => return None,
    })
}

/// What becomes of a saved value.
pub(super) fn finished(class: &str, input: &InputDefinition, value: Value) -> Value {
    if matches!(
        input.name.as_str(),
        "Select to add LoRA" | "Select to add Wildcard"
    ) {
        return input.first_choice().unwrap_or(value);
    }
    match (input.widget_kind(), value) {
        ("COMBO" | "COMFY_DYNAMICCOMBO_V3", Value::Null) => {
            input.first_choice().unwrap_or(Value::Null)
        }
        ("COMBO", Value::Object(mut object)) => match object.shift_remove("content") {
            Some(content) => content,
            None => Value::Object(object),
        },
        (_, Value::String(text))
            if input.name == "sampler_name"
                && matches!(class, "KSampler" | "KSamplerAdvanced")
                && text.starts_with("sample_") =>
        {
            Value::String(text.trim_start_matches("sample_").to_owned())
        }
        ("STRING" | "TEXTAREA" | "MARKDOWN", value)
            if !value.is_string() && (input.multiline || input.widget_kind() != "STRING") =>
        {
            Value::String(text::javascript(&value))
        }
        (_, value) => value,
    }
}
