//! The result table: for the console, and as Markdown and CSV.

use std::time::Duration;

use super::{Claim, Manifest, RANDOM, Stage, StageResult, duration};
use crate::method::Kind;
use crate::statistics::Estimate;
use crate::text::{markdown as in_markdown, visible};
use crate::train::{Record, Test};

/// What a stage that classifies the test images has come to, over the seeds that there are. Accuracies are shares of 1.
pub struct Row {
    /// Its name.
    pub stage: String,
    /// How it learns.
    pub method: &'static Kind,
    /// How many seeds there are.
    pub n: usize,
    /// How many the experiment asks for.
    pub seeds: usize,
    /// Test accuracy of the one look, after the epoch that the validation images chose.
    pub chosen: Option<Estimate>,
    /// Of the last epoch, where none is chosen.
    pub last: Option<Estimate>,
    /// The mean over the classes of each one's test accuracy, of the same epoch; none where the classes have one size.
    pub balanced: Option<Estimate>,
    /// Of the best epoch, chosen by looking at the test images.
    pub peak: Option<Estimate>,
    /// From and to, in per cent.
    pub claim: Option<[f64; 2]>,
    /// Its own, over all seeds.
    pub time: Duration,
    /// With that of the stages it builds on; none where it builds on none.
    pub time_with_sources: Option<Duration>,
}

/// One row per finished stage that classifies the test images, in the experiment's order.
pub fn rows(manifest: &Manifest) -> Vec<Row> {
    let experiment = &manifest.experiment;
    let row = |stage: &Stage| {
        let results = results(manifest, &stage.name);
        let of = |top1: &dyn Fn(&StageResult) -> Option<f64>| -> Option<Estimate> {
            Estimate::of(&results.iter().filter_map(|(_, result)| top1(result)).collect::<Vec<f64>>())
        };
        let top1 = |record: &Record| record.metrics.get("test_top1").copied();
        let tested = of(&StageResult::top1)?;
        let builds_on = experiment.source(stage).is_some();
        Some(Row {
            stage: stage.name.to_string(),
            method: stage.method,
            n: tested.n,
            seeds: experiment.seeds.0 as usize,
            chosen: experiment.validates().then_some(tested),
            last: (!experiment.validates()).then_some(tested),
            balanced: of(&|result| result.tested().metrics.get("test_balanced_top1").copied()),
            peak: of(&|result| top1(result.peak.as_ref()?)),
            claim: stage.claim.map(|claim| claim.map(|percent| percent.0)),
            time: time(manifest, stage, false),
            time_with_sources: builds_on.then(|| time(manifest, stage, true)),
        })
    };
    experiment.stages.iter().filter(|stage| stage.classifies()).filter_map(row).collect()
}

impl Row {
    /// Heads of the columns: the accuracy that stands for the stage before the one that the test images chose.
    pub const HEAD: [&str; 8] =
        ["method", "test", "final", "balanced", Row::PEAK, "claimed", "time", "with pre-training"];
    /// Head of a column that is no fair estimate, shown in grey.
    pub(crate) const PEAK: &str = "peak *";

    /// "baseline 65.5 % final": the accuracy that stands for the stage, and of which epoch it is.
    pub fn headline(&self) -> String {
        let epoch = match (&self.method.learner, &self.chosen) {
            (None, _) => "",
            (_, Some(_)) => " at the chosen epoch",
            (_, None) => " final",
        };
        format!("{} {}{epoch}", self.stage, estimate(self.chosen.or(self.last).as_ref()))
    }

    /// As text, in the columns of [`Row::HEAD`], with n where seeds are missing; "-" where there is nothing.
    pub fn cells(&self) -> [String; 8] {
        let claim = self.claim.map_or("-".to_owned(), |[low, high]| format!("{low}–{high} %"));
        let [chosen, last, balanced, peak] =
            [&self.chosen, &self.last, &self.balanced, &self.peak].map(|value| estimate(value.as_ref()));
        let stage = match self.n < self.seeds {
            true => format!("{} (n = {})", self.stage, self.n),
            false => self.stage.clone(),
        };
        let whole = self.time_with_sources.map_or("-".to_owned(), duration);
        [stage, chosen, last, balanced, peak, claim, duration(self.time), whole]
    }
}

