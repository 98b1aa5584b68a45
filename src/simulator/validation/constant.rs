//! Values that stand in the graph itself.

use serde_json::{Value, json};

use super::error;
use super::validator::Validator;
use crate::simulator::args::Imitate;
use crate::simulator::nodes::{Class, Input, Kind, Shape};
use crate::simulator::python;

impl Validator<'_> {
    /// A constant, coerced to the type of the input.
    pub(super) fn constant(
        &self,
        class: &Class,
        input: &Input,
        given: &Value,
    ) -> Result<Value, Value> {
        let given = given
            .get("__value__")
            .filter(|_| given.is_object())
            .unwrap_or(given);
        let value = match coerced(input, given) {
            Ok(value) => value,
            Err(exception) => {
                return Err(error(
                    "invalid_input_type",
                    &format!(
                        "Failed to convert an input value to a {} value",
                        input.type_name()
                    ),
                    &format!("{}, {}, {exception}", input.name, python::display(given)),
                    json!({
                        "input_name": input.name,
                        "input_config": self.config(input),
                        "received_value": given,
                        "exception_message": exception
                    }),
                ));
            }
        };
        if let Some(what) = input.file {
            return self.file_exists(input, what, value);
        }
        self.within_bounds(input, &value)?;
        self.among_choices(class, input, &value)?;
        Ok(value)
    }

    fn within_bounds(&self, input: &Input, value: &Value) -> Result<(), Value> {
        for (bound, kind, word) in [
            ("min", "value_smaller_than_min", "smaller than min"),
            ("max", "value_bigger_than_max", "bigger than max"),
        ] {
            let (Some(limit), Some(number)) = (
                input
                    .options
                    .get(bound)
                    .filter(|_| matches!(input.kind, Kind::Plain(_))),
                number(value),
            ) else {
                continue;
            };
            let limit_number = limit.as_f64().unwrap_or_default();
            if if bound == "min" {
                number < limit_number
            } else {
                number > limit_number
            } {
                return Err(error(
                    kind,
                    &format!(
                        "Value {} {word} of {}",
                        python::display(value),
                        python::display(limit)
                    ),
                    input.name,
                    json!({
                        "input_name": input.name,
                        "input_config": self.config(input),
                        "received_value": value
                    }),
                ));
            }
        }
        Ok(())
    }

    fn among_choices(&self, class: &Class, input: &Input, value: &Value) -> Result<(), Value> {
        let unchecked = self.instance.imitate == Imitate::V0_3_64
            && (class.v3 || matches!(input.kind, Kind::Combo(_, Shape::Combo)));
        let seen = |choices| {
            if self.blind && input.is_model() {
                Vec::new()
            } else {
                choices
            }
        };
        if let Some(choices) = input.choices(&self.instance.folders).map(seen)
            && !unchecked
            && !choices.iter().any(|choice| value.as_str() == Some(choice))
        {
            let long = choices.len() > 20;
            let list = if long {
                format!("(list of length {})", choices.len())
            } else {
                python::repr(&json!(choices))
            };
            return Err(error(
                "value_not_in_list",
                "Value not in list",
                &format!("{}: '{}' not in {list}", input.name, python::display(value)),
                json!({
                    "input_name": input.name,
                    "input_config": if long { Value::Null } else { self.config(input) },
                    "received_value": value
                }),
            ));
        }
        Ok(())
    }

    fn file_exists(&self, input: &Input, what: &str, value: Value) -> Result<Value, Value> {
        let name = python::display(&value);
        let path = self
            .instance
            .folders
            .annotated(&name)
            .filter(|path| path.is_file());
        let inside = path.is_some_and(|path| {
            // Newer versions look through links: what leads out of the directory is not there.
            let real = path.canonicalize().unwrap_or_default();
            self.instance.imitate == Imitate::V0_3_64
                || ["input", "output", "temp"]
                    .iter()
                    .filter_map(|kind| self.instance.folders.by_type(kind)?.canonicalize().ok())
                    .any(|root| real.starts_with(root))
        });
        if inside {
            return Ok(value);
        }
        let details = format!("{} - Invalid {what} file: {name}", input.name);
        Err(error(
            "custom_validation_failed",
            "Custom validation failed for node",
            &details,
            json!({"input_name": input.name}),
        ))
    }
}

fn number(value: &Value) -> Option<f64> {
    match python::non_finite(value) {
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        _ => value.as_f64(),
    }
}

/// `int(v)`, `float(v)`, `str(v)`, `bool(v)`; the text of Python's exception otherwise.
pub(super) fn coerced(input: &Input, value: &Value) -> Result<Value, String> {
    let Kind::Plain(kind) = input.kind else {
        return Ok(value.clone());
    };
    let wrong = |function: &str| {
        let name = match value {
            Value::Null => "NoneType",
            Value::Object(_) => "dict",
            _ => "list",
        };
        Err(format!(
            "{function} argument must be a string or a real number, not '{name}'"
        ))
    };
    match (kind, value) {
        ("INT", Value::Number(number)) if number.is_f64() => {
            #[expect(
                clippy::cast_possible_truncation,
                reason = "what Python's int() does to a float within range"
            )]
            let whole = number.as_f64().unwrap_or_default().trunc() as i64;
            Ok(whole.into())
        }
        ("INT" | "FLOAT", Value::Bool(flag)) => Ok(u8::from(*flag).into()),
        ("INT", Value::Number(_)) => Ok(value.clone()),
        ("INT", Value::String(_)) if python::non_finite(value).is_some() => {
            Err("cannot convert float infinity to integer".into())
        }
        ("INT", Value::String(text)) => match text.trim().parse::<i64>() {
            Ok(whole) => Ok(whole.into()),
            Err(_) => Err(format!(
                "invalid literal for int() with base 10: {}",
                python::repr(value)
            )),
        },
        ("FLOAT", Value::Number(number)) => Ok(json!(number.as_f64().unwrap_or_default())),
        ("FLOAT", Value::String(_)) if python::non_finite(value).is_some() => Ok(value.clone()),
        ("FLOAT", Value::String(text)) => match text.trim().parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(json!(number)),
            _ => Err(format!(
                "could not convert string to float: {}",
                python::repr(value)
            )),
        },
        ("INT", _) => wrong("int()"),
        ("FLOAT", _) => wrong("float()"),
        ("STRING", Value::String(_)) => Ok(value.clone()),
        ("STRING", _) => Ok(python::display(value).into()),
        ("BOOLEAN", _) => Ok(python::truthy(value).into()),
        _ => Ok(value.clone()),
    }
}
