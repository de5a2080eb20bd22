//! The study's networks as plain descriptions: named blocks of layers, interpreted by an engine.
//!
//! Tensors carry the names that PyTorch's `state_dict` gives the same modules (`backbone.0.weight`,
//! `projector.1.running_mean`, …), in one stable order: block by block, layer by layer, weight, bias, running mean,
//! running variance. Dropout is a function there, not a module, so names do not count it.

mod weights;

pub use weights::{Array, Weights};
pub(crate) use weights::{METADATA, deserialize, serialize};

use crate::data::{CHANNELS, CLASSES, IMAGE, SIDE};

/// One step of a forward pass on a batch: images [n, c, h, w], or features [n, c].
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Layer {
    /// 3×3, stride 1, zero padding 1, with bias (PyTorch's `Conv2d`).
    Conv3x3 {
        /// Channels or features that go in.
        inputs: usize,
        /// Those that come out.
        outputs: usize,
    },
    /// y = γ·(x − μ)/√(σ² + 1e-5) + β, in training with the mean and the biased variance of each channel over images
    /// and pixels (Ioffe and Szegedy, "Batch normalization", 2015, algorithm 1). Running statistics move by a tenth,
    /// the variance to the unbiased one (PyTorch's `BatchNorm2d` and `BatchNorm1d`).
    BatchNorm {
        /// Each has its own statistics.
        channels: usize,
    },
    /// max(x, 0), with gradient 0 at 0, as in PyTorch.
    Relu,
    /// 2×2, stride 2; ties go to the first pixel in row order.
    MaxPool2,
    /// [n, c, h, w] to [n, c·h·w].
    Flatten,
    /// y = x·Wᵀ + b with W [outputs, inputs].
    Linear {
        /// Channels or features that go in.
        inputs: usize,
        /// Those that come out.
        outputs: usize,
    },
    /// Zeroes with probability `p` and scales the rest by 1/(1−p), in training only (PyTorch's `dropout`).
    Dropout {
        /// From 0 to below 1.
        p: f32,
    },
}

/// How a tensor is initialised, and whether an optimizer updates it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Role {
    /// U(−1/√fan_in, 1/√fan_in): PyTorch's default for weights and biases of convolutions and linear layers
    /// (`torch.nn.Linear.reset_parameters`, `torch.nn.modules.conv._ConvNd.reset_parameters`).
    Uniform {
        /// Inputs of one output.
        fan_in: usize,
    },
    /// Batch norm's γ: 1.
    Ones,
    /// Batch norm's β: 0.
    Zeros,
    /// Batch norm's running mean: 0 at first; a buffer, updated by forward passes, not by optimizers.
    RunningMean,
    /// Batch norm's running variance: 1 at first; likewise.
    RunningVar,
}

impl Role {
    /// Whether an optimizer updates the tensor.
    pub fn is_parameter(self) -> bool {
        !matches!(self, Role::RunningMean | Role::RunningVar)
    }
}

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

impl Layer {
    /// The layer's tensors (last name, shape, role), in order.
    pub fn tensors(self) -> Vec<(&'static str, Vec<usize>, Role)> {
        match self {
            Layer::Conv3x3 { inputs, outputs } => {
                let role = Role::Uniform { fan_in: inputs * 9 };
                vec![("weight", vec![outputs, inputs, 3, 3], role), ("bias", vec![outputs], role)]
            }
            Layer::Linear { inputs, outputs } => {
                let role = Role::Uniform { fan_in: inputs };
                vec![("weight", vec![outputs, inputs], role), ("bias", vec![outputs], role)]
            }
            Layer::BatchNorm { channels } => vec![
                ("weight", vec![channels], Role::Ones),
                ("bias", vec![channels], Role::Zeros),
                ("running_mean", vec![channels], Role::RunningMean),
                ("running_var", vec![channels], Role::RunningVar),
            ],
            Layer::Relu | Layer::MaxPool2 | Layer::Flatten | Layer::Dropout { .. } => vec![],
        }
    }
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
    pub layers: Vec<(String, Layer)>,
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
        let layers = std::iter::once(Layer::Linear { inputs, outputs }).chain(after.iter().copied());
        Block { name, layers: layers.map(|layer| (name.to_owned(), layer)).collect(), frozen: None }
    }

    /// The block's tensors in the stable order.
    pub fn tensors(&self) -> impl Iterator<Item = Spec> + '_ {
        self.layers.iter().flat_map(|(prefix, layer)| {
            let spec = move |(name, shape, role)| Spec { name: format!("{prefix}.{name}"), shape, role };
            layer.tensors().into_iter().map(spec)
        })
    }
}

/// The sizes that an experiment may choose; the default is the study's.
#[derive(Clone, Debug, PartialEq)]
pub struct Widths {
    /// Output channels of the backbone's three convolutions.
    pub channels: [usize; 3],
    /// The hidden layer before the heads.
    pub hidden: usize,
    /// SimSiam's projector, hidden and output.
    pub projector: usize,
    /// The bottleneck of SimSiam's predictor.
    pub predictor: usize,
    /// Probability of dropout on the hidden layer.
    pub dropout: f32,
    /// Classes of the data set.
    pub classes: usize,
}

