//! Downloads CIFAR-10 into a folder: afterwards it is there whole and verified, or not at all.
//!
//! The body streams through gunzip and untar; each file is verified in memory before it is written, into a partial
//! folder that takes the final name in one rename. No archive is kept.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::cifar10::visit::{Part, bad_file, visit_archive};
use super::cifar10::{ARCHIVE, FOLDER, Source, URL, check_parts, official};
use crate::error::{Error, Result};
use crate::files::sync_folder;
use crate::text::{shown, visible};

/// Everything unfinished is in this folder, so that one removal cleans up after any failure.
const PARTIAL: &str = ".fewlabel-fetch";
const LOCK: &str = ".fewlabel-fetch.lock";

/// Where to download from, and the patience with it.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The archive's address; what it sends is verified, so a mirror will do.
    pub url: String,
    /// Attempts in all, at least one.
    pub attempts: u32,
    /// An attempt ends after this time without a byte. There is no limit on the total: a slow connection is no stall.
    pub stall: Duration,
    /// The wait before the second attempt; before the third it is twice as long, and so on.
    pub pause: Duration,
}

impl Default for Fetch {
    fn default() -> Fetch {
        Fetch { url: URL.to_owned(), attempts: 5, stall: Duration::from_secs(30), pause: Duration::from_secs(2) }
    }
}

/// Makes sure that `folder`/[`FOLDER`] is there and verified; creates `folder`. Downloads nothing if it is whole
/// already (every file is hashed, stamp or not), and replaces a damaged one.
///
/// `progress` gets the bytes received in this attempt, and the length of the archive if the server gives it. Transient
/// faults (connection, stall, truncation, damaged contents, status 408, 429 or 5xx) are tried again.
///
/// # Errors
/// [`Error::Download`] after the last attempt and for any other answer of the server; [`Error::Usage`] for an invalid
/// address; [`Error::Io`], without another attempt, for a fault of the disk; [`Error::Data`] for a folder that cannot
/// be created, and while another fetch is writing into it.
pub fn fetch(folder: &Path, settings: &Fetch, progress: &mut dyn FnMut(u64, Option<u64>)) -> Result<()> {
    fetch_parts(folder, settings, &official(), progress)
}

fn fetch_parts(
    folder: &Path,
    settings: &Fetch,
    parts: &[Part],
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    let cannot =
        |e| Error::data(folder, format!("this folder cannot be created: {e}"), "choose another with --data-dir");
    fs::create_dir_all(folder).map_err(cannot)?;
    let workplace = Workplace::claim(folder)?;
    let target = folder.join(FOLDER);
    let present = check_parts(&Source::Folder(target.clone()), parts);
    if present.is_ok_and(|files| files.iter().all(|file| file.problem.is_none())) {
        return Ok(());
    }
    let fresh = workplace.partial.join(FOLDER);
    fs::create_dir_all(&fresh).map_err(Error::io("create", &fresh))?;
    let failed = |problem: String| Error::Download {
        url: settings.url.clone(),
        problem: visible(&problem).into_owned(),
        remedy: format!("check the network and try again, or put {ARCHIVE} into {} yourself", shown(folder)),
    };
    let mut tried = 1;
    while let Err(failure) = attempt(&fresh, settings, parts, progress) {
        match failure {
            Failure::Passing(_) if tried < settings.attempts => {}
            Failure::Passing(cause) => return Err(failed(format!("{cause} (attempt {tried} of {tried})"))),
            Failure::Lasting(cause) => return Err(failed(cause)),
            Failure::Here(error) => return Err(error),
        }
        std::thread::sleep(settings.pause.saturating_mul(tried));
        tried += 1;
    }
    sync_folder(&fresh)?;
    install(&fresh, &target, &workplace.partial.join("replaced"))?;
    sync_folder(folder)
}

/// Why an attempt failed.
enum Failure {
    /// The network or the server, perhaps for the moment.
    Passing(String),
    /// The network or the server, for good.
    Lasting(String),
    /// This machine.
    Here(Error),
}

