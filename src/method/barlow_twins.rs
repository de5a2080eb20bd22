//! Barlow Twins: the cross-correlation of two views' outputs becomes the identity (Zbontar, Jing, Misra, LeCun and Deny,
//! "Barlow Twins: self-supervised learning via redundancy reduction", 2021).
//!
//! [`mod@crate::loss::barlow_twins`] has formula and gradient. Batch norm takes each view on its own.

use serde::{Deserialize, Serialize};

use super::registry::{Defaults, Fault, Kind, Learner, learner};
use super::{Batch, Method, two_views};
use crate::loss;
use crate::network::{Layer, Network, PROJECTOR, Widths};

/// As experiments name it.
pub static BARLOW_TWINS: Kind = Kind {
    name: "barlow_twins",
    title: "Barlow Twins",
    about: "agreement of two views whose features are uncorrelated, on all images, without labels",
    uses_labels: false,
    transfers: false,
    learner: Some(Learner {
        // The authors' code scales the loss by 1/32 (facebookresearch/barlowtwins, main.py, --scale-loss), which is here in the rate.
        // With 0.06 at batches of 128, without the scale, the weights of the study's backbone grow fiftyfold in the first epoch, and
        // the loss stays higher.
        defaults: Defaults { sgd_lr: 0.12 / 32.0, ..Defaults::of_views() },
        keys: &["lambda"],
        loss: "Barlow Twins loss",
        about_loss: "The distance of the views' cross-correlation from the identity: 0 where they agree and features are uncorrelated.",
        read: learner::<BarlowTwins>,
    }),
};

/// The distance of the cross-correlation from the identity.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BarlowTwins {
    /// The weight of what is beside the diagonal; the paper's (§2.2).
    pub lambda: f64,
}

impl Default for BarlowTwins {
    fn default() -> BarlowTwins {
        BarlowTwins { lambda: 5e-3 }
    }
}

impl Method for BarlowTwins {
    fn network(&self, widths: &Widths) -> Network {
        expander(widths)
    }

    fn batch(&self) -> Box<dyn Batch> {
        let (lambda, mut memory) = (self.lambda, loss::BarlowTwins::default());
        two_views(&[PROJECTOR], false, move |outputs, gradients, n| {
            loss::barlow_twins(&outputs[0], n, lambda, &mut memory, &mut gradients[0])
        })
    }

    fn compares_views(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Fault> {
        match (0.0..=1.0).contains(&self.lambda) {
            true => Ok(()),
            false => Err(Fault::new("lambda", format!("lambda: {} is no number from 0 to 1", self.lambda))),
        }
    }
}

/// `backbone` → `projector`: three linear layers of one width, the first two with batch norm and ReLU (the paper's §2.2, and VICReg's
/// §4.2; 8,192 wide there).
pub(super) fn expander(widths: &Widths) -> Network {
    let d = widths.projector;
    let hidden = |inputs| [Layer::Linear { inputs, outputs: d }, Layer::BatchNorm { channels: d }, Layer::Relu];
    let last = [Layer::Linear { inputs: d, outputs: d }];
    Network::projected(widths, [&hidden(widths.features())[..], &hidden(d), &last].concat())
}
