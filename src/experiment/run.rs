//! Running an experiment into its folder: what is finished stays, what was interrupted goes on.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use candle_core::Device;

use serde_json::json;

use super::console::{Output, duration};
use super::folder::Folder;
use super::manifest::Manifest;
use super::{DatasetName, DatasetSpec, Experiment, Job, table};
use crate::data::{Data, cifar10, cifar100, folder, synthetic};
use crate::error::{Error, Result};
use crate::files;
use crate::train::expected_time;

/// What does not change a result.
pub struct Options<'a> {
    /// The stages wanted (a stage, `seed-N`, `seed-N/STAGE`), with what they depend on; empty: all.
    pub only: Vec<String>,
    /// The run directory.
    pub out: PathBuf,
    /// Whether to throw away what the folder holds of an earlier run.
    pub fresh: bool,
    /// The folder that holds the data set; see [`cifar10::data_folder`].
    pub data_dir: Option<PathBuf>,
    /// Where it is computed; only the CPU is bit-exact.
    pub device: Device,
    /// What goes to standard output; `log.txt` has all of it.
    pub output: Output,
    /// Run directories whose finished stages are taken over where they would give the same bits.
    pub reuse: Vec<PathBuf>,
    /// Longest time between two checkpoints of a stage.
    pub checkpoint_every: Duration,
    /// Set from outside to stop at the next step, with a checkpoint.
    pub interrupted: &'a AtomicBool,
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
        }
    }
}

/// [`Options::checkpoint_every`] unless set: what a kill may cost. SimSiam's checkpoint of 112 MB takes half a second,
/// most of it to reach the disk: 0.6 % of this.
pub const CHECKPOINT_EVERY: Duration = Duration::from_secs(90);
/// What to do about a file of the run that cannot be used.
pub(super) const START_OVER: &str = "choose another folder with --out, or start over with `fewlabel run --fresh`";

/// Runs the experiment, or what is left of it, and gives its manifest.
///
/// # Errors
/// [`Error::Usage`] for a name in `only` that is no stage; [`Error::Unfit`] for labels that the data does not have;
/// [`Error::Run`] for a folder that cannot be used or that belongs to another experiment; [`Error::Data`] for data that is
/// missing or damaged; [`Error::Io`] for a fault of the disk; [`Error::Diverged`], [`Error::Tensor`] and [`Error::Interrupted`].
/// What is finished stays in the folder, and after an interruption what is needed to go on.
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
    for other in &options.reuse {
        if files::is_same(other, &options.out) {
            return Err(Error::run(other, "is the run directory itself", "leave out --reuse"));
        }
        let manifest = Manifest::load(&other.join("manifest.json"));
        manifest.map_err(|error| error.with_remedy("--reuse takes the directory of a run"))?;
    }
    let mut folder = Folder::open(experiment, options)?;
    if let Some((_, data)) = &data {
        folder.manifest.classes = data.class_counts();
    }
    folder.console.say(&format!("{}: {} stages into {}", experiment.name, jobs.len(), options.out.display()))?;
    if options.device.is_cpu() && crate::simd::is_slow() {
        folder.console.warn("this CPU has no fused multiply-add: the same bits take many times longer")?;
    }
    for gap in gaps {
        folder.console.warn(&gap)?;
    }
    warnings.iter().try_for_each(|line| folder.console.warn(line))?;
    for job in &jobs {
        if !left(&folder.manifest, job) {
            folder.console.say(&format!("{}: finished before", job.key))?;
            folder.restore_history(job)?;
            folder.announce(job)?;
        } else {
            folder.reuse(&experiment.of_seed(job.seed), job, options)?;
        }
    }
    let todo: Vec<&Job> = jobs.iter().filter(|job| left(&folder.manifest, job)).collect();
    if !options.reuse.is_empty() && !todo.is_empty() && folder.manifest.environment.reused.is_empty() {
        folder.console.warn("--reuse: nothing there would be the same bits as a stage of this experiment")?;
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
    let end = |colors| {
        format!("\n{}\n\nEverything else is in {}", table::text(&folder.manifest, colors), options.out.display())
    };
    folder.console.say_in_colors(end)?;
    folder.console.event(&json!({"event": "done", "folder": options.out.display().to_string()}))?;
    Ok(folder.manifest)
}

