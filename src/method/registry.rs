//! The methods by name: the built-in ones, and those that a program adds.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Method, barlow_twins, byol, classify, fixmatch, mean_teacher, pretext, probe, pseudo_label, simclr, simsiam,
    supcon, vicreg,
};
use crate::error::Result;
use crate::optimizer::{OptimizerName, Schedule};
use crate::registry::{Registry, named};
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
    /// Whether it trains on the labelled images, alone or with unlabelled ones beside them ([`Method::unlabelled`]), and a stage
    /// may have its own number of them (`labels`). Otherwise it trains on all images, and must not look at
    /// [`Source::label`](super::Source::label): most of them have no label to go by. Whether it also classifies is another
    /// matter: its heads say so ([`Head`](super::Head)).
    pub uses_labels: bool,
    /// Whether it starts from another stage's weights: a stage must then name that stage, or `random`, as `from`, and takes over
    /// its blocks of the same names and shapes, [`BACKBONE`](crate::network::BACKBONE) above all. Otherwise it starts from random
    /// weights, and `from` is an error. A semi-supervised method that names none starts from `random`.
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

static METHODS: Registry<Kind> = Registry::new(
    "method",
    &[
        &classify::SUPERVISED,
        &pretext::PRETEXT,
        &simsiam::SIMSIAM,
        &simclr::SIMCLR,
        &byol::BYOL,
        &barlow_twins::BARLOW_TWINS,
        &vicreg::VICREG,
        &supcon::SUPCON,
        &pseudo_label::PSEUDO_LABEL,
        &mean_teacher::MEAN_TEACHER,
        &fixmatch::FIXMATCH,
        &classify::FINETUNE,
        &probe::PROBE,
        &KNN,
    ],
    "",
);

/// All methods, the built-in ones first.
pub fn kinds() -> Vec<&'static Kind> {
    METHODS.all()
}

/// The method called `name`.
pub fn find(name: &str) -> Option<&'static Kind> {
    METHODS.find(name)
}

/// Adds a method, for every experiment that is read from here on.
///
/// # Errors
/// [`Error::Usage`](crate::Error::Usage) for a name that another method has.
pub fn register(kind: &'static Kind) -> Result<()> {
    METHODS.add(kind, &[])
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

    /// SGD with a cosine, for semi-supervised methods: batches of 64 labelled images, a rate of 0.03, momentum 0.9 and weight
    /// decay 5e-4, as Wang et al. ("USB", 2022, `config/classic_cv` in their code) and FixMatch (Sohn et al., 2020, table 4) have
    /// them. There momentum is Nesterov's and weights alone decay (`nesterov: true`, `decayed: weights`), the rate falls to a
    /// fifth (cos 7πt/16) over 2²⁰ steps; here it falls to 0, over 30 epochs.
    pub const fn semi_supervised() -> Defaults {
        Defaults { epochs: 30, batch: 64, optimizer: OptimizerName::Sgd, schedule: Schedule::Cosine, sgd_lr: 0.12 }
    }
}

/// Chen and He's (2021, §3, baseline settings).
pub(super) const SGD_LR: f64 = 0.05;

impl Kind {
    /// Its own keys of a stage.
    pub fn keys(&self) -> &'static [&'static str] {
        self.learner.as_ref().map_or(&[], |learner| learner.keys)
    }
}

named!(Kind);

impl<'de> Deserialize<'de> for &'static Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<&'static Kind, D::Error> {
        deserializer.deserialize_str(&METHODS)
    }
}
