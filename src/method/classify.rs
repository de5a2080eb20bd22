//! Prediction of the labels of images as they are: `supervised` from random weights, `finetune` from another stage's.

use serde::{Deserialize, Serialize};

use super::registry::{Defaults, Kind, Learner, learner};
use super::{Batch, Head, Method, made};
use crate::network::{CLASSIFICATION_HEAD, Network, Widths};

/// The study's baseline.
pub static SUPERVISED: Kind = Kind {
    name: "supervised",
    title: "Supervised",
    about: "training on the labelled images, from random weights",
    uses_labels: true,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults::adam(50, 128),
        keys: &[],
        loss: "cross-entropy",
        about_loss: "The mean cross-entropy, in nats.",
        read: learner::<Classify>,
    }),
};

/// All weights go on from another stage's.
pub static FINETUNE: Kind = Kind {
    name: "finetune",
    title: "Fine-tuning",
    about: "training of all weights on the labelled images, from another stage's",
    uses_labels: true,
    transfers: true,
    learner: Some(Learner {
        defaults: Defaults::adam(30, 64),
        keys: &[],
        loss: "cross-entropy",
        about_loss: "The mean cross-entropy, in nats.",
        read: learner::<Classify>,
    }),
};

/// Cross-entropy on the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Classify {}

const HEADS: [Head; 1] = [Head { block: CLASSIFICATION_HEAD, prefix: "", classes: None }];

impl Method for Classify {
    fn network(&self, widths: &Widths) -> Network {
        Network::supervised(widths)
    }

    fn batch(&self) -> Box<dyn Batch> {
        labelled(CLASSIFICATION_HEAD)
    }

    fn heads(&self) -> &[Head] {
        &HEADS
    }
}

/// Examples as they are, and their labels for one head.
pub(super) fn labelled(head: &'static str) -> Box<dyn Batch> {
    made([head], |from, index, _, out| {
        from.input(index, out);
        [from.label(index)]
    })
}
