//! One suite for both engines: they agree with each other, with numeric derivatives, and with themselves on any number
//! of threads.

#[path = "../common/mod.rs"]
mod common;
mod graphs;
mod shards;

use candle_core::Device;
use common::{Task, noise};
use fewlabel::data::{IMAGE, SIDE};
use fewlabel::engine::{DropoutKey, Engine, Gradients, Input, Rates, cpu, reference};
use fewlabel::network::{Array, Block, Layer, Mode, Network, Probe, Weights, Widths};
use fewlabel::optimizer::{Decayed, Rule, State};
use fewlabel::rng::{Purpose, Stream};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

const KEY: DropoutKey = DropoutKey { seed: 3, epoch: 2, first: 10 };
const SGD: Rule = Rule::sgd(0.9, 5e-4);
const NESTEROV: Rule = Rule::Sgd { momentum: 0.9, weight_decay: 0.1, nesterov: true, decayed: Decayed::Weights };

type Open = fn(Network, Weights, Rule) -> Box<dyn Engine>;

fn open_cpu(network: Network, weights: Weights, rule: Rule) -> Box<dyn Engine> {
    Box::new(cpu::Model::new(network, weights, rule, &State::default()).unwrap())
}

fn open_reference(network: Network, weights: Weights, rule: Rule) -> Box<dyn Engine> {
    Box::new(reference::Model::new(network, &weights, rule, &State::default(), &Device::Cpu).unwrap())
}

const ENGINES: [(&str, Open); 2] = [("cpu", open_cpu), ("reference", open_reference)];

fn labels(n: usize, classes: u32) -> Vec<u16> {
    let mut stream = Stream::new(0, Purpose::Labels, 0, 1);
    (0..n).map(|_| stream.below(classes) as u16).collect()
}

/// A network of `layers` on images, a linear head of 5 classes, and random weights without special values.
fn tiny(layers: &[Layer], features: usize) -> (Network, Weights) {
    let named = |(i, layer): (usize, &Layer)| (format!("body.{i}"), layer.clone());
    let body = Block { name: "body", layers: layers.iter().enumerate().map(named).collect(), frozen: None };
    let linear = Layer::Linear { inputs: features, outputs: 5 };
    let head = Block { name: "head", layers: vec![("head".to_owned(), linear)], frozen: None };
    let network = Network { side: SIDE, trunk: vec![body], heads: vec![head] };
    let weights = disturbed(&network);
    (network, weights)
}

/// Random weights, none of which has a special value.
fn disturbed(network: &Network) -> Weights {
    let mut weights = Weights::init(network, 1);
    for (i, array) in weights.arrays.iter_mut().enumerate().filter(|(_, a)| !a.name.contains("running")) {
        let noise = noise(array.values.len(), i as u32);
        array.values.iter_mut().zip(noise).for_each(|(v, e)| *v += 0.05 * e);
    }
    weights
}

/// Compares the engine's gradient with central differences of the loss, which is summed in double precision, for some
/// values of every parameter. They may differ by `share` of the parameter's largest gradient, plus rounding.
fn check_gradient(open: Open, network: &Network, weights: &Weights, task: &Task, share: f64, what: &str) {
    let run = |weights: &Weights| task.gradients(&mut *open(network.clone(), weights.clone(), SGD), KEY);
    let (_, _, gradients) = run(weights);
    for Array { name, values, .. } in &gradients {
        let largest = values.iter().fold(0.0f64, |m, v| m.max(f64::from(v.abs())));
        // The gradient of a shift before batch norm is zero; those of all weights stand out from rounding.
        assert!(largest > 4e-3 || name.ends_with("bias"), "{what}: {name}: {largest} says nothing");
        let step = (values.len() / 6).max(1);
        for at in (0..values.len()).step_by(step) {
            const EPS: f32 = 5e-4;
            let loss = |sign: f32| {
                let mut moved = weights.clone();
                let array = moved.arrays.iter_mut().find(|array| array.name == *name).unwrap();
                array.values[at] += sign * EPS;
                run(&moved).0
            };
            let numeric = (loss(1.0) - loss(-1.0)) / (2.0 * f64::from(EPS));
            let error = (numeric - f64::from(values[at])).abs();
            assert!(error <= share * largest + 5e-4, "{what}: {name}[{at}]: {} is not {numeric}", values[at]);
        }
    }
    assert!(!gradients.is_empty(), "{what}");
}

