//! ComfyUI's queue.

use std::fmt;

use axum::http::{Method, StatusCode};
use serde::de::{IgnoredAny, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};

use super::{CallError, Client};

/// The ids in ComfyUI's queue.
#[derive(Debug, Default)]
pub struct QueueIds {
    /// Running, usually at most one.
    pub running: Vec<String>,
    /// Pending, next first.
    pub pending: Vec<String>,
}

/// What ComfyUI answers. Both lists have to be there.
#[derive(Deserialize)]
struct Queue {
    queue_running: Vec<Item>,
    queue_pending: Vec<Item>,
}

/// `[number, id, graph, ...]`. There may be thousands, whose graphs nobody asks for.
struct Item {
    number: f64,
    id: Option<String>,
}

impl<'de> Deserialize<'de> for Item {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemVisitor)
    }
}

struct ItemVisitor;

impl<'de> Visitor<'de> for ItemVisitor {
    type Value = Item;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list that begins with a number and an id")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Item, A::Error> {
        let number: Option<Value> = list.next_element()?;
        let id: Option<Value> = list.next_element()?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Item {
            number: number.and_then(|number| number.as_f64()).unwrap_or(0.0),
            id: id.and_then(|id| id.as_str().map(str::to_owned)),
        })
    }
}

impl Client {
    /// The ids in the queue. The reply holds whole graphs; only ids are kept.
    ///
    /// # Errors
    /// When ComfyUI does not answer. An answer without both lists is none: whoever took an empty
    /// one for an empty queue would give up prompts that run.
    pub async fn queue(&self) -> Result<QueueIds, CallError> {
        let queue: Queue = self.expect_as(Method::GET, "/queue", None).await?;
        let mut pending = queue.queue_pending;
        // Heap order is not queue order (comfyui.md, section 2).
        pending.sort_by(|a, b| a.number.total_cmp(&b.number));
        let ids = |items: Vec<Item>| items.into_iter().filter_map(|item| item.id).collect();
        Ok(QueueIds {
            running: ids(queue.queue_running),
            pending: ids(pending),
        })
    }

    /// Removes a pending prompt; nothing happens when it is not pending.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn delete_pending(&self, id: &str) -> Result<(), CallError> {
        self.expect(Method::POST, "/queue", Some(json!({"delete": [id]})))
            .await
            .map(drop)
    }

    /// Interrupts a prompt if it is the one that runs.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn interrupt(&self, id: &str) -> Result<(), CallError> {
        self.expect(Method::POST, "/interrupt", Some(json!({"prompt_id": id})))
            .await
            .map(drop)
    }

    /// The atomic cancel of newer versions. `None` when this version does not have it.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn cancel_job(&self, id: &str) -> Result<Option<bool>, CallError> {
        match self
            .expect(Method::POST, &format!("/api/jobs/{id}/cancel"), None)
            .await
        {
            Ok(reply) => Ok(Some(
                reply
                    .get("cancelled")
                    .and_then(Value::as_bool)
                    .unwrap_or(false),
            )),
            Err(CallError::Unexpected {
                status: StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED,
                ..
            }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether the jobs API is there.
    pub async fn has_jobs(&self) -> bool {
        self.get("/api/jobs?limit=1")
            .await
            .is_ok_and(|reply| reply.get("jobs").is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comfy::json::parse;

    #[test]
    fn of_a_queue_only_numbers_and_ids_are_read() {
        let queue: Queue = parse(
            br#"{"queue_running": [[2, "a", {"1": {"inputs": {"x": NaN}}}, {}, ["9"]]],
                 "queue_pending": [[null, "b"], [-1.5, 7, {}], []], "more": 1}"#,
        )
        .unwrap();
        let shown = |items: Vec<Item>| -> Vec<(f64, Option<String>)> {
            items
                .into_iter()
                .map(|item| (item.number, item.id))
                .collect()
        };
        assert_eq!(shown(queue.queue_running), [(2.0, Some("a".to_owned()))]);
        assert_eq!(
            shown(queue.queue_pending),
            [(0.0, Some("b".to_owned())), (-1.5, None), (0.0, None)]
        );
        for none in [
            "null",
            "[]",
            "{}",
            r#"{"queue_running": []}"#,
            r#"{"queue_running": [], "queue_pending": {}}"#,
        ] {
            assert!(parse::<Queue>(none.as_bytes()).is_err(), "{none}");
        }
    }
}
