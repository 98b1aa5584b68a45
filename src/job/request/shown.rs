//! A request as it is remembered and shown: without secrets, and without media that travel in it.
//! It is written as JSON while it is looked at, for that is how it is kept.

use serde::Serialize;
use serde_json::{Map, Value, json};

use super::PromptRequest;
use crate::config::public_str;

/// Media in a request above so many bytes are only counted.
const SHORT_MEDIA: usize = 1024;
/// What a value costs beside its text, about.
const OVERHEAD: usize = 8;

/// Which inputs take media: class and input.
pub type IsMedia<'a> = &'a dyn Fn(&str, &str) -> bool;

impl PromptRequest {
    /// The request as JSON, as its client could send it again, but for what is left out. `None`
    /// when that has more than `most` bytes, about. The graph is not part of it where a workflow
    /// endpoint has made it of the `input`.
    pub fn shown(&self, from_endpoint: bool, is_media: IsMedia<'_>, most: usize) -> Option<String> {
        let mut shown = Shown::new(most);
        shown.object(|shown| {
            if self.id_is_callers {
                shown.name("id")?;
                shown.string(&self.id)?;
            }
            for (name, value) in self.echo.iter().filter(|(name, _)| *name != "job_id") {
                shown.name(name)?;
                shown.value(value, false)?;
            }
            if from_endpoint {
                return Some(());
            }
            shown.name("prompt")?;
            match &self.workflow {
                Some(workflow) => shown.members(workflow, false),
                None => shown.graph(&self.graph, is_media),
            }
        })?;
        shown.whole()
    }
}

/// The body of a request that was recorded, likewise.
pub fn shown_body(body: &Map<String, Value>, from_endpoint: bool, is_media: IsMedia<'_>) -> String {
    let named = ["prompt", "workflow"];
    let named = named.into_iter().find(|name| body.contains_key(*name));
    let named = named.unwrap_or_default();
    let hidden = ["extra_data", "credentials", "job_id", named];
    let mut shown = Shown::new(usize::MAX);
    let written = shown.object(|shown| {
        for (name, value) in body
            .iter()
            .filter(|(name, _)| !hidden.contains(&name.as_str()))
        {
            shown.name(name)?;
            shown.value(value, false)?;
        }
        let Some(graph) = body.get(named).filter(|_| !from_endpoint) else {
            return Some(());
        };
        shown.name("prompt")?;
        match graph {
            Value::Object(graph) if !graph.get("nodes").is_some_and(Value::is_array) => {
                shown.graph(graph, is_media)
            }
            other => shown.value(other, false),
        }
    });
    written.and_then(|()| shown.whole()).unwrap_or_default()
}

/// A graph in API format, likewise; `None` when it has more than `most` bytes, about.
pub fn shown_graph(
    graph: &Map<String, Value>,
    is_media: IsMedia<'_>,
    most: usize,
) -> Option<String> {
    let mut shown = Shown::new(most);
    shown.graph(graph, is_media)?;
    shown.whole()
}

/// JSON that is being written. Everything ends with `None` once it is too long.
struct Shown {
    text: Vec<u8>,
    /// What it may still cost.
    left: usize,
    /// No member or item of this object or list is there yet.
    first: bool,
}

impl Shown {
    const fn new(most: usize) -> Self {
        Self {
            text: Vec::new(),
            left: most,
            first: true,
        }
    }

    fn whole(self) -> Option<String> {
        String::from_utf8(self.text).ok()
    }

    fn spend(&mut self, bytes: usize) -> Option<()> {
        self.left = self.left.checked_sub(bytes.saturating_add(OVERHEAD))?;
        Some(())
    }

    fn within(
        &mut self,
        (open, close): (u8, u8),
        write: impl FnOnce(&mut Self) -> Option<()>,
    ) -> Option<()> {
        self.text.push(open);
        self.first = true;
        write(self)?;
        self.text.push(close);
        self.first = false;
        Some(())
    }

    fn object(&mut self, write: impl FnOnce(&mut Self) -> Option<()>) -> Option<()> {
        self.within((b'{', b'}'), write)
    }

    fn next(&mut self) {
        if !std::mem::replace(&mut self.first, false) {
            self.text.push(b',');
        }
    }

    fn name(&mut self, name: &str) -> Option<()> {
        self.spend(name.len())?;
        self.next();
        self.plain(name)?;
        self.text.push(b':');
        Some(())
    }

    /// As it is.
    fn plain(&mut self, value: &(impl Serialize + ?Sized)) -> Option<()> {
        serde_json::to_writer(&mut self.text, value).ok()
    }

    fn string(&mut self, text: &str) -> Option<()> {
        self.spend(text.len())?;
        self.plain(&*public_str(text))
    }

    fn members(&mut self, members: &Map<String, Value>, media: bool) -> Option<()> {
        self.object(|shown| {
            for (name, value) in members {
                shown.name(name)?;
                shown.value(value, media)?;
            }
            Some(())
        })
    }

