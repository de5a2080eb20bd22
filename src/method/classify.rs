//! Prediction of the labels of images as they are: `supervised` from random weights, `finetune` from another stage's.

use serde::{Deserialize, Serialize};

use super::registry::{Defaults, Kind, Learner, learner};
use super::{Batch, Draw, Head, Method, Source};
use crate::engine::{Engine, Input, Rates};
use crate::error::Result;
use crate::evaluate;
use crate::loss::cross_entropy;
use crate::network::{CLASSIFICATION_HEAD, Network, Widths};
use crate::optimizer::{OptimizerName, Schedule};

/// The study's baseline.
pub static SUPERVISED: Kind = Kind {
    name: "supervised",
    title: "Supervised",
    about: "training on the labelled images, from random weights",
    uses_labels: true,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults { epochs: 50, batch: 128, optimizer: OptimizerName::Adam, schedule: Schedule::Constant },
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
        defaults: Defaults { epochs: 30, batch: 64, optimizer: OptimizerName::Adam, schedule: Schedule::Constant },
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
        Box::new(Labelled::new(CLASSIFICATION_HEAD))
    }

    fn heads(&self) -> &[Head] {
        &HEADS
    }
}

/// Examples as they are, and their labels for one head.
pub(super) struct Labelled {
    head: &'static str,
    draw: Draw,
    input: Vec<f32>,
    labels: [Vec<u8>; 1],
}

impl Labelled {
    pub fn new(head: &'static str) -> Labelled {
        Labelled { head, draw: Draw::default(), input: vec![], labels: Default::default() }
    }
}

impl Batch for Labelled {
    fn fill(&mut self, from: &Source, indices: &[u32], draw: Draw) {
        self.draw = draw;
        from.plain_batch(indices, &mut self.input);
        let [labels] = &mut self.labels;
        labels.clear();
        labels.extend(indices.iter().map(|&index| from.label(index)));
    }

    fn step(&mut self, model: &mut dyn Engine, lr: Rates, sums: &mut [f64]) -> Result<f64> {
        let input = Input::train(&self.input, self.draw.dropout());
        step_on_labels(model, input, &[self.head], &self.labels, lr, sums)
    }

    fn input(&self) -> &[f32] {
        &self.input
    }

    fn labels(&self) -> &[Vec<u8>] {
        &self.labels
    }
}

/// A step on the sum over `heads` of the cross-entropy with their labels; counts the right answers.
pub(super) fn step_on_labels(
    model: &mut dyn Engine,
    input: Input,
    heads: &[&str],
    labels: &[Vec<u8>],
    lr: Rates,
    sums: &mut [f64],
) -> Result<f64> {
    let mut loss = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
        let mut total = 0.0;
        for (((logits, labels), gradient), correct) in outputs.iter().zip(labels).zip(gradients).zip(&mut *sums) {
            total += cross_entropy(logits, labels, gradient)?;
            *correct += f64::from(evaluate::correct(logits, labels));
        }
        Ok(total)
    };
    model.step(&[input], heads, &mut loss, lr)
}
