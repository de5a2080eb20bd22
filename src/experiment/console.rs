//! A run's output: lines or JSON on standard output, lines with time stamps in `log.txt`, a progress bar on a terminal.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;

use crate::error::{Error, Result};
use crate::text::{json, visible};

/// What goes to standard output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Lines for people, with a progress bar on a terminal.
    Text,
    /// One JSON object per line, for scripts.
    Json,
    /// Nothing.
    Nothing,
}

pub(super) struct Console {
    log: File,
    path: PathBuf,
    pub output: Output,
    bar: ProgressBar,
}

impl Console {
    /// Whatever the output, every line goes into `folder`'s `log.txt`.
    pub fn open(folder: &Path, output: Output) -> Result<Console> {
        let path = folder.join("log.txt");
        let log = open_log(&path)?;
        Ok(Console { log, path, output, bar: ProgressBar::hidden() })
    }

    /// Logs the lines and prints them above the progress bar.
    pub fn say(&mut self, lines: &str) -> Result<()> {
        self.log(lines)?;
        match self.output {
            Output::Text => self.bar.suspend(|| print(&plain(lines))),
            _ => Ok(()),
        }
    }

    /// Lines that have colours where standard output shows them: `lines(true)`; in `log.txt` they have none.
    pub fn say_in_colors(&mut self, lines: impl Fn(bool) -> String) -> Result<()> {
        self.log(&lines(false))?;
        match self.output {
            Output::Text => self.bar.suspend(|| print(&lines(shows_colors()))),
            _ => Ok(()),
        }
    }

    /// Logs the lines without printing them.
    pub fn log(&mut self, lines: &str) -> Result<()> {
        write_log(&self.log, lines).map_err(Error::io("write", &self.path))
    }

    /// A warning, for people and scripts.
    pub fn warn(&mut self, line: &str) -> Result<()> {
        self.event(&json!({"event": "warning", "message": line}))?;
        self.say(line)
    }

    /// Prints an event if the output is JSON.
    pub fn event(&self, event: &serde_json::Value) -> Result<()> {
        if self.output == Output::Json { print(&json(event)) } else { Ok(()) }
    }

    /// Starts a stage's progress bar; it is hidden if standard error is not a terminal.
    pub fn start_bar(&mut self, stage: &str, steps: u64) {
        if self.output == Output::Text {
            let style = ProgressStyle::with_template("{prefix} [{wide_bar}] {msg}").expect("a template without fault");
            self.bar = ProgressBar::new(steps).with_style(style.progress_chars("=> ")).with_prefix(stage.to_owned());
        }
    }

    /// `message` is called only if the bar is visible.
    pub fn move_bar(&self, steps: u64, message: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_position(steps);
            self.bar.set_message(message());
        }
    }

    pub fn end_bar(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Whether standard output is a terminal whose user has not turned colours off (no-color.org).
fn shows_colors() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Prints a line to standard output; a reader that has gone away (`| head`, a closed terminal) is no fault, and no
/// reason to stop training.
///
/// # Errors
/// [`Error::Io`], on a full disk for example.
pub fn print(line: &str) -> Result<()> {
    /// Asked before the first line: a terminal that is closed is none.
    static IS_TERMINAL: LazyLock<bool> = LazyLock::new(|| std::io::stdout().is_terminal());
    let is_terminal = *IS_TERMINAL;
    match writeln!(std::io::stdout(), "{line}") {
        Err(e) if is_terminal || e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        done => done.map_err(Error::io("write to", Path::new("standard output"))),
    }
}

/// Appends lines to a run directory's `log.txt` after the run. Where a link or a pipe is in its place, nothing behind it is
/// touched.
///
/// # Errors
/// [`Error::Io`].
pub fn log(folder: &Path, lines: &str) -> Result<()> {
    let path = folder.join("log.txt");
    if path.symlink_metadata().is_ok_and(|there| !there.is_file()) {
        return Ok(());
    }
    write_log(&open_log(&path)?, lines).map_err(Error::io("write", &path))
}

fn open_log(path: &Path) -> Result<File> {
    File::options().create(true).append(true).open(path).map_err(Error::io("open", path))
}

/// Puts the time before every line.
fn write_log(mut log: &File, lines: &str) -> std::io::Result<()> {
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    lines.lines().try_for_each(|line| writeln!(log, "{now} {}", visible(line)))
}

/// The lines with nothing in them that moves the cursor: names from files are part of many.
fn plain(lines: &str) -> String {
    let lines: Vec<_> = lines.lines().map(visible).collect();
    lines.join("\n")
}

/// "1 h 04 min", "3 min 20 s", "45 s".
pub(crate) fn duration(time: Duration) -> String {
    let seconds = time.as_secs_f64().round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        let of = |seconds: f64| duration(Duration::from_secs_f64(seconds));
        assert_eq!([of(0.4), of(59.4), of(59.6), of(3599.0)], ["0 s", "59 s", "1 min 00 s", "59 min 59 s"]);
        assert_eq!(of(3840.0), "1 h 04 min");
    }
}