#[test]
fn every_layer_has_the_gradient_of_its_function() {
    let conv = |inputs, outputs| Layer::conv3x3(inputs, outputs);
    let norm = |channels| Layer::BatchNorm { channels };
    let linear = |inputs, outputs| Layer::Linear { inputs, outputs };
    let cases: [(&str, Vec<Layer>, usize); 7] = [
        ("linear", vec![Layer::Flatten, linear(IMAGE, 6)], 6),
        ("conv", vec![conv(3, 2), conv(2, 2), Layer::Flatten], 2048),
        ("batch norm of channels", vec![conv(3, 2), norm(2), conv(2, 2), Layer::Flatten], 2048),
        ("batch norm of features", vec![Layer::Flatten, linear(IMAGE, 6), norm(6), linear(6, 6)], 6),
        ("relu", vec![Layer::Flatten, linear(IMAGE, 6), Layer::Relu, linear(6, 6)], 6),
        ("max-pool", vec![conv(3, 2), Layer::MaxPool2, conv(2, 2), Layer::MaxPool2, Layer::Flatten], 128),
        ("dropout", vec![Layer::Flatten, linear(IMAGE, 6), Layer::Dropout { p: 0.3 }, linear(6, 6)], 6),
    ];
    let images = noise(4 * IMAGE, 7);
    let labels = labels(4, 5);
    let task = Task::of_head(&"head", &images, &labels);
    for (engine, open) in ENGINES {
        for (layer, layers, features) in &cases {
            let (network, weights) = tiny(layers, *features);
            check_gradient(open, &network, &weights, &task, 0.02, &format!("{engine}, {layer}"));
        }
    }
}

/// candle's own max-pooling gives the maximum of a window a quarter of its gradient, and shares it among ties.
#[test]
fn max_pool_gives_the_whole_gradient_to_the_first_maximum() {
    let layers = [Layer::conv3x3(3, 1), Layer::MaxPool2, Layer::Flatten];
    for (engine, open) in ENGINES {
        let (network, mut weights) = tiny(&layers, 256);
        // The convolution copies the red channel, and the head sums the results.
        weights.arrays[0].values.fill(0.0);
        weights.arrays[0].values[4] = 1.0;
        weights.arrays[1].values.fill(0.0);
        let mut images = vec![0.0; IMAGE];
        images[..2].copy_from_slice(&[1.0, 2.0]);
        images[32..34].copy_from_slice(&[3.0, 4.0]);
        let labels = [0];
        let task = Task::of_head(&"head", &images, &labels);
        let (_, outputs, gradients) = task.gradients(&mut *open(network, weights.clone(), SGD), KEY);
        // ∂L/∂logits = softmax − one-hot; ∂L/∂(pooled 0) = Σ over classes of that times the head's weight.
        #[allow(clippy::disallowed_methods, reason = "an oracle with a tolerance")]
        let exps: Vec<f64> = outputs[0].iter().map(|&x| f64::from(x).exp()).collect();
        let head = &weights.get("head.weight").unwrap().values;
        let hot = |class: usize| f64::from(u8::from(class == 0));
        let through = |pooled: usize| -> f64 {
            let share = |class: usize| exps[class] / exps.iter().sum::<f64>() - hot(class);
            (0..5).map(|class| share(class) * f64::from(head[class * 256 + pooled])).sum()
        };
        // The centre tap sees the maximum, 4, of window 0, and zeros elsewhere: 4 times its gradient, whole.
        let centre = f64::from(gradients[0].values[4]);
        assert!((centre - 4.0 * through(0)).abs() < 1e-6, "{engine}: {centre} is not {}", 4.0 * through(0));
        // The tap to the upper left of the centre sees 1 at the pixel (1, 1), where window 0 has its maximum.
        let corner = f64::from(gradients[0].values[0]);
        // In every window of zeros the first pixel wins. Only those of the windows to the right and below, (0, 2),
        // (2, 0) and (2, 2), have any of the four values in their neighbourhood.
        let expected = through(0) + 4.0 * through(17);
        assert!((corner - expected).abs() < 1e-6, "{engine}: {corner} is not {expected}");
    }
}

fn simsiam() -> (Network, Weights) {
    let widths = Widths { channels: [4, 4, 4], projector: 16, predictor: 8, ..Widths::default() };
    let network = fewlabel::method::simsiam::network(&widths);
    let weights = Weights::init(&network, 5);
    (network, weights)
}

#[test]
fn without_stop_gradient_the_gradient_is_the_full_derivative() {
    let (network, weights) = simsiam();
    let views = [noise(6 * IMAGE, 1), noise(6 * IMAGE, 2)];
    let task = Task::Siamese { views: [&views[0], &views[1]], predictor: true, stop_gradient: false };
    for (engine, open) in ENGINES {
        // Batch norm over few rows is strongly curved, and rounding shows where it is steep.
        check_gradient(open, &network, &weights, &task, 0.05, engine);
    }
}

