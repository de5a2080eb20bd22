//! From a network's layers to the engine's operations.

use super::chain::{Chain, Node, Op};
use super::conv::Conv;
use super::flatten::{Flatten, Layout};
use super::kernels::Sizes;
use super::linear::Linear;
use crate::error::{Error, Result};
use crate::network::{Block, Layer, Mode, Shape};

/// The operations of consecutive blocks that take `input`; `tensor`: the index of their first tensor.
///
/// After a convolution the engine takes batch norm, ReLU and pooling, after a linear layer batch norm, ReLU and dropout, in that order,
/// each at most once. After a residual it takes ReLU. A residual follows a convolution with what belongs to it, or another
/// residual; its body ends in a convolution, perhaps with a batch norm, and so does its shortcut.
///
/// # Errors
/// [`Error::Usage`] for layers that do not fit together, and for any other order.
pub fn plan(blocks: &[Block], input: Shape, tensor: usize) -> Result<Chain> {
    let mut plan = Plan { nodes: vec![], tensor, shape: input, last: None, open: false, frozen: None };
    let mut ends = Vec::new();
    for block in blocks {
        (plan.open, plan.frozen) = (false, block.frozen);
        let added = plan.add_all(&block.layers);
        added.map_err(|why| Error::Usage(format!("the CPU engine cannot run {}: {why}", block.name)))?;
        ends.push((block.name, plan.nodes.len()));
    }
    match plan.shape {
        Shape::Features(_) => Ok(Chain::of(plan.nodes, ends)),
        shape => Err(Error::Usage(format!("the CPU engine needs a network that ends in features, not in {shape}"))),
    }
}

struct Plan {
    nodes: Vec<Node>,
    /// Index of the next tensor.
    tensor: usize,
    /// So far.
    shape: Shape,
    /// Whose output that is; none for the input.
    last: Option<usize>,
    /// Whether the next layer may join the last operation.
    open: bool,
    frozen: Option<Mode>,
}

impl Plan {
    fn add_all(&mut self, layers: &[(String, Layer)]) -> std::result::Result<(), String> {
        layers.iter().try_for_each(|(prefix, layer)| self.add(layer).map_err(|why| format!("{prefix}: {why}")))
    }

    fn add(&mut self, layer: &Layer) -> std::result::Result<(), String> {
        if let Layer::Residual { body, shortcut } = layer {
            return self.residual(body, shortcut);
        }
        let shape = layer.output(self.shape).map_err(|why| format!("{layer:?} {why}"))?;
        let (tensor, open) = (self.tensor, self.open);
        let joins = match (layer, self.last_op().filter(|_| open)) {
            (Layer::BatchNorm { .. }, Some(Op::Conv(conv))) => conv.after.add_norm(tensor),
            (Layer::Relu, Some(Op::Conv(conv))) => conv.after.add_relu(),
            (Layer::MaxPool2, Some(Op::Conv(conv))) => conv.after.add_pool(),
            (Layer::BatchNorm { .. }, Some(Op::Linear(linear))) => linear.add_norm(tensor),
            (Layer::Relu, Some(Op::Linear(linear))) => linear.add_relu(),
            (Layer::Dropout { p }, Some(Op::Linear(linear))) => linear.add_dropout(*p),
            _ => false,
        };
        if !joins {
            let op = self.begin(layer).ok_or_else(|| format!("{layer:?} cannot stand here"))?;
            self.nodes.push(Node::new(op, self.frozen, self.last));
            (self.last, self.open) = (Some(self.nodes.len() - 1), true);
        }
        self.shape = shape;
        self.tensor += layer.tensors().len();
        Ok(())
    }

    fn last_op(&mut self) -> Option<&mut Op> {
        self.last.map(|last| self.nodes[last].op())
    }

    /// The operation that `layer` begins.
    fn begin(&self, layer: &Layer) -> Option<Op> {
        let (first, tensor) = (self.last.is_none(), self.tensor);
        Some(match (layer, self.shape) {
            (&Layer::Conv { inputs, outputs, kernel, stride, bias }, Shape::Images { side, .. }) => {
                let sizes = Sizes { inputs, outputs, kernel, stride, side };
                Op::Conv(Box::new(Conv::new(sizes, bias, tensor, first)))
            }
            (Layer::Flatten, shape) if first => Op::Flatten(Flatten::new(Layout::Input, shape.values())),
            (Layer::Flatten, Shape::Images { channels, side }) => {
                Op::Flatten(Flatten::new(Layout::Padded { channels, side }, self.shape.values()))
            }
            (Layer::MeanPool, Shape::Images { channels, side }) if !first => {
                Op::Flatten(Flatten::new(Layout::Mean { channels, side }, channels))
            }
            (&Layer::Linear { inputs, outputs }, Shape::Features(_)) => {
                Op::Linear(Box::new(Linear::new(inputs, outputs, tensor)))
            }
            _ => return None,
        })
    }

    /// The shortcut's operation comes before the body's, whose last one adds its output.
    fn residual(&mut self, body: &[(String, Layer)], shortcut: &[(String, Layer)]) -> std::result::Result<(), String> {
        let Some(Op::Conv(_)) = self.last_op() else {
            return Err("a residual must follow a convolution or another residual".to_owned());
        };
        let (entry, shape, tensor) = (self.last, self.shape, self.tensor);
        let tensors =
            |layers: &[(String, Layer)]| layers.iter().map(|(prefix, layer)| layer.specs(prefix).len()).sum::<usize>();
        self.tensor += tensors(body);
        self.open = false;
        self.add_all(shortcut)?;
        let (added, of_shortcut) = (self.last, self.shape);
        (self.last, self.shape, self.tensor, self.open) = (entry, shape, tensor, false);
        self.add_all(body)?;
        if self.shape != of_shortcut {
            return Err(format!("a residual cannot add {of_shortcut} to {}", self.shape));
        }
        let last = self.last.filter(|_| self.last != entry).zip(added);
        if !last.is_some_and(|(last, added)| self.nodes[last].add(added)) {
            return Err("a residual's body must end in a convolution, perhaps with a batch norm".to_owned());
        }
        self.tensor = tensor + tensors(body) + tensors(shortcut);
        self.open = true;
        Ok(())
    }
}