/// One download into the existing folder `fresh`; files of an earlier attempt are overwritten.
fn attempt(
    fresh: &Path,
    settings: &Fetch,
    parts: &[Part],
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> std::result::Result<(), Failure> {
    let stall = Some(settings.stall);
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_resolve(stall)
        .timeout_connect(stall)
        .timeout_recv_response(stall)
        .timeout_per_read(stall)
        .timeout_per_write(stall);
    let response = ureq::Agent::new_with_config(config.build()).get(&settings.url).call().map_err(|e| match e {
        ureq::Error::BadUri(_) | ureq::Error::Http(_) | ureq::Error::InvalidProxyUrl => {
            Failure::Here(Error::Usage(format!("{}: not an address to download from: {e}", settings.url)))
        }
        _ => Failure::Passing(e.to_string()),
    })?;
    let status = response.status();
    match status.as_u16() {
        200 => {}
        408 | 429 | 500..=599 => return Err(Failure::Passing(format!("the server answered {status}"))),
        _ => return Err(Failure::Lasting(format!("the server answered {status}"))),
    }
    let total = response.body().content_length();
    let body =
        Counted { body: response.into_body().into_reader(), received: 0, total, stall: settings.stall, progress };
    let url = Path::new(&settings.url);
    let unpacked = visit_archive(body, url, parts, &mut |index, _, contents| {
        let contents = contents.map_err(|problem| bad_file(url, &parts[index], &problem))?;
        write_synced(&fresh.join(parts[index].name), contents)
    });
    unpacked.map_err(|error| match error {
        Error::Data { problem, .. } => Failure::Passing(problem),
        error => Failure::Here(error),
    })
}

fn write_synced(path: &Path, contents: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(contents).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// Moves `fresh` to `target`; what was there goes to `replaced`, and back if that fails.
fn install(fresh: &Path, target: &Path, replaced: &Path) -> Result<()> {
    match fs::rename(target, replaced) {
        Err(e) if e.kind() != ErrorKind::NotFound => return Err(Error::io("replace", target)(e)),
        _ => {}
    }
    fs::rename(fresh, target).map_err(|e| {
        let _ = fs::rename(replaced, target);
        Error::io("create", target)(e)
    })
}

/// A body that reports its progress, and a stall by a clear message.
struct Counted<'a, R> {
    body: R,
    received: u64,
    total: Option<u64>,
    stall: Duration,
    progress: &'a mut dyn FnMut(u64, Option<u64>),
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.body.read(into).map_err(|e| match ureq::Error::from(e) {
            ureq::Error::Timeout(_) => io::Error::other(format!("no byte came for {:?}", self.stall)),
            e => e.into_io(),
        })?;
        self.received += count as u64;
        (self.progress)(self.received, self.total);
        Ok(count)
    }
}

/// The lock on a folder to fetch into; dropping it removes everything unfinished there.
struct Workplace {
    partial: PathBuf,
    lock: PathBuf,
    _locked: File,
}

impl Workplace {
    /// Also removes what a killed fetch has left.
    fn claim(folder: &Path) -> Result<Workplace> {
        let (partial, lock) = (folder.join(PARTIAL), folder.join(LOCK));
        let file = lock_file(&lock).map_err(Error::io("create", &lock))?;
        let free = match file.try_lock() {
            Ok(()) => is_at(&file, &lock),
            Err(TryLockError::WouldBlock) => false,
            // Some network file systems have no locks; fetching without one is better than not at all.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => true,
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &lock)(e)),
        };
        if !free {
            let problem = "another `fewlabel data fetch` is writing into this folder";
            return Err(Error::data(folder, problem, "wait until it is done, then run the command again"));
        }
        match fs::remove_dir_all(&partial) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io("remove", &partial)(e)),
            _ => Ok(Workplace { partial, lock, _locked: file }),
        }
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.partial);
        // Elsewhere `is_at` cannot detect an orphaned lock, so the file stays.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.lock);
        }
    }
}

/// The file that is locked. A link in its place would lead to somebody else's file, and a pipe would be waited for.
fn lock_file(path: &Path) -> io::Result<File> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if !metadata.is_file() => Err(io::Error::other("a link, a folder or a pipe is in its place")),
        _ => File::options().write(true).create(true).truncate(false).open(path),
    }
}

/// Whether `file` is still the one at `path`: a fetch that ends between our opening and locking of the lock file
/// removes it, and our lock would then exclude nobody.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    matches!((file.metadata().map(identity), fs::metadata(path).map(identity)), (Ok(ours), Ok(theirs)) if ours == theirs)
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests;
