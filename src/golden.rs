//! Comparison of two manifests: bit for bit, or by statistical equivalence over the seeds.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::experiment::table::results;
use crate::experiment::{Environment, Experiment, Manifest, Stage, StageResult};
use crate::statistics::equivalence;
use crate::text::{count, visible};
use crate::train::Record;

/// The first difference between two results.
#[derive(Clone, Debug, PartialEq)]
struct Difference {
    /// The stage's key.
    stage: String,
    /// The epoch if it is in the history, else which record: "chosen", "peak" or "final".
    epoch: Option<String>,
    /// The metric, `weights_sha256` or `history_sha256`, or what is missing on one side.
    what: String,
    expected: String,
    found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Difference { stage, epoch, what, expected, found } = self;
        let epoch = epoch.as_ref().map_or(String::new(), |epoch| format!(", epoch {epoch}"));
        // All of it may be from a manifest.
        let line = format!("stage {stage}{epoch}, {what}: expected {expected}, found {found}");
        f.write_str(&visible(&line))
    }
}

/// Compares `found` with `expected` and says how they agree: to the bit or, with `within` in
/// percentage points, in that every stage's test accuracies are equivalent over the seeds ([`equivalence`], p < 0.05).
///
/// # Errors
/// [`Error::Differs`] with the first difference, or with the stages that are not shown to be equivalent.
pub fn compare(expected: &Manifest, found: &Manifest, within: Option<f64>) -> Result<String> {
    let Some(difference) = difference(expected, found) else {
        let (n, all) = (expected.result.len(), expected.experiment.plan(&[])?.len());
        let part = if n < all { format!("{n} of ") } else { String::new() };
        let stages = count(all, "stage");
        return Ok(format!("bit-identical: {part}{stages} of {}", expected.experiment.name));
    };
    if let Some(points) = within {
        return equivalent(expected, found, points);
    }
    let mut lines = vec![difference.to_string()];
    let environment = environments(&expected.environment, &found.environment);
    lines.extend(environment.iter().map(|line| format!("  environment: {line}")));
    if !expected.result.values().filter(|result| !result.history.is_empty()).all(StageResult::is_whole) {
        lines.push("  the manifest does not agree with its own hashes: it was changed".to_owned());
    } else if environment.is_empty() {
        lines.push("  the environment is the same: the program differs, or the manifest was changed".to_owned());
    }
    Err(Error::Differs(lines.join("\n")))
}

/// What a verdict is about, since a name says nothing: images, seeds with a result, the experiment's hash.
pub fn subject(manifest: &Manifest) -> String {
    let Manifest { experiment, result, .. } = manifest;
    let name = serde_json::to_value(experiment.dataset.name).expect("a name becomes JSON");
    let [train, test] = [experiment.dataset.train, experiment.dataset.test].map(|n| n.map_or(0, |n| n.0));
    let has_result =
        |seed: &u64| experiment.stages.iter().any(|s| result.contains_key(&experiment.key(*seed, &s.name)));
    let seeds: Vec<u64> = experiment.all_seeds().filter(has_result).collect();
    let seeds = match &seeds[..] {
        [first, .., last] if last.wrapping_sub(*first) as usize == seeds.len() - 1 => {
            format!("seeds {first} to {last}")
        }
        [_, _, ..] => format!("seeds {}", seeds.iter().map(u64::to_string).collect::<Vec<_>>().join(", ")),
        seeds => seeds.first().map_or(String::new(), |seed| format!("seed {seed}")),
    };
    let name = name.as_str().unwrap_or_default();
    format!("{name}, {train} training and {test} test images; {seeds}; experiment {}", manifest.experiment_sha256)
}

/// Checks that the manifest's experiment is `experiment`, and not only of the same name.
///
/// # Errors
/// [`Error::Differs`] with the first thing in which they differ.
pub fn check_experiment(manifest: &Manifest, experiment: &Experiment) -> Result<()> {
    match experiment.first_difference(&manifest.experiment) {
        None => Ok(()),
        Some(difference) => {
            Err(Error::Differs(format!("the manifest is of another experiment than the file: {difference}")))
        }
    }
}

