//! The table of small manifests, as text.

use super::*;
use crate::experiment::Experiment;
use crate::network::Weights;
use crate::train::Trained;

#[test]
fn the_table_has_a_row_per_tested_stage() {
    let yaml = "
name: t
dataset: {name: cifar10}
stages:
  - {name: baseline, method: supervised, claim: [63, 65.5]}
  - {name: simsiam, method: simsiam}
  - {name: probe, method: probe, from: simsiam}";
    let experiment = Experiment::parse("t.yaml".as_ref(), yaml).unwrap();
    let mut manifest = Manifest::new(&experiment, "cpu");
    assert_eq!(text(&manifest, false), "no stage has been tested on the test images yet");
    let record = |epoch, name: &str, value| Record { epoch, metrics: [(name.to_owned(), value)].into() };
    let mut add = |stage: &str, history: &[Record], seconds: f64| {
        let trained = Trained { history: history.to_vec(), chosen: None, weights: Weights::default() };
        manifest.result.insert(stage.to_owned(), StageResult::new(&trained).unwrap());
        manifest.environment.seconds.insert(stage.to_owned(), seconds);
    };
    let top1 = |epoch, value| record(epoch, "test_top1", value);
    add("baseline", &[top1(1, 0.5), top1(2, 0.6612), top1(3, 0.6612), top1(4, 0.64)], 59.6);
    add("simsiam", &[record(1, "train_loss", -0.5)], 3000.0);
    add("probe", &[top1(1, 0.7)], 725.0);
    assert_eq!(manifest.result["baseline"].peak.as_ref().unwrap().epoch, 2, "the first of the best");
    insta::assert_snapshot!(text(&manifest, false));
    let lines: Vec<String> = rows(&manifest).iter().map(Row::headline).collect();
    assert_eq!(lines, ["baseline 64.0 % final", "probe 70.0 % final"]);
    // The peaks, their head and their note, and nothing else.
    let colored = text(&manifest, true);
    let grey: Vec<&str> =
        colored.split("\u{1b}[2m").skip(1).map(|rest| rest.split("\u{1b}[0m").next().unwrap()).collect();
    assert_eq!(grey, ["peak *", "66.1 %", "70.0 %", PEAK_NOTE]);
    assert_eq!(colored.replace("\u{1b}[2m", "").replace("\u{1b}[0m", ""), text(&manifest, false));
}

#[test]
fn an_experiment_that_classifies_nothing_is_told_what_it_lacks() {
    let yaml = "{name: t, dataset: {name: cifar10}, stages: [{name: views, method: simsiam}]}";
    let mut manifest = Manifest::new(&Experiment::parse("t.yaml".as_ref(), yaml).unwrap(), "cpu");
    let mut add = |loss| {
        let record = Record { epoch: 1, metrics: [("train_loss".to_owned(), loss)].into() };
        let trained = Trained { history: vec![record], chosen: None, weights: Weights::default() };
        manifest.result.insert("views".to_owned(), StageResult::new(&trained).unwrap());
        (text(&manifest, true), markdown(&manifest))
    };
    let expected = "nothing here classifies the test images: add a stage that does, such as {name: views-probe, \
                    method: probe, from: views}";
    assert_eq!(add(-0.9), (expected.to_owned(), format!("{expected}\n")));
    let (text, markdown) = add(-0.01);
    assert!(text.starts_with(&format!("{expected}\nhardly learnt: views; ")), "{text}");
    assert!(markdown.starts_with(&format!("{expected}\n\nhardly learnt: views; ")), "{markdown}");
}

