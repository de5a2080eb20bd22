//! What a stage does: all that training it needs but data and weights.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Method, features};
use crate::data::Dataset;
use crate::engine::Engine;
use crate::error::Result;
use crate::evaluate::{self, Knn};
use crate::network::Network;
use crate::optimizer::{Rule, Schedule};

/// One stage's training.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The stage, for messages.
    pub name: String,
    pub method: Method,
    pub network: Network,
    pub rule: Rule,
    /// The rate at the first step.
    pub lr: f64,
    /// Of all but the heads.
    pub schedule: Schedule,
    /// Of the heads; a constant rate of SimSiam's predictor does a little better (Chen and He, 2021, §4.2, table 1).
    pub head_schedule: Schedule,
    pub epochs: u32,
    /// Images a step, at least 1.
    pub batch: usize,
    /// The key of every random stream.
    pub seed: u64,
    pub test: Test,
    /// The kNN accuracy while learning, if wanted.
    pub monitor: Option<Monitor>,
}

/// When the test images are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// After every epoch, as in the study.
    EveryEpoch,
    /// Once: after the epoch that is best on the validation images (the first of several), or without such after the
    /// last.
    Once,
}

/// The kNN accuracy of the backbone while it learns (Chen and He, 2021, figure 2): of the validation images or, where
/// every epoch looks at them, of the test images, among the labelled ones.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Monitor {
    /// Epochs from one to the next; the last epoch has it too.
    pub every: u32,
    pub knn: Knn,
}

impl Monitor {
    pub(super) fn is_due(&self, epoch: u32, epochs: u32) -> bool {
        epoch.is_multiple_of(self.every) || epoch == epochs
    }

    /// The share (of 1) of `queries` that the images of `bank` classify right, each images and which of them; NaN
    /// without queries.
    ///
    /// # Errors
    /// The engine's.
    pub fn top1(&self, queries: (&Dataset, &[u32]), bank: (&Dataset, &[u32]), model: &mut dyn Engine) -> Result<f64> {
        let mut of = |(data, indices): (&Dataset, &[u32])| -> Result<(Vec<f32>, Vec<u8>)> {
            let labels = indices.iter().map(|&index| data.labels[index as usize]).collect();
            Ok((features(data, indices, model)?, labels))
        };
        let ((queries, labels), (bank, bank_labels)) = (of(queries)?, of(bank)?);
        let width = queries.len() / labels.len().max(1);
        let correct = evaluate::knn_correct(&queries, &labels, &bank, &bank_labels, width, self.knn);
        Ok(f64::from(correct) / labels.len() as f64)
    }
}

/// The training images of a stage, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examples {
    /// What it trains on.
    pub train: Vec<u32>,
    /// Those with a label, without the validation images.
    pub labelled: Vec<u32>,
    /// Those that choose the epoch.
    pub validation: Vec<u32>,
}

impl Recipe {
    /// Steps of an epoch over `n` images. SimSiam drops a last short batch, the others keep it.
    pub fn steps(&self, n: usize) -> usize {
        if self.method.drops_last() { n / self.batch } else { n.div_ceil(self.batch) }
    }
}

/// What is kept of one epoch: metrics by name. `train_…` are of the epoch's steps, `test_…` and `validation_…` of those
/// images after it; `…top1` are accuracies as shares of 1, `…loss` means per image (cross-entropy in nats, for the
/// pretext tasks the sum of three; SimSiam's negative cosine), `output_std` is SimSiam's collapse measure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// From 1; 0 for a kNN classifier, which trains nothing.
    pub epoch: u32,
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}
