//! A network's layers as the engine runs them: each convolution or linear layer together with what follows it.

use std::ops::Range;

use super::conv::{Conv, Input};
use super::flatten::{Flatten, Layout};
use super::linear::Linear;
use super::plan::plan;
use super::update::Sink;
use crate::engine::DropoutKey;
use crate::engine::shards::Shards;
use crate::error::Result;
use crate::network::{Array, Block, Mode, Shape};

/// One forward pass.
pub struct Pass<'a> {
    /// Examples, of all groups.
    pub n: usize,
    /// Of one shard after the other, one for each input.
    pub groups: &'a [Group],
    /// Whether a backward pass may follow; if not, all groups are in eval mode.
    pub train: bool,
    pub weights: &'a mut [Array],
    pub shards: &'a mut Shards,
}

/// Consecutive examples of a batch: those of one input in one shard. Batch norm takes each input as a batch of its own.
#[derive(Clone, Debug)]
pub struct Group {
    pub examples: Range<usize>,
    /// In train mode the key of its dropout masks: batch norm takes the input's statistics.
    pub train: Option<DropoutKey>,
    pub input: usize,
    /// Of the input's examples, in all shards.
    pub of: usize,
    pub shard: usize,
}

impl Group {
    /// Number of inputs.
    pub fn inputs(groups: &[Group]) -> usize {
        groups.iter().map(|group| group.input + 1).max().unwrap_or(0)
    }

    /// The groups of each of this process's shards.
    pub fn by_shard(groups: &[Group]) -> impl Iterator<Item = &[Group]> {
        groups.chunks(Group::inputs(groups).max(1))
    }

    /// The examples of groups that follow each other.
    pub fn all(groups: &[Group]) -> Range<usize> {
        groups.first().map_or(0, |group| group.examples.start)..groups.last().map_or(0, |group| group.examples.end)
    }

    /// In `sums` [shard, input, …] those of the group's input, in each shard with its number of examples.
    pub fn sums<'a>(
        &self,
        sums: &'a [f64],
        inputs: usize,
        shards: &'a Shards,
    ) -> impl Iterator<Item = (usize, &'a [f64])> + Clone {
        let (input, n, len) = (self.input, self.of, sums.len() / (shards.count() * inputs));
        let of_shards = sums.chunks_exact(inputs * len).enumerate();
        of_shards.map(move |(shard, of)| (shards.examples(shard, n).len(), &of[input * len..][..len]))
    }

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

/// One operation of a chain.
pub struct Node {
    op: Op,
    frozen: Option<Mode>,
    /// Whose output it takes; none for the chain's input.
    input: Option<usize>,
    /// Whose output a residual sum adds to its own.
    added: Option<usize>,
    /// The last one, in a backward pass, that adds to the gradient of its output.
    last_user: Option<usize>,
    /// Whether in this backward pass there is such a gradient.
    has_gradient: bool,
}

/// The operations of consecutive blocks. A frozen block's operations get no gradient, nor does anything before them.
pub struct Chain {
    nodes: Vec<Node>,
    /// The blocks by name, each with the number of operations up to its end.
    pub ends: Vec<(&'static str, usize)>,
}

impl Chain {
    /// `tensor`: the index of the blocks' first tensor.
    ///
    /// # Errors
    /// [`Error::Usage`](crate::Error::Usage) for layers that do not fit together, and for an order that the engine does not know ([`plan`]).
    pub fn new(blocks: &[Block], input: Shape, tensor: usize) -> Result<Chain> {
        plan(blocks, input, tensor)
    }

    /// The input alone: features of that width, without a gradient.
    pub fn of_input(width: usize) -> Chain {
        let op = Op::Flatten(Flatten::new(Layout::Input, width));
        Chain { nodes: vec![Node::new(op, Some(Mode::Eval), None)], ends: vec![] }
    }

