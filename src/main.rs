//! The command line: arguments in, one message and an exit code out.

mod commands;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use fewlabel::data::cifar10;
use fewlabel::data::folder::Background;
use fewlabel::error::Error;
use fewlabel::experiment;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

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
  fewlabel run experiments/study.yaml            the study's comparison
  fewlabel run mine.yaml --only baseline         one stage, and what it needs
  fewlabel verify golden/quick.json              the same bits again
  fewlabel report runs/study runs/strict         two runs in one page";

const RUN_EXAMPLES: &str = "\
Examples:
  fewlabel run experiments/study.yaml --data-dir ~/cifar    CIFAR-10 from elsewhere
  fewlabel run experiments/strict.yaml --only seed-1        one of its seeds
  fewlabel run experiments/labels.yaml --reuse runs/strict  what another run has finished is taken over
  fewlabel run mine.yaml --seed 3 --out runs/mine-3         another seed, beside the first
  fewlabel run mine.yaml --fresh                            from the start";

const VERIFY_EXAMPLES: &str = "\
Examples:
  fewlabel verify golden/quick.json                         the same bits
  fewlabel verify golden/strict.json --only seed-0          of one of its seeds
  fewlabel verify golden/study.json --out runs/check        may be interrupted
  fewlabel verify golden/strict.json --device cuda --within 2";

const REPORT_EXAMPLES: &str = "\
Examples:
  fewlabel report runs/quick
  fewlabel report runs/study runs/strict --out comparison   two runs in one page";

#[derive(Subcommand)]
enum Command {
    /// Run an experiment, or go on with an interrupted one.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Run a manifest's experiment again and compare: bit for bit, or within a margin.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Write the report of a run again, or one that compares several runs.
    #[command(after_help = REPORT_EXAMPLES)]
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
        /// The colour behind transparent pixels of own images: white, black or '#rrggbb' [default: white].
        #[arg(long, value_name = "COLOR", requires = "folder")]
        background: Option<Background>,
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
    /// Take over what another run has finished, where it would be the same bits: SimSiam of `study` for `strict`, say.
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
    /// Only the results of this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Where the bits may differ (another device): accept test accuracies that over the seeds are shown to be within
    /// this many percentage points of the manifest's, by two one-sided t tests at 5 %.
    #[arg(long, value_name = "POINTS", value_parser = commands::points)]
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
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
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
    /// Print a JSON object a line instead: the plan, every epoch, every finished stage, warnings, the end, the report.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Cpu,
    Cuda,
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Run(options) => commands::run(options),
        Command::Verify(options) => commands::verify(options),
        Command::Report(options) => commands::report(options),
        Command::Runs { folder, json } => commands::runs(&folder, json),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "fewlabel", &mut script);
            experiment::print(String::from_utf8_lossy(&script).trim_end())
        }
        Command::Data { folder: Some(_), command: Some(_), .. } => {
            Err(Error::Usage("data fetch: --folder is for one's own images, which are not fetched".to_owned()))
        }
        Command::Data { folder: Some(folder), background, .. } => {
            commands::data::own_images(&folder, background.unwrap_or_default())
        }
        Command::Data { data_dir, command: None, .. } => commands::data::check(data_dir.as_deref()),
        Command::Data { data_dir, command: Some(DataCommand::Fetch { url }), .. } => {
            commands::data::fetch(data_dir.as_deref(), url)
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "fewlabel: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}
