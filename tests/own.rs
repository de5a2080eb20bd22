//! What a program of one's own adds is used like what is built in: examples/own_method.rs, own_network.rs and
//! own_data.rs from run to report; and examples/own_images.rs.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fewlabel::data::{self, Kind};
use fewlabel::experiment::Manifest;

const EXPERIMENT: &str = "
name: own
dataset: {name: synthetic, train: 400, test: 60}
labels: {count: 80, choose: stratified}
network: {channels: [4, 6, 8], hidden: 16}
stages:
  - {name: rotation, method: rotation, epochs: 6, batch: 16, turned: 0.9}
  - {name: finetune, method: finetune, from: rotation, epochs: 2, batch: 16}
";

/// A program of this crate: the examples are built beside it.
fn program(name: &str) -> PathBuf {
    let own = Path::new(env!("CARGO_BIN_EXE_fewlabel"));
    if name == "fewlabel" { own.to_owned() } else { own.with_file_name("examples").join(name) }
}

fn command(folder: &Path, name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(program(name));
    command.args(args).current_dir(folder).stdin(Stdio::null());
    command
}

fn run(folder: &Path, name: &str, args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command(folder, name, args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn good(folder: &Path, name: &str, args: &[&str]) -> String {
    let (code, out, err) = run(folder, name, args);
    assert_eq!(code, Some(0), "{args:?}: {out}{err}");
    out
}

/// Runs `own.yaml` into `whole`, and into `killed`, which is killed once the first epoch of `stage` is written, and resumed:
/// the same result.
fn run_and_resume(folder: &Path, name: &str, stage: &str) -> serde_json::Value {
    good(folder, name, &["run", "own.yaml", "--out", "whole", "--quiet"]);
    let args = ["run", "own.yaml", "--out", "killed", "--quiet", "--checkpoint-every", "0"];
    let mut running = command(folder, name, &args).stdout(Stdio::null()).spawn().unwrap();
    let (stage, began) = (folder.join("killed").join(stage), Instant::now());
    while !stage.join("history.json").exists() {
        assert!(began.elapsed() < Duration::from_secs(120), "no epoch is over");
        std::thread::sleep(Duration::from_millis(2));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(stage.join("checkpoint").exists(), "it was finished before it was killed");
    good(folder, name, &args);
    let of = |run: &str| -> serde_json::Value {
        let manifest = std::fs::read(folder.join(run).join("manifest.json")).unwrap();
        serde_json::from_slice(&manifest).unwrap()
    };
    assert_eq!(of("killed")["result"], of("whole")["result"]);
    of("killed")
}

/// Whatever looks at the run says what this program lacks.
fn fewlabel_lacks(folder: &Path, lacks: &str) {
    for args in
        [&["verify", "killed/manifest.json"][..], &["report", "killed"], &["check", "killed"], &["run", "own.yaml"]]
    {
        let (code, _, message) = run(folder, "fewlabel", args);
        assert_eq!(code, Some(2), "{args:?}: {message}");
        assert!(message.contains(lacks), "{args:?}: {message}");
    }
    assert!(good(folder, "fewlabel", &["runs", "."]).contains(lacks));
    let error = Manifest::of_folder(&folder.join("killed")).unwrap_err().to_string();
    assert!(error.contains(lacks), "{error}");
}

#[test]
fn an_own_method_has_the_whole_command_line() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    std::fs::write(folder.join("own.yaml"), EXPERIMENT).unwrap();
    let manifest = run_and_resume(folder, "own_method", "rotation");
    assert_eq!(manifest["experiment"]["stages"][0]["turned"], 0.9f32);

    let said = good(folder, "own_method", &["verify", "killed/manifest.json"]);
    assert!(said.ends_with("bit-identical: 2 stages of own\n"), "{said}");
    good(folder, "own_method", &["check", "killed"]);
    good(folder, "own_method", &["report", "killed"]);
    let page = std::fs::read_to_string(folder.join("killed/report.html")).unwrap();
    assert!(page.contains("Accuracy of predicting rotation (of 4)"), "its figure");
    assert!(page.contains("<pre>own_method report killed") && page.contains("own_method verify killed/manifest.json"));
    assert!(folder.join("killed/rotation-tasks.png").exists());
    assert!(good(folder, "own_method", &["runs", "."]).contains("finetune"));

    fewlabel_lacks(folder, "unknown method `rotation`: this program has `supervised`");
}

#[test]
fn an_own_network_has_the_whole_command_line() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let yaml = "
name: own
dataset: {name: synthetic, train: 200, test: 40}
labels: {count: 80, choose: stratified}
network: {backbone: {name: bottleneck, widths: [8, 12]}, hidden: 16, projector: 16}
stages:
  - {name: vicreg, method: vicreg, epochs: 6, batch: 16}
  - {name: finetune, method: finetune, from: vicreg, epochs: 2, batch: 16}
  - {name: knn, method: knn, from: vicreg}
";
    std::fs::write(folder.join("own.yaml"), yaml).unwrap();
    let manifest = run_and_resume(folder, "own_network", "vicreg");
    let backbone = serde_json::json!({"name": "bottleneck", "widths": [8, 12], "narrow": 4});
    assert_eq!(manifest["experiment"]["network"]["backbone"], backbone);

    let said = good(folder, "own_network", &["verify", "killed/manifest.json"]);
    assert!(said.ends_with("bit-identical: 3 stages of own\n"), "{said}");
    good(folder, "own_network", &["check", "killed"]);
    good(folder, "own_network", &["report", "killed"]);
    assert!(folder.join("killed/filters-vicreg.png").exists(), "its first layer");
    assert!(good(folder, "own_network", &["runs", "."]).contains("finetune"));
    fewlabel_lacks(folder, "unknown backbone `bottleneck`: this program has `plain`, `resnet`");

    std::fs::write(folder.join("own.yaml"), yaml.replace("[8, 12]", "[8, 13]")).unwrap();
    let (code, _, message) = run(folder, "own_network", &["run", "own.yaml"]);
    let expected = "own.yaml:5:11: network.backbone.narrow: 4 does not divide all widths, numbers from 1 to 1024";
    assert!(code == Some(2) && message.contains(expected), "{message}");
}

/// With images of another side than CIFAR's, in every command.
#[test]
fn an_own_data_set_has_the_whole_command_line() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    let printed = good(folder, "own_data", &["data", "--set", "digits"]);
    assert!(printed.starts_with("# class     train   test\n# 0           200     50\n"), "{printed}");
    let line = printed.lines().last().unwrap();
    let published = include_str!("../examples/own_data.yaml");
    assert!(published.contains(line), "the example's images are these: {line}");
    let yaml = |dataset: &str| {
        format!(
            "name: own\n{dataset}\nlabels: {{count: 200, choose: stratified}}
network: {{channels: [8, 12, 16], hidden: 32, projector: 16, predictor: 8, dropout: 0}}
stages:
  - {{name: pretext, method: pretext, epochs: 3}}
  - {{name: simsiam, method: simsiam, epochs: 1, knn_every: 1}}
  - {{name: finetune, method: finetune, from: pretext, epochs: 8, batch: 20}}
  - {{name: probe, method: probe, from: simsiam, epochs: 1, frozen_norm: eval}}
  - {{name: knn, method: knn, from: pretext}}
"
        )
    };
    std::fs::write(folder.join("own.yaml"), yaml(line)).unwrap();
    let manifest = run_and_resume(folder, "own_data", "pretext");
    let dataset = &manifest["experiment"]["dataset"];
    assert_eq!((&dataset["name"], &dataset["side"]), (&"digits".into(), &16.into()));
    let top1 = manifest["result"]["finetune"]["final"]["test_top1"].as_f64().unwrap();
    assert!(top1 > 0.5, "{top1}: chance is 0.1");

    let said = good(folder, "own_data", &["verify", "killed/manifest.json"]);
    assert!(said.ends_with("bit-identical: 5 stages of own\n"), "{said}");
    good(folder, "own_data", &["check", "killed"]);
    good(folder, "own_data", &["report", "killed"]);
    let page = std::fs::read_to_string(folder.join("killed/report.html")).unwrap();
    assert!(page.contains("The digits of a dot-matrix display: 2000 training images, 200 of them with labels"));
    assert!(page.contains("data-side=\"16\"") && folder.join("killed/neighbors-simsiam.png").exists());
    assert!(good(folder, "own_data", &["runs", "."]).contains("finetune"));
    fewlabel_lacks(folder, "unknown data set `digits`: this program has `cifar10`, `cifar100`, `folder`, `synthetic`");

    // The file's word on the images is checked, where it stands or once they are there.
    let bad = |name: &str, from: &str, to: &str, expected: &str| {
        assert!(line.contains(from), "{line}");
        std::fs::write(folder.join("bad.yaml"), yaml(&line.replace(from, to))).unwrap();
        let (code, _, message) = run(folder, name, &["run", "bad.yaml"]);
        assert_eq!(code, Some(2), "{message}");
        assert!(message.contains(expected), "{message}");
    };
    let lacks = "dataset: digits needs `train`, `test`, `classes` and `sha256`; `data --set digits` of this program prints the line";
    bad("own_data", "classes: 10, ", "", &format!("bad.yaml:2:1: {lacks}"));
    bad("own_data", "sha256: \"", "sha256: \"0", "these are not the images that the experiment names: SHA-256 ");
    bad("own_data", "train: 2000", "train: 1990", "has 2000 training and 500 test images of 10 classes");
    bad(
        "own_data",
        ", side: 16",
        "",
        "has images of 16 × 16 pixels\n  the experiment says 32: take the `dataset:` line that `data --set digits",
    );
    bad("own_data", "side: 16", "background: black", "bad.yaml:2:1: dataset: `background` belongs to name: folder");
    bad(
        "own_data",
        "digits",
        "digit",
        "this program has `cifar10`, `cifar100`, `folder`, `synthetic`, `digits`; did you mean `digits`?",
    );
    let (code, _, message) = run(folder, "fewlabel", &["data", "--set", "digits"]);
    assert!(code == Some(2) && message.contains("unknown data set `digits`"), "{message}");
    let (code, _, message) = run(folder, "own_data", &["data", "--set", "cifar10"]);
    assert!(code == Some(2) && message.contains("--set is for data sets that a program adds"), "{message}");
}

