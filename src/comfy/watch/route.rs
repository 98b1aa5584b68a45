//! Messages go to whoever watches.

use std::sync::Arc;
use std::time::Instant;

use serde_json::{Value, json};

use super::{Inner, WatchEvent};
use crate::comfy::message::{Message, Preview, TextMessage};
use crate::document::base64;
use crate::events::{PromptRef, Source, SystemEvent};

impl Inner {
    /// Routes one message: to its prompt, to the queue gauge, to the listeners of system events.
    pub(super) fn route(&self, message: Message) {
        *self.last_message.lock() = Instant::now();
        match message {
            Message::Text(message) => self.route_text(message),
            Message::Preview(preview) => self.route_preview(preview),
            Message::NodeText => {}
        }
    }

    fn route_text(&self, message: TextMessage) {
        let status = message.kind == "status";
        if message.prompt_id.is_some() {
            *self.worked.lock() = Instant::now();
        }
        match message.kind.as_str() {
            "status" => self.note_queue_length(&message.value()),
            "logs" => self.note_output(&message),
            _ => {}
        }
        let wanted = self.events.wanted(&message.kind);
        let mut prompts = self.prompts.lock();
        let prompt = message
            .prompt_id
            .as_ref()
            .and_then(|id| prompts.get(id))
            .map(|watched| watched.prompt.clone());
        if wanted {
            self.emit(&message, prompt.clone());
        }
        if status {
            self.route_status(message, &prompts);
            return;
        }
        let Some(watched) = message
            .prompt_id
            .as_ref()
            .and_then(|id| prompts.get_mut(id))
        else {
            return;
        };
        // `executing` with node null: over, whatever the outcome (comfyui.md 3.2).
        // `execution_success` alone is too early.
        watched.started |= matches!(message.kind.as_str(), "execution_start" | "executing");
        let over = message.kind == "executing"
            && message
                .value()
                .pointer("/data/node")
                .is_none_or(Value::is_null);
        if watched.started {
            *self.running.lock() = message.prompt_id.clone().filter(|_| !over);
        }
        watched.tell(WatchEvent::Message(message));
        if over {
            watched.end(WatchEvent::Ended(None));
        }
    }

    fn note_queue_length(&self, value: &Value) {
        if let Some(remaining) = value
            .pointer("/data/status/exec_info/queue_remaining")
            .and_then(Value::as_u64)
        {
            self.queue_remaining
                .send_if_modified(|known| std::mem::replace(known, remaining) != remaining);
        }
    }

    fn note_output(&self, message: &TextMessage) {
        let Some(output) = &self.output else { return };
        let value = message.value();
        let entries = value.pointer("/data/entries").and_then(Value::as_array);
        let texts = entries.into_iter().flatten();
        texts
            .filter_map(|entry| entry.get("m")?.as_str())
            .flat_map(|text| text.split(['\n', '\r']))
            .filter(|line| !line.is_empty())
            .for_each(|line| output.push(line));
    }

    fn emit(&self, message: &TextMessage, prompt: Option<PromptRef>) {
        let data = match &prompt {
            Some(prompt) => {
                serde_json::from_str(&message.text_with_id(&prompt.id)).unwrap_or_default()
            }
            None => message.value(),
        };
        self.events.emit(SystemEvent {
            source: Source::Comfy,
            name: message.kind.as_str().into(),
            data: Arc::new(data),
            prompt,
        });
    }

    fn route_preview(&self, preview: Preview) {
        *self.worked.lock() = Instant::now();
        let prompts = self.prompts.lock();
        // Type 1 previews carry no id. ComfyUI runs one prompt at a time: the one that has begun,
        // or the only one there is.
        let running = self.running.lock().clone();
        let watched = match preview.prompt_id.as_ref().or(running.as_ref()) {
            Some(id) => prompts.get(id),
            None if prompts.len() == 1 => prompts.values().next(),
            None => None,
        };
        let Some(watched) = watched else { return };
        if self.events.wanted("binary_preview") {
            let contents = json!({
                "prompt_id": &*watched.prompt.id,
                "image_type": preview.image_type,
                "image_data": base64(&preview.image)
            });
            let data = json!({"type": "binary_preview", "data": contents});
            self.events.emit(SystemEvent {
                source: Source::Comfy,
                name: "binary_preview".into(),
                data: Arc::new(data),
                prompt: Some(watched.prompt.clone()),
            });
        }
        watched.tell(WatchEvent::Preview(preview));
    }
}
