//! What a run's result looks like: the table at its end.

use std::time::Duration;

use crate::experiment::{Manifest, duration};

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
        let top1 = |metrics: &std::collections::BTreeMap<String, f64>| percent(metrics["test_top1"]);
        let claim = stage.claim.map_or("-".to_owned(), |[low, high]| format!("{}–{} %", low.0, high.0));
        let time = duration(Duration::from_secs_f64(seconds(manifest, &stage.name)));
        rows.push([stage.name.to_string(), top1(&peak.metrics), top1(&result.last.metrics), claim, time]);
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
