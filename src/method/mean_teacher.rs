//! Mean teacher: on images without labels the network is to answer as the average of its weights does (Tarvainen and Valpola,
//! "Mean teachers are better role models", 2017).
//!
//! The loss is the cross-entropy on the labelled images plus w times [`squared_softmax`] of the
//! network's logits p and the average's q, two draws of the augmentation, with q a constant; w grows to `weight` over the first
//! part of the steps (§3.1; there by a Gaussian). The average is that of the stage (`average`), which is evaluated in the
//! network's stead, as there; it is in eval mode, with the average of the running statistics, where theirs has batch statistics.
//! The settings are by default those of Wang et al. ("USB", 2022, `config/classic_cv/meanteacher` in their code), the stage's
//! other keys as [`Defaults::semi_supervised`] says.

use serde::{Deserialize, Serialize};

use super::classify::HEADS;
use super::registry::{Defaults, Fault, Kind, Learner, learner};
use super::semi_supervised::{Halves, Teacher, WEAK, check, semi_supervised};
use super::{Batch, Head, Method, Unlabelled};
use crate::augment::Augmentation;
use crate::loss::squared_softmax;
use crate::network::{Network, Widths};

/// As experiments name it.
pub static MEAN_TEACHER: Kind = Kind {
    name: "mean_teacher",
    title: "Mean teacher",
    about: "training on the labelled images, and towards the answers of the weights' average on all others",
    uses_labels: true,
    transfers: true,
    learner: Some(Learner {
        defaults: Defaults::semi_supervised(),
        keys: &["augment", "unlabelled", "unlabelled_from", "weight", "ramp_up"],
        loss: "cross-entropy and squared error",
        about_loss: "The mean cross-entropy, in nats, plus the weighted squared error of probabilities.",
        read: learner::<MeanTeacher>,
    }),
};

/// Cross-entropy with labels, and the squared error to the average's answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MeanTeacher {
    /// Of all images.
    pub augment: Augmentation,
    /// μ: images without labels for each labelled one.
    pub unlabelled: usize,
    /// μ of the first epoch, if it is to grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled_from: Option<usize>,
    /// Of the squared error.
    pub weight: f64,
    /// The share of the steps in which `weight` grows from 0.
    pub ramp_up: f64,
}

impl Default for MeanTeacher {
    fn default() -> MeanTeacher {
        MeanTeacher { augment: WEAK, unlabelled: 1, unlabelled_from: None, weight: 50.0, ramp_up: 0.4 }
    }
}

impl MeanTeacher {
    fn images(&self) -> Unlabelled {
        Unlabelled::new(self.unlabelled, self.unlabelled_from, 1)
    }
}

impl Method for MeanTeacher {
    fn network(&self, widths: &Widths) -> Network {
        Network::supervised(widths)
    }

    fn batch(&self) -> Box<dyn Batch> {
        let MeanTeacher { augment, weight, ramp_up, .. } = *self;
        let teacher = Some((Teacher::Average, augment));
        let halves = Halves { labelled: augment, unlabelled: augment, teacher, weight, ramp_up };
        semi_supervised(halves, |logits, of, gradient| {
            let loss = squared_softmax(logits, of.logits, of.m, gradient);
            (loss, loss)
        })
    }

    fn heads(&self) -> &[Head] {
        &HEADS
    }

    fn measures(&self) -> &[&'static str] {
        &["squared_error"]
    }

    fn unlabelled(&self) -> Option<Unlabelled> {
        Some(self.images())
    }

    fn average(&self) -> Option<f64> {
        Some(0.999)
    }

    fn check(&self) -> Result<(), Fault> {
        self.augment.check("augment")?;
        check(self.images(), self.weight, self.ramp_up)
    }
}
