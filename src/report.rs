//! What a run's result looks like: the table at its end.

use std::time::Duration;

use crate::experiment::{Claim, Manifest, StageResult, duration};
use crate::statistics::Estimate;

/// `name value`: accuracies in per cent, other metrics with four decimals.
pub fn metric(name: &str, value: f64) -> String {
    if name.ends_with("top1") { format!("{name} {}", percent(value)) } else { format!("{name} {value:.4}") }
}

/// One row per finished stage that classifies the test images: peak over epochs where every epoch looked at them, the
/// accuracy that stands for the stage, the study's claim, and the time with that of the stages it builds on; of
/// several seeds means with 95 % intervals, and what they say of the experiment's claims.
pub fn table(manifest: &Manifest) -> String {
    let experiment = &manifest.experiment;
    let looks_once = experiment.labels.validation.0 > 0.0;
    let test = if looks_once { "test" } else { "final" };
    let mut rows = vec![["method", "peak *", test, "claimed", "time"].map(str::to_owned)];
    for stage in &experiment.stages {
        let results = results(manifest, &stage.name);
        let of = |top1: &dyn Fn(&StageResult) -> Option<f64>| -> Vec<f64> {
            results.iter().filter_map(|(_, result)| top1(result)).collect()
        };
        let tested = of(&StageResult::top1);
        if tested.is_empty() || !stage.method.classifies() {
            continue;
        }
        let peak = of(&|result| result.peak.as_ref()?.metrics.get("test_top1").copied());
        let claim = stage.claim.map_or("-".to_owned(), |[low, high]| format!("{}–{} %", low.0, high.0));
        let seconds = experiment.all_seeds().map(|seed| seconds(manifest, seed, &stage.name)).sum();
        let time = duration(Duration::try_from_secs_f64(seconds).unwrap_or_default());
        rows.push([stage.name.to_string(), estimate(&peak), estimate(&tested), claim, time]);
    }
    if rows.len() == 1 {
        return "no stage has been tested on the test images yet".to_owned();
    }
    let has = |column: usize| rows[1..].iter().any(|row| row[column] != "-");
    let shown: Vec<usize> = (0..5).filter(|&column| !looks_once || has(column)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let line = |row: &[String; 5]| {
        let cells = shown[1..].iter().map(|&column| format!("  {:>1$}", row[column], width(column)));
        format!("{:<2$}{1}", row[0], cells.collect::<String>(), width(0))
    };
    let rule = "─".repeat(line(&rows[0]).chars().count());
    let mut lines = vec![line(&rows[0]), rule];
    lines.extend(rows[1..].iter().map(line));
    if shown.contains(&1) {
        lines.push("* test accuracy of the best epoch: chosen by looking at the test set".to_owned());
    }
    if looks_once {
        lines.push("test: one look, after the epoch that the validation images chose".to_owned());
    }
    if experiment.seeds.0 > 1 {
        lines.push("± half the 95 % confidence interval of the mean over the seeds (t)".to_owned());
    }
    lines.extend(experiment.claims.iter().map(|claim| verdict(manifest, claim)));
    lines.join("\n")
}

/// What the seeds say of a claim: the paired differences of the seeds that have both.
fn verdict(manifest: &Manifest, claim: &Claim) -> String {
    let Claim { better, than } = claim;
    let of = |stage: &str| results(manifest, stage);
    let (better_of, than_of) = (of(better), of(than));
    let pairs = better_of.iter().filter_map(|(seed, a)| {
        let (_, b) = than_of.iter().find(|(other, _)| other == seed)?;
        Some((a.top1()?, b.top1()?))
    });
    let (a, b): (Vec<f64>, Vec<f64>) = pairs.unzip();
    let Some(difference) = Estimate::of_differences(&a, &b) else {
        return format!("{better} beats {than}: not run yet");
    };
    let half = difference.half_width.map_or(String::new(), |half| format!(" ± {:.1}", half * 100.0));
    let (points, n) = (difference.mean * 100.0, difference.n);
    format!("{better} beats {than}: {} ({points:+.1}{half} points, n = {n})", difference.verdict())
}

/// A stage's results by seed, those that there are.
pub fn results<'a>(manifest: &'a Manifest, stage: &str) -> Vec<(u64, &'a StageResult)> {
    let experiment = &manifest.experiment;
    let of = |seed: u64| Some((seed, manifest.result.get(&experiment.key(seed, stage))?));
    experiment.all_seeds().filter_map(of).collect()
}

