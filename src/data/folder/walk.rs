//! Which files of a folder are images of which class, and which are passed over, and why.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use walkdir::{DirEntry, WalkDir};

use super::REMEDY;
use crate::error::{Error, Result};

/// The endings of files that are images, in lower case; what a file is, its contents decide.
const ENDINGS: [&str; 15] =
    ["png", "jpg", "jpeg", "jpe", "jfif", "bmp", "gif", "webp", "tif", "tiff", "pbm", "pgm", "ppm", "pnm", "pam"];

/// Why a link is passed over that would lead round in circles, or to everything beside the data set.
const UP: &str = "link to a folder above it";

/// Paths that are not read, relative to the folder, by the reason.
pub type PassedOver = BTreeMap<String, Vec<PathBuf>>;

/// The class folders of `train` or `test`, by name, each with its images: paths relative to the data set's folder, in
/// order, folder by folder.
pub type Classes = Vec<(String, Vec<PathBuf>)>;

/// Finds the images in `root/name`. Links are followed.
pub fn part(root: &Path, name: &str, passed_over: &mut PassedOver) -> Result<Classes> {
    let mut classes = Classes::new();
    let mut pass = |why: String, path: &Path| passed_over.entry(why).or_default().push(relative(root, path));
    let mut entries = WalkDir::new(root.join(name)).min_depth(1).follow_links(true).sort_by_file_name().into_iter();
    while let Some(entry) = entries.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                let path = error.path().unwrap_or(root).to_owned();
                if error.loop_ancestor().is_some() {
                    pass(UP.to_owned(), &path);
                } else if path.is_symlink() && !path.exists() {
                    pass("link to nothing".to_owned(), &path);
                } else {
                    let problem = error.into_io_error().map_or("is a loop".to_owned(), |e| e.to_string());
                    return Err(Error::data(&path, format!("cannot be read: {problem}"), REMEDY));
                }
                continue;
            }
        };
        let is_folder = entry.file_type().is_dir();
        if is_hidden(&entry) {
            pass("hidden".to_owned(), entry.path());
            if is_folder {
                entries.skip_current_dir();
            }
        } else if is_folder && leads_up(&entry) {
            pass(UP.to_owned(), entry.path());
            entries.skip_current_dir();
        } else if is_folder {
            if entry.depth() == 1 {
                let name = entry.file_name().to_str();
                let name = name.ok_or_else(|| Error::data(entry.path(), "has a name that is not text", "rename it"))?;
                classes.push((name.to_owned(), vec![]));
            }
        } else if entry.depth() == 1 {
            pass("beside the class folders".to_owned(), entry.path());
        } else if let Some(why) = why_no_image(&entry) {
            pass(why, entry.path());
        } else if let Some((_, images)) = classes.last_mut() {
            images.push(relative(root, entry.path()));
        }
    }
    Ok(classes)
}

/// Passes over what lies beside `train` and `test`.
pub fn beside(root: &Path, passed_over: &mut PassedOver) {
    let entries = WalkDir::new(root).min_depth(1).max_depth(1).sort_by_file_name();
    for entry in
        entries.into_iter().flatten().filter(|entry| entry.file_name() != "train" && entry.file_name() != "test")
    {
        let why = if is_hidden(&entry) { "hidden" } else { "beside train and test" };
        passed_over.entry(why.to_owned()).or_default().push(relative(root, entry.path()));
    }
}

fn relative(root: &Path, path: &Path) -> PathBuf {
    path.strip_prefix(root).unwrap_or(path).to_owned()
}

/// Whether the folder is a link to one that it lies in, by whatever way.
fn leads_up(folder: &DirEntry) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    let place = folder.path().parent().and_then(real);
    folder.path_is_symlink() && place.zip(real(folder.path())).is_some_and(|(place, target)| place.starts_with(target))
}

fn is_hidden(entry: &DirEntry) -> bool {
    entry.file_name().as_encoded_bytes().starts_with(b".")
}

fn why_no_image(file: &DirEntry) -> Option<String> {
    // A pipe would be waited for.
    if !file.file_type().is_file() {
        return Some("neither a file nor a folder".to_owned());
    }
    match file.path().extension().map(OsStr::to_ascii_lowercase) {
        Some(ending) if ENDINGS.iter().any(|known| ending == *known) => None,
        Some(ending) => Some(format!("ending .{}", ending.display())),
        None => Some("no ending".to_owned()),
    }
}
