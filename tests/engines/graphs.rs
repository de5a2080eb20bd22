//! Networks that are no line of the study's layers: convolutions of every kind, residual sums, images of any side.

use fewlabel::data::CHANNELS;
use fewlabel::network::{Layers, Shape, backbone};

use super::*;

/// Layers on images of that side, and a linear head of 5 classes.
fn network(side: usize, layers: Layers) -> Network {
    let body = Block { name: "body", layers, frozen: None };
    let Ok(Shape::Features(features)) = body.output(Shape::Images { channels: CHANNELS, side }) else {
        panic!("{:?}", body.output(Shape::Images { channels: CHANNELS, side }));
    };
    Network { side, trunk: vec![body], heads: vec![Block::linear("head", features, 5, &[])] }
}

fn conv(inputs: usize, outputs: usize, [kernel, stride]: [usize; 2]) -> Layer {
    Layer::Conv { inputs, outputs, kernel, stride, bias: false }
}

fn named(layers: Vec<Layer>) -> Layers {
    layers.into_iter().enumerate().map(|(i, layer)| (format!("body.{i}"), layer)).collect()
}

fn basic(number: usize, inputs: usize, outputs: usize, stride: usize) -> (String, Layer) {
    (String::new(), backbone::basic_block(|layer| format!("block{number}{layer}"), inputs, outputs, stride))
}

#[test]
fn every_kind_of_layer_has_the_gradient_of_its_function() {
    let norm = |channels| Layer::BatchNorm { channels };
    let shortcut = |layers: Vec<Layer>| layers.into_iter().map(|layer| ("cut".to_owned(), layer)).collect();
    let body = vec![("into".to_owned(), conv(2, 2, [3, 2]))];
    let cases: [(&str, usize, Vec<Layer>); 8] = [
        ("1×1", 8, vec![conv(3, 4, [1, 1]), conv(4, 2, [1, 1]), Layer::Flatten]),
        ("1×1, stride 2", 8, vec![conv(3, 4, [1, 2]), conv(4, 2, [1, 2]), Layer::Flatten]),
        ("3×3, stride 2", 8, vec![conv(3, 4, [3, 2]), conv(4, 2, [3, 2]), Layer::Flatten]),
        ("3×3 on an odd side", 6, vec![conv(3, 4, [3, 2]), conv(4, 2, [3, 1]), Layer::Flatten]),
        ("pooling of an odd side", 6, vec![conv(3, 4, [3, 2]), norm(4), Layer::MaxPool2, Layer::Flatten]),
        ("mean", 8, vec![conv(3, 4, [3, 1]), Layer::MeanPool]),
        (
            "identity",
            8,
            vec![
                conv(3, 2, [3, 2]),
                Layer::Residual { body: named(vec![conv(2, 2, [3, 1])]), shortcut: vec![] },
                Layer::Flatten,
            ],
        ),
        (
            "shortcut",
            8,
            vec![
                conv(3, 2, [3, 1]),
                Layer::Residual { body, shortcut: shortcut(vec![conv(2, 2, [1, 2])]) },
                Layer::Relu,
                Layer::Flatten,
            ],
        ),
    ];
    for (engine, open) in ENGINES {
        for (layer, side, layers) in &cases {
            let layers = layers.iter().enumerate().map(|(i, layer)| (format!("layer{i}"), layer.clone())).collect();
            let (network, labels) = (network(*side, layers), labels(4, 5));
            let images = noise(4 * network.input_len(), 7);
            let task = Task::of_head(&"head", &images, &labels);
            check_gradient(open, &network, &disturbed(&network), &task, 0.02, &format!("{engine}, {layer}"));
        }
    }
}

/// What a [`graph`] is made of.
#[derive(Clone, Debug)]
struct Part {
    outputs: usize,
    /// A basic block, or else a convolution.
    residual: bool,
    kernel: usize,
    stride: usize,
    /// Batch norm, ReLU, pooling, bias of a convolution.
    with: [bool; 4],
}

