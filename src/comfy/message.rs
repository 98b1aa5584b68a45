//! ComfyUI's websocket messages (comfyui.md, section 3), parsed as far as routing needs and no
//! further.
//!
//! `progress_state` is cumulative and large, and most prompts have no listener, so a text message
//! stays text until somebody asks for its contents.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::json;
use crate::config::plain_value;

/// One message.
#[derive(Debug, Clone)]
pub enum Message {
    /// JSON.
    Text(TextMessage),
    /// An image that is being made.
    Preview(Preview),
    /// Binary type 3: text from a node, broadcast without a prompt id.
    NodeText,
}

/// A JSON message with its address read.
#[derive(Debug, Clone)]
pub struct TextMessage {
    /// `type`.
    pub kind: String,
    /// `data.prompt_id`, if there is one.
    pub prompt_id: Option<String>,
    text: Utf8Bytes,
}

/// A preview image.
#[derive(Debug, Clone)]
pub struct Preview {
    /// The prompt, when metadata was negotiated.
    pub prompt_id: Option<String>,
    /// The node, likewise.
    pub node_id: Option<String>,
    /// `image/jpeg` or `image/png`.
    pub image_type: String,
    /// The encoded image.
    pub image: Bytes,
}

/// The parts of a message that say where it goes; the rest is skipped, in one pass over the text.
#[derive(Deserialize)]
struct Envelope {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    data: Option<Address>,
}

#[derive(Deserialize)]
struct Address {
    #[serde(default)]
    prompt_id: Option<String>,
}

impl TextMessage {
    /// Reads the address of a message; `None` when it is not an object with a `type`.
    pub fn parse(text: Utf8Bytes) -> Option<Self> {
        // What is skipped is not looked into, so contents that JSON forbids can still hide there;
        // `value` mends them.
        if let Ok(Envelope { kind, data }) = serde_json::from_str::<Envelope>(&text) {
            return Some(Self {
                kind,
                prompt_id: data.and_then(|data| data.prompt_id),
                text,
            });
        }
        // Bare NaN and lone surrogates, or data that is not what it usually is.
        let value: Value = json::parse(text.as_bytes()).ok()?;
        let prompt_id = value
            .pointer("/data/prompt_id")
            .and_then(Value::as_str)
            .map(str::to_owned);
        let kind = value.get("type")?.as_str()?.to_owned();
        Some(Self {
            kind,
            prompt_id,
            text: Utf8Bytes::from(value.to_string()),
        })
    }

    /// The whole message.
    pub fn value(&self) -> Value {
        json::parse(self.text.as_bytes()).unwrap_or_default()
    }

    /// The whole message as valid JSON text on one line, every occurrence of ComfyUI's prompt id
    /// replaced by ours.
    pub fn text_with_id(&self, ours: &str) -> String {
        let valid = match serde_json::from_str::<serde::de::IgnoredAny>(&self.text) {
            // Escapes of surrogates are skipped without a look at whether they have a partner.
            Ok(_) if !self.text.contains('\n') && !has_odd_escapes(&self.text) => {
                self.text.as_str().to_owned()
            }
            _ => plain_value(self.value()).to_string(),
        };
        match &self.prompt_id {
            // Ids are UUIDs on one side and [A-Za-z0-9._-]{1,128} on the other: no escaping, no
            // accidental matches.
            Some(theirs) => valid.replace(theirs.as_str(), ours),
            None => valid,
        }
    }
}

/// Surrogates, and control characters other than the usual white space.
fn has_odd_escapes(text: &str) -> bool {
    [
        "\\ud", "\\uD", "\\u000", "\\u001", "\\u007", "\\u008", "\\u009",
    ]
    .iter()
    .any(|escape| text.contains(escape))
}