/// Says what is to be done, and how long it takes by a few steps of each stage.
fn show_plan(
    experiment: &Experiment,
    jobs: &[&Job],
    data: &Data,
    options: &Options,
    folder: &mut Folder,
) -> Result<()> {
    let mut known: Vec<(usize, Duration)> = vec![];
    let (mut rows, mut total) = (vec![], Duration::ZERO);
    for job in jobs {
        let stage = &experiment.stages[job.stage];
        let (what, left, time) = match experiment.of_seed(job.seed).recipe(stage) {
            None => ("neighbours".to_owned(), None, None),
            Some(recipe) => {
                let left = recipe.epochs - folder.epochs_done(job).min(recipe.epochs);
                // The same for every seed.
                let time = match known.iter().find(|(index, _)| *index == job.stage) {
                    Some(&(_, time)) => time,
                    None => {
                        let examples = experiment.of_seed(job.seed).examples(stage, data)?;
                        let time = expected_time(&recipe, data, &examples, &options.device)?;
                        known.push((job.stage, time));
                        time
                    }
                };
                let what = match left == recipe.epochs {
                    true => format!("{} epoch{}", recipe.epochs, if recipe.epochs == 1 { "" } else { "s" }),
                    false => format!("{left} of {} epochs", recipe.epochs),
                };
                (what, Some(left), Some(time * left / recipe.epochs))
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
    folder.console.say(&format!("together about {}", duration(total)))
}

/// Whether the manifest has the job's result, and the folder its weights.
fn is_finished(manifest: &Manifest, folder: &Path, job: &Job) -> bool {
    manifest.result.contains_key(&job.key) && folder.join(&job.key).join("weights.safetensors").exists()
}

impl Manifest {
    /// The manifest of what the folder holds of the experiment's run; a new one if that is nothing, or to be thrown
    /// away. A manifest that this program has not written is refused, always.
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
        let before = Manifest::load(&path).map_err(|error| error.with_remedy(START_OVER))?;
        if before.experiment_sha256 != new.experiment_sha256 {
            let name = &before.experiment.name;
            let problem = format!("it is the run of another experiment ({name}, {})", before.experiment_sha256);
            return Err(Error::run(&path, problem, START_OVER));
        }
        let version = &before.environment.fewlabel;
        if !before.result.is_empty() && *version != new.environment.fewlabel {
            return Err(Error::run(&path, format!("its results are of version {version}"), START_OVER));
        }
        if before.environment.device != device {
            return Err(Error::run(&path, format!("it is a run on {}", before.environment.device), START_OVER));
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
            let folder = folder::load(&place, experiment.dataset.background)?;
            experiment.dataset.check(&place, &folder.data)?;
            Ok(Loaded { duplicates: folder.duplicates(), ..Loaded::new(folder.data) })
        }
    }
}

impl DatasetSpec {
    /// Whether the folder's images are those that the experiment is about.
    fn check(&self, place: &Path, data: &Data) -> Result<()> {
        let said = [self.train.map_or(0, |n| n.0), self.test.map_or(0, |n| n.0), self.class_count()];
        let found = [data.train.len(), data.test.len(), data.classes.len()];
        if said != found {
            let [train, test, classes] = found;
            let problem = format!("has {train} training and {test} test images of {classes} classes");
            let remedy = format!("the experiment says {}, {} and {}: put it right there", said[0], said[1], said[2]);
            return Err(Error::data(place, problem, remedy));
        }
        match &self.sha256 {
            Some(said) if *said != data.sha256() => {
                let problem = format!("its images are others than the experiment's: SHA-256 {}", data.sha256());
                Err(Error::data(place, problem, "restore them, or change `sha256` in the experiment"))
            }
            _ => Ok(()),
        }
    }
}