fn part() -> impl Strategy<Value = Part> {
    let kernel = prop_oneof![Just(1usize), Just(3)];
    (2usize..36, any::<bool>(), kernel, 1usize..3, any::<[bool; 4]>())
        .prop_map(|(outputs, residual, kernel, stride, with)| Part { outputs, residual, kernel, stride, with })
}

/// A stem, the parts, and the mean over the pixels or all of them.
fn graph(parts: &[Part], mut side: usize, mean: bool) -> Layers {
    let (mut layers, mut channels) = (Layers::new(), CHANNELS);
    for (at, part) in parts.iter().enumerate() {
        let &Part { outputs, residual, kernel, stride, with: [norm, relu, pool, bias] } = part;
        let mut push = |name: &str, layer| layers.push((format!("part{at}.{name}"), layer));
        // Batch norm over few values is strongly curved, and rounding shows where it is steep.
        let (stride, pool) = if side > 5 { (stride, pool) } else { (1, false) };
        side = side.div_ceil(stride);
        if residual && at > 0 {
            layers.push(basic(at, channels, outputs, stride));
            layers.extend(relu.then(|| (String::new(), Layer::Relu)));
        } else {
            push("conv", Layer::Conv { inputs: channels, outputs, kernel, stride, bias });
            if norm {
                push("norm", Layer::BatchNorm { channels: outputs });
            }
            layers.extend(relu.then(|| (String::new(), Layer::Relu)));
            if pool && side > 5 {
                layers.push((String::new(), Layer::MaxPool2));
                side /= 2;
            }
        }
        channels = outputs;
    }
    layers.push((String::new(), if mean { Layer::MeanPool } else { Layer::Flatten }));
    layers
}

proptest! {
    // As in the other tests of agreement: the same cases every time.
    #![proptest_config(ProptestConfig { cases: 48, rng_seed: RngSeed::Fixed(1), ..ProptestConfig::default() })]

    #[test]
    fn engines_agree_on_every_graph(
        parts in proptest::collection::vec(part(), 1..6), half in 2usize..13, mean: bool, n in 5usize..11,
    ) {
        let network = network(2 * half, graph(&parts, 2 * half, mean));
        let (weights, labels) = (disturbed(&network), labels(n, 5));
        let images = noise(n * network.input_len(), 6);
        let task = Task::of_head(&"head", &images, &labels);
        let [ours, theirs] = ENGINES.map(|(_, open)| {
            let mut model = open(network.clone(), weights.clone(), SGD);
            let (loss, _, gradients) = task.gradients(&mut *model, KEY);
            let seen = model.forward(&[Input::eval(&images)], &["body", "head"]).unwrap().concat();
            let seen = vec![Array { name: "seen".to_owned(), shape: vec![seen.len()], values: seen }];
            (loss, gradients, model.weights().unwrap().arrays, seen)
        });
        prop_assert!((ours.0 - theirs.0).abs() < 1e-4, "{} and {}", ours.0, theirs.0);
        let floor = largest(theirs.1.iter().flat_map(|a| &a.values).copied()) * 1e-3;
        assert_close(&ours.1, &theirs.1, 5e-3, floor);
        assert_close(&ours.2, &theirs.2, 1e-3, 1e-4);
        assert_close(&ours.3, &theirs.3, 1e-3, 1e-4);
    }
}

/// The contract: bits do not depend on the number of threads.
#[test]
fn any_number_of_threads_trains_a_residual_network_to_the_same_weights() {
    let network = network(20, backbone::resnet(2, 9));
    let (images, labels) = (noise(19 * network.input_len(), 3), labels(19, 5));
    let task = Task::of_head(&"head", &images, &labels);
    same_on_any_number_of_threads(|| vec![trained(&network, &task, SGD)]);
}

