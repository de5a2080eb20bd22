//! Visits the files of a folder or an archive, and checks each.

use std::io::{self, ErrorKind, Read};
use std::path::Path;

use flate2::read::GzDecoder;

use super::stamp::{self, Seen, Stamp};
use super::{ARCHIVE, FOLDER, Source};
use crate::data::{CLASSES, IMAGE};
use crate::error::{Error, Result};
use crate::files::{self, sha256};
use crate::text::{path_word, visible};

/// Bytes of a record: a label and an image.
pub const RECORD: usize = 1 + IMAGE;

/// What to do about the data folder that `place` is, or is in.
pub fn remedy(place: &Path) -> String {
    let is_ours = |path: &&Path| path.ends_with(FOLDER) || path.ends_with(ARCHIVE);
    let home = place.ancestors().find(is_ours).and_then(Path::parent).unwrap_or(place);
    let home = if home.as_os_str().is_empty() { Path::new(".") } else { home };
    format!(
        "`fewlabel data fetch --data-dir {}` downloads CIFAR-10 into it; --data-dir or FEWLABEL_DATA names another folder",
        path_word(home)
    )
}

/// The specification of one file. The official list is [`super::official`]; tests use a smaller one.
pub struct Part {
    pub name: &'static str,
    pub records: usize,
    pub sha256: String,
}

impl Part {
    pub fn bytes(&self) -> u64 {
        (self.records * RECORD) as u64
    }
}

/// An [`Error::Data`] about one file of the folder or archive at `place`.
pub fn bad_file(place: &Path, part: &Part, problem: &str) -> Error {
    Error::data(place, format!("{}: {problem}", part.name), remedy(place))
}

/// For `map_err`: an [`Error::Data`] about a file that cannot be read at all.
fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    |e| Error::data(path, format!("cannot be read: {e}"), remedy(path))
}

/// Called once for each part, in any order: its index, the length found, and its verified contents or what is wrong.
pub type Each<'a> = &'a mut dyn FnMut(usize, u64, std::result::Result<&[u8], String>) -> Result<()>;

/// `trust`: whether a matching stamp in a folder stands for the hash.
pub fn visit(source: &Source, parts: &[Part], trust: bool, each: Each) -> Result<()> {
    match source {
        Source::Folder(folder) => visit_folder(folder, parts, trust, each),
        Source::Archive(path) => visit_archive(files::open(path).map_err(unreadable(path))?, path, parts, each),
    }
}

fn visit_folder(folder: &Path, parts: &[Part], trust: bool, each: Each) -> Result<()> {
    let old = if trust { stamp::read(folder) } else { Stamp::new() };
    let mut new = Stamp::new();
    let mut buffer = buffer_for(parts);
    for (index, part) in parts.iter().enumerate() {
        let path = folder.join(part.name);
        let file = match files::open(&path) {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                each(index, 0, Err("missing".to_owned()))?;
                continue;
            }
            opened => opened.map_err(unreadable(&path))?,
        };
        // Taken before reading and from the handle: a later change or a swapped file makes the stamp wrong, not true.
        let metadata = file.metadata().map_err(Error::io("read", &path))?;
        let seen = Seen::of(&metadata, part);
        let bytes = read(file, metadata.len(), part, &mut buffer).map_err(Error::io("read", &path))?;
        let contents = inspect(part, bytes, &buffer, !seen.is_in(&old, part));
        if contents.is_ok() {
            new.insert(part.name.to_owned(), seen);
        }
        each(index, bytes, contents)?;
    }
    if new.len() == parts.len() && new != old {
        stamp::write(folder, &new);
    }
    Ok(())
}

/// Visits the parts in the gzipped tar `archive` (as much of it as holds them); `place` is for messages. Every fault of
/// the archive, of its reader too, is an [`Error::Data`].
pub fn visit_archive(archive: impl Read, place: &Path, parts: &[Part], each: Each) -> Result<()> {
    let broken =
        |e: io::Error| Error::data(place, format!("cannot be unpacked: {}", visible(&with_causes(&e))), remedy(place));
    // The other files in it are small, so more than this is no CIFAR-10, however well it compresses.
    let limit = 2 * parts.iter().map(Part::bytes).sum::<u64>() + (1 << 20);
    let mut archive = tar::Archive::new(GzDecoder::new(archive).take(limit));
    let mut buffer = buffer_for(parts);
    let mut missing: Vec<usize> = (0..parts.len()).collect();
    // Raw: otherwise long names and the like are read into memory, as long as they claim to be.
    for entry in archive.entries().map_err(broken)?.raw(true) {
        let mut entry = entry.map_err(broken)?;
        let path = entry.path_bytes().into_owned();
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        let wanted = missing.iter().position(|&index| parts[index].name.as_bytes() == name);
        let Some(wanted) = wanted.filter(|_| entry.header().entry_type().is_file()) else { continue };
        let index = missing.remove(wanted);
        let size = entry.size();
        let bytes = read(&mut entry, size, &parts[index], &mut buffer).map_err(broken)?;
        each(index, bytes, inspect(&parts[index], bytes, &buffer, true))?;
        if missing.is_empty() {
            break;
        }
    }
    missing.into_iter().try_for_each(|index| each(index, 0, Err("missing from the archive".to_owned())))
}

/// A buffer for the longest part, of more than 32 MiB, untouched pages of which cost nothing. glibc returns blocks of
/// that size to the system when they are freed; freeing a smaller one, like a file's 31 MB, makes it keep every block
/// up to that size from then on, and the report after a training would add to the training's memory.
fn buffer_for(parts: &[Part]) -> Vec<u8> {
    Vec::with_capacity(parts.iter().map(Part::bytes).max().unwrap_or(0).max(33 << 20) as usize)
}

/// Fills `buffer` from `file` and returns the length found. A file that claims a wrong length is left unread, and no
/// file is read beyond the byte that shows it is too long.
fn read(file: impl Read, claimed: u64, part: &Part, buffer: &mut Vec<u8>) -> io::Result<u64> {
    buffer.clear();
    if claimed != part.bytes() {
        return Ok(claimed);
    }
    Ok(file.take(part.bytes() + 1).read_to_end(buffer)? as u64)
}

fn inspect<'a>(part: &Part, bytes: u64, contents: &'a [u8], hash: bool) -> std::result::Result<&'a [u8], String> {
    if bytes != part.bytes() {
        return Err(format!("{bytes} bytes long, expected {}", part.bytes()));
    }
    let found = hash.then(|| sha256(contents)).filter(|found| *found != part.sha256);
    if let Some(found) = found {
        return Err(format!("SHA-256 is {found}, expected {}", part.sha256));
    }
    let labels = contents.iter().step_by(RECORD);
    match labels.zip(0..).find(|(label, _)| usize::from(**label) >= CLASSES) {
        Some((label, record)) => Err(format!("record {record} has label {label}, expected one below {CLASSES}")),
        None => Ok(contents),
    }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