#[test]
fn no_gradient_reaches_the_branch_of_z() {
    let (network, mut weights) = simsiam();
    // p is the predictor's last bias for any input: a gradient could reach the trunk only through z.
    let last = weights.arrays.iter_mut().find(|array| array.name == "predictor.3.weight").unwrap();
    last.values.fill(0.0);
    let views = [noise(6 * IMAGE, 1), noise(6 * IMAGE, 2)];
    for (engine, open) in ENGINES {
        let trunk_gradient = |stop_gradient: bool| -> f32 {
            let task = Task::Siamese { views: [&views[0], &views[1]], predictor: true, stop_gradient };
            let (_, _, gradients) = task.gradients(&mut *open(network.clone(), weights.clone(), SGD), KEY);
            let trunk = gradients.iter().filter(|array| !array.name.starts_with("predictor"));
            largest(trunk.flat_map(|array| &array.values).copied())
        };
        assert_eq!(trunk_gradient(true), 0.0, "{engine}");
        assert!(trunk_gradient(false) > 1e-4, "{engine}");
    }
}

/// The largest magnitude; NaN if any value is NaN.
fn largest(values: impl Iterator<Item = f32>) -> f32 {
    values.map(f32::abs).fold(0.0, |a, b| if a > b || a.is_nan() { a } else { b })
}

/// Some convolutions, each with or without batch norm, ReLU and pooling, then linear layers, each with or without batch
/// norm, ReLU and dropout; and the width of the output.
fn stack(convs: &[(usize, [bool; 3])], linears: &[(usize, [bool; 3])]) -> (Vec<Layer>, usize) {
    let (mut layers, mut channels, mut side) = (vec![], 3, 32);
    for &(outputs, [norm, relu, pool]) in convs {
        layers.push(Layer::conv3x3(channels, outputs));
        layers.extend(norm.then_some(Layer::BatchNorm { channels: outputs }));
        layers.extend(relu.then_some(Layer::Relu));
        layers.extend(pool.then_some(Layer::MaxPool2));
        (channels, side) = (outputs, if pool { side / 2 } else { side });
    }
    layers.push(Layer::Flatten);
    let mut features = channels * side * side;
    for &(outputs, [norm, relu, dropout]) in linears {
        layers.push(Layer::Linear { inputs: features, outputs });
        layers.extend(norm.then_some(Layer::BatchNorm { channels: outputs }));
        layers.extend(relu.then_some(Layer::Relu));
        layers.extend(dropout.then_some(Layer::Dropout { p: 0.4 }));
        features = outputs;
    }
    (layers, features)
}

/// Every difference is at most `share` of the largest value of its tensor, plus `floor`.
fn assert_close(a: &Gradients, b: &Gradients, share: f32, floor: f32) {
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(b) {
        assert_eq!((&a.name, &a.shape), (&b.name, &b.shape));
        let largest_b = largest(b.values.iter().copied());
        let worst = largest(a.values.iter().zip(&b.values).map(|(x, y)| x - y));
        assert!(worst <= share * largest_b + floor, "{}: {worst} of {largest_b}", a.name);
    }
}

