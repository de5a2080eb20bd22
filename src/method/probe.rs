//! A classifier on a frozen backbone's features of the labelled images.

use serde::{Deserialize, Serialize};

use super::classify::{check_smoothing, labelled};
use super::registry::{Defaults, Fault, Kind, Learner, learner};
use super::{Batch, Head, Method};
use crate::augment::Augmentation;
use crate::network::{CLASSIFIER, Mode, Network, Probe, Widths};
use crate::settings::is_default;

/// As experiments name it.
pub static PROBE: Kind = Kind {
    name: "probe",
    title: "Probe",
    about: "training of a classifier on the labelled images' features by the frozen backbone of another stage",
    uses_labels: true,
    transfers: true,
    learner: Some(Learner {
        defaults: Defaults::adam(50, 64),
        keys: &["probe", "frozen_norm", "label_smoothing", "augment"],
        loss: "cross-entropy",
        about_loss: "The mean cross-entropy, in nats.",
        read: learner::<LinearProbe>,
    }),
};

/// Cross-entropy of a classifier on features.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LinearProbe {
    /// The classifier; what the study calls its linear probe has a hidden layer.
    pub probe: Probe,
    /// The frozen backbone's batch norm normalises by the batch's statistics and updates the running ones (`train`, as in
    /// the study's code), or normalises by the running ones (`eval`).
    pub frozen_norm: Mode,
    /// As of [`Classify`](super::Classify).
    #[serde(skip_serializing_if = "is_default")]
    pub label_smoothing: f64,
    /// As of [`Classify`](super::Classify); refused with `frozen_norm: eval`, where features are computed once.
    #[serde(skip_serializing_if = "Augmentation::is_none")]
    pub augment: Augmentation,
}

impl Default for LinearProbe {
    fn default() -> LinearProbe {
        LinearProbe {
            probe: Probe::Mlp,
            frozen_norm: Mode::Train,
            label_smoothing: 0.0,
            augment: Augmentation::default(),
        }
    }
}

const HEADS: [Head; 1] = [Head { block: CLASSIFIER, prefix: "" }];

impl Method for LinearProbe {
    fn network(&self, widths: &Widths) -> Network {
        Network::probe(widths, self.probe, self.frozen_norm)
    }

    fn batch(&self) -> Box<dyn Batch> {
        labelled(CLASSIFIER, self.label_smoothing, self.augment)
    }

    fn heads(&self) -> &[Head] {
        &HEADS
    }

    fn check(&self) -> Result<(), Fault> {
        check_smoothing(self.label_smoothing)?;
        if self.frozen_norm == Mode::Eval && !self.augment.is_none() {
            let message = "augment: features of a backbone that is frozen in eval mode are computed once: take `frozen_norm: train`";
            return Err(Fault::new("augment", message));
        }
        self.augment.check("augment")
    }
}
