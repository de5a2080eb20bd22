//! Networks as plain descriptions: named blocks of layers, interpreted by an engine.
//!
//! Tensors carry the names that PyTorch's `state_dict` gives the same modules (`backbone.0.weight`,
//! `projector.1.running_mean`, …), in one stable order: block by block, layer by layer, weight, bias, running mean,
//! running variance. Dropout is a function there, not a module, so names do not count it.

pub mod backbone;
mod layer;
pub mod registry;
mod weights;

pub use layer::{Layer, Layers, Role, Shape};
pub use registry::{Backbone, BackboneKind};
pub use weights::{Array, Weights};
pub(crate) use weights::{METADATA, deserialize, serialize};

use crate::data::{CHANNELS, CLASSES, SIDE};

/// Name, shape and role of one tensor of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Spec {
    /// As in PyTorch's `state_dict`.
    pub name: String,
    /// PyTorch's: outputs first.
    pub shape: Vec<usize>,
    /// What it starts as, and whether it is trained.
    pub role: Role,
}

/// How batch norm works in a pass: with the batch's own statistics, which also update the running ones, or with the
/// running statistics as they are. Dropout is active in `Train` only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The batch's own statistics, and dropout.
    Train,
    /// The running statistics, no dropout.
    Eval,
}

/// The classifier on a frozen backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Probe {
    /// One hidden layer: what the study calls its linear probe.
    Mlp,
    /// A single linear layer.
    Linear,
}

/// A sequence of layers.
#[derive(Clone, Debug, PartialEq)]
pub struct Block {
    /// The prefix of its tensors' names.
    pub name: &'static str,
    /// In the order of a forward pass, each with its tensors' prefix.
    pub layers: Layers,
    /// Set on a block that gets no gradient: its mode while the rest trains.
    pub frozen: Option<Mode>,
}

impl Block {
    /// A `torch.nn.Sequential` called `name`: layer i's tensors are `name.i.…`.
    pub fn sequential(name: &'static str, layers: Vec<Layer>) -> Block {
        // PyTorch's numbering does not count functions (dropout, flatten).
        let mut index = 0;
        let mut prefix = |layer: &Layer| {
            index += usize::from(!matches!(layer, Layer::Dropout { .. } | Layer::Flatten));
            format!("{name}.{}", index.max(1) - 1)
        };
        Block { name, layers: layers.into_iter().map(|layer| (prefix(&layer), layer)).collect(), frozen: None }
    }

    /// One linear layer called `name`, followed by functions.
    pub fn linear(name: &'static str, inputs: usize, outputs: usize, after: &[Layer]) -> Block {
        let layers = std::iter::once(Layer::Linear { inputs, outputs }).chain(after.iter().cloned());
        Block { name, layers: layers.map(|layer| (name.to_owned(), layer)).collect(), frozen: None }
    }

    /// The block's tensors in the stable order.
    pub fn tensors(&self) -> impl Iterator<Item = Spec> + '_ {
        layer::specs(&self.layers)
    }

    /// What the block makes of `input`.
    ///
    /// # Errors
    /// The first layer that does not take what it gets, and why.
    pub fn output(&self, input: Shape) -> Result<Shape, String> {
        layer::output(&self.layers, input)
    }
}

/// The sizes that an experiment may choose; the default is the study's.
#[derive(Clone, Debug, PartialEq)]
pub struct Widths {
    /// Rows, and columns, of the images: an even number from 16 to 128.
    pub side: usize,
    /// The backbone's layers; none for the study's ([`backbone::study`]).
    pub backbone: Option<Layers>,
    /// Output channels of the three convolutions of the study's backbone.
    pub channels: [usize; 3],
    /// The hidden layer before the heads.
    pub hidden: usize,
    /// The projector, hidden and output.
    pub projector: usize,
    /// The bottleneck of a predictor.
    pub predictor: usize,
    /// Probability of dropout on the hidden layer.
    pub dropout: f32,
    /// Classes of the data set.
    pub classes: usize,
}