impl Preview {
    /// Reads a binary message: types 1 and 4 are previews, 3 is text. `None` for anything else.
    pub fn parse(message: &Bytes) -> Option<Message> {
        let word = |at: usize| {
            message
                .get(at..at + 4)
                .and_then(|four| four.try_into().ok())
                .map(u32::from_be_bytes)
        };
        match word(0)? {
            1 => {
                let image_type = if word(4)? == 2 {
                    "image/png"
                } else {
                    "image/jpeg"
                };
                Some(Message::Preview(Self {
                    prompt_id: None,
                    node_id: None,
                    image_type: image_type.to_owned(),
                    image: message.slice(8..),
                }))
            }
            3 => Some(Message::NodeText),
            4 => {
                let start = 8usize.checked_add(usize::try_from(word(4)?).ok()?)?;
                let metadata: Value = json::parse(message.get(8..start)?).ok()?;
                let text = |name: &str| {
                    metadata
                        .get(name)
                        .and_then(Value::as_str)
                        .map(str::to_owned)
                };
                Some(Message::Preview(Self {
                    prompt_id: text("prompt_id"),
                    node_id: text("display_node_id").or_else(|| text("node_id")),
                    image_type: text("image_type").unwrap_or_else(|| "image/jpeg".to_owned()),
                    image: message.slice(start..),
                }))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_replaced() {
        let message = TextMessage::parse(
            r#"{"type":"progress_state","data":{"prompt_id":"P-1","nodes":{"3":{"prompt_id":"P-1","value":1}}}}"#.into()
        ).unwrap();
        assert_eq!(
            (message.kind.as_str(), message.prompt_id.as_deref()),
            ("progress_state", Some("P-1"))
        );
        assert_eq!(
            message.text_with_id("mine"),
            r#"{"type":"progress_state","data":{"prompt_id":"mine","nodes":{"3":{"prompt_id":"mine","value":1}}}}"#
        );
        let lone = TextMessage::parse(
            r#"{"type":"executed","data":{"prompt_id":"P","output":{"x":["\udcff"]}}}"#.into(),
        )
        .unwrap();
        let mended: Value = serde_json::from_str(&lone.text_with_id("mine")).unwrap();
        assert_eq!(
            mended,
            serde_json::json!({
                "type": "executed",
                "data": {"prompt_id": "mine", "output": {"x": ["\u{fffd}"]}}
            })
        );
        let odd = TextMessage::parse(
            r#"{"type":"executed","data":{"prompt_id":"P","output":{"x":[NaN, "\ud800"]}}}"#.into(),
        )
        .unwrap();
        assert_eq!(odd.prompt_id.as_deref(), Some("P"));
        assert!(odd.text_with_id("q").contains("null"));
        assert!(TextMessage::parse("[]".into()).is_none());
        assert_eq!(
            TextMessage::parse(r#"{"type":"x","data":[1]}"#.into())
                .unwrap()
                .prompt_id,
            None
        );
    }

    #[test]
    fn binary_messages_are_read() {
        let mut typed = vec![0, 0, 0, 4, 0, 0, 0, 0];
        let metadata = br#"{"prompt_id":"P","node_id":"3","image_type":"image/png"}"#;
        typed[7] = u8::try_from(metadata.len()).unwrap();
        typed.extend_from_slice(metadata);
        typed.extend_from_slice(b"IMG");
        let Some(Message::Preview(preview)) = Preview::parse(&typed.into()) else {
            panic!("not a preview")
        };
        assert_eq!(
            (
                preview.prompt_id.as_deref(),
                preview.image_type.as_str(),
                &preview.image[..]
            ),
            (Some("P"), "image/png", &b"IMG"[..])
        );
        for hostile in [
            &[0_u8, 0, 0, 4, 255, 255, 255, 255][..],
            &[0, 0, 0],
            &[0, 0, 0, 1],
            &[0, 0, 0, 9, 1],
        ] {
            assert!(Preview::parse(&Bytes::copy_from_slice(hostile)).is_none());
        }
    }
}
