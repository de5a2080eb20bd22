//! Running an experiment into its folder: what is finished stays, what was interrupted goes on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use candle_core::Device;

use super::console::{Console, duration};
use super::manifest::{Manifest, StageResult, history_json};
use super::{DatasetName, Experiment, Stage, StageMethod};
use crate::data::{Data, cifar10, labelled, synthetic};
use crate::error::{Error, Result};
use crate::files;
use crate::network::Weights;
use crate::report;
use crate::train::{Observer, Position, Progress, Record, train};

/// What does not change a result.
pub struct Options<'a> {
    /// The stages wanted, with what they depend on; empty: all.
    pub only: Vec<String>,
    /// The run directory.
    pub out: PathBuf,
    /// Whether to throw away what the folder holds of an earlier run.
    pub fresh: bool,
    /// Where CIFAR-10 is; see [`cifar10::locate`].
    pub data_dir: Option<PathBuf>,
    pub device: Device,
    /// Whether to say nothing but the result.
    pub quiet: bool,
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
            quiet: true,
            interrupted: &NEVER,
        }
    }
}

/// Longest time between two checkpoints.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(60);
/// What to do about a file of the run that cannot be used.
const START_OVER: &str = "start over with --fresh, or choose another folder with --out";

/// Runs the experiment, or what is left of it, and gives its manifest.
///
/// # Errors
/// A folder that cannot be used or that belongs to another experiment, data that is missing or damaged, a fault of
/// the disk, and [`Error::Interrupted`]. The folder then holds what is needed to go on.
pub fn run(experiment: &Experiment, options: &Options) -> Result<Manifest> {
    let plan = experiment.plan(&options.only)?;
    let stages: Vec<&Stage> = plan.iter().map(|&index| &experiment.stages[index]).collect();
    // Bad data is found before anything is written or thrown away.
    let before = Manifest::of_run(&options.out, experiment, options)?;
    let left = |manifest: &Manifest| stages.iter().any(|stage| !is_finished(manifest, &options.out, stage));
    let data = if left(&before) { Some(load_data(experiment, options)?) } else { None };
    let mut folder = Folder::open(experiment, options)?;
    folder.console.say(&format!("{}: {} stages into {}", experiment.name, stages.len(), options.out.display()))?;
    for stage in stages {
        match &data {
            Some(data) if !is_finished(&folder.manifest, &folder.path, stage) => {
                folder.run_stage(experiment, stage, data, options)?;
            }
            _ => folder.console.say(&format!("{}: finished before", stage.name))?,
        }
    }
    let table = report::table(&folder.manifest);
    folder.console.say(&format!("\n{table}\n\nEverything else is in {}", options.out.display()))?;
    Ok(folder.manifest)
}

/// Whether the manifest has the stage's result, and the folder its files.
fn is_finished(manifest: &Manifest, folder: &Path, stage: &Stage) -> bool {
    let there = |file: &str| folder.join(&*stage.name).join(file).exists();
    manifest.result.contains_key(&*stage.name) && there("weights.safetensors") && there("history.json")
}

impl Manifest {
    /// The manifest of what the folder holds of the experiment's run; a new one if that is nothing, or to be thrown
    /// away. A manifest that this program has not written is refused, always.
    fn of_run(folder: &Path, experiment: &Experiment, options: &Options) -> Result<Manifest> {
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
        let before = Manifest::load(&path)?;
        if before.experiment_sha256 != new.experiment_sha256 {
            let name = &before.experiment.name;
            let problem = format!("it is the run of another experiment ({name}, {})", before.experiment_sha256);
            return Err(Error::run(&path, problem, START_OVER));
        }
        if before.environment.device != device {
            return Err(Error::run(&path, format!("it is a run on {}", before.environment.device), START_OVER));
        }
        Ok(before)
    }
}

fn load_data(experiment: &Experiment, options: &Options) -> Result<Data> {
    let [train, test] = [experiment.dataset.train, experiment.dataset.test].map(|n| n.map_or(usize::MAX, |n| n.0));
    match experiment.dataset.name {
        DatasetName::Synthetic => Ok(synthetic(train, test, experiment.seed.0)),
        DatasetName::Cifar10 => {
            let mut data = cifar10::load(&cifar10::locate(options.data_dir.as_deref())?)?;
            data.train.truncate(train);
            data.test.truncate(test);
            Ok(data)
        }
    }
}