    fn graph(&mut self, graph: &Map<String, Value>, is_media: IsMedia<'_>) -> Option<()> {
        self.object(|shown| {
            for (id, node) in graph {
                shown.name(id)?;
                let class = node.get("class_type").and_then(Value::as_str);
                match class.zip(node.as_object()) {
                    Some((class, node)) => shown.node(class, node, is_media)?,
                    None => shown.value(node, false)?,
                }
            }
            Some(())
        })
    }

    fn node(
        &mut self,
        class: &str,
        node: &Map<String, Value>,
        is_media: IsMedia<'_>,
    ) -> Option<()> {
        self.object(|shown| {
            for (name, value) in node {
                shown.name(name)?;
                let Value::Object(inputs) = value else {
                    shown.value(value, false)?;
                    continue;
                };
                if name != "inputs" {
                    shown.members(inputs, false)?;
                    continue;
                }
                shown.object(|shown| {
                    for (input, value) in inputs {
                        shown.name(input)?;
                        // Only long texts are left out, so that few have to be looked up.
                        let media = holds_long(value) && is_media(class, input);
                        shown.value(value, media)?;
                    }
                    Some(())
                })?;
            }
            Some(())
        })
    }

    fn value(&mut self, value: &Value, media: bool) -> Option<()> {
        match value {
            Value::String(text) if holds_long(value) && (media || is_encoded(text)) => {
                self.spend(0)?;
                self.plain(&json!({"omitted": text.len()}))
            }
            Value::String(text) => self.string(text),
            Value::Array(items) => {
                self.spend(0)?;
                self.within((b'[', b']'), |shown| {
                    for item in items {
                        shown.next();
                        shown.value(item, media)?;
                    }
                    Some(())
                })
            }
            Value::Object(members) => {
                self.spend(0)?;
                self.members(members, media)
            }
            other => {
                self.spend(0)?;
                self.plain(other)
            }
        }
    }
}

/// Whether a text that may be left out is in it.
fn holds_long(value: &Value) -> bool {
    match value {
        Value::String(text) => text.len() > SHORT_MEDIA,
        Value::Array(items) => items.iter().any(holds_long),
        Value::Object(members) => members.values().any(holds_long),
        _ => false,
    }
}

/// Whether a long text is a file: no language is written without spaces.
fn is_encoded(text: &str) -> bool {
    if text
        .get(..5)
        .is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
    {
        return true;
    }
    text.bytes().take(2 * SHORT_MEDIA).all(|byte| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'+' | b'/' | b'-' | b'_' | b'=' | b'\r' | b'\n')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn media_are_counted_texts_stay_and_nothing_secret_is_shown() {
        let long = "a cat ".repeat(400);
        let media = "A".repeat(2000);
        let body = json!({
            "prompt": {
                "1": {
                    "class_type": "LoadImage",
                    "inputs": {"image": format!("x {media}"), "other": "y.png"}
                },
                "2": {
                    "class_type": "Text",
                    "inputs": {
                        "text": long,
                        "data": media,
                        "url": "http://u:marked@h/x?token=marked"
                    }
                },
            },
            "list": [1.5, null, [], {}, [media, "a\u{1}"]],
            "input": {"picture": format!("data:image/png;base64,{media}"), "word": "short"},
            "webhook_v2": "http://h/?signature=marked",
            "extra_data": {
                "api_key_comfy_org": "marked"
            }, "credentials": [{"url_pattern": "*", "auth": {"type": "bearer", "token": "marked"}}],
        });
        let Value::Object(body) = body else {
            unreachable!()
        };
        let is_media = |class: &str, input: &str| class == "LoadImage" && input == "image";
        let shown = value(&shown_body(&body, false, &is_media));
        assert_eq!(
            shown["prompt"]["1"]["inputs"]["image"],
            json!({"omitted": 2002})
        );
        assert_eq!(shown["prompt"]["1"]["inputs"]["other"], "y.png");
        assert_eq!(shown["prompt"]["2"]["inputs"]["text"], long.as_str());
        assert_eq!(
            shown["prompt"]["2"]["inputs"]["data"],
            json!({"omitted": 2000})
        );
        assert_eq!(shown["input"]["picture"], json!({"omitted": 2022}));
        assert_eq!(shown["input"]["word"], "short");
        let omitted = json!({"omitted": 2000});
        assert_eq!(shown["list"], json!([1.5, null, [], {}, [omitted, "a"]]));
        assert!(!shown.to_string().contains("marked"), "{shown}");
        assert!(
            value(&shown_body(&body, true, &is_media))
                .get("prompt")
                .is_none()
        );
        let mut request = PromptRequest::parse(body).unwrap();
        assert_eq!(
            value(&request.shown(false, &is_media, 8000).unwrap())["prompt"],
            shown["prompt"]
        );
        assert!(request.shown(false, &is_media, 1000).is_none());
        request.id_is_callers = true;
        assert_eq!(
            value(&request.shown(true, &is_media, 8000).unwrap())["id"],
            json!(&*request.id)
        );
    }
}