/// Heads and rows, without columns in which there is nothing.
pub(crate) fn columns(rows: &[Row]) -> Vec<Vec<String>> {
    let mut cells = vec![Row::HEAD.map(str::to_owned)];
    cells.extend(rows.iter().map(Row::cells));
    let is_shown = |&column: &usize| cells[1..].iter().any(|row| row[column] != "-");
    let shown: Vec<usize> = (0..Row::HEAD.len()).filter(is_shown).collect();
    cells.iter().map(|row| shown.iter().map(|&column| row[column].clone()).collect()).collect()
}

/// What the column [`Row::PEAK`] is.
const PEAK_NOTE: &str = "* peak: test accuracy of the best epoch, chosen by looking at the test set";

/// What the columns and marks of the rows mean, and what the seeds say of the experiment's claims.
pub(crate) fn notes(manifest: &Manifest, rows: &[Row]) -> Vec<String> {
    let experiment = &manifest.experiment;
    let rule = match experiment.tests() {
        _ if experiment.validates() => {
            "test: accuracy at the epoch with the best validation accuracy; the test images were used once"
        }
        Test::Once => "final: test accuracy after the last epoch; the test images were used once",
        Test::EveryEpoch => "final: test accuracy after the last epoch",
    };
    let mut notes = vec![rule.to_owned()];
    notes.extend(constant_answer(manifest, rows));
    if rows.iter().any(|row| row.peak.is_some()) {
        notes.push(PEAK_NOTE.to_owned());
    }
    if rows.iter().any(|row| row.n > 1) {
        notes.push(
            "± half the 95 % confidence interval of the mean over the seeds (t); times are of all seeds together"
                .to_owned(),
        );
    }
    let reused = manifest.environment.reused.keys().filter(|key| manifest.result.contains_key(*key));
    let reused: Vec<&str> = reused.map(String::as_str).collect();
    if !reused.is_empty() {
        notes.push(format!("reused from another run: {}", reused.join(", ")));
    }
    notes.extend(experiment.claims.iter().map(|claim| verdict(manifest, claim)));
    notes.extend(manifest.learning_notes());
    notes
}

/// What a constant answer gets, where the classes differ in size.
fn constant_answer(manifest: &Manifest, rows: &[Row]) -> Vec<String> {
    let Some((class, share)) = manifest.largest_class() else { return vec![] };
    let mut notes = vec![];
    if rows.iter().any(|row| row.balanced.is_some()) {
        let classes = manifest.classes.iter().filter(|class| class.test > 0).count();
        let chance = percent(1.0 / classes as f64);
        notes.push(format!("balanced: the mean of the classes' own accuracies; a constant answer gets {chance}"));
    }
    let name = visible(&class.name);
    let of_all = percent(share);
    notes.push(format!("largest class ({name}): {of_all} of the test images, the accuracy of always answering it"));
    notes
}

/// What stands for a table without rows, a line each.
pub(crate) fn untested(manifest: &Manifest) -> Vec<String> {
    let stages = &manifest.experiment.stages;
    if stages.iter().any(|stage| stage.classifies()) {
        return vec!["no stage has been tested on the test images yet".to_owned()];
    }
    let last = stages.last().map_or(RANDOM, |stage| &*stage.name);
    let probe = format!("{{name: {last}-probe, method: probe, from: {last}}}");
    let mut lines = vec![format!("nothing here classifies the test images: add a stage that does, such as {probe}")];
    lines.extend(manifest.learning_notes());
    lines
}

/// The table with its notes, for a console; the columns that are no fair estimate in grey where it shows `colors`.
pub fn text(manifest: &Manifest, colors: bool) -> String {
    let rows = rows(manifest);
    if rows.is_empty() {
        return untested(manifest).join("\n");
    }
    let cells = columns(&rows);
    let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let rule = (0..cells[0].len()).map(width).sum::<usize>() + 2 * (cells[0].len() - 1);
    let grey = |text: String, is_grey: bool| match colors && is_grey {
        true => format!("\u{1b}[2m{text}\u{1b}[0m"),
        false => text,
    };
    let line = |row: &Vec<String>| {
        let cell = |column: usize| {
            let cell = format!("{:>1$}", row[column], width(column));
            format!("  {}", grey(cell, cells[0][column] == Row::PEAK))
        };
        format!("{:<2$}{1}", row[0], (1..row.len()).map(cell).collect::<String>(), width(0))
    };
    let mut lines = vec![line(&cells[0]), "─".repeat(rule)];
    lines.extend(cells[1..].iter().map(line));
    lines.extend(notes(manifest, &rows).into_iter().map(|note| {
        let is_grey = note == PEAK_NOTE;
        grey(note, is_grey)
    }));
    lines.join("\n")
}

