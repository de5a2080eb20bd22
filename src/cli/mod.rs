//! The command line: arguments in, one message and an exit code out. A program that adds methods
//! ([`crate::method::register`]) or data sets ([`crate::data::register`]) has the whole of it:
//!
//! ```no_run
//! # use fewlabel::method::Kind;
//! # static MINE: Kind = Kind { name: "mine", title: "", about: "", uses_labels: true, transfers: true, learner: None };
//! fn main() -> std::process::ExitCode {
//!     fewlabel::method::register(&MINE).expect("a name of its own");
//!     fewlabel::cli::main()
//! }
//! ```

#![allow(rustdoc::invalid_html_tags, reason = "what is said of an option is its help text")]

mod commands;

use crate::cluster::{self, Cluster};
use crate::data::folder::Background;
use crate::data::{SIDE, cifar10};
use crate::error::{Error, Result};
use crate::experiment;
use crate::text::{PROGRAM, path_word, visible};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use std::io::Write;
use std::path::{Path, PathBuf};
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
  fewlabel run mine.yaml --only baseline         one stage and its dependencies
  fewlabel verify golden/quick.json              check that the bits are the same
  fewlabel check runs/study                      check that no file is damaged
  fewlabel report runs/study runs/strict         two runs on one page";

const RUN_EXAMPLES: &str = "\
Examples:
  fewlabel run experiments/study.yaml --data-dir ~/cifar    CIFAR-10 from elsewhere
  fewlabel run experiments/strict.yaml --only seed-1        one of its seeds
  fewlabel run experiments/labels.yaml --reuse runs/strict  reuse what another run has finished
  fewlabel run mine.yaml --seed 3 --out runs/mine-3         another seed, in a folder of its own
  fewlabel run mine.yaml --fresh                            discard the earlier run
  mpirun -n 4 fewlabel run experiments/strict.yaml          four processes (built with `--features mpi`)";

const VERIFY_EXAMPLES: &str = "\
Examples:
  fewlabel verify golden/quick.json                         the same bits
  fewlabel verify golden/strict.json --only seed-0          one of its seeds
  fewlabel verify theirs.json --against experiments/study.yaml
  fewlabel verify golden/study.json --out runs/check        can be interrupted and resumed
  fewlabel verify golden/strict.json --device cuda --within 2";

const REPORT_EXAMPLES: &str = "\
Examples:
  fewlabel report runs/quick
  fewlabel report runs/study runs/strict --out comparison   two runs on one page";

#[derive(Subcommand)]
enum Command {
    /// Run an experiment, or resume an interrupted one.
    #[command(after_help = RUN_EXAMPLES)]
    Run(Run),
    /// Run a manifest's experiment again and compare the results: bit for bit, or within a margin.
    #[command(after_help = VERIFY_EXAMPLES)]
    Verify(Verify),
    /// Write a run's report again, or a report that compares several runs.
    #[command(after_help = REPORT_EXAMPLES)]
    Report(Report),
    /// Look over a run directory without changing it: every hash, and whether its files agree with each other.
    Check {
        /// The run directory.
        #[arg(value_name = "RUN_DIR")]
        folder: PathBuf,
    },
    /// List past runs with their headline numbers.
    Runs {
        /// The folder that holds the run directories.
        #[arg(default_value = "runs")]
        folder: PathBuf,
        /// Print one JSON object per line.
        #[arg(long)]
        json: bool,
    },
    /// Print a completion script, for example
    /// `fewlabel completions bash > ~/.local/share/bash-completion/completions/fewlabel`.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Check the CIFAR-10 files or, with --folder or --set, your own images.
    Data {
        /// Your own images, in train/CLASS/ and test/CLASS/: prints the `dataset:` line for an experiment on them.
        #[arg(long, value_name = "DIR", conflicts_with = "data_dir")]
        folder: Option<PathBuf>,
        /// A data set that this program has added: prints its `dataset:` line.
        #[arg(long, value_name = "NAME", conflicts_with = "folder")]
        set: Option<String>,
        /// The colour behind transparent pixels of own images: white, black or '#rrggbb' [default: white].
        #[arg(long, value_name = "COLOR", requires = "folder")]
        background: Option<Background>,
        /// Height and width in pixels to which own images are resized: an even number from 16 to 128 [default: 32].
        #[arg(long, value_name = "PIXELS", requires = "folder", value_parser = commands::side)]
        side: Option<usize>,
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
        /// Download from a mirror; the archive is verified all the same.
        #[arg(long, default_value = cifar10::URL)]
        url: String,
    },
}

#[derive(Args)]
struct Run {
    /// A YAML file [default: the quick experiment, which is built in].
    experiment: Option<PathBuf>,
    /// Use this first seed instead of the experiment's.
    #[arg(long)]
    seed: Option<u64>,
    /// The run directory [default: runs/<name>].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Start over: discard the earlier run in the run directory.
    #[arg(long)]
    fresh: bool,
    /// Reuse the finished stages of another run where they would have the same bits: `study`'s SimSiam for `strict`, say.
    #[arg(long, value_name = "DIR")]
    reuse: Vec<PathBuf>,
    /// Longest time between two checkpoints: what a kill can cost.
    #[arg(long, value_name = "SECONDS", default_value_t = experiment::CHECKPOINT_EVERY.as_secs())]
    checkpoint_every: u64,
    /// Run nothing and write nothing: print what is left to do, with the time, computation and memory that each stage takes, and how
    /// long it takes on several processes.
    #[arg(long, conflicts_with = "quiet")]
    dry_run: bool,
    #[command(flatten)]
    how: How,
}

