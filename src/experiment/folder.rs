//! The run directory: one process locks it, runs its jobs, and writes each stage's result into the manifest last.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

use super::console::Console;
use super::lock::{Lock, check_paths};
use super::manifest::{Manifest, StageResult, history_json};
use super::observer::{COLLAPSED, StageObserver, metrics};
use super::reuse::Finished;
use super::run::Options;
use super::stage::KNN;
use super::{Experiment, FILES, Job, RANDOM, Stage};
use crate::data::Data;
use crate::engine::open_for_inference;
use crate::error::{Error, Result};
use crate::evaluate::{balanced_top1, top1};
use crate::files::{self, remove_if_there};
use crate::network::Weights;
use crate::text::{count, path_word, shown};
use crate::train::{Progress, Record, Trained, train};
use crate::{report, sums};

/// The longest history that is read, in bytes: 10,000 epochs have about 3 MB.
const MOST_HISTORY: u64 = 16 << 20;

/// A run directory, locked by this process.
pub(super) struct Folder {
    pub path: PathBuf,
    pub manifest: Manifest,
    pub console: Console,
    /// Files that were changed after the last run had ended.
    pub changed: Vec<&'static str>,
    lock: Lock,
}

impl Folder {
    pub fn open(experiment: &Experiment, options: &Options) -> Result<Folder> {
        let path = options.out.clone();
        let cannot = |problem: std::io::Error| {
            Error::run(&path, format!("cannot be written: {problem}"), "choose another folder with --out")
        };
        std::fs::create_dir_all(&path).map_err(cannot)?;
        let file = path.join("manifest.json");
        let old = options.fresh.then(|| Manifest::load_claim(&file).map(|old| old.experiment).ok()).flatten();
        check_paths(&path, old.iter().chain([experiment]))?;
        let lock = Lock::take(&path)?;
        // Checked again, under the lock.
        let mut manifest = Manifest::of_run(&path, experiment, options)?;
        let changed = if options.fresh { vec![] } else { sums::changed(&path) };
        // What it says is true of no run that is under way.
        remove_if_there(&path.join(sums::FILE))?;
        if options.fresh {
            // The manifest first: if this is cut short, no stage counts as finished.
            manifest.save(&file)?;
            remove_stages(&path, old.iter().chain([experiment]))?;
            remove_if_there(&path.join("log.txt"))?;
        } else if !file.exists() {
            manifest.save(&file)?;
        }
        sweep(&path, experiment, &manifest)?;
        let console = Console::open(&path, options.output)?;
        Ok(Folder { path, manifest, console, changed, lock })
    }

    /// Runs a job; `experiment` is that of its seed.
    pub fn run_job(&mut self, experiment: &Experiment, job: &Job, data: &Data, options: &Options) -> Result<()> {
        let stage = &experiment.stages[job.stage];
        let folder = self.path.join(&job.key);
        self.lock.check()?;
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        if let Some((source, _)) = self.manifest.source_hardly_learnt(job.seed, stage) {
            self.console.warn(&format!(
                "{}: warning: {} has hardly learnt: this stage may do no better than from random weights",
                job.key, source.name
            ))?;
        }
        let trained = match &stage.method.learner {
            None => self.knn(experiment, job, data, options)?,
            Some(_) => self.train(experiment, job, data, options)?,
        };
        let result = StageResult::new(&trained).expect("a stage has at least one record");
        let warning = self.manifest.hardly_learnt(stage, &result);
        self.finish(job, result, &trained.weights)?;
        match warning {
            Some(why) => self.console.warn(&format!("{}: warning: hardly learnt: {why}", job.key)),
            None => Ok(()),
        }
    }

    /// About how many epochs of an unfinished job its checkpoint has: the history may be slightly ahead.
    pub fn epochs_done(&self, job: &Job) -> u32 {
        let folder = self.path.join(&job.key);
        let history = files::read(&folder.join("history.json"), MOST_HISTORY).ok();
        let history = history.filter(|_| folder.join("checkpoint").exists());
        let records: Vec<Record> = history.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        records.len() as u32
    }

    /// Reuses the job's result from another run, if one of them has it.
    pub fn reuse(&mut self, experiment: &Experiment, job: &Job, runs: &[Finished]) -> Result<()> {
        for run in runs {
            if let Some(found) = run.find(experiment, &experiment.stages[job.stage])? {
                std::fs::create_dir_all(self.path.join(&job.key)).map_err(Error::io("create", &self.path))?;
                let build =
                    found.other_build.map_or(String::new(), |build| format!(" (made by another build: {build})"));
                self.console.say(&format!("{}: reused from {}{build}", job.key, shown(&run.folder)))?;
                let environment = &mut self.manifest.environment;
                environment.seconds.extend(found.seconds.map(|seconds| (job.key.clone(), seconds)));
                environment.reused.insert(job.key.clone(), found.experiment_sha256);
                return self.finish(job, found.result, &found.weights);
            }
        }
        Ok(())
    }