/// Two colours, and SimSiam's features tell them: chance is a half.
#[test]
fn own_images_are_told_by_simsiam_s_features() {
    let place = tempfile::tempdir().unwrap();
    for (class, color) in [("cherries", [200, 30, 30]), ("plums", [30, 30, 200])] {
        for (set, n, first) in [("train", 10, 0), ("test", 5, 20)] {
            let folder = place.path().join("images").join(set).join(class);
            std::fs::create_dir_all(&folder).unwrap();
            for i in first..first + n {
                let pixel = |x, y| image::Rgb([0, 1, 2].map(|c| color[c] + ((x * 7 + y * 3 + i * 11) % 50) as u8));
                image::RgbImage::from_fn(20, 18, pixel).save(folder.join(format!("{i}.png"))).unwrap();
            }
        }
    }
    let printed = good(place.path(), "own_images", &["images", "run"]);
    let lines: Vec<&str> = printed.lines().filter(|line| line.starts_with("a test image of ")).collect();
    assert_eq!(lines.len(), 5, "{printed}");
    for line in lines {
        let (query, near) = line["a test image of ".len()..].split_once(": most similar are ").unwrap();
        let near: Vec<&str> = near.split(", ").map(|near| near.split(' ').next().unwrap()).collect();
        assert_eq!(near, [query; 3], "{line}");
    }
    let (code, _, message) = run(place.path(), "own_images", &["images"]);
    assert!(code != Some(0) && message.contains("usage: own_images IMAGES OUT"), "{message}");
}

