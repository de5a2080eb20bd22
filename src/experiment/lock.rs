//! The lock on a run directory, and what a run may touch in there: nothing behind a link.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Experiment;
use crate::error::{Error, Result};
use crate::sums;

/// A run directory that no other run writes into while this, or a clone of it, lives.
#[derive(Clone)]
pub(super) struct Lock {
    folder: PathBuf,
    file: Arc<File>,
}

/// What an error about the folder says to do.
const ELSEWHERE: &str = "choose another folder with --out";
/// A lock's file, which stays empty.
const NAME: &str = ".lock";

impl Lock {
    /// Takes the lock, which is released when it is dropped or the process ends.
    pub fn take(folder: &Path) -> Result<Lock> {
        let path = folder.join(NAME);
        check_file(&path)?;
        let cannot = |problem: std::io::Error| Error::run(folder, format!("cannot be written: {problem}"), ELSEWHERE);
        let file = File::options().write(true).create(true).truncate(false).open(path).map_err(cannot)?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { folder: folder.to_owned(), file: Arc::new(file) }),
            Err(TryLockError::WouldBlock) => {
                let remedy = "wait for it, or choose another folder with --out";
                Err(Error::run(folder, "another run is writing into it", remedy))
            }
            // Without a lock two runs could write into one folder.
            Err(TryLockError::Error(e)) => Err(Error::run(folder, format!("cannot be locked: {e}"), ELSEWHERE)),
        }
    }

    /// The lock of another process, which has told this one to write into the folder.
    pub fn of_other(folder: &Path) -> Result<Lock> {
        let path = folder.join(NAME);
        let file = File::open(&path).map_err(Error::io("open", &path))?;
        Ok(Lock { folder: folder.to_owned(), file: Arc::new(file) })
    }

    /// Checks that the folder is still the one that was locked: where it has been removed, another run may have made it
    /// anew, with a lock of its own. (Windows removes no folder with an open file in it.)
    pub fn check(&self) -> Result<()> {
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            let place = |metadata: std::fs::Metadata| (metadata.dev(), metadata.ino());
            let there = std::fs::symlink_metadata(self.folder.join(NAME)).map(place).ok();
            if there.is_none() || there != self.file.metadata().map(place).ok() {
                let problem = "was removed or replaced while this run was writing into it";
                return Err(Error::run(
                    &self.folder,
                    problem,
                    "run again: finished stages that are gone are trained again",
                ));
            }
        }
        // Elsewhere there is nothing to check.
        let _ = (&self.folder, &self.file);
        Ok(())
    }
}

/// Whether a run is writing into the folder.
pub fn is_locked(folder: &Path) -> bool {
    let lock = File::options().write(true).open(folder.join(NAME));
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// Refuses to run where a path that the run of one of `experiments` would use in `folder` is a link, or not what it must
/// be: what lies behind it is not the run's to write or remove. The folder itself may be one.
pub(super) fn check_paths<'a>(folder: &Path, experiments: impl Iterator<Item = &'a Experiment>) -> Result<()> {
    for name in [NAME, "log.txt", "manifest.json", sums::FILE] {
        check_file(&folder.join(name))?;
    }
    check_only_name(&folder.join("log.txt"))?;
    let mut stages = BTreeSet::new();
    for experiment in experiments {
        let of_seed = |seed| experiment.stages.iter().map(move |stage| experiment.key(seed, &stage.name));
        stages.extend(experiment.all_seeds().flat_map(of_seed));
    }
    let above: BTreeSet<&str> = stages.iter().filter_map(|key| Some(key.split_once('/')?.0)).collect();
    for key in above.into_iter().chain(stages.iter().map(String::as_str)) {
        let path = folder.join(key);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if !metadata.is_dir() => return Err(not_ours(&path, "a folder")),
            Err(_) => continue,
            Ok(_) => {}
        }
        for name in super::FILES {
            check_file(&path.join(name))?;
        }
    }
    Ok(())
}

/// Refuses whatever is at `path` but a file.
fn check_file(path: &Path) -> Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(not_ours(path, "a file")),
        _ => Ok(()),
    }
}

/// Refuses a file that has another name too: what is appended to one would be in both. (What replaces a file, as all else
/// does, leaves the other name alone.)
fn check_only_name(path: &Path) -> Result<()> {
    #[cfg(unix)]
    if std::fs::symlink_metadata(path).is_ok_and(|file| std::os::unix::fs::MetadataExt::nlink(&file) > 1) {
        return Err(not_ours(path, "a file with a single name"));
    }
    let _ = path;
    Ok(())
}

fn not_ours(path: &Path, expected: &str) -> Error {
    let problem = format!("is not {expected}: a link, or made by something else, and nothing behind it is touched");
    Error::run(path, problem, "move it away, or choose another folder with --out")
}