    /// Writes a finished stage's files, the manifest last.
    fn finish(&mut self, job: &Job, result: StageResult, weights: &Weights) -> Result<()> {
        self.lock.check()?;
        let folder = self.path.join(&job.key);
        files::write_atomically(&folder.join("history.json"), &[&history_json(&result.history)])?;
        let classes: Vec<String> = self.manifest.classes.iter().map(|class| class.name.clone()).collect();
        weights.save(&folder.join("weights.safetensors"), &classes)?;
        if let Some(record) = &result.chosen {
            self.console.say(&format!("{}: chosen: epoch {}  {}", job.key, record.epoch, metrics(record)))?;
        }
        self.manifest.result.insert(job.key.clone(), result);
        self.manifest.save(&self.path.join("manifest.json"))?;
        self.announce(job)?;
        remove_if_there(&folder.join("checkpoint"))
    }

    /// Rewrites the history of a finished job if the file is missing or differs.
    pub fn restore_history(&self, job: &Job) -> Result<()> {
        let path = self.path.join(&job.key).join("history.json");
        let history = history_json(&self.manifest.result[&job.key].history);
        if files::read(&path, history.len() as u64).is_ok_and(|bytes| bytes == history) {
            return Ok(());
        }
        files::write_atomically(&path, &[&history])
    }

    /// [`seal`], by the run that holds the lock.
    pub fn seal(&self) -> Result<()> {
        self.lock.check()?;
        seal_locked(&self.path, &self.manifest)
    }

    /// Tells scripts the result of a finished job.
    pub fn announce(&self, job: &Job) -> Result<()> {
        let StageResult { last, peak, chosen, weights_sha256, .. } = &self.manifest.result[&job.key];
        self.console.event(&json!({"event": "stage", "stage": job.key, "result": {
            "final": last, "peak": peak, "chosen": chosen, "weights_sha256": weights_sha256,
        }}))
    }

    fn train(&mut self, experiment: &Experiment, job: &Job, data: &Data, options: &Options) -> Result<Trained> {
        let stage = &experiment.stages[job.stage];
        let folder = self.path.join(&job.key);
        let recipe = experiment.recipe(stage).expect("a stage that trains");
        let examples = experiment.examples(stage, data)?;
        let owner = self.manifest.checkpoint_owner(&job.key);
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
                remove_if_there(&folder.join("history.json"))?;
                Progress::start(self.initial_weights(experiment, job)?)
            }
            Err(e) => return Err(Error::unreadable(&checkpoint, e, begin_again(&checkpoint))),
        };
        let steps = recipe.steps(examples.train.len());
        let name = &job.key;
        let spent = self.manifest.environment.seconds.get(name).copied().unwrap_or(0.0);
        let (resumed, seconds_before) = if start.epoch > 0 || start.step > 0 {
            (format!(", from epoch {} step {}", start.epoch + 1, start.step), spent)
        } else {
            (String::new(), 0.0)
        };
        self.console.say(&format!(
            "{name}: {} × {}{resumed}",
            count(recipe.epochs as usize, "epoch"),
            count(steps, "step")
        ))?;
        self.console.start_bar(name, u64::from(recipe.epochs) * steps as u64);
        let mut observer = StageObserver {
            collapsed_below: (recipe.method.output_width(&recipe.network).filter(|_| recipe.method.can_collapse()))
                .map(|d| COLLAPSED / (d as f64).sqrt()),
            seconds_before,
            stage: name.clone(),
            lock: &self.lock,
            manifest: &mut self.manifest,
            manifest_path: self.path.join("manifest.json"),
            console: &mut self.console,
            folder: &folder,
            owner,
            checkpoint_every: options.checkpoint_every,
            interrupted: options.interrupted,
            began: Instant::now(),
            steps_before: (u64::from(start.epoch) * steps as u64) + start.step as u64,
            saved: Instant::now(),
        };
        let trained = train(&recipe, data, &examples, start, &options.device, &mut observer);
        observer.clock();
        self.console.end_bar();
        trained.map_err(|e| options.resume(e)).inspect_err(|e| {
            // The caller reports it; a log that cannot be written must not hide it.
            let _ = self.console.log(&format!("{name}: {e}"));
        })
    }

    /// A kNN classifier's accuracy on the test images, as epoch 0 of a history.
    fn knn(&mut self, experiment: &Experiment, job: &Job, data: &Data, options: &Options) -> Result<Trained> {
        let began = Instant::now();
        let stage = &experiment.stages[job.stage];
        let weights = self.initial_weights(experiment, job)?;
        let network = experiment.network(stage);
        let mut model = open_for_inference(&options.device, network, weights.clone())?;
        let examples = experiment.examples(stage, data)?;
        let all: Vec<u32> = (0..data.test.len() as u32).collect();
        let answers = KNN.answers((&data.test, &all), (&data.train, &examples.labelled), &mut *model)?;
        let mut record = Record { epoch: 0, metrics: [("test_top1".to_owned(), top1(&answers))].into() };
        record.metrics.extend(balanced_top1(&answers).map(|top1| ("test_balanced_top1".to_owned(), top1)));
        self.console.say(&format!("{}: {}", job.key, metrics(&record)))?;
        self.manifest.environment.seconds.insert(job.key.clone(), began.elapsed().as_secs_f64());
        Ok(Trained { history: vec![record], chosen: None, weights })
    }

    /// Random weights, then those of the stage named by `from` in their place.
    fn initial_weights(&self, experiment: &Experiment, job: &Job) -> Result<Weights> {
        let stage = &experiment.stages[job.stage];
        let mut weights = Weights::init(&experiment.network(stage), job.seed);
        if let Some(from) = stage.from.as_deref().filter(|from| *from != RANDOM) {
            let source = experiment.stages.iter().find(|s| *s.name == *from).expect("checked by the plan");
            let key = self.manifest.experiment.key(job.seed, from);
            weights.transfer(&self.manifest.weights(&self.path, &key, &experiment.network(source))?);
        }
        Ok(weights)
    }
}

