//! Methods with a teacher, and the optimizer's tricks: five steps each.

use fewlabel::augment::Augmentation;
use fewlabel::data::{Dataset, IMAGE, SIDE};
use fewlabel::engine::{Engine, Input, Rates, Statistics};
use fewlabel::loss::{Cosines, negative_cosine, smoothed_cross_entropy};
use fewlabel::method::fixmatch::Teacher;
use fewlabel::method::{Draw, FixMatch, Labelled, Method, Source, Step};
use fewlabel::network::{PREDICTOR, PROJECTOR};
use fewlabel::optimizer::{Decayed, Rule, State};

use crate::fixture::Fixture;
use crate::networks::{KEY, Kind, check_gradients, check_state, describe, model};

/// What a pass by the average gives.
fn by_average(model: &mut dyn Engine, inputs: &[Input], output: &str) -> Vec<f32> {
    model.exchange_average().unwrap();
    let found = model.forward(inputs, &[output]).unwrap()[0].clone();
    model.exchange_average().unwrap();
    found
}

/// The average's state after the last step.
fn check_average(fixture: &Fixture, prefix: &str, model: &mut dyn Engine, share: f64) {
    model.exchange_average().unwrap();
    check_state(fixture, prefix, &model.weights().unwrap(), share, 1e-5);
    model.exchange_average().unwrap();
}

pub fn byol(kind: Kind, fixture: &Fixture) {
    let views = [fixture.f32s("view1"), fixture.f32s("view2")];
    let inputs = [Input::train(&views[0], KEY), Input::train(&views[1], KEY)];
    let (rows, mut cosines) = (2 * views[0].len() / IMAGE, Cosines::default());
    let mut loss = |target: &[f32], outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
        Ok(negative_cosine(&outputs[0], target, rows, &mut cosines, &mut gradients[0], None))
    };
    let open = || {
        let mut model = model(kind, fixture, describe(fixture), Rule::sgd(0.9, 5e-4));
        model.keep_average(Statistics::Own, &State::default()).unwrap();
        model
    };
    let (mut first, mut p) = (open(), vec![]);
    let target = by_average(&mut *first, &inputs, PROJECTOR);
    let mut seen = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
        p.clone_from(&outputs[0]);
        loss(&target, outputs, gradients)
    };
    let (_, gradients) = first.gradients(&inputs, &[PREDICTOR], &mut seen).unwrap();
    let half = p.len() / 2;
    fixture.close("p1", &p[..half], &fixture.f32s("p1"), 1e-5);
    fixture.close("z2", &target[half..], &fixture.f32s("z2"), 1e-5);
    check_gradients(fixture, "grad/", &gradients);

    let mut model = open();
    for (step, expected) in fixture.f32s("losses").into_iter().enumerate() {
        let target = by_average(&mut *model, &inputs, PROJECTOR);
        let rates = Rates { average: 0.95, ..0.05.into() };
        let mut loss = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| loss(&target, outputs, gradients);
        let found = model.step(&inputs, &[PREDICTOR], &mut loss, rates).unwrap();
        fixture.close(&format!("loss {step}"), &[found as f32], &[expected], 1e-5);
    }
    check_state(fixture, "after_5/", &model.weights().unwrap(), 0.02, 1e-5);
    check_average(fixture, "target_after_5/", &mut *model, 0.02);
}

/// By the method's own batch, from images to the loss.
pub fn fixmatch(kind: Kind, fixture: &Fixture) {
    let (labels, images, none) = (fixture.labels("labels"), fixture.u8s("pixels"), Augmentation::default());
    let (n, all) = (labels.len(), images.len() / IMAGE);
    // What the others are is not told.
    let data = Dataset { labels: [labels, vec![0; all - n]].concat(), images, side: SIDE };
    let method = FixMatch {
        augment: none,
        strong: none,
        threshold: fixture.f64s("threshold")[0],
        weight: 2.0,
        teacher: Teacher::Average,
        alignment: true,
        ..FixMatch::default()
    };
    let rule = Rule::Sgd { momentum: 0.9, weight_decay: 0.0, nesterov: true, decayed: Decayed::All };
    let mut model = model(kind, fixture, describe(fixture), rule);
    model.keep_average(Statistics::Averaged, &State::default()).unwrap();
    let indices: Vec<u32> = (0..all as u32).collect();
    let draw = Draw { labelled: Labelled { n, before: 0, of: n }, ..Draw::default() };
    let mut batch = method.batch();
    let (losses, shares) = (fixture.f32s("losses"), fixture.f64s("mask_shares"));
    for (step, (loss, share)) in losses.into_iter().zip(shares).enumerate() {
        batch.fill(&Source::Images(&data), &indices, draw);
        let mut sums = [0.0; 2];
        let at = Step { rates: Rates { average: 0.5, ..5e-4.into() }, done: step as u64, all: 5 };
        let found = batch.step(&mut *model, at, &mut sums).unwrap();
        // As for the supervised network. Seed 0's are within 1e-5 on the CPU engine, within 1.1e-4 on the reference engine.
        fixture.close(&format!("loss {step}"), &[found as f32], &[loss], if step == 0 { 1e-5 } else { 2e-4 });
        assert_eq!((sums[1] / n as f64) as f32, share as f32, "{}: mask_share {step}", fixture.path.display());
    }
    check_state(fixture, "after_5/", &model.weights().unwrap(), 0.01, 1e-5);
    check_average(fixture, "average_after_5/", &mut *model, 0.01);
}

pub fn residual(kind: Kind, fixture: &Fixture) {
    let (images, labels) = (fixture.f32s("images"), fixture.labels("labels"));
    let (input, output) = ([Input::train(&images, KEY)], ["classifier"]);
    let rule = Rule::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: true, decayed: Decayed::Weights };
    let mut loss = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
        smoothed_cross_entropy(&outputs[0], &labels, 0.1, &mut gradients[0])
    };
    let mut logits = vec![];
    let mut seen = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
        logits.clone_from(&outputs[0]);
        loss(outputs, gradients)
    };
    let mut first = model(kind, fixture, describe(fixture), rule);
    let (_, gradients) = first.gradients(&input, &output, &mut seen).unwrap();
    fixture.close("train_logits", &logits, &fixture.f32s("train_logits"), 1e-5);
    check_gradients(fixture, "grad/", &gradients);

    let mut model = model(kind, fixture, describe(fixture), rule);
    model.keep_average(Statistics::Averaged, &State::default()).unwrap();
    for (step, expected) in fixture.f32s("losses").into_iter().enumerate() {
        let rates = Rates { average: 0.9, ..0.1.into() };
        let found = model.step(&input, &output, &mut loss, rates).unwrap();
        fixture.close(&format!("loss {step}"), &[found as f32], &[expected], 1e-5);
    }
    check_state(fixture, "after_5/", &model.weights().unwrap(), 0.01, 1e-5);
    check_average(fixture, "average_after_5/", &mut *model, 0.01);
    let plain = [Input::eval(&images)];
    fixture.close("eval_logits", &model.forward(&plain, &output).unwrap()[0], &fixture.f32s("eval_logits"), 1e-4);
    let of_average = by_average(&mut *model, &plain, output[0]);
    fixture.close("average_eval_logits", &of_average, &fixture.f32s("average_eval_logits"), 1e-4);
}
