//! What a pass may consist of: any number of inputs of any length, in train and in eval mode, and any outputs, with a gradient
//! or constant. Both engines agree, and the gradient is that of the function.

mod common;

use candle_core::Device;
use common::noise;
use fewlabel::data::IMAGE;
use fewlabel::engine::{DropoutKey, Engine, Gradients, Input, cpu, reference};
use fewlabel::network::{Array, Block, Layer, Network, Weights, Widths};
use fewlabel::optimizer::{Rule, State};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const RULE: Rule = Rule::sgd(0.9, 5e-4);
const OUTPUTS: [&str; 4] = ["backbone", "projector", "predictor", "second"];

fn engines(network: &Network, weights: &Weights) -> [Box<dyn Engine>; 2] {
    let state = State::default();
    [
        Box::new(cpu::Model::new(network.clone(), weights.clone(), RULE, &state).unwrap()),
        Box::new(reference::Model::new(network.clone(), weights, RULE, &state, &Device::Cpu).unwrap()),
    ]
}

/// SimSiam's network with a second head, which has dropout.
fn network() -> (Network, Weights) {
    let widths = Widths { channels: [4, 5, 6], projector: 12, predictor: 7, ..Widths::default() };
    let mut network = fewlabel::method::simsiam::network(&widths);
    let layers = [Layer::Linear { inputs: 12, outputs: 9 }, Layer::Relu, Layer::Dropout { p: 0.4 }];
    let layers = layers.map(|layer| ("second".to_owned(), layer)).to_vec();
    network.heads.push(Block { name: "second", layers, frozen: None });
    let mut weights = Weights::init(&network, 5);
    // As after some training: no statistic is 0 or 1.
    for (i, array) in weights.arrays.iter_mut().enumerate() {
        let moved = array.values.iter_mut().zip(noise(20_000, i as u32).into_iter().cycle());
        moved.for_each(|(v, x)| *v += 0.1 * x.abs());
    }
    (network, weights)
}

/// The images of one pass: the number of each input's examples, and whether it is in train mode.
struct Images(Vec<(Vec<f32>, bool)>);

impl Images {
    fn new(inputs: &[(usize, bool)]) -> Images {
        let images = |(i, &(n, train)): (usize, &(usize, bool))| (noise(n * IMAGE, 50 + i as u32), train);
        Images(inputs.iter().enumerate().map(images).collect())
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let key = |i: usize| DropoutKey { seed: 3, epoch: 2, first: 100 * i as u32 };
        let images = self.0.iter().enumerate();
        images.map(|(i, (values, train))| Input { values, train: train.then(|| key(i)) }).collect()
    }
}

/// Σ over the outputs that learn of their values times fixed ones.
fn weighted(learns: &[bool]) -> impl FnMut(&[Vec<f32>], &mut [Vec<f32>]) -> fewlabel::Result<f64> {
    let learns = learns.to_vec();
    move |outputs, gradients| {
        let mut sum = 0.0;
        for (i, (values, gradient)) in outputs.iter().zip(gradients).enumerate().filter(|(i, _)| learns[*i]) {
            *gradient = noise(values.len(), 90 + i as u32);
            sum += values.iter().zip(&*gradient).map(|(v, g)| f64::from(*v) * f64::from(*g)).sum::<f64>();
        }
        Ok(sum)
    }
}

