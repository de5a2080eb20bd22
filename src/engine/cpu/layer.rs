//! A single layer, for benchmarks.

use std::ops::Range;

use super::chain::{Group, Op, Pass};
use super::conv::{Conv, Input};
use super::kernels::Sizes;
use super::linear::Linear;
use super::update::{Parts, Sink, Slots};
use crate::data::SIDE;
use crate::engine::DropoutKey;
use crate::engine::shards::Shards;
use crate::network::{Array, Layer};
use crate::optimizer::Rule;

/// A layer of a SimSiam network in training, with batch norm, ReLU and, after a convolution, pooling; updated by SGD.
pub struct LayerBench {
    op: Op,
    n: usize,
    /// Two views.
    groups: [Group; 2],
    weights: Vec<Array>,
    slots: Slots,
    shards: Shards,
    parts: Parts,
    x: Vec<f32>,
    dx: Vec<f32>,
    /// Floating-point operations of the forward pass's products; a backward pass has twice as many, without ∂L/∂x as
    /// many.
    pub flop: u64,
}

impl LayerBench {
    /// For `n` examples.
    pub fn linear(inputs: usize, outputs: usize, n: usize) -> LayerBench {
        let mut linear = Linear::new(inputs, outputs, 0);
        assert!(linear.add_norm(2) && linear.add_relu(), "in order");
        let kind = Layer::Linear { inputs, outputs };
        LayerBench::new(Op::Linear(Box::new(linear)), &kind, outputs, n, inputs, 2 * inputs * outputs)
    }

    /// For `n` images of `side` × `side` pixels; a side of 32 makes it the network's first layer.
    pub fn conv(inputs: usize, outputs: usize, side: usize, n: usize) -> LayerBench {
        let sizes = Sizes { inputs, outputs, kernel: 3, stride: 1, side };
        let mut conv = Conv::new(sizes, true, 0, side == SIDE);
        assert!(conv.after.add_norm(2) && conv.after.add_relu() && conv.after.add_pool(), "in order");
        let x_len = conv.in_len();
        // Per pixel 9 products of channels, or by Winograd 16 for each tile of 4 pixels.
        let products = if side == SIDE { 9 } else { 4 };
        let flop = 2 * products * side * side * inputs * outputs;
        LayerBench::new(Op::Conv(Box::new(conv)), &Layer::conv3x3(inputs, outputs), outputs, n, x_len, flop)
    }

    fn new(op: Op, kind: &Layer, outputs: usize, n: usize, x_len: usize, flop: usize) -> LayerBench {
        let specs = kind.tensors().into_iter().chain(Layer::BatchNorm { channels: outputs }.tensors());
        let array = |(name, shape, _): (&str, Vec<usize>, _)| {
            let len = shape.iter().product();
            Array { name: name.to_owned(), shape, values: (0..len).map(|i| (i % 7) as f32 * 0.01 - 0.03).collect() }
        };
        let weights: Vec<Array> = specs.map(array).collect();
        let slots = weights.iter().map(|_| vec![]).collect();
        let x: Vec<f32> = (0..n * x_len).map(|i| (i % 11) as f32 * 0.1).collect();
        let train = Some(DropoutKey { seed: 0, epoch: 0, first: 0 });
        let group =
            |input: usize, examples: Range<usize>| Group { of: examples.len(), examples, train, input, shard: 0 };
        let groups = [group(0, 0..n / 2), group(1, n / 2..n)];
        let (shards, parts) = Default::default();
        LayerBench { op, n, groups, weights, slots, shards, parts, dx: x.clone(), x, flop: (n * flop) as u64 }
    }

    pub fn forward(&mut self) {
        let (n, groups, weights, shards) = (self.n, &self.groups, &mut self.weights[..], &mut self.shards);
        let mut pass = Pass { n, groups, train: true, weights, shards };
        self.op.forward(Input::Values(&self.x), None, &mut pass);
        if let Op::Conv(conv) = &mut self.op {
            conv.after.finish(None);
        }
    }

    /// After a forward pass. `learns`: whether ∂L/∂x is needed.
    pub fn backward(&mut self, learns: bool) {
        let rule = Rule::sgd(0.9, 5e-4);
        let (weights, slots) = (&mut self.weights[..], &mut self.slots);
        let (shards, parts) = (&mut self.shards, &mut self.parts);
        let mut sink = Sink { weights, slots, rule, lr: 0.0, t: 1, kept: None, shards, parts };
        let dx = learns.then_some(&mut self.dx[..]);
        self.op.backward(&self.x, dx, false, &self.groups, &mut sink);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Benchmarks call it repeatedly: each call must do all of the work.
    #[test]
    fn a_backward_pass_takes_the_gradient_that_is_there_now() {
        let dx = |scales: &[f32]| {
            let mut layer = LayerBench::conv(4, 6, 16, 4);
            layer.forward();
            for scale in scales {
                layer.op.end().1.iter_mut().enumerate().for_each(|(i, g)| *g = (i % 5) as f32 * scale);
                layer.backward(true);
            }
            layer.dx
        };
        assert!(dx(&[1.0, -3.0]) == dx(&[-3.0]), "the sums of an earlier gradient");
    }
}
