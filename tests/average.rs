//! The average of a network's weights that an engine keeps: both engines move it as its documentation says.

mod common;

use candle_core::Device;
use common::{Task, noise};
use fewlabel::data::IMAGE;
use fewlabel::engine::{DropoutKey, Engine, Input, Rates, Statistics, cpu, reference};
use fewlabel::network::{Network, Weights, Widths};
use fewlabel::optimizer::{Rule, State};

const KEY: DropoutKey = DropoutKey { seed: 3, epoch: 2, first: 10 };
const RATES: Rates = Rates { trunk: 0.05, heads: 0.02, average: 0.75 };
const OUTPUTS: [&str; 2] = ["backbone", "projector"];

type Open = fn(&Network, &Weights, &State) -> Box<dyn Engine>;

const ENGINES: [(&str, Open); 2] = [
    ("cpu", |network, weights, state| {
        Box::new(cpu::Model::new(network.clone(), weights.clone(), Rule::Adam, state).unwrap())
    }),
    ("reference", |network, weights, state| {
        Box::new(reference::Model::new(network.clone(), weights, Rule::Adam, state, &Device::Cpu).unwrap())
    }),
];

/// More inputs to a linear layer than a slab has.
fn simsiam() -> (Network, Weights) {
    let widths = Widths { channels: [4, 5, 17], projector: 16, predictor: 8, ..Widths::default() };
    let network = fewlabel::method::simsiam::network(&widths);
    let weights = Weights::init(&network, 5);
    (network, weights)
}

/// `n` steps on views of 6 images.
fn steps(model: &mut dyn Engine, n: u32) {
    let views = [noise(6 * IMAGE, 1), noise(6 * IMAGE, 2)];
    let task = Task::Siamese { views: [&views[0], &views[1]], predictor: true, stop_gradient: true };
    (0..n).for_each(|_| {
        task.step(model, KEY, RATES, &mut Default::default()).unwrap();
    });
}

fn average(model: &mut dyn Engine) -> Weights {
    model.exchange_average().unwrap();
    let weights = model.weights().unwrap();
    model.exchange_average().unwrap();
    weights
}

/// average + (1 − d)·(weights − average) in single precision, one value after the other.
#[test]
fn the_average_moves_towards_the_weights_after_each_step() {
    let (network, init) = simsiam();
    for (engine, open) in ENGINES {
        for statistics in [Statistics::Averaged, Statistics::Own] {
            let mut model = open(&network, &init, &State::default());
            model.keep_average(statistics, &State::default()).unwrap();
            let mut expected = init.clone();
            for step in 0..3 {
                assert!(average(&mut *model) == expected, "{engine}, {statistics:?}, step {step}");
                steps(&mut *model, 1);
                let weights = model.weights().unwrap();
                for (average, weights) in expected.arrays.iter_mut().zip(&weights.arrays) {
                    if statistics == Statistics::Averaged || !average.name.contains("running") {
                        let values = average.values.iter_mut().zip(&weights.values);
                        values.for_each(|(a, w)| *a += 0.25 * (w - *a));
                    }
                }
            }
            let own = average(&mut *model).arrays.into_iter().zip(&init.arrays);
            let moved = own.filter(|(average, init)| average != *init).map(|(average, _)| average.name);
            let running = moved.filter(|name| name.contains("running")).count();
            assert_eq!(running, if statistics == Statistics::Averaged { 14 } else { 0 }, "{engine}");
        }
    }
}

/// A pass by the average is that of a network with its weights, and moves the average's running statistics alone.
#[test]
fn a_pass_by_the_average_is_that_of_a_network_with_its_weights() {
    let (network, init) = simsiam();
    let views = [noise(5 * IMAGE, 3), noise(4 * IMAGE, 4)];
    let passes = [
        [Input::train(&views[0], KEY), Input::train(&views[1], KEY)],
        [Input::eval(&views[0]), Input::eval(&views[1])],
    ];
    for (engine, open) in ENGINES {
        let mut model = open(&network, &init, &State::default());
        model.keep_average(Statistics::Own, &State::default()).unwrap();
        steps(&mut *model, 2);
        let weights = model.weights().unwrap();
        let mut other = open(&network, &average(&mut *model), &State::default());
        for inputs in passes {
            model.exchange_average().unwrap();
            let outputs = model.forward(&inputs, &OUTPUTS).unwrap().to_vec();
            model.exchange_average().unwrap();
            assert!(outputs == other.forward(&inputs, &OUTPUTS).unwrap(), "{engine}");
            assert!(average(&mut *model) == other.weights().unwrap(), "{engine}");
            assert!(model.weights().unwrap() == weights, "{engine}");
            assert!(outputs != model.forward(&[Input::eval(&views[0])], &OUTPUTS).unwrap(), "{engine}");
        }
    }
}

#[test]
fn an_average_changes_no_bit_of_the_network_and_is_resumed_from_the_state() {
    let (network, init) = simsiam();
    let view = noise(5 * IMAGE, 3);
    let pass = |model: &mut dyn Engine| {
        model.exchange_average().unwrap();
        model.forward(&[Input::train(&view, KEY)], &OUTPUTS).unwrap();
        model.exchange_average().unwrap();
    };
    for (engine, open) in ENGINES {
        let mut without = open(&network, &init, &State::default());
        steps(&mut *without, 4);
        let mut whole = open(&network, &init, &State::default());
        whole.keep_average(Statistics::Own, &State::default()).unwrap();
        let mut first = open(&network, &init, &State::default());
        first.keep_average(Statistics::Own, &State::default()).unwrap();
        for model in [&mut whole, &mut first] {
            steps(&mut **model, 2);
            pass(&mut **model);
        }
        let state = first.state().unwrap();
        assert_eq!(state.arrays.iter().filter(|array| array.name.starts_with("average/")).count(), init.arrays.len());
        let mut second = open(&network, &first.weights().unwrap(), &state);
        second.keep_average(Statistics::Own, &state).unwrap();
        assert!(second.state().unwrap() == state, "{engine}");
        for model in [&mut whole, &mut second] {
            steps(&mut **model, 2);
            pass(&mut **model);
        }
        assert!(second.state().unwrap() == whole.state().unwrap(), "{engine}");
        assert!(second.weights().unwrap() == whole.weights().unwrap(), "{engine}");
        assert!(whole.weights().unwrap() == without.weights().unwrap(), "{engine}");
    }
}

#[test]
fn what_an_exchange_forbids_is_an_error_and_changes_nothing() {
    let (network, init) = simsiam();
    let images = noise(4 * IMAGE, 0);
    for (engine, open) in ENGINES {
        let mut model = open(&network, &init, &State::default());
        assert!(model.exchange_average().unwrap_err().to_string().contains("no average"), "{engine}");
        model.keep_average(Statistics::Averaged, &State::default()).unwrap();
        model.exchange_average().unwrap();
        let mut loss = |_: &[Vec<f32>], _: &mut [Vec<f32>]| Ok(0.0);
        let inputs = [Input::train(&images, KEY)];
        let refused = [
            model.step(&inputs, &OUTPUTS, &mut loss, RATES).map(|_| ()),
            model.gradients(&inputs, &OUTPUTS, &mut loss).map(|_| ()),
            model.state().map(|_| ()),
        ];
        for refused in refused {
            assert!(refused.unwrap_err().to_string().contains("exchange"), "{engine}");
        }
        model.exchange_average().unwrap();
        assert!(model.weights().unwrap() == init, "{engine}");
        assert_eq!(model.state().unwrap().steps, 0, "{engine}");
    }
}