/// Checks that the manifest has enough seeds to be [compared](compare) within a margin.
///
/// # Errors
/// [`Error::Usage`] if a stage has a single seed's test accuracy.
pub fn check_seeds(expected: &Manifest) -> Result<()> {
    let tested = |stage: &Stage| results(expected, &stage.name).iter().filter(|(_, r)| r.top1().is_some()).count();
    match expected.experiment.stages.iter().filter(|stage| stage.classifies()).find(|s| tested(s) == 1) {
        None => Ok(()),
        Some(stage) => Err(Error::Usage(format!(
            "--within: the manifest has one seed of {}, and the spread over seeds takes at least two; leave --within out to \
             compare bits",
            stage.name
        ))),
    }
}

/// The test accuracy of every stage by [`equivalence`] at 5 %.
fn equivalent(expected: &Manifest, found: &Manifest, points: f64) -> Result<String> {
    let mut lines = Vec::new();
    let mut all = true;
    let margin = if points == 1.0 { "1 point".to_owned() } else { format!("{points} points") };
    for stage in expected.experiment.stages.iter().filter(|stage| stage.classifies()) {
        let [a, b] = [expected, found].map(|manifest| -> Vec<f64> {
            results(manifest, &stage.name).iter().filter_map(|(_, result)| result.top1()).collect()
        });
        if a.is_empty() {
            continue;
        }
        let line = match equivalence(&a, &b, points / 100.0) {
            Some(p) if p < 0.05 => format!("{}: within {margin} (p = {p:.4})", stage.name),
            other => {
                all = false;
                let why = other.map_or("it takes at least two seeds that differ".to_owned(), |p| format!("p = {p:.4}"));
                format!("{}: not shown to be within {margin} ({why})", stage.name)
            }
        };
        lines.push(line);
    }
    if lines.is_empty() {
        return Err(Error::Differs("there is no test accuracy to compare".to_owned()));
    }
    if all { Ok(lines.join("\n")) } else { Err(Error::Differs(lines.join("\n"))) }
}

/// The first difference between the stages of `expected` and the same stages of `found`, in the order of stages and
/// epochs; none if every metric and every weight has the same bits.
fn difference(expected: &Manifest, found: &Manifest) -> Option<Difference> {
    let jobs = expected.experiment.plan(&[]).unwrap_or_default();
    let places: BTreeMap<String, usize> = jobs.into_iter().map(|job| job.key).zip(0..).collect();
    let order = |key: &String| places.get(key).copied().unwrap_or(usize::MAX);
    let mut wanted: Vec<_> = expected.result.iter().collect();
    wanted.sort_by_key(|(key, _)| order(key));
    wanted.into_iter().find_map(|(key, expected)| match found.result.get(key) {
        Some(found) => in_stage(key, expected, found),
        None => Some(differs(key, None, "result", "one", "none")),
    })
}

fn in_stage(stage: &str, expected: &StageResult, found: &StageResult) -> Option<Difference> {
    let both = !expected.history.is_empty() && !found.history.is_empty();
    let epochs = if both { expected.history.len().max(found.history.len()) } else { 0 };
    let in_history = (0..epochs).find_map(|i| match (expected.history.get(i), found.history.get(i)) {
        (Some(expected), Some(found)) => in_record(stage, &expected.epoch.to_string(), expected, found),
        (expected, found) => {
            let side = |record: Option<&Record>| if record.is_some() { "a record" } else { "none" };
            Some(differs(stage, Some(&(i + 1).to_string()), "history", side(expected), side(found)))
        }
    });
    let picked = |name: &str, expected: &Option<Record>, found: &Option<Record>| match (expected, found) {
        (None, None) => None,
        (Some(expected), Some(found)) if expected.epoch == found.epoch => in_record(stage, name, expected, found),
        (expected, found) => {
            let side = |record: &Option<Record>| record.as_ref().map_or("none".to_owned(), |r| r.epoch.to_string());
            Some(differs(stage, None, &format!("{name} epoch"), side(expected), side(found)))
        }
    };
    let hash = |name: &str, of: fn(&StageResult) -> &str| {
        let [a, b] = [of(expected), of(found)];
        (a != b).then(|| differs(stage, None, name, a, b))
    };
    in_history
        .or_else(|| picked("chosen", &expected.chosen, &found.chosen))
        .or_else(|| picked("peak", &expected.peak, &found.peak))
        .or_else(|| in_record(stage, "final", &expected.last, &found.last))
        .or_else(|| hash("history_sha256", |result| &result.history_sha256))
        .or_else(|| hash("weights_sha256", |result| &result.weights_sha256))
}

