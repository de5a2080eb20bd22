//! What the methods do differently: how a batch is made, what a step minimises, what an epoch is judged by.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Progress, Recipe};
use crate::augment::{plain_batch, pretext_batch, view_batch};
use crate::data::{Data, Dataset, IMAGE};
use crate::engine::{DropoutKey, Engine, Objective, Outcome, Target};
use crate::error::Result;
use crate::evaluate;
use crate::network::PRETEXT_HEADS;
use crate::rng::Purpose;

/// How a stage learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Labels, on images as they are, through the head of this name.
    Classify { head: &'static str },
    /// Which rotation, shear and recolouring an image has gone through.
    Pretext,
    /// Two views of an image should agree.
    SimSiam { stop_gradient: bool },
}

/// The pretext tasks' names in metrics, in the order of [`PRETEXT_HEADS`].
const TASKS: [&str; 3] = ["rotation", "shear", "color"];
/// Images per forward pass of an evaluation.
const EVAL_BATCH: usize = 128;

impl Method {
    pub(super) fn drops_last(self) -> bool {
        matches!(self, Method::SimSiam { .. })
    }

    /// The metric's prefix of each head: none for the labels', the task's for the others.
    fn tasks(self) -> Vec<String> {
        match self {
            Method::Classify { .. } => vec![String::new()],
            Method::Pretext => TASKS.map(|task| format!("{task}_")).to_vec(),
            Method::SimSiam { .. } => vec![],
        }
    }

    fn heads(self) -> Vec<&'static str> {
        match self {
            Method::Classify { head } => vec![head],
            Method::Pretext => PRETEXT_HEADS.map(|(head, _)| head).to_vec(),
            Method::SimSiam { .. } => vec![],
        }
    }
}

/// Sums over the images of an epoch's steps so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Sums {
    images: f64,
    loss: f64,
    /// Right answers per head.
    correct: Vec<f64>,
    /// SimSiam's collapse measure, over images.
    output_std: f64,
}

impl Sums {
    pub(super) fn mean_loss(&self) -> f64 {
        self.loss / self.images
    }

    /// The training metrics.
    pub(super) fn means(self, method: Method) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::from([("train_loss".to_owned(), self.mean_loss())]);
        for (task, correct) in method.tasks().iter().zip(&self.correct) {
            metrics.insert(format!("train_{task}top1"), correct / self.images);
        }
        if let Method::SimSiam { .. } = method {
            metrics.insert("output_std".to_owned(), self.output_std / self.images);
        }
        metrics
    }

    fn add_correct(&mut self, outputs: &[Vec<f32>], labels: &[Vec<u8>]) {
        self.correct.resize(labels.len(), 0.0);
        for ((sum, logits), labels) in self.correct.iter_mut().zip(outputs).zip(labels) {
            *sum += f64::from(evaluate::correct(logits, labels));
        }
    }
}

impl Recipe {
    /// One step on the images `batch`, whose first is at `first` in the epoch's order. Adds to the progress's sums
    /// and gives the loss.
    #[allow(clippy::too_many_arguments, reason = "one call, in the loop that holds them all")]
    pub(super) fn step(
        &self,
        model: &mut dyn Engine,
        lr: f64,
        data: &Data,
        batch: &[u32],
        first: usize,
        progress: &mut Progress,
    ) -> Result<f64> {
        let (seed, epoch, sums) = (self.seed, progress.epoch, &mut progress.sums);
        let dropout = DropoutKey { seed, epoch, first: first as u32 };
        let mut step = |objective: &Objective| -> Result<Outcome> {
            let outcome = model.step(objective, dropout, lr)?;
            sums.images += batch.len() as f64;
            sums.loss += outcome.loss * batch.len() as f64;
            Ok(outcome)
        };
        let loss = if let Method::SimSiam { stop_gradient } = self.method {
            let views = [Purpose::View1, Purpose::View2].map(|view| {
                let mut images = vec![0.0; batch.len() * IMAGE];
                view_batch(&data.train, batch, seed, view, epoch, &mut images);
                images
            });
            let outcome = step(&Objective::SimSiam { views: [&views[0], &views[1]], stop_gradient })?;
            sums.output_std += evaluate::output_std(&outcome.outputs[0], batch.len()) * batch.len() as f64;
            outcome.loss
        } else {
            let (images, labels) = self.labelled_batch(&data.train, batch, Purpose::Pretext, epoch);
            let targets = self.method.heads().into_iter().zip(&labels).map(|(head, labels)| Target { head, labels });
            let outcome = step(&Objective::Classify { images: &images, targets: &targets.collect::<Vec<_>>() })?;
            sums.add_correct(&outcome.outputs, &labels);
            outcome.loss
        };
        Ok(loss)
    }

    /// Test metrics after `epoch`; the pretext tasks' test images are transformed at random too.
    pub(super) fn evaluate(&self, model: &mut dyn Engine, test: &Dataset, epoch: u32) -> Result<BTreeMap<String, f64>> {
        let heads = self.method.heads();
        let mut sums = Sums::default();
        let all: Vec<u32> = (0..test.len() as u32).collect();
        for batch in all.chunks(EVAL_BATCH).filter(|_| !heads.is_empty()) {
            let (images, labels) = self.labelled_batch(test, batch, Purpose::PretextTest, epoch);
            let outputs = model.predict(&images, &heads)?;
            sums.add_correct(&outputs, &labels);
            for (logits, labels) in outputs.iter().zip(&labels) {
                sums.loss += evaluate::cross_entropy_sum(logits, labels);
            }
        }
        let n = test.len() as f64;
        let mut metrics = BTreeMap::new();
        if !heads.is_empty() {
            metrics.insert("test_loss".to_owned(), sums.loss / n);
        }
        for (task, correct) in self.method.tasks().iter().zip(&sums.correct) {
            metrics.insert(format!("test_{task}top1"), correct / n);
        }
        Ok(metrics)
    }

    /// Images as network input, and for each head the labels.
    fn labelled_batch(&self, data: &Dataset, batch: &[u32], purpose: Purpose, epoch: u32) -> (Vec<f32>, Vec<Vec<u8>>) {
        let mut images = vec![0.0; batch.len() * IMAGE];
        if self.method == Method::Pretext {
            let mut draws = vec![];
            pretext_batch(data, batch, self.seed, purpose, epoch, &mut images, &mut draws);
            let labels = (0..TASKS.len()).map(|task| draws.iter().map(|draw| draw.labels()[task]).collect());
            (images, labels.collect())
        } else {
            let labels = batch.iter().map(|&index| data.labels[index as usize]).collect();
            plain_batch(data, batch, &mut images);
            (images, vec![labels])
        }
    }
}
