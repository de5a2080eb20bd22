//! The run directory: one process locks it, runs its jobs, and writes each stage's result into the manifest last.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::console::Console;
use super::lock::{Lock, check_paths};
use super::manifest::{Manifest, StageResult, history_json};
use super::observer::{News, metrics};
use super::reuse::Finished;
use super::run::Options;
use super::work::{Task, write_result};
use super::{Experiment, FILES, Job, Stage};
use crate::error::{Error, Result};
use crate::files::{self, remove_if_there};
use crate::text::shown;
use crate::{report, sums};

/// A run directory, locked by this process.
pub(super) struct Folder {
    pub path: PathBuf,
    pub manifest: Manifest,
    pub console: Console,
    /// Files that were changed after the last run had ended.
    pub changed: Vec<&'static str>,
    /// Also of those who write the stages' files.
    pub lock: Lock,
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

    /// Begins a job: what a worker needs to know for it.
    pub fn begin(&mut self, job: &Job) -> Result<Task> {
        let experiment = &self.manifest.experiment;
        let stage = &experiment.stages[job.stage];
        let folder = self.path.join(&job.key);
        self.lock.check()?;
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let source = experiment.source(stage).map(|source| experiment.key(job.seed, &source.name));
        let source_sha256 = source.map(|key| self.manifest.result[&key].weights_sha256.clone());
        let seconds = self.manifest.environment.seconds.get(&job.key).copied().unwrap_or(0.0);
        if let Some((source, _)) = self.manifest.source_hardly_learnt(job.seed, stage) {
            self.console.warn(&format!(
                "{}: warning: {} has hardly learnt: this stage may do no better than from random weights",
                job.key, source.name
            ))?;
        }
        Ok(Task { job: job.clone(), source_sha256, seconds })
    }

    /// Prints and records what a worker tells of a job.
    pub fn record(&mut self, job: &Job, news: News) -> Result<()> {
        let key = &job.key;
        match news {
            News::Line(line) => self.console.say(&format!("{key}: {line}"))?,
            News::Warning(line) => self.console.warn(&format!("{key}: {line}"))?,
            News::Event(event) => self.console.event(&event)?,
            News::Start { steps } => self.console.start_bar(key, steps),
            News::Step(pace) => self.console.move_bar(pace.done(), || pace.bar()),
            News::Checkpoint { seconds } => {
                self.manifest.environment.seconds.insert(key.clone(), seconds);
                self.manifest.save(&self.path.join("manifest.json"))?;
            }
            News::End { seconds } => {
                self.manifest.environment.seconds.insert(key.clone(), seconds);
                self.console.end_bar();
            }
        }
        Ok(())
    }

    /// Logs why a job has failed: the caller reports it, and a log that cannot be written must not hide it.
    pub fn log_failure(&mut self, job: &Job, error: &Error) {
        let _ = self.console.log(&format!("{}: {error}", job.key));
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
                let classes = self.manifest.class_names();
                write_result(&self.path.join(&job.key), &found.result, &found.weights, &classes)?;
                return self.finish(job, found.result);
            }
        }
        Ok(())
    }

    /// Records the result of a job, whose files are written, in the manifest.
    pub fn finish(&mut self, job: &Job, result: StageResult) -> Result<()> {
        self.lock.check()?;
        let warning = self.manifest.hardly_learnt(&self.manifest.experiment.stages[job.stage], &result);
        if let Some(record) = &result.chosen {
            let why = if self.manifest.experiment.validates() { "chosen" } else { "tested" };
            self.console.say(&format!("{}: {why}: epoch {}  {}", job.key, record.epoch, metrics(record)))?;
        }
        self.manifest.result.insert(job.key.clone(), result);
        self.manifest.save(&self.path.join("manifest.json"))?;
        self.announce(job)?;
        remove_if_there(&self.path.join(&job.key).join("checkpoint"))?;
        match warning {
            Some(why) => self.console.warn(&format!("{}: warning: hardly learnt: {why}", job.key)),
            None => Ok(()),
        }
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
