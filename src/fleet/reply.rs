//! What instances say of jobs, made into what is shown here and what ends them. Tokens are taken
//! out before anything is read: they are for instances alone.

use std::sync::Arc;
use std::time::Instant;

use base64::Engine;
use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::order::Place;
use super::task::{News, Task};
use super::{Inner, files, record};
use crate::comfy::message::{Preview, TextMessage};
use crate::job::remote::Told;

/// Bodies from this length on are read off the runtime.
const LARGE: usize = 256 * 1024;

/// What one message says.
struct Said {
    kind: String,
    data: Value,
}

impl Said {
    /// That a job is being worked on.
    fn goes_on(&self) -> bool {
        let status = self.data.get("status").and_then(Value::as_str);
        let goes_on = ["preprocessing", "pending", "running"];
        self.kind == "state" && status.is_some_and(|status| goes_on.contains(&status))
    }
}

/// A message of the durable queue; it is acknowledged when this returns.
pub(super) async fn answer(inner: &Arc<Inner>, delivery: Delivery) {
    let correlation = correlation(&delivery.properties);
    if inner.catalogue.expects(&correlation) {
        let comfy = inner.comfy.clone();
        if let Some(registration) = inner.catalogue.answer(&comfy, delivery.data).await {
            inner.seen.describe(registration);
        }
        return;
    }
    // Nobody waits for it any more.
    let Some(task) = inner.tasks.by_correlation(&correlation) else {
        return;
    };
    let instance = instance(&delivery.properties);
    let (data, properties) = (delivery.data, delivery.properties);
    let token = task.token.clone();
    let said = if data.len() < LARGE {
        read(&data, &token)
    } else {
        let reading = tokio::task::spawn_blocking(move || read(&data, &token));
        reading.await.ok().flatten()
    };
    let Some(said) = said else { return };
    match said.kind.as_str() {
        "execution_success" | "execution_error" | "execution_interrupted" => {
            end(&task, said).await;
        }
        "execution_requeued" => task.given_back(),
        _ => {
            task.heard_from(&instance);
            if task.kept && !task.state().ended {
                record::append(&task, &said.kind, &said.data);
            }
            let place = Place::Lasting {
                after: count(&properties, "after"),
            };
            take(&task, &instance, place, said);
        }
    }
}

/// Shows those messages for streams whose turn has come.
pub(super) fn show_due(task: &Task) {
    let due = task.state().order.due(Instant::now());
    for (kind, data) in due {
        show(task, kind, data);
    }
}

/// Shows a message, and those that have waited for it, when its turn has come.
fn take(task: &Task, instance: &str, place: Place, said: Said) {
    let shown = (said.kind, said.data);
    let now = Instant::now();
    let due = task.state().order.of(instance).take(place, shown, now);
    for (kind, data) in due {
        show(task, kind, data);
    }
}

/// The end counts once; of a job that survives it is recorded first.
async fn end(task: &Arc<Task>, said: Said) {
    let held = task.state().order.all();
    for (kind, data) in held {
        show(task, kind, data);
    }
    if std::mem::replace(&mut task.state().ended, true) {
        return;
    }
    let Said { kind, data } = said;
    let data = match data {
        Value::Object(data) => data,
        _ => Map::new(),
    };
    let mut data = data;
    if task.kept {
        let (keeping, kept) = (task.clone(), data.clone());
        let word = kind.clone();
        let written =
            tokio::task::spawn_blocking(move || record::keep_result(&keeping, &word, &kept)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::warn!(id = %task.id, "the result of a job cannot be recorded");
        }
    }
    data.shift_remove("id");
    task.tell(News::Ended(kind, data));
}

/// A message of the queue of what is only of interest now.
pub(super) fn shown(inner: &Arc<Inner>, delivery: &Delivery) {
    let correlation = correlation(&delivery.properties);
    let Some(task) = inner.tasks.by_correlation(&correlation) else {
        // Somebody works for nobody: the gateway that has published it is gone, or has published it
        // anew.
        if !correlation.is_empty() && read(&delivery.data, "").is_some_and(|said| said.goes_on()) {
            inner.call_off(vec![correlation]);
        }
        return;
    };
    if let Some(said) = read(&delivery.data, &task.token) {
        let instance = instance(&delivery.properties);
        task.heard_from(&instance);
        let place = Place::Stream {
            number: count(&delivery.properties, "number"),
            after: count(&delivery.properties, "after"),
        };
        take(&task, &instance, place, said);
    }
}

/// Makes it what is shown of the job.
pub(super) fn show(task: &Task, kind: String, data: Value) {
    if task.state().ended {
        return;
    }
    let told = match kind.as_str() {
        "state" => {
            let status = data.get("status").and_then(Value::as_str);
            Told::State(status.unwrap_or_default().to_owned())
        }
        "file_download_progress" | "upload_progress" => Told::Stream(kind, data),
        // What the instance's own storage tells of it is told here by the answer.
        "upload_complete" => return,
        "output" => match files::early(task, &data) {
            Some(file) => Told::Output(Box::new(file)),
            None => return,
        },
        "outputs_withdrawn" => Told::Withdrawn,
        // ComfyUI's own word, as a whole: the kinds of ends are the instance's.
        "comfy_message" => match TextMessage::parse(Utf8Bytes::from(data.to_string())) {
            Some(message) => Told::Message(message),
            None => return,
        },
        "binary_preview" => match preview(&data) {
            Some(preview) => Told::Preview(preview),
            None => return,
        },
        _ => {
            let text = json!({"type": kind, "data": data}).to_string();
            match TextMessage::parse(Utf8Bytes::from(text)) {
                Some(message) => Told::Message(message),
                None => return,
            }
        }
    };
    task.tell(News::Told(told));
}

fn preview(data: &Value) -> Option<Preview> {
    let text = |name: &str| data.get(name).and_then(Value::as_str);
    let image = base64::engine::general_purpose::STANDARD
        .decode(text("image_data")?)
        .ok()?;
    Some(Preview {
        prompt_id: text("prompt_id").map(str::to_owned),
        node_id: text("node_id").map(str::to_owned),
        image_type: text("image_type").unwrap_or("image/jpeg").to_owned(),
        image: image.into(),
    })
}

fn read(body: &[u8], token: &str) -> Option<Said> {
    let text = std::str::from_utf8(body).ok()?;
    let clean;
    let text = if !token.is_empty() && text.contains(token) {
        clean = text.replace(token, "***");
        &clean
    } else {
        text
    };
    let mut envelope: Value = crate::comfy::json::parse(text.as_bytes()).ok()?;
    Some(Said {
        kind: envelope.get("event_type")?.as_str()?.to_owned(),
        data: envelope.get_mut("data").map(Value::take)?,
    })
}

fn correlation(properties: &BasicProperties) -> String {
    let correlation = properties.correlation_id().as_ref();
    correlation.map_or_else(String::new, |id| id.as_str().to_owned())
}

/// A place of a message in its order.
fn count(properties: &BasicProperties, name: &str) -> u32 {
    let headers = properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get(name)) {
        Some(AMQPValue::LongLongInt(count)) => u32::try_from(*count).unwrap_or(0),
        _ => 0,
    }
}

fn instance(properties: &BasicProperties) -> String {
    let headers = properties.headers().as_ref();
    match headers.and_then(|headers| headers.inner().get("instance")) {
        Some(AMQPValue::LongString(text)) => String::from_utf8_lossy(text.as_bytes()).into_owned(),
        _ => String::new(),
    }
}
