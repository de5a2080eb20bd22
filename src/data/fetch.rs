//! Downloads CIFAR-10 into a folder, so that afterwards it is there whole and verified, or not at all.
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

/// Everything unfinished lies in this folder, so that one removal clears up after any failure.
const PARTIAL: &str = ".fewlabel-fetch";
const LOCK: &str = ".fewlabel-fetch.lock";

/// Where to download from, and how patiently.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The archive's address; what it sends is verified, so a mirror will do.
    pub url: String,
    /// Tries in all; at least one is made.
    pub attempts: u32,
    /// A try ends after this time without a byte. A slow connection is no stall: there is no limit on the total.
    pub stall: Duration,
    /// Wait before the second try; before the third it is twice as long, and so on.
    pub pause: Duration,
}

impl Default for Fetch {
    fn default() -> Fetch {
        Fetch { url: URL.to_owned(), attempts: 5, stall: Duration::from_secs(30), pause: Duration::from_secs(2) }
    }
}

/// Makes `folder`/[`FOLDER`] exist, verified; creates `folder`. Returns without a download if all is there already (all
/// is hashed, stamp or not) and replaces a damaged one.
///
/// `progress` gets the bytes received in this try and the length of the archive if the server tells. What may pass
/// (connection, stall, truncation, damaged contents, status 408, 429 or 5xx) is tried again.
///
/// # Errors
/// [`Error::Download`] after the last try and for any other answer of the server; [`Error::Usage`] for what is no
/// address; [`Error::Io`] at once for a disk that refuses; [`Error::Data`] for a folder that cannot be made, and where
/// another fetch is at work.
pub fn fetch(folder: &Path, settings: &Fetch, progress: &mut dyn FnMut(u64, Option<u64>)) -> Result<()> {
    fetch_parts(folder, settings, &official(), progress)
}

fn fetch_parts(
    folder: &Path,
    settings: &Fetch,
    parts: &[Part],
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    let cannot = |e| Error::data(folder, format!("this folder cannot be made: {e}"), "choose another with --data-dir");
    fs::create_dir_all(folder).map_err(cannot)?;
    let workplace = Workplace::claim(folder)?;
    let target = folder.join(FOLDER);
    let present = check_parts(&Source::Folder(target.clone()), parts);
    if present.is_ok_and(|files| files.iter().all(|file| file.problem.is_none())) {
        return Ok(());
    }
    let fresh = workplace.partial.join(FOLDER);
    fs::create_dir_all(&fresh).map_err(Error::io("create", &fresh))?;
    let failed = |problem| Error::Download {
        url: settings.url.clone(),
        problem,
        remedy: format!("check the network and try again, or put {ARCHIVE} into {} yourself", folder.display()),
    };
    let mut tried = 1;
    while let Err(failure) = attempt(&fresh, settings, parts, progress) {
        match failure {
            Failure::Passing(_) if tried < settings.attempts => {}
            Failure::Passing(cause) => return Err(failed(format!("{cause} (the last of {tried} tries)"))),
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

/// Why a try ended.
enum Failure {
    /// The network or the server, and it may pass.
    Passing(String),
    /// The network or the server, and it will not pass.
    Lasting(String),
    /// This machine.
    Here(Error),
}

/// Downloads once into the existing folder `fresh`; files of an earlier try are overwritten.
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
            Failure::Here(Error::Usage(format!("{}: this is no address to fetch from: {e}", settings.url)))
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

/// Puts `fresh` in the place of `target`; what was there goes to `replaced`, and back if that fails.
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

/// A body that reports every read, and a stall in words.
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

/// The right to fetch into a folder; when it goes, so does everything unfinished there.
struct Workplace {
    partial: PathBuf,
    lock: PathBuf,
    _locked: File,
}

impl Workplace {
    /// Also clears up what a killed fetch has left behind.
    fn claim(folder: &Path) -> Result<Workplace> {
        let (partial, lock) = (folder.join(PARTIAL), folder.join(LOCK));
        let file = File::create(&lock).map_err(Error::io("create", &lock))?;
        let free = match file.try_lock() {
            Ok(()) => is_at(&file, &lock),
            Err(TryLockError::WouldBlock) => false,
            // Some network file systems have no locks; a fetch there is better than none.
            Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => true,
            Err(TryLockError::Error(e)) => return Err(Error::io("lock", &lock)(e)),
        };
        if !free {
            let problem = "another `fewlabel data fetch` is at work in this folder";
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
        // Elsewhere `is_at` cannot tell an orphaned lock, so there the file stays.
        if cfg!(unix) {
            let _ = fs::remove_file(&self.lock);
        }
    }
}

/// Whether `file` is still the one at `path`: a fetch that ends between our opening and locking the lock file removes
/// it, and then our lock would keep nobody out.
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
