//! The run directories in a folder.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{Manifest, table};
use crate::error::{Error, Result};
use crate::suggest::did_you_mean_path;
use crate::text::{count, path_word, shown, visible};

/// A run directory and its manifest.
pub struct PastRun {
    /// The run directory.
    pub folder: PathBuf,
    /// Its manifest, or what is wrong with it.
    pub manifest: Result<Manifest>,
}

/// The run directories directly in `folder`, in the order in which they were written; unreadable ones come first.
///
/// # Errors
/// [`Error::Run`] for a folder that is not there, [`Error::Io`] for one that cannot be read.
pub fn past_runs(folder: &Path) -> Result<Vec<PastRun>> {
    let is_run = |path: &Path| path.join("manifest.json").is_file();
    let remedy = "name the folder that holds the run directories, or run an experiment first: `fewlabel run`";
    if !folder.is_dir() {
        let problem = if folder.exists() {
            "is a file, not a folder".to_owned()
        } else {
            format!("there is no such folder{}", did_you_mean_path(folder, "", Path::is_dir))
        };
        return Err(Error::run(folder, problem, remedy));
    }
    if is_run(folder) {
        let above = folder.parent().filter(|above| !above.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let above = path_word(above);
        return Err(Error::run(
            folder,
            "is a run directory itself",
            format!("list those beside it: `fewlabel runs {above}`"),
        ));
    }
    let mut runs = vec![];
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let folder = entry.map_err(Error::io("read", folder))?.path();
        let path = folder.join("manifest.json");
        if path.exists() {
            runs.push(PastRun { manifest: Manifest::load(&path), folder });
        }
    }
    let written = |run: &PastRun| run.manifest.as_ref().map(|m| m.environment.written.clone()).unwrap_or_default();
    runs.sort_by_key(|run| (written(run), run.folder.clone()));
    Ok(runs)
}

impl PastRun {
    /// How many stages are finished, and how many there are, over the seeds.
    fn progress(manifest: &Manifest) -> (usize, usize) {
        (manifest.result.len(), manifest.experiment.stages.len() * manifest.experiment.seeds.0 as usize)
    }

    /// For scripts: `folder`, `experiment`, `written`, `stages_done`, `stages` (over the seeds), `test_top1` (mean by
    /// stage, shares of 1) and `epoch`, the one that it is of: `chosen` by the validation images, or the `final` one; or
    /// `folder` and `error`.
    pub fn json(&self) -> Value {
        // A path need not be text.
        let folder = self.folder.display().to_string();
        match &self.manifest {
            Err(error) => json!({"folder": folder, "error": error.to_string()}),
            Ok(manifest) => {
                let (done, all) = PastRun::progress(manifest);
                let top1 = |row: &table::Row| row.chosen.or(row.last).map(|estimate| estimate.mean);
                let top1: serde_json::Map<String, Value> =
                    table::rows(manifest).iter().map(|row| (row.stage.clone(), json!(top1(row)))).collect();
                let epoch = if manifest.experiment.validates() { "chosen" } else { "final" };
                json!({"folder": folder, "experiment": manifest.experiment.name, "written":
                    manifest.environment.written, "stages_done": done, "stages": all, "test_top1": top1,
                    "epoch": epoch})
            }
        }
    }
}

impl fmt::Display for PastRun {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let folder = shown(&self.folder);
        let manifest = match &self.manifest {
            Err(error) => return write!(f, "{folder}: {error}"),
            Ok(manifest) => manifest,
        };
        let (done, all) = PastRun::progress(manifest);
        let state = if done == all { "done".to_owned() } else { format!("{done} of {}", count(all, "stage")) };
        write!(f, "{folder}  {}  {state}", visible(&manifest.environment.written))?;
        table::rows(manifest).iter().try_for_each(|row| write!(f, "\n  {}", row.headline()))
    }
}
