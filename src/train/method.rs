//! Where the methods differ: how a batch is made, what a step minimises, how an epoch is evaluated.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::Recipe;
use super::inputs::{Content, EVAL_BATCH, Inputs};
use crate::augment::{Pretext, pretext_batch, view_batch};
use crate::engine::{DropoutKey, Engine, Input, Rates};
use crate::error::Result;
use crate::evaluate;
use crate::loss::{Cosines, cross_entropy, negative_cosine};
use crate::network::{PREDICTOR, PRETEXT_HEADS, PROJECTOR};
use crate::rng::Purpose;

/// How a stage learns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Predict the labels of images as they are.
    Classify {
        /// The head's block.
        head: &'static str,
    },
    /// Predict which rotation, shear and recolouring an image has undergone.
    Pretext,
    /// Make two views of an image agree.
    SimSiam {
        /// Whether z is a constant in the loss.
        stop_gradient: bool,
    },
}

/// The most heads that a method trains.
const MAX_HEADS: usize = PRETEXT_HEADS.len();
/// The pretext tasks' heads.
const PRETEXT_NAMES: [&str; MAX_HEADS] = [PRETEXT_HEADS[0].0, PRETEXT_HEADS[1].0, PRETEXT_HEADS[2].0];

impl Method {
    pub(super) fn drops_last(self) -> bool {
        matches!(self, Method::SimSiam { .. })
    }

