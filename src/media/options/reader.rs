//! Takes options out of the client's object one by one and notes whatever is left over.

use serde_json::{Map, Value};

use crate::error::Failure;
use crate::limits::text;

/// The client's options while they are being read. Each read registers its names;
/// [`OptionReader::finish`] notes the rest.
pub(super) struct OptionReader<'a> {
    format: &'static str,
    given: Option<&'a Map<String, Value>>,
    known: Vec<&'static str>,
    warnings: Vec<String>,
}

impl<'a> OptionReader<'a> {
    /// Wants an object, `null` or nothing.
    pub(super) fn new(format: &'static str, options: Option<&'a Value>) -> Result<Self, Failure> {
        let given = match options {
            None | Some(Value::Null) => None,
            Some(Value::Object(map)) => Some(map),
            Some(_) => {
                return Err(Failure::invalid(
                    "convert_output.options",
                    "convert_output.options must be an object.",
                ));
            }
        };
        Ok(Self {
            format,
            given,
            known: Vec::new(),
            warnings: Vec::new(),
        })
    }

    /// Reads an option that may be given under any of these names. Each one given must be right;
    /// the first counts. `wanted` completes "must be".
    fn read<T>(
        &mut self,
        names: &[&'static str],
        wanted: impl Fn() -> String,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        self.known.extend_from_slice(names);
        let mut meant = None;
        for name in names {
            let Some(value) = self.given.and_then(|given| given.get(*name)) else {
                continue;
            };
            let read = read(value).ok_or_else(|| self.refuse(name, value, &wanted()))?;
            meant.get_or_insert(read);
        }
        Ok(meant)
    }

    /// A 400 about one option.
    pub(super) fn refuse(&self, name: &str, value: &Value, wanted: &str) -> Failure {
        let shown: String = value.to_string().chars().take(60).collect();
        Failure::invalid(
            format!("convert_output.options.{name}"),
            format!(
                "convert_output.options.{name} must be {wanted} for {}, not {shown}.",
                self.format
            ),
        )
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, names: &[&'static str]) -> Result<Option<bool>, Failure> {
        self.read(names, || "true or false".to_owned(), Value::as_bool)
    }

    /// A whole number within the range; `80.0` is whole.
    pub(super) fn integer(
        &mut self,
        names: &[&'static str],
        low: i32,
        high: i32,
    ) -> Result<Option<i32>, Failure> {
        let whole = |value: &Value| {
            value
                .as_f64()
                .filter(|n| n.fract() == 0.0 && (f64::from(low)..=f64::from(high)).contains(n))
        };
        #[expect(
            clippy::cast_possible_truncation,
            reason = "within an i32's range by the line above"
        )]
        self.read(
            names,
            || format!("a whole number from {low} to {high}"),
            |value| whole(value).map(|n| n as i32),
        )
    }

    /// A whole number that is moved into the range if need be: clients send what other encoders
    /// take (drop-in.md, D21).
    pub(super) fn quality(
        &mut self,
        name: &'static str,
        low: i32,
        high: i32,
    ) -> Result<Option<i32>, Failure> {
        let wanted = || format!("a number from {low} to {high}");
        let Some(given) = self.read(&[name], wanted, Value::as_f64)? else {
            return Ok(None);
        };
        let taken = given.round().clamp(f64::from(low), f64::from(high));
        #[expect(
            clippy::cast_possible_truncation,
            reason = "within an i32's range by the line above"
        )]
        let taken_whole = taken as i32;
        if (taken - given).abs() > f64::EPSILON {
            self.warnings.push(format!(
                "convert_output.options.{name} is a whole number from {low} to {high} for {}: \
                 {taken_whole} was taken in place of {given}",
                self.format
            ));
        }
        Ok(Some(taken_whole))
    }

    /// A number within the range.
    pub(super) fn number(
        &mut self,
        names: &[&'static str],
        low: f64,
        high: f64,
    ) -> Result<Option<f64>, Failure> {
        self.read(
            names,
            || format!("a number from {low} to {high}"),
            |value| value.as_f64().filter(|n| (low..=high).contains(n)),
        )
    }

    /// One of the given words, turned into what it stands for.
    pub(super) fn choice<T: Copy>(
        &mut self,
        names: &[&'static str],
        choices: &[(&'static str, T)],
    ) -> Result<Option<T>, Failure> {
        let wanted = || {
            let words: Vec<String> = choices
                .iter()
                .map(|(word, _)| format!("\"{word}\""))
                .collect();
            format!("one of {}", words.join(", "))
        };
        self.read(names, wanted, |value| {
            let word = value.as_str()?;
            choices
                .iter()
                .find(|(known, _)| *known == word)
                .map(|(_, meaning)| *meaning)
        })
    }

    /// Whatever `read` makes of the value; `wanted` completes "must be".
    pub(super) fn custom<T>(
        &mut self,
        name: &'static str,
        wanted: &str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        self.read(&[name], || wanted.to_owned(), read)
    }

    /// What has been read otherwise than written, and which options nobody has asked for: they are
    /// ignored (drop-in.md, D02).
    pub(super) fn finish(self) -> Vec<String> {
        const NAMED: usize = 10;
        let mut warnings = self.warnings;
        let strangers: Vec<String> = self
            .given
            .into_iter()
            .flat_map(Map::keys)
            .filter(|name| !self.known.contains(&name.as_str()))
            .take(NAMED)
            .map(|name| text::shorten(name, 60).into_owned())
            .collect();
        if !strangers.is_empty() {
            warnings.push(format!(
                "convert_output.options: {} means nothing for {} and was ignored; its options are \
                 {}",
                strangers.join(", "),
                self.format,
                self.known.join(", ")
            ));
        }
        warnings
    }
}
