//! Batches in shards: a team of any size has the bits of one process, and the sums are those of the whole batch.

use std::ops::Range;

use fewlabel::engine::{Shards, Statistics, team_of_threads};
use fewlabel::network::backbone;

use super::*;

struct Case {
    name: &'static str,
    network: Network,
    /// Examples, and whether in train mode.
    inputs: Vec<(usize, bool)>,
    outputs: Vec<&'static str>,
}

/// Every kind of layer, several inputs, inputs in eval mode, and examples that shards do not divide.
fn cases() -> Vec<Case> {
    let widths = Widths { channels: [4, 5, 17], projector: 16, predictor: 8, hidden: 9, ..Widths::default() };
    let resnet = Widths { backbone: Some(backbone::resnet(1, 4)), ..widths.clone() };
    let simsiam = fewlabel::method::simsiam::network(&widths);
    let outputs = vec!["projector", "predictor"];
    vec![
        Case { name: "two views", network: simsiam.clone(), inputs: vec![(9, true); 2], outputs: outputs.clone() },
        Case { name: "a view in eval mode", network: simsiam, inputs: vec![(7, true), (10, false)], outputs },
        Case {
            name: "dropout",
            network: Network::supervised(&widths),
            inputs: vec![(21, true)],
            outputs: vec!["classification_head"],
        },
        Case {
            name: "pretext heads",
            network: Network::pretext(&widths),
            inputs: vec![(8, true)],
            outputs: vec!["rotation_head", "shear_head", "color_head"],
        },
        Case {
            name: "residual sums",
            network: Network::supervised(&resnet),
            inputs: vec![(9, true), (6, true)],
            outputs: vec!["classification_head"],
        },
    ]
}

/// Three steps of the case, with a pass of the average in between: everything that an engine can be asked for. `shards` are a
/// member's, which is given no other member's examples.
fn trained(case: &Case, shards: Option<Shards>) -> (Vec<f64>, Vec<Vec<f32>>, Weights, State) {
    let mut model = open_cpu(case.network.clone(), disturbed(&case.network), NESTEROV);
    let len = case.network.input_len();
    let own = |n: usize| shards.as_ref().map_or(0..n, |shards| shards.own_share().of(n));
    let images: Vec<Vec<f32>> = (case.inputs.iter().enumerate())
        .map(|(i, &(n, _))| {
            let mut values = noise(n * len, i as u32);
            let Range { start, end } = own(n);
            values[..start * len].fill(f32::NAN);
            values[end * len..].fill(f32::NAN);
            values
        })
        .collect();
    let inputs = images.iter().zip(&case.inputs);
    let inputs: Vec<Input> = inputs.map(|(values, (_, train))| Input { values, train: train.then_some(KEY) }).collect();
    model.keep_average(Statistics::Own, &State::default()).unwrap();
    if let Some(shards) = shards {
        model.shard(shards).unwrap();
    }
    // A weighted mean of squares over all rows.
    let mut loss = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
        let mut total = 0.0;
        for (i, (output, gradient)) in outputs.iter().zip(gradients).enumerate() {
            let weights = noise(output.len(), 9 + i as u32).into_iter().map(|w| w.abs() / output.len() as f32);
            let weights: Vec<f32> = weights.collect();
            total += output.iter().zip(&weights).map(|(o, w)| f64::from(o * o * w) / 2.0).sum::<f64>();
            gradient.extend(output.iter().zip(&weights).map(|(o, w)| o * w));
        }
        Ok(total)
    };
    let rates = Rates { trunk: 1e-6, heads: 2e-6, average: 0.5 };
    let (mut losses, mut taught) = (vec![], vec![]);
    for _ in 0..3 {
        losses.push(model.step(&inputs, &case.outputs, &mut loss, rates).unwrap());
        model.exchange_average().unwrap();
        taught.extend(model.forward(&inputs, &case.outputs).unwrap().to_vec());
        model.exchange_average().unwrap();
    }
    (losses, taught, model.weights().unwrap(), model.state().unwrap())
}

#[test]
fn a_team_of_any_size_has_the_bits_of_one_process() {
    for case in cases() {
        for count in [2, 4] {
            let alone = trained(&case, Some(Shards::new(count)));
            for size in 2..=count {
                std::thread::scope(|scope| {
                    let member = |team| trained(&case, Some(Shards::of_team(count, team)));
                    let members = team_of_threads(size).into_iter().map(|team| scope.spawn(move || member(team)));
                    for member in members.collect::<Vec<_>>() {
                        assert!(member.join().unwrap() == alone, "{}: {count} shards, {size} members", case.name);
                    }
                });
            }
        }
    }
}

/// Only rounding tells whether there are shards.
#[test]
fn shards_have_the_sums_of_the_whole_batch() {
    for case in cases() {
        let (losses, taught, weights, state) = trained(&case, None);
        for count in [2, 5] {
            let (of_shards, taught_by, moved, state_by) = trained(&case, Some(Shards::new(count)));
            let losses = losses.iter().zip(&of_shards);
            losses.for_each(|(a, b)| assert!((a - b).abs() <= 1e-4 * a, "{}: the loss is {a} or {b}", case.name));
            let close = |a: &[f32], b: &[f32]| {
                let most = a.iter().fold(0.0f32, |most, v| most.max(v.abs()));
                a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-3 * most + 1e-5)
            };
            assert!(taught.iter().zip(&taught_by).all(|(a, b)| close(a, b)), "{}: outputs of the average", case.name);
            // The optimizer's velocity is a sum of gradients.
            let arrays = weights.arrays.iter().zip(&moved.arrays).chain(state.arrays.iter().zip(&state_by.arrays));
            for (a, b) in arrays {
                assert!(close(&a.values, &b.values), "{}: {count} shards: {}", case.name, a.name);
            }
            assert!(state.arrays != state_by.arrays, "{}: {count} shards are one", case.name);
        }
    }
}

#[test]
fn a_batch_of_fewer_examples_than_shards_is_not_split() {
    let case = &cases()[2];
    let few = Case { inputs: vec![(3, true)], network: case.network.clone(), outputs: case.outputs.clone(), ..*case };
    assert!(trained(&few, Some(Shards::new(4))) == trained(&few, None));
}