impl Default for Widths {
    fn default() -> Widths {
        Widths {
            side: SIDE,
            backbone: None,
            channels: [32, 64, 128],
            hidden: 512,
            projector: 2048,
            predictor: 512,
            dropout: 0.5,
            classes: CLASSES,
        }
    }
}

impl Widths {
    /// Values that the backbone's convolutions give for each image.
    pub(crate) fn activations(&self) -> usize {
        layer::activations(&self.backbone().layers, self.images())
    }

    /// What the networks take.
    pub(crate) fn images(&self) -> Shape {
        Shape::Images { channels: CHANNELS, side: self.side }
    }

    /// The block [`BACKBONE`].
    pub fn backbone(&self) -> Block {
        let layers = self.backbone.clone().unwrap_or_else(|| backbone::study(self.channels));
        Block { name: BACKBONE, layers, frozen: None }
    }

    /// Features that the backbone gives per image: the study's, with images of 32 × 32 pixels, the last channels × 4 × 4.
    ///
    /// # Panics
    /// For a backbone that does not take such images, or does not end in features. One that was read from a file does.
    pub fn features(&self) -> usize {
        match self.backbone().output(self.images()) {
            Ok(Shape::Features(n)) => n,
            Ok(shape) => panic!("the backbone ends in {shape}, not in features"),
            Err(why) => panic!("{why}"),
        }
    }
}

/// The heads that the pretext tasks train: block name, classes.
pub const PRETEXT_HEADS: [(&str, usize); 3] = [("rotation_head", 4), ("shear_head", 3), ("color_head", 3)];
/// The head that the labels train.
pub const CLASSIFICATION_HEAD: &str = "classification_head";
/// The block that every method trains, and that transfers.
pub const BACKBONE: &str = "backbone";
/// The block behind the backbone whose outputs methods on views compare.
pub const PROJECTOR: &str = "projector";
/// The head that predicts another view's projection.
pub const PREDICTOR: &str = "predictor";
/// The head of a probe.
pub const CLASSIFIER: &str = "classifier";

/// A trunk, and heads that each take its output; without a trunk they take features. The stable order of the tensors is
/// that of the trunk, then of the heads.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Rows, and columns, of the images that the trunk takes.
    pub side: usize,
    /// Its blocks, in the order of a forward pass.
    pub trunk: Vec<Block>,
    /// Each takes the trunk's output.
    pub heads: Vec<Block>,
}

