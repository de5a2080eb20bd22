//! The command line: arguments in, one message and an exit code out.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use candle_core::Device;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use fewlabel::data::{self, cifar10, fetch};
use fewlabel::error::{Error, Result};
use fewlabel::experiment::{self, Experiment, Manifest, Options, Output, Seed};
use fewlabel::{golden, report};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

/// Trustworthy, reproducible benchmarks of learning from few labels.
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  fewlabel run                                   the quick experiment, about a minute
  fewlabel data fetch                            CIFAR-10, verified, into data/
  fewlabel run experiments/seed.yaml             the study's comparison
  fewlabel run mine.yaml --only baseline         one stage, and what it needs
  fewlabel verify golden/quick.json              the same bits again
  fewlabel report runs/seed runs/strict          two runs in one page";

#[derive(Subcommand)]
enum Command {
    /// Run an experiment, or go on with an interrupted one.
    Run(Run),
    /// Run a manifest's experiment again and compare: bit for bit, or within a margin.
    Verify(Verify),
    /// Write the report of a run again, or one that compares several runs.
    Report(Report),
    /// List past runs with their headline numbers.
    Runs {
        /// The folder that holds the run directories.
        #[arg(default_value = "runs")]
        folder: PathBuf,
        /// Print a JSON object a line.
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script, for example
    /// `fewlabel completions bash > ~/.local/share/bash-completion/completions/fewlabel`.
    Completions {
        /// The shell that is to complete.
        shell: Shell,
    },
    /// Say where CIFAR-10 is and whether it is whole; or, with --folder, what a folder of one's own images holds.
    Data {
        /// Own images, in train/CLASS/ and test/CLASS/: prints the `dataset:` line of an experiment on them.
        #[arg(long, value_name = "DIR", conflicts_with = "data_dir")]
        folder: Option<PathBuf>,
        /// The folder that holds the data set [default: $FEWLABEL_DATA, or data/].
        #[arg(long, value_name = "DIR", global = true)]
        data_dir: Option<PathBuf>,
        #[command(subcommand)]
        command: Option<DataCommand>,
    },
}

#[derive(Subcommand)]
enum DataCommand {
    /// Download CIFAR-10 (170 MB), verify it, and put it into the data folder.
    Fetch {
        /// Take it from a mirror; what it sends is verified all the same.
        #[arg(long, default_value = cifar10::URL)]
        url: String,
    },
}

#[derive(Args)]
struct Run {
    /// A YAML file [default: the quick experiment, which is built in].
    experiment: Option<PathBuf>,
    /// Use this seed instead of the experiment's.
    #[arg(long)]
    seed: Option<u64>,
    /// The run directory [default: runs/<name>].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Start over: throw away what the run directory holds of an earlier run.
    #[arg(long)]
    fresh: bool,
    /// Take over what another run has finished, where it would be the same bits: SimSiam of `seed` for `strict`, say.
    #[arg(long, value_name = "DIR")]
    reuse: Vec<PathBuf>,
    /// Longest time between two checkpoints: what a kill may cost.
    #[arg(long, value_name = "SECONDS", default_value_t = experiment::CHECKPOINT_EVERY.as_secs())]
    checkpoint_every: u64,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Verify {
    /// A manifest.json, of golden/ or of a run.
    manifest: PathBuf,
    /// A run directory to go on in and to keep; what is finished in it is not run again [default: a temporary one].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Where the bits may differ (another device): accept test accuracies that over the seeds are shown to be within
    /// this many percentage points of the manifest's, by two one-sided t tests at 5 %.
    #[arg(long, value_name = "POINTS", value_parser = points)]
    within: Option<f64>,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Report {
    /// Run directories.
    #[arg(required = true, value_name = "RUN_DIR")]
    runs: Vec<PathBuf>,
    /// Where to write it [default: the run directory; of several runs ./report].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The folder that holds the data set [default: $FEWLABEL_DATA, or data/].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print nothing but errors.
    #[arg(long)]
    quiet: bool,
}

/// What does not change a result.
#[derive(Args)]
struct How {
    /// Only these stages and what they depend on; of several seeds also `seed-N` or `seed-N/STAGE`.
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    only: Vec<String>,
    /// Threads to use [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// The folder that holds the data set [default: $FEWLABEL_DATA, or data/].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Where to compute; cuda needs a build with `--features cuda`, and is not bit-exact.
    #[arg(long, value_enum, default_value = "cpu")]
    device: DeviceName,
    /// Print nothing but errors; log.txt in the run directory has the rest.
    #[arg(long)]
    quiet: bool,
    /// Print a JSON object a line instead: the plan, every epoch, every finished stage.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Cpu,
    Cuda,
}

/// Set by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => run(options),
        Command::Verify(options) => verify(options),
        Command::Report(options) => report(options),
        Command::Runs { folder, json } => runs(&folder, json),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "fewlabel", &mut script);
            say(String::from_utf8_lossy(&script).trim_end());
            Ok(())
        }
        Command::Data { folder: Some(_), command: Some(_), .. } => {
            Err(Error::Usage("data fetch: --folder is for one's own images, which are not fetched".to_owned()))
        }
        Command::Data { folder: Some(folder), .. } => own_images(&folder),
        Command::Data { data_dir, command: None, .. } => data(data_dir.as_deref()),
        Command::Data { data_dir, command: Some(DataCommand::Fetch { url }), .. } => fetch(data_dir.as_deref(), url),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "fewlabel: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(options: Run) -> Result<()> {
    let mut experiment = match &options.experiment {
        Some(path) => Experiment::load(path)?,
        None => Experiment::quick(),
    };
    if let Some(seed) = options.seed {
        experiment.seed = Seed(seed);
    }
    let out = options.out.unwrap_or_else(|| Path::new("runs").join(&*experiment.name));
    let every = Duration::from_secs(options.checkpoint_every);
    let run = options.how.options(&out)?;
    let run = Options { fresh: options.fresh, reuse: options.reuse, checkpoint_every: every, ..run };
    let (data_dir, quiet) = (options.how.data_dir.clone(), options.how.output() != Output::Text);
    in_pool(options.how.threads, || {
        experiment::run(&experiment, &run)?;
        if is_newer(&out.join("report.html"), &out.join("manifest.json")) {
            return Ok(());
        }
        write_report(std::slice::from_ref(&out), data_dir.as_deref(), &out, quiet)
    })
}