proptest! {
    // The same cases every time: a value very near 0 or its neighbour occasionally sends the engines down different
    // branches, and no tolerance allows for that.
    #![proptest_config(ProptestConfig { cases: 32, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    /// Layers of any width, with and without each layer that may follow, on batches of any size.
    #[test]
    fn engines_agree_on_every_layer(
        convs in proptest::collection::vec((1usize..36, any::<[bool; 3]>()), 0..4),
        linears in proptest::collection::vec((1usize..70, any::<[bool; 3]>()), 0..3),
        n in 3usize..11,
    ) {
        let (layers, features) = stack(&convs, &linears);
        let (network, weights) = tiny(&layers, features);
        let (images, labels) = (noise(n * IMAGE, 6), labels(n, 5));
        let task = Task::of_head(&"head", &images, &labels);
        let [ours, theirs] = ENGINES.map(|(_, open)| {
            let mut model = open(network.clone(), weights.clone(), SGD);
            let (loss, _, gradients) = task.gradients(&mut *model, KEY);
            (loss, gradients, model.weights().unwrap().arrays)
        });
        prop_assert!((ours.0 - theirs.0).abs() < 1e-4);
        let floor = largest(theirs.1.iter().flat_map(|a| &a.values).copied()) * 1e-3;
        assert_close(&ours.1, &theirs.1, 5e-3, floor);
        // Running statistics.
        assert_close(&ours.2, &theirs.2, 1e-3, 1e-4);
    }

    /// Every network, of any width, in each of its modes, on batches of any size: after one step both engines have the
    /// same outputs, gradients, weights and running statistics up to rounding, and then the same predictions and
    /// features. By SGD: Adam's first step is ±lr, even where the gradient is rounding of either sign; the parity tests
    /// cover Adam.
    #[test]
    fn engines_agree_on_every_network(
        channels in [1usize..12, 1..12, 1..12], hidden in 1usize..40, projector in 2usize..40,
        predictor in 1usize..20, n in 1usize..11, which in 0usize..8, stop_gradient: bool, head_rate in 0.001f64..0.03,
    ) {
        // Batch norm over any two examples gives ±1: SimSiam's gradients are then nothing but rounding.
        let n = if which >= 6 { n.max(3) } else { n };
        let widths = Widths { channels, hidden, projector, predictor, ..Widths::default() };
        let views = [noise(n * IMAGE, 3), noise(n * IMAGE, 4)];
        let labels = labels(n, 3);
        let (network, heads): (Network, &[&'static str]) = match which {
            0 => (Network::supervised(&widths), &["classification_head"]),
            1 => (Network::pretext(&widths), &["rotation_head", "shear_head", "color_head"]),
            2 => (Network::probe(&widths, Probe::Mlp, Mode::Train), &["classifier"]),
            3 => (Network::probe(&widths, Probe::Mlp, Mode::Eval), &["classifier"]),
            4 => (Network::probe(&widths, Probe::Linear, Mode::Train), &["classifier"]),
            5 => (Network::probe(&widths, Probe::Linear, Mode::Eval).without_trunk(), &["classifier"]),
            6 => (Network { heads: vec![], ..fewlabel::method::simsiam::network(&widths) }, &[]),
            _ => (fewlabel::method::simsiam::network(&widths), &[]),
        };
        // Without a trunk the input is features.
        let input = if which == 5 { noise(n * widths.features(), 5) } else { views[0].clone() };
        let task = match heads.is_empty() {
            true => Task::Siamese { views: [&views[0], &views[1]], predictor: which == 7, stop_gradient },
            false => Task::Classify { images: &input, heads, labels: vec![&labels[..]; heads.len()] },
        };
        let weights = Weights::init(&network, 9);
        let [ours, theirs] = ENGINES.map(|(_, open)| {
            let rule = if stop_gradient { SGD } else { NESTEROV };
            let mut model = open(network.clone(), weights.clone(), rule);
            let (loss, outputs, gradients) = task.gradients(&mut *model, KEY);
            task.step(&mut *model, KEY, Rates { heads: head_rate, ..Rates::from(0.01) }, &mut Default::default()).unwrap();
            let mut names = heads.to_vec();
            names.extend((which != 5).then_some("backbone"));
            let seen = model.forward(&[Input::eval(&input)], &names).unwrap().to_vec();
            let named = |(i, values): (usize, Vec<f32>)| Array { name: i.to_string(), shape: vec![values.len()], values };
            let [outputs, seen] =
                [outputs, seen].map(|all| -> Vec<Array> { all.into_iter().enumerate().map(named).collect() });
            (loss, gradients, model.weights().unwrap().arrays, outputs, seen)
        });
        prop_assert!((ours.0 - theirs.0).abs() < 1e-4);
        let floor = largest(theirs.1.iter().flat_map(|a| &a.values).copied()) * 1e-3;
        assert_close(&ours.1, &theirs.1, 5e-3, floor);
        assert_close(&ours.2, &theirs.2, 1e-3, 1e-4);
        assert_close(&ours.3, &theirs.3, 1e-3, 1e-4);
        assert_close(&ours.4, &theirs.4, 5e-3, 1e-3);
    }
}

/// The contract: bits do not depend on the number of threads.
#[test]
fn any_number_of_threads_gives_the_same_weights() {
    let widths = Widths { channels: [5, 6, 7], hidden: 33, projector: 40, predictor: 9, ..Widths::default() };
    let views = [noise(19 * IMAGE, 3), noise(19 * IMAGE, 4)];
    let labels = labels(19, 10);
    same_on_any_number_of_threads(|| {
        let supervised = Task::of_head(&"classification_head", &views[0], &labels);
        let simsiam = Task::Siamese { views: [&views[0], &views[1]], predictor: true, stop_gradient: true };
        vec![
            trained(&Network::supervised(&widths), &supervised, Rule::Adam),
            trained(&fewlabel::method::simsiam::network(&widths), &simsiam, SGD),
        ]
    });
}

/// SHA-256 of the weights after four steps of the CPU engine.
fn trained(network: &Network, task: &Task, rule: Rule) -> String {
    let mut model = open_cpu(network.clone(), Weights::init(network, 2), rule);
    for _ in 0..4 {
        task.step(&mut *model, KEY, 0.01.into(), &mut Default::default()).unwrap();
    }
    model.weights().unwrap().sha256()
}

/// `train` gives the same on 1, 2, 3 and 8 threads.
fn same_on_any_number_of_threads(train: impl Fn() -> Vec<String> + Sync) {
    let on = |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(&train);
    let one = on(1);
    for threads in [2, 3, 8] {
        assert_eq!(on(threads), one, "{threads} threads");
    }
}

/// Two steps, a new engine with the first one's weights and state, and two more steps equal four in a row: that is all
/// that a checkpoint needs.
#[test]
fn weights_and_state_are_all_there_is_to_resume_from() {
    type Resume = fn(Network, Weights, Rule, &State) -> Box<dyn Engine>;
    let engines: [(&str, Resume); 2] = [
        ("cpu", |network, weights, rule, state| Box::new(cpu::Model::new(network, weights, rule, state).unwrap())),
        ("reference", |network, weights, rule, state| {
            Box::new(reference::Model::new(network, &weights, rule, state, &Device::Cpu).unwrap())
        }),
    ];
    let widths = Widths { channels: [3, 4, 5], hidden: 9, ..Widths::default() };
    let (images, labels) = (noise(6 * IMAGE, 3), labels(6, 10));
    let task = Task::of_head(&"classification_head", &images, &labels);
    let network = Network::supervised(&widths);
    let weights = Weights::init(&network, 2);
    for (engine, open) in engines {
        for rule in [Rule::Adam, SGD, NESTEROV] {
            let steps = |model: &mut dyn Engine, first: u32, n: u32| {
                for step in first..first + n {
                    task.step(model, DropoutKey { epoch: step, ..KEY }, 0.01.into(), &mut Default::default()).unwrap();
                }
            };
            let mut whole = open(network.clone(), weights.clone(), rule, &State::default());
            steps(&mut *whole, 0, 4);
            let mut first = open(network.clone(), weights.clone(), rule, &State::default());
            steps(&mut *first, 0, 2);
            let state = first.state().unwrap();
            let mut second = open(network.clone(), first.weights().unwrap(), rule, &state);
            assert_eq!(second.state().unwrap(), state, "{engine}, {rule:?}");
            steps(&mut *second, 2, 2);
            assert_eq!(second.weights().unwrap(), whole.weights().unwrap(), "{engine}, {rule:?}");
            assert_eq!(second.state().unwrap(), whole.state().unwrap(), "{engine}, {rule:?}");
        }
    }
}

#[test]
fn a_batch_that_does_not_fit_is_an_error_and_moves_no_parameter() {
    let network = Network::supervised(&Widths { channels: [2, 3, 4], hidden: 5, ..Widths::default() });
    let weights = Weights::init(&network, 0);
    let mut model = open_cpu(network, weights.clone(), Rule::Adam);
    let images = noise(2 * IMAGE, 0);
    let train = |values| Input::train(values, KEY);
    const HEAD: &str = "classification_head";
    let mut refused = |inputs: &[Input], outputs: &[&str], gradient: usize, expected: &str| {
        let mut loss = |_: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
            gradients[0].resize(gradient, 1.0);
            Ok(0.0)
        };
        let error = model.step(inputs, outputs, &mut loss, 0.1.into()).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        let moved = model.weights().unwrap();
        let is_parameter = |array: &&Array| !array.name.contains("running") || gradient == 0;
        assert!(moved.arrays.iter().filter(is_parameter).eq(weights.arrays.iter().filter(is_parameter)), "{expected}");
        assert!(model.state().unwrap() == State::default(), "{expected}");
    };
    refused(&[train(&images)], &["classifier"], 0, "no block classifier");
    refused(&[train(&images)], &[HEAD, HEAD], 0, "classification_head is asked for twice");
    refused(&[train(&images), train(&images[1..])], &[HEAD], 0, "an input of 6143 values");
    refused(&[train(&[])], &[HEAD], 0, "an input of 0 values");
    refused(&[], &[HEAD], 0, "a pass without inputs");
    refused(&[Input::eval(&images)], &[HEAD], 0, "all inputs are in eval mode");
    refused(&[train(&images)], &[HEAD], 19, "classification_head: a gradient of 19 values for an output of 20");
    assert!(model.forward(&[Input::eval(&images[5..])], &[HEAD]).is_err());
    assert!(model.forward(&[Input::eval(&images)], &["backbone", "fc", HEAD]).is_ok());
}
