//! How a network is evaluated and differentiated.
//!
//! [`cpu`] has explicit forward and backward passes with a fixed order of every sum: the engine for CPUs.
//! [`reference`](mod@reference) is candle's autograd: the oracle in tests, and the engine for GPUs. Their common
//! interface is defined here, on host memory.

pub mod cpu;
pub mod reference;

use candle_core::Device;

use crate::error::{Error, Result};
use crate::network::{Array, Mode, Network, Weights};
use crate::optimizer::{Rule, State};
use crate::rng::{Purpose, Stream};

/// A network in training. Images are `f32` [n, 3, 32, 32], scaled to [−1, 1], n at least 1.
///
/// # Errors
/// The CPU engine's methods check before they change anything: [`Error::Usage`] for a head that the network does not
/// have, no images or a fraction of one, views of different lengths, a number of labels other than that of the images,
/// and a label that is not below the head's number of classes. The reference engine gives [`Error::Tensor`] for what
/// candle refuses.
pub trait Engine: Send {
    /// One training step: forward, backward, update. The next step overwrites the outcome.
    fn step(&mut self, objective: &Objective, dropout: DropoutKey, lr: Rates) -> Result<&Outcome>;
    /// One training pass (running statistics are updated), and the objective's gradient for every parameter that it
    /// depends on outside frozen blocks.
    fn gradients(&mut self, objective: &Objective, dropout: DropoutKey) -> Result<(Outcome, Gradients)>;
    /// The outputs of `heads` in eval mode, each [n, classes], row by row. Here and in a step, a network without a
    /// trunk takes features for `images`, as [`Engine::features`] gives them.
    fn predict(&mut self, images: &[f32], heads: &[&str]) -> Result<Vec<Vec<f32>>>;
    /// The features [n, c·h·w] that the trunk's first block gives in `mode`, or in eval mode if it is frozen in that.
    /// Train mode updates running statistics. Only for networks with a trunk.
    fn features(&mut self, images: &[f32], mode: Mode) -> Result<Vec<f32>>;
    /// The current weights.
    fn weights(&self) -> Result<Weights>;
    /// The optimizer's current state.
    fn state(&self) -> Result<State>;
}

/// The engine for `device`: [`cpu`] on the CPU, [`reference`](mod@reference) elsewhere. `weights` must be in the
/// network's order, as all [`Weights`] of that network are; `state` is one that [`Engine::state`] gave, or the default.
///
/// # Errors
/// [`Error::Usage`] for an order of layers that the CPU engine does not know,
/// [`Error::Tensor`] if the device fails.
pub fn open(device: &Device, network: Network, weights: Weights, rule: Rule, state: &State) -> Result<Box<dyn Engine>> {
    Ok(match device {
        Device::Cpu => Box::new(cpu::Model::new(network, weights, rule, state)?),
        device => Box::new(reference::Model::new(network, &weights, rule, state, device)?),
    })
}

/// The learning rates of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Of all parameters before the heads.
    pub trunk: f64,
    /// Of the heads' parameters.
    pub heads: f64,
}

impl From<f64> for Rates {
    /// The same for all.
    fn from(lr: f64) -> Rates {
        Rates { trunk: lr, heads: lr }
    }
}

/// What one training step minimises, with its batch.
#[derive(Clone, Debug)]
pub enum Objective<'a> {
    /// The sum over the named heads of the mean cross-entropy with their labels (PyTorch's `cross_entropy`), in nats.
    Classify {
        /// [n, 3, 32, 32], or what a network without a trunk takes.
        images: &'a [f32],
        /// One or more heads of the network.
        targets: &'a [Target<'a>],
    },
    /// D(p₁, z₂)/2 + D(p₂, z₁)/2 with D the negative cosine (Chen and He, 2021, equations 1 and 2). Batch norm
    /// takes each view as a batch of its own. With `stop_gradient` z is a constant in D (equations 3 and 4); without a
    /// predictor p is z itself.
    SimSiam {
        /// Two views of each image.
        views: [&'a [f32]; 2],
        /// Whether z is a constant.
        stop_gradient: bool,
    },
}

/// The labels of one head for a batch: n, each below the head's number of classes.
#[derive(Clone, Debug)]
pub struct Target<'a> {
    /// The head's block.
    pub head: &'static str,
    /// One for each image.
    pub labels: &'a [u8],
}

impl Target<'_> {
    /// Whether there is a label for each of `n` images, and each below `classes`.
    fn check(&self, n: usize, classes: usize) -> Result<()> {
        let Target { head, labels } = self;
        let problem = match labels.iter().find(|label| usize::from(**label) >= classes) {
            _ if labels.len() != n => format!("{} labels for {n} images", labels.len()),
            Some(label) => format!("label {label}, where there are {classes} classes"),
            None => return Ok(()),
        };
        Err(Error::Usage(format!("{head}: {problem}")))
    }
}

/// The dropout masks of a training step: those of the examples `first`, `first` + 1, … of an epoch. All dropout layers
/// share an example's mask; the study's networks have one such layer.
#[derive(Clone, Copy, Debug)]
pub struct DropoutKey {
    /// The experiment's.
    pub seed: u64,
    /// From 0.
    pub epoch: u32,
    /// The position in the epoch of the batch's first example.
    pub first: u32,
}

/// The result of a training step or pass.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The objective before the update.
    pub loss: f64,
    /// Row by row: the logits of each target in order, or z₁, p₁, z₂, p₂.
    pub outputs: Vec<Vec<f32>>,
}

/// The gradients, under their parameters' names, in the network's order.
pub type Gradients = Vec<Array>;

/// The floor of each norm in the cosine (PyTorch's `cosine_similarity` with the study's eps).
pub const COSINE_EPS: f64 = 1e-6;
/// Batch norm's ε (the default of PyTorch's `BatchNorm2d`).
pub const NORM_EPS: f64 = 1e-5;
/// The weight of a new batch in batch norm's running statistics (PyTorch's `momentum`, its default).
pub const NORM_MOMENTUM: f64 = 0.1;

/// The multipliers of one dropout layer for example `i` of a batch: 0 with probability `p`, else 1/(1−p).
pub(crate) fn dropout_row(key: DropoutKey, p: f32, i: usize, row: &mut [f32]) {
    let keep = 1.0 / (1.0 - p);
    let mut stream = Stream::new(key.seed, Purpose::Dropout, key.epoch, key.first + i as u32);
    row.iter_mut().for_each(|m| *m = if stream.chance(p) { 0.0 } else { keep });
}

/// The multipliers of one dropout layer for `n` examples of `width` values: [n, width].
pub(crate) fn dropout_mask(key: DropoutKey, p: f32, n: usize, width: usize) -> Vec<f32> {
    let mut mask = vec![0.0; n * width];
    mask.chunks_exact_mut(width).enumerate().for_each(|(i, row)| dropout_row(key, p, i, row));
    mask
}
