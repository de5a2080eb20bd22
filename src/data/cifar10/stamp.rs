//! The stamp of a verified folder: the metadata of its files when their contents were verified.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::visit::Part;
use crate::files::{self, write_atomically};

/// File name of the stamp, in the folder that it is about.
pub const NAME: &str = ".fewlabel-verified.json";

/// A stamp has 200 bytes a file.
const MOST: u64 = 64 << 10;

/// What was seen, by file name.
pub type Stamp = BTreeMap<String, Seen>;

/// The stamp of `folder`; empty where it is absent or not ours.
pub fn read(folder: &Path) -> Stamp {
    files::read(&folder.join(NAME), MOST).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

/// Stamps `folder`, if it is writable: the stamp only saves time, so a read-only folder does without.
pub fn write(folder: &Path, stamp: &Stamp) {
    let _ = serde_json::to_vec_pretty(stamp).map(|json| write_atomically(&folder.join(NAME), &[&json]));
}

/// What the operating system says of a file whose contents were verified against `sha256`. It guards against accidents,
/// not malice: every write sets the ctime (which, unlike the mtime, no program can set back) and every copy has an
/// inode of its own. Where neither exists, length and mtime must do.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub struct Seen {
    bytes: u64,
    /// Seconds and nanoseconds since 1970.
    mtime: Option<(i64, i64)>,
    ctime: Option<(i64, i64)>,
    inode: Option<u64>,
    sha256: String,
}

impl Seen {
    #[cfg(unix)]
    pub fn of(metadata: &Metadata, part: &Part) -> Seen {
        use std::os::unix::fs::MetadataExt;
        Seen {
            bytes: metadata.len(),
            mtime: Some((metadata.mtime(), metadata.mtime_nsec())),
            ctime: Some((metadata.ctime(), metadata.ctime_nsec())),
            inode: Some(metadata.ino()),
            sha256: part.sha256.clone(),
        }
    }

    #[cfg(not(unix))]
    pub fn of(metadata: &Metadata, part: &Part) -> Seen {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let mtime = modified.map(|time| (time.as_secs() as i64, i64::from(time.subsec_nanos())));
        Seen { bytes: metadata.len(), mtime, ctime: None, inode: None, sha256: part.sha256.clone() }
    }

    /// Whether `old` saw the same, and so vouches for the contents. Without an mtime there is too little to go by.
    pub fn is_in(&self, old: &Stamp, part: &Part) -> bool {
        self.mtime.is_some() && old.get(part.name) == Some(self)
    }
}
