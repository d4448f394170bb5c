//! A value of any format that serde reads or writes: what stands in a table before it is known what it is for.
//!
//! The rule: nothing is understood here, so that whoever does can name the key of what it cannot use.

use std::fmt;

use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What stands behind a key.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Value {
    Flag(bool),
    Number(i128),
    Fraction(f64),
    Text(String),
    Table(Vec<(String, Value)>),
    /// What no key takes, by its name.
    Other(&'static str),
}

impl Value {
    pub(super) fn text(text: impl Into<String>) -> Value {
        Value::Text(text.into())
    }

    /// A number; as text if it is larger than TOML has numbers.
    pub(super) fn count(count: u64) -> Value {
        if i64::try_from(count).is_ok() {
            Value::Number(count.into())
        } else {
            Value::text(count.to_string())
        }
    }
}

/// As an error shows it.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Flag(flag) => write!(f, "{flag}"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Fraction(fraction) => write!(f, "{fraction}"),
            Value::Text(text) => write!(f, "{text:?}"),
            Value::Table(_) => f.write_str("a table"),
            Value::Other(what) => f.write_str(what),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a flag, a number, a text or a table")
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Value, E> {
        Ok(Value::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(Value::Number(number.into()))
    }

    fn visit_f64<E>(self, fraction: f64) -> Result<Value, E> {
        Ok(Value::Fraction(fraction))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::text(NONE))
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::text(NONE))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        Value::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        while items.next_element::<Value>()?.is_some() {}
        Ok(Value::Other("a list"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut table = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            table.push(entry);
        }
        Ok(Value::Table(table))
    }
}

/// The text for "there is none".
pub(super) const NONE: &str = "none";

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Flag(flag) => flag.serialize(serializer),
            Value::Number(number) => match i64::try_from(*number) {
                Ok(number) => number.serialize(serializer),
                Err(_) => number.to_string().serialize(serializer),
            },
            Value::Fraction(fraction) => fraction.serialize(serializer),
            Value::Text(text) => text.serialize(serializer),
            Value::Other(what) => what.serialize(serializer),
            Value::Table(entries) => {
                let mut map = serializer.serialize_map(Some(entries.len()))?;
                for (key, value) in entries {
                    map.serialize_entry(key, value)?;
                }
                map.end()
            }
        }
    }
}
