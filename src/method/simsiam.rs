//! SimSiam: agreement of two views of each image, without labels (Chen and He, "Exploring simple Siamese representation
//! learning", 2021).
//!
//! z is the projector's output, p the predictor's. The loss is D(p₁, z₂)/2 + D(p₂, z₁)/2 with D the negative cosine (equations 1
//! and 2), z a constant in it (equations 3 and 4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::registry::{Defaults, Fault, Kind, Learner, SGD_LR, learner};
use super::{Batch, Method, two_views};
use crate::loss::{Cosines, negative_cosine};
use crate::network::{Block, Layer, Network, PREDICTOR, PROJECTOR, Widths};
use crate::optimizer::{OptimizerName, Schedule};

/// As experiments name it; the defaults are the study's.
pub static SIMSIAM: Kind = Kind {
    name: "simsiam",
    title: "SimSiam",
    about: "agreement of two views of each image, on all images, without labels",
    uses_labels: false,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults {
            epochs: 30,
            batch: 64,
            optimizer: OptimizerName::Sgd,
            schedule: Schedule::Cosine,
            sgd_lr: SGD_LR,
        },
        keys: &["stop_gradient", "predictor", "predictor_schedule"],
        loss: "negative cosine",
        about_loss: "The mean negative cosine similarity between one view's prediction and the other view's projection: \
                     −1 where all views agree.",
        read: learner::<SimSiam>,
    }),
};

/// The negative cosine of two views.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SimSiam {
    /// Whether z is a constant in the loss.
    pub stop_gradient: bool,
    /// Whether there is a predictor; without it p is z. Left out if true.
    #[serde(skip_serializing_if = "std::clone::Clone::clone")]
    pub predictor: bool,
    /// The predictor's schedule; by default the stage's. A constant rate does a little better (§4.2, table 1).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub predictor_schedule: Option<Schedule>,
}

impl Default for SimSiam {
    fn default() -> SimSiam {
        SimSiam { stop_gradient: true, predictor: true, predictor_schedule: None }
    }
}

/// With random weights prediction and other view are unrelated, and in d dimensions their cosine is 0 ± 1/√d (0.02 for
/// 2,048). A prediction with cosine c explains c² of a unit vector: below this threshold, less than one per cent.
const LEAST_COSINE: f64 = 0.1;

/// The evidence in an epoch's negative cosine that predictions and other views are unrelated.
pub(super) fn unrelated(metrics: &BTreeMap<String, f64>) -> Option<String> {
    let loss = *metrics.get("train_loss")?;
    let is_near_0 = -loss < LEAST_COSINE;
    is_near_0.then(|| format!("loss {loss:.4}, where views that agree have -1, and unrelated ones 0"))
}

impl Method for SimSiam {
    fn network(&self, widths: &Widths) -> Network {
        let mut network = network(widths);
        network.heads.retain(|_| self.predictor);
        network
    }

    fn batch(&self) -> Box<dyn Batch> {
        let outputs: &[&str] = if self.predictor { &[PROJECTOR, PREDICTOR] } else { &[PROJECTOR] };
        let (stop_gradient, mut cosines, mut of_z) = (self.stop_gradient, Cosines::default(), vec![]);
        two_views(outputs, false, move |outputs, gradients, n| {
            let last = outputs.len() - 1;
            // Without a predictor p is z.
            let (z, p) = (&outputs[0], &outputs[last]);
            if stop_gradient {
                return negative_cosine(p, z, n, &mut cosines, &mut gradients[last], None);
            }
            let loss = negative_cosine(p, z, n, &mut cosines, &mut gradients[last], Some(&mut of_z));
            let all = &mut gradients[0];
            all.resize(z.len(), 0.0);
            all.iter_mut().zip(&of_z).for_each(|(all, of_z)| *all += *of_z);
            loss
        })
    }

    fn compares_views(&self) -> bool {
        true
    }

    fn can_collapse(&self) -> bool {
        true
    }

    fn head_schedule(&self) -> Option<Schedule> {
        self.predictor_schedule
    }

    fn hardly_learnt(&self, metrics: &BTreeMap<String, f64>) -> Option<String> {
        unrelated(metrics)
    }

    fn check(&self) -> std::result::Result<(), Fault> {
        match self.predictor_schedule {
            Some(_) if !self.predictor => {
                Err(Fault::new("predictor_schedule", "`predictor_schedule` is only for a predictor"))
            }
            _ => Ok(()),
        }
    }
}

/// `backbone` → `projector` (three linear layers with batch norm) = z → `predictor` = p
/// (Chen and He, "Exploring simple Siamese representation learning", 2021, §3).
pub fn network(widths: &Widths) -> Network {
    let Widths { projector: d, predictor: h, .. } = *widths;
    let linear = |inputs, outputs| [Layer::Linear { inputs, outputs }, Layer::BatchNorm { channels: outputs }];
    let projector = [&linear(widths.features(), d)[..], &[Layer::Relu], &linear(d, d), &[Layer::Relu], &linear(d, d)];
    let predictor = [&linear(d, h)[..], &[Layer::Relu, Layer::Linear { inputs: h, outputs: d }]];
    let heads = vec![Block::sequential(PREDICTOR, predictor.concat())];
    Network { heads, ..Network::projected(widths, projector.concat()) }
}
