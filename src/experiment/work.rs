//! The work on an experiment's jobs, by one process: it writes the stages' files, and tells the rest to the process that has
//! locked the folder, often the same.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::lock::Lock;
use super::manifest::{StageResult, checked_weights, checkpoint_owner, history_json};
use super::observer::{COLLAPSED, News, StageObserver, Tell, metrics};
use super::outlook::load_data;
use super::run::Options;
use super::stage::KNN;
use super::{Experiment, Job};
use crate::data::Data;
use crate::engine::{Shards, Team, open_for_inference};
use crate::error::{Error, Result};
use crate::evaluate::{balanced_top1, top1};
use crate::files::{self, remove_if_there};
use crate::network::Weights;
use crate::text::{count, path_word};
use crate::train::{Observer, Progress, Record, Trained, train_shards};

/// A job, and what the manifest knows that it takes.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Task {
    pub job: Job,
    /// Of the weights that it starts from, where those are another job's.
    pub source_sha256: Option<String>,
    /// Spent on it by earlier runs.
    pub seconds: f64,
}

/// Works on the jobs of an experiment.
pub(super) struct Worker<'a> {
    experiment: &'a Experiment,
    options: &'a Options<'a>,
    lock: Lock,
    /// Those of a seed.
    data: Option<(u64, Data)>,
}

