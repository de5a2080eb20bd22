//! What a program of one's own adds is used like what is built in: examples/own_method.rs from run to report.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

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

#[test]
fn an_own_method_has_the_whole_command_line() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path();
    std::fs::write(folder.join("own.yaml"), EXPERIMENT).unwrap();
    good(folder, "own_method", &["run", "own.yaml", "--out", "whole", "--quiet"]);
    let result = |run: &str| Manifest::of_folder(&folder.join(run)).unwrap_err().to_string();

    // Killed once its first epoch is written, and resumed.
    let args = ["run", "own.yaml", "--out", "killed", "--quiet", "--checkpoint-every", "0"];
    let mut running = command(folder, "own_method", &args).stdout(Stdio::null()).spawn().unwrap();
    let (history, began) = (folder.join("killed/rotation/history.json"), Instant::now());
    while !history.exists() {
        assert!(began.elapsed() < Duration::from_secs(120), "no epoch is over");
        std::thread::sleep(Duration::from_millis(2));
    }
    running.kill().unwrap();
    running.wait().unwrap();
    assert!(folder.join("killed/rotation/checkpoint").exists(), "it was finished before it was killed");
    good(folder, "own_method", &args);
    let of = |run: &str| -> serde_json::Value {
        let manifest = std::fs::read(folder.join(run).join("manifest.json")).unwrap();
        serde_json::from_slice(&manifest).unwrap()
    };
    assert_eq!(of("killed")["result"], of("whole")["result"]);
    assert_eq!(of("whole")["experiment"]["stages"][0]["turned"], 0.9f32);

    let said = good(folder, "own_method", &["verify", "killed/manifest.json"]);
    assert!(said.ends_with("bit-identical: 2 stages of own\n"), "{said}");
    good(folder, "own_method", &["check", "killed"]);
    good(folder, "own_method", &["report", "killed"]);
    let page = std::fs::read_to_string(folder.join("killed/report.html")).unwrap();
    assert!(page.contains("Accuracy of predicting rotation (of 4)"), "its figure");
    assert!(folder.join("killed/rotation-tasks.png").exists());
    assert!(good(folder, "own_method", &["runs", "."]).contains("finetune"));

    // A program that lacks it says so.
    let lacks = "unknown method `rotation`: this program has `supervised`";
    for args in [&["verify", "killed/manifest.json"][..], &["report", "killed"], &["run", "own.yaml"]] {
        let (code, _, message) = run(folder, "fewlabel", args);
        assert_eq!(code, Some(2), "{args:?}: {message}");
        assert!(message.contains(lacks), "{args:?}: {message}");
    }
    assert!(result("killed").contains(lacks), "{}", result("killed"));
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
