//! CIFAR-10 in its official binary layout, from a folder or from the archive, verified before use.
//!
//! A file is a row of records, each 1 label byte and [`IMAGE`] pixel bytes (red, green, blue plane; row by row).
//! Figures are comparable only if they come from the same images in the same order, so every file must have its
//! exact length and SHA-256. A folder that was verified once carries a stamp and is hashed again only after a change.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use self::visit::{Part, RECORD, bad_file, remedy, visit};
use super::{CLASSES, Data, Dataset, IMAGE, SIDE};
use crate::error::{Error, Result};
use crate::text::shown;

mod stamp;
pub(super) mod visit;

/// Where the archive is published.
pub const URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
/// File name of the archive.
pub const ARCHIVE: &str = "cifar-10-binary.tar.gz";
/// Name of the folder that the archive holds.
pub const FOLDER: &str = "cifar-10-batches-bin";
/// Names of the version for Python, which is not read.
const PYTHON: [&str; 2] = ["cifar-10-python.tar.gz", "cifar-10-batches-py"];
/// The environment variable that names the folder in which [`FOLDER`] or [`ARCHIVE`] lies.
pub const VARIABLE: &str = "FEWLABEL_DATA";
/// The data files with their SHA-256: the training set in order, then the test set; 10,000 records each.
pub const FILES: [(&str, &str); 6] = [
    ("data_batch_1.bin", "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5"),
    ("data_batch_2.bin", "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed"),
    ("data_batch_3.bin", "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67"),
    ("data_batch_4.bin", "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48"),
    ("data_batch_5.bin", "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add"),
    ("test_batch.bin", "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b"),
];

/// By label, as in the archive's `batches.meta.txt`.
pub const CLASS_NAMES: [&str; CLASSES] =
    ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"];

const RECORDS: usize = 10_000;

/// [`FILES`] with their lengths; the last one is the test set.
pub(super) fn official() -> Vec<Part> {
    FILES.iter().map(|&(name, sha256)| Part { name, records: RECORDS, sha256: sha256.to_owned() }).collect()
}

/// Where the data lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// An unpacked folder, [`FOLDER`].
    Folder(PathBuf),
    /// The gzipped tar archive, [`ARCHIVE`]; read as it is, nothing is unpacked on the disk.
    Archive(PathBuf),
}

impl Source {
    /// The folder or the archive.
    pub fn path(&self) -> &Path {
        match self {
            Source::Folder(path) | Source::Archive(path) => path,
        }
    }
}

/// The folder that should hold [`FOLDER`] or [`ARCHIVE`], and the setting that says so: `data_dir` (the option
/// `--data-dir`), else the variable [`VARIABLE`], else `data`.
pub fn data_folder(data_dir: Option<&Path>) -> (PathBuf, &'static str) {
    choose(data_dir, std::env::var_os(VARIABLE))
}

fn choose(data_dir: Option<&Path>, variable: Option<OsString>) -> (PathBuf, &'static str) {
    match (data_dir, variable.filter(|value| !value.is_empty())) {
        (Some(folder), _) => (folder.to_owned(), "named by --data-dir"),
        (None, Some(folder)) => (folder.into(), "named by FEWLABEL_DATA"),
        (None, None) => ("data".into(), "the default"),
    }
}

/// [`data_folder`] for CIFAR-10: the folder above, where [`FOLDER`] or [`ARCHIVE`] itself is named.
pub fn home(data_dir: Option<&Path>) -> (PathBuf, &'static str) {
    let (place, setting) = data_folder(data_dir);
    let is_itself =
        place.ends_with(FOLDER) && !place.join(FOLDER).exists() || place.ends_with(ARCHIVE) && place.is_file();
    match place.parent().filter(|_| is_itself) {
        Some(parent) if parent == Path::new("") => (".".into(), setting),
        Some(parent) => (parent.to_owned(), setting),
        None => (place, setting),
    }
}

/// Finds the data in [`home`]: the folder if all files are there in their length, else the archive, else the folder as
/// it is. Contents are not looked at.
///
/// # Errors
/// [`Error::Data`], which says where it looked and why there.
pub fn locate(data_dir: Option<&Path>) -> Result<Source> {
    let (place, setting) = home(data_dir);
    let (folder, archive) = (place.join(FOLDER), place.join(ARCHIVE));
    if folder.is_dir() && (incomplete(&folder, &official()).is_empty() || !archive.is_file()) {
        return Ok(Source::Folder(folder));
    }
    if archive.is_file() {
        return Ok(Source::Archive(archive));
    }
    let mut problem = match place.exists() {
        true => format!("this folder, {setting}, holds neither {FOLDER} nor {ARCHIVE}"),
        false => format!("there is no such folder ({setting}), which should hold {FOLDER} or {ARCHIVE}"),
    };
    if let Some(python) = PYTHON.iter().find(|name| place.join(name).exists() || place.ends_with(name)) {
        problem += &format!("; {python} is the Python version: the binary version is needed");
    }
    Err(Error::data(&place, problem, remedy(&place)))
}

