//! What a run is going to do: its stages, and what each takes. A run prints it first; a dry run prints more of it, and ends.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::console::duration;
use super::run::Options;
use super::schedule::{Schedule, Waiting};
use super::{Experiment, Job};
use crate::data::Data;
use crate::error::Result;
use crate::files;
use crate::text::count;
use crate::train::{Record, expected_time};

/// Longest time that is spent on predicting the stages' times.
const ESTIMATING: Duration = Duration::from_secs(30);
/// The longest history that is read, in bytes: 10,000 epochs have about 3 MB.
const MOST_HISTORY: u64 = 16 << 20;

/// What is left to be done.
pub(super) struct Preview<'a> {
    experiment: &'a Experiment,
    rows: Vec<Row<'a>>,
}

struct Row<'a> {
    job: &'a Job,
    /// Of its epochs; none where nothing is trained.
    left: Option<u32>,
    /// As a few of its steps predict it.
    time: Option<Duration>,
}

impl Row<'_> {
    fn time(&self) -> String {
        self.time.map_or(String::new(), |time| format!("about {}", duration(time)))
    }
}

impl<'a> Preview<'a> {
    /// Of these jobs; the time of a stage is predicted from a few of its steps, of very many stages for the first ones.
    pub fn of(experiment: &'a Experiment, jobs: &[&'a Job], data: &Data, options: &Options) -> Result<Preview<'a>> {
        let began = Instant::now();
        // The same for every seed.
        let mut known: Vec<Option<Option<Duration>>> = vec![None; experiment.stages.len()];
        let mut rows = vec![];
        for &job in jobs {
            let (stage, of_seed) = (&experiment.stages[job.stage], experiment.of_seed(job.seed));
            let Some(recipe) = of_seed.recipe(stage) else {
                rows.push(Row { job, left: None, time: None });
                continue;
            };
            let time = match known[job.stage] {
                Some(time) => time,
                None if began.elapsed() >= ESTIMATING => None,
                None => Some(expected_time(&recipe, data, &of_seed.examples(stage, data)?, &options.device)?),
            };
            known[job.stage] = Some(time);
            let left = recipe.epochs - epochs_done(&options.out, job).min(recipe.epochs);
            rows.push(Row { job, left: Some(left), time: time.map(|time| time * left / recipe.epochs) });
        }
        Ok(Preview { experiment, rows })
    }

    /// A line for each stage, and one for all.
    pub fn lines(&self) -> Vec<String> {
        self.table(|row| vec![row.job.key.clone(), self.epochs(row), row.time(), self.cost(row)])
    }

    /// The same with what each stage comes after and needs, and how long all of them take on several processes.
    pub fn dry_lines(&self) -> Vec<String> {
        let mut lines = self.table(|row| {
            let stage = &self.experiment.stages[row.job.stage];
            let after = self.experiment.source(stage).map_or(String::new(), |source| format!("after {}", source.name));
            let shards = stage.shards.map_or(String::new(), |shards| count(shards.0, "shard"));
            let memory = format!("{} MB", self.experiment.memory(stage).div_ceil(1_000_000));
            vec![row.job.key.clone(), self.epochs(row), after, shards, row.time(), self.cost(row), memory]
        });
        let alone = self.span(1);
        let spans = [2, 4, 8, 16, 64, 256, 1024].map(|ranks| (ranks, self.span(ranks)));
        let mut shorter = alone;
        for (ranks, span) in spans {
            if span < shorter {
                lines.push(format!("with {ranks} processes like this one: about {}", duration(span)));
                shorter = span;
            }
        }
        let is_shared = |row: &Row| self.experiment.stages[row.job.stage].shards.is_some();
        if shorter < alone && self.rows.iter().any(is_shared) {
            lines.push("a stage in shards takes longer than these times say: docs/scaling.md has a model".to_owned());
        }
        lines
    }

    /// For scripts.
    pub fn event(&self) -> Value {
        let stage = |row: &Row| {
            let stage = &self.experiment.stages[row.job.stage];
            json!({"stage": row.job.key, "epochs": stage.epochs, "epochs_left": row.left,
                "seconds": row.time.map(|time| time.as_secs_f64()),
                "after": self.experiment.source(stage).map(|source| self.experiment.key(row.job.seed, &source.name)),
                "shards": stage.shards.map(|shards| shards.0), "operations": self.experiment.operations(stage),
                "bytes": self.experiment.memory(stage)})
        };
        let stages: Vec<Value> = self.rows.iter().map(stage).collect();
        json!({"event": "plan", "experiment": self.experiment.name, "stages": stages})
    }

    /// Aligned columns, then the total time.
    fn table(&self, cells: impl Fn(&Row) -> Vec<String>) -> Vec<String> {
        let cells: Vec<Vec<String>> = self.rows.iter().map(cells).collect();
        let width = |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..cells.first().map_or(0, Vec::len)).map(width).collect();
        let line = |row: &Vec<String>| {
            let padded: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("  {}", padded.join("  ").trim_end())
        };
        let at_least =
            if self.rows.iter().any(|row| row.left.is_some() && row.time.is_none()) { "at least " } else { "" };
        let total = self.rows.iter().filter_map(|row| row.time).sum();
        let total = format!("{at_least}about {} in total", duration(total));
        cells.iter().map(line).chain([total]).collect()
    }

    fn cost(&self, row: &Row) -> String {
        format!("{:.1e} FLOP", self.experiment.operations(&self.experiment.stages[row.job.stage]))
    }

    fn epochs(&self, row: &Row) -> String {
        let stage = &self.experiment.stages[row.job.stage];
        let all = stage.epochs.map_or(0, |epochs| epochs.0);
        match row.left {
            None => "nearest neighbours".to_owned(),
            Some(left) if left == all => count(all as usize, "epoch"),
            Some(left) => format!("{left} of {}", count(all as usize, "epoch")),
        }
    }

    /// How long the stages take on so many processes, of which each trains as fast as this one.
    fn span(&self, ranks: usize) -> Duration {
        let jobs: Vec<&Job> = self.rows.iter().map(|row| row.job).collect();
        let mut schedule = Schedule::new(Waiting::all(self.experiment, &jobs), ranks);
        let (mut now, mut running) = (Duration::ZERO, vec![]);
        loop {
            while let Some(start) = schedule.start() {
                let time = self.rows[start.job].time.unwrap_or_default();
                running.push((now + time / start.ranks.len() as u32, start));
            }
            let Some(first) = (0..running.len()).min_by_key(|&i| running[i].0) else { return now };
            let (ended, start) = running.swap_remove(first);
            now = ended;
            schedule.end(start);
        }
    }
}

/// About how many epochs of an unfinished job its checkpoint has: the history may be slightly ahead.
fn epochs_done(run: &Path, job: &Job) -> u32 {
    let folder = run.join(&job.key);
    let history = files::read(&folder.join("history.json"), MOST_HISTORY).ok();
    let history = history.filter(|_| folder.join("checkpoint").exists());
    let records: Vec<Record> = history.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    records.len() as u32
}
