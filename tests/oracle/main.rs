//! The numeric contract of `fewlabel::engine::cpu` in plain loops, one value at a time, written from its documentation
//! alone: a few training steps of tiny networks give the engine's weights, to the last bit.

#[path = "../common/mod.rs"]
mod common;
mod feature;
mod image;
mod residual;
mod sums;

use candle_core::Device;
use common::{Task, noise};
use feature::{Linear, Rows, cosines, cross_entropy};
use fewlabel::data::IMAGE;
use fewlabel::engine::{DropoutKey, Input, Rates, Statistics, open};
use fewlabel::network::{Network, Weights, Widths};
use fewlabel::optimizer::{Decayed, Rule, State};
use fewlabel::rng::{Purpose, Stream};
use image::{Conv, Kind, Maps, STUDY};
use sums::{Group, Tensors, groups};

const STEPS: u32 = 3;
const LR: f64 = 0.02;

fn key(step: u32) -> DropoutKey {
    DropoutKey { seed: 4, epoch: 1, first: step * 20 }
}

/// Three convolutions, and their output flattened: channel, row, column.
fn backbone(images: &[f32], groups: &[Group], weights: &mut Tensors) -> (Vec<Conv>, Rows) {
    let mut x = Maps { channels: 3, side: 32, images: images.chunks(IMAGE).map(<[f32]>::to_vec).collect() };
    let mut layers = vec![];
    for at in [0, 4, 8] {
        let (conv, norm) = (format!("backbone.{at}"), format!("backbone.{}", at + 1));
        let kind = Kind { first: at == 0, ..STUDY };
        let layer = Conv::forward(kind, [&conv, &norm], x, None, groups, weights);
        x = layer.out.clone();
        layers.push(layer);
    }
    let features = (0..x.images[0].len()).map(|f| x.images.iter().map(|image| image[f]).collect()).collect();
    (layers, features)
}

fn backbone_back(layers: Vec<Conv>, g: &Rows, weights: &Tensors, gradients: &mut Tensors) {
    let last = &layers[2].out;
    let images = (0..last.images.len()).map(|i| g.iter().map(|row| row[i]).collect()).collect();
    let mut g = Maps { images, ..*last };
    for layer in layers.into_iter().rev() {
        match layer.backward(&g, None, weights, gradients) {
            Some(dx) => g = dx,
            None => return,
        }
    }
}

/// The loss of one step of the supervised network, and all gradients.
fn supervised(images: &[f32], labels: &[u16], key: DropoutKey, p: f32, weights: &mut Tensors) -> (f64, Tensors) {
    let one = groups(&[(labels.len(), true)]);
    let (layers, x) = backbone(images, &one, weights);
    let hidden = weights["fc.bias"].len();
    let mut mask = vec![vec![0.0; labels.len()]; hidden];
    for i in 0..labels.len() {
        let mut stream = Stream::new(key.seed, Purpose::Dropout, key.epoch, key.first + i as u32);
        mask.iter_mut().for_each(|row| row[i] = if stream.chance(p) { 0.0 } else { 1.0 / (1.0 - p) });
    }
    let fc = Linear::forward("fc", None, true, Some(mask), x, &one, weights);
    let head = Linear::forward("classification_head", None, false, None, fc.out.clone(), &one, weights);
    let (loss, g) = cross_entropy(&head.out, labels);
    let mut gradients = Tensors::new();
    let g = head.backward(g, weights, &mut gradients);
    let g = fc.backward(g, weights, &mut gradients);
    backbone_back(layers, &g, weights, &mut gradients);
    (loss, gradients)
}

/// The loss of one step of SimSiam with stop-gradient on both views, one after the other, and all gradients.
fn simsiam(views: &[f32], weights: &mut Tensors) -> (f64, Tensors) {
    let two = groups(&[(views.len() / IMAGE / 2, true); 2]);
    let (layers, x) = backbone(views, &two, weights);
    let linears = projections(x, &two, weights);
    let (loss, mut g) = cosines(&linears[4].out, &linears[2].out);
    let mut gradients = Tensors::new();
    for layer in linears.into_iter().rev() {
        g = layer.backward(g, weights, &mut gradients);
    }
    backbone_back(layers, &g, weights, &mut gradients);
    (loss, gradients)
}

