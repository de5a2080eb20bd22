//! What is written and told while a stage trains: history, checkpoints, times, lines.

use std::fmt;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::console::duration;
use super::lock::Lock;
use super::manifest::history_json;
use super::table;
use crate::error::Result;
use crate::files;
use crate::train::{Observer, Position, Progress, Record};

/// "name value  name value".
pub(super) fn metrics(record: &Record) -> String {
    let metrics: Vec<String> = record.metrics.iter().map(|(name, value)| table::metric(name, *value)).collect();
    metrics.join("  ")
}

/// What is told of a job by whoever works on it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// For people and the log; the job's key comes before it.
    Line(String),
    /// For people, scripts and the log; likewise.
    Warning(String),
    /// For scripts alone.
    Event(Value),
    /// Its training starts.
    Start {
        /// All of them.
        steps: u64,
    },
    /// A step is done. Told to this process alone.
    #[serde(skip)]
    Step(Pace),
    /// A checkpoint is written.
    Checkpoint {
        /// Spent on the job so far.
        seconds: f64,
    },
    /// Its training has ended.
    End {
        /// Spent on the job.
        seconds: f64,
    },
}

/// Takes what is told of a job.
pub(super) type Tell<'a> = dyn FnMut(News) -> Result<()> + 'a;

/// Records a stage's training in its folder, and tells of it.
pub(super) struct StageObserver<'a> {
    pub stage: &'a str,
    pub lock: &'a Lock,
    pub tell: &'a mut Tell<'a>,
    pub folder: &'a Path,
    pub owner: String,
    pub checkpoint_every: Duration,
    /// Whether it is to end early.
    pub stops: &'a dyn Fn() -> bool,
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
    /// Spent on the stage so far.
    pub fn seconds(&self) -> f64 {
        self.seconds_before + self.began.elapsed().as_secs_f64()
    }

    fn pace(&self, at: Position) -> Pace {
        Pace { at, steps_before: self.steps_before, time: self.began.elapsed() }
    }
}

/// Where a stage is, of which this run has made the steps after `steps_before` in `time`.
#[derive(Debug)]
pub(super) struct Pace {
    at: Position,
    steps_before: u64,
    time: Duration,
}

impl Pace {
    /// Steps done in the stage.
    pub fn done(&self) -> u64 {
        u64::from(self.at.epoch - 1) * self.at.steps as u64 + self.at.step as u64
    }

    /// The text beside the bar: "epoch 2/5  loss 1.2345  top1 51.0 %  1090 images/s, 3 min 20 s left".
    pub fn bar(&self) -> String {
        let at = self.at;
        let metric = |(task, top1)| format!("  {}", table::metric(&format!("{task}top1"), top1));
        let top1 = at.top1.map_or(String::new(), metric);
        format!("epoch {}/{}  loss {:.4}{top1}  {self}", at.epoch, at.epochs, at.loss)
    }
}

/// "1090 images/s, 3 min 20 s left".
impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let at = self.at;
        let here = (self.done() - self.steps_before).max(1) as f64;
        let seconds = self.time.as_secs_f64();
        let left = (u64::from(at.epochs) * at.steps as u64 - self.done()) as f64 * seconds / here;
        let left = duration(Duration::from_secs_f64(left));
        write!(f, "{:.0} images/s, {left} left", here * at.batch as f64 / seconds)
    }
}

impl Observer for StageObserver<'_> {
    fn step(&mut self, at: Position) {
        let pace = self.pace(at);
        // No step fails for a bar that is not shown.
        let _ = (self.tell)(News::Step(pace));
    }

    fn checkpoint_due(&mut self) -> bool {
        self.saved.elapsed() >= self.checkpoint_every
    }

    fn interrupted(&self) -> bool {
        (self.stops)()
    }

    fn epoch(&mut self, history: &[Record], at: Position) -> Result<()> {
        self.lock.check()?;
        files::write_atomically(&self.folder.join("history.json"), &[&history_json(history)])?;
        let Some(record) = history.last() else { return Ok(()) };
        let event = json!({"event": "epoch", "stage": self.stage, "epochs": at.epochs, "record": record});
        (self.tell)(News::Event(event))?;
        let pace = self.pace(at);
        (self.tell)(News::Line(format!("epoch {}/{}  {}  ({pace})", at.epoch, at.epochs, metrics(record))))?;
        if let (Some(limit), Some(&std)) = (self.collapsed_below, record.metrics.get("output_std"))
            && std < limit
        {
            let healthy = limit / COLLAPSED;
            let warning = format!("warning: the outputs collapse: std {std:.5}, healthy near {healthy:.5}");
            (self.tell)(News::Warning(warning))?;
        }
        Ok(())
    }

    fn save(&mut self, progress: &Progress) -> Result<()> {
        self.lock.check()?;
        let [hash, body] = progress.to_bytes(&self.owner);
        files::write_atomically(&self.folder.join("checkpoint"), &[&hash, &body])?;
        let seconds = self.seconds();
        (self.tell)(News::Checkpoint { seconds })?;
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
        let pace = |at| Pace { at, steps_before: 20, time: Duration::from_secs(30) };
        assert_eq!(pace(at).to_string(), "128 images/s, 1 min 00 s left");
        assert_eq!(pace(at).bar(), format!("epoch 2/4  loss 1.5000  {}", pace(at)));
        let top1 = Some(("rotation_", 0.25));
        let bar = pace(Position { top1, ..at }).bar();
        assert_eq!(bar, format!("epoch 2/4  loss 1.5000  {}  {}", table::metric("rotation_top1", 0.25), pace(at)));
    }
}