/// The table with its notes, in Markdown.
pub fn markdown(manifest: &Manifest) -> String {
    let rows = rows(manifest);
    if rows.is_empty() {
        return untested(manifest).join("\n\n") + "\n";
    }
    let cells = columns(&rows);
    let line = |row: &[String]| {
        let cells: Vec<String> = row.iter().map(|cell| in_markdown(cell)).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let mut out = line(&cells[0]) + &line(&vec!["---".to_owned(); cells[0].len()]);
    out.extend(cells[1..].iter().map(|row| line(row)));
    out.extend(notes(manifest, &rows).iter().map(|note| format!("\n{}\n", in_markdown(note))));
    out
}

/// Every finished stage of every seed of the runs (name, manifest), with a line of heads: accuracies as shares of 1,
/// empty where there is none; the balanced one is of the chosen epoch, else of the final one. An epoch is chosen by validation
/// images alone. Scripts count columns: new ones come last.
pub fn csv(manifests: &[(&str, &Manifest)]) -> String {
    let mut out = "run,seed,stage,method,labels,peak_epoch,peak_top1,final_top1,chosen_epoch,chosen_top1,\
                   balanced_top1\n"
        .to_owned();
    for (run, manifest) in manifests {
        for stage in &manifest.experiment.stages {
            for (seed, result) in results(manifest, &stage.name) {
                let of = |record: Option<&Record>| {
                    let top1 = record.and_then(|record| Some((record.epoch, *record.metrics.get("test_top1")?)));
                    top1.map_or((String::new(), String::new()), |(epoch, top1)| (epoch.to_string(), top1.to_string()))
                };
                let chosen = result.chosen.as_ref().filter(|_| manifest.experiment.validates());
                let last = if chosen.is_some() { &result.last } else { result.tested() };
                let (peak, last, chosen) = (of(result.peak.as_ref()), of(Some(last)), of(chosen));
                let labels = match stage.method.uses_labels {
                    true => manifest.experiment.labels_behind(stage).to_string(),
                    false => String::new(),
                };
                let method = stage.method.name;
                out += &format!("{run},{seed},{},{method},{labels},{},{},", stage.name, peak.0, peak.1);
                let balanced = result.tested().metrics.get("test_balanced_top1").map_or(String::new(), f64::to_string);
                out += &format!("{},{},{},{balanced}\n", last.1, chosen.0, chosen.1);
            }
        }
    }
    out
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

/// What the stage took over all seeds; `with_sources`, together with the stages it builds on.
fn time(manifest: &Manifest, stage: &Stage, with_sources: bool) -> Duration {
    let experiment = &manifest.experiment;
    let source = |stage: &&Stage| experiment.source(stage).filter(|_| with_sources);
    let key = |stage: &Stage, seed: u64| manifest.environment.seconds.get(&experiment.key(seed, &stage.name)).copied();
    let stages = std::iter::successors(Some(stage), source);
    let seconds = stages.flat_map(|stage| experiment.all_seeds().filter_map(move |seed| key(stage, seed)));
    Duration::try_from_secs_f64(seconds.sum()).unwrap_or_default()
}

/// "66.3 %", or of several "66.3 ± 0.4 %".
fn estimate(shares: Option<&Estimate>) -> String {
    match shares {
        None => "-".to_owned(),
        Some(Estimate { mean, half_width: None, .. }) => percent(*mean),
        Some(Estimate { mean, half_width: Some(half), .. }) => format!("{:.1} ± {:.1} %", mean * 100.0, half * 100.0),
    }
}

/// `name value`: accuracies in per cent, other metrics with four decimals.
pub(crate) fn metric(name: &str, value: f64) -> String {
    // From a manifest it may be any text.
    let shown = visible(name);
    if name.ends_with("top1") { format!("{shown} {}", percent(value)) } else { format!("{shown} {value:.4}") }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

#[cfg(test)]
mod tests;
