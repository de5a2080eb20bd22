//! The methods by name: the built-in ones, and those that a program adds.

use std::sync::{Arc, PoisonError, RwLock};

use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Method, barlow_twins, byol, classify, pretext, probe, simclr, simsiam, vicreg};
use crate::error::{Error, Result};
use crate::optimizer::{OptimizerName, Schedule};
use crate::settings;
pub use crate::settings::{Fault, Settings};

/// A method as experiments name it.
pub struct Kind {
    /// The value of a stage's `method`.
    pub name: &'static str,
    /// What a report calls it.
    pub title: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// Whether it takes the labelled images only, and ends in an accuracy on the test images.
    pub uses_labels: bool,
    /// Whether it starts from another stage's weights, which the stage then names as `from`.
    pub transfers: bool,
    /// None: nothing is trained, the labelled images' nearest neighbours classify.
    pub learner: Option<Learner>,
}

/// A method that trains.
pub struct Learner {
    /// What a stage leaves out.
    pub defaults: Defaults,
    /// The method's own keys of a stage.
    pub keys: &'static [&'static str],
    /// What the axis of its loss says.
    pub loss: &'static str,
    /// A report's caption of its loss.
    pub about_loss: &'static str,
    /// The method with the settings that a stage gives, and all its settings in order; [`learner`] makes it.
    pub read: fn(Settings) -> serde_json::Result<Complete>,
}

/// A method, and all its settings in order.
pub type Complete = (Arc<dyn Method>, Settings);

/// What of its recipe a stage may leave out.
pub struct Defaults {
    /// At least 1.
    pub epochs: u32,
    /// Images per step.
    pub batch: usize,
    /// The update rule.
    pub optimizer: OptimizerName,
    /// Of the learning rate.
    pub schedule: Schedule,
    /// Of `sgd`, for a batch of 256 images: the rate grows with the batch.
    pub sgd_lr: f64,
}

/// A [`Learner::read`] for a method whose fields are its settings. What it does not serialise is left out of a complete stage.
///
/// # Errors
/// A setting that the method does not have, or of another type.
pub fn learner<T: Method + Serialize + DeserializeOwned + 'static>(settings: Settings) -> serde_json::Result<Complete> {
    let (method, complete) = settings::read::<T>(settings)?;
    Ok((Arc::new(method), complete))
}

/// Weighted nearest neighbours.
static KNN: Kind = Kind {
    name: "knn",
    title: "kNN",
    about: "a weighted kNN classifier on the labelled images' features by the backbone of another stage: nothing is trained",
    uses_labels: true,
    transfers: true,
    learner: None,
};

/// In the order in which messages list them.
static BUILT_IN: [&Kind; 10] = [
    &classify::SUPERVISED,
    &pretext::PRETEXT,
    &simsiam::SIMSIAM,
    &simclr::SIMCLR,
    &byol::BYOL,
    &barlow_twins::BARLOW_TWINS,
    &vicreg::VICREG,
    &classify::FINETUNE,
    &probe::PROBE,
    &KNN,
];

/// A program's own.
static ADDED: RwLock<Vec<&'static Kind>> = RwLock::new(vec![]);

/// All methods.
pub fn kinds() -> Vec<&'static Kind> {
    let added = ADDED.read().unwrap_or_else(PoisonError::into_inner);
    BUILT_IN.iter().chain(&*added).copied().collect()
}

/// The method called `name`.
pub fn find(name: &str) -> Option<&'static Kind> {
    kinds().into_iter().find(|kind| kind.name == name)
}

/// Adds a method, for every experiment that is read from here on.
///
/// # Errors
/// [`Error::Usage`] for a name that another method has.
pub fn register(kind: &'static Kind) -> Result<()> {
    let mut added = ADDED.write().unwrap_or_else(PoisonError::into_inner);
    if BUILT_IN.iter().chain(&*added).any(|other| other.name == kind.name) {
        return Err(Error::Usage(format!("there is a method {} already", kind.name)));
    }
    added.push(kind);
    Ok(())
}

impl Defaults {
    /// What the study's own recipes leave to its code: Adam with a constant rate.
    pub const fn adam(epochs: u32, batch: usize) -> Defaults {
        Defaults { epochs, batch, optimizer: OptimizerName::Adam, schedule: Schedule::Constant, sgd_lr: SGD_LR }
    }

    /// SGD with a cosine, for methods that compare views: what lightly's benchmark on CIFAR-10 has for all of them
    /// (`cifar10_benchmark.py`: batches of 128, 0.06 · batch / 128, momentum 0.9, weight decay 5e-4, to 0 by a cosine).
    pub const fn of_views() -> Defaults {
        Defaults { epochs: 30, batch: 128, optimizer: OptimizerName::Sgd, schedule: Schedule::Cosine, sgd_lr: 0.12 }
    }
}

/// Chen and He's (2021, §3, baseline settings).
pub(super) const SGD_LR: f64 = 0.05;

impl Kind {
    /// Whether it ends in an accuracy on the test images' classes.
    pub fn classifies(&self) -> bool {
        self.uses_labels
    }

    /// Its own keys of a stage.
    pub fn keys(&self) -> &'static [&'static str] {
        self.learner.as_ref().map_or(&[], |learner| learner.keys)
    }
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

impl PartialEq for Kind {
    fn eq(&self, other: &Kind) -> bool {
        self.name == other.name
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name)
    }
}

impl<'de> Deserialize<'de> for &'static Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<&'static Kind, D::Error> {
        deserializer.deserialize_str(ByName)
    }
}

struct ByName;

impl Visitor<'_> for ByName {
    type Value = &'static Kind;

    fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("the name of a method")
    }

    fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<&'static Kind, E> {
        find(name).ok_or_else(|| {
            let known: Vec<String> = kinds().iter().map(|kind| format!("`{}`", kind.name)).collect();
            E::custom(format!("unknown method `{name}`: this program has {}", known.join(", ")))
        })
    }
}