    pub(super) fn of(nodes: Vec<Node>, ends: Vec<(&'static str, usize)>) -> Chain {
        let mut nodes = nodes;
        for i in (0..nodes.len()).rev() {
            if let Some(input) = nodes[i].input {
                nodes[input].last_user = Some(i);
            }
        }
        Chain { nodes, ends }
    }

    /// Whether the last of the first `ops` operations gets a gradient.
    pub fn learns(&self, ops: usize) -> bool {
        self.nodes[..ops].last().is_some_and(|node| node.frozen.is_none())
    }

    /// Features per example that the first `ops` operations give; 0 where they end in images.
    pub fn features(&self, ops: usize) -> usize {
        self.nodes[..ops].last().map_or(0, |node| node.op.features())
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Runs `x` through the first `ops` operations.
    pub fn forward(&mut self, ops: usize, x: &[f32], pass: &mut Pass) {
        for i in 0..ops {
            let (before, rest) = self.nodes.split_at_mut(i);
            let Node { op, frozen, input, added, .. } = &mut rest[0];
            let train = pass.train;
            pass.train &= *frozen != Some(Mode::Eval);
            match input {
                None => op.forward(Input::Values(x), None, pass),
                // It makes the output of the one before, image by image.
                Some(input) if pass.train => op.forward(unfinished(before, *input), None, pass),
                Some(input) => {
                    finish(before, *input);
                    op.forward(Input::Values(before[*input].op.out()), added.map(|added| before[added].op.out()), pass);
                }
            }
            if let Some(added) = added {
                finish(before, *added);
            }
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
        self.nodes.iter_mut().for_each(|node| node.has_gradient = false);
        for i in (0..ops).rev() {
            let (before, rest) = self.nodes.split_at_mut(i);
            let Node { op, frozen: None, input, added, .. } = &mut rest[0] else { return };
            let len = op.features() * n;
            more(i + 1, &mut op.end().1[..len]);
            if let (Op::Conv(conv), Some(added)) = (&mut *op, *added) {
                let Node { op, frozen, has_gradient, .. } = &mut before[added];
                conv.after.release(frozen.is_none().then(|| (op.end().1, std::mem::replace(has_gradient, true))));
            }
            let source = input.map(|input| &mut before[input]);
            if let (Op::Conv(conv), Some(Node { op: Op::Conv(before), frozen: None, last_user, has_gradient, .. })) =
                (&mut *op, source)
            {
                let accumulate = std::mem::replace(has_gradient, true);
                conv.backward_into(&mut before.after, accumulate, *last_user == Some(i), n, sink);
                continue;
            }
            let (x, dx, accumulate) = match input.map(|input| &mut before[input]) {
                Some(Node { op, frozen, .. }) => {
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
        let op = &self.nodes[ops - 1].op;
        &op.out()[..op.features() * n]
    }

    /// The output of the first `ops` operations for `n` examples, [features, n], and its gradient.
    pub fn end(&mut self, ops: usize, n: usize) -> (&mut [f32], &mut [f32]) {
        let op = &mut self.nodes[ops - 1].op;
        let len = op.features() * n;
        let (out, g) = op.end();
        let g_len = len.min(g.len());
        (&mut out[..len], &mut g[..g_len])
    }
}

/// The output of a node as the input of one after it, perhaps still to be made.
fn unfinished(nodes: &mut [Node], at: usize) -> Input<'_> {
    let (before, rest) = nodes.split_at_mut(at);
    let Node { op, added, .. } = &mut rest[0];
    if !op.is_finished()
        && let Op::Conv(conv) = op
    {
        return Input::After(&mut conv.after, added.map(|added| before[added].op.out()));
    }
    Input::Values(op.out())
}

/// Makes the output of a node, unless that is done.
fn finish(nodes: &mut [Node], at: usize) {
    unfinished(nodes, at).values();
}

impl Node {
    pub fn new(op: Op, frozen: Option<Mode>, input: Option<usize>) -> Node {
        Node { op, frozen, input, added: None, last_user: None, has_gradient: false }
    }

    pub fn op(&mut self) -> &mut Op {
        &mut self.op
    }

    /// The output of node `added` is added to this one's, unless it cannot take that.
    pub fn add(&mut self, added: usize) -> bool {
        self.added = Some(added);
        let Op::Conv(conv) = &mut self.op else { return false };
        conv.after.add_sum()
    }
}

impl Op {
    /// `added`: what a residual sum adds to the output, where that is to be made at once.
    pub fn forward(&mut self, x: Input, added: Option<&[f32]>, pass: &mut Pass) {
        match self {
            Op::Conv(conv) => conv.forward(x, added, pass),
            Op::Flatten(flatten) => flatten.forward(x.values(), pass.n, pass.train),
            Op::Linear(linear) => linear.forward(x.values(), pass),
        }
    }

    /// As [`Chain::backward`]; a convolution does not accumulate here ([`Conv::backward_into`] does).
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

    /// Whether the output has been made: a convolution may leave that to whoever reads it.
    fn is_finished(&self) -> bool {
        let Op::Conv(conv) = self else { return true };
        conv.after.is_finished()
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
