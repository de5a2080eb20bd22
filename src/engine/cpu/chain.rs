//! A network's layers as the engine runs them: each convolution or linear layer together with what follows it.

use std::ops::Range;

use super::conv::{Conv, Input};
use super::flatten::{Flatten, Layout};
use super::linear::Linear;
use super::update::Sink;
use crate::data::CHANNELS;
use crate::engine::DropoutKey;
use crate::error::{Error, Result};
use crate::network::{Array, Block, Layer, Mode};

/// One forward pass.
pub struct Pass<'a> {
    /// Examples, of all groups.
    pub n: usize,
    /// One for each input: batch norm takes each as a batch of its own.
    pub groups: &'a [Group],
    /// Whether a backward pass may follow; if not, all groups are in eval mode.
    pub train: bool,
    pub weights: &'a mut [Array],
}

/// Consecutive examples of a batch: those of one input.
#[derive(Clone, Debug)]
pub struct Group {
    pub examples: Range<usize>,
    /// In train mode the key of its dropout masks: batch norm takes the group's statistics.
    pub train: Option<DropoutKey>,
}

impl Group {
    /// Those of the groups of `per_example` values for each example, in order.
    pub fn split<'a>(
        groups: &[Group],
        values: &'a mut [f32],
        per_example: usize,
    ) -> impl Iterator<Item = &'a mut [f32]> {
        let mut rest = values;
        groups.iter().map(move |group| {
            let (own, after) = std::mem::take(&mut rest).split_at_mut(group.examples.len() * per_example);
            rest = after;
            own
        })
    }
}

/// One operation, with its buffers.
pub enum Op {
    Conv(Box<Conv>),
    Flatten(Flatten),
    Linear(Box<Linear>),
}

/// The shape of what one operation hands to the next.
#[derive(Clone, Copy)]
enum Shape {
    /// Images of that side as they come in.
    Input(usize),
    Image {
        channels: usize,
        side: usize,
    },
    Features,
}

/// The operations of consecutive blocks. A frozen block's operations get no gradient, nor does anything before them.
pub struct Chain {
    ops: Vec<(Op, Option<Mode>)>,
    /// The blocks by name, each with the number of operations up to its end.
    pub ends: Vec<(&'static str, usize)>,
}

impl Chain {
    /// `side`: of the images that the blocks take, if they do; `tensor`: the index of their first tensor.
    ///
    /// # Errors
    /// [`Error::Usage`] for an order of layers that the engine does not know: after a convolution it takes batch norm,
    /// ReLU and pooling, after a linear layer batch norm, ReLU and dropout, in that order, each at most once.
    pub fn new(blocks: &[Block], side: Option<usize>, mut tensor: usize) -> Result<Chain> {
        let mut ops: Vec<(Op, Option<Mode>)> = Vec::new();
        let mut ends = Vec::new();
        let mut shape = side.map_or(Shape::Features, Shape::Input);
        for block in blocks {
            for (prefix, layer) in &block.layers {
                let last = ops.last_mut().map(|(op, _)| op);
                let added = match (layer, last) {
                    (Layer::BatchNorm { .. }, Some(Op::Conv(conv))) => conv.after.add_norm(tensor),
                    (Layer::Relu, Some(Op::Conv(conv))) => conv.after.add_relu(),
                    (Layer::MaxPool2, Some(Op::Conv(conv))) => conv.after.add_pool(),
                    (Layer::BatchNorm { .. }, Some(Op::Linear(linear))) => linear.add_norm(tensor),
                    (Layer::Relu, Some(Op::Linear(linear))) => linear.add_relu(),
                    (Layer::Dropout { p }, Some(Op::Linear(linear))) => linear.add_dropout(*p),
                    (layer, _) => match Op::new(layer, shape, tensor) {
                        Some(op) => {
                            ops.push((op, block.frozen));
                            true
                        }
                        None => false,
                    },
                };
                if !added {
                    let message = format!("{prefix}: the CPU engine has no {layer:?} at this place of {}", block.name);
                    return Err(Error::Usage(message));
                }
                shape = match ops.last() {
                    Some((Op::Conv(conv), _)) => {
                        let (channels, side) = conv.after.shape();
                        Shape::Image { channels, side }
                    }
                    _ => Shape::Features,
                };
                tensor += layer.tensors().len();
            }
            ends.push((block.name, ops.len()));
        }
        match ops.last() {
            Some((Op::Flatten(_) | Op::Linear(_), _)) => Ok(Chain { ops, ends }),
            _ => Err(Error::Usage("the CPU engine needs a network that ends in features".to_owned())),
        }
    }

    /// The input alone: features of that width, without a gradient.
    pub fn of_input(width: usize) -> Chain {
        let ops = vec![(Op::Flatten(Flatten::new(Layout::Input, width)), Some(Mode::Eval))];
        Chain { ops, ends: vec![] }
    }

    /// Whether the last of the first `ops` operations gets a gradient.
    pub fn learns(&self, ops: usize) -> bool {
        self.ops[..ops].last().is_some_and(|(_, frozen)| frozen.is_none())
    }

