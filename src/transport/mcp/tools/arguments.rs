//! The arguments of a built-in tool, checked against what it knows.

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::result::ToolFailure;
use crate::error::Failure;

/// The longest wait of one call.
const LONGEST_WAIT: f64 = 3600.0;

/// Arguments by name.
#[derive(Debug)]
pub struct Arguments(Map<String, Value>);

impl Arguments {
    /// Nulls are as good as nothing; what a tool does not know it refuses.
    ///
    /// # Errors
    /// Names the argument.
    pub fn new(
        tool: &str,
        known: &[&str],
        mut arguments: Map<String, Value>,
    ) -> Result<Self, ToolFailure> {
        arguments.retain(|_, value| !value.is_null());
        match arguments
            .keys()
            .find(|name| !known.contains(&name.as_str()))
        {
            None => Ok(Self(arguments)),
            Some(odd) => {
                let odd = crate::limits::text::quoted(odd);
                Err(invalid(
                    &odd,
                    format!(
                        "{tool} has no argument of this name: use {}",
                        known.join(", ")
                    ),
                ))
            }
        }
    }

    /// One as it is.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.0.remove(name)
    }

    /// A text.
    ///
    /// # Errors
    /// When it is something else.
    pub fn text(&mut self, name: &str) -> Result<Option<String>, ToolFailure> {
        match self.0.remove(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(invalid(name, "it must be a text")),
        }
    }

    /// A text that must be there.
    ///
    /// # Errors
    /// When it is not.
    pub fn needed(&mut self, name: &str) -> Result<String, ToolFailure> {
        self.text(name)?
            .ok_or_else(|| invalid(name, "it is missing"))
    }

    /// How many, at least one.
    ///
    /// # Errors
    /// When it is no such number.
    pub fn limit(&mut self, default: usize, most: usize) -> Result<usize, ToolFailure> {
        match self.0.remove("limit") {
            None => Ok(default),
            Some(value) => whole(&value)
                .filter(|limit| (1..=most as u64).contains(limit))
                .and_then(|limit| usize::try_from(limit).ok())
                .ok_or_else(|| {
                    invalid(
                        "limit",
                        format!("it must be a whole number from 1 to {most}"),
                    )
                }),
        }
    }

    /// `wait_s`
    ///
    /// # Errors
    /// When it is no number of seconds.
    pub fn wait(&mut self) -> Result<Option<Duration>, ToolFailure> {
        match self.0.remove("wait_s") {
            None => Ok(None),
            Some(value) => value
                .as_f64()
                .filter(|seconds| (0.0..=LONGEST_WAIT).contains(seconds))
                .map(|seconds| Some(Duration::from_secs_f64(seconds)))
                .ok_or_else(|| invalid("wait_s", "it must be a number of seconds, 0 to 3600")),
        }
    }
}

fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && (0.0..1e15).contains(&number)).then_some(number as u64)
    })
}

/// A refusal of one argument.
pub fn invalid(name: &str, message: impl Into<String>) -> ToolFailure {
    Failure::invalid(format!("input.{name}"), message).into()
}