#[test]
fn a_data_set_s_name_is_registered_once_and_not_over_a_built_in_one() {
    const ONE: Kind = Kind { name: "one", title: "One", load: |folder| Err(fewlabel::Error::data(folder, "", "")) };
    static KINDS: [Kind; 3] = [ONE, ONE, Kind { name: "synthetic", ..ONE }];
    assert!(data::register(&KINDS[0]).is_ok() && data::kinds().contains(&&KINDS[0]));
    for kind in &KINDS[1..] {
        let message = data::register(kind).unwrap_err().to_string();
        assert_eq!(message, format!("there is a data set {} already", kind.name));
    }
}

/// With the place in the file, like those of the built-in methods.
#[test]
fn mistakes_in_own_settings_are_placed() {
    let place = tempfile::tempdir().unwrap();
    let message = |from: &str, to: &str| {
        std::fs::write(place.path().join("own.yaml"), EXPERIMENT.replacen(from, to, 1)).unwrap();
        let (code, _, message) = run(place.path(), "own_method", &["run", "own.yaml"]);
        assert_eq!(code, Some(2), "{message}");
        message
    };
    let at = |line: &str, what: &str| format!("fewlabel: own.yaml:{line}: {what}\n");
    assert_eq!(message("turned: 0.9", "turned: 2"), at("7:62", "stage rotation: turned: 2 is no share from 0 to 1"));
    assert_eq!(
        message("turned: 0.9", "turned: yes"),
        at("7:70", "stage rotation: turned: invalid type: string \"yes\", expected a number")
    );
    assert!(message("turned: 0.9", "turnd: 1").contains("own.yaml:7:62: stages[0]: unknown field `turnd`"));
    assert!(message("turned: 0.9", "turnd: 1").ends_with("; did you mean `turned`?\n"));
    assert_eq!(message("epochs: 2", "turned: 1"), at("8:56", "stage finetune: `turned` is only for method: rotation"));
}
