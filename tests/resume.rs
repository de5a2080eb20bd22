//! A run that is killed at any moment resumes to the same bits.
#![cfg(unix)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use fewlabel::rng::{Purpose, Stream};

/// Everything that a checkpoint must hold: Adam and SGD, a cosine schedule, running statistics, dropout, the best epoch so far, a
/// teacher and an average, of a whole network and of a head, a stage that starts from another's weights, images without labels.
/// Some hundred steps.
const EXPERIMENT: &str = "name: killed
dataset: {name: synthetic, train: 320, test: 40}
labels: {count: 60, choose: stratified, validation: 0.2}
network: {channels: [4, 6, 8], hidden: 24, projector: 32, predictor: 8}
stages:
  - {name: simsiam, method: simsiam, epochs: 6, batch: 16, knn_every: 2}
  - {name: pretext, method: pretext, epochs: 3, batch: 16}
  - {name: byol, method: byol, epochs: 2, batch: 16, target_momentum: 0.9, nesterov: true}
  - {name: finetune, method: finetune, from: pretext, epochs: 8, batch: 8, average: 0.9}
  - {name: linear, method: probe, from: byol, epochs: 8, batch: 8, probe: linear, frozen_norm: eval, average: 0.5}
  - {name: mlp, method: probe, from: simsiam, epochs: 6, batch: 8, augment: {flip: alternating, shift: 3}}
  - {name: fixmatch, method: fixmatch, from: pretext, epochs: 2, batch: 8, unlabelled: 3, unlabelled_from: 2, threshold: 0.12, teacher: average}
";

fn start(folder: &Path, out: &str, every: &str) -> Command {
    let file = folder.join("killed.yaml");
    std::fs::write(&file, EXPERIMENT).unwrap();
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fewlabel"));
    command.args(["run", "killed.yaml", "--quiet", "--checkpoint-every", every, "--out", out]);
    command.current_dir(folder).stdout(Stdio::null());
    command
}

fn result(folder: &Path, out: &str) -> serde_json::Value {
    let bytes = std::fs::read(folder.join(out).join("manifest.json")).unwrap();
    serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["result"].clone()
}

const STAGES: [&str; 7] = ["simsiam", "pretext", "byol", "finetune", "linear", "mlp", "fixmatch"];

/// Finished stages in the run's manifest; 0 before there is one.
fn finished_stages(folder: &Path, out: &str) -> usize {
    if !folder.join(out).join("manifest.json").exists() {
        return 0;
    }
    result(folder, out).as_object().unwrap().len()
}

/// Files in the stages' folders beside the `known` ones, and unfinished files in the run directory.
fn files(out: &Path, known: &[&str]) -> Vec<String> {
    let names = |folder: &Path| -> Vec<String> {
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    };
    let of_stages = STAGES.iter().flat_map(|stage| names(&out.join(stage))).filter(|name| !known.contains(&&**name));
    of_stages.chain(names(out).into_iter().filter(|name| name.starts_with(".fewlabel-"))).collect()
}

#[test]
fn what_a_kill_left_is_swept_up() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(start(folder, "out", "60").status().unwrap().success());
    for left in [".fewlabel-abc", "mlp/.fewlabel-def", "mlp/checkpoint"] {
        std::fs::write(folder.join("out").join(left), "half").unwrap();
    }
    std::fs::write(folder.join("out/mlp/notes"), "mine").unwrap();
    assert!(start(folder, "out", "60").status().unwrap().success());
    assert_eq!(files(&folder.join("out"), &["history.json", "weights.safetensors"]), ["notes"]);
}

#[test]
fn twenty_kills_change_no_bit() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(start(folder, "whole", "60").status().unwrap().success());
    let whole = result(folder, "whole");
    let mut stream = Stream::new(0, Purpose::Init, 0, 0);
    let (mut kills, mut runs) = (0, 0);
    while kills < 20 {
        // A checkpoint after every step: most kills hit a write.
        let out = format!("killed-{runs}");
        // On a slow machine the first step may take longer than the wait, which therefore grows from kill to kill.
        for patience in 1.. {
            let mut child = start(folder, &out, "0").spawn().unwrap();
            std::thread::sleep(Duration::from_millis(20 + u64::from(stream.below(240 + 10 * patience))));
            // The report, after the last stage, takes longer than the waits.
            if finished_stages(folder, &out) == STAGES.len() {
                assert!(child.wait().unwrap().success(), "run {runs} after {kills} kills");
                break;
            }
            assert!(child.try_wait().unwrap().is_none(), "run {runs} after {kills} kills");
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
        }
        assert_eq!(result(folder, &out), whole, "run {runs}");
        for stage in STAGES {
            for file in ["weights.safetensors", "history.json"] {
                let read = |out: &str| std::fs::read(folder.join(out).join(stage).join(file)).unwrap();
                assert!(read(&out) == read("whole"), "{stage}/{file} of run {runs}");
            }
        }
        assert_eq!(
            files(&folder.join(&out), &["history.json", "weights.safetensors"]),
            Vec::<String>::new(),
            "run {runs}"
        );
        runs += 1;
    }
}

