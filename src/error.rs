//! The one error type: what went wrong, where, and what to do about it.

use std::fmt::Display;
use std::path::{Path, PathBuf};

/// `std::result::Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong, as a value with its context; the command line prints it and exits with
/// [`Error::exit_code`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An experiment file (or an option that changes it) that cannot be run.
    #[error("{}: {message}", place(path, *line, *column))]
    Experiment {
        /// Which file or folder.
        path: PathBuf,
        /// From 1.
        line: Option<usize>,
        /// From 1.
        column: Option<usize>,
        /// What is wrong, and what was expected.
        message: String,
    },

    /// Something that an experiment asks of its images, and that they do not have.
    #[error("{message}")]
    Unfit {
        /// Where the experiment asks for it: keys and `name: …`, the outermost first.
        at: Vec<String>,
        /// What is wrong, and what to do about it.
        message: String,
    },

    /// A data set that is missing, incomplete or changed.
    #[error("{}: {problem}\n  {remedy}", path.display())]
    Data {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A weights file, checkpoint, manifest or run directory that cannot be used.
    #[error("{}: {problem}\n  {remedy}", path.display())]
    Run {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A report that was not replaced, since the new one would lack some of its figures.
    #[error("{}: {problem}\n  {remedy}", path.display())]
    Kept {
        /// The page.
        path: PathBuf,
        /// What would be lost, and why.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A value, given on the command line or to a library function, that cannot be used.
    #[error("{0}")]
    Usage(String),

    /// The operating system refused to read or write.
    #[error("cannot {action} {}: {source}\n  check the disk and the file's permissions, then run the same command again", path.display())]
    Io {
        /// What was being done, as in "cannot write".
        action: &'static str,
        /// Which file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },

    /// A download that failed for good.
    #[error("{url}: {problem}\n  {remedy}")]
    Download {
        /// From where.
        url: String,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A loss, another metric or a weight is infinite or no number; `epoch` is from 1.
    #[error("stage {stage}, epoch {epoch}: the training diverged, a value is {loss}\n  lower the stage's lr")]
    Diverged {
        /// Its key.
        stage: String,
        /// From 1.
        epoch: u32,
        /// The value.
        loss: f64,
    },

    /// The run was asked to stop, and its checkpoint is written. What to do about it.
    #[error("interrupted; {0}")]
    Interrupted(String),

    /// A verification that found a difference.
    #[error("{0}")]
    Differs(String),

    /// The tensor library failed.
    #[error("tensor library: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl Error {
    /// 1 for a difference; 2 for bad use or bad input; 3 for a fault on the way (disk, network, a training run that
    /// diverged, the tensor library, a report that would be less than the one it replaces); 130 after Ctrl-C (128 + SIGINT).
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Differs(_) => 1,
            Error::Experiment { .. } | Error::Unfit { .. } => 2,
            Error::Data { .. } | Error::Run { .. } | Error::Usage(_) => 2,
            Error::Io { .. } | Error::Download { .. } | Error::Kept { .. } => 3,
            Error::Diverged { .. } | Error::Tensor(_) => 3,
            Error::Interrupted(_) => 130,
        }
    }

    /// For `map_err`: an [`Error::Io`] that says what was being done to which file.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// An [`Error::Run`].
    pub fn run(path: &Path, problem: impl Display, remedy: impl Display) -> Error {
        Error::Run { path: path.to_owned(), problem: problem.to_string(), remedy: remedy.to_string() }
    }

    /// The same [`Error::Run`] with another remedy.
    pub(crate) fn with_remedy(self, remedy: impl Display) -> Error {
        match self {
            Error::Run { path, problem, .. } => Error::run(&path, problem, remedy),
            other => other,
        }
    }

    /// An [`Error::Data`].
    pub fn data(path: &Path, problem: impl Display, remedy: impl Display) -> Error {
        Error::Data { path: path.to_owned(), problem: problem.to_string(), remedy: remedy.to_string() }
    }
}

fn place(path: &Path, line: Option<usize>, column: Option<usize>) -> String {
    let mut place = path.display().to_string();
    for number in [line, column].into_iter().flatten() {
        place += &format!(":{number}");
    }
    place
}