/// Seconds of the stage for a seed, and of those it builds on.
fn seconds(manifest: &Manifest, seed: u64, stage: &str) -> f64 {
    let own = manifest.environment.seconds.get(&manifest.experiment.key(seed, stage)).copied().unwrap_or(0.0);
    let from = manifest.experiment.stages.iter().find(|s| *s.name == *stage).and_then(|s| s.from.as_deref());
    own + from.map_or(0.0, |from| seconds(manifest, seed, from))
}

/// "66.3 %", or of several "66.3 ± 0.4 %".
fn estimate(shares: &[f64]) -> String {
    match Estimate::of(shares) {
        None => "-".to_owned(),
        Some(Estimate { mean, half_width: None, .. }) => percent(mean),
        Some(Estimate { mean, half_width: Some(half), .. }) => format!("{:.1} ± {:.1} %", mean * 100.0, half * 100.0),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Experiment;
    use crate::network::Weights;
    use crate::train::{Record, Trained};

    #[test]
    fn the_table_has_a_row_per_tested_stage() {
        let yaml = "
name: t
dataset: {name: cifar10}
stages:
  - {name: baseline, method: supervised, claim: [63, 65.5]}
  - {name: simsiam, method: simsiam}
  - {name: probe, method: probe, from: simsiam}";
        let experiment = Experiment::parse("t.yaml".as_ref(), yaml).unwrap();
        let mut manifest = Manifest::new(&experiment, "cpu");
        assert_eq!(table(&manifest), "no stage has been tested on the test images yet");
        let record = |epoch, name: &str, value| Record { epoch, metrics: [(name.to_owned(), value)].into() };
        let mut add = |stage: &str, history: &[Record], seconds: f64| {
            let trained = Trained { history: history.to_vec(), chosen: None, weights: Weights::default() };
            manifest.result.insert(stage.to_owned(), StageResult::new(&trained).unwrap());
            manifest.environment.seconds.insert(stage.to_owned(), seconds);
        };
        let top1 = |epoch, value| record(epoch, "test_top1", value);
        add("baseline", &[top1(1, 0.5), top1(2, 0.6612), top1(3, 0.6612), top1(4, 0.64)], 59.6);
        add("simsiam", &[record(1, "train_loss", -0.5)], 3000.0);
        add("probe", &[top1(1, 0.7)], 725.0);
        assert_eq!(manifest.result["baseline"].peak.as_ref().unwrap().epoch, 2, "the first of the best");
        insta::assert_snapshot!(table(&manifest));
    }

    #[test]
    fn several_seeds_give_intervals_and_verdicts() {
        let yaml = "
name: t
seed: 4
seeds: 3
dataset: {name: cifar10}
labels: {count: 5000, choose: stratified, validation: 0.1}
stages:
  - {name: baseline, method: supervised}
  - {name: simsiam, method: simsiam}
  - {name: simsiam-linear, method: probe, from: simsiam, probe: linear, frozen_norm: eval}
  - {name: simsiam-knn, method: knn, from: simsiam}
claims:
  - {better: simsiam-linear, than: baseline}
  - {better: baseline, than: simsiam-knn}
  - {better: simsiam-knn, than: baseline}
  - {better: simsiam-linear, than: simsiam-knn}";
        let experiment = Experiment::parse("t.yaml".as_ref(), yaml).unwrap();
        let mut manifest = Manifest::new(&experiment, "cpu");
        let mut add = |key: &str, top1: f64| {
            let [last, chosen] = ["validation_top1", "test_top1"]
                .map(|name| Record { epoch: 1, metrics: [(name.to_owned(), top1)].into() });
            let trained = Trained { history: vec![last], chosen: Some(chosen), weights: Weights::default() };
            manifest.result.insert(key.to_owned(), StageResult::new(&trained).unwrap());
            manifest.environment.seconds.insert(key.to_owned(), 100.0);
        };
        for (seed, [baseline, linear, knn]) in
            [(4, [0.65, 0.641, 0.53]), (5, [0.66, 0.655, 0.55]), (6, [0.645, 0.66, 0.54])]
        {
            add(&format!("seed-{seed}/baseline"), baseline);
            add(&format!("seed-{seed}/simsiam-linear"), linear);
            add(&format!("seed-{seed}/simsiam-knn"), knn);
        }
        manifest.result.remove("seed-6/simsiam-knn");
        insta::assert_snapshot!(table(&manifest));
    }

    #[test]
    fn metrics_are_shares_in_per_cent_or_numbers() {
        assert_eq!(metric("test_top1", 0.6666), "test_top1 66.7 %");
        assert_eq!(metric("train_loss", 0.6666), "train_loss 0.6666");
    }
}
