//! A read-only look over a run directory: every hash, and every relation between its files.
//!
//! It finds damage, and edits that leave a hash or another file behind. It proves nothing of who made the files: whoever
//! changes all of them and their hashes can pass. Only `verify`, which runs the experiment again, finds that out.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::Path;

use walkdir::WalkDir;

use crate::error::Result;
use crate::experiment::{FILES, Manifest, checkpoint_owner, history_json, is_locked};
use crate::report;
use crate::sums::{self, Sums};
use crate::text::{count, shown, visible};
use crate::train::Progress;

/// What [`check_run`] has found.
#[derive(Debug)]
pub struct Checked {
    /// What is not as a run leaves it, a line for each file.
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
    let mut faults = Faults::default();
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
            faults.add(sums::FILE, e);
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
                let (path, why) = (shown(&place.join("weights.safetensors")), first_line(&error));
                faults.add(&path, why.strip_prefix(&format!("{path}: ")).unwrap_or(&why));
            }
            let history = history_json(&result.history);
            let path = place.join("history.json");
            match crate::files::read(&path, history.len() as u64) {
                Ok(bytes) if bytes == history => {}
                Ok(_) => faults.add(&shown(&path), "is not the history in the manifest"),
                Err(e) => faults.add(&shown(&path), format_args!("cannot be read: {e}")),
            }
        }
        let checkpoint = place.join("checkpoint");
        if let (true, Some(recipe)) = (checkpoint.exists(), manifest.experiment.of_seed(job.seed).recipe(stage)) {
            let read = crate::files::read(&checkpoint, Progress::most_bytes(&recipe)).map_err(|e| e.to_string());
            let owner = checkpoint_owner(&manifest.experiment_sha256, &job.key);
            if let Err(why) = read.and_then(|bytes| Progress::from_bytes(&bytes, &owner, &network)) {
                faults.add(&shown(&checkpoint), why);
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
    Ok(Checked { faults: faults.lines(), notes, checked })
}

/// What is wrong, by file.
#[derive(Default)]
struct Faults(BTreeMap<String, Vec<String>>);

impl Faults {
    fn add(&mut self, file: &str, problem: impl Display) {
        self.0.entry(file.to_owned()).or_default().push(problem.to_string());
    }

    /// A line for each file.
    fn lines(self) -> Vec<String> {
        self.0.into_iter().map(|(file, problems)| format!("{file}: {}", problems.join("; "))).collect()
    }
}

/// Files that differ from their hash, or are gone.
fn check_sums(folder: &Path, sums: &Sums, faults: &mut Faults) {
    for (path, expected) in sums {
        let file = folder.join(path);
        let link = file.ancestors().take_while(|part| *part != folder).find(|part| part.is_symlink());
        match (link, sums::hash(&file)) {
            (Some(link), _) => faults.add(&shown(link), "is a link"),
            (None, Ok(found)) if found == *expected => {}
            (None, Ok(_)) => faults.add(&shown(&file), "was changed: its SHA-256 is another"),
            (None, Err(e)) => faults.add(&shown(&file), format_args!("cannot be read: {e}")),
        }
    }
    if !sums.contains_key("manifest.json") {
        faults.add(sums::FILE, "lacks manifest.json");
    }
}

/// What lies in the folder beside the listed files: a stage's files and a longer lock are faults, all else is the user's.
fn others(folder: &Path, sums: &Sums, faults: &mut Faults, notes: &mut Vec<String>) {
    let mut more = 0;
    for entry in WalkDir::new(folder).min_depth(1).max_depth(4).sort_by_file_name().into_iter().flatten() {
        let path = entry.path().strip_prefix(folder).unwrap_or(entry.path());
        let name = path.to_string_lossy().replace(std::path::MAIN_SEPARATOR, "/");
        if entry.file_type().is_dir() || sums.contains_key(&name) || name == sums::FILE {
            continue;
        }
        if name == ".lock" {
            if entry.metadata().is_ok_and(|lock| lock.len() > 0) {
                faults.add(".lock", "is not empty");
            }
        } else if entry.depth() > 1 && FILES.iter().any(|file| entry.file_name() == *file) {
            faults.add(&shown(entry.path()), format_args!("is not in {}", sums::FILE));
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