fn assert_close(a: &Gradients, b: &Gradients, share: f32, floor: f32) {
    let largest = |values: &mut dyn Iterator<Item = f32>| values.map(f32::abs).fold(0.0f32, f32::max);
    assert_eq!(a.len(), b.len());
    let all = largest(&mut b.iter().flat_map(|array| array.values.iter().copied()));
    for (a, b) in a.iter().zip(b) {
        assert_eq!((&a.name, &a.shape), (&b.name, &b.shape));
        let own = largest(&mut b.values.iter().copied());
        let worst = largest(&mut a.values.iter().zip(&b.values).map(|(x, y)| x - y));
        assert!(worst <= share * own + floor * all, "{}: {worst} of {own}, {all}", a.name);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn engines_agree_on_every_pass(
        inputs in proptest::collection::vec((3usize..8, any::<bool>()), 1..4),
        learns in any::<[bool; 4]>(),
        asked in proptest::sample::subsequence(vec![0usize, 1, 2, 3], 1..5),
    ) {
        let mut inputs = inputs;
        inputs[0].1 = true;
        let (network, weights) = network();
        let outputs: Vec<&str> = asked.iter().map(|&i| OUTPUTS[i]).collect();
        let images = Images::new(&inputs);
        let [ours, theirs] = engines(&network, &weights).map(|mut model| {
            let (loss, gradients) = model.gradients(&images.inputs(), &outputs, &mut weighted(&learns)).unwrap();
            let after = model.weights().unwrap().arrays;
            let seen = model.forward(&images.inputs(), &outputs).unwrap().to_vec();
            let named = |(i, values): (usize, Vec<f32>)| Array { name: i.to_string(), shape: vec![values.len()], values };
            (loss, gradients, after, seen.into_iter().enumerate().map(named).collect::<Vec<_>>())
        });
        prop_assert!((ours.0 - theirs.0).abs() < 1e-3 * (1.0 + theirs.0.abs()), "{} {}", ours.0, theirs.0);
        assert_close(&ours.1, &theirs.1, 5e-3, 2e-3);
        assert_close(&ours.2, &theirs.2, 1e-3, 1e-4);
        assert_close(&ours.3, &theirs.3, 1e-3, 1e-4);
    }
}

/// Of an input in eval mode too, whose statistics do not depend on it.
#[test]
fn the_gradient_is_that_of_the_function() {
    let (network, weights) = network();
    let images = Images::new(&[(5, true), (4, false), (6, true)]);
    let run = |weights: &Weights, which: usize| {
        let mut model = engines(&network, weights).into_iter().nth(which).unwrap();
        model.gradients(&images.inputs(), &OUTPUTS, &mut weighted(&[true; 4])).unwrap()
    };
    for (which, engine) in ["cpu", "reference"].into_iter().enumerate() {
        for Array { name, values, .. } in &run(&weights, which).1 {
            let largest = values.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
            for at in (0..values.len()).step_by(values.len().div_ceil(4)) {
                const EPS: f32 = 1e-3;
                let loss = |sign: f32| {
                    let mut moved = weights.clone();
                    moved.arrays.iter_mut().find(|array| array.name == *name).unwrap().values[at] += sign * EPS;
                    run(&moved, which).0
                };
                let numeric = (loss(1.0) - loss(-1.0)) / (2.0 * f64::from(EPS));
                let error = (numeric - f64::from(values[at])).abs();
                assert!(error <= 0.05 * largest + 0.1, "{engine}: {name}[{at}]: {} is not {numeric}", values[at]);
            }
        }
    }
}

/// A batch of its own is what it would be alone, but for the running statistics; an output that is asked for or left out
/// changes no other.
#[test]
fn inputs_and_outputs_do_not_touch_each_other() {
    let (network, weights) = network();
    let images = Images::new(&[(5, true), (4, false), (7, true)]);
    let inputs = images.inputs();
    let outputs = |inputs: &[Input], names: &[&str]| {
        let [mut model, _] = engines(&network, &weights);
        model.forward(inputs, names).unwrap().to_vec()
    };
    let all = outputs(&inputs, &OUTPUTS);
    for (i, name) in OUTPUTS.iter().enumerate() {
        assert!(outputs(&inputs, &[name])[0] == all[i], "{name}");
        let apart: Vec<f32> = inputs.iter().flat_map(|input| outputs(&[*input], &[name]).remove(0)).collect();
        assert!(apart == all[i], "{name}");
    }
}

/// All constant: nothing learns, but the running statistics move.
#[test]
fn constants_get_no_gradient() {
    let (network, weights) = network();
    let images = Images::new(&[(4, true)]);
    for mut model in engines(&network, &weights) {
        let (loss, gradients) = model.gradients(&images.inputs(), &OUTPUTS, &mut weighted(&[false; 4])).unwrap();
        assert_eq!((loss, gradients.len()), (0.0, 0));
        let one = model.gradients(&images.inputs(), &OUTPUTS, &mut weighted(&[true, false, false, false])).unwrap().1;
        assert!(!one.is_empty() && one.iter().all(|array| array.name.starts_with("backbone")));
    }
}
