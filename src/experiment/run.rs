//! Runs an experiment into its folder: finished stages are kept, an interrupted one resumes.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use candle_core::Device;

use serde_json::json;

use super::console::{Output, print};
use super::folder::{Folder, said_of};
use super::manifest::Manifest;
use super::outlook::Outlook;
use super::preview::Preview;
use super::ranks::with_all_ranks;
use super::work::Worker;
use super::{Experiment, Job, table};
use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::text::{self, count, path_word, shown, visible};

/// What does not change a result: where and how the experiment is run.
pub struct Options<'a> {
    /// The stages to run (a stage, `seed-N`, `seed-N/STAGE`), with their dependencies; all if empty.
    pub only: Vec<String>,
    /// The run directory.
    pub out: PathBuf,
    /// Whether to discard an earlier run in the folder.
    pub fresh: bool,
    /// The folder that holds the data set; see [`data_folder`](crate::data::cifar10::data_folder).
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
    /// Other processes that work on it, all of which [`serve`](super::serve).
    pub cluster: Option<&'a dyn Cluster>,
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
            cluster: None,
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
    let Outlook { jobs, before, data, warnings, gaps, reusable } = Outlook::of(experiment, options)?;
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
        if folder.manifest.has(&options.out, job) {
            folder.console.say(&format!("{}: already finished", job.key))?;
            folder.restore_history(job)?;
            folder.announce(job)?;
        } else {
            folder.reuse(&experiment.of_seed(job.seed), job, &reusable)?;
        }
    }
    let todo: Vec<&Job> = jobs.iter().filter(|job| !folder.manifest.has(&options.out, job)).collect();
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
        let preview = Preview::of(experiment, &todo, data, options)?;
        preview.lines().iter().try_for_each(|line| folder.console.say(line))?;
        folder.console.event(&preview.event())?;
    }
    let mut worker = Worker::new(experiment, options, folder.lock.clone(), data);
    let done = match options.cluster {
        Some(cluster) if !todo.is_empty() => with_all_ranks(cluster, &mut folder, &todo, options, worker),
        _ => todo.iter().try_for_each(|job| {
            let task = folder.begin(job)?;
            let done = worker.run(&task, None, &|| false, &mut |news| folder.record(job, news));
            let done = done.map_err(|error| options.resume(error));
            let result = done.inspect_err(|error| folder.log_failure(job, error))?;
            folder.finish(job, result)
        }),
    };
    done?;
    let rest = if options.temporary { String::new() } else { format!("\n\nEverything else is in {place}") };
    folder.console.say_in_colors(|colors| format!("\n{}{rest}", table::text(&folder.manifest, colors)))?;
    folder.console.event(&json!({"event": "done", "folder": (!options.temporary).then_some(place)}))?;
    folder.seal()?;
    Ok(folder.manifest)
}

/// Prints what a run would do and what it would take, and does nothing.
///
/// # Errors
/// Those that [`run`] has before it writes anything.
pub fn preview(experiment: &Experiment, options: &Options) -> Result<()> {
    let outlook = Outlook::of(experiment, options)?;
    let todo = outlook.todo(experiment, &options.out);
    let Some((_, data)) = outlook.data.as_ref().filter(|_| !todo.is_empty()) else {
        return print("nothing is left to do");
    };
    let preview = Preview::of(experiment, &todo, data, options)?;
    match options.output {
        Output::Json => print(&text::json(&preview.event())),
        _ => preview.dry_lines().iter().try_for_each(|line| print(&visible(line))),
    }
}

impl Manifest {
    /// Whether it has the job's result, and the folder its weights.
    pub(super) fn has(&self, folder: &Path, job: &Job) -> bool {
        self.result.contains_key(&job.key) && folder.join(&job.key).join("weights.safetensors").exists()
    }

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
