//! VICReg: agreement of two views, while each feature varies over the batch and no two covary (Bardes, Ponce and LeCun, "VICReg:
//! variance-invariance-covariance regularization for self-supervised learning", 2022).
//!
//! [`mod@crate::loss::vicreg`] has formula and gradient. Batch norm takes each view on its own.

use serde::{Deserialize, Serialize};

use super::barlow_twins::expander;
use super::registry::{Defaults, Fault, Kind, Learner, learner};
use super::{Batch, Method, two_views};
use crate::loss::{self, VicRegWeights, vicreg};
use crate::network::{Network, PROJECTOR, Widths};

/// As experiments name it.
pub static VICREG: Kind = Kind {
    name: "vicreg",
    title: "VICReg",
    about: "agreement of two views whose features vary and do not covary, on all images, without labels",
    uses_labels: false,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults::of_views(),
        keys: &["invariance", "variance", "covariance"],
        loss: "VICReg loss",
        about_loss: "The weighted sum of the views' squared difference, of how far each feature's standard deviation falls short of 1, and of squared covariances.",
        read: learner::<VicReg>,
    }),
};

/// The weighted sum of three terms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VicReg {
    /// λ; the paper's (§4.2), like the others.
    pub invariance: f64,
    /// μ.
    pub variance: f64,
    /// ν.
    pub covariance: f64,
}

impl Default for VicReg {
    fn default() -> VicReg {
        VicReg { invariance: 25.0, variance: 25.0, covariance: 1.0 }
    }
}

/// ε of the standard deviation (§4.1).
const EPS: f64 = 1e-4;

impl Method for VicReg {
    fn network(&self, widths: &Widths) -> Network {
        expander(widths)
    }

    fn batch(&self) -> Box<dyn Batch> {
        let VicReg { invariance, variance, covariance } = *self;
        let weights = VicRegWeights { invariance, variance, covariance, eps: EPS };
        let mut memory = loss::VicReg::default();
        two_views(&[PROJECTOR], false, move |outputs, gradients, n| {
            vicreg(&outputs[0], n, weights, &mut memory, &mut gradients[0])
        })
    }

    fn compares_views(&self) -> bool {
        true
    }

    fn check(&self) -> Result<(), Fault> {
        let weights = [("invariance", self.invariance), ("variance", self.variance), ("covariance", self.covariance)];
        match weights.into_iter().find(|(_, weight)| !(0.0..=1000.0).contains(weight)) {
            Some((key, weight)) => Err(Fault::new(key, format!("{key}: {weight} is no number from 0 to 1000"))),
            None if weights.iter().all(|(_, weight)| *weight == 0.0) => {
                Err(Fault::new("invariance", "invariance, variance and covariance are all 0: nothing would be learnt"))
            }
            None => Ok(()),
        }
    }
}
