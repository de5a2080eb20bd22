//! The sums of an epoch's steps, and the evaluation after it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Recipe;
use super::inputs::{EVAL_BATCH, Inputs};
use super::order::Order;
use crate::engine::{Engine, Inference, OwnShare};
use crate::error::Result;
use crate::evaluate::{self, TestViews};
use crate::method::{Batch, Draw, Method, Source, Step};

/// Sums over the images of an epoch's steps so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Stored")]
pub struct Sums {
    images: f64,
    loss: f64,
    /// Right answers per head, then the method's measures, over images.
    values: Vec<f64>,
}

/// As checkpoints have them; earlier ones had SimSiam's one measure in a field of its own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    images: f64,
    loss: f64,
    values: Option<Vec<f64>>,
    correct: Option<Vec<f64>>,
    output_std: Option<f64>,
}

impl From<Stored> for Sums {
    fn from(stored: Stored) -> Sums {
        let Stored { images, loss, values, correct, output_std } = stored;
        let earlier = || match correct.filter(|correct| !correct.is_empty()) {
            Some(correct) => correct,
            None => output_std.filter(|_| images > 0.0).into_iter().collect(),
        };
        Sums { images, loss, values: values.unwrap_or_else(earlier) }
    }
}

impl Sums {
    pub(super) fn mean_loss(&self) -> f64 {
        self.loss / self.images
    }

    /// Whether they can be those of so many images.
    pub(super) fn fits(&self, method: &dyn Method, images: usize) -> bool {
        let (n, heads) = (images as f64, method.heads().len());
        let values = if images > 0 { heads + method.measures().len() } else { 0 };
        let is_count = |correct: &f64| correct.fract() == 0.0 && (0.0..=n).contains(correct);
        self.images == n
            && self.values.len() == values
            && self.values.iter().take(heads).all(is_count)
            && self.values.iter().all(|value| value.is_finite())
            && self.loss.is_finite()
    }

    /// The first head's prefix of metrics, and its accuracy.
    pub(super) fn top1(&self, method: &dyn Method) -> Option<(&'static str, f64)> {
        Some((method.heads().first()?.prefix, self.values.first()? / self.images))
    }

    /// The training metrics.
    pub(super) fn means(self, method: &dyn Method) -> BTreeMap<String, f64> {
        let mut metrics = BTreeMap::from([("train_loss".to_owned(), self.mean_loss())]);
        let accuracies = method.heads().iter().map(|head| format!("train_{}top1", head.prefix));
        let measures = method.measures().iter().map(|&name| name.to_owned());
        metrics.extend(accuracies.chain(measures).zip(self.values.iter().map(|value| value / self.images)));
        metrics
    }
}

impl Recipe {
    /// Makes the training batch of `step` in `order`, the order of `epoch`.
    pub(super) fn fill_training(
        &self,
        batch: &mut dyn Batch,
        from: &Source,
        order: &Order,
        step: usize,
        epoch: u32,
        own: OwnShare,
    ) {
        let (first, labelled) = (order.first(step) as u32, order.labelled(step));
        let draw = Draw { seed: self.seed, epoch, first, evaluates: false, own, labelled };
        batch.fill(from, order.step(step), draw);
    }

    /// The training step `at` on `batch`, of `images` images. Adds to the sums of its epoch and gives the loss.
    pub(super) fn step(
        &self,
        model: &mut dyn Engine,
        at: Step,
        batch: &mut dyn Batch,
        images: usize,
        sums: &mut Sums,
    ) -> Result<f64> {
        sums.values.resize(self.method.heads().len() + self.method.measures().len(), 0.0);
        let loss = batch.step(model, at, &mut sums.values)?;
        sums.images += images as f64;
        sums.loss += loss * images as f64;
        Ok(loss)
    }

    /// Metrics on `inputs` after `epoch`, named `prefix_…`. Where a method transforms its images at random, it does here too.
    pub(super) fn evaluate(
        &self,
        model: &mut dyn Inference,
        inputs: &Inputs,
        prefix: &str,
        epoch: u32,
    ) -> Result<BTreeMap<String, f64>> {
        let heads = self.method.heads();
        if heads.is_empty() {
            return Ok(BTreeMap::new());
        }
        let blocks: Vec<&str> = heads.iter().map(|head| head.block).collect();
        let batches: Vec<&[u32]> = inputs.indices.chunks(EVAL_BATCH).collect();
        let fill = |batch: &mut dyn Batch, at: usize| {
            if let Some(indices) = batches.get(at) {
                let first = (at * EVAL_BATCH) as u32;
                batch.fill(
                    &inputs.content,
                    indices,
                    Draw { seed: self.seed, epoch, first, evaluates: true, ..Draw::default() },
                );
            }
        };
        let [mut batch, mut next] = [(); 2].map(|()| self.method.batch());
        let (mut loss, mut correct) = (0.0, vec![0.0; heads.len()]);
        // The data's labels, not a transformation's, have classes of different sizes.
        let mut answers = vec![];
        fill(&mut *batch, 0);
        for at in 0..batches.len() {
            let input = batch.input();
            let answers_of = || TestViews::infer(self.test_views, model, input, self.network.side, &blocks);
            let (outputs, ()) = rayon::join(answers_of, || fill(&mut *next, at + 1));
            for (((head, logits), labels), correct) in heads.iter().zip(&outputs?).zip(batch.labels()).zip(&mut correct)
            {
                *correct += f64::from(evaluate::correct(logits, labels));
                loss += evaluate::cross_entropy_sum(logits, labels);
                if head.is_of_data() {
                    answers.extend(labels.iter().copied().zip(evaluate::hits(logits, labels)));
                }
            }
            std::mem::swap(&mut batch, &mut next);
        }
        let n = inputs.indices.len() as f64;
        let mut metrics = BTreeMap::from([(format!("{prefix}_loss"), loss / n)]);
        for (head, correct) in heads.iter().zip(&correct) {
            metrics.insert(format!("{prefix}_{}top1", head.prefix), correct / n);
        }
        metrics.extend(evaluate::balanced_top1(&answers).map(|top1| (format!("{prefix}_balanced_top1"), top1)));
        Ok(metrics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_earlier_checkpoints_are_read() {
        let read = |text: &str| serde_json::from_str::<Sums>(text).map_err(|error| error.to_string());
        let sums = |images: f64, values: &[f64]| Ok(Sums { images, loss: 2.5, values: values.to_vec() });
        assert_eq!(read(r#"{"images":8.0,"loss":2.5,"correct":[3.0,1.0],"output_std":0.0}"#), sums(8.0, &[3.0, 1.0]));
        assert_eq!(read(r#"{"images":8.0,"loss":2.5,"correct":[],"output_std":0.7}"#), sums(8.0, &[0.7]));
        assert_eq!(read(r#"{"images":0.0,"loss":2.5,"correct":[],"output_std":0.0}"#), sums(0.0, &[]));
        let now = sums(8.0, &[0.5, 7.0]).unwrap();
        assert_eq!(read(&serde_json::to_string(&now).unwrap()), Ok(now));
        assert!(read(r#"{"images":8.0,"loss":2.5,"more":1}"#).is_err());
    }
}
