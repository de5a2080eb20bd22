//! Files from strangers: a manifest that says otherwise than its weights, pages that are stale or broken, figures that are
//! someone else's.

use std::path::Path;

use fewlabel::experiment::{Experiment, Manifest, Options, StageResult, run};
use fewlabel::files::sha256;
use fewlabel::network::Weights;
use fewlabel::report;
use fewlabel::train::Trained;

use super::{SMOKE, report_files, run_into};

fn write(out: &Path) -> fewlabel::error::Result<std::path::PathBuf> {
    report::write(&[out.to_owned()], None, out, &mut |_| {})
}

/// Changes a stage's result as somebody does who knows what is under which hash.
fn forge(out: &Path, key: &str, change: impl Fn(&mut Trained)) {
    let path = out.join("manifest.json");
    let mut manifest = Manifest::load(&path).unwrap();
    let name = key.rsplit('/').next().unwrap();
    let stage = manifest.experiment.stages.iter().find(|stage| *stage.name == *name).unwrap();
    let weights =
        Weights::load(&out.join(key).join("weights.safetensors"), &manifest.experiment.network(stage)).unwrap();
    let StageResult { history, chosen, .. } = manifest.result[key].clone();
    let mut trained = Trained { history, chosen, weights };
    change(&mut trained);
    manifest.result.insert(key.to_owned(), StageResult::new(&trained).unwrap());
    manifest.save(&path).unwrap();
    let mut history = serde_json::to_string_pretty(&trained.history).unwrap();
    history.push('\n');
    std::fs::write(out.join(key).join("history.json"), history).unwrap();
}

/// Sets a value of the manifest's environment, which is under no hash.
fn environment(out: &Path, key: &str, value: &str) {
    let path = out.join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["environment"][key] = value.into();
    std::fs::write(&path, serde_json::to_string_pretty(&manifest).unwrap()).unwrap();
}

#[test]
fn a_manifest_that_says_otherwise_than_its_weights_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let out = run_into(folder.path(), SMOKE);
    let path = out.join("manifest.json");
    let whole = std::fs::read(&path).unwrap();
    let true_history = std::fs::read(out.join("baseline/history.json")).unwrap();
    let metrics = Manifest::load(&path).unwrap().result["baseline"].last.metrics.clone();
    let refused = |said: &str| {
        let error = write(&out).unwrap_err();
        let end = format!("but the saved weights have {} on the test images", metrics[said.split(' ').next().unwrap()]);
        let expected = format!("{}: says {said} of baseline, {end}", path.display());
        assert!(error.exit_code() == 2 && error.to_string().starts_with(&expected), "{error}");
        assert!(error.to_string().contains(&format!("fewlabel verify {}", path.display())), "{error}");
        assert!(!out.join("report.html").exists() && !out.join("accuracy.svg").exists(), "nothing is written");
    };
    let last = |name: &'static str, value: f64| {
        move |trained: &mut Trained| {
            trained.history.last_mut().unwrap().metrics.insert(name.to_owned(), value);
        }
    };
    forge(&out, "baseline", last("test_top1", 0.99));
    refused("test_top1 0.99");
    // The last bit is enough.
    let next = f64::from_bits(metrics["test_top1"].to_bits() + 1);
    forge(&out, "baseline", last("test_top1", next));
    refused(&format!("test_top1 {next}"));
    forge(&out, "baseline", |trained| {
        trained.history.last_mut().unwrap().metrics.remove("test_top1");
    });
    refused("test_top1 none");
    // Other bits are no contradiction where they may differ, but another accuracy is: here two images are 5 points.
    for (key, value) in [("device", "cuda"), ("fewlabel", "0.0.1"), ("build", "another")] {
        for (beside, is_refused) in [(0.051, true), (0.049, false)] {
            let top1 = metrics["test_top1"] + beside;
            forge(&out, "baseline", last("test_top1", top1));
            environment(&out, "device", "cpu");
            environment(&out, key, value);
            if is_refused {
                refused(&format!("test_top1 {top1}"));
                continue;
            }
            let html = std::fs::read_to_string(write(&out).unwrap()).unwrap();
            assert!(
                html.contains("Each is near the manifest's, by two points or two images at most: a run on "),
                "{key}"
            );
            for file in report_files(&out) {
                std::fs::remove_file(out.join(file.0)).unwrap();
            }
        }
    }
    std::fs::write(&path, whole).unwrap();
    std::fs::write(out.join("baseline/history.json"), true_history).unwrap();
    environment(&out, "device", "cuda");
    let html = std::fs::read_to_string(write(&out).unwrap()).unwrap();
    assert!(html.contains("Each is exactly the manifest's."), "where it is so");
    for file in report_files(&out) {
        std::fs::remove_file(out.join(file.0)).unwrap();
    }
    forge(&out, "baseline", last("test_loss", 0.5));
    environment(&out, "device", "cpu");
    refused("test_loss 0.5");
    let mut manifest = Manifest::load(&path).unwrap();
    manifest.classes[3].test += 1;
    manifest.save(&path).unwrap();
    let error = write(&out).unwrap_err().to_string();
    assert!(error.contains("manifest.json: names other classes, or other numbers of their images, than"), "{error}");
}