impl Network {
    /// What the values of all its tensors take, in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.tensors().map(|spec| 4 * spec.shape.iter().product::<usize>() as u64).sum()
    }

    /// Floating-point operations of a forward pass of one image, in frozen blocks and in those that are trained: two for each
    /// multiplication with a weight.
    pub(crate) fn operations(&self) -> [u64; 2] {
        let mut shape = Shape::Images { channels: CHANNELS, side: self.side };
        let mut sums = [0; 2];
        for (i, block) in self.blocks().enumerate() {
            sums[usize::from(block.frozen.is_none())] += layer::operations(&block.layers, shape);
            if i < self.trunk.len() {
                shape = block.output(shape).unwrap_or(shape);
            }
        }
        sums
    }

    /// These blocks, for images of the widths' side.
    pub fn of(widths: &Widths, trunk: Vec<Block>, heads: Vec<Block>) -> Network {
        Network { side: widths.side, trunk, heads }
    }

    /// `backbone` → `fc` (hidden, ReLU, dropout) → `classification_head`.
    pub fn supervised(widths: &Widths) -> Network {
        Network::of(widths, vec![widths.backbone(), fc(widths)], vec![classification_head(widths)])
    }

    /// The supervised network with three more heads on the same hidden layer.
    pub fn pretext(widths: &Widths) -> Network {
        let mut heads = PRETEXT_HEADS.map(|(name, classes)| Block::linear(name, widths.hidden, classes, &[])).to_vec();
        heads.push(classification_head(widths));
        Network::of(widths, vec![widths.backbone(), fc(widths)], heads)
    }

    /// `backbone` → `projector` = z, these layers.
    pub fn projected(widths: &Widths, projector: Vec<Layer>) -> Network {
        Network::of(widths, vec![widths.backbone(), Block::sequential(PROJECTOR, projector)], vec![])
    }

    /// `backbone`, frozen in `mode` → `classifier`.
    pub fn probe(widths: &Widths, probe: Probe, mode: Mode) -> Network {
        let classifier = match probe {
            Probe::Linear => Block::linear(CLASSIFIER, widths.features(), widths.classes, &[]),
            Probe::Mlp => {
                let hidden = Layer::Linear { inputs: widths.features(), outputs: widths.hidden };
                let last = Layer::Linear { inputs: widths.hidden, outputs: widths.classes };
                let layers = vec![hidden, Layer::Relu, Layer::Dropout { p: widths.dropout }, last];
                Block::sequential(CLASSIFIER, layers)
            }
        };
        let trunk = vec![Block { frozen: Some(mode), ..widths.backbone() }];
        Network::of(widths, trunk, vec![classifier])
    }

    /// `backbone` alone, frozen in eval mode.
    pub fn backbone(widths: &Widths) -> Network {
        Network::of(widths, vec![Block { frozen: Some(Mode::Eval), ..widths.backbone() }], vec![])
    }

    /// Whether the whole trunk is frozen in `mode`.
    pub fn is_frozen(&self, mode: Mode) -> bool {
        !self.trunk.is_empty() && self.trunk.iter().all(|block| block.frozen == Some(mode))
    }

    /// The heads by themselves, on the features that the trunk gives.
    pub fn without_trunk(&self) -> Network {
        Network { trunk: vec![], ..self.clone() }
    }

    /// Values of one input: an image, or the features that the heads take.
    pub fn input_len(&self) -> usize {
        let first = self.heads.iter().flat_map(|head| &head.layers).find_map(|(_, layer)| match layer {
            Layer::Linear { inputs, .. } => Some(*inputs),
            _ => None,
        });
        first.filter(|_| self.trunk.is_empty()).unwrap_or(CHANNELS * self.side * self.side)
    }

    /// Width of the features that a block ends in; none where it is not there or ends in images.
    pub fn width_of(&self, block: &str) -> Option<usize> {
        let block = self.blocks().find(|found| found.name == block)?;
        block.layers.iter().rev().find_map(|(_, layer)| match layer {
            Layer::Linear { outputs, .. } => Some(*outputs),
            _ => None,
        })
    }

    /// Trunk, then heads.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.trunk.iter().chain(&self.heads)
    }

    /// All tensors in the stable order.
    pub fn tensors(&self) -> impl Iterator<Item = Spec> + '_ {
        self.blocks().flat_map(Block::tensors)
    }
}

fn fc(widths: &Widths) -> Block {
    let after = [Layer::Relu, Layer::Dropout { p: widths.dropout }];
    Block::linear("fc", widths.features(), widths.hidden, &after)
}

fn classification_head(widths: &Widths) -> Block {
    Block::linear(CLASSIFICATION_HEAD, widths.hidden, widths.classes, &[])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Convolutions on 32², 16² and 8² pixels with 3, 32 and 64 inputs, 4×4×128 features to 512, and those to 10 classes.
    #[test]
    fn operations_of_the_study_s_network() {
        let (trunk, head) = (9 * (1024 * 3 * 32 + 256 * 32 * 64 + 64 * 64 * 128) + 2048 * 512, 512 * 10);
        assert_eq!(Network::supervised(&Widths::default()).operations(), [0, 2 * (trunk + head)]);
        let probe = Network::probe(&Widths::default(), Probe::Linear, Mode::Eval);
        assert_eq!(probe.operations(), [2 * (trunk - 2048 * 512), 2 * 2048 * 10]);
    }
}
