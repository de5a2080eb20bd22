//! The layers that networks are made of.

use super::Spec;

/// One step of a forward pass on a batch: images [n, c, h, w], or features [n, c].
#[derive(Clone, Debug, PartialEq)]
pub enum Layer {
    /// A convolution with the zero padding that keeps the side at stride 1 (PyTorch's `Conv2d`, `padding=kernel // 2`).
    Conv {
        /// Channels that go in.
        inputs: usize,
        /// Those that come out.
        outputs: usize,
        /// Side of the kernels in pixels: 1 or 3.
        kernel: usize,
        /// 1, or 2: every second pixel of every second row.
        stride: usize,
        /// Whether each channel has one.
        bias: bool,
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
    /// 2×2, stride 2; ties go to the first pixel in row order. Of an odd side the last row and column are left out
    /// (PyTorch's `MaxPool2d(2)`).
    MaxPool2,
    /// The mean over the pixels of each channel: [n, c, h, w] to [n, c].
    MeanPool,
    /// [n, c, h, w] to [n, c·h·w].
    Flatten,
    /// y = x·Wᵀ + b with W [outputs, inputs].
    Linear {
        /// Features that go in.
        inputs: usize,
        /// Those that come out.
        outputs: usize,
    },
    /// Zeroes with probability `p` and scales the rest by 1/(1−p), in training only (PyTorch's `dropout`).
    Dropout {
        /// From 0 to below 1.
        p: f32,
    },
    /// body(x) + shortcut(x), of images (He, Zhang, Ren and Sun, "Deep residual learning for image recognition", 2016,
    /// equations 1 and 2).
    Residual {
        /// Begins and ends with a convolution, of which the last may have a batch norm.
        body: Layers,
        /// One convolution, perhaps with a batch norm; nothing where x itself is added.
        shortcut: Layers,
    },
}

/// Layers in the order of a forward pass, each with its tensors' prefix.
pub type Layers = Vec<(String, Layer)>;

/// What a layer takes or gives for each example.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// [channels, side, side].
    Images {
        /// Maps of an image.
        channels: usize,
        /// Rows, and columns, of each.
        side: usize,
    },
    /// So many.
    Features(usize),
}

impl Shape {
    /// Values of one example.
    pub fn values(self) -> usize {
        match self {
            Shape::Images { channels, side } => channels * side * side,
            Shape::Features(n) => n,
        }
    }
}

impl std::fmt::Display for Shape {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        match self {
            Shape::Images { channels, side } => write!(f, "{channels} × {side} × {side} values"),
            Shape::Features(n) => write!(f, "{n} features"),
        }
    }
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

impl Layer {
    /// 3×3, stride 1, with bias: the study's.
    pub const fn conv3x3(inputs: usize, outputs: usize) -> Layer {
        Layer::Conv { inputs, outputs, kernel: 3, stride: 1, bias: true }
    }