/// What is wrong with the folder in whose place an archive is read; none where there is no folder.
pub fn passed_over(source: &Source) -> Option<String> {
    let Source::Archive(archive) = source else { return None };
    let folder = archive.with_file_name(FOLDER);
    let files = incomplete(&folder, &official()).join(", ");
    folder.is_dir().then(|| format!("{} is incomplete ({files}): {ARCHIVE} is read instead", shown(&folder)))
}

/// Files that are missing from the folder or have another length: "test_batch.bin missing".
fn incomplete(folder: &Path, parts: &[Part]) -> Vec<String> {
    let problem = |part: &Part| match folder.join(part.name).metadata() {
        Ok(metadata) if metadata.len() == part.bytes() => None,
        Ok(metadata) => Some(format!("{} {} of {} bytes", part.name, metadata.len(), part.bytes())),
        Err(_) => Some(format!("{} missing", part.name)),
    };
    parts.iter().filter_map(problem).collect()
}

/// Reads all 50,000 training and 10,000 test images (184 MB; while reading, one file of 31 MB more). Leaves a stamp in
/// a folder that it may write into.
///
/// # Errors
/// [`Error::Data`] names the file that is missing, of a wrong length, changed or not unpackable; [`Error::Io`] for a
/// fault while reading.
pub fn load(source: &Source) -> Result<Data> {
    if let Source::Folder(folder) = source {
        let files = incomplete(folder, &official());
        if !files.is_empty() {
            return Err(Error::data(folder, format!("is incomplete: {}", files.join(", ")), remedy(folder)));
        }
    }
    load_parts(source, &official())
}

fn load_parts(source: &Source, parts: &[Part]) -> Result<Data> {
    let zeros = |n: usize| Dataset { images: vec![0; n * IMAGE], labels: vec![0; n], side: SIDE };
    let last = parts.len() - 1;
    let records = |parts: &[Part]| parts.iter().map(|part| part.records).sum();
    let classes = CLASS_NAMES.map(str::to_owned).to_vec();
    let mut data = Data { train: zeros(records(&parts[..last])), test: zeros(parts[last].records), classes };
    visit(source, parts, true, &mut |index, _, contents| {
        let contents = contents.map_err(|problem| bad_file(source.path(), &parts[index], &problem))?;
        // An archive holds its files in any order, so each goes to its place instead of to the end.
        let (set, first) =
            if index == last { (&mut data.test, 0) } else { (&mut data.train, records(&parts[..index])) };
        for (at, record) in (first..).zip(contents.chunks_exact(RECORD)) {
            set.labels[at] = record[0].into();
            set.images[at * IMAGE..][..IMAGE].copy_from_slice(&record[1..]);
        }
        Ok(())
    })?;
    Ok(data)
}

/// What [`check`] found out about one of [`FILES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileReport {
    /// As in [`FILES`].
    pub name: &'static str,
    /// Length found; 0 if the file is missing.
    pub bytes: u64,
    /// What is wrong with the file; `None` if it is the official one, byte for byte.
    pub problem: Option<String>,
}

/// Hashes every file, whatever a stamp says, and reports on each in the order of [`FILES`].
///
/// # Errors
/// [`Error::Data`] for a file that cannot be opened or an archive that cannot be unpacked, [`Error::Io`] for a fault
/// while reading. What is wrong with a file's contents is in its report.
pub fn check(source: &Source) -> Result<Vec<FileReport>> {
    check_parts(source, &official())
}

pub(super) fn check_parts(source: &Source, parts: &[Part]) -> Result<Vec<FileReport>> {
    let mut reports: Vec<_> = parts.iter().map(|p| FileReport { name: p.name, bytes: 0, problem: None }).collect();
    visit(source, parts, false, &mut |index, bytes, contents| {
        (reports[index].bytes, reports[index].problem) = (bytes, contents.err());
        Ok(())
    })?;
    Ok(reports)
}

#[cfg(test)]
pub(super) mod tests;
