//! Settings of what is registered by name, methods and backbones: keys of an experiment file that only they know.

use serde::Serialize;
use serde::de::{DeserializeOwned, Error};
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

/// Whether an experiment need not say it.
pub(crate) fn is_default<T: PartialEq + Default>(value: &T) -> bool {
    *value == T::default()
}
