//! Ended runs, as ComfyUI remembers them.

use std::collections::HashMap;
use std::fmt;

use axum::http::Method;
use parking_lot::MutexGuard;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use super::{CallError, Client};

/// What is said of a run. Not its graph, most of the text: whoever asks knows it.
struct Entry(Map<String, Value>);

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(EntryVisitor)
    }
}

struct EntryVisitor;

impl<'de> Visitor<'de> for EntryVisitor {
    type Value = Entry;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an entry of the history")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Entry, A::Error> {
        let mut entry = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            if name == "prompt" {
                members.next_value::<IgnoredAny>()?;
            } else {
                entry.insert(name, members.next_value()?);
            }
        }
        Ok(Entry(entry))
    }
}

impl Client {
    /// The history entry of one prompt without its graph, `None` while there is none.
    ///
    /// # Errors
    /// When ComfyUI does not answer, or not with a history: a proxy's empty 200 is no answer.
    pub async fn history(&self, id: &str) -> Result<Option<Value>, CallError> {
        let path = format!("/history/{id}");
        let none = || CallError::Unreachable {
            call: format!("GET {path}"),
            reason: "the answer is no history".to_owned(),
            refused: false,
        };
        let reply = self.expect_as::<Option<HashMap<String, Entry>>>(Method::GET, &path, None);
        match reply.await {
            Ok(Some(mut entries)) => Ok(entries.remove(id).map(|Entry(entry)| entry.into())),
            Ok(None) => Err(none()),
            Err(CallError::Unexpected { status, text, .. })
                if status.is_success() && !text.trim_start().starts_with('{') =>
            {
                Err(none())
            }
            Err(error) => Err(error),
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::comfy::json::parse;

    #[test]
    fn of_a_history_everything_but_the_graphs_is_read() {
        let mut entries: HashMap<String, Entry> = parse(
            br#"{"a": {"prompt": [1, "a", {"1": {"inputs": {"x": NaN}}}], "outputs": {"9": {}},
                       "status": {"completed": true}}, "b": {}}"#,
        )
        .unwrap();
        let Entry(a) = entries.remove("a").unwrap();
        assert_eq!(
            Value::Object(a),
            json!({"outputs": {"9": {}}, "status": {"completed": true}})
        );
        assert!(entries.remove("b").unwrap().0.is_empty());
        for none in ["[]", r#"{"a": 5}"#, r#"{"a": {}"#] {
            assert!(parse::<HashMap<String, Entry>>(none.as_bytes()).is_err());
        }
    }
}
