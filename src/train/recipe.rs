//! A stage's training: everything that it needs except data and weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::features;
use crate::data::Dataset;
use crate::engine::{Inference, Statistics};
use crate::error::Result;
use crate::evaluate::{self, Knn, TestViews};
use crate::files::unique;
use crate::method::Method;
use crate::network::Network;
use crate::optimizer::{Rule, Schedule};

/// One stage's training.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The stage, for messages.
    pub name: String,
    /// How it learns.
    pub method: Arc<dyn Method>,
    /// What learns.
    pub network: Network,
    /// The update rule.
    pub rule: Rule,
    /// The rate at the first step.
    pub lr: f64,
    /// The trunk's.
    pub schedule: Schedule,
    /// The heads'; a constant rate of SimSiam's predictor does a little better (Chen and He, 2021, §4.2, table 1).
    pub head_schedule: Schedule,
    /// d of the average of the network that is evaluated in its stead and becomes the result, if there is one; in the first steps
    /// less of it stays: in step k (from 1) k/(9 + k) at most.
    pub average: Option<f64>,
    /// Epochs in which both rates grow to theirs; fewer than all.
    pub warmup: u32,
    /// At least 1.
    pub epochs: u32,
    /// Images per step, at least 1.
    pub batch: usize,
    /// Into how many shards each batch is split ([`Shards`](crate::engine::Shards)); at most as many as it has images.
    pub shards: usize,
    /// The key of every random stream.
    pub seed: u64,
    /// When to test.
    pub test: Test,
    /// Of each image that is judged, the views whose answers are averaged, if more than the image itself.
    pub test_views: Option<TestViews>,
    /// The kNN accuracy during training, if wanted.
    pub monitor: Option<Monitor>,
}

/// When the test images are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Test {
    /// After every epoch, as in the study.
    EveryEpoch,
    /// Once: after the epoch that is best on the validation images (the first of several), or after the last where
    /// there are none.
    Once,
}

/// The kNN accuracy of the backbone during training (Chen and He, 2021, figure 2): the labelled images classify the
/// validation images, or the test images where every epoch is tested.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Monitor {
    /// The number of epochs between two measurements; the last epoch has one too.
    pub every: u32,
    /// The classifier.
    pub knn: Knn,
}

impl Monitor {
    pub(super) fn is_due(&self, epoch: u32, epochs: u32) -> bool {
        epoch.is_multiple_of(self.every) || epoch == epochs
    }

    /// The accuracy on `queries` of the kNN classifier over `bank`, a share of 1; NaN without queries.
    ///
    /// # Errors
    /// The engine's.
    pub fn top1(&self, queries: Subset, bank: Subset, model: &mut dyn Inference) -> Result<f64> {
        Ok(evaluate::top1(&self.answers(queries, bank, model)?))
    }

    /// The label of each of `queries`, and whether the images of `bank` classify it right.
    ///
    /// # Errors
    /// The engine's.
    pub fn answers(&self, queries: Subset, bank: Subset, model: &mut dyn Inference) -> Result<Vec<(u16, bool)>> {
        let classes = self.predictions(queries, bank, model)?;
        let labels = queries.1.iter().map(|&index| queries.0.labels[index as usize]);
        Ok(labels.zip(classes).map(|(label, class)| (label, class == usize::from(label))).collect())
    }

    /// The predictions for `queries` of the kNN classifier over `bank`.
    ///
    /// # Errors
    /// The engine's.
    pub fn predictions(&self, queries: Subset, bank: Subset, model: &mut dyn Inference) -> Result<Vec<usize>> {
        if queries.1.is_empty() {
            return Ok(vec![]);
        }
        let labels: Vec<u16> = bank.1.iter().map(|&index| bank.0.labels[index as usize]).collect();
        let [rows, known] = [queries, bank].map(|(data, indices)| features(data, indices, model));
        let (rows, known) = (rows?, known?);
        let width = rows.len() / queries.1.len();
        Ok(evaluate::knn_predictions(rows, known, &labels, width, self.knn))
    }
}

/// A data set, and which of its images, by index.
pub type Subset<'a> = (&'a Dataset, &'a [u32]);

/// The training images of a stage, by index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Examples {
    /// Those it trains on.
    pub train: Vec<u32>,
    /// The labelled ones, without the validation images.
    pub labelled: Vec<u32>,
    /// Those that choose the epoch.
    pub validation: Vec<u32>,
    /// Those that a semi-supervised method takes without labels: all. Else none.
    pub unlabelled: Vec<u32>,
}

impl Recipe {
    /// Of the average that the engine keeps, if any.
    pub fn averages(&self) -> Option<Statistics> {
        match self.method.has_teacher() {
            true => Some(Statistics::Own),
            false => self.average.map(|_| Statistics::Averaged),
        }
    }
}

/// An epoch's metrics by name. `train_…` are over the epoch's steps, `test_…` and `validation_…` over those images
/// after it; `…top1` are accuracies as shares of 1, `…balanced_top1` means of the classes' own where they differ in size,
/// `…loss` means per image (cross-entropy in nats, for the pretext tasks the sum of three; SimSiam's negative cosine), and
/// other names are the method's own ([`Method::measures`]).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// From 1; 0 for a kNN classifier, which trains nothing.
    pub epoch: u32,
    /// By name.
    #[serde(flatten, deserialize_with = "unique")]
    pub metrics: BTreeMap<String, f64>,
}
