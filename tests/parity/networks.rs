//! Forward passes, gradients and five optimizer steps of every network.

use candle_core::Device;
use fewlabel::data::CHANNELS;
use fewlabel::engine::{DropoutKey, Engine, Gradients, Input, cpu, reference};
use fewlabel::method::{Byol, Method};
use fewlabel::network::backbone::basic_block;
use fewlabel::network::{Array, Block, Layer, Mode, Network, PRETEXT_HEADS, Probe, Weights, Widths};
use fewlabel::optimizer::{Rule, Schedule, State};

use crate::common::Task;
use crate::fixture::{Fixture, magnitude, rms};

/// The fixtures have no dropout, so any key will do.
pub const KEY: DropoutKey = DropoutKey { seed: 0, epoch: 0, first: 0 };

/// Their true gradient is zero, since the batch norm that follows removes any shift; what is computed is rounding.
const SHIFTS_BEFORE_NORM: [&str; 8] = [
    "backbone.0.bias",
    "backbone.4.bias",
    "backbone.8.bias",
    "projector.0.bias",
    "projector.3.bias",
    "projector.6.bias",
    "projector.7.bias",
    "predictor.0.bias",
];

/// The network whose tensors the fixture holds, its widths read from their shapes.
pub fn describe(fixture: &Fixture) -> Network {
    let shape = |name: &str| fixture.tensor(&format!("init/{name}")).dims().to_vec();
    if fixture.case == "residual" {
        return residual(fixture);
    }
    let channels = ["backbone.0.weight", "backbone.4.weight", "backbone.8.weight"].map(|name| shape(name)[0]);
    let widths = Widths { channels, dropout: 0.0, ..Widths::default() };
    match fixture.case.as_str() {
        "supervised" | "fixmatch" => Network::supervised(&Widths { hidden: shape("fc.weight")[0], ..widths }),
        "pretext" => Network::pretext(&Widths { hidden: shape("fc.weight")[0], ..widths }),
        "probe" => {
            Network::probe(&Widths { hidden: shape("classifier.0.weight")[0], ..widths }, Probe::Mlp, Mode::Eval)
        }
        "simsiam" => {
            let [projector, predictor] = ["projector.0.weight", "predictor.0.weight"].map(|name| shape(name)[0]);
            fewlabel::method::simsiam::network(&Widths { projector, predictor, ..widths })
        }
        "byol" => {
            let embedding = shape("projector.3.weight")[0];
            let byol = Byol { embedding, ..Byol::default() };
            byol.network(&Widths { projector: shape("projector.0.weight")[0], ..widths })
        }
        other => panic!("no network for {other}"),
    }
}

/// Stem, three blocks, mean over the pixels, linear; those with a shortcut of their own have stride 2.
fn residual(fixture: &Fixture) -> Network {
    let tensors: Vec<(&str, Vec<usize>)> = fixture.below("init/").map(|(name, t)| (name, t.dims().to_vec())).collect();
    let shape = |name: &str| tensors.iter().find(|(found, _)| *found == name).map(|(_, shape)| shape.clone());
    let outputs = shape("stem.0.weight").unwrap()[0];
    let relu = || (String::new(), Layer::Relu);
    let conv = Layer::Conv { inputs: CHANNELS, outputs, kernel: 3, stride: 1, bias: false };
    let mut layers =
        vec![("stem.0".to_owned(), conv), ("stem.1".to_owned(), Layer::BatchNorm { channels: outputs }), relu()];
    for block in ["layer1", "layer2", "layer3"] {
        let sizes = shape(&format!("{block}.conv1.weight")).unwrap();
        let stride = if shape(&format!("{block}.shortcut.0.weight")).is_some() { 2 } else { 1 };
        let name = |layer: &str| format!("{block}{layer}");
        layers.extend([(String::new(), basic_block(name, sizes[1], sizes[0], stride)), relu()]);
    }
    layers.push((String::new(), Layer::MeanPool));
    let sizes = shape("classifier.weight").unwrap();
    let trunk = vec![Block { name: "layers", layers, frozen: None }];
    let side = fixture.tensor("images").dims()[3];
    Network { side, trunk, heads: vec![Block::linear("classifier", sizes[1], sizes[0], &[])] }
}

