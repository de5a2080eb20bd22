//! Backbones: from images to features.

use super::{BACKBONE, Block, Layer, Layers};
use crate::data::CHANNELS;

/// The study's: three convolutions with these output channels, each with batch norm, ReLU and pooling.
pub fn study(channels: [usize; 3]) -> Layers {
    let mut layers = Vec::new();
    let mut inputs = CHANNELS;
    for outputs in channels {
        let norm = Layer::BatchNorm { channels: outputs };
        layers.extend([Layer::conv3x3(inputs, outputs), norm, Layer::Relu, Layer::MaxPool2]);
        inputs = outputs;
    }
    layers.push(Layer::Flatten);
    Block::sequential(BACKBONE, layers).layers
}

/// A step of a [`plain`] backbone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// A 3×3 convolution without bias with so many output channels, batch norm and ReLU.
    Conv(usize),
    /// Max-pooling.
    Pool,
}

/// Convolutions in a line, in the manner of VGG (Simonyan and Zisserman, "Very deep convolutional networks for large-scale
/// image recognition", 2015), then the mean over the pixels.
pub fn plain(steps: &[Step]) -> Layers {
    let mut layers = Vec::new();
    let mut inputs = CHANNELS;
    for &step in steps {
        match step {
            Step::Conv(outputs) => {
                layers.extend([conv(inputs, outputs, 3, 1), Layer::BatchNorm { channels: outputs }, Layer::Relu]);
                inputs = outputs;
            }
            Step::Pool => layers.push(Layer::MaxPool2),
        }
    }
    layers.push(Layer::MeanPool);
    Block::sequential(BACKBONE, layers).layers
}

/// The residual network for CIFAR with 6 · `blocks` + 2 layers (He, Zhang, Ren and Sun, "Deep residual learning for image
/// recognition", 2016, §4.2): three stages of `blocks` basic blocks, `width`, 2 · `width` and 4 · `width` channels wide, the second and
/// third of half the side. Where the shape changes the shortcut is a 1×1 convolution with batch norm (their option B; on
/// CIFAR they have zeros, option A, for the same number of parameters as a plain network). Tensors have the names of torchvision's
/// residual networks, but for `shortcut`, their `downsample`.
pub fn resnet(blocks: usize, width: usize) -> Layers {
    let name = |name: &str| format!("{BACKBONE}.{name}");
    let norm = |channels: usize| Layer::BatchNorm { channels };
    let mut layers =
        vec![(name("conv1"), conv(CHANNELS, width, 3, 1)), (name("bn1"), norm(width)), (name("relu"), Layer::Relu)];
    let mut inputs = width;
    for (stage, outputs) in [width, 2 * width, 4 * width].into_iter().enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            let name = |layer: &str| name(&format!("layer{}.{block}{layer}", stage + 1));
            layers.push((name(""), basic_block(name, inputs, outputs, stride)));
            layers.push((name(".relu"), Layer::Relu));
            inputs = outputs;
        }
    }
    layers.push((name("mean"), Layer::MeanPool));
    layers
}

/// Two 3×3 convolutions with batch norm, and the shortcut around them; ReLU is to follow. `name` gives a layer's prefix: of
/// `.conv1`, `.bn1`, `.relu1`, `.conv2`, `.bn2`, `.shortcut.0` and `.shortcut.1`.
pub fn basic_block(name: impl Fn(&str) -> String, inputs: usize, outputs: usize, stride: usize) -> Layer {
    let norm = Layer::BatchNorm { channels: outputs };
    let body = vec![
        (name(".conv1"), conv(inputs, outputs, 3, stride)),
        (name(".bn1"), norm.clone()),
        (name(".relu1"), Layer::Relu),
        (name(".conv2"), conv(outputs, outputs, 3, 1)),
        (name(".bn2"), norm.clone()),
    ];
    let mut shortcut = vec![];
    if stride != 1 || inputs != outputs {
        shortcut = vec![(name(".shortcut.0"), conv(inputs, outputs, 1, stride)), (name(".shortcut.1"), norm)];
    }
    Layer::Residual { body, shortcut }
}

/// Without bias: batch norm follows.
fn conv(inputs: usize, outputs: usize, kernel: usize, stride: usize) -> Layer {
    Layer::Conv { inputs, outputs, kernel, stride, bias: false }
}
