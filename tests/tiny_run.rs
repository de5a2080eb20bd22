//! The smoke experiments through the library, their results as snapshots, to the last bit.

use std::collections::BTreeMap;
use std::path::Path;

use fewlabel::data::ClassCount;
use fewlabel::experiment::{Experiment, Manifest, Options, StageResult, run};
use fewlabel::golden::compare;
use fewlabel::network::Weights;
use fewlabel::{method, network};

const EXPERIMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
const SMOKE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/smoke.yaml");

fn smoke(out: &std::path::Path) -> (Experiment, Manifest) {
    let experiment = Experiment::load(SMOKE.as_ref()).unwrap();
    let manifest = run(&experiment, &Options::new(out)).unwrap();
    (experiment, manifest)
}

#[test]
fn the_result_is_the_same_bits_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let (_, manifest) = smoke(folder.path());
    insta::assert_json_snapshot!(manifest.result);
}

/// Several seeds, validation, kNN, frozen backbones whose features are computed once, and SimSiam without its parts.
#[test]
fn the_strict_result_is_the_same_bits_everywhere() {
    let folder = tempfile::tempdir().unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments/smoke-strict.yaml");
    let experiment = Experiment::load(path.as_ref()).unwrap();
    let manifest = run(&experiment, &Options::new(folder.path())).unwrap();
    assert_eq!(manifest.result.len(), 2 * experiment.stages.len());
    insta::assert_json_snapshot!(manifest.result);
    // A seed alone gives the same as among others.
    let alone = run(&experiment.of_seed(8), &Options::new(&folder.path().join("alone"))).unwrap();
    for (stage, result) in &alone.result {
        assert_eq!(*result, manifest.result[&format!("seed-8/{stage}")], "{stage}");
    }
}

/// The methods and settings that those do not cover, on a plain backbone.
#[test]
fn the_result_of_the_other_methods_is_the_same_bits_everywhere() {
    insta::assert_json_snapshot!(result_of("smoke-methods"));
}

/// Semi-supervised methods, augmentations of labelled images, views at test time.
#[test]
fn the_semi_supervised_result_is_the_same_bits_everywhere() {
    let result = result_of("smoke-semi");
    assert!(result["mean-teacher"].last.metrics["squared_error"] > 0.0);
    for stage in ["pseudo-label", "fixmatch", "fixmatch-shards"] {
        let share = result[stage].last.metrics["mask_share"];
        assert!(0.0 < share && share < 1.0, "{stage}: of the images without labels {share} are learnt");
    }
    insta::assert_json_snapshot!(result);
}

#[test]
fn the_result_on_a_residual_backbone_is_the_same_bits_everywhere() {
    insta::assert_json_snapshot!(result_of("smoke-resnet"));
}

fn result_of(name: &str) -> BTreeMap<String, StageResult> {
    let folder = tempfile::tempdir().unwrap();
    let path = Path::new(EXPERIMENTS).join(format!("{name}.yaml"));
    run(&Experiment::load(&path).unwrap(), &Options::new(folder.path())).unwrap().result
}

/// So `ci/simd`, which runs them on several kinds of CPU, leaves out none.
#[test]
fn every_method_and_backbone_is_in_a_smoke_experiment() {
    let (mut methods, mut backbones) = (vec![], vec![]);
    for entry in std::fs::read_dir(EXPERIMENTS).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_str().unwrap().starts_with("smoke")) {
            let experiment = Experiment::load(&path).unwrap();
            methods.extend(experiment.stages.iter().map(|stage| stage.method.name));
            backbones.extend(experiment.network.backbone.map(|backbone| backbone.name.name));
        }
    }
    for kind in method::kinds() {
        assert!(methods.contains(&kind.name), "{} is in none", kind.name);
    }
    for kind in network::registry::kinds() {
        assert!(backbones.contains(&kind.name), "{} is in none", kind.name);
    }
}

/// The weights that are saved and tested are those of the epoch that the validation images chose.
#[test]
fn the_chosen_epoch_is_the_first_best_on_the_validation_images() {
    check_chosen("");
    // Of the average.
    check_chosen(", average: 0.8");
}

