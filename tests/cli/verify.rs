//! `fewlabel verify` and `run --reuse`: results of others, or of other runs.

use crate::place::{EXPERIMENTS, Place, text};

/// Runs the smoke experiment and gives its manifest.
fn smoke(place: &Place) -> serde_json::Value {
    place.good(&["run", &crate::place::smoke(), "--quiet"]);
    place.manifest("runs/smoke")
}

#[test]
fn the_same_bits_are_found_on_other_threads() {
    let place = Place::new();
    smoke(&place);
    let done = place.run(&["verify", "runs/smoke/manifest.json", "--threads", "3"]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).ends_with("bit-identical: 6 stages of smoke\n"), "{}", text(&done.stdout));
    let left: Vec<_> = std::fs::read_dir(place.path("")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["runs"], "nothing is left behind");
    let other = place.run(&["verify", "runs/smoke/manifest.json", "--seed", "1"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("--seed: the manifest has no such result"), "{}", text(&other.stderr));
}

/// Without validation images: nothing is chosen, and what is tested after the last epoch stands for the stage everywhere.
#[test]
fn a_run_that_is_tested_once_is_shown_checked_and_verified() {
    let place = Place::new();
    let yaml = "
name: once
seeds: 2
dataset: {name: synthetic, train: 60, test: 40}
labels: {count: 40, choose: stratified}
test: once
network: {channels: [2, 3, 4], hidden: 8}
stages:
  - {name: pretext, method: pretext, epochs: 2, batch: 20}
  - {name: knn, method: knn, from: pretext}
  - {name: finetune, method: finetune, from: pretext, epochs: 2, batch: 20, augment: {flip: random}}
claims: [{better: finetune, than: knn}]";
    place.write("once.yaml", yaml);
    let said = place.good(&["run", "once.yaml"]);
    assert!(said.contains("final: test accuracy after the last epoch; the test images were used once"), "{said}");
    assert!(said.contains("seed-0/finetune: tested: epoch 2  test_loss"), "{said}");
    assert!(said.contains("finetune beats knn: ") && !said.contains("not run yet"), "{said}");
    let result = place.manifest("runs/once")["result"].clone();
    let tested = &result["seed-1/finetune"]["chosen"]["test_top1"];
    assert!(result["seed-1/finetune"]["final"].get("test_top1").is_none() && tested.is_f64(), "{result}");
    assert!(result["seed-1/pretext"]["chosen"]["test_rotation_top1"].is_f64(), "{result}");
    let csv = std::fs::read_to_string(place.path("runs/once/results.csv")).unwrap();
    assert!(csv.contains(&format!("once,1,finetune,finetune,40,,,{tested},,,\n")), "{csv}");
    place.good(&["check", "runs/once"]);
    let verified = place.good(&["verify", "runs/once/manifest.json"]);
    assert!(verified.ends_with("bit-identical: 6 stages of once\n"), "{verified}");
    let runs = place.good(&["runs", "--json"]);
    let runs: serde_json::Value = serde_json::from_str(runs.lines().next().unwrap()).unwrap();
    assert_eq!(runs["epoch"], "final", "{runs}");
}

