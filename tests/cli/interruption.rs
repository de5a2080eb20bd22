//! What Ctrl-C, lost files and divergence leave behind.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::place::{Place, smoke, text};

/// Twelve epochs of a tiny SimSiam stage: long enough to be interrupted. Its updates by Adam and a cosine schedule
/// depend on the number of steps before.
const LONG: &str = "name: long
dataset: {name: synthetic, train: 400, test: 20}
labels: {count: 20, choose: first}
network: {channels: [4, 6, 8], hidden: 24, projector: 32, predictor: 8}
stages:
  - {name: simsiam, method: simsiam, epochs: 12, batch: 16, optimizer: adam, lr: 1e-3, schedule: cosine}
  - {name: probe, method: probe, from: simsiam, epochs: 2, batch: 10}
";

/// Starts the long experiment into `out`, sends it these signals once its second epoch is done, and gives its message.
#[cfg(unix)]
fn stopped(place: &Place, out: &str, signals: &[&str]) -> String {
    let file = place.write("long.yaml", LONG);
    let mut command = place.command(&["run", file.to_str().unwrap(), "--out", out, "--quiet"]);
    let child = command.stderr(Stdio::piped()).spawn().unwrap();
    second_epoch(place, out);
    for signal in signals {
        assert!(Command::new("kill").args([signal, &*child.id().to_string()]).status().unwrap().success());
    }
    let done = child.wait_with_output().unwrap();
    assert_eq!(done.status.code(), Some(130), "an interrupted run says so");
    assert!(place.path(out).join("simsiam/checkpoint").exists());
    text(&done.stderr)
}

/// Waits for the second epoch of the long experiment.
#[cfg(unix)]
fn second_epoch(place: &Place, out: &str) {
    let history = place.path(out).join("simsiam/history.json");
    wait("second epoch", || std::fs::read_to_string(&history).is_ok_and(|text| text.contains("\"epoch\": 2,")));
}