fn check_chosen(more: &str) {
    let folder = tempfile::tempdir().unwrap();
    let yaml = format!(
        "
name: chosen
dataset: {{name: synthetic, train: 300, test: 60}}
labels: {{count: 100, choose: stratified, validation: 0.3}}
network: {{channels: [4, 6, 8], hidden: 24}}
stages: [{{name: baseline, method: supervised, epochs: 12, batch: 10, lr: 3e-3{more}}}]"
    );
    let experiment = Experiment::parse("chosen.yaml".as_ref(), &yaml).unwrap();
    let result = run(&experiment, &Options::new(folder.path())).unwrap().result["baseline"].clone();
    let validation = |record: &fewlabel::train::Record| record.metrics["validation_top1"];
    let best = result.history.iter().map(validation).fold(0.0, f64::max);
    let first = result.history.iter().find(|record| validation(record) == best).unwrap();
    let chosen = result.chosen.as_ref().unwrap();
    assert_eq!(chosen.epoch, first.epoch);
    assert!(first.epoch < 12, "a case where the last epoch is not the best");
    assert_eq!(chosen.metrics.keys().collect::<Vec<_>>(), ["test_loss", "test_top1"]);
    assert!(result.history.iter().all(|record| !record.metrics.contains_key("test_top1")), "one look");
    // Training for only that many epochs ends with the same weights and the same test.
    let short = Experiment {
        stages: vec![fewlabel::experiment::Stage {
            epochs: Some(fewlabel::experiment::Epochs(first.epoch)),
            ..experiment.stages[0].clone()
        }],
        ..experiment
    };
    let short = run(&short, &Options::new(&folder.path().join("short"))).unwrap().result["baseline"].clone();
    assert_eq!(short.weights_sha256, result.weights_sha256);
    assert_eq!(short.chosen, result.chosen);
}

/// The study's probe leaves batch norm in train mode: the weights are frozen, the running statistics change. In eval
/// mode nothing of the backbone changes.
#[test]
fn a_frozen_backbone_keeps_its_weights() {
    let folder = tempfile::tempdir().unwrap();
    let (experiment, _) = smoke(folder.path());
    let load = |name: &str| {
        let stage = experiment.stages.iter().find(|stage| *stage.name == *name).unwrap();
        let path = folder.path().join(name).join("weights.safetensors");
        Weights::load(&path, &experiment.network(stage)).unwrap()
    };
    let source = load("simsiam");
    for (probe, statistics_move) in [("simsiam-probe", true), ("simsiam-linear", false)] {
        for array in load(probe).arrays.iter().filter(|array| array.name.starts_with("backbone")) {
            let moved = source.get(&array.name).unwrap().values != array.values;
            assert_eq!(moved, statistics_move && array.name.contains("running"), "{probe}: {}", array.name);
        }
    }
}

/// Including the one that is compiled in.
#[test]
fn every_experiment_of_the_repository_can_be_read() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let experiment = Experiment::load(&path).unwrap();
        assert_eq!(Some(&*experiment.name), path.file_stem().and_then(|stem| stem.to_str()), "named as its file");
        names.push(experiment.name.to_string());
    }
    assert!(names.contains(&Experiment::quick().name.to_string()));
}

/// The manifest also counts their images; earlier files, without the names, are still read.
#[test]
fn manifest_and_weights_name_the_classes() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
name: named
dataset: {name: synthetic, train: 23, test: 11}
labels: {count: 20, choose: stratified}
network: {channels: [1, 2, 3], hidden: 4, projector: 4, predictor: 2}
stages:
  - {name: simsiam, method: simsiam, epochs: 1, batch: 8}
  - {name: probe, method: probe, from: simsiam, epochs: 1, batch: 10}";
    let experiment = Experiment::parse("named.yaml".as_ref(), yaml).unwrap();
    let options = |out: &str| Options::new(&folder.path().join(out));
    let manifest = run(&experiment, &options("run")).unwrap();
    // The classes take turns.
    let names = ["drop", "ring", "house", "triangle", "cross", "Y", "half disc", "arrow", "T", "L"];
    let count = |of: usize, label: usize| of / 10 + usize::from(label < of % 10);
    let class = |(label, name): (usize, &&str)| ClassCount {
        name: (*name).to_owned(),
        train: count(23, label),
        test: count(11, label),
    };
    assert_eq!(manifest.classes, names.iter().enumerate().map(class).collect::<Vec<_>>());
    let file = folder.path().join("run/manifest.json");
    assert_eq!(Manifest::load(&file).unwrap(), manifest);
    let weights = |out: &str| std::fs::read(folder.path().join(out).join("probe/weights.safetensors")).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&weights("run")).unwrap();
    let written = &header.metadata().as_ref().unwrap()["classes"];
    assert_eq!(serde_json::from_str::<Vec<String>>(written).unwrap(), names);

    let reuse = Options { reuse: vec![folder.path().join("run")], ..options("reused") };
    assert_eq!(run(&experiment, &reuse).unwrap().classes, manifest.classes);
    assert!(weights("reused") == weights("run"), "other bytes");

    let mut old: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    old.as_object_mut().unwrap().shift_remove("classes").unwrap();
    std::fs::write(&file, old.to_string()).unwrap();
    let path = folder.path().join("run/simsiam/weights.safetensors");
    let network = experiment.network(&experiment.stages[0]);
    Weights::load(&path, &network).unwrap().save(&path, &[]).unwrap();
    std::fs::remove_file(folder.path().join("run/probe/weights.safetensors")).unwrap();
    let resumed = run(&experiment, &options("run")).unwrap();
    assert_eq!((&resumed.classes, &resumed.result), (&manifest.classes, &manifest.result));
    assert!(compare(&Manifest::load(&file).unwrap(), &manifest, None).unwrap().starts_with("bit-identical"));
}