    /// Each head's prefix of metrics: empty for the labels', the task's for the others.
    fn tasks(self) -> &'static [&'static str] {
        match self {
            Method::Classify { .. } => &[""],
            Method::Pretext => &["rotation_", "shear_", "color_"],
            Method::SimSiam { .. } => &[],
        }
    }

    /// The heads trained on labels, of the data or of the transformation: those that have an accuracy.
    pub(super) fn heads(&self) -> &[&'static str] {
        match self {
            Method::Classify { head } => std::slice::from_ref(head),
            Method::Pretext => &PRETEXT_NAMES,
            Method::SimSiam { .. } => &[],
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

    /// Whether they can be those of so many images.
    pub(super) fn fits(&self, method: Method, images: usize) -> bool {
        let n = images as f64;
        let heads = if images > 0 { method.heads().len() } else { 0 };
        let counts = self.correct.iter().all(|correct| correct.fract() == 0.0 && (0.0..=n).contains(correct));
        self.images == n
            && self.correct.len() == heads
            && counts
            && self.loss.is_finite()
            && self.output_std.is_finite()
    }

    /// The first head's prefix of metrics, and its accuracy.
    pub(super) fn top1(&self, method: Method) -> Option<(&'static str, f64)> {
        Some((method.tasks().first()?, self.correct.first()? / self.images))
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
        self.correct.resize(outputs.len(), 0.0);
        for ((sum, logits), labels) in self.correct.iter_mut().zip(outputs).zip(labels) {
            *sum += f64::from(evaluate::correct(logits, labels));
        }
    }
}

/// A batch as the engine takes it. Two of them alternate: one is trained on while the next is made.
#[derive(Debug, Default)]
pub(super) struct Batch {
    len: usize,
    /// Position of its first image in the epoch's order.
    first: usize,
    /// Network input: the images or their features, or SimSiam's two views.
    images: [Vec<f32>; 2],
    draws: Vec<Pretext>,
    /// The labels of each head.
    labels: [Vec<u8>; MAX_HEADS],
    /// Scratch memory of [`evaluate::output_std`], and of the losses.
    moments: Vec<[f64; 2]>,
    cosines: Cosines,
    of_z: Vec<f32>,
}

impl Recipe {
    /// Makes the batch of the images `indices`, the first of which is at `first` in the order of `epoch`. `purpose`
    /// keys the pretext draws.
    fn fill(&self, batch: &mut Batch, from: &Content, indices: &[u32], first: usize, purpose: Purpose, epoch: u32) {
        (batch.len, batch.first) = (indices.len(), first);
        let views = if let Method::SimSiam { .. } = self.method { 2 } else { 1 };
        batch.images[..views].iter_mut().for_each(|images| images.resize(indices.len() * from.width(), 0.0));
        batch.labels.iter_mut().for_each(Vec::clear);
        let Batch { images: [images, second], draws, labels, .. } = batch;
        match (self.method, from) {
            (Method::Classify { .. }, from) => {
                from.plain_batch(indices, images);
                labels[0].extend(indices.iter().map(|&index| from.label(index)));
            }
            (Method::Pretext, Content::Images(data)) => {
                pretext_batch(data, indices, self.seed, purpose, epoch, images, draws);
                for (task, labels) in labels.iter_mut().enumerate() {
                    labels.extend(draws.iter().map(|draw| draw.labels()[task]));
                }
            }
            (Method::SimSiam { .. }, Content::Images(data)) => {
                view_batch(data, indices, self.seed, Purpose::View1, epoch, images);
                view_batch(data, indices, self.seed, Purpose::View2, epoch, second);
            }
            (method, Content::Features { .. }) => unreachable!("{method:?} transforms images"),
        }
    }

    /// The training batch of `step` in `order`, the order of `epoch`.
    pub(super) fn fill_training(&self, batch: &mut Batch, from: &Content, order: &[u32], step: usize, epoch: u32) {
        let first = step * self.batch;
        let indices = &order[first..order.len().min(first + self.batch)];
        self.fill(batch, from, indices, first, Purpose::Pretext, epoch);
    }

    /// One training step on `batch`. Adds to the sums of `epoch` and gives the loss.
    pub(super) fn step(
        &self,
        model: &mut dyn Engine,
        lr: Rates,
        batch: &mut Batch,
        epoch: u32,
        sums: &mut Sums,
    ) -> Result<f64> {
        let dropout = DropoutKey { seed: self.seed, epoch, first: batch.first as u32 };
        let images = batch.len as f64;
        let Batch { len, images: inputs, labels, moments, cosines, of_z, .. } = batch;
        let loss = match self.method {
            Method::SimSiam { stop_gradient } => {
                let inputs = inputs.each_ref().map(|view| Input::train(view, dropout));
                let outputs: &[&str] =
                    if self.network.heads.is_empty() { &[PROJECTOR] } else { &[PROJECTOR, PREDICTOR] };
                let mut loss = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
                    // Without a predictor p is z.
                    let (z, p) = (&outputs[0], &outputs[outputs.len() - 1]);
                    let std = evaluate::output_std(&z[..z.len() / 2], *len, moments);
                    sums.output_std += std * images;
                    let of_p = &mut gradients[outputs.len() - 1];
                    if stop_gradient {
                        return Ok(negative_cosine(p, z, 2 * *len, cosines, of_p, None));
                    }
                    let loss = negative_cosine(p, z, 2 * *len, cosines, of_p, Some(of_z));
                    match &mut gradients[0] {
                        own if own.is_empty() => own.extend_from_slice(of_z),
                        own => own.iter_mut().zip(&*of_z).for_each(|(own, more)| *own += *more),
                    }
                    Ok(loss)
                };
                model.step(&inputs, outputs, &mut loss, lr)?
            }
            _ => {
                let mut loss = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
                    sums.add_correct(outputs, labels);
                    let mut loss = 0.0;
                    for ((logits, labels), gradient) in outputs.iter().zip(&*labels).zip(gradients) {
                        loss += cross_entropy(logits, labels, gradient)?;
                    }
                    Ok(loss)
                };
                model.step(&[Input::train(&inputs[0], dropout)], self.method.heads(), &mut loss, lr)?
            }
        };
        sums.images += images;
        sums.loss += loss * images;
        Ok(loss)
    }

    /// Metrics on `inputs` after `epoch`, named `prefix_…`. For pretext tasks the images are transformed at random here
    /// too.
    pub(super) fn evaluate(
        &self,
        model: &mut dyn Engine,
        inputs: &Inputs,
        prefix: &str,
        epoch: u32,
    ) -> Result<BTreeMap<String, f64>> {
        let heads = self.method.heads();
        let mut sums = Sums::default();
        let batches: Vec<&[u32]> = inputs.indices.chunks(EVAL_BATCH).filter(|_| !heads.is_empty()).collect();
        let fill = |batch: &mut Batch, at: usize| {
            if let Some(indices) = batches.get(at) {
                self.fill(batch, &inputs.content, indices, at * EVAL_BATCH, Purpose::PretextTest, epoch);
            }
        };
        let [mut batch, mut next] = <[Batch; 2]>::default();
        // The data's labels, not a transformation's, have classes of different sizes.
        let mut answers = vec![];
        fill(&mut batch, 0);
        for at in 0..batches.len() {
            let inputs = [Input::eval(&batch.images[0])];
            let (outputs, ()) = rayon::join(|| model.forward(&inputs, heads), || fill(&mut next, at + 1));
            let outputs = outputs?;
            sums.add_correct(outputs, &batch.labels);
            if let Method::Classify { .. } = self.method {
                let labels = &batch.labels[0];
                answers.extend(labels.iter().copied().zip(evaluate::hits(&outputs[0], labels)));
            }
            for (logits, labels) in outputs.iter().zip(&batch.labels) {
                sums.loss += evaluate::cross_entropy_sum(logits, labels);
            }
            std::mem::swap(&mut batch, &mut next);
        }
        let n = inputs.indices.len() as f64;
        let mut metrics = BTreeMap::new();
        if !heads.is_empty() {
            metrics.insert(format!("{prefix}_loss"), sums.loss / n);
        }
        for (task, correct) in self.method.tasks().iter().zip(&sums.correct) {
            metrics.insert(format!("{prefix}_{task}top1"), correct / n);
        }
        metrics.extend(evaluate::balanced_top1(&answers).map(|top1| (format!("{prefix}_balanced_top1"), top1)));
        Ok(metrics)
    }
}
