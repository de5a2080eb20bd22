//! What is written and printed while a stage trains: history, checkpoints, times, log, progress bar.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::console::{Console, duration};
use super::lock::Lock;
use super::manifest::{Manifest, history_json};
use super::table;
use crate::error::Result;
use crate::files;
use crate::train::{Observer, Position, Progress, Record};

/// "name value  name value".
pub(super) fn metrics(record: &Record) -> String {
    let metrics: Vec<String> = record.metrics.iter().map(|(name, value)| table::metric(name, *value)).collect();
    metrics.join("  ")
}

/// Records a stage's training in its folder, the log and the progress bar.
pub(super) struct StageObserver<'a> {
    pub stage: String,
    pub lock: &'a Lock,
    pub manifest: &'a mut Manifest,
    pub manifest_path: PathBuf,
    pub console: &'a mut Console,
    pub folder: &'a Path,
    pub owner: String,
    pub checkpoint_every: Duration,
    pub interrupted: &'a AtomicBool,
    pub began: Instant,
    /// Time and steps of earlier runs of this stage.
    pub seconds_before: f64,
    pub steps_before: u64,
    pub saved: Instant,
    /// Of a method that measures it: an output std below this is a collapse, [`COLLAPSED`] of the healthy 1/√d.
    pub collapsed_below: Option<f64>,
}

/// A share of the healthy output std: below it the outputs have collapsed. On CIFAR-10 SimSiam stays above 0.96, and falls
/// below half after two epochs without stop-gradient, three without predictor (`golden/collapse.json`).
pub(super) const COLLAPSED: f64 = 0.5;

impl StageObserver<'_> {
    /// Records the stage's time so far in the manifest.
    pub fn clock(&mut self) {
        let seconds = self.seconds_before + self.began.elapsed().as_secs_f64();
        self.manifest.environment.seconds.insert(self.stage.clone(), seconds);
    }

    fn pace(&self, at: Position) -> String {
        pace(at, self.steps_before, self.began.elapsed())
    }
}

/// Steps done in the stage.
fn steps_done(at: Position) -> u64 {
    u64::from(at.epoch - 1) * at.steps as u64 + at.step as u64
}

/// "1090 images/s, 3 min 20 s left", from the steps since `steps_before`, made in `time`.
fn pace(at: Position, steps_before: u64, time: Duration) -> String {
    let here = (steps_done(at) - steps_before).max(1) as f64;
    let seconds = time.as_secs_f64();
    let left = (u64::from(at.epochs) * at.steps as u64 - steps_done(at)) as f64 * seconds / here;
    let left = duration(Duration::from_secs_f64(left));
    format!("{:.0} images/s, {left} left", here * at.batch as f64 / seconds)
}

/// The text beside the bar: "epoch 2/5  loss 1.2345  top1 51.0 %  1090 images/s, 3 min 20 s left".
fn bar_message(at: Position, pace: &str) -> String {
    let metric = |(task, top1)| format!("  {}", table::metric(&format!("{task}top1"), top1));
    let top1 = at.top1.map_or(String::new(), metric);
    format!("epoch {}/{}  loss {:.4}{top1}  {pace}", at.epoch, at.epochs, at.loss)
}

impl Observer for StageObserver<'_> {
    fn step(&mut self, at: Position) {
        self.console.move_bar(steps_done(at), || bar_message(at, &self.pace(at)));
    }

    fn checkpoint_due(&mut self) -> bool {
        self.saved.elapsed() >= self.checkpoint_every
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn epoch(&mut self, history: &[Record], at: Position) -> Result<()> {
        self.lock.check()?;
        files::write_atomically(&self.folder.join("history.json"), &[&history_json(history)])?;
        let Some(record) = history.last() else { return Ok(()) };
        let stage = &self.stage;
        self.console.event(&json!({"event": "epoch", "stage": stage, "epochs": at.epochs, "record": record}))?;
        let line = format!("{stage}: epoch {}/{}  {}  ({})", at.epoch, at.epochs, metrics(record), self.pace(at));
        self.console.say(&line)?;
        if let (Some(limit), Some(&std)) = (self.collapsed_below, record.metrics.get("output_std"))
            && std < limit
        {
            let healthy = limit / COLLAPSED;
            let warning = format!("{stage}: warning: the outputs collapse: std {std:.5}, healthy near {healthy:.5}");
            self.console.warn(&warning)?;
        }
        Ok(())
    }

    fn save(&mut self, progress: &Progress) -> Result<()> {
        self.lock.check()?;
        let [hash, body] = progress.to_bytes(&self.owner);
        files::write_atomically(&self.folder.join("checkpoint"), &[&hash, &body])?;
        self.clock();
        self.manifest.save(&self.manifest_path)?;
        self.saved = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bar_tells_loss_accuracy_pace_and_time_left() {
        let at = Position { epoch: 2, epochs: 4, step: 30, steps: 50, batch: 64, loss: 1.5, top1: None };
        // 80 of 200 steps are done, 60 of them here, in 30 s: 2 a second, and 120 to go.
        let pace = pace(at, 20, Duration::from_secs(30));
        assert_eq!(pace, "128 images/s, 1 min 00 s left");
        assert_eq!(bar_message(at, &pace), format!("epoch 2/4  loss 1.5000  {pace}"));
        let top1 = Some(("rotation_", 0.25));
        assert_eq!(
            bar_message(Position { top1, ..at }, ""),
            format!("epoch 2/4  loss 1.5000  {}  ", table::metric("rotation_top1", 0.25))
        );
    }
}