/// The weights stored under `prefix`, in the network's order.
fn weights(fixture: &Fixture, network: &Network, prefix: &str) -> Weights {
    let array = |spec: fewlabel::network::Spec| Array {
        values: fixture.f32s(&format!("{prefix}{}", spec.name)),
        name: spec.name,
        shape: spec.shape,
    };
    Weights { arrays: network.tensors().map(array).collect() }
}

/// The engine of a parity test.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    Cpu,
    Reference,
}

pub fn model(kind: Kind, fixture: &Fixture, network: Network, rule: Rule) -> Box<dyn Engine> {
    let weights = weights(fixture, &network, "init/");
    let fresh = State::default();
    match kind {
        Kind::Cpu => Box::new(cpu::Model::new(network, weights, rule, &fresh).unwrap()),
        Kind::Reference => Box::new(reference::Model::new(network, &weights, rule, &fresh, &Device::Cpu).unwrap()),
    }
}

pub fn supervised(kind: Kind, fixture: &Fixture) {
    let (images, labels) = (fixture.f32s("images"), fixture.labels("labels"));
    let task = Task::of_head(&"classification_head", &images, &labels);
    let mut model = train(kind, fixture, &task, Rule::Adam, 1e-3, Schedule::Constant, &["train_logits"]);
    let logits = &model.forward(&[Input::eval(&images)], &["classification_head"]).unwrap()[0];
    fixture.close("eval_logits", logits, &fixture.f32s("eval_logits"), 5e-3);
}

pub fn pretext(kind: Kind, fixture: &Fixture) {
    let images = fixture.f32s("images");
    let labels = ["rotation_labels", "shear_labels", "color_labels"].map(|name| fixture.labels(name));
    let heads = PRETEXT_HEADS.map(|(head, _)| head);
    let task = Task::Classify { images: &images, heads: &heads, labels: labels.iter().map(Vec::as_slice).collect() };
    let outputs = ["rotation_logits", "shear_logits", "color_logits"];
    train(kind, fixture, &task, Rule::Adam, 1e-3, Schedule::Constant, &outputs);
}

pub fn simsiam(kind: Kind, fixture: &Fixture) {
    let views = [fixture.f32s("view1"), fixture.f32s("view2")];
    let task = Task::Siamese { views: [&views[0], &views[1]], predictor: true, stop_gradient: true };
    let rule = Rule::sgd(0.9, 5e-4);
    train(kind, fixture, &task, rule, 0.05 * 64.0 / 256.0, Schedule::Cosine, &["z", "p"]);
}

/// Five steps: outputs and gradients of the first, every loss and rate, the weights after the last.
fn train(
    kind: Kind,
    fixture: &Fixture,
    task: &Task,
    rule: Rule,
    lr: f64,
    schedule: Schedule,
    outputs: &[&str],
) -> Box<dyn Engine> {
    let (_, found, gradients) = task.gradients(&mut *model(kind, fixture, describe(fixture), rule), KEY);
    assert_eq!(found.len(), outputs.len());
    for (name, ours) in outputs.iter().zip(&found) {
        // Both views' are in one.
        let both = |name: &str| [1, 2].map(|view| fixture.f32s(&format!("{name}{view}"))).concat();
        let theirs = if matches!(task, Task::Siamese { .. }) { both(name) } else { fixture.f32s(name) };
        fixture.close(name, ours, &theirs, 1e-5);
    }
    check_gradients(fixture, "grad/", &gradients);

    let mut model = model(kind, fixture, describe(fixture), rule);
    let (losses, rates) = (fixture.f64s("losses"), fixture.f64s("rates"));
    for (step, (&loss, &rate)) in losses.iter().zip(&rates).enumerate() {
        let ours = schedule.rate(lr, step as u64, rates.len() as u64);
        assert!((ours - rate).abs() <= 1e-12, "{}: rate {ours}, not {rate}", fixture.path.display());
        let found = task.step(&mut *model, KEY, ours.into(), &mut Default::default()).unwrap();
        let tolerance = if step == 0 { 1e-5 } else { 2e-4 };
        fixture.close(&format!("loss {step}"), &[found as f32], &[loss as f32], tolerance);
    }
    let of_shifts = if matches!(rule, Rule::Adam) { 1.1e-2 } else { 1e-5 };
    check_state(fixture, "after_5/", &model.weights().unwrap(), 0.02, of_shifts);
    model
}

