//! What a stage in training leaves and says as it goes: history, checkpoint, times, log, bar.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use super::console::{Console, duration};
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

/// Keeps the folder, the log and the bar up with a stage's training.
pub(super) struct StageObserver<'a> {
    pub stage: String,
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
    /// Below this a SimSiam stage's output std means collapse: [`COLLAPSED`] of the healthy 1/√d.
    pub collapsed_below: Option<f64>,
}

/// The share of its healthy value below which the output std means collapse. On CIFAR-10 SimSiam stays above 0.96 of it,
/// and is below half after two epochs without stop-gradient, three without predictor (`golden/collapse.json`).
pub(super) const COLLAPSED: f64 = 0.5;

impl StageObserver<'_> {
    /// Notes the stage's time so far in the manifest.
    pub fn clock(&mut self) {
        let seconds = self.seconds_before + self.began.elapsed().as_secs_f64();
        self.manifest.environment.seconds.insert(self.stage.clone(), seconds);
    }

    /// "1090 images/s, 3 min 20 s left".
    fn pace(&self, at: Position) -> String {
        let done = u64::from(at.epoch - 1) * at.steps as u64 + at.step as u64;
        let here = (done - self.steps_before).max(1) as f64;
        let seconds = self.began.elapsed().as_secs_f64();
        let left = (u64::from(at.epochs) * at.steps as u64 - done) as f64 * seconds / here;
        let left = duration(Duration::from_secs_f64(left));
        format!("{:.0} images/s, {left} left", here * at.batch as f64 / seconds)
    }
}

impl Observer for StageObserver<'_> {
    fn step(&mut self, at: Position) {
        let done = u64::from(at.epoch - 1) * at.steps as u64 + at.step as u64;
        self.console.move_bar(done, || {
            let metric = |(task, top1)| format!("  {}", table::metric(&format!("{task}top1"), top1));
            let top1 = at.top1.map_or(String::new(), metric);
            format!("epoch {}/{}  loss {:.4}{top1}  {}", at.epoch, at.epochs, at.loss, self.pace(at))
        });
    }

    fn checkpoint_due(&mut self) -> bool {
        self.saved.elapsed() >= self.checkpoint_every
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn epoch(&mut self, history: &[Record], at: Position) -> Result<()> {
        files::write_atomically(&self.folder.join("history.json"), &[&history_json(history)])?;
        let Some(record) = history.last() else { return Ok(()) };
        let stage = &self.stage;
        self.console.event(&json!({"event": "epoch", "stage": stage, "epochs": at.epochs, "record": record}));
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
        let [hash, body] = progress.to_bytes(&self.owner);
        files::write_atomically(&self.folder.join("checkpoint"), &[&hash, &body])?;
        self.clock();
        self.manifest.save(&self.manifest_path)?;
        self.saved = Instant::now();
        Ok(())
    }
}
