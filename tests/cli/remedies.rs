//! What messages say to do: copied as it stands it helps, and destroys nothing that it does not name.

use crate::place::{EXPERIMENTS, Place, smoke};

/// A small experiment in a file of this name.
fn small(place: &Place, file: &str, name: &str, epochs: u32) {
    let yaml = format!(
        "name: {name}\ndataset: {{name: synthetic, train: 60, test: 20}}\nlabels: {{count: 20, choose: first}}
network: {{channels: [2, 3, 4], hidden: 8}}\nstages: [{{name: a, method: supervised, epochs: {epochs}, batch: 10}}]"
    );
    place.write(file, yaml);
}

/// The run of another experiment in the way is offered another folder first, and what throws it away says so; neither
/// touches a run of the quick experiment, whose name stands for nothing here.
#[cfg(unix)]
#[test]
fn the_commands_of_a_message_are_about_the_run_that_was_asked_for() {
    let place = Place::new();
    small(&place, "it's mine.yaml", "a", 1);
    place.good(&["run", "it's mine.yaml", "--out", "my runs/a", "--quiet"]);
    let quick = place.write("runs/quick/manifest.json", "finished");
    let before = place.manifest("my runs/a");
    small(&place, "it's mine.yaml", "a", 2);
    for damage in [None, Some("{\"experiment_sha256\": 0}")] {
        if let Some(damage) = damage {
            place.write("my runs/a/manifest.json", damage);
        }
        let message = place.bad(&["run", "it's mine.yaml", "--quiet", "--out", "my runs/a"], 2);
        let held = if damage.is_none() { "the 1 finished stage" } else { "the run" };
        assert!(message.contains(&format!("or throw away {held} in 'my runs/a': `")), "{message}");
        let [elsewhere, over] = &place.commands(&message)[..] else { panic!("two commands: {message}") };
        if damage.is_none() {
            assert!(elsewhere.ends_with(r"run 'it'\''s mine.yaml' --quiet --out 'my runs/a-2'"), "{message}");
            place.shell(elsewhere);
            assert_eq!(place.manifest("my runs/a"), before);
            assert_eq!(place.manifest("my runs/a-2")["result"]["a"]["final"]["epoch"], 2);
        } else {
            assert!(elsewhere.ends_with("--out 'my runs/a-3'"), "the second is taken: {message}");
            place.shell(over);
            assert_eq!(place.manifest("my runs/a")["result"]["a"]["final"]["epoch"], 2);
        }
        assert_eq!(std::fs::read(&quick).unwrap(), b"finished");
    }
}

#[test]
fn a_verification_names_no_folder_that_is_gone() {
    let place = Place::new();
    small(&place, "a.yaml", "a", 1);
    place.good(&["run", "a.yaml", "--quiet"]);
    let temporary = place.path("").display().to_string();
    let said = place.good(&["verify", "runs/a/manifest.json"]);
    assert!(said.starts_with("a: 1 stage into a temporary folder\n"), "{said}");
    assert!(!said.contains(&temporary) && !said.contains("Everything else"), "{said}");
    assert!(said.ends_with("bit-identical: 1 stage of a\n"), "{said}");
    let said = place.good(&["verify", "runs/a/manifest.json", "--json"]);
    assert!(said.contains("{\"event\":\"done\",\"folder\":null}") && !said.contains(&temporary), "{said}");
    let said = place.good(&["verify", "runs/a/manifest.json", "--out", "again"]);
    assert!(said.contains("a: 1 stage into again\n") && said.contains("Everything else is in again\n"), "{said}");
}

/// One of a thing is singular.
#[test]
fn a_run_of_one_stage_has_one_stage() {
    let place = Place::new();
    small(&place, "a.yaml", "a", 1);
    let said = place.good(&["run", "a.yaml"]);
    assert!(said.starts_with("a: 1 stage into runs/a\n") && said.contains("a: 1 epoch × 2 steps\n"), "{said}");
    let mut unfinished = place.manifest("runs/a");
    unfinished["result"] = serde_json::json!({});
    place.write("runs/a/manifest.json", unfinished.to_string());
    assert!(place.good(&["runs"]).contains("  0 of 1 stage\n"));
}

