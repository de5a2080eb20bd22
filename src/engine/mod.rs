//! How a network is evaluated and differentiated.
//!
//! [`cpu`] has explicit forward and backward passes with a fixed order of every sum: the engine for CPUs.
//! [`reference`](mod@reference) is candle's autograd: the oracle in tests, and the engine for GPUs. Their common
//! interface is defined here, on host memory.

pub mod cpu;
pub mod reference;
pub mod shards;

use std::path::Path;

use candle_core::Device;

use crate::error::{Error, Result};
use crate::network::{Array, Network, Weights};
use crate::optimizer::{Rule, State};
use crate::rng::{Purpose, Stream};
pub use shards::{OwnShare, Shards, Team, team_of_threads};

/// A network in training. It knows no method: it gives the outputs that are asked for, and takes a [`Loss`].
///
/// Outputs are named after their blocks: of a head, or of a trunk block, which ends in features. Each is a matrix row by
/// row, [n, width], with the examples of all inputs in order. In a pass without a trunk the inputs are features
/// [n, c·h·w], as the trunk's last block gives them.
///
/// # Errors
/// The CPU engine checks inputs and outputs before anything changes: [`Error::Usage`] for a block that the network does not
/// have or that does not end in features, for no input, and for no images or a fraction of one. The reference engine gives
/// [`Error::Tensor`] for what candle refuses. An error of the loss is returned as it is: running statistics have moved by
/// then, no parameter has.
pub trait Engine: Inference {
    /// The outputs of one pass. Inputs in train mode move the running statistics.
    fn forward(&mut self, inputs: &[Input], outputs: &[&str]) -> Result<&[Vec<f32>]>;
    /// One training step: forward, loss, backward, update. Gives the loss.
    fn step(&mut self, inputs: &[Input], outputs: &[&str], loss: &mut Loss, lr: Rates) -> Result<f64>;
    /// One training pass: the loss, and its gradient for every parameter that it depends on outside frozen blocks.
    fn gradients(&mut self, inputs: &[Input], outputs: &[&str], loss: &mut Loss) -> Result<(f64, Gradients)>;
    /// The current weights.
    fn weights(&self) -> Result<Weights>;
    /// The optimizer's current state, and the average's.
    fn state(&self) -> Result<State>;
    /// From here on splits each batch into shards. Of the values of inputs only those of its own shards' examples are read; outputs
    /// and the loss are the whole batch's. The reference engine, whose bits are those of a device, does not split.
    ///
    /// # Errors
    /// [`Error::Usage`] by the reference engine for a team of several.
    fn shard(&mut self, shards: Shards) -> Result<()>;
    /// `values` [n, width] of a batch's n examples, of which the engine's own ([`OwnShare::of`]) are there: gets the others from the
    /// members of its team that have them.
    fn complete(&mut self, values: &mut [f32], n: usize);
    /// Whether `flag` is true for any member of its team, which all of them ask at the same time.
    fn any(&mut self, flag: bool) -> bool;
    /// From here on keeps an average of the weights beside them: after each step average ← d·average + (1 − d)·weights with
    /// [`Rates::average`]. It starts as a copy of the weights, or as `state` has it.
    fn keep_average(&mut self, statistics: Statistics, state: &State) -> Result<()>;
    /// Exchanges the weights and their average: until the next exchange [`Engine::forward`] is by the average, whose running
    /// statistics inputs in train mode move, and [`Engine::weights`] gives it. Steps, gradients and the state are refused.
    ///
    /// # Errors
    /// [`Error::Usage`] where no average is kept.
    fn exchange_average(&mut self) -> Result<()>;
}

/// What an average of the weights has as batch norm's running statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Statistics {
    /// Its own: those of the batches that went through it in train mode.
    Own,
    /// The average of the network's.
    Averaged,
}

/// The slot of the average's arrays in a [`State`], as `average/NAME`.
pub(crate) const AVERAGE: &str = "average";

pub(crate) fn no_average() -> Error {
    Error::Usage("no average of the weights is kept".to_owned())
}

/// What an exchange has to end before.
pub(crate) fn exchanged() -> Error {
    Error::Usage("weights and average are exchanged: exchange them again first".to_owned())
}

