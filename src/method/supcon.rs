//! SupCon: views of images of one class are told from all other views of the batch (Khosla et al., "Supervised contrastive learning",
//! 2020). It learns from the labelled images alone, and trains a backbone: another stage classifies with it.
//!
//! [`mod@crate::loss::supcon`] has formula and gradient. Network and batch norm are SimCLR's, as in the authors' code
//! (`SupContrast`), whose loss is 0.1/0.07 times the paper's at a temperature of 0.1.

use serde::{Deserialize, Serialize};

use super::registry::{Defaults, Fault, Kind, Learner, learner};
use super::simclr::{check_embedding, check_temperature, projector};
use super::{Batch, Method, labelled_views};
use crate::loss::{NtXent, supcon};
use crate::network::{Network, PROJECTOR, Widths};

/// As experiments name it. The rate for a batch of 256 is that of the authors' code on CIFAR-10, 0.5 for 1,024 (`README.md`), with a
/// cosine as there.
pub static SUPCON: Kind = Kind {
    name: "supcon",
    title: "SupCon",
    about: "views of one class told from all others of the batch, on the labelled images",
    uses_labels: true,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults { sgd_lr: 0.125, ..Defaults::of_views() },
        keys: &["temperature", "embedding"],
        loss: "SupCon loss",
        about_loss: "The mean cross-entropy of telling the views of an image's class from all other views of the batch, in nats: ln(2 · batch − 1) where nothing is told apart.",
        read: learner::<SupCon>,
    }),
};

/// The supervised contrastive loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SupCon {
    /// Of the cross-entropy, from 0.001 to 100; the paper's (§4) and the authors' code's on CIFAR-10.
    pub temperature: f64,
    /// Width of the projector's output, from 2 to 8,192; the paper's (§3.1).
    pub embedding: usize,
}

impl Default for SupCon {
    fn default() -> SupCon {
        SupCon { temperature: 0.1, embedding: 128 }
    }
}

impl Method for SupCon {
    fn network(&self, widths: &Widths) -> Network {
        projector(widths, self.embedding)
    }

    fn batch(&self) -> Box<dyn Batch> {
        let (temperature, mut memory) = (self.temperature, NtXent::default());
        labelled_views(&[PROJECTOR], true, move |outputs, labels, gradients| {
            supcon(&outputs[0], labels, temperature, &mut memory, &mut gradients[0])
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
