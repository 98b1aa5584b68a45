//! Values that are the same for JSON Schema.

use serde_json::Value;

/// Equal as JSON Schema sees it: 1 and 1.0 are the same number.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

/// A text that two values share when they are equal as JSON Schema sees it, so that long lists need
/// not be compared pair by pair.
pub(super) fn canonical(value: &Value) -> String {
    match value {
        // 1.0 is written as 1, and adding zero makes 0 of -0.
        Value::Number(number) if number.is_f64() => {
            (number.as_f64().unwrap_or_default() + 0.0).to_string()
        }
        Value::Array(items) => format!(
            "[{}]",
            items.iter().map(canonical).collect::<Vec<_>>().join(",")
        ),
        Value::Object(object) => {
            let mut members: Vec<String> = object
                .iter()
                .map(|(name, member)| {
                    format!("{}:{}", Value::from(name.as_str()), canonical(member))
                })
                .collect();
            members.sort_unstable();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}
