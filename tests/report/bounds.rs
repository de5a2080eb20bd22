//! Values that no training gives, and more images than a map can have: no panic, and no work without end.

use std::path::Path;

use fewlabel::experiment::{Experiment, Manifest, StageResult};
use fewlabel::network::Weights;
use fewlabel::report;
use fewlabel::train::{Record, Trained};

use super::{files, run_into};

/// Two stages and a claim, for two seeds.
const YAML: &str = "
name: t
seeds: 2
dataset: {name: synthetic, train: 40, test: 20}
labels: {count: 20, choose: first}
network: {channels: [2, 3, 4], hidden: 8}
stages:
  - {name: a, method: supervised, epochs: 3, batch: 4}
  - {name: b, method: supervised, epochs: 3, batch: 4, labels: 30}
  - {name: c, method: simsiam, epochs: 3, batch: 4, knn_every: 1}
  - {name: d, method: pretext, epochs: 3, batch: 4}
claims: [{better: b, than: a}]";

/// A run directory with nothing but a manifest, of stages with these histories.
fn claimed(out: &Path, history: &[(u32, f64)]) {
    let experiment = Experiment::parse("t.yaml".as_ref(), YAML).unwrap();
    let mut manifest = Manifest::new(&experiment, "cpu");
    // Other accuracies are refused.
    let top1 = |value: f64| value.clamp(0.0, 1.0);
    let names =
        ["test_loss", "test_top1", "train_loss", "output_std", "test_knn_top1", "test_rotation_top1", "<b>|\u{202e}"];
    for key in ["a", "b", "c", "d"].iter().flat_map(|stage| [0, 1].map(|seed| format!("seed-{seed}/{stage}"))) {
        let record = |&(epoch, value): &(u32, f64)| Record {
            epoch,
            metrics: names
                .iter()
                .map(|name| (name.to_string(), if name.ends_with("top1") { top1(value) } else { value }))
                .collect(),
        };
        let history = history.iter().map(record).collect();
        let trained = Trained { history, chosen: None, weights: Weights::default() };
        manifest.result.insert(key, StageResult::new(&trained).unwrap());
    }
    std::fs::create_dir_all(out).unwrap();
    manifest.save(&out.join("manifest.json")).unwrap();
}

#[test]
fn values_and_epochs_that_no_training_gives_are_drawn_too() {
    let folder = tempfile::tempdir().unwrap();
    let all: [&[(u32, f64)]; 7] = [
        &[(1, 1e17), (2, 1e17)],
        &[(1, 1e308), (2, -1e308), (3, 1e308)],
        &[(1, f64::MAX), (2, f64::MAX)],
        &[(1, 5e-324), (2, -5e-324)],
        &[(1, 5e-324), (2, 5e-324)],
        &[(u32::MAX, 0.5), (7, 0.25), (u32::MAX, -0.0), (0, 1.0), (1, 0.5)],
        &[(0, 0.5)],
    ];
    for (i, history) in all.iter().enumerate() {
        let out = folder.path().join(i.to_string());
        claimed(&out, history);
        let page = report::write(std::slice::from_ref(&out), None, &out, &mut |_| {}).unwrap();
        let html = std::fs::read_to_string(page).unwrap();
        assert!(html.contains("No accuracy was computed again for this page."), "{history:?}");
        let expected = if i == 6 { 0 } else { 2 };
        let curves = files(&out, ".svg").iter().filter(|id| ["loss-20", "loss-30"].contains(&&***id)).count();
        assert_eq!(curves, expected, "{history:?}");
        for id in files(&out, ".svg") {
            let svg = std::fs::read_to_string(out.join(format!("{id}.svg"))).unwrap();
            // Pictures are letters at random.
            assert!(svg.contains("base64") || (!svg.contains("NaN") && !svg.contains("inf")), "{history:?}: {id}");
        }
        // A number that is none in JSON would stop the page's script.
        for json in html.split("<script type=\"application/json\">").skip(1) {
            let plot = json.split("</script>").next().unwrap();
            assert!(!plot.replace("\"half_widths\":[null", "").replace(",null", "").contains("[null"), "{plot}");
        }
    }
}

#[test]
fn without_results_there_are_no_maps_however_many_images_there_are() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
name: many
dataset: {name: synthetic, train: 40, test: 20000}
labels: {count: 20, choose: first}
network: {channels: [2, 3, 4], hidden: 8}
stages: [{name: one, method: supervised, epochs: 1, batch: 4}]";
    let out = folder.path().join("many");
    std::fs::create_dir(&out).unwrap();
    let experiment = Experiment::parse("many.yaml".as_ref(), yaml).unwrap();
    Manifest::new(&experiment, "cpu").save(&out.join("manifest.json")).unwrap();
    let mut said = vec![];
    let page = report::write(std::slice::from_ref(&out), None, &out, &mut |what| said.push(what.to_owned())).unwrap();
    assert_eq!(files(&out, ".svg"), ["filters-random", "neighbors-random", "views"]);
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("No stage is finished yet, so there are no maps of features."));
    assert!(report::is_fresh(&out), "nothing is missing that there could be");
}

/// The weights of a finished stage are huge, and the features that they give are infinite or no numbers.
#[test]
fn features_that_are_no_numbers_have_a_map_too() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
name: huge
dataset: {name: synthetic, train: 40, test: 20}
labels: {count: 20, choose: first}
network: {channels: [2, 3, 4], hidden: 8}
stages: [{name: a, method: pretext, epochs: 1, batch: 4}]";
    let out = run_into(folder.path(), yaml);
    let path = out.join("a/weights.safetensors");
    let mut manifest = Manifest::load(&out.join("manifest.json")).unwrap();
    let network = manifest.experiment.network(&manifest.experiment.stages[0]);
    let mut weights = Weights::load(&path, &network).unwrap();
    for (i, value) in weights.arrays.iter_mut().flat_map(|array| &mut array.values).enumerate() {
        *value = if i % 2 == 0 { f32::MAX } else { f32::MIN };
    }
    weights.save(&path, &[]).unwrap();
    let history = manifest.result["a"].history.clone();
    manifest.result.insert("a".to_owned(), StageResult::new(&Trained { history, chosen: None, weights }).unwrap());
    manifest.save(&out.join("manifest.json")).unwrap();
    report::write(std::slice::from_ref(&out), None, &out, &mut |_| {}).unwrap();
    for id in ["umap-a", "neighbors-a", "filters-a"] {
        assert!(files(&out, ".png").contains(&id.to_owned()), "{id}");
    }
}
