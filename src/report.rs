//! What a run's result looks like: the table at its end.

use std::time::Duration;

use crate::experiment::{Manifest, duration};
use crate::train::Record;

/// `name value`: accuracies in per cent, other metrics with four decimals.
pub fn metric(name: &str, value: f64) -> String {
    if name.ends_with("top1") { format!("{name} {}", percent(value)) } else { format!("{name} {value:.4}") }
}

/// One row per finished stage that classifies the test images: peak over epochs, final epoch, the study's claim, and
/// the time with that of the stages it builds on.
pub fn table(manifest: &Manifest) -> String {
    let mut rows = vec![["method", "peak *", "final", "claimed", "time"].map(str::to_owned)];
    for stage in &manifest.experiment.stages {
        let Some(result) = manifest.result.get(&*stage.name) else { continue };
        let Some(peak) = &result.peak else { continue };
        let top1 = |record: &Record| record.metrics.get("test_top1").map_or("-".to_owned(), |&share| percent(share));
        let claim = stage.claim.map_or("-".to_owned(), |[low, high]| format!("{}–{} %", low.0, high.0));
        let time = duration(Duration::try_from_secs_f64(seconds(manifest, &stage.name)).unwrap_or_default());
        rows.push([stage.name.to_string(), top1(peak), top1(&result.last), claim, time]);
    }
    if rows.len() == 1 {
        return "no stage has been tested on the test images yet".to_owned();
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 5] = std::array::from_fn(width);
    let line = |row: &[String; 5]| {
        let [method, rest @ ..] = row;
        let cells = rest.iter().zip(&widths[1..]).map(|(cell, width)| format!("  {cell:>width$}"));
        format!("{method:<0$}{1}", widths[0], cells.collect::<String>())
    };
    let rule = "─".repeat(widths.iter().sum::<usize>() + 2 * 4);
    let body: Vec<String> = rows[1..].iter().map(line).collect();
    let note = "* test accuracy of the best epoch: chosen by looking at the test set";
    format!("{}\n{rule}\n{}\n{note}", line(&rows[0]), body.join("\n"))
}

/// Seconds of the stage and of those it builds on.
fn seconds(manifest: &Manifest, stage: &str) -> f64 {
    let own = manifest.environment.seconds.get(stage).copied().unwrap_or(0.0);
    let from = manifest.experiment.stages.iter().find(|s| *s.name == *stage).and_then(|s| s.from.as_deref());
    own + from.map_or(0.0, |from| seconds(manifest, from))
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::{Experiment, StageResult};
    use crate::network::{Network, Weights, Widths};

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
        let weights = Weights::init(&Network::supervised(&Widths { channels: [1, 1, 1], ..Widths::default() }), 0);
        let record = |epoch, name: &str, value| Record { epoch, metrics: [(name.to_owned(), value)].into() };
        let mut add = |stage: &str, history: &[Record], seconds: f64| {
            manifest.result.insert(stage.to_owned(), StageResult::new(history, &weights).unwrap());
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
    fn metrics_are_shares_in_per_cent_or_numbers() {
        assert_eq!(metric("test_top1", 0.6666), "test_top1 66.7 %");
        assert_eq!(metric("train_loss", 0.6666), "train_loss 0.6666");
    }
}