/// What a step minimises: from the outputs, in the order in which they were asked for, to the loss, and to its gradient for
/// each output, of the output's shape. The gradients are empty at first; one that stays empty makes its output a constant.
pub type Loss<'a> = dyn FnMut(&[Vec<f32>], &mut [Vec<f32>]) -> Result<f64> + 'a;

/// A batch that goes through the network. In batch norm every input is a batch of its own: what it shall take together is one
/// input.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// Images [n, 3, side, side], scaled to [−1, 1], or features [n, width]; n at least 1.
    pub values: &'a [f32],
    /// In train mode the key of the dropout masks. None in eval mode: batch norm takes the running statistics as they were
    /// before the pass, and there is no dropout.
    pub train: Option<DropoutKey>,
}

impl<'a> Input<'a> {
    /// In train mode.
    pub fn train(values: &'a [f32], dropout: DropoutKey) -> Input<'a> {
        Input { values, train: Some(dropout) }
    }

    /// In eval mode.
    pub fn eval(values: &'a [f32]) -> Input<'a> {
        Input { values, train: None }
    }
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

/// A network that is looked at, not trained; every [`Engine`] is one.
pub trait Inference: Send {
    /// The outputs for one input in eval mode, of values as [`Input::values`] has them, by [`Engine::forward`].
    ///
    /// # Errors
    /// Those of [`Engine`].
    fn infer(&mut self, values: &[f32], outputs: &[&str]) -> Result<&[Vec<f32>]>;
}

impl<E: Engine> Inference for E {
    fn infer(&mut self, values: &[f32], outputs: &[&str]) -> Result<&[Vec<f32>]> {
        self.forward(&[Input::eval(values)], outputs)
    }
}

/// The engine for `device` with weights that stay as they are.
///
/// # Errors
/// Those of [`open`].
pub fn open_for_inference(device: &Device, network: Network, weights: Weights) -> Result<Box<dyn Inference>> {
    // Any rule will do: none is ever applied.
    Ok(open(device, network, weights, Rule::Adam, &State::default())?)
}

/// The same with the weights of a file, which must be those of `network` ([`Weights::load`]).
///
/// # Errors
/// Those of [`Weights::load`] and [`open`].
pub fn load_for_inference(device: &Device, network: Network, path: &Path) -> Result<Box<dyn Inference>> {
    let weights = Weights::load(path, &network)?;
    open_for_inference(device, network, weights)
}

/// The rates of one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Of all parameters before the heads.
    pub trunk: f64,
    /// Of the heads' parameters.
    pub heads: f64,
    /// d of the average, where one is kept ([`Engine::keep_average`]): its share that stays, from 0 to 1.
    pub average: f64,
}

impl From<f64> for Rates {
    /// The same for all parameters; an average stays as it is.
    fn from(lr: f64) -> Rates {
        Rates { trunk: lr, heads: lr, average: 1.0 }
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

/// The gradients, under their parameters' names, in the network's order.
pub type Gradients = Vec<Array>;

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::{CLASSIFICATION_HEAD, Mode, Probe, Widths};

    #[test]
    fn inference_is_a_pass_in_eval_mode_by_weights_that_stay() {
        let widths = Widths { channels: [2, 3, 4], hidden: 6, ..Widths::default() };
        let (network, device) = (Network::supervised(&widths), Device::Cpu);
        let images: Vec<f32> = (0..2 * network.input_len()).map(|i| (i % 7) as f32 / 7.0 - 0.5).collect();
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("weights.safetensors");
        let weights = Weights::init(&network, 3);
        weights.save(&path, &[]).unwrap();
        let mut engine = open(&device, network.clone(), weights.clone(), Rule::Adam, &State::default()).unwrap();
        let expected = engine.forward(&[Input::eval(&images)], &[CLASSIFICATION_HEAD]).unwrap().to_vec();
        let mut of_weights = open_for_inference(&device, network.clone(), weights).unwrap();
        let mut of_file = load_for_inference(&device, network, &path).unwrap();
        for model in [&mut of_weights, &mut of_file] {
            // Twice: nothing has moved.
            for _ in 0..2 {
                assert_eq!(model.infer(&images, &[CLASSIFICATION_HEAD]).unwrap(), expected);
            }
        }
        assert!(load_for_inference(&device, Network::probe(&widths, Probe::Mlp, Mode::Eval), &path).is_err());
    }
}
