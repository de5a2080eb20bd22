//! CIFAR-100 with its fine labels, from the official binary archive, verified before use.
//!
//! A record is a coarse label, a fine label, and an image as in CIFAR-10. The authors publish only the archive's MD5,
//! so the whole archive is checked; this guards against accidents, not malice.

use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use md5::{Digest, Md5};

use super::{Data, Dataset, IMAGE, SIDE};
use crate::error::{Error, Result};
use crate::files;

/// Where the archive is published.
pub const URL: &str = "https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz";
/// File name of the archive.
pub const ARCHIVE: &str = "cifar-100-binary.tar.gz";
/// As published beside [`URL`] (<https://www.cs.toronto.edu/~kriz/cifar.html>).
const MD5: &str = "03b5dce01913d631647c71ecec9e9cb8";

/// The archive has 169 MB.
const MOST_BYTES: u64 = 1 << 28;

const CLASSES: usize = 100;
/// Bytes of a record: two labels and an image.
const RECORD: usize = 2 + IMAGE;
/// Files of the archive: training images, test images, names of the classes.
const FILES: [&str; 3] = ["train.bin", "test.bin", "fine_label_names.txt"];

/// Reads all 50,000 training and 10,000 test images from [`ARCHIVE`] in `folder`.
///
/// # Errors
/// [`Error::Data`] if the archive is missing or not the published one.
pub fn load(folder: &Path) -> Result<Data> {
    load_archive(&folder.join(ARCHIVE), MD5, [50_000, 10_000])
}

fn load_archive(path: &Path, md5: &str, sizes: [usize; 2]) -> Result<Data> {
    let remedy = format!("download {URL} into this folder; --data-dir DIR or FEWLABEL_DATA names another");
    let bad = |problem: String| Error::data(path, problem, &remedy);
    let archive = files::read(path, MOST_BYTES).map_err(|e| bad(format!("cannot be read: {e}")))?;
    let found = files::hex(&Md5::digest(&archive));
    if found != md5 {
        return Err(bad(format!("MD5 is {found}, expected {md5}")));
    }
    let unpacked = |e: std::io::Error| bad(format!("cannot be unpacked: {e}"));
    let mut contents: [Option<Vec<u8>>; 3] = Default::default();
    for entry in tar::Archive::new(GzDecoder::new(&*archive)).entries().map_err(unpacked)? {
        let mut entry = entry.map_err(unpacked)?;
        let path = entry.path_bytes().into_owned();
        let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
        if let Some(index) = FILES.iter().position(|file| file.as_bytes() == name) {
            let mut bytes = vec![];
            entry.read_to_end(&mut bytes).map_err(unpacked)?;
            contents[index] = Some(bytes);
        }
    }
    let missing = |index: usize| bad(format!("{} is missing from the archive", FILES[index]));
    let [train, test, names] = contents;
    let set = |index: usize, bytes: Option<Vec<u8>>| -> Result<Dataset> {
        let bytes = bytes.ok_or_else(|| missing(index))?;
        let expected = sizes[index] * RECORD;
        if bytes.len() != expected {
            return Err(bad(format!("{}: {} bytes long, expected {expected}", FILES[index], bytes.len())));
        }
        let mut set = Dataset { images: Vec::with_capacity(sizes[index] * IMAGE), labels: vec![], side: SIDE };
        for record in bytes.chunks_exact(RECORD) {
            if usize::from(record[1]) >= CLASSES {
                return Err(bad(format!("{}: a label is {}, expected one below {CLASSES}", FILES[index], record[1])));
            }
            set.labels.push(record[1].into());
            set.images.extend_from_slice(&record[2..]);
        }
        Ok(set)
    };
    let (train, test) = (set(0, train)?, set(1, test)?);
    let names = String::from_utf8_lossy(&names.ok_or_else(|| missing(2))?).into_owned();
    let classes: Vec<String> = names.split_whitespace().map(str::to_owned).collect();
    if classes.len() != CLASSES {
        return Err(bad(format!("{}: {} names, expected {CLASSES}", FILES[2], classes.len())));
    }
    Ok(Data { train, test, classes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small archive in the same format, and its MD5.
    fn archive(folder: &Path, train: &[u8], test: &[u8], names: &str) -> (std::path::PathBuf, String) {
        let mut tar = tar::Builder::new(flate2::write::GzEncoder::new(vec![], flate2::Compression::fast()));
        for (name, contents) in FILES.iter().zip([train, test, names.as_bytes()]) {
            let mut header = tar::Header::new_gnu();
            header.set_size(contents.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, format!("cifar-100-binary/{name}"), contents).unwrap();
        }
        let bytes = tar.into_inner().unwrap().finish().unwrap();
        let path = folder.join(ARCHIVE);
        std::fs::write(&path, &bytes).unwrap();
        (path, files::hex(&Md5::digest(&bytes)))
    }

    fn records(labels: &[u8]) -> Vec<u8> {
        let record = |&label: &u8| [vec![label / 5, label], vec![label; IMAGE]].concat();
        labels.iter().flat_map(record).collect()
    }

    fn names(n: usize) -> String {
        (0..n).map(|i| format!("class_{i}\n")).collect()
    }

    #[test]
    fn fine_labels_and_their_names_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let (path, md5) = archive(folder.path(), &records(&[7, 99, 0]), &records(&[42]), &names(100));
        let data = load_archive(&path, &md5, [3, 1]).unwrap();
        assert_eq!((&data.train.labels[..], &data.test.labels[..]), (&[7, 99, 0][..], &[42][..]));
        assert!(data.train.image(1).iter().all(|&pixel| pixel == 99) && data.test.image(0)[5] == 42);
        assert_eq!((&*data.classes[7], data.classes.len()), ("class_7", 100));
    }

    #[test]
    fn any_other_archive_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let of = |train: &[u8], test: &[u8], names: &str, sizes| {
            let (path, md5) = archive(folder.path(), train, test, names);
            load_archive(&path, &md5, sizes).unwrap_err().to_string()
        };
        let (three, one) = (records(&[7, 99, 0]), records(&[42]));
        assert!(of(&three, &one, &names(100), [4, 1]).contains("train.bin: 9222 bytes long, expected 12296"));
        assert!(of(&three, &records(&[100]), &names(100), [3, 1]).contains("test.bin: a label is 100"));
        assert!(of(&three, &one, &names(99), [3, 1]).contains("99 names, expected 100"));
        // A whole one, but not the published one.
        let error = load(folder.path()).unwrap_err();
        assert!(error.to_string().contains("expected 03b5dce0") && error.exit_code() == 2, "{error}");
        assert!(load(&folder.path().join("nowhere")).unwrap_err().to_string().contains(URL));
    }

    #[cfg(unix)]
    #[test]
    fn gigabytes_and_a_pipe_are_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(ARCHIVE);
        let problem = || load(folder.path()).unwrap_err().to_string().lines().next().unwrap().to_owned();
        std::fs::File::create(&path).unwrap().set_len(3 << 30).unwrap();
        assert!(
            problem().ends_with("cannot be read: it has 3221225472 bytes, and 268435456 are the most"),
            "{}",
            problem()
        );
        std::fs::remove_file(&path).unwrap();
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        assert!(problem().ends_with("cannot be read: it is a pipe or a device, not a file"), "{}", problem());
    }
}
