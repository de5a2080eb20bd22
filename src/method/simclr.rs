//! SimCLR: the two views of an image are told from all other views of the batch (Chen, Kornblith, Norouzi and Hinton, "A simple
//! framework for contrastive learning of visual representations", 2020).
//!
//! The loss is NT-Xent ([`mod@crate::loss::nt_xent`] has formula and gradient). Batch norm takes both views together, as in the
//! authors' code, which hands them to the network in one batch.

use serde::{Deserialize, Serialize};

use super::registry::{Defaults, Fault, Kind, Learner, learner};
use super::{Batch, Method, two_views};
use crate::loss::{NtXent, nt_xent};
use crate::network::{Layer, Network, PROJECTOR, Widths};

/// As experiments name it.
pub static SIMCLR: Kind = Kind {
    name: "simclr",
    title: "SimCLR",
    about: "the two views of an image told from all others of the batch, on all images, without labels",
    uses_labels: false,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults::of_views(),
        keys: &["temperature", "embedding"],
        loss: "SimCLR loss",
        about_loss: "The mean cross-entropy of telling the other view of an image from all other views of the batch, in nats: ln(2 · batch − 1) where nothing is told apart.",
        read: learner::<SimClr>,
    }),
};

/// NT-Xent.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimClr {
    /// Of the cross-entropy; the paper's on CIFAR-10 (appendix B.9).
    pub temperature: f64,
    /// Width of the projector's output; the paper's (§4.2).
    pub embedding: usize,
}

impl Default for SimClr {
    fn default() -> SimClr {
        SimClr { temperature: 0.5, embedding: 128 }
    }
}

impl Method for SimClr {
    fn network(&self, widths: &Widths) -> Network {
        projector(widths, self.embedding)
    }

    fn batch(&self) -> Box<dyn Batch> {
        let (temperature, mut memory) = (self.temperature, NtXent::default());
        two_views(&[PROJECTOR], true, move |outputs, gradients, n| {
            nt_xent(&outputs[0], n, temperature, &mut memory, &mut gradients[0])
        })
    }

    fn compares_views(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Fault> {
        check_temperature(self.temperature)?;
        check_embedding(self.embedding)
    }
}

/// `backbone` → `projector`: two linear layers, ReLU between them (§4.2).
pub(super) fn projector(widths: &Widths, embedding: usize) -> Network {
    let hidden = Layer::Linear { inputs: widths.features(), outputs: widths.projector };
    let last = Layer::Linear { inputs: widths.projector, outputs: embedding };
    Network::projected(widths, vec![hidden, Layer::Relu, last])
}

/// Whether a cross-entropy can have it.
pub(super) fn check_temperature(temperature: f64) -> Result<(), Fault> {
    match (1e-3..=100.0).contains(&temperature) {
        true => Ok(()),
        false => Err(Fault::new("temperature", format!("temperature: {temperature} is no number from 0.001 to 100"))),
    }
}

/// As of the other widths.
const MAX_WIDTH: usize = 8_192;

/// Whether it is a width that a projector's output can have.
pub(super) fn check_embedding(embedding: usize) -> Result<(), Fault> {
    match (2..=MAX_WIDTH).contains(&embedding) {
        true => Ok(()),
        false => Err(Fault::new("embedding", format!("embedding: {embedding} is no width from 2 to {MAX_WIDTH}"))),
    }
}