/// It has labels and no accuracy; who builds on it has at least as many labels behind it.
#[test]
fn a_method_on_labels_that_does_not_classify_has_no_row() {
    let yaml = "
name: t
dataset: {name: cifar10}
labels: {count: 1000, choose: stratified, validation: 0.1}
stages:
  - {name: supcon, method: supcon, labels: 5000, knn_every: 1}
  - {name: probe, method: probe, from: supcon, labels: 250}
  - {name: simsiam, method: simsiam}
  - {name: simsiam-probe, method: probe, from: simsiam, labels: 250}
  - {name: knn, method: knn, from: probe}";
    let experiment = Experiment::parse("t.yaml".as_ref(), yaml).unwrap();
    let classify: Vec<bool> = experiment.stages.iter().map(Stage::classifies).collect();
    assert_eq!(classify, [false, true, false, true, true]);
    let behind: Vec<usize> = experiment.stages.iter().map(|stage| experiment.labels_behind(stage)).collect();
    assert_eq!(behind, [5000, 5000, 1000, 250, 5000]);
    let mut manifest = Manifest::new(&experiment, "cpu");
    for (stage, name) in [("supcon", "validation_knn_top1"), ("probe", "validation_top1")] {
        let record = Record { epoch: 1, metrics: [(name.to_owned(), 0.5)].into() };
        let chosen = (stage == "probe").then(|| Record { epoch: 1, metrics: [("test_top1".to_owned(), 0.6)].into() });
        let trained = Trained { history: vec![record], chosen, weights: Weights::default() };
        manifest.result.insert(stage.to_owned(), StageResult::new(&trained).unwrap());
    }
    assert_eq!(rows(&manifest).iter().map(|row| &*row.stage).collect::<Vec<_>>(), ["probe"]);
    let table = csv(&[("t", &manifest)]);
    let lines: Vec<&str> = table.lines().skip(1).collect();
    assert_eq!(lines, ["t,0,supcon,supcon,5000,,,,,,", "t,0,probe,probe,5000,,,,1,0.6,"]);
}

#[test]
fn several_seeds_give_intervals_and_verdicts() {
    let yaml = "
name: t
seed: 4
seeds: 3
dataset: {name: cifar10}
labels: {count: 5000, choose: stratified, validation: 0.1}
stages:
  - {name: baseline, method: supervised}
  - {name: simsiam, method: simsiam}
  - {name: simsiam-linear, method: probe, from: simsiam, probe: linear, frozen_norm: eval}
  - {name: simsiam-knn, method: knn, from: simsiam}
claims:
  - {better: simsiam-linear, than: baseline}
  - {better: baseline, than: simsiam-knn}
  - {better: simsiam-knn, than: baseline}
  - {better: simsiam-linear, than: simsiam-knn}";
    let experiment = Experiment::parse("t.yaml".as_ref(), yaml).unwrap();
    let mut manifest = Manifest::new(&experiment, "cpu");
    let mut add = |key: &str, top1: f64| {
        let [last, chosen] =
            ["validation_top1", "test_top1"].map(|name| Record { epoch: 1, metrics: [(name.to_owned(), top1)].into() });
        let trained = Trained { history: vec![last], chosen: Some(chosen), weights: Weights::default() };
        manifest.result.insert(key.to_owned(), StageResult::new(&trained).unwrap());
        manifest.environment.seconds.insert(key.to_owned(), 100.0);
    };
    for (seed, [baseline, linear, knn]) in
        [(4, [0.65, 0.641, 0.53]), (5, [0.66, 0.655, 0.55]), (6, [0.645, 0.66, 0.54])]
    {
        add(&format!("seed-{seed}/baseline"), baseline);
        add(&format!("seed-{seed}/simsiam-linear"), linear);
        add(&format!("seed-{seed}/simsiam-knn"), knn);
    }
    manifest.result.remove("seed-6/simsiam-knn");
    insta::assert_snapshot!(text(&manifest, false));
}

#[test]
fn metrics_are_shares_in_per_cent_or_numbers() {
    assert_eq!(metric("test_top1", 0.6666), "test_top1 66.7 %");
    assert_eq!(metric("train_loss", 0.6666), "train_loss 0.6666");
}
