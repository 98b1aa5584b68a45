//! Labels of jobs (`metadata`): what they may be, and how they are asked for.

use serde_json::Value;

use super::error::ApiError;

const MOST: usize = 16;
const LONGEST_KEY: usize = 40;
const LONGEST_VALUE: usize = 256;
const LONGEST_TEXT: usize = 1024;

/// The labels one by one; none of a plain text.
pub fn of(metadata: Option<&Value>) -> Result<Vec<(String, String)>, ApiError> {
    let refused = |reason: String| ApiError::unprocessable("metadata_invalid", reason);
    match metadata {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) if text.len() <= LONGEST_TEXT => Ok(Vec::new()),
        Some(Value::String(_)) => Err(refused(format!(
            "\"metadata\" as a text has at most {LONGEST_TEXT} bytes"
        ))),
        Some(Value::Object(members)) => {
            if members.len() > MOST {
                return Err(refused(format!(
                    "\"metadata\" has {} labels: {MOST} are allowed",
                    members.len()
                )));
            }
            members
                .iter()
                .map(|(key, value)| {
                    let shown: String = key.chars().take(60).collect();
                    if !is_key(key) {
                        return Err(refused(format!(
                            "the label \"{shown}\" is not 1 to {LONGEST_KEY} characters of A-Z, \
                             a-z, 0-9, '_', '-' and '.'"
                        )));
                    }
                    match value.as_str() {
                        Some(text) if is_value(text) => Ok((key.clone(), text.to_owned())),
                        Some(_) => Err(refused(format!(
                            "the value of the label \"{shown}\" is longer than {LONGEST_VALUE} \
                             bytes or has control characters"
                        ))),
                        None => Err(refused(format!(
                            "the value of the label \"{shown}\" is not a string"
                        ))),
                    }
                })
                .collect()
        }
        Some(_) => Err(refused("\"metadata\" must be an object of strings".into())),
    }
}

/// What a label may be called.
pub fn is_key(text: &str) -> bool {
    (1..=LONGEST_KEY).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte))
}

/// What a label may say.
pub fn is_value(text: &str) -> bool {
    let bad = |c: char| {
        matches!(
            c,
            '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
    };
    text.len() <= LONGEST_VALUE && !text.chars().any(bad)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_labels_may_be() {
        for good in [
            json!(null),
            json!({}),
            json!({"a.B-_9": ""}),
            json!("plain"),
            json!({"k": "ü".repeat(128)}),
        ] {
            assert!(of(Some(&good)).is_ok(), "{good}");
        }
        let many: serde_json::Map<_, _> = (0..17).map(|n| (format!("k{n}"), json!("v"))).collect();
        let bad = [
            json!([]),
            json!(1),
            json!(true),
            json!({"k": 1}),
            json!({"": "v"}),
            json!({"a b": "v"}),
            json!({"k".repeat(41): "v"}),
            json!({"k": "v".repeat(257)}),
            json!({"k": "a\u{202e}b"}),
            json!({"k": "a\u{85}"}),
            json!(many),
            json!("x".repeat(1025)),
        ];
        for bad in bad {
            assert_eq!(
                of(Some(&bad)).unwrap_err().code,
                "metadata_invalid",
                "{bad}"
            );
        }
    }
}