/// SimSiam's projector and predictor.
fn projections(x: Rows, groups: &[Group], weights: &mut Tensors) -> Vec<Linear> {
    let (mut x, mut linears) = (x, vec![]);
    for (name, norm, relu) in [
        ("projector.0", Some("projector.1"), true),
        ("projector.3", Some("projector.4"), true),
        ("projector.6", Some("projector.7"), false),
        ("predictor.0", Some("predictor.1"), true),
        ("predictor.3", None, false),
    ] {
        let layer = Linear::forward(name, norm, relu, None, x, groups, weights);
        x = layer.out.clone();
        linears.push(layer);
    }
    linears
}

/// `torch.optim`'s rules in single precision; `slots` are zeros at first, `vectors` the names of tensors of one dimension.
fn update(
    rule: Rule,
    t: u32,
    weights: &mut Tensors,
    gradients: &Tensors,
    slots: &mut [Tensors; 2],
    vectors: &[String],
) {
    for (name, gradient) in gradients {
        let weight = weights.get_mut(name).unwrap();
        let [first, second] =
            slots.each_mut().map(|slot| slot.entry(name.clone()).or_insert_with(|| vec![0.0; gradient.len()]));
        for (((w, g), m), s) in weight.iter_mut().zip(gradient).zip(first).zip(second) {
            match rule {
                Rule::Sgd { momentum, weight_decay, nesterov, decayed } => {
                    let is_decayed = decayed == Decayed::All || !vectors.contains(name);
                    let g = if is_decayed { g + weight_decay * *w } else { *g };
                    *m = momentum * *m + g;
                    *w -= LR as f32 * if nesterov { g + momentum * *m } else { *m };
                }
                Rule::Adam => {
                    let correction = |beta: f64| 1.0 - libm::pow(beta, t.into());
                    let (rate, root) = ((LR / correction(0.9)) as f32, correction(0.999).sqrt() as f32);
                    *m = 0.9 * *m + (1.0f64 - 0.9) as f32 * g;
                    *s = 0.999 * *s + (1.0f64 - 0.999) as f32 * (g * g);
                    *w -= rate * (*m / (s.sqrt() / root + 1e-8));
                }
            }
        }
    }
}

/// `STEPS` steps of the engine and of the loops, compared after each: loss, weights, and their average.
fn compare(network: &Network, rule: Rule, task: &Task, mut loops: impl FnMut(u32, &mut Tensors) -> (f64, Tensors)) {
    let start = Weights::init(network, 3);
    let mut ours: Tensors = start.arrays.iter().map(|array| (array.name.clone(), array.values.clone())).collect();
    let (mut slots, mut average) = ([Tensors::new(), Tensors::new()], ours.clone());
    let vectors: Vec<String> = network.tensors().filter(|spec| spec.shape.len() == 1).map(|spec| spec.name).collect();
    let mut model = open(&Device::Cpu, network.clone(), start, rule, &State::default()).unwrap();
    model.keep_average(Statistics::Averaged, &State::default()).unwrap();
    for step in 0..STEPS {
        let rates = Rates { average: 0.9, ..LR.into() };
        let loss = task.step(&mut *model, key(step), rates, &mut Default::default()).unwrap();
        let (expected, gradients) = loops(step, &mut ours);
        update(rule, step + 1, &mut ours, &gradients, &mut slots, &vectors);
        for (name, average) in &mut average {
            average.iter_mut().zip(&ours[name]).for_each(|(a, w)| *a += (1.0f64 - 0.9) as f32 * (w - *a));
        }
        assert_eq!(loss.to_bits(), expected.to_bits(), "loss of step {step}");
        for (what, expected) in [("weights", &ours), ("average", &average)] {
            for array in model.weights().unwrap().arrays {
                let differs = |(a, b): (&f32, &f32)| a.to_bits() != b.to_bits();
                let at = array.values.iter().zip(&expected[&array.name]).position(differs);
                let pair = at.map(|at| (at, array.values[at], expected[&array.name][at]));
                assert_eq!(pair, None, "step {step}, {what}, {}", array.name);
            }
            model.exchange_average().unwrap();
        }
    }
}

