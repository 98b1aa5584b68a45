//! Ended runs, as ComfyUI remembers them.

use axum::http::Method;
use parking_lot::MutexGuard;
use serde_json::{Value, json};

use super::{CallError, Client};

impl Client {
    /// The history entry of one prompt, `None` while there is none.
    ///
    /// # Errors
    /// When ComfyUI does not answer, or not with a history: a proxy's empty 200 is no answer.
    pub async fn history(&self, id: &str) -> Result<Option<Value>, CallError> {
        let path = format!("/history/{id}");
        let mut reply = self.get(&path).await?;
        if !reply.is_object() {
            return Err(CallError::Unreachable {
                call: format!("GET {path}"),
                reason: "the answer is no history".to_owned(),
                refused: false,
            });
        }
        Ok(reply.get_mut(id).map(Value::take))
    }

    /// Never forgets this entry from now on: as long as it is there, ComfyUI is the same process.
    pub fn keep_as_mark(&self, id: &str) {
        *self.mark() = Some(id.to_owned());
    }

    /// Whether ComfyUI is another process than the one that holds the mark.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn mark_is_gone(&self) -> Result<bool, CallError> {
        let mark = self.mark().clone();
        match mark {
            Some(id) => Ok(self.history(&id).await?.is_none()),
            None => Ok(true),
        }
    }

    pub(super) fn mark(&self) -> MutexGuard<'_, Option<String>> {
        self.mark.lock()
    }

    /// Forgets history entries.
    ///
    /// # Errors
    /// When ComfyUI does not answer.
    pub async fn forget(&self, ids: &[String]) -> Result<(), CallError> {
        let mark = self.mark().clone();
        let ids: Vec<&String> = ids.iter().filter(|id| mark.as_ref() != Some(*id)).collect();
        self.expect(Method::POST, "/history", Some(json!({"delete": ids})))
            .await
            .map(drop)
    }
}
