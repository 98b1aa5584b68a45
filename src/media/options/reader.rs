//! Takes options out of the client's object one by one and complains about whatever is left over.

use serde_json::{Map, Value};

use crate::error::Failure;

/// The client's options while they are being read. Each read registers its names; [`OptionReader::finish`] refuses the rest.
pub(super) struct OptionReader<'a> {
    format: &'static str,
    given: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
}

impl<'a> OptionReader<'a> {
    /// Wants an object, `null` or nothing.
    pub(super) fn new(format: &'static str, options: Option<&'a Value>) -> Result<Self, Failure> {
        let given = match options {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(_) => return Err(Failure::invalid("convert_output.options", "convert_output.options must be an object.")),
        };
        Ok(Self { format, given, known: Vec::new() })
    }

    /// The value under the first of these names that was given, with the name; the others are aliases.
    fn take(&mut self, names: &[&'static str]) -> Option<(&'static str, &'a Value)> {
        self.known.extend_from_slice(names);
        let given = self.given?;
        names.iter().find_map(|name| given.get(*name).map(|value| (*name, value)))
    }

    /// A 400 about one option.
    pub(super) fn refuse(&self, name: &str, value: &Value, wanted: &str) -> Failure {
        let shown: String = value.to_string().chars().take(60).collect();
        Failure::invalid(format!("convert_output.options.{name}"), format!("convert_output.options.{name} must be {wanted} for {}, not {shown}.", self.format))
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, names: &[&'static str]) -> Result<Option<bool>, Failure> {
        let Some((name, value)) = self.take(names) else { return Ok(None) };
        value.as_bool().map(Some).ok_or_else(|| self.refuse(name, value, "true or false"))
    }

    /// A whole number within the range; `80.0` is whole.
    pub(super) fn integer(&mut self, names: &[&'static str], low: i32, high: i32) -> Result<Option<i32>, Failure> {
        let Some((name, value)) = self.take(names) else { return Ok(None) };
        let number = value.as_f64().filter(|n| n.fract() == 0.0 && (f64::from(low)..=f64::from(high)).contains(n));
        #[expect(clippy::cast_possible_truncation, reason = "within an i32's range by the line above")]
        number.map(|n| Some(n as i32)).ok_or_else(|| self.refuse(name, value, &format!("a whole number from {low} to {high}")))
    }

    /// A number within the range.
    pub(super) fn number(&mut self, names: &[&'static str], low: f64, high: f64) -> Result<Option<f64>, Failure> {
        let Some((name, value)) = self.take(names) else { return Ok(None) };
        let number = value.as_f64().filter(|n| (low..=high).contains(n));
        number.map(Some).ok_or_else(|| self.refuse(name, value, &format!("a number from {low} to {high}")))
    }

    /// One of the given words, turned into what it stands for.
    pub(super) fn choice<T: Copy>(&mut self, names: &[&'static str], choices: &[(&'static str, T)]) -> Result<Option<T>, Failure> {
        let Some((name, value)) = self.take(names) else { return Ok(None) };
        let found = value.as_str().and_then(|word| choices.iter().find(|(known, _)| *known == word));
        found.map(|(_, meaning)| Some(*meaning)).ok_or_else(|| {
            let words: Vec<String> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.refuse(name, value, &format!("one of {}", words.join(", ")))
        })
    }

    /// Whatever `read` makes of the value; `wanted` completes "must be".
    pub(super) fn custom<T>(&mut self, name: &'static str, wanted: &str, read: impl Fn(&Value) -> Option<T>) -> Result<Option<T>, Failure> {
        let Some((name, value)) = self.take(&[name]) else { return Ok(None) };
        read(value).map(Some).ok_or_else(|| self.refuse(name, value, wanted))
    }

    /// Refuses every option that nobody has asked for.
    pub(super) fn finish(self) -> Result<(), Failure> {
        let stranger = self.given.and_then(|given| given.keys().find(|name| !self.known.contains(&name.as_str())));
        match stranger {
            None => Ok(()),
            Some(name) => {
                let name: String = name.chars().take(60).collect();
                Err(Failure::invalid(
                    format!("convert_output.options.{name}"),
                    format!("convert_output.options.{name} is not an option of {}; those are {}.", self.format, self.known.join(", ")),
                ))
            }
        }
    }
}