/// A frozen first layer gets no gradient, and the rest the same as behind one that learns.
#[test]
fn a_frozen_first_layer_changes_no_other_gradient() {
    let whole = network(8, backbone::plain(&[backbone::Step::Conv(5), backbone::Step::Conv(6), backbone::Step::Pool]));
    let mut layers = whole.trunk[0].layers.clone();
    let rest = layers.split_off(3);
    let (weights, labels) = (disturbed(&whole), labels(6, 5));
    let images = noise(6 * whole.input_len(), 6);
    let task = Task::of_head(&"head", &images, &labels);
    for (engine, open) in ENGINES {
        let stem = Block { name: "stem", layers: layers.clone(), frozen: Some(Mode::Train) };
        let body = Block { name: "body", layers: rest.clone(), frozen: None };
        let frozen = Network { trunk: vec![stem, body], ..whole.clone() };
        let [all, some] = [&whole, &frozen].map(|network| {
            let mut model = open(network.clone(), weights.clone(), SGD);
            let (_, _, gradients) = task.gradients(&mut *model, KEY);
            (gradients, model.weights().unwrap())
        });
        assert_eq!(all.1, some.1, "{engine}: running statistics");
        assert_eq!(all.0[3..], some.0[..], "{engine}");
        assert_eq!(all.0[2].name, "backbone.1.bias");
        let mut eval = frozen.clone();
        eval.trunk[0].frozen = Some(Mode::Eval);
        let mut model = open(eval, weights.clone(), SGD);
        let (_, _, gradients) = task.gradients(&mut *model, KEY);
        assert_eq!(gradients.len(), some.0.len());
        let moved = model.weights().unwrap();
        assert_eq!(moved.arrays[..5], weights.arrays[..5], "{engine}: the first layer's statistics");
        assert_ne!(moved.arrays[5..], weights.arrays[5..], "{engine}: the second's");
    }
}

#[test]
fn layers_in_an_order_that_the_engine_does_not_know_are_refused() {
    let refused = |layers: Vec<Layer>, expected: &str| {
        let body = Block { name: "body", layers: named(layers), frozen: None };
        let network = Network { side: 8, trunk: vec![body], heads: vec![] };
        let weights = Weights::init(&network, 0);
        let error = cpu::Model::new(network, weights, SGD, &State::default()).err().expect(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    let (first, norm) = (conv(3, 4, [3, 1]), Layer::BatchNorm { channels: 4 });
    let residual =
        |body: Vec<Layer>, shortcut: Vec<Layer>| Layer::Residual { body: named(body), shortcut: named(shortcut) };
    let inner = conv(4, 4, [3, 1]);
    refused(vec![first.clone()], "ends in features, not in 4 × 8 × 8 values");
    refused(vec![first.clone(), Layer::Relu, norm.clone()], "body.2: BatchNorm { channels: 4 } cannot stand here");
    refused(
        vec![first.clone(), conv(5, 4, [3, 1])],
        "body.1: Conv { inputs: 5, outputs: 4, kernel: 3, stride: 1, bias: false } does not take 4 × 8 × 8 values",
    );
    refused(vec![conv(3, 4, [5, 1])], "has kernels of side 5 and stride 1: 1 or 3, and 1 or 2");
    refused(vec![residual(vec![first.clone()], vec![])], "a residual must follow a convolution");
    refused(vec![first.clone(), residual(vec![], vec![])], "must end in a convolution, perhaps with a batch norm");
    refused(vec![first.clone(), residual(vec![inner.clone(), Layer::Relu], vec![])], "must end in a convolution");
    refused(
        vec![first.clone(), residual(vec![conv(4, 4, [3, 2])], vec![])],
        "a residual cannot add 4 × 8 × 8 values to 4 × 4 × 4 values",
    );
    refused(vec![first.clone(), residual(vec![norm.clone(), inner.clone()], vec![])], "cannot stand here");
    refused(vec![first.clone(), residual(vec![inner], vec![]), norm], "cannot stand here");
    refused(vec![first, Layer::Relu, Layer::Relu], "body.2: Relu cannot stand here");
}