/// A run killed in its first stage, after a checkpoint: the checkpoint's path and bytes.
fn killed(folder: &Path, out: &str) -> (PathBuf, Vec<u8>) {
    let checkpoint = folder.join(out).join("simsiam/checkpoint");
    let mut child = start(folder, out, "0").spawn().unwrap();
    while !checkpoint.exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended without a checkpoint");
        std::thread::sleep(Duration::from_millis(5));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let bytes = std::fs::read(&checkpoint).unwrap();
    (checkpoint, bytes)
}

/// A limit on file sizes makes a write fail as a full disk does.
#[test]
fn a_full_disk_stops_the_run_and_leaves_the_last_checkpoint_whole() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    assert!(start(folder, "whole", "60").status().unwrap().success());
    let (checkpoint, before) = killed(folder, "full");
    let program = start(folder, "full", "0");
    let arguments: Vec<_> = program.get_args().map(|a| a.to_str().unwrap()).collect();
    // In blocks of 512 bytes or 1 KiB: less than a checkpoint, more than a manifest.
    let limited = format!("trap '' XFSZ; ulimit -f 32; exec {:?} {}", program.get_program(), arguments.join(" "));
    let output = Command::new("bash").args(["-c", &limited]).current_dir(folder).output().unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.starts_with("fewlabel: cannot write") && message.contains("checkpoint"), "{message}");
    assert!(std::fs::read(&checkpoint).unwrap() == before, "the last checkpoint is whole");
    let left = std::fs::read_dir(folder.join("full/simsiam")).unwrap().count();
    assert!(left <= 2, "no half-written file stays: {left} files");
    assert!(start(folder, "full", "60").status().unwrap().success());
    assert_eq!(result(folder, "full"), result(folder, "whole"));
}

/// The stage's folder becomes read-only: a new checkpoint needs a new file there.
#[test]
fn a_read_only_folder_stops_the_run_and_leaves_the_last_checkpoint_whole() {
    use std::os::unix::fs::{PermissionsExt, chown};
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (checkpoint, before) = killed(folder, "shut");
    let stage = folder.join("shut/simsiam");
    // A file that the kill cut short would be removed first.
    for entry in std::fs::read_dir(&stage).unwrap().map(|entry| entry.unwrap()) {
        if entry.file_name().to_string_lossy().starts_with(".fewlabel-") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let allow = |mode: u32| std::fs::set_permissions(&stage, std::fs::Permissions::from_mode(mode)).unwrap();
    allow(0o555);
    let mut command = start(folder, "shut", "0");
    if std::fs::write(stage.join("probe"), "").is_ok() {
        // The superuser may write anywhere: run as nobody, who owns everything but this folder.
        const NOBODY: u32 = 65534;
        std::fs::remove_file(stage.join("probe")).unwrap();
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
        for entry in std::fs::read_dir(folder.join("shut")).unwrap().map(|entry| entry.unwrap().path()) {
            if entry != stage {
                chown(entry, Some(NOBODY), None).unwrap();
            }
        }
        chown(folder.join("shut"), Some(NOBODY), None).unwrap();
        command.uid(NOBODY);
    }
    let Ok(output) = command.stderr(Stdio::piped()).output() else {
        allow(0o755);
        let _ = writeln!(std::io::stderr(), "skipped: nobody may not run the program here");
        return;
    };
    let message = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{message}");
    assert!(message.starts_with("fewlabel: cannot create a file in") && message.contains("simsiam"), "{message}");
    assert!(std::fs::read(&checkpoint).unwrap() == before, "the last checkpoint is whole");
    allow(0o755);
    assert!(start(folder, "shut", "60").status().unwrap().success());
}