/// Whether `file` is there and was written after `other`.
fn is_newer(file: &Path, other: &Path) -> bool {
    let written = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    written(file) > written(other)
}

/// The latest last.
fn runs(folder: &Path, json: bool) -> Result<()> {
    for run in experiment::past_runs(folder)? {
        if json {
            say(&run.json().to_string());
        } else {
            say(&run.to_string());
        }
    }
    Ok(())
}

fn report(options: Report) -> Result<()> {
    let Report { runs, out, data_dir, quiet } = options;
    let out = out.unwrap_or_else(|| if runs.len() == 1 { runs[0].clone() } else { "report".into() });
    in_pool(None, || write_report(&runs, data_dir.as_deref(), &out, quiet))
}

fn write_report(runs: &[PathBuf], data_dir: Option<&Path>, out: &Path, quiet: bool) -> Result<()> {
    let bar = if quiet { ProgressBar::hidden() } else { ProgressBar::new_spinner() };
    let path = report::write(runs, data_dir, out, &mut |what| {
        bar.set_message(what.to_owned());
        bar.tick();
    });
    bar.finish_and_clear();
    let path = path?;
    if !quiet {
        say(&format!("The report: {}", path.display()));
    }
    Ok(())
}

/// Runs the manifest's stages again and compares them.
fn verify(options: Verify) -> Result<()> {
    let mut expected = Manifest::load(&options.manifest)?;
    if expected.result.is_empty() {
        return Err(Error::run(&options.manifest, "has no result to verify", "run its experiment to the end first"));
    }
    let temporary = tempfile::tempdir().map_err(Error::io("create a folder in", &std::env::temp_dir()))?;
    let out = options.out.as_deref().unwrap_or(temporary.path());
    let mut run = options.how.options(out)?;
    let all = expected.experiment.plan(&[])?;
    if let Some(key) = expected.result.keys().find(|key| all.iter().all(|job| job.key != **key)) {
        let problem = format!("has a result of {key}, which its experiment does not have");
        return Err(Error::run(&options.manifest, problem, "it was changed: take it from its source again"));
    }
    if run.only.is_empty() {
        run.only = expected.result.keys().cloned().collect();
    }
    let wanted = expected.experiment.plan(&run.only)?;
    expected.result.retain(|key, _| wanted.iter().any(|job| job.key == *key));
    if expected.result.is_empty() {
        return Err(Error::Usage("--only: the manifest has no result of these stages".to_owned()));
    }
    if options.within.is_some() && !run.device.is_cpu() {
        golden::check_seeds(&expected)?;
    }
    let found = in_pool(options.how.threads, || experiment::run(&expected.experiment, &run));
    let found = found.map_err(|error| match error {
        Error::Interrupted(_) if options.out.is_none() => {
            Error::Interrupted("nothing is kept; with --out DIR a verification goes on where it stopped")
        }
        other => other,
    });
    let said = golden::compare(&expected, &found?, options.within);
    let event = |event: &str, message: &str| say(&json!({"event": event, "message": message}).to_string());
    match (&said, options.how.output()) {
        (Ok(said), Output::Text) => say(said),
        (Ok(said), Output::Json) => event("verified", said),
        (Err(Error::Differs(difference)), Output::Json) => event("differs", difference),
        _ => {}
    }
    said.map(|_| ())
}