#[test]
fn what_is_not_there_is_told_from_what_is_damaged() {
    let place = Place::new();
    small(&place, "a.yaml", "strict", 1);
    place.good(&["run", "a.yaml", "--quiet"]);
    place.write("experiments/strict.yaml", std::fs::read(smoke()).unwrap());
    place.write("golden/strict.json", "{}");
    place.write("empty/notes.txt", "");
    place.write("broken/manifest.json", "{");
    let says = |args: &[&str], expected: &[&str]| {
        let message = place.bad(args, 2);
        for expected in expected {
            assert!(message.contains(expected), "{args:?}: {expected}: {message}");
        }
    };
    says(&["report", "nope"], &["nope: there is no such folder\n", "`fewlabel runs` lists"]);
    says(&["report", "strikt"], &["there is no such folder; did you mean `runs/strict`?"]);
    says(&["report", "empty"], &["empty: is no run directory: it holds no manifest.json", "`fewlabel run` wrote"]);
    says(&["report", "a.yaml"], &["a.yaml: is a file, not a run directory"]);
    says(&["report", "runs/strict/manifest.json"], &["name the folder that holds it: runs/strict\n"]);
    says(&["report", "broken"], &["broken/manifest.json: is not a manifest of this version", "restore it from a copy"]);
    says(&["run", "a.yaml", "--out", "b", "--reuse", "strict"], &["did you mean `runs/strict`?", "--reuse takes"]);

    says(&["runs", "rusn"], &["rusn: there is no such folder; did you mean `runs`?"]);
    says(&["runs", "a.yaml"], &["a.yaml: is a file, not a folder"]);
    says(&["runs", "runs/strict"], &["is a run directory itself", "`fewlabel runs runs`"]);

    says(&["verify", "strict"], &["strict: there is no such file; did you mean `golden/strict.json`?"]);
    says(&["verify", "nope"], &["nope: there is no such file\n"]);
    says(
        &["verify", "runs/strict"],
        &["is a folder, not a manifest", "name the manifest in it: runs/strict/manifest.json"],
    );
    says(&["verify", "broken/manifest.json"], &["is not a manifest of this version"]);

    says(&["run", "strict"], &["strict: there is no such file; did you mean `experiments/strict.yaml`?"]);
    place.write("mine.yaml", "");
    says(&["run", "mime.yaml"], &["mime.yaml: there is no such file; did you mean `mine.yaml`?"]);
    says(&["run", "b.yaml"], &["b.yaml: there is no such file\n"]);
    says(&["run", "quick"], &["the quick experiment is built in: `fewlabel run` without a file"]);
    says(&["run", EXPERIMENTS], &["is a folder, not an experiment file"]);
    place.write("runs/quick/manifest.json", "{}");
    says(
        &["run", "runs/quick"],
        &["is a run directory, not", "`fewlabel verify runs/quick/manifest.json` runs it again"],
    );
}

/// A stage that has learnt nothing says so when it ends, when its weights are used, and in the table.
#[test]
fn a_stage_that_has_hardly_learnt_says_so() {
    let place = Place::new();
    let yaml = "name: t\ndataset: {name: synthetic, train: 60, test: 20}\nlabels: {count: 20, choose: first}
network: {channels: [2, 3, 4], hidden: 8, projector: 16, predictor: 4}
stages:
  - {name: simsiam, method: simsiam, epochs: 1, batch: 10, lr: 1e-9}
  - {name: probe, method: probe, from: simsiam, epochs: 1, batch: 10, lr: 1e-9}";
    place.write("t.yaml", yaml);
    let said = place.good(&["run", "t.yaml"]);
    let expected = [
        "\nsimsiam: warning: hardly learnt: loss ",
        "\nprobe: warning: simsiam has hardly learnt: this stage may do no better than from random weights\n",
        "\nprobe: warning: hardly learnt: test_top1 ",
        "\nhardly learnt: simsiam; stages that start from it ",
    ];
    for line in expected {
        assert!(said.contains(line), "{line}: {said}");
    }
    let log = std::fs::read_to_string(place.path("runs/t/log.txt")).unwrap();
    assert!(log.contains("Z simsiam: warning: hardly learnt"), "{log}");
    let report = std::fs::read_to_string(place.path("runs/t/report.html")).unwrap();
    assert!(report.contains("hardly learnt: simsiam"));
    let said = place.good(&["run", "t.yaml", "--json", "--fresh"]);
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("\"event\":\"warning\"")).collect();
    assert_eq!(warnings.len(), 3, "{said}");
}
