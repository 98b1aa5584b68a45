//! The parts of a request that another server needs to run it as it was asked for (fleet.md), as
//! they were sent: what is parsed does not tell that any more.

use std::fmt;

use serde_json::{Map, Value};

use crate::fields;

/// See the module.
#[derive(Clone, Default, PartialEq)]
pub struct PassedOn {
    /// The fields of the body that say how outputs are treated, and where they go.
    pub fields: Map<String, Value>,
    /// `credentials`: a secret.
    pub credentials: Option<Value>,
    /// `queue`, unchecked.
    pub queue: Option<Value>,
    /// `priority`, unchecked.
    pub priority: Option<Value>,
}

/// It holds secrets.
impl fmt::Debug for PassedOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PassedOn")
    }
}

impl PassedOn {
    /// Takes it from the body of a request; `None` when there is nothing.
    pub(super) fn of(body: &Map<String, Value>) -> Option<Box<Self>> {
        let known = |name: &str| body.get(name).cloned();
        let fields = fields::passed_on().filter_map(|name| Some((name.to_owned(), known(name)?)));
        let passed_on = Self {
            fields: fields.collect(),
            credentials: known("credentials"),
            queue: known("queue"),
            priority: known("priority"),
        };
        (passed_on != Self::default()).then(|| Box::new(passed_on))
    }

    /// What a server without a fleet says to a choice of queue or priority.
    pub fn ignored(&self) -> Vec<String> {
        let asked = [("queue", &self.queue), ("priority", &self.priority)];
        let named = asked.iter().filter(|(_, value)| value.is_some());
        named
            .map(|(name, _)| format!("\"{name}\" was ignored: it is for a gateway before a fleet"))
            .collect()
    }
}
