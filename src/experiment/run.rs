//! Runs an experiment into its folder: finished stages are kept, an interrupted one resumes.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use candle_core::Device;

use serde_json::json;

use super::console::{Output, duration};
use super::folder::{Folder, said_of};
use super::manifest::Manifest;
use super::reuse::Finished;
use super::{DatasetName, Experiment, Job, table};
use crate::data::{Data, cifar10, cifar100, folder, synthetic};
use crate::error::{Error, Result};
use crate::files;
use crate::text::{count, path_word, shown, visible};
use crate::train::expected_time;

/// What does not change a result: where and how the experiment is run.
pub struct Options<'a> {
    /// The stages to run (a stage, `seed-N`, `seed-N/STAGE`), with their dependencies; all if empty.
    pub only: Vec<String>,
    /// The run directory.
    pub out: PathBuf,
    /// Whether to discard an earlier run in the folder.
    pub fresh: bool,
    /// The folder that holds the data set; see [`cifar10::data_folder`].
    pub data_dir: Option<PathBuf>,
    /// Only the CPU is bit-exact.
    pub device: Device,
    /// What goes to standard output; `log.txt` has all of it.
    pub output: Output,
    /// Other run directories: their finished stages are reused where they would have the same bits.
    pub reuse: Vec<PathBuf>,
    /// Longest time between two checkpoints of a stage.
    pub checkpoint_every: Duration,
    /// Set by the caller to stop after the current step, with a checkpoint.
    pub interrupted: &'a AtomicBool,
    /// The command that runs this again, without `--out` and `--fresh`: what an error says to do begins with it.
    pub command: Option<String>,
    /// Whether `out` is deleted after the run, and not worth naming.
    pub temporary: bool,
}

impl Options<'_> {
    /// All stages into `out` on the CPU, quietly.
    pub fn new(out: &Path) -> Options<'static> {
        static NEVER: AtomicBool = AtomicBool::new(false);
        Options {
            only: vec![],
            out: out.to_owned(),
            fresh: false,
            data_dir: None,
            device: Device::Cpu,
            output: Output::Nothing,
            reuse: vec![],
            checkpoint_every: CHECKPOINT_EVERY,
            interrupted: &NEVER,
            command: None,
            temporary: false,
        }
    }

    /// What to do about `held` in the folder, which this run cannot build on.
    fn start_over(&self, held: &str) -> String {
        let Some(command) = &self.command else { return "choose another folder with --out".to_owned() };
        let numbered = |n: u32| {
            let mut name = self.out.file_name().unwrap_or("run".as_ref()).to_owned();
            name.push(format!("-{n}"));
            self.out.with_file_name(name)
        };
        let other = (2..).map(numbered).find(|folder| !folder.exists()).expect("a name that is free");
        let [out, other] = [&self.out, &other].map(|folder| path_word(folder));
        format!(
            "run into another folder: `{command} --out {other}`\n  or throw away {held} in {out}: `{command} --out {out} \
             --fresh`"
        )
    }

    /// [`Error::Interrupted`] with the command that resumes.
    pub(super) fn resume(&self, error: Error) -> Error {
        match (error, &self.command) {
            (Error::Interrupted(_), Some(command)) => {
                Error::Interrupted(format!("resume with `{command} --out {}`", path_word(&self.out)))
            }
            (error, _) => error,
        }
    }
}

/// The default of [`Options::checkpoint_every`]: what a kill can cost. SimSiam's checkpoint of 112 MB takes half a second,
/// most of it to reach the disk: 0.6 % of this.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(90);

