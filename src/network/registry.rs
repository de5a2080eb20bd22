//! Backbones by name: the built-in ones, and those that a program adds.

use std::fmt::Debug;

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::backbone::{Step, plain, resnet};
use super::layer::Layers;
use crate::error::Result;
use crate::registry::{Registry, named};
use crate::settings;
pub use crate::settings::{Fault, Settings};

/// A backbone as experiments name it.
pub struct BackboneKind {
    /// The value of `name` under `network.backbone`.
    pub name: &'static str,
    /// Its own keys beside `name`.
    pub keys: &'static [&'static str],
    /// The backbone with the settings of an experiment, and all its settings in order; [`read`](fn@read) makes it.
    pub read: fn(Settings) -> serde_json::Result<Complete>,
}

/// A backbone, and all its settings in order.
pub type Complete = (Box<dyn Backbone>, Settings);

/// A backbone with its settings.
pub trait Backbone: Debug {
    /// Its layers, from images [3, `side`, `side`] to features. Every tensor's name begins with `backbone.`: what begins so is
    /// taken over by other stages.
    ///
    /// # Errors
    /// A setting that makes no such network: the key, and why.
    fn layers(&self, side: usize) -> std::result::Result<Layers, Fault>;
}

/// A [`BackboneKind::read`] for a type whose fields are its settings.
///
/// # Errors
/// A setting that the backbone does not have, or of another type.
pub fn read<T: Backbone + Serialize + DeserializeOwned + 'static>(settings: Settings) -> serde_json::Result<Complete> {
    let (backbone, complete) = settings::read::<T>(settings)?;
    Ok((Box::new(backbone), complete))
}

static BACKBONES: Registry<BackboneKind> = Registry::new(
    "backbone",
    &[
        &BackboneKind { name: "plain", keys: &["layers"], read: read::<Plain> },
        &BackboneKind { name: "resnet", keys: &["depth", "width"], read: read::<Resnet> },
    ],
    "; the study's is there without one",
);

/// All backbones but the study's, which is there where none is named.
pub fn kinds() -> Vec<&'static BackboneKind> {
    BACKBONES.all()
}

/// Adds a backbone, for every experiment that is read from here on.
///
/// # Errors
/// [`Error::Usage`](crate::Error::Usage) for a name that another backbone has.
pub fn register(kind: &'static BackboneKind) -> Result<()> {
    BACKBONES.add(kind, &[])
}

/// The most channels of a convolution.
const MOST: usize = 1024;

/// [`plain`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Plain {
    layers: Vec<Named>,
}

impl Backbone for Plain {
    fn layers(&self, side: usize) -> std::result::Result<Layers, Fault> {
        let steps: Vec<Step> = self.layers.iter().map(|Named(step)| *step).collect();
        let pools = steps.iter().filter(|step| **step == Step::Pool).count();
        let fault = |message: String| Err(Fault::new("layers", format!("layers: {message}")));
        match steps.windows(2).position(|pair| pair == [Step::Pool, Step::Pool]) {
            _ if !matches!(steps.first(), Some(Step::Conv(_))) => {
                fault("the first is a convolution: a number".to_owned())
            }
            Some(at) => fault(format!("{} and {} are both `pool`: a convolution stands between two", at + 1, at + 2)),
            None if side >> pools == 0 => {
                fault(format!("{pools} times `pool` leave nothing of images of {side} × {side} pixels"))
            }
            None => Ok(plain(&steps)),
        }
    }
}

/// A step as a number of channels, or as `pool`.
#[derive(Debug)]
struct Named(Step);

impl Serialize for Named {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        match self.0 {
            Step::Conv(channels) => serializer.serialize_u64(channels as u64),
            Step::Pool => serializer.serialize_str("pool"),
        }
    }
}

impl<'de> Deserialize<'de> for Named {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Named, D::Error> {
        struct Either;

        impl Visitor<'_> for Either {
            type Value = Named;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                write!(f, "a number of channels from 1 to {MOST}, or `pool`")
            }

            fn visit_u64<E: serde::de::Error>(self, channels: u64) -> std::result::Result<Named, E> {
                match usize::try_from(channels) {
                    Ok(channels @ 1..=MOST) => Ok(Named(Step::Conv(channels))),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Unsigned(channels), &self)),
                }
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<Named, E> {
                match name {
                    "pool" => Ok(Named(Step::Pool)),
                    _ => Err(E::invalid_value(serde::de::Unexpected::Str(name), &self)),
                }
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// [`resnet`]; by default the smallest of the paper.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Resnet {
    depth: usize,
    width: usize,
}

impl Default for Resnet {
    fn default() -> Resnet {
        Resnet { depth: 20, width: 16 }
    }
}

impl Backbone for Resnet {
    fn layers(&self, _side: usize) -> std::result::Result<Layers, Fault> {
        let Resnet { depth, width } = *self;
        if !(8..=1202).contains(&depth) || (depth - 2) % 6 != 0 {
            let message = format!("depth: {depth} is not 8, 14, 20 or another 6n + 2 up to 1202");
            return Err(Fault::new("depth", message));
        }
        if !(1..=MOST / 4).contains(&width) {
            return Err(Fault::new("width", format!("width: {width} is no number of channels from 1 to {}", MOST / 4)));
        }
        Ok(resnet((depth - 2) / 6, width))
    }
}

named!(BackboneKind);

impl<'de> Deserialize<'de> for &'static BackboneKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<&'static BackboneKind, D::Error> {
        deserializer.deserialize_str(&BACKBONES)
    }
}
