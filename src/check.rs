//! A read-only look over a run directory: every hash, and every relation between its files.
//!
//! It finds damage, and edits that leave a hash or another file behind. It proves nothing of who made the files: whoever
//! changes all of them and their hashes can pass. Only `verify`, which runs the experiment again, finds that out.

use std::io::ErrorKind;
use std::path::Path;

use walkdir::WalkDir;

use crate::error::Result;
use crate::experiment::{FILES, Manifest, history_json, is_locked};
use crate::report;
use crate::sums::{self, Sums};
use crate::text::{count, shown, visible};
use crate::train::Progress;

/// What [`check_run`] has found.
#[derive(Debug)]
pub struct Checked {
    /// What is not as a run leaves it, a line each.
    pub faults: Vec<String>,
    /// What could not be checked, and what is there besides, a line each.
    pub notes: Vec<String>,
    /// What was checked, and what that says.
    pub checked: String,
}

/// Looks over the run directory `folder`: the manifest and its hashes, `SHA256SUMS`, every stage's history and weights,
/// checkpoints, the report.
///
/// # Errors
/// [`crate::Error::Run`] for a folder without a manifest that can be read.
pub fn check_run(folder: &Path) -> Result<Checked> {
    let manifest = Manifest::of_folder(folder)?;
    let mut faults = vec![];
    let mut notes = vec![];
    let listed = match sums::read(folder) {
        Ok(sums) => {
            check_sums(folder, &sums, &mut faults);
            others(folder, &sums, &mut faults, &mut notes);
            Some(sums.len())
        }
        Err(e) if e.kind() == ErrorKind::NotFound => {
            notes.push(format!(
                "there is no {}: the run was interrupted, or is of an earlier version, and nothing vouches for log.txt \
                 and the report's files",
                sums::FILE
            ));
            None
        }
        Err(e) => {
            faults.push(format!("{}: {e}", sums::FILE));
            None
        }
    };
    let jobs = manifest.experiment.plan(&[])?;
    for job in &jobs {
        let stage = &manifest.experiment.stages[job.stage];
        let network = manifest.experiment.network(stage);
        let place = folder.join(&job.key);
        if let Some(result) = manifest.result.get(&job.key) {
            if let Err(error) = manifest.weights(folder, &job.key, &network) {
                faults.push(first_line(&error));
            }
            let history = history_json(&result.history);
            let path = place.join("history.json");
            match crate::files::read(&path, history.len() as u64) {
                Ok(bytes) if bytes == history => {}
                Ok(_) => faults.push(format!("{}: is not the history in the manifest", shown(&path))),
                Err(e) => faults.push(format!("{}: cannot be read: {e}", shown(&path))),
            }
        }
        let checkpoint = place.join("checkpoint");
        if let (true, Some(recipe)) = (checkpoint.exists(), manifest.experiment.of_seed(job.seed).recipe(stage)) {
            let read = crate::files::read(&checkpoint, Progress::most_bytes(&recipe)).map_err(|e| e.to_string());
            let owner = manifest.checkpoint_owner(&job.key);
            if let Err(why) = read.and_then(|bytes| Progress::from_bytes(&bytes, &owner, &network)) {
                faults.push(format!("{}: {why}", shown(&checkpoint)));
            }
        }
    }
    if folder.join("report.html").exists() && !report::is_fresh(folder) {
        notes.push("the report is not whole, or not of this manifest: `fewlabel report` writes it again".to_owned());
    }
    if is_locked(folder) {
        notes.push("a run is writing into it".to_owned());
    }
    let (done, all) = (manifest.result.len(), count(jobs.len(), "stage"));
    let files = listed.map_or(String::new(), |n| format!("; {} as {} says", count(n, "file"), sums::FILE));
    let checked = format!(
        "whole: {done} of {all} of {}{files}\nNothing is damaged. Whether the results are true, `fewlabel verify` finds out.",
        manifest.experiment.name
    );
    Ok(Checked { faults, notes, checked })
}

/// Files that differ from their hash, or are gone.
fn check_sums(folder: &Path, sums: &Sums, faults: &mut Vec<String>) {
    for (path, expected) in sums {
        let file = folder.join(path);
        let link = file.ancestors().take_while(|part| *part != folder).find(|part| part.is_symlink());
        match (link, sums::hash(&file)) {
            (Some(link), _) => faults.push(format!("{}: is a link", shown(link))),
            (None, Ok(found)) if found == *expected => {}
            (None, Ok(_)) => faults.push(format!("{}: was changed: its SHA-256 is another", shown(&file))),
            (None, Err(e)) => faults.push(format!("{}: cannot be read: {e}", shown(&file))),
        }
    }
    if !sums.contains_key("manifest.json") {
        faults.push(format!("{}: lacks manifest.json", sums::FILE));
    }
}

/// What lies in the folder beside the listed files: a stage's files and a longer lock are faults, all else is the user's.
fn others(folder: &Path, sums: &Sums, faults: &mut Vec<String>, notes: &mut Vec<String>) {
    let mut more = 0;
    for entry in WalkDir::new(folder).min_depth(1).max_depth(4).sort_by_file_name().into_iter().flatten() {
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let name = path.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
        if entry.file_type().is_dir() || sums.contains_key(&name) || name == sums::FILE {
            continue;
        }
        if name == ".lock" {
            if entry.metadata().is_ok_and(|lock| lock.len() > 0) {
                faults.push(".lock: is not empty".to_owned());
            }
        } else if entry.depth() > 1 && FILES.iter().any(|file| entry.file_name() == *file) {
            faults.push(format!("{}: is not in {}", visible(&name), sums::FILE));
        } else {
            more += 1;
            if more <= 10 {
                notes.push(format!("{}: not of the run", visible(&name)));
            }
        }
    }
    if more > 10 {
        notes.push(format!("and {} more files that are not of the run", more - 10));
    }
}

/// A fault is a line; what to do about it is one thing for all of them.
fn first_line(error: &crate::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().to_owned()
}