const STRICT: &str = include_str!("../../experiments/smoke-strict.yaml");

#[test]
fn weights_of_every_seed_and_the_chosen_epoch_are_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let out = run_into(folder.path(), STRICT);
    let path = out.join("manifest.json");
    let whole = std::fs::read(&path).unwrap();
    let manifest = Manifest::load(&path).unwrap();
    let tested: Vec<String> = manifest
        .experiment
        .stages
        .iter()
        .filter(|stage| stage.classifies())
        .map(|stage| format!("seed-7/{}", stage.name))
        .collect();
    let html = std::fs::read_to_string(write(&out).unwrap()).unwrap();
    assert!(
        html.contains(&format!("the test accuracy of {}. Each is exactly the manifest's.", tested.join(", "))),
        "{html}"
    );
    assert!(html.contains("The saved weights are those that the manifest records."));
    assert!(html.contains("All else is as the manifest says: only `fewlabel verify`"));
    assert!(html.contains(&format!("<dd>{}</dd>", sha256(&whole))), "the manifest's hash");
    assert_eq!(report::state(&out), report::State { whole: true, recomputed: tested.clone() });

    let chosen = tested.iter().find(|key| manifest.result[*key].chosen.is_some()).unwrap();
    forge(&out, chosen, |trained| {
        trained.chosen.as_mut().unwrap().metrics.insert("test_top1".to_owned(), 0.99);
    });
    let error = write(&out).unwrap_err().to_string();
    assert!(error.contains(&format!("says test_top1 0.99 of {chosen}, but the saved weights have 0.")), "{error}");
    std::fs::write(&path, &whole).unwrap();

    let [first, second] = [7, 8].map(|seed| out.join(format!("seed-{seed}/simsiam/weights.safetensors")));
    let own = std::fs::read(&second).unwrap();
    std::fs::copy(first, &second).unwrap();
    let error = write(&out).unwrap_err();
    let expected = format!("{}: these are not the weights that the run recorded", second.display());
    assert!(error.exit_code() == 2 && error.to_string().starts_with(&expected), "{error}");
    // Without them the report is as whole as before, and says so.
    std::fs::remove_file(&second).unwrap();
    let html = std::fs::read_to_string(write(&out).unwrap()).unwrap();
    let expected = "those that the manifest records, but for seed-8/simsiam, which are not here.";
    assert!(html.contains(expected) && report::is_whole(&out));
    std::fs::write(&second, own).unwrap();
}

#[test]
fn what_was_reused_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let first = run_into(folder.path(), SMOKE);
    let experiment =
        Experiment::parse("again.yaml".as_ref(), &SMOKE.replacen("name: smoke", "name: again", 1)).unwrap();
    let out = folder.path().join("again");
    run(&experiment, &Options { reuse: vec![first], ..Options::new(&out) }).unwrap();
    let reused = Manifest::load(&out.join("manifest.json")).unwrap().environment.reused;
    let from = Experiment::parse("smoke.yaml".as_ref(), SMOKE).unwrap().sha256();
    assert!(reused.len() == 6 && reused.values().all(|hash| *hash == from));
    let html = std::fs::read_to_string(write(&out).unwrap()).unwrap();
    let keys = reused.keys().cloned().collect::<Vec<_>>().join(", ");
    assert!(html.contains(&format!("reused from another run: {keys}<")), "{html}");
    assert_eq!(html.matches(&format!("<td class=\"hash\">{from}</td></tr>")).count(), 6);
}

#[test]
fn a_changed_history_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let out = run_into(folder.path(), SMOKE);
    let path = out.join("baseline/history.json");
    let whole = std::fs::read(&path).unwrap();
    for damaged in [[&whole[..], b" "].concat(), whole[1..].to_vec(), vec![], {
        let mut flipped = whole.clone();
        flipped[40] ^= 1;
        flipped
    }] {
        std::fs::write(&path, damaged).unwrap();
        let error = write(&out).unwrap_err();
        let expected = format!("{}: is not the history that the manifest records", path.display());
        assert!(error.exit_code() == 2 && error.to_string().starts_with(&expected), "{error}");
        assert!(error.to_string().contains(&format!("--out {}", out.display())), "{error}");
        // What it says to do is right.
        run(&Experiment::parse("smoke.yaml".as_ref(), SMOKE).unwrap(), &Options::new(&out)).unwrap();
        assert!(std::fs::read(&path).unwrap() == whole);
    }
    std::fs::remove_file(&path).unwrap();
    write(&out).unwrap();
}

/// One stage of one epoch on a few images.
const TINY: &str = "
name: tiny
dataset: {name: synthetic, train: 40, test: 20}
labels: {count: 20, choose: first}
network: {channels: [2, 3, 4], hidden: 8}
stages: [{name: one, method: supervised, epochs: 1, batch: 4}]";