/// What to say of a run's files that were changed after it had ended; none if there are none.
pub fn changed(folder: &Path) -> Option<String> {
    said_of(&sums::changed(folder))
}

pub(super) fn said_of(changed: &[&str]) -> Option<String> {
    let (first, are) = (changed.first()?, if changed.len() > 1 { "were" } else { "was" });
    let names = changed.get(1).map_or((*first).to_owned(), |second| format!("{first} and {second}"));
    Some(format!(
        "{names} {are} changed after the run had ended: {} has another hash. Times and machine in it are vouched for by nothing \
         else",
        sums::FILE
    ))
}

/// Writes `SHA256SUMS` over all that the program has made in the run directory; not while a run is writing into it.
///
/// # Errors
/// [`Error::Io`], and those of [`Manifest::of_folder`].
pub fn seal(folder: &Path) -> Result<()> {
    let Ok(_lock) = Lock::take(folder) else { return Ok(()) };
    seal_locked(folder, &Manifest::of_folder(folder)?)
}

fn seal_locked(folder: &Path, manifest: &Manifest) -> Result<()> {
    let keys = manifest.experiment.plan(&[])?.into_iter().map(|job| job.key);
    let of_stages = keys.flat_map(|key| FILES.map(|file| format!("{key}/{file}")));
    let of_report = report::files_of(folder).into_iter();
    let of_report = of_report.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    let own = ["manifest.json", "log.txt"].map(str::to_owned);
    sums::write(folder, own.into_iter().chain(of_stages).chain(of_report))
}

/// What to do about a checkpoint that cannot be used.
fn begin_again(checkpoint: &Path) -> String {
    format!("delete {} and run again: this stage then starts from its first epoch", path_word(checkpoint))
}

/// Removes what a kill may have left: temporary files, and checkpoints of finished stages.
fn sweep(path: &Path, experiment: &Experiment, manifest: &Manifest) -> Result<()> {
    let jobs = experiment.plan(&[])?;
    for folder in jobs.iter().map(|job| path.join(&job.key)).chain([path.to_owned()]) {
        files::sweep(&folder)?;
    }
    let finished = jobs.iter().filter(|job| manifest.result.contains_key(&job.key));
    finished
        .map(|job| path.join(&job.key))
        .filter(|folder| folder.join("weights.safetensors").exists())
        .try_for_each(|folder| remove_if_there(&folder.join("checkpoint")))
}

/// Removes the report and the stages' files; anything else in their folders stays.
fn remove_stages<'a>(path: &Path, experiments: impl Iterator<Item = &'a Experiment>) -> Result<()> {
    let keys = |e: &'a Experiment| {
        e.all_seeds().flat_map(move |seed| e.stages.iter().map(move |stage: &Stage| e.key(seed, &stage.name)))
    };
    for file in report::files_of(path) {
        remove_if_there(&file)?;
    }
    for key in experiments.flat_map(keys) {
        let folder = path.join(key);
        for file in FILES {
            remove_if_there(&folder.join(file))?;
        }
        // Only when empty: a folder with something else in it stays.
        let _ = std::fs::remove_dir(folder);
    }
    Ok(())
}