/// Runs the experiment, or what is left of it, and gives its manifest.
///
/// # Errors
/// [`Error::Usage`] for a name in `only` that is no stage; [`Error::Unfit`] for labels that the data does not have;
/// [`Error::Run`] for a folder that cannot be used or that belongs to another experiment; [`Error::Data`] for data that is
/// missing or damaged; [`Error::Io`] for a fault of the disk; [`Error::Diverged`], [`Error::Tensor`] and [`Error::Interrupted`].
/// Finished stages stay in the folder, and after an interruption a checkpoint to resume from.
pub fn run(experiment: &Experiment, options: &Options) -> Result<Manifest> {
    let jobs = experiment.plan(&options.only)?;
    if !options.reuse.is_empty() && !options.device.is_cpu() {
        return Err(Error::Usage("--reuse: only a run on the CPU has the same bits as another".to_owned()));
    }
    // Bad data is found before anything is written or thrown away.
    let before = Manifest::of_run(&options.out, experiment, options)?;
    let left = |manifest: &Manifest, job: &Job| !is_finished(manifest, &options.out, job);
    for job in jobs.iter().filter(|job| !left(&before, job)) {
        before.weights(&options.out, &job.key, &experiment.network(&experiment.stages[job.stage]))?;
    }
    for job in jobs.iter().filter(|job| options.device.is_cpu() && left(&before, job)) {
        experiment.check_memory(&experiment.stages[job.stage])?;
    }
    let (mut data, warnings) = match jobs.iter().find(|job| left(&before, job)) {
        Some(job) => {
            let loaded = load_data(&experiment.of_seed(job.seed), options.data_dir.as_deref())?;
            let warnings: Vec<String> = loaded.passed_over.into_iter().chain(loaded.duplicates).collect();
            (Some((job.seed, loaded.data)), warnings)
        }
        None => (None, vec![]),
    };
    // The synthetic images are the seed's own.
    let fits = |seed: u64, job: &Job| seed == job.seed || experiment.dataset.name != DatasetName::Synthetic;
    let mut gaps = vec![];
    if let Some((seed, data)) = &data {
        for job in jobs.iter().filter(|job| fits(*seed, job) && left(&before, job)) {
            let examples = experiment.of_seed(job.seed).examples(&experiment.stages[job.stage], data)?;
            gaps.extend(experiment.gaps(data, &examples));
        }
    }
    // Several stages and seeds have the same.
    gaps.sort_unstable();
    gaps.dedup();
    let mut reusable = vec![];
    for other in &options.reuse {
        if files::is_same(other, &options.out) {
            return Err(Error::run(other, "is the run directory itself", "leave out --reuse"));
        }
        let finished = Finished::open(other);
        reusable.push(finished.map_err(|error| error.with_remedy("--reuse takes the directory of a run"))?);
    }
    let mut folder = Folder::open(experiment, options)?;
    if let Some((_, data)) = &data {
        folder.manifest.classes = data.class_counts();
    }
    let place = if options.temporary { "a temporary folder".to_owned() } else { shown(&options.out) };
    folder.console.say(&format!("{}: {} into {place}", experiment.name, count(jobs.len(), "stage")))?;
    if options.device.is_cpu() && crate::simd::is_slow() {
        folder.console.warn("this CPU has no fused multiply-add: the same bits take many times longer")?;
    }
    for gap in gaps {
        folder.console.warn(&gap)?;
    }
    if let Some(changed) = said_of(&folder.changed) {
        folder.console.warn(&changed)?;
    }
    warnings.iter().try_for_each(|line| folder.console.warn(line))?;
    for job in &jobs {
        if !left(&folder.manifest, job) {
            folder.console.say(&format!("{}: already finished", job.key))?;
            folder.restore_history(job)?;
            folder.announce(job)?;
        } else {
            folder.reuse(&experiment.of_seed(job.seed), job, &reusable)?;
        }
    }
    let todo: Vec<&Job> = jobs.iter().filter(|job| left(&folder.manifest, job)).collect();
    if let (Some(build), false) = (before.environment.other_build(), todo.is_empty()) {
        folder.console.warn(&format!(
            "resuming what another build of this version began ({build}): the bits should be the same, and `fewlabel \
             verify` checks it"
        ))?;
    }
    if !options.reuse.is_empty() && !todo.is_empty() && folder.manifest.environment.reused.is_empty() {
        folder.console.warn("--reuse: no stage there would have the same bits as one of this experiment")?;
    }
    if let Some((_, data)) = data.as_ref().filter(|_| options.output != Output::Nothing && !todo.is_empty()) {
        show_plan(experiment, &todo, data, options, &mut folder)?;
    }
    for job in todo {
        let of_seed = experiment.of_seed(job.seed);
        if data.as_ref().is_none_or(|(seed, _)| !fits(*seed, job)) {
            data = Some((job.seed, load_data(&of_seed, options.data_dir.as_deref())?.data));
        }
        let (_, data) = data.as_ref().expect("loaded just now");
        folder.run_job(&of_seed, job, data, options)?;
    }
    let rest = if options.temporary { String::new() } else { format!("\n\nEverything else is in {place}") };
    folder.console.say_in_colors(|colors| format!("\n{}{rest}", table::text(&folder.manifest, colors)))?;
    folder.console.event(&json!({"event": "done", "folder": (!options.temporary).then_some(place)}))?;
    folder.seal()?;
    Ok(folder.manifest)
}

/// Longest time that is spent on predicting the stages' times.
const ESTIMATING: Duration = Duration::from_secs(30);