/// Every stored gradient, and no other, within 1e-4 of its tensor's largest magnitude.
pub fn check_gradients(fixture: &Fixture, prefix: &str, ours: &Gradients) {
    let mut names: Vec<_> = ours.iter().map(|array| array.name.as_str()).collect();
    names.sort();
    let expected: Vec<_> = fixture.below(prefix).map(|(name, _)| name).collect();
    assert_eq!(names, expected, "{}", fixture.path.display());
    let theirs = |name: &str| fixture.f32s(&format!("{prefix}{name}"));
    let largest = names.iter().map(|name| magnitude(&theirs(name))).fold(0.0, f64::max);
    for Array { name, values, .. } in ours {
        let scale = if is_shift(name) { 1e-5 * largest } else { 1e-4 * magnitude(&theirs(name)) };
        fixture.close(&format!("{prefix}{name}"), values, &theirs(name), scale);
    }
}

/// Root-mean-square difference from what is stored under `prefix` at most that `share` of the root-mean-square change since
/// `init/`; of shifts before batch norm every difference at most `of_shifts`.
pub fn check_state(fixture: &Fixture, prefix: &str, ours: &Weights, share: f64, of_shifts: f64) {
    for Array { name, values, .. } in &ours.arrays {
        let [init, after] = ["init/", prefix].map(|prefix| fixture.f32s(&format!("{prefix}{name}")));
        if is_shift(name) {
            fixture.close(name, values, &after, of_shifts);
        } else {
            let (difference, change) = (rms(values, &after), rms(&init, &after));
            let path = fixture.path.display();
            assert!(
                difference <= share * change,
                "{path}: {prefix}{name} is off by {difference:e}, moved by {change:e}"
            );
        }
    }
}

fn is_shift(name: &str) -> bool {
    SHIFTS_BEFORE_NORM.contains(&name)
}

pub fn probe(kind: Kind, fixture: &Fixture) {
    let (images, labels) = (fixture.f32s("images"), fixture.labels("labels"));
    let task = Task::of_head(&"classifier", &images, &labels);
    for (prefix, mode) in [("strict", Mode::Eval), ("seed", Mode::Train)] {
        let mut network = describe(fixture);
        network.trunk[0].frozen = Some(mode);
        let stored = |name: &str| fixture.f32s(&format!("{prefix}/{name}"));
        let input = [Input { values: &images, train: (mode == Mode::Train).then_some(KEY) }];
        let mut open = model(kind, fixture, network.clone(), Rule::Adam);
        fixture.close("features", &open.forward(&input, &["backbone"]).unwrap()[0], &stored("features"), 1e-5);
        let mut model = model(kind, fixture, network, Rule::Adam);
        let (loss, outputs, gradients) = task.gradients(&mut *model, KEY);
        fixture.close("logits", &outputs[0], &stored("logits"), 1e-5);
        fixture.close("loss", &[loss as f32], &stored("loss"), 1e-5);
        let named = gradients.into_iter().map(|mut array| {
            array.name = array.name.strip_prefix("classifier.").expect("only the head has gradients").to_owned();
            array
        });
        check_gradients(fixture, &format!("{prefix}/grad/"), &named.collect());
        for Array { name, values, .. } in model.weights().unwrap().arrays {
            match name.strip_prefix("backbone.").filter(|rest| rest.contains("running")) {
                Some(rest) => fixture.close(&name, &values, &stored(rest), 1e-5),
                None => fixture.close(&name, &values, &fixture.f32s(&format!("init/{name}")), 0.0),
            }
        }
    }
}
