//! What each command does and prints.

mod check;
pub mod data;
mod verify;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use crate::cluster::Cluster;
use crate::data::{MAX_SIDE, MIN_SIDE};
use crate::error::{Error, Result};
use crate::experiment::{self, Experiment, Options, Output, Seed, print};
use crate::text::{path_word, shown, visible, word};
use crate::{files, report, text};
use candle_core::Device;
use indicatif::ProgressBar;
use serde_json::json;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::{Command, DeviceName, How, Report, Run};
pub use check::check;
pub use verify::verify;

/// Set by Ctrl-C, SIGTERM and SIGHUP: training is to stop, with a checkpoint.
static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);
/// While it is set, Ctrl-C and SIGTERM end the program at once.
static ENOUGH: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Helps rank 0, another process, with what it does.
pub fn serve(command: &Command, cluster: &dyn Cluster) -> Result<()> {
    let how = match command {
        Command::Run(run) => &run.how,
        Command::Verify(verify) => &verify.how,
        // Rank 0 does it alone.
        _ => return Ok(()),
    };
    listen()?;
    in_pool(Some(how.threads(Some(cluster))?), || {
        experiment::serve(cluster, &INTERRUPTED);
        Ok(())
    })
}

pub fn run(options: Run, cluster: Option<&dyn Cluster>) -> Result<()> {
    let mut experiment = match &options.experiment {
        Some(path) => Experiment::load(&renamed(path, options.how.output()))?,
        None => Experiment::quick(),
    };
    if let Some(seed) = options.seed {
        experiment.seed = Seed(seed);
    }
    let out = options.out.unwrap_or_else(|| Path::new("runs").join(&*experiment.name));
    let every = Duration::from_secs(options.checkpoint_every);
    let run = options.how.options(&out)?;
    let command = Some(this_command());
    let run = Options { fresh: options.fresh, reuse: options.reuse, checkpoint_every: every, command, cluster, ..run };
    let (data_dir, output) = (options.how.data_dir.clone(), options.how.output());
    in_pool(Some(options.how.threads(cluster)?), || {
        let placed = |error| match &options.experiment {
            Some(path) => Experiment::place(path, error),
            None => error,
        };
        if options.dry_run {
            return experiment::preview(&experiment, &run).map_err(placed);
        }
        experiment::run(&experiment, &run).map_err(placed)?;
        // From here on Ctrl-C costs a report at most: it ends the program at once.
        ENOUGH.store(true, Ordering::Relaxed);
        let page = out.join("report.html");
        if report::is_fresh(&out) {
            print_report(&out, false, output)?;
        } else {
            if output == Output::Text {
                let later = path_word(&out);
                print(&format!(
                    "Making the report; Ctrl-C now costs only that: `fewlabel report {later}` makes it later"
                ))?;
            }
            write_report(std::slice::from_ref(&out), data_dir.as_deref(), &out, output)?;
        }
        experiment::log(&out, &format!("The report: {}", shown(&page)))?;
        experiment::seal(&out)
    })
}

/// The study's file for what was called `seed`, with a hint.
fn renamed(path: &Path, output: Output) -> PathBuf {
    let is_of = |name: &str| path.file_stem().is_some_and(|stem| stem == name);
    let now = path.with_file_name("study").with_extension(path.extension().unwrap_or_default());
    if path.exists() || !is_of("seed") || !now.is_file() {
        return path.to_owned();
    }
    if output != Output::Nothing {
        let _ = writeln!(std::io::stderr(), "{} is now {}", shown(path), shown(&now));
    }
    now
}

/// The command that was given, as a shell takes it, without `--out` and `--fresh`.
fn this_command() -> String {
    let mut words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    let mut command = vec![];
    while let Some(argument) = words.next() {
        match &*argument {
            "--out" => drop(words.next()),
            "--fresh" => {}
            other if other.starts_with("--out=") => {}
            other => command.push(word(other)),
        }
    }
    command.join(" ")
}

/// The latest last.
pub fn runs(folder: &Path, json: bool) -> Result<()> {
    for run in experiment::past_runs(folder)? {
        print(&if json { text::json(&run.json()) } else { run.to_string() })?;
    }
    Ok(())
}

pub fn report(options: Report) -> Result<()> {
    let Report { runs, out, data_dir, quiet } = options;
    let out = out.unwrap_or_else(|| if runs.len() == 1 { runs[0].clone() } else { "report".into() });
    let output = if quiet { Output::Nothing } else { Output::Text };
    in_pool(None, || write_report(&runs, data_dir.as_deref(), &out, output))
}