impl<'a> Worker<'a> {
    /// With the data of a seed, if that is there.
    pub fn new(experiment: &'a Experiment, options: &'a Options, lock: Lock, data: Option<(u64, Data)>) -> Worker<'a> {
        Worker { experiment, options, lock, data }
    }

    /// Into how many shards a job's batches are split.
    pub fn shards(&self, task: &Task) -> usize {
        self.experiment.stages[task.job.stage].shards.map_or(1, |shards| shards.0)
    }

    /// Does a job, with the other members of a team if there is one: its files are written, but for the manifest, where its
    /// result belongs. Of a team the first member alone writes and tells. It ends early if `stops` says so.
    pub fn run(
        &mut self,
        task: &Task,
        team: Option<Box<dyn Team>>,
        stops: &dyn Fn() -> bool,
        tell: &mut Tell,
    ) -> Result<StageResult> {
        let stops = || stops() || self.options.interrupted.load(Ordering::Relaxed);
        let experiment = &self.experiment.of_seed(task.job.seed);
        let data = match self.data.take().filter(|(seed, _)| experiment.has_same_images(*seed, task.job.seed)) {
            Some((_, data)) => data,
            None => load_data(experiment, self.options.data_dir.as_deref())?.data,
        };
        let leads = team.as_ref().is_none_or(|team| team.rank() == 0);
        let trained = match &experiment.stages[task.job.stage].method.learner {
            None => self.knn(experiment, task, &data, tell),
            Some(_) => self.train(experiment, task, &data, team, &stops, tell),
        };
        let classes: Vec<String> = data.class_counts().into_iter().map(|class| class.name).collect();
        self.data = Some((task.job.seed, data));
        let trained = trained?;
        let result = StageResult::new(&trained).expect("a stage has at least one record");
        if leads {
            self.lock.check()?;
            write_result(&self.options.out.join(&task.job.key), &result, &trained.weights, &classes)?;
        }
        Ok(result)
    }

    fn train(
        &self,
        experiment: &Experiment,
        task: &Task,
        data: &Data,
        team: Option<Box<dyn Team>>,
        stops: &dyn Fn() -> bool,
        tell: &mut Tell,
    ) -> Result<Trained> {
        let (stage, name) = (&experiment.stages[task.job.stage], &task.job.key);
        let folder = self.options.out.join(name);
        let recipe = experiment.recipe(stage).expect("a stage that trains");
        let examples = experiment.examples(stage, data)?;
        let leads = team.as_ref().is_none_or(|team| team.rank() == 0);
        let owner = checkpoint_owner(&self.experiment.sha256(), name);
        let checkpoint = folder.join("checkpoint");
        let unusable = |problem: String| Error::run(&checkpoint, problem, begin_again(&checkpoint));
        let start = match files::read(&checkpoint, Progress::most_bytes(&recipe)) {
            Ok(bytes) => {
                let progress = Progress::from_bytes(&bytes, &owner, &recipe.network).map_err(unusable)?;
                let fits = progress.fits(&recipe, &examples);
                fits.map_err(|why| unusable(format!("no training has written this checkpoint: it {why}")))?;
                progress
            }
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if leads {
                    remove_if_there(&folder.join("history.json"))?;
                }
                Progress::start(self.initial_weights(experiment, task)?)
            }
            Err(e) => return Err(Error::unreadable(&checkpoint, e, begin_again(&checkpoint))),
        };
        let shards = match team {
            Some(team) => Shards::of_team(recipe.shards, team),
            None => Shards::new(recipe.shards),
        };
        if !leads {
            let mut follower = Follower(stops);
            return train_shards(&recipe, data, &examples, start, &self.options.device, shards, &mut follower);
        }
        let steps = recipe.steps(&examples);
        let (resumed, seconds_before) = if start.epoch > 0 || start.step > 0 {
            (format!(", from epoch {} step {}", start.epoch + 1, start.step), task.seconds)
        } else {
            (String::new(), 0.0)
        };
        tell(News::Line(format!("{} × {}{resumed}", count(recipe.epochs as usize, "epoch"), count(steps, "step"))))?;
        tell(News::Start { steps: u64::from(recipe.epochs) * steps as u64 })?;
        let mut observer = StageObserver {
            collapsed_below: (recipe.method.output_width(&recipe.network).filter(|_| recipe.method.can_collapse()))
                .map(|d| COLLAPSED / (d as f64).sqrt()),
            seconds_before,
            stage: name,
            lock: &self.lock,
            tell: &mut *tell,
            folder: &folder,
            owner,
            checkpoint_every: self.options.checkpoint_every,
            stops,
            began: Instant::now(),
            steps_before: (u64::from(start.epoch) * steps as u64) + start.step as u64,
            saved: Instant::now(),
        };
        let trained = train_shards(&recipe, data, &examples, start, &self.options.device, shards, &mut observer);
        let seconds = observer.seconds();
        tell(News::End { seconds })?;
        trained
    }

    /// A kNN classifier's accuracy on the test images, as epoch 0 of a history.
    fn knn(&self, experiment: &Experiment, task: &Task, data: &Data, tell: &mut Tell) -> Result<Trained> {
        let began = Instant::now();
        let stage = &experiment.stages[task.job.stage];
        let weights = self.initial_weights(experiment, task)?;
        let network = experiment.network(stage);
        let mut model = open_for_inference(&self.options.device, network, weights.clone())?;
        let examples = experiment.examples(stage, data)?;
        let all: Vec<u32> = (0..data.test.len() as u32).collect();
        let answers = KNN.answers((&data.test, &all), (&data.train, &examples.labelled), &mut *model)?;
        let mut record = Record { epoch: 0, metrics: [("test_top1".to_owned(), top1(&answers))].into() };
        record.metrics.extend(balanced_top1(&answers).map(|top1| ("test_balanced_top1".to_owned(), top1)));
        tell(News::Line(metrics(&record)))?;
        tell(News::End { seconds: began.elapsed().as_secs_f64() })?;
        Ok(Trained { history: vec![record], chosen: None, weights })
    }

    /// Random weights, then those of the stage named by `from` in their place.
    fn initial_weights(&self, experiment: &Experiment, task: &Task) -> Result<Weights> {
        let stage = &experiment.stages[task.job.stage];
        let mut weights = Weights::init(&experiment.network(stage), task.job.seed);
        if let Some(source) = experiment.source(stage) {
            let key = self.experiment.key(task.job.seed, &source.name);
            let (network, hash) = (experiment.network(source), task.source_sha256.as_deref());
            weights.transfer(&checked_weights(&self.options.out, &key, &network, hash)?);
        }
        Ok(weights)
    }
}

/// Of a member of a team that does not lead it: it may ask to stop, and leaves the rest to the first.
struct Follower<'a>(&'a dyn Fn() -> bool);

impl Observer for Follower<'_> {
    fn interrupted(&self) -> bool {
        self.0()
    }
}

/// Writes a finished stage's files into its folder.
pub(super) fn write_result(folder: &Path, result: &StageResult, weights: &Weights, classes: &[String]) -> Result<()> {
    files::write_atomically(&folder.join("history.json"), &[&history_json(&result.history)])?;
    weights.save(&folder.join("weights.safetensors"), classes)
}

/// What to do about a checkpoint that cannot be used.
fn begin_again(checkpoint: &Path) -> String {
    format!("delete {} and run again: this stage then starts from its first epoch", path_word(checkpoint))
}
