//! The saved values of a node, taken one after another.

use serde_json::{Map, Value};

/// Where values come from.
#[derive(Debug, Clone)]
pub enum Saved<'a> {
    /// In the order of the widgets.
    Places {
        /// The list.
        list: Vec<&'a Value>,
        /// How many are taken.
        next: usize,
    },
    /// By name.
    Names(Map<String, Value>),
}

impl<'a> Saved<'a> {
    /// Nothing is saved.
    pub const fn nothing() -> Self {
        Self::Places {
            list: Vec::new(),
            next: 0,
        }
    }

    /// A list.
    pub fn list(list: impl Iterator<Item = &'a Value>) -> Self {
        Self::Places {
            list: list.collect(),
            next: 0,
        }
    }

    /// The value of the next place.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        match self {
            Self::Places { list, next } => {
                let value = list.get(*next).copied().cloned();
                *next += 1;
                value
            }
            Self::Names(names) => names.get(name).cloned(),
        }
    }

    /// Passes over places that are not sent.
    pub fn skip(&mut self, places: usize) {
        if let Self::Places { next, .. } = self {
            *next += places;
        }
    }

    /// How many have been taken.
    pub const fn taken(&self) -> usize {
        match self {
            Self::Places { next, .. } => *next,
            Self::Names(_) => 0,
        }
    }
}
