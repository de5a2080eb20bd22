//! `SHA256SUMS`: the hashes of a run directory's files, in the format of `sha256sum`, which can check them too.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::{Component, Path};

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};
use crate::files;

/// Its name.
pub(crate) const FILE: &str = "SHA256SUMS";
/// The longest that is read, in bytes: a line is at most about 200, and a report has a few hundred files.
const MOST: u64 = 64 << 20;

/// Hashes by path, relative to the folder, with `/` between its parts.
pub(crate) type Sums = BTreeMap<String, String>;

/// Writes the hashes of those of `paths`, relative to `folder`, that are files.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write(folder: &Path, paths: impl Iterator<Item = String>) -> Result<()> {
    let mut sums = Sums::new();
    for path in paths {
        let file = folder.join(&path);
        if file.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            let hash = hash(&file).map_err(Error::io("read", &file))?;
            sums.insert(path, hash);
        }
    }
    let lines: String = sums.iter().map(|(path, hash)| format!("{hash}  {path}\n")).collect();
    files::write_atomically(&folder.join(FILE), &[lines.as_bytes()])
}

/// Which of the files that the run itself writes last are not as `SHA256SUMS` says: nothing else vouches for all of them.
pub(crate) fn changed(folder: &Path) -> Vec<&'static str> {
    let Ok(sums) = read(folder) else { return vec![] };
    let differs =
        |name: &&str| sums.get(*name).is_some_and(|said| hash(&folder.join(name)).ok().as_ref() != Some(said));
    ["manifest.json", "log.txt"].into_iter().filter(differs).collect()
}

/// Reads what [`write()`] has written, or says what is wrong with it.
pub(crate) fn read(folder: &Path) -> io::Result<Sums> {
    if folder.join(FILE).is_symlink() {
        return Err(io::Error::other("is a link"));
    }
    let bytes = files::read(&folder.join(FILE), MOST)?;
    let text = String::from_utf8(bytes).map_err(|_| io::Error::other("it is not text"))?;
    let mut sums = Sums::new();
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        let bad = || io::Error::other(format!("line {number} is not a SHA-256, two spaces and a path of its own"));
        let (hash, path) = line.strip_suffix('\n').and_then(entry).ok_or_else(bad)?;
        if !stays_inside(path) || sums.insert(path.to_owned(), hash.to_owned()).is_some() {
            return Err(bad());
        }
    }
    Ok(sums)
}

/// The SHA-256 and the path in a line as `sha256sum` writes it.
pub(crate) fn entry(line: &str) -> Option<(&str, &str)> {
    let is_hash = |hash: &str| hash.len() == 64 && hash.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    line.split_once("  ").filter(|(hash, _)| is_hash(hash))
}

/// Whether a path leads to something below its folder, as far as its text tells.
fn stays_inside(path: &str) -> bool {
    let mut parts = Path::new(path).components();
    !path.is_empty() && parts.all(|part| matches!(part, Component::Normal(_)))
}

/// SHA-256 of a file, in lower-case hexadecimal, read in pieces.
pub(crate) fn hash(path: &Path) -> io::Result<String> {
    let (mut file, mut hash, mut piece) = (files::open(path)?, Sha256::new(), vec![0; 1 << 16]);
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(files::hex(&hash.finalize())),
            n => hash.update(&piece[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_come_back_and_any_other_text_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path();
        std::fs::create_dir(place.join("a")).unwrap();
        std::fs::write(place.join("a/b"), "abc").unwrap();
        write(place, ["a/b", "a", "none"].map(str::to_owned).into_iter()).unwrap();
        // FIPS 180-2, appendix B.1; the line is what `sha256sum a/b` of coreutils prints.
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(std::fs::read_to_string(place.join(FILE)).unwrap(), format!("{abc}  a/b\n"));
        assert_eq!(read(place).unwrap(), [("a/b".to_owned(), abc.to_owned())].into());
        for bad in [
            format!("{abc}  a/b"),
            format!("{abc}  ../b\n"),
            format!("{abc}  /etc/passwd\n"),
            format!("{abc}  a/b\n{abc}  a/b\n"),
            format!("{abc} a/b\n"),
            format!("{}  a/b\n", abc.to_uppercase()),
            format!("{}  a/b\n", &abc[1..]),
            format!("{abc}  \n"),
            "\n".to_owned(),
        ] {
            std::fs::write(place.join(FILE), &bad).unwrap();
            assert!(read(place).is_err(), "{bad}");
        }
    }
}
