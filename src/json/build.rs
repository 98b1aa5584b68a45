//! Builds values from a text, each list and object exactly as large as it is.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The whole text as a value.
pub(super) fn value(text: &str) -> Result<Value, serde_json::Error> {
    whole(text, ANY)
}

/// What becomes of a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// It is built.
    All,
    /// It is built if it is an object; a list or a text becomes null.
    Objects,
    /// It is passed over.
    Nothing,
}

/// The wanted members; `None` when the text is JSON but no object.
pub(super) fn members(
    text: &str,
    keep: &dyn Fn(&str) -> Keep,
) -> Result<Option<Map<String, Value>>, serde_json::Error> {
    if text.trim_start().starts_with('{') {
        whole(text, Members(keep)).map(Some)
    } else {
        whole(text, Skip).map(|()| None)
    }
}

fn whole<'a, S: DeserializeSeed<'a>>(
    text: &'a str,
    seed: S,
) -> Result<S::Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let built = seed.deserialize(&mut reader)?;
    reader.end()?;
    Ok(built)
}

struct Skip;

impl<'de> DeserializeSeed<'de> for Skip {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_ignored_any(IgnoredAny).map(drop)
    }
}

struct Members<'a>(&'a dyn Fn(&str) -> Keep);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Map<String, Value>;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Self::Value, D::Error> {
        reader.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = access.next_key::<String>()? {
            match (self.0)(&name) {
                Keep::All => {
                    members.insert(name, access.next_value_seed(Build { objects: false })?);
                }
                Keep::Objects => {
                    members.insert(name, access.next_value_seed(Build { objects: true })?);
                }
                Keep::Nothing => {
                    access.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(members)
    }
}

/// Builds a value; with `objects` nothing but objects.
#[derive(Clone, Copy)]
struct Build {
    objects: bool,
}

const ANY: Build = Build { objects: false };

impl<'de> DeserializeSeed<'de> for Build {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<Value, D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value)
            .map(Value::Number)
            .ok_or_else(|| E::custom("number out of range"))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        if self.objects {
            return Ok(Value::Null);
        }
        Ok(Value::String(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        if self.objects {
            while access.next_element::<IgnoredAny>()?.is_some() {}
            return Ok(Value::Null);
        }
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(ANY)? {
            items.push(item);
        }
        items.shrink_to_fit();
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut listed: Vec<(String, Value)> = Vec::new();
        while let Some(name) = access.next_key::<String>()? {
            listed.push((name, access.next_value_seed(ANY)?));
        }
        let mut members = Map::with_capacity(listed.len());
        for (name, value) in listed {
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}
