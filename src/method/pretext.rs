//! Prediction of which rotation, shear and recolouring an image has undergone: the study's three pretext tasks at once, on
//! all images, without labels.

use serde::{Deserialize, Serialize};

use super::classify::step_on_labels;
use super::registry::{Defaults, Kind, Learner, learner};
use super::{Batch, Draw, Head, Method, Source};
use crate::augment::{Pretext, pretext_batch};
use crate::data::IMAGE;
use crate::engine::{Engine, Input, Rates};
use crate::error::Result;
use crate::network::{Network, PRETEXT_HEADS, Widths};
use crate::optimizer::{OptimizerName, Schedule};
use crate::rng::Purpose;

/// As experiments name it.
pub static PRETEXT: Kind = Kind {
    name: "pretext",
    title: "Pretext tasks",
    about: "prediction of rotation, shear and recolouring on all images, without labels",
    uses_labels: false,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults { epochs: 30, batch: 64, optimizer: OptimizerName::Adam, schedule: Schedule::Constant },
        keys: &[],
        loss: "cross-entropy",
        about_loss: "The sum of the tasks' mean cross-entropies, in nats.",
        read: learner::<PretextTasks>,
    }),
};

/// The sum of the three tasks' cross-entropies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretextTasks {}

const TASKS: usize = PRETEXT_HEADS.len();
const NAMES: [&str; TASKS] = [PRETEXT_HEADS[0].0, PRETEXT_HEADS[1].0, PRETEXT_HEADS[2].0];
const HEADS: [Head; TASKS] = [
    Head { block: NAMES[0], prefix: "rotation_", classes: Some(PRETEXT_HEADS[0].1) },
    Head { block: NAMES[1], prefix: "shear_", classes: Some(PRETEXT_HEADS[1].1) },
    Head { block: NAMES[2], prefix: "color_", classes: Some(PRETEXT_HEADS[2].1) },
];

impl Method for PretextTasks {
    fn network(&self, widths: &Widths) -> Network {
        Network::pretext(widths)
    }

    fn batch(&self) -> Box<dyn Batch> {
        Box::new(Transformed::default())
    }

    fn heads(&self) -> &[Head] {
        &HEADS
    }
}

/// Transformed images, and which transformation each has undergone.
#[derive(Default)]
struct Transformed {
    draw: Draw,
    images: Vec<f32>,
    draws: Vec<Pretext>,
    labels: [Vec<u8>; TASKS],
}

impl Batch for Transformed {
    fn fill(&mut self, from: &Source, indices: &[u32], draw: Draw) {
        let purpose = if draw.evaluates { Purpose::PretextTest } else { Purpose::Pretext };
        self.draw = draw;
        self.images.resize(indices.len() * IMAGE, 0.0);
        pretext_batch(from.images(), indices, draw.seed, purpose, draw.epoch, &mut self.images, &mut self.draws);
        for (task, labels) in self.labels.iter_mut().enumerate() {
            labels.clear();
            labels.extend(self.draws.iter().map(|draw| draw.labels()[task]));
        }
    }

    fn step(&mut self, model: &mut dyn Engine, lr: Rates, sums: &mut [f64]) -> Result<f64> {
        let input = Input::train(&self.images, self.draw.dropout());
        step_on_labels(model, input, &NAMES, &self.labels, lr, sums)
    }

    fn input(&self) -> &[f32] {
        &self.images
    }

    fn labels(&self) -> &[Vec<u8>] {
        &self.labels
    }
}