#[cfg(unix)]
fn wait(what: &str, is_there: impl Fn() -> bool) {
    let began = Instant::now();
    while !is_there() {
        assert!(began.elapsed() < Duration::from_secs(300), "no {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_a_run_that_goes_on_to_the_same_bits() {
    let place = Place::new();
    let message = stopped(&place, "broken", &["-INT"]);
    place.good(&["run", "long.yaml", "--out", "whole"]);
    let commands = place.commands(&message);
    assert!(message.starts_with("fewlabel: interrupted; resume with `") && commands.len() == 1, "{message}");
    let said = place.shell(&commands[0].replace(" --quiet", ""));
    let epoch = said.split_once("from epoch ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u32>().ok());
    let left = 12 - (epoch.expect(&said) - 1);
    assert!(
        left <= 10 && said.contains(&format!("simsiam  {left} of 12 epochs")),
        "the plan counts what is left: {said}"
    );
    assert_eq!(place.manifest("broken")["result"], place.manifest("whole")["result"]);
    let weights = |run: &str| std::fs::read(place.path(run).join("probe/weights.safetensors")).unwrap();
    assert_eq!(weights("broken"), weights("whole"));
    assert!(!place.path("broken/simsiam/checkpoint").exists());
}

/// A closed terminal saves what SIGTERM saves, also where it says so twice, or the session's end adds a SIGTERM.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_leaves_a_checkpoint() {
    let place = Place::new();
    stopped(&place, "once", &["-HUP"]);
    stopped(&place, "more", &["-HUP", "-HUP", "-TERM"]);
    let said = place.good(&["run", "long.yaml", "--out", "more"]);
    assert!(said.contains(" from epoch "), "{said}");
}

/// What becomes of the long experiment when its terminal is closed after two epochs: exit code and log. The shell, which
/// outlives the terminal, traps SIGHUP so.
#[cfg(target_os = "linux")]
fn in_closed_terminal(place: &Place, trap: &str) -> (String, String) {
    place.write("long.yaml", LONG);
    let program = place.command(&[]).get_program().display().to_string();
    let shell = place.write(
        "shell",
        format!(
            "trap {trap} HUP\n'{program}' run long.yaml --out run & pid=$!
while kill -0 $pid 2>&-; do wait $pid; code=$?; done\necho $code > code"
        ),
    );
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--command", &format!("exec sh '{}'", shell.display()), "/dev/null"]);
    terminal.current_dir(place.path("")).stdin(Stdio::null()).stdout(Stdio::null());
    let mut terminal = terminal.spawn().unwrap();
    second_epoch(place, "run");
    // Nobody holds the other end of the terminal any more.
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let code = place.path("code");
    wait("exit code", || std::fs::read_to_string(&code).is_ok_and(|code| code.ends_with('\n')));
    let read = |file| std::fs::read_to_string(place.path(file)).unwrap();
    (read("code").trim().to_owned(), read("run/log.txt"))
}

#[cfg(target_os = "linux")]
#[test]
fn a_terminal_that_is_closed_costs_nothing() {
    let place = Place::new();
    let (code, log) = in_closed_terminal(&place, "'kill -HUP $pid'");
    assert_eq!(code, "130", "{log}");
    assert!(log.trim_end().lines().last().unwrap().contains("simsiam: interrupted; resume with"), "{log}");
    assert!(place.path("run/simsiam/checkpoint").exists());
}

/// As under nohup: the run goes on, and has nowhere to print.
#[cfg(target_os = "linux")]
#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let place = Place::new();
    let (code, log) = in_closed_terminal(&place, "''");
    assert_eq!(code, "0", "{log}");
    assert!(log.contains("simsiam: epoch 12/12") && log.contains("The report: run/report.html"), "{log}");
}

/// An interrupted verification removes its temporary files.
#[cfg(unix)]
#[test]
fn sigterm_ends_a_verification_that_leaves_nothing() {
    let place = Place::new();
    let file = place.write("long.yaml", LONG);
    place.good(&["run", file.to_str().unwrap(), "--out", "whole"]);
    let before = place.files();
    let mut child = place.command(&["verify", "whole/manifest.json", "--quiet"]).spawn().unwrap();
    let began = Instant::now();
    while !place.files().iter().any(|file| !before.contains(file) && file.ends_with("simsiam/history.json")) {
        assert!(began.elapsed() < Duration::from_secs(60), "no first epoch");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(place.files(), before);
}

#[cfg(unix)]
#[test]
fn damaged_or_foreign_files_of_a_run_are_refused() {
    let place = Place::new();
    stopped(&place, "run", &["-INT"]);
    let checkpoint = place.path("run/simsiam/checkpoint");
    let bytes = std::fs::read(&checkpoint).unwrap();
    let mut flipped = bytes.clone();
    flipped[bytes.len() / 2] ^= 4;
    for (what, bad) in [("truncated", &bytes[..bytes.len() - 100]), ("empty", &[]), ("flipped", &flipped)] {
        std::fs::write(&checkpoint, bad).unwrap();
        let message = place.bad(&["run", "long.yaml", "--out", "run"], 2);
        assert!(message.contains("delete run/simsiam/checkpoint and run again"), "{what}: {message}");
        assert_eq!(std::fs::read(&checkpoint).unwrap(), bad, "{what}: left as it is");
    }
    // The checkpoint of another experiment, which has another seed.
    place.good(&["run", "long.yaml", "--out", "other", "--seed", "9"]);
    std::fs::write(place.path("other/simsiam/checkpoint"), &bytes).unwrap();
    let manifest = place.path("other/manifest.json");
    let mut unfinished = place.manifest("other");
    unfinished["result"] = serde_json::json!({});
    std::fs::write(&manifest, unfinished.to_string()).unwrap();
    let message = place.bad(&["run", "long.yaml", "--out", "other", "--seed", "9"], 2);
    assert!(message.contains("belongs to stage simsiam of experiment"), "{message}");

    // Weights other than the recorded ones are not trained on.
    std::fs::write(&checkpoint, &bytes).unwrap();
    place.good(&["run", "long.yaml", "--out", "run", "--only", "simsiam"]);
    let foreign = std::fs::read(place.path("other/simsiam/weights.safetensors")).unwrap();
    std::fs::write(place.path("run/simsiam/weights.safetensors"), foreign).unwrap();
    let message = place.bad(&["run", "long.yaml", "--out", "run"], 2);
    assert!(message.contains("not the weights"), "{message}");
    std::fs::write(place.path("run/manifest.json"), "{").unwrap();
    let message = place.bad(&["run", "long.yaml", "--out", "run"], 2);
    assert!(message.contains("manifest.json") && message.contains("--out"), "{message}");
}

#[test]
fn files_that_were_deleted_are_made_again_and_fresh_starts_over() {
    let place = Place::new();
    place.good(&["run", &smoke()]);
    let whole = place.manifest("runs/smoke");
    let weights = place.path("runs/smoke/simsiam/weights.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::remove_file(&weights).unwrap();
    let said = place.good(&["run", &smoke()]);
    assert!(said.contains("simsiam: epoch 2/2") && said.contains("baseline: already finished"), "{said}");
    assert_eq!(std::fs::read(&weights).unwrap(), bytes);
    assert_eq!(place.manifest("runs/smoke")["result"], whole["result"]);

    // An unreadable checkpoint and no manifest: --fresh starts over, and keeps files that are not the run's.
    std::fs::remove_file(place.path("runs/smoke/manifest.json")).unwrap();
    place.write("runs/smoke/baseline/checkpoint", "junk");
    place.write("runs/smoke/baseline/notes.txt", "mine");
    let message = place.bad(&["run", &smoke()], 2);
    assert!(message.contains("delete runs/smoke/baseline/checkpoint and run again"), "{message}");
    place.good(&["run", &smoke(), "--fresh"]);
    assert_eq!(place.manifest("runs/smoke")["result"], whole["result"]);
    assert_eq!(std::fs::read(place.path("runs/smoke/baseline/notes.txt")).unwrap(), b"mine");

    // What is no result may be anything: the table survives.
    let mut edited = whole.clone();
    edited["environment"]["seconds"]["baseline"] = serde_json::json!(-1.0);
    place.write("runs/smoke/manifest.json", edited.to_string());
    place.good(&["run", &smoke()]);
}

#[test]
fn results_that_were_changed_are_noticed() {
    let place = Place::new();
    place.good(&["run", &smoke(), "--only", "baseline"]);
    let whole = place.manifest("runs/smoke");
    let changes: [fn(&mut serde_json::Value); 4] = [
        |baseline| baseline["final"]["train_loss"] = serde_json::json!(0.5),
        |baseline| baseline["peak"]["test_top1"] = serde_json::json!(0.99),
        |baseline| baseline["history"][0]["train_loss"] = serde_json::json!(0.5),
        |baseline| drop(baseline["history"].as_array_mut().unwrap().pop()),
    ];
    for change in changes {
        let mut edited = whole.clone();
        change(&mut edited["result"]["baseline"]);
        place.write("runs/smoke/manifest.json", edited.to_string());
        for command in [&["run", &smoke()][..], &["report", "runs/smoke"]] {
            let message = place.bad(command, 2);
            assert!(message.contains("manifest.json") && message.contains("baseline was changed"), "{message}");
        }
    }
    place.write("runs/smoke/manifest.json", whole.to_string());
    // The manifest has the history, so the file is restored. Weights are nowhere else.
    for (file, is_refused) in [("history.json", false), ("weights.safetensors", true)] {
        let file = place.path("runs/smoke/baseline").join(file);
        let bytes = std::fs::read(&file).unwrap();
        let mut changed = bytes.clone();
        *changed.last_mut().unwrap() ^= 1;
        std::fs::write(&file, changed).unwrap();
        if is_refused {
            let message = place.bad(&["run", &smoke(), "--only", "baseline"], 2);
            assert!(
                message.contains("not the weights")
                    && message.contains("delete runs/smoke/baseline/weights.safetensors and run"),
                "{message}"
            );
            std::fs::remove_file(&file).unwrap();
        }
        let said = place.good(&["run", &smoke(), "--only", "baseline"]);
        assert_eq!(said.contains("baseline: already finished"), !is_refused, "{said}");
        assert_eq!(std::fs::read(&file).unwrap(), bytes);
    }
    assert_eq!(place.manifest("runs/smoke")["result"], whole["result"]);
}

#[test]
fn a_training_that_diverges_is_a_fault_and_says_where() {
    let place = Place::new();
    let text = "name: wild
dataset: {name: synthetic, train: 100, test: 10}
labels: {count: 100, choose: first}
network: {channels: [2, 2, 2], hidden: 8}
stages: [{name: a, method: supervised, batch: 10, epochs: 60, optimizer: sgd, lr: 10, momentum: 0.99}]";
    let file = place.write("wild.yaml", text);
    let message = place.bad(&["run", file.to_str().unwrap(), "--quiet"], 3);
    assert!(message.contains("stage a, epoch") && message.contains("lr"), "{message}");
    place.bad(&["run", file.to_str().unwrap(), "--quiet"], 3);
}

#[test]
fn two_runs_into_one_folder_the_second_is_refused() {
    let place = Place::new();
    std::fs::create_dir(place.path("run")).unwrap();
    let lock = std::fs::File::create(place.path("run/.lock")).unwrap();
    lock.lock().unwrap();
    let message = place.bad(&["run", &smoke(), "--out", "run"], 2);
    assert!(message.contains("another run"), "{message}");
}