#[derive(Args)]
struct Verify {
    /// A manifest.json, of golden/ or of a run.
    manifest: PathBuf,
    /// Run into this folder and keep it: an interrupted verification resumes in it [default: a temporary folder].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Only the results of this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// First check that the manifest is of this experiment: a manifest may call itself anything.
    #[arg(long, value_name = "EXPERIMENT")]
    against: Option<PathBuf>,
    /// Where bits may differ (another device): accept test accuracies that are shown to be equivalent over the seeds,
    /// within this many percentage points, by two one-sided t tests at 5 %.
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
    /// Where to write it [default: the run directory; for several runs ./report].
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// The folder that holds the data set [default: $FEWLABEL_DATA, or data/].
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Print nothing but errors.
    #[arg(long)]
    quiet: bool,
}

/// Options that do not change a result.
#[derive(Args)]
struct How {
    /// Only these stages and their dependencies; with several seeds also `seed-N` or `seed-N/STAGE`.
    #[arg(long, value_name = "STAGE[,STAGE]", value_delimiter = ',')]
    only: Vec<String>,
    /// Threads to use [default: one per core].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=commands::MOST_THREADS.into()))]
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
    /// Print one JSON object per line instead: the plan, epochs, finished stages, warnings, the end; then of a run the report, of a
    /// verification its verdict, verified or differs.
    #[arg(long, conflicts_with = "quiet")]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum DeviceName {
    Cpu,
    Cuda,
}

/// Does what the program's arguments say. Messages go to standard error; the code is that of the README.
pub fn main() -> ExitCode {
    let program = std::env::args_os().next().map(PathBuf::from);
    if let Some(name) = program.as_deref().and_then(Path::file_stem) {
        PROGRAM.get_or_init(|| path_word(name.as_ref()));
    }
    let cluster = cluster::join();
    let cluster = match &cluster {
        Ok(cluster) => cluster.as_deref(),
        Err(error) => return failed(error),
    };
    let code = match (Cli::try_parse(), cluster) {
        // Rank 0 speaks for all.
        (Ok(Cli { command }), Some(cluster)) if cluster.rank() > 0 => match commands::serve(&command, cluster) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        (Err(_), Some(cluster)) if cluster.rank() > 0 => ExitCode::SUCCESS,
        (Ok(Cli { command }), cluster) => match execute(command, cluster) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let code = failed(&error);
                // The others may wait for what does not come.
                if let Some(cluster) = cluster.filter(|cluster| cluster.size() > 1) {
                    cluster.abort(error.exit_code());
                }
                code
            }
        },
        (Err(error), _) => {
            let _ = error.print();
            ExitCode::from(error.exit_code() as u8)
        }
    };
    if let Some(cluster) = cluster.filter(|cluster| cluster.rank() == 0) {
        experiment::dismiss(cluster);
    }
    code
}

fn execute(command: Command, cluster: Option<&dyn Cluster>) -> Result<()> {
    match command {
        Command::Run(options) => commands::run(options, cluster),
        Command::Verify(options) => commands::verify(options, cluster),
        Command::Report(options) => commands::report(options),
        Command::Check { folder } => commands::check(&folder),
        Command::Runs { folder, json } => commands::runs(&folder, json),
        Command::Completions { shell } => {
            let mut script = vec![];
            clap_complete::generate(shell, &mut Cli::command(), "fewlabel", &mut script);
            experiment::print(String::from_utf8_lossy(&script).trim_end())
        }
        Command::Data { folder: Some(_), command: Some(_), .. }
        | Command::Data { set: Some(_), command: Some(_), .. } => Err(Error::Usage(
            "data fetch: --folder and --set are for your own images, which are not fetched".to_owned(),
        )),
        Command::Data { set: Some(name), data_dir, .. } => commands::data::own_set(&name, data_dir.as_deref()),
        Command::Data { folder: Some(folder), background, side, .. } => {
            commands::data::own_images(&folder, background.unwrap_or_default(), side.unwrap_or(SIDE))
        }
        Command::Data { data_dir, command: None, .. } => commands::data::check(data_dir.as_deref()),
        Command::Data { data_dir, command: Some(DataCommand::Fetch { url }), .. } => {
            commands::data::fetch(data_dir.as_deref(), url)
        }
    }
}

/// Prints what went wrong.
fn failed(error: &Error) -> ExitCode {
    // Text from files is in it: nothing but line breaks may move the cursor.
    let message = error.to_string();
    let lines: Vec<_> = message.lines().map(visible).collect();
    let _ = writeln!(std::io::stderr(), "fewlabel: {}", lines.join("\n"));
    ExitCode::from(error.exit_code())
}