fn write_report(runs: &[PathBuf], data_dir: Option<&Path>, out: &Path, output: Output) -> Result<()> {
    let bar = if output == Output::Text { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    for (run, changed) in runs.iter().filter_map(|run| Some((run, experiment::changed(run)?))) {
        // A report elsewhere leaves the run as it is.
        if files::is_same(run, out) {
            experiment::log(run, &changed)?;
        }
        if output == Output::Text {
            print(&format!("{}: {changed}", shown(run)))?;
        }
    }
    let path = report::write(runs, data_dir, out, &mut |what| {
        bar.set_message(what.to_owned());
        bar.tick();
    });
    bar.finish_and_clear();
    path?;
    // The report is of the run's own files, where it is in its folder.
    if let [run] = runs
        && files::is_same(run, out)
    {
        experiment::seal(out)?;
    }
    print_report(out, true, output)
}

/// Says where the report in `out` is, whether something is missing in it, and, if it `is_new`, which accuracies were computed
/// again for it: of one that was there, nobody knows who wrote it.
fn print_report(out: &Path, is_new: bool, output: Output) -> Result<()> {
    let (path, state) = (out.join("report.html"), report::state(out));
    let recomputed = if is_new { state.recomputed } else { vec![] };
    let lacks = if state.whole { "" } else { "\nSome figures are missing: the page says which and why" };
    match output {
        Output::Text => {
            let claimed = if is_new { claimed(&recomputed) } else { left(out) };
            // The path last: scripts read the last line.
            print(&format!("{claimed}{lacks}\nThe report: {}", shown(&path)))
        }
        Output::Json => {
            let path = path.display().to_string();
            let said = json!({"event": "report", "path": path, "whole": state.whole});
            print(&text::json(&said))
        }
        Output::Nothing => Ok(()),
    }
}

fn left(out: &Path) -> String {
    format!("It was there, and matches the manifest; `fewlabel report {}` computes it again", path_word(out))
}

/// What of the results a report has computed again, and what it takes from the manifest.
fn claimed(recomputed: &[String]) -> String {
    let rest = "is as the manifest says, until `fewlabel verify` trains again";
    let named = recomputed[..recomputed.len().min(6)].join(", ");
    match recomputed.len() {
        0 => format!("Nothing in it was computed again: all {rest}"),
        n => {
            let more = if n > 6 { format!(" and {} more", n - 6) } else { String::new() };
            format!("Computed again from weights and images: the test accuracy of {named}{more}; all else {rest}")
        }
    }
}

/// A margin in percentage points.
pub fn points(text: &str) -> std::result::Result<f64, String> {
    let points = text.parse().ok().filter(|points| (1e-6..=100.0).contains(points));
    points.ok_or_else(|| "a number of percentage points above 0, at most 100".to_owned())
}

/// A side of images in pixels.
pub fn side(text: &str) -> std::result::Result<usize, String> {
    let side = text.parse().ok().filter(|side: &usize| (MIN_SIDE..=MAX_SIDE).contains(side) && side.is_multiple_of(2));
    side.ok_or_else(|| format!("an even number of pixels from {MIN_SIDE} to {MAX_SIDE}"))
}

impl How {
    fn output(&self) -> Output {
        match (self.quiet, self.json) {
            (true, _) => Output::Nothing,
            (_, true) => Output::Json,
            _ => Output::Text,
        }
    }

    /// The threads of this process.
    fn threads(&self, cluster: Option<&dyn Cluster>) -> Result<u16> {
        self.threads.map_or_else(|| default_threads(cluster), Ok)
    }

    fn options(&self, out: &Path) -> Result<Options<'static>> {
        let device = match self.device {
            DeviceName::Cpu => Device::Cpu,
            DeviceName::Cuda => cuda()?,
        };
        listen()?;
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

/// The first GPU.
fn cuda() -> Result<Device> {
    if !cfg!(feature = "cuda") {
        let message = "--device cuda: this program was built without CUDA: build it with `--features cuda`";
        return Err(Error::Usage(message.to_owned()));
    }
    Device::new_cuda(0).map_err(|e| Error::Usage(format!("--device cuda: {e}")))
}

/// The most threads: more have no work, and a system may not have them.
pub const MOST_THREADS: u16 = 256;

/// `work` on that many threads, or on one per core.
pub fn in_pool<T: Send>(threads: Option<u16>, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let threads = threads.map_or_else(|| default_threads(None), Ok)?;
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads.into()).build();
    let cannot = |e| Error::Usage(format!("cannot start {threads} threads: {e}; ask for fewer with --threads"));
    pool.map_err(cannot)?.install(work)
}

/// One per core that the process has for itself, or as `RAYON_NUM_THREADS` says, which the thread pool reads and does not limit.
#[allow(clippy::disallowed_methods, reason = "results do not depend on it")]
fn default_threads(cluster: Option<&dyn Cluster>) -> Result<u16> {
    match std::env::var("RAYON_NUM_THREADS").as_deref() {
        Err(_) | Ok("" | "0") => {
            let all = || std::thread::available_parallelism().map_or(1, |n| n.get());
            let cores = cluster.map_or_else(all, Cluster::cores);
            Ok(cores.min(MOST_THREADS.into()) as u16)
        }
        Ok(number) => {
            let threads = number.parse().ok().filter(|threads| (1..=MOST_THREADS).contains(threads));
            let number = visible(number);
            threads.ok_or_else(|| {
                Error::Usage(format!("RAYON_NUM_THREADS: {number} is no number from 1 to {MOST_THREADS}"))
            })
        }
    }
}

/// The first Ctrl-C or SIGTERM lets the running step end and saves a checkpoint; the second ends the program at once.
/// A terminal that is closed (SIGHUP) saves a checkpoint too. It may say so twice, and a session's end sends SIGTERM
/// besides: neither cuts the checkpoint short.
fn listen() -> Result<()> {
    listen_for_signals().map_err(|e| Error::Usage(format!("cannot listen for Ctrl-C: {e}")))
}

fn listen_for_signals() -> std::io::Result<()> {
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, 130, ENOUGH.clone())?;
        flag::register(signal, ENOUGH.clone())?;
        flag::register(signal, INTERRUPTED.clone())?;
    }
    #[cfg(unix)]
    if heeds_hangups() {
        flag::register(signal_hook::consts::SIGHUP, INTERRUPTED.clone())?;
    }
    Ok(())
}

/// Whether SIGHUP is not ignored, as it is under `nohup`, which means that the program is to go on. Only Linux tells it
/// without unsafe code; elsewhere a closed terminal ends the program as it always did.
#[cfg(unix)]
fn heeds_hangups() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    // Signal n is bit n − 1.
    ignored.is_some_and(|ignored| ignored >> (signal_hook::consts::SIGHUP - 1) & 1 == 0)
}
