//! Pseudo-labels: the network learns its own answers on images without labels, where it is confident (Lee, "Pseudo-label: the
//! simple and efficient semi-supervised learning method for deep neural networks", 2013).
//!
//! The loss is the cross-entropy on the labelled images plus α times [`mod@crate::loss::consistency`] of the others' logits with
//! themselves: with their own class, a constant, where its probability is at least the threshold. α grows to `weight` over the
//! first part of the steps (Lee's equation 16). Lee has no threshold; it, and the other settings, are by default those of Wang et
//! al. ("USB", 2022, `config/classic_cv/pseudolabel` in their code), the stage's other keys as [`Defaults::semi_supervised`]
//! says. Labelled and unlabelled images go through one pass, so that batch norm takes them together; there the unlabelled ones
//! move no running statistics.

use serde::{Deserialize, Serialize};

use super::classify::HEADS;
use super::registry::{Defaults, Fault, Kind, Learner, learner};
use super::semi_supervised::{Halves, WEAK, check, check_share, semi_supervised};
use super::{Batch, Head, Method, Unlabelled};
use crate::augment::Augmentation;
use crate::loss::consistency;
use crate::network::{Network, Widths};

/// As experiments name it.
pub static PSEUDO_LABEL: Kind = Kind {
    name: "pseudo_label",
    title: "Pseudo-labels",
    about: "training on the labelled images, and on the network's own confident answers for all others",
    uses_labels: true,
    transfers: true,
    learner: Some(Learner {
        defaults: Defaults::semi_supervised(),
        keys: &["augment", "unlabelled", "unlabelled_from", "threshold", "weight", "ramp_up"],
        loss: "cross-entropy",
        about_loss: "The mean cross-entropy with labels, plus the weighted one with pseudo-labels, in nats.",
        read: learner::<PseudoLabel>,
    }),
};

/// Cross-entropy with labels, and with the network's own answers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PseudoLabel {
    /// Of all images.
    pub augment: Augmentation,
    /// μ: images without labels for each labelled one.
    pub unlabelled: usize,
    /// μ of the first epoch, if it is to grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unlabelled_from: Option<usize>,
    /// The least probability of an answer that is learnt.
    pub threshold: f64,
    /// Of the pseudo-labels' loss.
    pub weight: f64,
    /// The share of the steps in which `weight` grows from 0.
    pub ramp_up: f64,
}

impl Default for PseudoLabel {
    fn default() -> PseudoLabel {
        let (augment, unlabelled, unlabelled_from) = (WEAK, 1, None);
        PseudoLabel { augment, unlabelled, unlabelled_from, threshold: 0.95, weight: 1.0, ramp_up: 0.4 }
    }
}

impl PseudoLabel {
    fn images(&self) -> Unlabelled {
        Unlabelled::new(self.unlabelled, self.unlabelled_from, 0)
    }
}

impl Method for PseudoLabel {
    fn network(&self, widths: &Widths) -> Network {
        Network::supervised(widths)
    }

    fn batch(&self) -> Box<dyn Batch> {
        let PseudoLabel { augment, threshold, weight, ramp_up, .. } = *self;
        let halves = Halves { labelled: augment, unlabelled: augment, teacher: None, weight, ramp_up };
        semi_supervised(halves, move |logits, of, gradient| consistency(logits, logits, of.m, threshold, gradient))
    }

    fn heads(&self) -> &[Head] {
        &HEADS
    }

    fn measures(&self) -> &[&'static str] {
        &["mask_share"]
    }

    fn unlabelled(&self) -> Option<Unlabelled> {
        Some(self.images())
    }

    fn average(&self) -> Option<f64> {
        Some(0.999)
    }

    fn check(&self) -> Result<(), Fault> {
        self.augment.check("augment")?;
        check_share("threshold", self.threshold)?;
        check(self.images(), self.weight, self.ramp_up)
    }
}