    /// The layer's own tensors (last name, shape, role), in order; a residual has only those of its layers.
    pub fn tensors(&self) -> Vec<(&'static str, Vec<usize>, Role)> {
        match *self {
            Layer::Conv { inputs, outputs, kernel, bias, .. } => {
                let role = Role::Uniform { fan_in: inputs * kernel * kernel };
                let weight = ("weight", vec![outputs, inputs, kernel, kernel], role);
                std::iter::once(weight).chain(bias.then(|| ("bias", vec![outputs], role))).collect()
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
            _ => vec![],
        }
    }

    /// All tensors of a layer whose own have the prefix, in the stable order: of a residual the body's, then the shortcut's.
    pub fn specs(&self, prefix: &str) -> Vec<Spec> {
        match self {
            Layer::Residual { body, shortcut } => specs(body).chain(specs(shortcut)).collect(),
            layer => {
                let spec = |(name, shape, role)| Spec { name: format!("{prefix}.{name}"), shape, role };
                layer.tensors().into_iter().map(spec).collect()
            }
        }
    }

    /// What the layer makes of `input`.
    ///
    /// # Errors
    /// Why it does not take that, as the end of a sentence about the layer.
    pub fn output(&self, input: Shape) -> Result<Shape, String> {
        let wrong = || Err(format!("does not take {input}"));
        Ok(match (self, input) {
            (Layer::Conv { inputs, outputs, kernel, stride, .. }, Shape::Images { channels, side }) => {
                if *inputs != channels || *outputs == 0 {
                    return wrong();
                }
                if ![1, 3].contains(kernel) || ![1, 2].contains(stride) {
                    return Err(format!("has kernels of side {kernel} and stride {stride}: 1 or 3, and 1 or 2"));
                }
                Shape::Images { channels: *outputs, side: side.div_ceil(*stride) }
            }
            (Layer::BatchNorm { channels: own }, Shape::Images { channels, .. } | Shape::Features(channels))
                if *own == channels =>
            {
                input
            }
            (Layer::Relu, _) | (Layer::Dropout { .. }, Shape::Features(_)) => input,
            (Layer::MaxPool2, Shape::Images { channels, side: side @ 2.. }) => {
                Shape::Images { channels, side: side / 2 }
            }
            (Layer::MeanPool, Shape::Images { channels, .. }) => Shape::Features(channels),
            (Layer::Flatten, Shape::Images { .. }) => Shape::Features(input.values()),
            (Layer::Linear { inputs, outputs }, Shape::Features(n)) if *inputs == n && *outputs > 0 => {
                Shape::Features(*outputs)
            }
            (Layer::Residual { body, shortcut }, Shape::Images { .. }) => {
                let [of_body, added] = [output(body, input)?, output(shortcut, input)?];
                if of_body != added {
                    return Err(format!("adds {added} to {of_body}"));
                }
                of_body
            }
            _ => return wrong(),
        })
    }
}

/// All tensors of the layers, in the stable order.
pub(super) fn specs(layers: &[(String, Layer)]) -> impl Iterator<Item = Spec> + '_ {
    layers.iter().flat_map(|(prefix, layer)| layer.specs(prefix))
}

/// What the layers make of `input`.
///
/// # Errors
/// The first layer that does not take what it gets, and why.
pub(super) fn output(layers: &[(String, Layer)], input: Shape) -> Result<Shape, String> {
    layers.iter().try_fold(input, |shape, (prefix, layer)| {
        layer.output(shape).map_err(|why| format!("{prefix}, {layer:?}, {why}"))
    })
}

/// Values that the convolutions give for each example of `input`, which the layers take.
pub(super) fn activations(layers: &[(String, Layer)], input: Shape) -> usize {
    let of_layer = |shape: &mut Shape, (_, layer): &(String, Layer)| {
        let before = *shape;
        *shape = layer.output(before).ok()?;
        Some(match layer {
            Layer::Conv { .. } => shape.values(),
            Layer::Residual { body, shortcut } => activations(body, before) + activations(shortcut, before),
            _ => 0,
        })
    };
    layers.iter().scan(input, of_layer).sum()
}

/// Floating-point operations of a forward pass of convolutions and linear layers on an example of `input`, which the layers take: two
/// for each multiplication with a weight, by the definition of the layer, however it is computed.
pub(super) fn operations(layers: &[(String, Layer)], input: Shape) -> u64 {
    let of_layer = |shape: &mut Shape, (_, layer): &(String, Layer)| {
        let before = *shape;
        *shape = layer.output(before).ok()?;
        Some(match layer {
            Layer::Conv { inputs, kernel, .. } => 2 * (inputs * kernel * kernel * shape.values()) as u64,
            Layer::Linear { inputs, outputs } => 2 * (inputs * outputs) as u64,
            Layer::Residual { body, shortcut } => operations(body, before) + operations(shortcut, before),
            _ => 0,
        })
    };
    layers.iter().scan(input, of_layer).sum()
}