#[test]
fn a_difference_is_named_with_both_values() {
    let place = Place::new();
    let original = smoke(&place);
    let changed = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut manifest = original.clone();
        change(&mut manifest);
        std::fs::write(place.path("changed.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
        let done = place.run(&["verify", "changed.json", "--quiet", "--only", "baseline,pretext"]);
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
    assert!(message.contains("the program differs, or the manifest was changed"), "{message}");
    let (_, message) = changed(&|manifest| manifest["result"]["pretext"]["history"][0]["train_loss"] = 0.5.into());
    assert!(message.contains("does not agree with its own hashes"), "{message}");
    let (code, _) = changed(&|manifest| manifest["result"]["baseline"]["weights_sha256"] = "0".into());
    assert_eq!(code, Some(1));
    let done = place.run(&["verify", "changed.json", "--json", "--only", "baseline"]);
    let (said, message) = (text(&done.stdout), text(&done.stderr));
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!((done.status.code(), &last["event"]), (Some(1), &"differs".into()), "{said}");
    assert_eq!(format!("fewlabel: {}\n", last["message"].as_str().unwrap()), message);
}

#[test]
fn a_manifest_that_cannot_be_verified_is_bad_input() {
    let place = Place::new();
    let mut manifest = smoke(&place);
    let bad = |contents: &[u8], expected: &str| {
        std::fs::write(place.path("bad.json"), contents).unwrap();
        let done = place.run(&["verify", "bad.json"]);
        assert_eq!(done.status.code(), Some(2), "{}", text(&done.stderr));
        assert!(text(&done.stderr).contains(expected), "{}", text(&done.stderr));
    };
    bad(b"{}", "not a manifest");
    bad(b"\xff\x00", "not a manifest");
    // Nothing is called identical without being compared.
    manifest["result"] = serde_json::json!({"baseline": manifest["result"]["baseline"]});
    std::fs::write(place.path("part.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    let done = place.run(&["verify", "part.json", "--only", "pretext"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(
        text(&done.stderr).contains("--only: the manifest has no such result; it has: baseline"),
        "{}",
        text(&done.stderr)
    );
    manifest["result"] = serde_json::json!({"another": manifest["result"]["baseline"]});
    bad(&serde_json::to_vec(&manifest).unwrap(), "has a result of another");
    for points in ["nan", "0", "-1", "inf", "many"] {
        let done = place.run(&["verify", "part.json", "--within", points]);
        assert_eq!(done.status.code(), Some(2), "{points}");
    }
    manifest["result"] = serde_json::json!({});
    bad(&serde_json::to_vec(&manifest).unwrap(), "no result");
    manifest["experiment"]["seed"] = 5.into();
    bad(&serde_json::to_vec(&manifest).unwrap(), "the hash does not match");
    // With a matching hash: an experiment that no file could describe is refused all the same.
    let crafted = |change: &dyn Fn(&mut serde_json::Value), expected: &str| {
        let mut manifest = smoke(&place);
        change(&mut manifest["experiment"]);
        let hash = fewlabel::files::sha256(&serde_json::to_vec(&manifest["experiment"]).unwrap());
        manifest["experiment_sha256"] = hash.into();
        bad(&serde_json::to_vec(&manifest).unwrap(), expected);
    };
    crafted(&|experiment| drop(experiment["stages"][0].as_object_mut().unwrap().shift_remove("lr")), "not complete");
    crafted(&|experiment| experiment["stages"][2]["from"] = "nothing".into(), "cannot be run");
    crafted(&|experiment| experiment["stages"] = serde_json::json!([]), "cannot be run");
}

/// Where bits may differ, means over the seeds are compared: the same seeds are equivalent, a single seed shows
/// nothing.
#[test]
fn within_a_margin_seeds_are_compared_by_their_means() {
    let place = Place::new();
    let strict = format!("{EXPERIMENTS}/smoke-strict.yaml");
    let done = place.run(&["run", &strict, "--quiet", "--only", "random-knn"]);
    assert!(done.status.success(), "{}", text(&done.stderr));
    let verify = |manifest: &str, only: &str| {
        let done = place.run(&["verify", manifest, "--within", "60", "--only", only]);
        (done.status.code(), text(&done.stderr) + &text(&done.stdout))
    };
    let (code, said) = verify("runs/smoke-strict/manifest.json", "seed-7/random-knn");
    assert_eq!((code, said.contains("bit-identical")), (Some(0), true), "{said}");
    // Other bits.
    let bytes = std::fs::read(place.path("runs/smoke-strict/manifest.json")).unwrap();
    let mut manifest: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let top1 = &mut manifest["result"]["seed-7/random-knn"]["final"]["test_top1"];
    *top1 = (top1.as_f64().unwrap() + 0.025).into();
    std::fs::write(place.path("other.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    let (code, said) = verify("other.json", "random-knn");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("random-knn: within 60 points (p = 0.0"), "{said}");
    let of_seed = |seed: &str| place.run(&["verify", "other.json", "--seed", seed, "--quiet"]);
    let (changed, same) = (of_seed("7"), of_seed("8"));
    assert!(text(&changed.stderr).contains("stage seed-7/random-knn, epoch final"), "{}", text(&changed.stderr));
    assert_eq!([changed.status.code(), same.status.code()], [Some(1), Some(0)], "{}", text(&same.stderr));
    let (code, said) = verify("other.json", "seed-7/random-knn");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("random-knn: not shown to be within 60 points (it takes at least two seeds"), "{said}");
}

/// A stage with the same fingerprint is reused from another run; the rest is run, to the same bits.
#[test]
fn what_another_run_has_finished_is_taken_over() {
    let place = Place::new();
    smoke(&place);
    let text_of_smoke = std::fs::read_to_string(format!("{EXPERIMENTS}/smoke.yaml")).unwrap();
    let other =
        text_of_smoke.replace("name: smoke", "name: other").replace("epochs: 1, batch: 16", "epochs: 3, batch: 16");
    std::fs::write(place.path("other.yaml"), other).unwrap();
    let run = |args: &[&str]| {
        let done = place.run(&[&["run", "other.yaml"], args].concat());
        assert!(done.status.success(), "{}", text(&done.stderr));
        text(&done.stdout)
    };
    let said = run(&["--reuse", "runs/smoke"]);
    assert_eq!(said.matches("reused from runs/smoke").count(), 5, "{said}");
    assert!(said.contains("simsiam-linear: 3 epochs"), "{said}");
    let reused = "\nreused from another run: baseline, pretext, pretext-finetune, simsiam, simsiam-probe\n";
    assert!(said.contains(reused), "{said}");
    run(&["--out", "alone"]);
    let result = |run: &str| -> serde_json::Value {
        let bytes = std::fs::read(place.path(run).join("manifest.json")).unwrap();
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()["result"].clone()
    };
    assert_eq!(result("runs/other"), result("alone"));
    let read = |run: &str| std::fs::read(place.path(run).join("simsiam/weights.safetensors")).unwrap();
    assert!(read("runs/other") == read("alone"));
    // Damaged weights are noticed.
    let path = place.path("runs/smoke/baseline/weights.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let done = place.run(&["run", "other.yaml", "--fresh", "--reuse", "runs/smoke"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(text(&done.stderr).contains("not the weights"), "{}", text(&done.stderr));
}

/// Results that are already in the folder are compared as they are, and the verdict says so; a run is not compared with
/// itself.
#[test]
fn a_verification_says_what_it_has_not_run_again() {
    let place = Place::new();
    let mut manifest = smoke(&place);
    let message = place.bad(&["verify", "runs/smoke/manifest.json", "--out", "runs/smoke"], 2);
    assert!(message.contains("would be compared with itself"), "{message}");
    let said = place.good(&["verify", "runs/smoke/manifest.json", "--out", "again", "--only", "baseline"]);
    assert!(said.ends_with("bit-identical: 1 of 6 stages of smoke\n"), "{said}");
    let said = place.good(&["verify", "runs/smoke/manifest.json", "--out", "again"]);
    assert!(said.ends_with("bit-identical: 6 stages of smoke\n1 of them had already been run into again\n"), "{said}");

    manifest["result"].as_object_mut().unwrap().remove("baseline");
    place.write("part.json", manifest.to_string());
    let said = place.good(&["verify", "part.json", "--out", "again"]);
    assert!(said.contains("bit-identical: 5 of 6 stages of smoke"), "{said}");
    let message = place.bad(&["verify", "part.json", "--seed", "3"], 2);
    assert!(message.contains("--seed: the manifest has no such result; it has: 0\n"), "{message}");

    // Of duplicate keys people may read one, and the program the other.
    let twice = manifest.to_string().replacen("\"simsiam\":", "\"simsiam\":{\"final\":{\"epoch\":9}},\"simsiam\":", 1);
    place.write("twice.json", twice);
    place.bad(&["verify", "twice.json"], 2);
    let history = "\"history\":[{\"epoch\":1,";
    let twice = manifest.to_string().replacen(history, &format!("{history}\"train_loss\":0.5,"), 1);
    place.write("twice.json", twice);
    let message = place.bad(&["verify", "twice.json"], 2);
    assert!(message.contains("duplicate key `train_loss`"), "{message}");
}

#[test]
fn what_cannot_be_reused_is_told() {
    let place = Place::new();
    smoke(&place);
    let smoke = crate::place::smoke();
    let message = place.bad(&["run", &smoke, "--fresh", "--reuse", "runs/smoke"], 2);
    assert!(message.contains("is the run directory itself"), "{message}");
    assert_eq!(place.manifest("runs/smoke")["result"].as_object().unwrap().len(), 6, "nothing is thrown away");
    let message = place.bad(&["run", &smoke, "--out", "b", "--reuse", "nowhere"], 2);
    assert!(message.contains("--reuse takes the directory of a run"), "{message}");
    let other = ["run", &smoke, "--out", "b", "--seed", "4", "--only", "baseline", "--reuse", "runs/smoke"];
    assert!(place.good(&other).contains("--reuse: no stage there would have the same bits"), "another seed");
}