/// The run directory, held by this process alone.
struct Folder {
    path: PathBuf,
    manifest: Manifest,
    console: Console,
    _lock: File,
}

impl Folder {
    fn open(experiment: &Experiment, options: &Options) -> Result<Folder> {
        let path = options.out.clone();
        let cannot = |problem: std::io::Error| {
            Error::run(&path, format!("cannot be written: {problem}"), "choose another folder with --out")
        };
        std::fs::create_dir_all(&path).map_err(cannot)?;
        let lock = File::create(path.join(".lock")).map_err(cannot)?;
        if let Err(std::fs::TryLockError::WouldBlock) = lock.try_lock() {
            return Err(Error::run(&path, "another run is writing into it", "wait for it, or choose another --out"));
        }
        let file = path.join("manifest.json");
        // Again, now that nobody else writes.
        let mut manifest = Manifest::of_run(&path, experiment, options)?;
        if options.fresh {
            let old = Manifest::load(&file).map(|old| old.experiment.stages).unwrap_or_default();
            // First of all nothing is finished any more, should this be cut short.
            manifest.save(&file)?;
            remove_stages(&path, experiment.stages.iter().chain(&old))?;
            remove_if_there(&path.join("log.txt"))?;
        } else if !file.exists() {
            manifest.save(&file)?;
        }
        let console = Console::open(&path, options.quiet)?;
        Ok(Folder { path, manifest, console, _lock: lock })
    }

    fn run_stage(&mut self, experiment: &Experiment, stage: &Stage, data: &Data, options: &Options) -> Result<()> {
        let folder = self.path.join(&*stage.name);
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let recipe = experiment.recipe(stage);
        let examples = if stage.method.uses_labels() {
            labelled(&data.train, experiment.labels.choose, experiment.labels.count.0, experiment.seed.0)?
        } else {
            (0..data.train.len() as u32).collect()
        };
        let (hash, version) = (&self.manifest.experiment_sha256, env!("CARGO_PKG_VERSION"));
        let owner = format!("stage {} of experiment {hash}, fewlabel {version}", stage.name);
        let checkpoint = folder.join("checkpoint");
        let start = match std::fs::read(&checkpoint) {
            Ok(bytes) => Progress::from_bytes(&bytes, &owner, &recipe.network)
                .map_err(|problem| Error::run(&checkpoint, problem, START_OVER))?,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                Progress::start(self.initial_weights(experiment, stage)?)
            }
            Err(e) => return Err(Error::run(&checkpoint, format!("cannot be read: {e}"), START_OVER)),
        };
        let steps = recipe.steps(examples.len());
        let resumed = if start.epoch > 0 || start.step > 0 {
            format!(", from epoch {} step {}", start.epoch + 1, start.step)
        } else {
            String::new()
        };
        let name = &stage.name;
        self.console.say(&format!("{name}: {} epochs × {steps} steps{resumed}", recipe.epochs))?;
        self.console.start_bar(name, u64::from(recipe.epochs) * steps as u64);
        let mut observer = StageObserver {
            collapsed_below: (stage.method == StageMethod::Simsiam)
                .then(|| 0.25 / (experiment.network.projector.0 as f64).sqrt()),
            seconds_before: self.manifest.environment.seconds.get(&**name).copied().unwrap_or(0.0),
            stage: name.to_string(),
            manifest: &mut self.manifest,
            manifest_path: self.path.join("manifest.json"),
            console: &mut self.console,
            folder: &folder,
            owner,
            interrupted: options.interrupted,
            began: Instant::now(),
            steps_before: (u64::from(start.epoch) * steps as u64) + start.step as u64,
            saved: Instant::now(),
        };
        let trained = train(&recipe, data, &examples, start, &options.device, &mut observer);
        self.console.end_bar();
        let Progress { history, weights, .. } = trained.inspect_err(|e| {
            // A log that cannot be written must not hide the reason.
            let _ = self.console.say(&format!("{name}: {e}"));
        })?;
        weights.save(&folder.join("weights.safetensors"))?;
        let result = StageResult::new(&history, &weights).expect("a stage has at least one epoch");
        self.manifest.result.insert(name.to_string(), result);
        self.manifest.save(&self.path.join("manifest.json"))?;
        remove_if_there(&checkpoint)
    }

    /// Random weights, with those of the stage named by `from` taken over.
    fn initial_weights(&self, experiment: &Experiment, stage: &Stage) -> Result<Weights> {
        let mut weights = Weights::init(&experiment.network(stage), experiment.seed.0);
        if let Some(from) = &stage.from {
            let source = experiment.stages.iter().find(|s| s.name == *from).expect("checked by the plan");
            let path = self.path.join(&**from).join("weights.safetensors");
            let trained = Weights::load(&path, &experiment.network(source))?;
            if self.manifest.result.get(&**from).is_none_or(|result| result.weights_sha256 != trained.sha256()) {
                return Err(Error::run(&path, "these are not the weights that the run recorded", START_OVER));
            }
            weights.transfer(&trained);
        }
        Ok(weights)
    }
}

