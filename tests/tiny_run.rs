//! The smoke experiment through the library: its result is a snapshot, to the last bit.

use fewlabel::experiment::{Experiment, Manifest, Options, run};
use fewlabel::network::Weights;

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

/// The study's probe leaves batch norm in train mode: the frozen weights stay, the running statistics move. In eval
/// mode nothing of the backbone moves.
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

/// Among them the one that is compiled in.
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