impl Default for Widths {
    fn default() -> Widths {
        Widths { channels: [32, 64, 128], hidden: 512, projector: 2048, predictor: 512, dropout: 0.5, classes: CLASSES }
    }
}

impl Widths {
    /// Features that the backbone gives per image: the last channels × 4 × 4.
    pub fn features(&self) -> usize {
        self.channels[2] * (SIDE / 8) * (SIDE / 8)
    }
}

/// The heads that the pretext tasks train: block name, classes.
pub const PRETEXT_HEADS: [(&str, usize); 3] = [("rotation_head", 4), ("shear_head", 3), ("color_head", 3)];
/// The head that the labels train.
pub const CLASSIFICATION_HEAD: &str = "classification_head";
/// The block that every method trains, and that transfers.
pub const BACKBONE: &str = "backbone";
/// The block behind the backbone whose outputs SimSiam compares.
pub const PROJECTOR: &str = "projector";
/// SimSiam's head.
pub const PREDICTOR: &str = "predictor";
/// The head of a probe.
pub const CLASSIFIER: &str = "classifier";

/// A trunk, and heads that each take its output; without a trunk they take features. The stable order of the tensors is
/// that of the trunk, then of the heads.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
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

    /// `backbone` → `fc` (hidden, ReLU, dropout) → `classification_head`.
    pub fn supervised(widths: &Widths) -> Network {
        Network { trunk: vec![backbone(widths), fc(widths)], heads: vec![classification_head(widths)] }
    }

    /// The supervised network with three more heads on the same hidden layer.
    pub fn pretext(widths: &Widths) -> Network {
        let mut heads = PRETEXT_HEADS.map(|(name, classes)| Block::linear(name, widths.hidden, classes, &[])).to_vec();
        heads.push(classification_head(widths));
        Network { trunk: vec![backbone(widths), fc(widths)], heads }
    }

    /// `backbone` → `projector` = z, these layers.
    pub fn projected(widths: &Widths, projector: Vec<Layer>) -> Network {
        Network { trunk: vec![backbone(widths), Block::sequential(PROJECTOR, projector)], heads: vec![] }
    }

    /// `backbone` → `projector` (three linear layers with batch norm) = z → `predictor` = p
    /// (Chen and He, "Exploring simple Siamese representation learning", 2021, §3).
    pub fn simsiam(widths: &Widths) -> Network {
        let Widths { projector: d, predictor: h, .. } = *widths;
        let linear = |inputs, outputs| [Layer::Linear { inputs, outputs }, Layer::BatchNorm { channels: outputs }];
        let projector =
            [&linear(widths.features(), d)[..], &[Layer::Relu], &linear(d, d), &[Layer::Relu], &linear(d, d)];
        let predictor = [&linear(d, h)[..], &[Layer::Relu, Layer::Linear { inputs: h, outputs: d }]];
        let heads = vec![Block::sequential(PREDICTOR, predictor.concat())];
        Network { heads, ..Network::projected(widths, projector.concat()) }
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
        let trunk = vec![Block { frozen: Some(mode), ..backbone(widths) }];
        Network { trunk, heads: vec![classifier] }
    }

    /// `backbone` alone, frozen in eval mode.
    pub fn backbone(widths: &Widths) -> Network {
        Network { trunk: vec![Block { frozen: Some(Mode::Eval), ..backbone(widths) }], heads: vec![] }
    }

    /// Whether the whole trunk is frozen in `mode`.
    pub fn is_frozen(&self, mode: Mode) -> bool {
        !self.trunk.is_empty() && self.trunk.iter().all(|block| block.frozen == Some(mode))
    }

    /// The heads by themselves, on the features that the trunk gives.
    pub fn without_trunk(&self) -> Network {
        Network { trunk: vec![], heads: self.heads.clone() }
    }

    /// Values of one input: an image, or the features that the heads take.
    pub fn input_len(&self) -> usize {
        let first = self.heads.iter().flat_map(|head| &head.layers).find_map(|(_, layer)| match layer {
            Layer::Linear { inputs, .. } => Some(*inputs),
            _ => None,
        });
        first.filter(|_| self.trunk.is_empty()).unwrap_or(IMAGE)
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

fn backbone(widths: &Widths) -> Block {
    let mut layers = Vec::new();
    let mut inputs = CHANNELS;
    for outputs in widths.channels {
        let norm = Layer::BatchNorm { channels: outputs };
        layers.extend([Layer::Conv3x3 { inputs, outputs }, norm, Layer::Relu, Layer::MaxPool2]);
        inputs = outputs;
    }
    layers.push(Layer::Flatten);
    Block::sequential(BACKBONE, layers)
}

fn fc(widths: &Widths) -> Block {
    let after = [Layer::Relu, Layer::Dropout { p: widths.dropout }];
    Block::linear("fc", widths.features(), widths.hidden, &after)
}

fn classification_head(widths: &Widths) -> Block {
    Block::linear(CLASSIFICATION_HEAD, widths.hidden, widths.classes, &[])
}