    /// Features per example that the first `ops` operations give; 0 where they end in images.
    pub fn features(&self, ops: usize) -> usize {
        self.ops[..ops].last().map_or(0, |(op, _)| op.features())
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Runs `x` through the first `ops` operations.
    pub fn forward(&mut self, ops: usize, x: &[f32], pass: &mut Pass) {
        for i in 0..ops {
            let (before, rest) = self.ops.split_at_mut(i);
            let x = before.last_mut().map_or(Input::Values(x), |(op, _)| op.output());
            let (op, frozen) = &mut rest[0];
            let train = pass.train;
            pass.train &= *frozen != Some(Mode::Eval);
            op.forward(x, pass);
            pass.train = train;
        }
    }

    /// The backward pass of the last forward pass through `ops` operations, whose input was `x`, from the gradient in
    /// [`Chain::end`]. ∂L/∂x goes into `into`, added to what is there where that is true. `more` is given each operation's
    /// number, counted from 1, and the gradient of its output, once that is there: to add to it.
    pub fn backward(
        &mut self,
        ops: usize,
        x: &[f32],
        mut into: Option<(&mut [f32], bool)>,
        groups: &[Group],
        sink: &mut Sink,
        mut more: impl FnMut(usize, &mut [f32]),
    ) {
        let n = groups.last().map_or(0, |group| group.examples.end);
        for i in (0..ops).rev() {
            let (before, rest) = self.ops.split_at_mut(i);
            let (op, None) = &mut rest[0] else { return };
            let len = op.features() * n;
            more(i + 1, &mut op.end().1[..len]);
            if let (Op::Conv(conv), Some((Op::Conv(before), None))) = (&mut *op, before.last_mut()) {
                conv.backward_into(&mut before.after, n, sink);
                continue;
            }
            let (x, dx, accumulate) = match before.last_mut() {
                Some((op, frozen)) => {
                    let (out, g) = op.end();
                    (&*out, frozen.is_none().then_some(g), false)
                }
                None => match into.take() {
                    Some((dx, accumulate)) => (x, Some(dx), accumulate),
                    None => (x, None, false),
                },
            };
            op.backward(x, dx, accumulate, groups, sink);
        }
    }

    /// The output of the first `ops` operations for `n` examples, [features, n].
    pub fn out(&self, ops: usize, n: usize) -> &[f32] {
        let (op, _) = &self.ops[ops - 1];
        &op.out()[..op.features() * n]
    }

    /// The output of the first `ops` operations for `n` examples, [features, n], and its gradient.
    pub fn end(&mut self, ops: usize, n: usize) -> (&mut [f32], &mut [f32]) {
        let (op, _) = &mut self.ops[ops - 1];
        let len = op.features() * n;
        let (out, g) = op.end();
        let g_len = len.min(g.len());
        (&mut out[..len], &mut g[..g_len])
    }
}

impl Op {
    /// The operation that `layer` begins.
    fn new(layer: &Layer, shape: Shape, tensor: usize) -> Option<Op> {
        Some(match (layer, shape) {
            (&Layer::Conv { inputs: CHANNELS, outputs, kernel: 3, stride: 1, bias: true }, Shape::Input(side)) => {
                Op::Conv(Box::new(Conv::new(CHANNELS, outputs, side, tensor, true)))
            }
            (&Layer::Conv { inputs, outputs, kernel: 3, stride: 1, bias: true }, Shape::Image { channels, side })
                if inputs == channels && side.is_multiple_of(2) =>
            {
                Op::Conv(Box::new(Conv::new(inputs, outputs, side, tensor, false)))
            }
            (Layer::Flatten, Shape::Input(side)) => Op::Flatten(Flatten::new(Layout::Input, CHANNELS * side * side)),
            (Layer::Flatten, Shape::Image { channels, side }) => {
                Op::Flatten(Flatten::new(Layout::Padded { channels, side }, channels * side * side))
            }
            (&Layer::Linear { inputs, outputs }, Shape::Features) => {
                Op::Linear(Box::new(Linear::new(inputs, outputs, tensor)))
            }
            _ => return None,
        })
    }

    pub fn forward(&mut self, x: Input, pass: &mut Pass) {
        match self {
            Op::Conv(conv) => conv.forward(x, pass),
            Op::Flatten(flatten) => flatten.forward(x.values(), pass.n, pass.train),
            Op::Linear(linear) => linear.forward(x.values(), pass),
        }
    }

    /// As [`Chain::backward`]; a convolution never has to accumulate.
    pub fn backward(&mut self, x: &[f32], dx: Option<&mut [f32]>, accumulate: bool, groups: &[Group], sink: &mut Sink) {
        let n = groups.last().map_or(0, |group| group.examples.end);
        match self {
            Op::Conv(conv) => conv.backward(x, dx, n, sink),
            Op::Flatten(flatten) => {
                if let Some(dx) = dx {
                    flatten.backward(dx, n);
                }
            }
            Op::Linear(linear) => linear.backward(x, dx, accumulate, groups, sink),
        }
    }

    fn features(&self) -> usize {
        match self {
            Op::Conv(_) => 0,
            Op::Flatten(flatten) => flatten.features,
            Op::Linear(linear) => linear.outputs,
        }
    }

    /// The output, as the input of the next operation.
    pub fn output(&mut self) -> Input<'_> {
        match self {
            Op::Conv(conv) => Input::After(&mut conv.after),
            Op::Flatten(flatten) => Input::Values(&flatten.out),
            Op::Linear(linear) => Input::Values(&linear.out),
        }
    }

    fn out(&self) -> &[f32] {
        match self {
            Op::Conv(conv) => &conv.after.out,
            Op::Flatten(flatten) => &flatten.out,
            Op::Linear(linear) => &linear.out,
        }
    }

    pub fn end(&mut self) -> (&mut [f32], &mut [f32]) {
        match self {
            Op::Conv(conv) => (&mut conv.after.out, &mut conv.after.g),
            Op::Flatten(flatten) => (&mut flatten.out, &mut flatten.g),
            Op::Linear(linear) => (&mut linear.out, &mut linear.g),
        }
    }
}