/// Nine images are two partial sums of the kernel gradients, 66 channels two blocks of a product.
#[test]
fn the_supervised_network_has_the_bits_of_plain_loops() {
    let widths = Widths { channels: [2, 66, 3], hidden: 70, dropout: 0.3, ..Widths::default() };
    let images = noise(9 * IMAGE, 1);
    let labels = [3, 1, 4, 1, 5, 9, 2, 6, 5];
    let task = Task::of_head(&"classification_head", &images, &labels);
    compare(&Network::supervised(&widths), Rule::Adam, &task, |step, weights| {
        supervised(&images, &labels, key(step), 0.3, weights)
    });
}

/// Views of nine images: a partial sum of the kernel gradients has images of both, and so have 17 lanes of a row.
#[test]
fn simsiam_has_the_bits_of_plain_loops() {
    let widths = Widths { channels: [3, 2, 5], projector: 70, predictor: 6, ..Widths::default() };
    let views = noise(18 * IMAGE, 2);
    let halves = [&views[..9 * IMAGE], &views[9 * IMAGE..]];
    let task = Task::Siamese { views: halves, predictor: true, stop_gradient: true };
    let nesterov = Rule::Sgd { momentum: 0.9, weight_decay: 0.1, nesterov: true, decayed: Decayed::Weights };
    for rule in [Rule::sgd(0.9, 5e-4), nesterov] {
        compare(&fewlabel::method::simsiam::network(&widths), rule, &task, |_, weights| simsiam(&views, weights));
    }
}

/// Inputs of any length, one of them in eval mode; an output in the middle of the trunk, one at its end and one behind it, each
/// with a gradient: what the loss gives is added after what comes from behind.
#[test]
fn inputs_in_both_modes_have_the_bits_of_plain_loops() {
    let widths = Widths { channels: [3, 2, 5], projector: 70, predictor: 6, ..Widths::default() };
    let (network, parts) = (fewlabel::method::simsiam::network(&widths), [(4, true), (5, false), (3, true)]);
    let (images, groups) = (noise(12 * IMAGE, 2), groups(&parts));
    let mut start = Weights::init(&network, 3);
    for (i, array) in start.arrays.iter_mut().enumerate() {
        // Statistics as after some training.
        array.values.iter_mut().zip(noise(30_000, i as u32)).for_each(|(v, x)| *v += 0.1 * x.abs());
    }
    let mut ours: Tensors = start.arrays.iter().map(|array| (array.name.clone(), array.values.clone())).collect();

    let (layers, x) = backbone(&images, &groups, &mut ours);
    let linears = projections(x, &groups, &mut ours);
    let given = |index: u32, width: usize| -> Rows {
        let rows = noise(12 * width, index);
        (0..width).map(|f| (0..12).map(|i| rows[i * width + f]).collect()).collect()
    };
    let add = |g: &mut Rows, more: Rows| {
        g.iter_mut().flatten().zip(more.into_iter().flatten()).for_each(|(g, more)| *g += more);
    };
    let (mut expected, mut g) = (Tensors::new(), given(3, 70));
    for (at, layer) in linears.into_iter().enumerate().rev() {
        if at == 2 {
            add(&mut g, given(2, 70));
        }
        g = layer.backward(g, &ours, &mut expected);
    }
    add(&mut g, given(1, 80));
    backbone_back(layers, &g, &ours, &mut expected);

    let rule = Rule::sgd(0.9, 5e-4);
    let mut model = open(&Device::Cpu, network, start, rule, &State::default()).unwrap();
    let part = |group: &Group| &images[group.examples.start * IMAGE..group.examples.end * IMAGE];
    let inputs: Vec<Input> =
        groups.iter().map(|group| Input { values: part(group), train: group.train.then(|| key(0)) }).collect();
    let mut loss = |_: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
        gradients.iter_mut().zip([(1, 80), (2, 70), (3, 70)]).for_each(|(g, (i, width))| *g = noise(12 * width, i));
        Ok(0.0)
    };
    let (_, gradients) = model.gradients(&inputs, &["backbone", "projector", "predictor"], &mut loss).unwrap();
    assert_eq!(gradients.len(), expected.len());
    let same = |a: &[f32], b: &[f32]| a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()));
    for array in gradients {
        assert!(same(&array.values, &expected[&array.name]), "gradient of {}", array.name);
    }
    for array in model.weights().unwrap().arrays {
        assert!(same(&array.values, &ours[&array.name]), "{}", array.name);
    }
}
