//! The markdown table of inputs, for schemas that exist as JSON Schema only (plain JSON workflows,
//! a user's zod 4).

use serde_json::Value;

/// `| Field | Type | Description | Default |`, one row a property.
pub fn markdown(schema: &Value) -> String {
    let mut table = String::from("| Field | Type | Description | Default |\n|-|-|-|-|\n");
    let required: Vec<&str> = schema
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    for (name, field) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        let description = field
            .get("description")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let default = match field.get("default") {
            Some(default) => default.to_string(),
            None if required.contains(&name.as_str()) => "**Required**".to_owned(),
            None => "-".to_owned(),
        };
        table.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            cell(name),
            cell(&type_word(field)),
            cell(description),
            cell(&default)
        ));
    }
    table
}

fn cell(text: &str) -> String {
    text.replace(['\r', '\n'], " ").replace('|', "\\|")
}

fn type_word(field: &Value) -> String {
    if let Some(values) = field.get("enum").and_then(Value::as_array) {
        let words: Vec<String> = values
            .iter()
            .map(|value| {
                format!(
                    "`{}`",
                    value
                        .as_str()
                        .map_or_else(|| value.to_string(), str::to_owned)
                )
            })
            .collect();
        return format!("enum ({})", words.join(", "));
    }
    if let Some(value) = field.get("const") {
        return format!("literal ({value})");
    }
    if let Some(options) = ["anyOf", "oneOf"]
        .iter()
        .find_map(|name| field.get(*name))
        .and_then(Value::as_array)
    {
        return options.iter().map(type_word).collect::<Vec<_>>().join(", ");
    }
    let word = |name: &str| match name {
        "integer" => "number".to_owned(),
        "array" => format!(
            "{}[]",
            field
                .get("items")
                .map_or_else(|| "any".to_owned(), type_word)
        ),
        other => other.to_owned(),
    };
    match field.get("type") {
        Some(Value::String(name)) => word(name),
        Some(Value::Array(names)) => names
            .iter()
            .filter_map(Value::as_str)
            .map(word)
            .collect::<Vec<_>>()
            .join(", "),
        _ => "any".to_owned(),
    }
}
