//! Bounded reads, atomic writes (a temporary file, synced, then renamed), SHA-256, and JSON maps with unique keys.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::marker::PhantomData;
use std::path::Path;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Prefix of temporary files.
const UNFINISHED: &str = ".fewlabel-";

/// Opens a file to be read. A pipe or a device, which may have nothing to say or no end, is refused.
///
/// # Errors
/// The system's, and one that says what the file is instead.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    // Before it is opened: opening a pipe waits for its other end.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "a folder" } else { "a pipe or a device" };
        return Err(io::Error::other(format!("it is {what}, not a file")));
    }
    File::open(path)
}

/// Reads a file of at most `most` bytes: a longer one is not read, and [`open`] says what is none.
///
/// # Errors
/// Those of [`open`], and one for a file that is too long.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let too_long =
        |n: u64| io::Error::new(io::ErrorKind::FileTooLarge, format!("it has {n} bytes, and {most} are the most"));
    let length = file.metadata()?.len();
    if length > most {
        return Err(too_long(length));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    // It may have grown since, or be one of those whose length the system does not tell.
    let n = file.take(most + 1).read_to_end(&mut bytes)? as u64;
    if n > most { Err(too_long(n)) } else { Ok(bytes) }
}

/// Replaces the file at `path` with the concatenated `parts`. Readers see the old file or the new one, complete, also after
/// a kill or a power cut. Its folder must exist.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write_atomically(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    #[cfg(unix)]
    {
        // Subject to the umask like any new file; temporary files are private to their owner by default.
        use std::os::unix::fs::PermissionsExt;
        builder.permissions(std::fs::Permissions::from_mode(0o666));
    }
    let mut file = builder.tempfile_in(folder).map_err(Error::io("create a file in", folder))?;
    for part in parts {
        file.write_all(part).map_err(Error::io("write", path))?;
    }
    file.as_file().sync_all().map_err(Error::io("sync", path))?;
    file.persist(path).map_err(|e| Error::Io { action: "replace", path: path.to_owned(), source: e.error })?;
    sync_folder(folder)
}

/// Removes temporary files that a killed process left in `folder`. Nobody else may be writing into it.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn sweep(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        // A file, no link: whatever else has such a name is not ours.
        let is_file = entry.file_type().is_ok_and(|of| of.is_file());
        if is_file && entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            remove_if_there(&entry.path())?;
        }
    }
    Ok(())
}

/// An empty file of its own name in `folder`, until it is dropped.
pub(crate) fn mark(folder: &Path) -> Result<tempfile::NamedTempFile> {
    let file = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder);
    file.map_err(Error::io("create a file in", folder))
}

/// Removes a file if it exists.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn remove_if_there(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes a rename inside `folder` durable (a no-op where folders cannot be opened, as on Windows).
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    match File::open(folder) {
        Ok(handle) if cfg!(unix) => handle.sync_all().map_err(Error::io("sync", folder)),
        _ => Ok(()),
    }
}

/// Whether both paths lead to the same existing file or folder.
pub fn is_same(a: &Path, b: &Path) -> bool {
    a.canonicalize().is_ok_and(|a| b.canonicalize().is_ok_and(|b| a == b))
}

/// SHA-256 of `bytes`, in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// `bytes` in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads a map with unique keys. JSON readers differ in which of two values they keep, so a duplicate is an error.
pub(crate) fn unique<'de, D: Deserializer<'de>, V: Deserialize<'de>>(
    deserializer: D,
) -> std::result::Result<BTreeMap<String, V>, D::Error> {
    struct Unique<V>(PhantomData<V>);

    impl<'de, V: Deserialize<'de>> Visitor<'de> for Unique<V> {
        type Value = BTreeMap<String, V>;

        fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
            f.write_str("a map")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> std::result::Result<Self::Value, A::Error> {
            let mut map = BTreeMap::new();
            while let Some((key, value)) = entries.next_entry()? {
                if let Some(twice) = map.contains_key(&key).then(|| format!("duplicate key `{key}`")) {
                    return Err(A::Error::custom(twice));
                }
                map.insert(key, value);
            }
            Ok(map)
        }
    }

    deserializer.deserialize_map(Unique(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_ends_at_its_limit_and_never_waits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        assert_eq!(read(&path, 3).unwrap_err().to_string(), "it has 4 bytes, and 3 are the most");
        // Sparse: 3 GB that nobody could read at once.
        File::create(&path).unwrap().set_len(3 << 30).unwrap();
        assert_eq!(read(&path, 1 << 20).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read(folder.path(), 9).unwrap_err().to_string(), "it is a folder, not a file");
        assert_eq!(read(&folder.path().join("none"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);
        #[cfg(unix)]
        assert!(read("/dev/zero".as_ref(), 9).unwrap_err().to_string().contains("a pipe or a device"));
    }

    #[test]
    fn a_key_that_comes_twice_is_an_error() {
        let read = |json: &str| unique::<_, u8>(&mut serde_json::Deserializer::from_str(json));
        assert_eq!(read(r#"{"a": 1, "b": 2}"#).unwrap(), [("a".to_owned(), 1), ("b".to_owned(), 2)].into());
        assert!(read(r#"{"a": 1, "b": 2, "a": 1}"#).unwrap_err().to_string().starts_with("duplicate key `a`"));
        let record = r#"{"epoch": 1, "test_top1": 0.9, "test_top1": 0.1}"#;
        let error = serde_json::from_str::<crate::train::Record>(record).unwrap_err().to_string();
        assert!(error.starts_with("duplicate key `test_top1`"), "{error}");
    }
}