/// Removes what the stages have written, and nothing else that may be in their folders.
fn remove_stages<'a>(path: &Path, stages: impl Iterator<Item = &'a Stage>) -> Result<()> {
    for stage in stages {
        let folder = path.join(&*stage.name);
        for file in ["history.json", "weights.safetensors", "checkpoint"] {
            remove_if_there(&folder.join(file))?;
        }
        // Only when empty: a folder with something else in it stays.
        let _ = std::fs::remove_dir(folder);
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { action: "remove", path: path.into(), source: e })
        }
        _ => Ok(()),
    }
}

/// Keeps the folder, the log and the bar up with a stage's training.
struct StageObserver<'a> {
    stage: String,
    manifest: &'a mut Manifest,
    manifest_path: PathBuf,
    console: &'a mut Console,
    folder: &'a Path,
    owner: String,
    interrupted: &'a AtomicBool,
    began: Instant,
    /// Time and steps of earlier runs of this stage.
    seconds_before: f64,
    steps_before: u64,
    saved: Instant,
    /// Below this a SimSiam stage's output std means collapse: a quarter of the healthy 1/√d.
    collapsed_below: Option<f64>,
}

impl StageObserver<'_> {
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
        let message = format!("epoch {}/{}  loss {:.4}  {}", at.epoch, at.epochs, at.loss, self.pace(at));
        self.console.move_bar(done, message);
    }

    fn checkpoint_due(&mut self) -> bool {
        self.saved.elapsed() >= CHECKPOINT_EVERY
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }

    fn epoch(&mut self, record: &Record, at: Position) -> Result<()> {
        let metrics: Vec<String> = record.metrics.iter().map(|(name, value)| report::metric(name, *value)).collect();
        let stage = &self.stage;
        let line = format!("{stage}: epoch {}/{}  {}  ({})", at.epoch, at.epochs, metrics.join("  "), self.pace(at));
        self.console.say(&line)?;
        if let (Some(limit), Some(&std)) = (self.collapsed_below, record.metrics.get("output_std"))
            && std < limit
        {
            let healthy = 4.0 * limit;
            self.console
                .say(&format!("{stage}: warning: the outputs collapse: std {std:.5}, healthy near {healthy:.5}"))?;
        }
        Ok(())
    }

    fn save(&mut self, progress: &Progress) -> Result<()> {
        files::write_atomically(&self.folder.join("history.json"), &[&history_json(&progress.history)])?;
        let [hash, body] = progress.to_bytes(&self.owner);
        files::write_atomically(&self.folder.join("checkpoint"), &[&hash, &body])?;
        let seconds = self.seconds_before + self.began.elapsed().as_secs_f64();
        self.manifest.environment.seconds.insert(self.stage.clone(), seconds);
        self.manifest.save(&self.manifest_path)?;
        self.saved = Instant::now();
        Ok(())
    }
}