fn in_record(stage: &str, epoch: &str, expected: &Record, found: &Record) -> Option<Difference> {
    if expected.epoch != found.epoch {
        return Some(differs(stage, Some(epoch), "epoch", expected.epoch.to_string(), found.epoch.to_string()));
    }
    let names = expected.metrics.keys().chain(found.metrics.keys());
    names.into_iter().find_map(|name| {
        let [a, b] = [expected, found].map(|record| record.metrics.get(name).copied());
        let text = |value: Option<f64>| value.map_or("none".to_owned(), |value| value.to_string());
        (a.map(f64::to_bits) != b.map(f64::to_bits)).then(|| differs(stage, Some(epoch), name, text(a), text(b)))
    })
}

fn differs(
    stage: &str,
    epoch: Option<&str>,
    what: &str,
    expected: impl Into<String>,
    found: impl Into<String>,
) -> Difference {
    let (stage, epoch, what) = (stage.to_owned(), epoch.map(str::to_owned), what.to_owned());
    Difference { stage, epoch, what, expected: expected.into(), found: found.into() }
}

/// Differences between two environments that may explain different bits, one per line. Threads never do.
fn environments(expected: &Environment, found: &Environment) -> Vec<String> {
    let list = |features: &[String]| features.join(" ");
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let pairs = [
        ("fewlabel", expected.fewlabel.clone(), found.fewlabel.clone()),
        ("build", text(&expected.build), text(&found.build)),
        ("commit", text(&expected.commit), text(&found.commit)),
        ("device", expected.device.clone(), found.device.clone()),
        ("arch", expected.arch.clone(), found.arch.clone()),
        ("os", expected.os.clone(), found.os.clone()),
        ("cpu", text(&expected.cpu), text(&found.cpu)),
        ("cpu_features", list(&expected.cpu_features), list(&found.cpu_features)),
    ];
    let differing = pairs.into_iter().filter(|(_, expected, found)| expected != found);
    let line = |(what, expected, found)| visible(&format!("{what}: expected {expected}, found {found}")).into_owned();
    differing.map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest = Manifest::new(&Experiment::quick(), "cpu");
        let record = |epoch| Record { epoch, metrics: [("a".to_owned(), 0.1), ("b".to_owned(), 0.2)].into() };
        let history: Vec<Record> = (1..=3).map(record).collect();
        for stage in ["simsiam", "baseline"] {
            let result = StageResult {
                last: record(3),
                peak: Some(record(2)),
                chosen: Some(record(1)),
                weights_sha256: "w".to_owned(),
                history_sha256: "h".to_owned(),
                history: history.clone(),
            };
            manifest.result.insert(stage.to_owned(), result);
        }
        manifest
    }

    #[test]
    fn the_first_difference_is_named() {
        let same = manifest();
        assert_eq!(difference(&same, &same), None);
        let of = |change: &dyn Fn(&mut Manifest)| {
            let mut found = manifest();
            change(&mut found);
            difference(&same, &found).expect("a difference").to_string()
        };
        let next = f64::from_bits(0.2f64.to_bits() + 1);
        let message = of(&|m| {
            let simsiam = m.result.get_mut("simsiam").unwrap();
            simsiam.history[1].metrics.insert("b".to_owned(), next);
            simsiam.weights_sha256 = "v".to_owned();
        });
        assert_eq!(message, "stage simsiam, epoch 2, b: expected 0.2, found 0.20000000000000004");
        let message = of(&|m| {
            m.result.get_mut("simsiam").unwrap().history[0].metrics.remove("a");
            m.result.get_mut("baseline").unwrap().weights_sha256 = "v".to_owned();
        });
        assert_eq!(message, "stage baseline, weights_sha256: expected w, found v", "baseline runs first");
        let message = of(&|m| m.result.get_mut("baseline").unwrap().history.truncate(2));
        assert_eq!(message, "stage baseline, epoch 3, history: expected a record, found none");
        let message = of(&|m| m.result.get_mut("baseline").unwrap().chosen.as_mut().unwrap().epoch = 2);
        assert_eq!(message, "stage baseline, chosen epoch: expected 1, found 2");
        let message = of(&|m| m.result.get_mut("baseline").unwrap().last.epoch = 9);
        assert_eq!(message, "stage baseline, epoch final, epoch: expected 3, found 9");
        let message = of(&|m| m.result.get_mut("baseline").unwrap().history[1].epoch = 9);
        assert_eq!(message, "stage baseline, epoch 2, epoch: expected 2, found 9");
        let message = of(&|m| m.result.get_mut("baseline").unwrap().peak = None);
        assert_eq!(message, "stage baseline, peak epoch: expected 2, found none");
        let mut stray = manifest();
        let result = stray.result["baseline"].clone();
        stray.result.insert("stray".to_owned(), result);
        assert!(difference(&stray, &same).is_some(), "a result outside the plan is compared too");
        let message = of(&|m| drop(m.result.remove("simsiam")));
        assert_eq!(message, "stage simsiam, result: expected one, found none");
        let message = of(&|m| {
            let baseline = m.result.get_mut("baseline").unwrap();
            baseline.history.clear();
            baseline.history_sha256 = "g".to_owned();
        });
        assert_eq!(message, "stage baseline, history_sha256: expected h, found g");
    }

    #[test]
    fn a_verdict_says_what_it_is_about() {
        let yaml = |seeds: &str| {
            let text = format!(
                "{{name: study, seed: 18446744073709551615, {seeds} dataset: {{name: synthetic, train: 100, test: 20}},
                labels: {{count: 40, choose: first}}, stages: [{{name: a, method: supervised, batch: 10}}]}}"
            );
            Experiment::parse("t.yaml".as_ref(), &text).unwrap()
        };
        let result = manifest().result["baseline"].clone();
        let said = |experiment: &Experiment, keys: &[&str]| {
            let mut manifest = Manifest::new(experiment, "cpu");
            manifest.result.extend(keys.iter().map(|key| (key.to_string(), result.clone())));
            (subject(&manifest), compare(&manifest, &manifest, None).unwrap())
        };
        let (one, three) = (yaml(""), yaml("seeds: 3,"));
        let about = |experiment: &Experiment, seeds: &str| {
            format!("synthetic, 100 training and 20 test images; {seeds}; experiment {}", experiment.sha256())
        };
        let all = about(&one, "seed 18446744073709551615");
        assert_eq!(said(&one, &["a"]), (all, "bit-identical: 1 stage of study".to_owned()));
        let some = about(&three, "seeds 18446744073709551615 to 0");
        let keys = ["seed-18446744073709551615/a", "seed-0/a", "seed-1/a"];
        assert_eq!(said(&three, &keys[..2]), (some, "bit-identical: 2 of 3 stages of study".to_owned()));
        let apart = about(&three, "seeds 18446744073709551615, 1");
        assert_eq!(said(&three, &[keys[0], keys[2]]), (apart, "bit-identical: 2 of 3 stages of study".to_owned()));
    }

    /// A manifest's text must not end a line: a script reads the last one.
    #[test]
    fn a_manifest_does_not_write_its_own_verdict() {
        let mut expected = manifest();
        expected.environment.cpu = Some("x\nbit-identical: 6 stages of smoke".to_owned());
        expected.result.get_mut("baseline").unwrap().weights_sha256 = "v\nbit-identical: 6 stages\u{202e}".to_owned();
        let said = compare(&expected, &manifest(), None).unwrap_err().to_string();
        assert!(said.contains(r"cpu: expected x\nbit-identical: 6 stages of smoke, found"), "{said}");
        assert!(said.contains(r"weights_sha256: expected v\nbit-identical: 6 stages\u{202e}, found w"), "{said}");
        assert!(said.lines().all(|line| !line.starts_with("bit-identical")), "{said}");
    }

    #[test]
    fn a_margin_takes_two_seeds() {
        let mut one = manifest();
        assert!(check_seeds(&one).is_ok(), "without an accuracy no seed is missing");
        let chosen = one.result.get_mut("baseline").unwrap().chosen.as_mut().unwrap();
        chosen.metrics.insert("test_top1".to_owned(), 0.5);
        assert!(check_seeds(&one).unwrap_err().to_string().contains("one seed of baseline"));
    }

    #[test]
    fn environments_differ_in_what_could_matter() {
        let [one, mut other] = [manifest().environment, manifest().environment];
        assert_eq!(environments(&one, &other), Vec::<String>::new());
        other.fewlabel = "9".to_owned();
        other.cpu_features = vec!["sse9".to_owned()];
        other.written = "later".to_owned();
        other.threads += 1;
        let lines = environments(&one, &other);
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("fewlabel: ") && lines[1].ends_with("found sse9"), "{lines:?}");
    }
}
