//! A residual network: strided and 1×1 convolutions, an odd side, both kinds of shortcuts, the mean over the pixels.

use fewlabel::network::backbone::basic_block;
use fewlabel::network::{Block, Layer};

use super::*;

const SIDE: usize = 20;
/// Name, channels in and out, stride; the last one's side is odd.
const BLOCKS: [(&str, usize, usize, usize); 3] = [("a", 5, 5, 1), ("b", 5, 18, 2), ("c", 18, 4, 2)];

fn network() -> Network {
    let relu = || (String::new(), Layer::Relu);
    let conv = Layer::Conv { inputs: 3, outputs: 5, kernel: 3, stride: 1, bias: false };
    let mut layers = vec![("stem".to_owned(), conv), ("norm".to_owned(), Layer::BatchNorm { channels: 5 }), relu()];
    for (name, inputs, outputs, stride) in BLOCKS {
        layers
            .extend([(String::new(), basic_block(|layer| format!("{name}{layer}"), inputs, outputs, stride)), relu()]);
    }
    layers.push((String::new(), Layer::MeanPool));
    let trunk = vec![Block { name: "body", layers, frozen: None }];
    Network { side: SIDE, trunk, heads: vec![Block::linear("head", 4, 10, &[])] }
}

const PLAIN: Kind = Kind { first: false, kernel: 3, stride: 1, bias: false, relu: true, pool: false };

/// The convolutions of a block: the shortcut's if it has one, then the body's.
struct Basic(Option<Conv>, [Conv; 2]);

impl Basic {
    fn forward(name: &str, stride: usize, x: Maps, groups: &[Group], weights: &mut Tensors) -> Basic {
        let named = |layers: [&str; 2]| layers.map(|layer| format!("{name}.{layer}"));
        let mut conv = |kind: Kind, layers: [&str; 2], x: &Maps, added: Option<Maps>| {
            let [conv, norm] = named(layers);
            Conv::forward(kind, [&conv, &norm], x.clone(), added, groups, weights)
        };
        let cut = Kind { kernel: 1, stride, relu: false, ..PLAIN };
        let shortcut = (stride > 1).then(|| conv(cut, ["shortcut.0", "shortcut.1"], &x, None));
        let first = conv(Kind { stride, ..PLAIN }, ["conv1", "bn1"], &x, None);
        let added = shortcut.as_ref().map_or(x, |shortcut| shortcut.out.clone());
        let second = conv(PLAIN, ["conv2", "bn2"], &first.out, Some(added));
        Basic(shortcut, [first, second])
    }

    fn backward(self, g: &Maps, weights: &Tensors, gradients: &mut Tensors) -> Maps {
        let Basic(shortcut, [first, second]) = self;
        let released = second.released(g);
        let inside = second.backward(&released, None, weights, gradients).unwrap();
        // What was added is x itself, or the shortcut's output.
        match shortcut {
            None => first.backward(&inside, Some(released), weights, gradients),
            Some(shortcut) => {
                let dx = first.backward(&inside, None, weights, gradients);
                shortcut.backward(&released, dx, weights, gradients)
            }
        }
        .unwrap()
    }
}

/// The mean over the pixels, row by row.
fn mean(x: &Maps) -> Rows {
    let of = |c: usize, image: &[f32]| {
        let rows = image[c * x.side * x.side..][..x.side * x.side].chunks(x.side);
        let sums = rows.map(|row| row.iter().fold(0.0f32, |sum, x| sum + x));
        sums.fold(0.0, |sum, row| sum + row) / (x.side * x.side) as f32
    };
    (0..x.channels).map(|c| x.images.iter().map(|image| of(c, image)).collect()).collect()
}

fn step(images: &[f32], labels: &[u16], weights: &mut Tensors) -> (f64, Tensors) {
    let one = groups(&[(labels.len(), true)]);
    let split = images.chunks(3 * SIDE * SIDE).map(<[f32]>::to_vec).collect();
    let x = Maps { channels: 3, side: SIDE, images: split };
    let stem = Conv::forward(Kind { first: true, ..PLAIN }, ["stem", "norm"], x, None, &one, weights);
    let mut x = stem.out.clone();
    let mut blocks = vec![];
    for (name, _, _, stride) in BLOCKS {
        let block = Basic::forward(name, stride, x, &one, weights);
        x = block.1[1].out.clone();
        blocks.push(block);
    }
    let head = Linear::forward("head", None, false, None, mean(&x), &one, weights);
    let (loss, g) = cross_entropy(&head.out, labels);
    let mut gradients = Tensors::new();
    let g = head.backward(g, weights, &mut gradients);
    let pixels = x.side * x.side;
    let spread = |i: usize| g.iter().flat_map(|row| vec![row[i] / pixels as f32; pixels]).collect();
    let mut g = Maps { images: (0..labels.len()).map(spread).collect(), ..x };
    for block in blocks.into_iter().rev() {
        g = block.backward(&g, weights, &mut gradients);
    }
    stem.backward(&g, None, weights, &mut gradients);
    (loss, gradients)
}

/// Nine images are two partial sums of the kernel gradients, 100 tiles of an image two sets.
#[test]
fn a_residual_network_has_the_bits_of_plain_loops() {
    let images = noise(9 * 3 * SIDE * SIDE, 1);
    let labels = [3, 1, 4, 1, 5, 9, 2, 6, 5];
    let task = Task::of_head(&"head", &images, &labels);
    compare(&network(), Rule::sgd(0.9, 5e-4), &task, |_, weights| step(&images, &labels, weights));
}
