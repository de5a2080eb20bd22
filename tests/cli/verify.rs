//! `fewlabel verify` from outside.

use std::path::Path;
use std::process::{Command, Output};

const EXPERIMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");

fn fewlabel(folder: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fewlabel"));
    // Temporary files beside the rest, where they are seen.
    command.args(args).current_dir(folder).env("TMPDIR", folder).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the smoke experiment, and gives its manifest.
fn smoke(folder: &Path) -> serde_json::Value {
    let done = fewlabel(folder, &["run", &format!("{EXPERIMENTS}/smoke.yaml"), "--quiet"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    serde_json::from_slice(&std::fs::read(folder.join("runs/smoke/manifest.json")).unwrap()).unwrap()
}

#[test]
fn the_same_bits_are_found_on_other_threads() {
    let folder = tempfile::tempdir().unwrap();
    smoke(folder.path());
    let done = fewlabel(folder.path(), &["verify", "runs/smoke/manifest.json", "--threads", "3"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).ends_with("bit-identical: 6 stages of smoke\n"), "{}", text(&done.stdout));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["runs"], "nothing is left behind");
    let other = fewlabel(folder.path(), &["verify", "runs/smoke/manifest.json", "--seed", "1"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("--seed: of that the manifest has no result"), "{}", text(&other.stderr));
}

#[test]
fn a_difference_is_named_with_both_values() {
    let folder = tempfile::tempdir().unwrap();
    let original = smoke(folder.path());
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut manifest = original.clone();
        change(&mut manifest);
        std::fs::write(folder.path().join("changed.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
        let done = fewlabel(folder.path(), &["verify", "changed.json", "--quiet", "--only", "baseline,pretext"]);
        (done.status.code(), text(&done.stderr))
    };
    let (code, message) = changed(&|manifest| {
        manifest["result"]["pretext"]["history"][1]["train_loss"] = 0.5.into();
        manifest["environment"]["cpu_features"] = ["sse9"].into();
    });
    assert_eq!(code, Some(1), "{message}");
    let found = original["result"]["pretext"]["history"][1]["train_loss"].to_string();
    let expected = format!("fewlabel: stage pretext, epoch 2, train_loss: expected 0.5, found {found}\n");
    assert!(message.starts_with(&expected), "{message}");
    assert!(message.contains("environment: cpu_features: expected sse9, found"), "{message}");
    let (code, message) = changed(&|manifest| manifest["result"]["baseline"]["weights_sha256"] = "0".into());
    assert_eq!(code, Some(1), "{message}");
    assert!(message.contains("stage baseline, weights_sha256: expected 0, found"), "{message}");
    let done = fewlabel(folder.path(), &["verify", "changed.json", "--json", "--only", "baseline"]);
    let (said, message) = (text(&done.stdout), text(&done.stderr));
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((done.status.code(), &last["event"]), (Some(1), &"differs".into()), "{said}");
    assert_eq!(format!("fewlabel: {}\n", last["message"].as_str().unwrap()), message);
}

#[test]
fn a_manifest_that_cannot_be_verified_is_bad_input() {
    let folder = tempfile::tempdir().unwrap();
    let mut manifest = smoke(folder.path());
    let bad = |contents: &[u8], expected: &str| {
        std::fs::write(folder.path().join("bad.json"), contents).unwrap();
        let done = fewlabel(folder.path(), &["verify", "bad.json"]);
        assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
        assert!(text(&done.stderr).contains(expected), "{}", text(&done.stderr));
    };
    bad(b"{}", "not a manifest");
    bad(b"\xff\x00", "not a manifest");
    // Nothing may be called identical without being compared.
    manifest["result"] = serde_json::json!({"baseline": manifest["result"]["baseline"]});
    std::fs::write(folder.path().join("part.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    let done = fewlabel(folder.path(), &["verify", "part.json", "--only", "pretext"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(
        text(&done.stderr).contains("--only: of that the manifest has no result; it has: baseline"),
        "{}",
        text(&done.stderr)
    );
    manifest["result"] = serde_json::json!({"another": manifest["result"]["baseline"]});
    bad(&serde_json::to_vec(&manifest).unwrap(), "has a result of another");
    for points in ["nan", "0", "-1", "inf", "many"] {
        let done = fewlabel(folder.path(), &["verify", "part.json", "--within", points]);
        assert_eq!(done.status.code(), Some(2), "{points}");
    }
    manifest["result"] = serde_json::json!({});
    bad(&serde_json::to_vec(&manifest).unwrap(), "no result");
    manifest["experiment"]["seed"] = 5.into();
    bad(&serde_json::to_vec(&manifest).unwrap(), "the hash does not match");
    // With the hash made to fit: an experiment that no file could have given is refused all the same.
    let crafted = |change: &dyn Fn(&mut serde_json::Value), expected: &str| {
        let mut manifest = smoke(folder.path());
        change(&mut manifest["experiment"]);
        let hash = fewlabel::files::sha256(&serde_json::to_vec(&manifest["experiment"]).unwrap());
        manifest["experiment_sha256"] = hash.into();
        bad(&serde_json::to_vec(&manifest).unwrap(), expected);
    };
    crafted(&|experiment| drop(experiment["stages"][0].as_object_mut().unwrap().shift_remove("lr")), "not complete");
    crafted(&|experiment| experiment["stages"][2]["from"] = "nothing".into(), "cannot be run");
    crafted(&|experiment| experiment["stages"] = serde_json::json!([]), "cannot be run");
}

/// Where bits may differ, the means over the seeds are compared: the same seeds are equivalent, one seed shows nothing.
#[test]
fn within_a_margin_seeds_are_compared_by_their_means() {
    let folder = tempfile::tempdir().unwrap();
    let strict = format!("{EXPERIMENTS}/smoke-strict.yaml");
    let done = fewlabel(folder.path(), &["run", &strict, "--quiet", "--only", "random-knn"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let verify = |manifest: &str, only: &str| {
        let done = fewlabel(folder.path(), &["verify", manifest, "--within", "60", "--only", only]);
        (done.status.code(), text(&done.stderr) + &text(&done.stdout))
    };
    let (code, said) = verify("runs/smoke-strict/manifest.json", "seed-7/random-knn");
    assert_eq!((code, said.contains("bit-identical")), (Some(0), true), "{said}");
    // Other bits.
    let bytes = std::fs::read(folder.path().join("runs/smoke-strict/manifest.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let top1 = &mut manifest["result"]["seed-7/random-knn"]["final"]["test_top1"];
    *top1 = (top1.as_f64().unwrap() + 0.025).into();
    std::fs::write(folder.path().join("other.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    let (code, said) = verify("other.json", "random-knn");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("random-knn: within 60 points (p = 0.0"), "{said}");
    let of_seed = |seed: &str| fewlabel(folder.path(), &["verify", "other.json", "--seed", seed, "--quiet"]);
    let (changed, same) = (of_seed("7"), of_seed("8"));
    assert!(text(&changed.stderr).contains("stage seed-7/random-knn, epoch final"), "{}", text(&changed.stderr));
    assert_eq!([changed.status.code(), same.status.code()], [Some(1), Some(0)], "{}", text(&same.stderr));
    let (code, said) = verify("other.json", "seed-7/random-knn");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("random-knn: not shown to be within 60 points (it takes two seeds"), "{said}");
}

/// A stage with the same fingerprint is taken over from another run; the rest is run, to the same bits.
#[test]
fn what_another_run_has_finished_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    smoke(folder.path());
    let text_of_smoke = std::fs::read_to_string(format!("{EXPERIMENTS}/smoke.yaml")).unwrap();
    let other =
        text_of_smoke.replace("name: smoke", "name: other").replace("epochs: 1, batch: 16", "epochs: 3, batch: 16");
    std::fs::write(folder.path().join("other.yaml"), other).unwrap();
    let run = |args: &[&str]| {
        let done = fewlabel(folder.path(), &[&["run", "other.yaml"], args].concat());
        assert!(done.status.success(), "{}", text(&done.stderr));
        text(&done.stdout)
    };
    let said = run(&["--reuse", "runs/smoke"]);
    assert_eq!(said.matches("taken from runs/smoke").count(), 5, "{said}");
    assert!(said.contains("simsiam-linear: 3 epochs"), "{said}");
    run(&["--out", "alone"]);
    let result = |run: &str| -> serde_json::Value {
        let bytes = std::fs::read(folder.path().join(run).join("manifest.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["result"].clone()
    };
    assert_eq!(result("runs/other"), result("alone"));
    let read = |run: &str| std::fs::read(folder.path().join(run).join("simsiam/weights.safetensors")).unwrap();
    assert!(read("runs/other") == read("alone"));
    // Damaged weights are noticed.
    let path = folder.path().join("runs/smoke/baseline/weights.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let done = fewlabel(folder.path(), &["run", "other.yaml", "--fresh", "--reuse", "runs/smoke"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("not the weights"), "{}", text(&done.stderr));
}
