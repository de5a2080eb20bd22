//! The one error type: what went wrong, where, and what to do about it.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use crate::text::shown;

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
    #[error("{}: {problem}\n  {remedy}", shown(path))]
    Data {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A weights file, checkpoint, manifest or run directory that cannot be used.
    #[error("{}: {problem}\n  {remedy}", shown(path))]
    Run {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do about it.
        remedy: String,
    },

    /// A report that was not replaced, since the new one would lack some of its figures.
    #[error("{}: {problem}\n  {remedy}", shown(path))]
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
    #[error(
        "cannot {action} {}: {source}\n  check the disk and the file's permissions, then run the same command again",
        shown(path)
    )]
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

    /// Of several processes that run an experiment, one has failed.
    #[error("rank {rank}: {message}")]
    Rank {
        /// Which, from 0.
        rank: usize,
        /// [`Error::exit_code`] there.
        code: u8,
        /// What is wrong, and what to do about it.
        message: String,
    },

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
            Error::Rank { code, .. } => *code,
        }
    }

    /// For `map_err`: an [`Error::Io`] that says what was being done to which file.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// An [`Error::Interrupted`] that knows no command.
    pub(crate) fn interrupted() -> Error {
        Error::Interrupted("run it again into the same folder to resume".to_owned())
    }

    /// An [`Error::Run`].
    pub fn run(path: &Path, problem: impl Display, remedy: impl Display) -> Error {
        Error::Run { path: path.to_owned(), problem: problem.to_string(), remedy: remedy.to_string() }
    }

    /// For a file of a run that cannot be read: an [`Error::Run`] where it is the file's fault (it is not there, no file, or
    /// too long), else an [`Error::Io`]. With too many open files or without permission it may be as good as ever, and a
    /// remedy like deleting it would be wrong.
    pub(crate) fn unreadable(path: &Path, source: std::io::Error, remedy: impl Display) -> Error {
        use std::io::ErrorKind::{FileTooLarge, IsADirectory, NotADirectory, NotFound, Other};
        match source.kind() {
            NotFound | NotADirectory | IsADirectory | FileTooLarge | Other => {
                Error::run(path, format!("cannot be read: {source}"), remedy)
            }
            _ => Error::io("read", path)(source),
        }
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
    let mut place = shown(path);
    for number in [line, column].into_iter().flatten() {
        place += &format!(":{number}");
    }
    place
}

#[cfg(test)]
mod tests {
    use std::io::{self, ErrorKind};

    use super::*;

    #[test]
    fn a_fault_of_the_system_is_no_reason_to_delete_a_file() {
        let of = |error: io::Error| Error::unreadable("x/checkpoint".as_ref(), error, "delete it");
        // EMFILE of Linux, macOS and the BSDs: too many open files.
        #[cfg(unix)]
        assert!(matches!(of(io::Error::from_raw_os_error(24)), Error::Io { .. }));
        for kind in [ErrorKind::PermissionDenied, ErrorKind::OutOfMemory, ErrorKind::Interrupted] {
            let error = of(kind.into());
            assert_eq!((error.exit_code(), error.to_string().contains("delete it")), (3, false), "{error}");
        }
        for kind in [ErrorKind::NotFound, ErrorKind::FileTooLarge, ErrorKind::IsADirectory] {
            let error = of(kind.into());
            assert_eq!((error.exit_code(), error.to_string().contains("delete it")), (2, true), "{error}");
        }
    }

    #[test]
    fn a_path_ends_no_line() {
        let path = Path::new("a\nbit-identical");
        let errors =
            [Error::run(path, "p", "r"), Error::data(path, "p", "r"), Error::io("read", path)(ErrorKind::Other.into())];
        for error in errors {
            assert!(error.to_string().contains(r"a\nbit-identical"), "{error}");
        }
        assert_eq!(place(path, Some(1), Some(2)), r"a\nbit-identical:1:2");
    }
}
