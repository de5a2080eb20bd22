//! Settings of what is registered by name, methods and backbones: keys of an experiment file that only they know.

use std::fmt::Formatter;

use serde::de::{DeserializeOwned, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Keys with their values.
pub type Settings = Map<String, Value>;

/// A setting that does not go with the others, or with the rest of the experiment.
pub struct Fault {
    /// The setting's.
    pub key: &'static str,
    /// Why.
    pub message: String,
}

impl Fault {
    /// Of one key.
    pub fn new(key: &'static str, message: impl Into<String>) -> Fault {
        Fault { key, message: message.into() }
    }
}

/// A type whose fields are its settings, and all of them in order. What it does not serialise is left out.
///
/// # Errors
/// A setting that the type does not have, or of another type.
pub(crate) fn read<T: Serialize + DeserializeOwned>(settings: Settings) -> serde_json::Result<(T, Settings)> {
    let read: T = serde_json::from_value(Value::Object(settings))?;
    match serde_json::to_value(&read)? {
        Value::Object(complete) => Ok((read, complete)),
        _ => Err(serde_json::Error::custom("settings are a map")),
    }
}

/// A value of a file in which every key stands once and every number is finite. serde_json's own reader keeps the last of equal
/// keys, and makes a null of `.nan` and `.inf`: a setting would be taken as if it were not given.
pub(crate) struct Strict(pub Value);

/// Settings as [`Strict`] values, for a field.
///
/// # Errors
/// A repeated key, or a number that is infinite or none.
pub(crate) fn strict<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Settings, D::Error> {
    match Strict::deserialize(deserializer)?.0 {
        Value::Object(settings) => Ok(settings),
        _ => Err(D::Error::custom("settings are a map")),
    }
}

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Strict, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Strict)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, formatter: &mut Formatter) -> std::fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        match value.is_finite() {
            true => Ok(value.into()),
            false => Err(E::invalid_value(Unexpected::Float(value), &"a finite number")),
        }
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut values = vec![];
        while let Some(Strict(value)) = list.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut values = Settings::new();
        while let Some(key) = map.next_key::<String>()? {
            if values.contains_key(&key) {
                return Err(A::Error::custom(format!("duplicate field `{key}`")));
            }
            let Strict(value) = map.next_value()?;
            values.insert(key, value);
        }
        Ok(values.into())
    }
}

/// Whether an experiment need not say it.
pub(crate) fn is_default<T: PartialEq + Default>(value: &T) -> bool {
    *value == T::default()
}
