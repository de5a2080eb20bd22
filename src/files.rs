//! Files that are whole or absent: written beside their place, synced, renamed; and their SHA-256.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// How the name of a file begins that is being written.
pub(crate) const UNFINISHED: &str = ".fewlabel-";

/// Replaces `path` with the `parts`, one after the other, so that a reader, a kill or a power cut sees the old file or
/// the new one, whole. Its folder must exist.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write_atomically(path: &Path, parts: &[&[u8]]) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(UNFINISHED);
    #[cfg(unix)]
    {
        // As any new file, cut by the umask; a temporary file alone would be for its owner only.
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

/// Makes a rename inside `folder` durable (a no-op where folders cannot be opened, as on Windows).
pub(crate) fn sync_folder(folder: &Path) -> Result<()> {
    match File::open(folder) {
        Ok(handle) if cfg!(unix) => handle.sync_all().map_err(Error::io("sync", folder)),
        _ => Ok(()),
    }
}

/// SHA-256 of `bytes`, in lower-case hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// `bytes` in lower-case hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