/// A margin in percentage points.
fn points(text: &str) -> std::result::Result<f64, String> {
    let points = text.parse().ok().filter(|points| (1e-6..=100.0).contains(points));
    points.ok_or_else(|| "a number of percentage points above 0, at most 100".to_owned())
}

impl How {
    fn output(&self) -> Output {
        match (self.quiet, self.json) {
            (true, _) => Output::Nothing,
            (_, true) => Output::Json,
            _ => Output::Text,
        }
    }

    fn options(&self, out: &Path) -> Result<Options<'static>> {
        let device = match self.device {
            DeviceName::Cpu => Device::Cpu,
            DeviceName::Cuda => Device::new_cuda(0).map_err(|e| Error::Usage(format!("--device cuda: {e}")))?,
        };
        interrupt_at_ctrl_c()?;
        Ok(Options {
            only: self.only.clone(),
            data_dir: self.data_dir.clone(),
            device,
            output: self.output(),
            interrupted: &INTERRUPTED,
            ..Options::new(out)
        })
    }
}

/// `work` on that many threads, or on one per core.
fn in_pool<T: Send>(threads: Option<u16>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.map_or(0, usize::from)).build();
    pool.map_err(|e| Error::Usage(format!("--threads: {e}")))?.install(work)
}

/// The first Ctrl-C lets the running step end and saves a checkpoint; the second ends the program at once.
fn interrupt_at_ctrl_c() -> Result<()> {
    let handler = || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    };
    ctrlc::set_handler(handler).map_err(|e| Error::Usage(format!("cannot listen for Ctrl-C: {e}")))
}

fn data(data_dir: Option<&Path>) -> Result<()> {
    let source = cifar10::locate(data_dir)?;
    say(&format!("CIFAR-10 in {}", source.path().display()));
    let reports = cifar10::check(&source)?;
    for report in &reports {
        say(&format!(
            "  {:<18} {:>10} bytes  {}",
            report.name,
            report.bytes,
            report.problem.as_deref().unwrap_or("whole")
        ));
    }
    match reports.iter().filter(|report| report.problem.is_some()).count() {
        0 => Ok(()),
        bad => {
            let problem = format!("{bad} of {} files are not the official ones", reports.len());
            Err(Error::data(source.path(), problem, "fetch them again with `fewlabel data fetch`"))
        }
    }
}

fn own_images(folder: &Path) -> Result<()> {
    let data = data::folder::load(folder)?;
    let (train, test, classes) = (data.train.len(), data.test.len(), data.classes.len());
    let hash = data.sha256();
    let dataset =
        format!("dataset: {{name: folder, train: {train}, test: {test}, classes: {classes}, sha256: \"{hash}\"}}");
    // Is it a line that `run` takes?
    let labels = 10usize.next_multiple_of(classes);
    let rest =
        format!("labels: {{count: {labels}, choose: stratified}}\nstages: [{{name: a, method: supervised, batch: 2}}]");
    Experiment::parse(folder, &format!("{dataset}\nname: a\n{rest}"))?;
    say(&format!("# {}\n{dataset}", data.classes.join(", ")));
    Ok(())
}

fn fetch(data_dir: Option<&Path>, url: String) -> Result<()> {
    let (folder, _) = cifar10::data_folder(data_dir);
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    let bar = ProgressBar::no_length().with_style(style.expect("a template without fault"));
    let settings = fetch::Fetch { url, ..fetch::Fetch::default() };
    let done = fetch::fetch(&folder, &settings, &mut |received, total| {
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(received);
    });
    bar.finish_and_clear();
    done?;
    say(&format!("CIFAR-10 is whole in {}", folder.join(cifar10::FOLDER).display()));
    Ok(())
}

/// Prints a line; a reader that has gone away (`| head`) is no fault.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
