//! Reads the JSON that Python writes: `NaN`, `Infinity` and lone surrogates included (comfyui.md,
//! section 2).

use serde::de::DeserializeOwned;

use crate::json::mend;

/// Parses a reply of ComfyUI. What JSON does not know becomes `null` (numbers) or U+FFFD
/// (surrogates).
///
/// # Errors
/// When the text is not JSON even so, or something else than what is wanted.
pub fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, serde_json::Error> {
    match serde_json::from_slice(text) {
        Ok(value) => Ok(value),
        // Mending costs a second pass, so it is only done for the rare text that needs it.
        Err(_) => serde_json::from_slice(&mend(text)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn pythons_json_is_read() {
        assert_eq!(
            parse::<Value>(
                br#"{"a": NaN, "b": [Infinity, -Infinity, -1.5], "c": "NaN \" Infinity"}"#
            )
            .unwrap(),
            json!({"a": null, "b": [null, null, -1.5], "c": "NaN \" Infinity"})
        );
        assert_eq!(
            parse::<Value>(br#"["\ud800", "\ud83d\ude00", "x\udc00y", NaN]"#).unwrap(),
            json!(["\u{fffd}", "\u{1f600}", "x\u{fffd}y", null])
        );
        assert!(parse::<Value>(b"500 Internal Server Error").is_err());
        assert!(parse::<Value>(b"\"\\u12").is_err());
    }
}