#[test]
fn a_stale_or_broken_report_is_not_taken_for_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let out = run_into(folder.path(), TINY);
    assert!(!report::is_fresh(&out) && !report::is_whole(&out), "there is none");
    write(&out).unwrap();
    assert!(report::is_fresh(&out));
    let whole = report_files(&out);
    let flipped = |bytes: &[u8], at: usize| {
        let mut bytes = bytes.to_vec();
        bytes[at] ^= 4;
        bytes
    };
    type Damage<'a> = &'a dyn Fn(&[u8]) -> Vec<u8>;
    let kinds: [Damage; 5] = [
        &|_| vec![],
        &|bytes| bytes[..bytes.len() / 2].to_vec(),
        &|bytes| flipped(bytes, 0),
        &|bytes| flipped(bytes, bytes.len() / 2),
        &|bytes| flipped(bytes, bytes.len() - 1),
    ];
    for (kind, damaged) in kinds.into_iter().enumerate() {
        for (name, bytes) in &whole {
            std::fs::write(out.join(name), damaged(bytes)).unwrap();
            assert!(!report::is_fresh(&out) && !report::is_whole(&out), "{name}, damage {kind}");
            std::fs::write(out.join(name), bytes).unwrap();
            assert!(report::is_fresh(&out));
        }
        // All at once.
        whole.iter().for_each(|(name, bytes)| std::fs::write(out.join(name), damaged(bytes)).unwrap());
        write(&out).unwrap();
        assert!(report::is_fresh(&out) && report_files(&out) == whole, "damage {kind}: made again");
    }
    for (name, bytes) in &whole {
        std::fs::remove_file(out.join(name)).unwrap();
        assert!(!report::is_fresh(&out) && !report::is_whole(&out), "{name} is gone");
        std::fs::write(out.join(name), bytes).unwrap();
    }
    // Whole, but of another manifest.
    environment(&out, "cpu", "another");
    assert!(report::is_whole(&out) && !report::is_fresh(&out));
    write(&out).unwrap();
    assert!(report::is_fresh(&out));
    // A report on two runs is not that of this one; a page of an earlier version has no seal.
    report::write(&[out.clone(), out.clone()], None, &out, &mut |_| {}).unwrap();
    assert!(report::is_whole(&out) && !report::is_fresh(&out));
    assert!(!out.join("views.svg").exists() && out.join("tiny-2.views.svg").exists());
    write(&out).unwrap();
    assert!(report::is_fresh(&out) && !out.join("tiny-2.views.svg").exists());
    let html = std::fs::read_to_string(out.join("report.html")).unwrap();
    let (before, _) = html.split_once("<script type=\"application/json\" id=\"seal\">").unwrap();
    std::fs::write(out.join("report.html"), format!("{before}</html>\n")).unwrap();
    assert!(!report::is_whole(&out));
    write(&out).unwrap();
    assert!(std::fs::read_to_string(out.join("report.html")).unwrap() == html);
}

#[test]
fn pictures_of_ones_own_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let out = run_into(folder.path(), TINY);
    std::fs::write(out.join("holiday.png"), "mine").unwrap();
    let page = std::fs::read_to_string(write(&out).unwrap()).unwrap();
    // A page of an earlier version that lists it, and the same with a seal that knows it by another hash.
    let forged = page.replacen("\n<figure id=\"", "\n<figure id=\"holiday\" class=\"lines\">\n<figure id=\"", 1);
    let (body, seal) = forged.rsplit_once("<script type=\"application/json\" id=\"seal\">").unwrap();
    let json = seal.split_once(",\"sha256\":").unwrap().0;
    let hash = sha256(b"not mine");
    let json = json.replacen("\"files\":{", &format!("\"files\":{{\"holiday.png\":\"{hash}\","), 1);
    let sealed = format!("{body}<script type=\"application/json\" id=\"seal\">{json},\"sha256\":\"");
    let sealed = format!("{sealed}{}\"}}</script>\n</html>\n", sha256(sealed.as_bytes()));
    for page in [format!("{body}</html>\n"), sealed] {
        std::fs::write(out.join("report.html"), &page).unwrap();
        write(&out).unwrap();
        assert_eq!(std::fs::read(out.join("holiday.png")).unwrap(), b"mine");
        std::fs::write(out.join("report.html"), page).unwrap();
        let experiment = Experiment::parse("tiny.yaml".as_ref(), TINY).unwrap();
        run(&experiment, &Options { fresh: true, ..Options::new(&out) }).unwrap();
        assert_eq!(std::fs::read(out.join("holiday.png")).unwrap(), b"mine");
        write(&out).unwrap();
    }
    // Beside one's own files of such names there is no report.
    let own = folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    for name in ["results.csv", "accuracy.png", "views.svg"] {
        std::fs::write(own.join(name), "mine").unwrap();
    }
    let error = report::write(std::slice::from_ref(&out), None, &own, &mut |_| {}).unwrap_err();
    let said = error.to_string();
    let expected = format!(
        "{}: is there, and is no file of a report of this program, and 2 files more",
        own.join("accuracy.png").display()
    );
    assert!(error.exit_code() == 2 && said.starts_with(&expected), "{said}");
    assert!(said.contains("choose another folder with --out"), "{said}");
    assert_eq!(std::fs::read_dir(&own).unwrap().count(), 3);
}
