//! What a program may add by name: methods, backbones, data sets.

use std::sync::{PoisonError, RwLock};

use serde::de::Visitor;

use crate::error::{Error, Result};

/// Something with a name of its own.
pub(crate) trait Named: Sync + 'static {
    fn name(&self) -> &'static str;
}

/// The built-in ones, and those that a program adds.
pub(crate) struct Registry<K: 'static> {
    /// One of them, for messages.
    what: &'static str,
    built_in: &'static [&'static K],
    /// Ends the message about one that is not there.
    besides: &'static str,
    added: RwLock<Vec<&'static K>>,
}

impl<K: Named> Registry<K> {
    pub const fn new(what: &'static str, built_in: &'static [&'static K], besides: &'static str) -> Registry<K> {
        Registry { what, built_in, besides, added: RwLock::new(vec![]) }
    }

    /// In the order in which messages list them.
    pub fn all(&self) -> Vec<&'static K> {
        let added = self.added.read().unwrap_or_else(PoisonError::into_inner);
        self.built_in.iter().chain(&*added).copied().collect()
    }

    pub fn find(&self, name: &str) -> Option<&'static K> {
        self.all().into_iter().find(|kind| kind.name() == name)
    }

    /// Adds one, unless its name is among these or `reserved`.
    pub fn add(&self, kind: &'static K, reserved: &[&str]) -> Result<()> {
        let (name, mut added) = (kind.name(), self.added.write().unwrap_or_else(PoisonError::into_inner));
        if reserved.contains(&name) || self.built_in.iter().chain(&*added).any(|other| other.name() == name) {
            return Err(Error::Usage(format!("there is a {} {name} already", self.what)));
        }
        added.push(kind);
        Ok(())
    }
}

/// Reads a name.
impl<K: Named> Visitor<'_> for &Registry<K> {
    type Value = &'static K;

    fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "the name of a {}", self.what)
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<&'static K, E> {
        self.find(name).ok_or_else(|| {
            let known: Vec<String> = self.all().iter().map(|kind| format!("`{}`", kind.name())).collect();
            let (what, known, besides) = (self.what, known.join(", "), self.besides);
            E::custom(format!("unknown {what} `{name}`: this program has {known}{besides}"))
        })
    }
}

/// A type that is told, compared and written by its field `name`.
macro_rules! named {
    ($type:ty) => {
        impl crate::registry::Named for $type {
            fn name(&self) -> &'static str {
                self.name
            }
        }

        impl std::fmt::Debug for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str(self.name)
            }
        }

        impl PartialEq for $type {
            fn eq(&self, other: &$type) -> bool {
                self.name == other.name
            }
        }

        impl Eq for $type {}

        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.serialize_str(self.name)
            }
        }
    };
}
pub(crate) use named;