/// Prints the plan, with every stage's time as a few of its steps predict it; of very many stages, the first ones'.
fn show_plan(
    experiment: &Experiment,
    jobs: &[&Job],
    data: &Data,
    options: &Options,
    folder: &mut Folder,
) -> Result<()> {
    let began = Instant::now();
    let mut known: Vec<(usize, Option<Duration>)> = vec![];
    let (mut rows, mut total) = (vec![], Duration::ZERO);
    for job in jobs {
        let stage = &experiment.stages[job.stage];
        let (what, left, time) = match experiment.of_seed(job.seed).recipe(stage) {
            None => ("nearest neighbours".to_owned(), None, None),
            Some(recipe) => {
                let left = recipe.epochs - folder.epochs_done(job).min(recipe.epochs);
                // The same for every seed.
                let time = match known.iter().find(|(index, _)| *index == job.stage) {
                    Some(&(_, time)) => time,
                    None => {
                        let time = match began.elapsed() < ESTIMATING {
                            true => {
                                let examples = experiment.of_seed(job.seed).examples(stage, data)?;
                                Some(expected_time(&recipe, data, &examples, &options.device)?)
                            }
                            false => None,
                        };
                        known.push((job.stage, time));
                        time
                    }
                };
                let what = match left == recipe.epochs {
                    true => count(recipe.epochs as usize, "epoch"),
                    false => format!("{left} of {}", count(recipe.epochs as usize, "epoch")),
                };
                (what, Some(left), time.map(|time| time * left / recipe.epochs))
            }
        };
        total += time.unwrap_or_default();
        let seconds = time.map(|time| time.as_secs_f64());
        let event = json!({"stage": job.key, "epochs": stage.epochs, "epochs_left": left, "seconds": seconds});
        rows.push((&job.key, what, time, event));
    }
    let width = rows.iter().map(|row| row.0.len()).max().unwrap_or(0);
    let second = rows.iter().map(|row| row.1.len()).max().unwrap_or(0);
    for (key, what, time, _) in &rows {
        let time = time.map_or(String::new(), |time| format!("about {}", duration(time)));
        folder.console.say(format!("  {key:<width$}  {what:<second$}  {time}").trim_end())?;
    }
    let stages: Vec<_> = rows.into_iter().map(|row| row.3).collect();
    folder.console.event(&json!({"event": "plan", "experiment": experiment.name, "stages": stages}))?;
    let at_least = if known.iter().any(|(_, time)| time.is_none()) { "at least " } else { "" };
    folder.console.say(&format!("{at_least}about {} in total", duration(total)))
}

/// Whether the manifest has the job's result, and the folder its weights.
fn is_finished(manifest: &Manifest, folder: &Path, job: &Job) -> bool {
    manifest.result.contains_key(&job.key) && folder.join(&job.key).join("weights.safetensors").exists()
}

impl Manifest {
    /// The manifest of the experiment's run in the folder; a new one if there is none, or if it is to be discarded. A
    /// manifest that this program has not written is always refused.
    pub(super) fn of_run(folder: &Path, experiment: &Experiment, options: &Options) -> Result<Manifest> {
        let path = folder.join("manifest.json");
        let device = if options.device.is_cuda() { "cuda" } else { "cpu" };
        let new = Manifest::new(experiment, device);
        if !path.exists() {
            return Ok(new);
        }
        Manifest::check_ours(&path)?;
        if options.fresh {
            return Ok(new);
        }
        let before = Manifest::load(&path).map_err(|error| error.with_remedy(options.start_over("the run")))?;
        let refuse = |problem: String| {
            let held = match before.result.len() {
                0 => "the unfinished run".to_owned(),
                n => format!("the {}", count(n, "finished stage")),
            };
            Err(Error::run(&path, problem, options.start_over(&held)))
        };
        if let Some(difference) = experiment.first_difference(&before.experiment) {
            return refuse(format!("it is the run of another experiment: {difference}"));
        }
        let version = &before.environment.fewlabel;
        if !before.result.is_empty() && *version != new.environment.fewlabel {
            return refuse(format!("its results are of version {}", visible(version)));
        }
        if before.environment.device != device {
            return refuse(format!("it is a run on {}", visible(&before.environment.device)));
        }
        Ok(before)
    }
}

/// An experiment's images, and what is to be said of them.
pub(crate) struct Loaded {
    pub data: Data,
    /// [`folder::Folder::duplicates`]. The published sets are not searched: they are the same for everybody.
    pub duplicates: Vec<String>,
    /// [`cifar10::passed_over`].
    pub passed_over: Option<String>,
}

impl Loaded {
    fn new(data: Data) -> Loaded {
        Loaded { data, duplicates: vec![], passed_over: None }
    }
}

/// The experiment's images, looked for where [`cifar10::data_folder`] says.
pub(crate) fn load_data(experiment: &Experiment, data_dir: Option<&Path>) -> Result<Loaded> {
    let [train, test] = [experiment.dataset.train, experiment.dataset.test].map(|n| n.map_or(usize::MAX, |n| n.0));
    match experiment.dataset.name {
        DatasetName::Synthetic => Ok(Loaded::new(synthetic(train, test, experiment.seed.0))),
        DatasetName::Cifar10 => {
            let source = cifar10::locate(data_dir)?;
            let data = cifar10::load(&source)?.first(train, test);
            Ok(Loaded { passed_over: cifar10::passed_over(&source), ..Loaded::new(data) })
        }
        DatasetName::Cifar100 => Ok(Loaded::new(cifar100::load(&cifar10::data_folder(data_dir).0)?.first(train, test))),
        DatasetName::Folder => {
            let place = cifar10::data_folder(data_dir).0;
            let folder = folder::load(&place, experiment.dataset.background, experiment.dataset.side.0)?;
            experiment.dataset.check(&place, &folder.data)?;
            Ok(Loaded { duplicates: folder.duplicates(), ..Loaded::new(folder.data) })
        }
        DatasetName::Own(kind) => {
            let place = cifar10::data_folder(data_dir).0;
            let data = kind.load(&place)?;
            experiment.dataset.check(&place, &data)?;
            Ok(Loaded::new(data))
        }
    }
}
