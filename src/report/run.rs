//! A run directory that is reported on, and whether its files are those of its manifest.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::experiment::{Manifest, Stage, history_json};
use crate::files;
use crate::network::Weights;
use crate::text::path_word;

/// Of a manifest, in bytes, at most.
pub const MANIFEST: u64 = 1 << 28;

/// A run directory that is reported on.
pub struct Run {
    /// Part of file names and of anchors in the page: letters, digits and `._-`.
    pub name: String,
    pub folder: PathBuf,
    pub manifest: Manifest,
    /// Of the manifest's bytes.
    pub manifest_sha256: String,
    /// [`Loaded::duplicates`](crate::experiment::Loaded::duplicates), once its images have been read.
    pub duplicates: Vec<String>,
    /// The finished stages, by key, whose weights are not here.
    pub absent: Vec<String>,
    /// The stages, by key, whose test accuracy was computed again for the report.
    pub recomputed: Vec<String>,
    /// Whether each of their metrics is exactly the manifest's.
    pub is_exact: bool,
}

impl Run {
    pub fn new(name: &str, folder: &Path, manifest: Manifest) -> Run {
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c), "-");
        let [duplicates, absent, recomputed] = Default::default();
        let (folder, manifest_sha256) = (folder.to_owned(), String::new());
        Run { name, folder, manifest, manifest_sha256, duplicates, absent, recomputed, is_exact: false }
    }

    fn open(folder: &Path) -> Result<Run> {
        let path = folder.join("manifest.json");
        // Hashed before it is read: where a run replaces it in between, the page counts as stale, and is made again.
        let sha256 = files::read(&path, MANIFEST).map(|bytes| files::sha256(&bytes)).unwrap_or_default();
        let manifest = Manifest::of_folder(folder)?;
        let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let name = name.unwrap_or_else(|| manifest.experiment.name.to_string());
        Ok(Run { manifest_sha256: sha256, ..Run::new(&name, folder, manifest) })
    }

    /// Opens all of them, each under a name of its own.
    pub fn open_all(folders: &[PathBuf]) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = vec![];
        for folder in folders {
            let mut run = Run::open(folder)?;
            let name = run.name.clone();
            for number in 2.. {
                if runs.iter().all(|other| other.name != run.name) {
                    break;
                }
                run.name = format!("{name}-{number}");
            }
            runs.push(run);
        }
        Ok(runs)
    }

    /// If the stage is finished for the experiment's first seed: its key, and whether its weights are here.
    pub fn finished(&self, stage: &Stage) -> Option<(String, bool)> {
        let key = self.manifest.experiment.key(self.manifest.experiment.seed.0, &stage.name);
        let is_here = self.weights_file(&key).exists();
        self.manifest.result.contains_key(&key).then_some((key, is_here))
    }

    /// Whether any stage is finished for the first seed.
    pub fn has_results(&self) -> bool {
        self.manifest.experiment.stages.iter().any(|stage| self.finished(stage).is_some())
    }

    /// The finished stages whose weights of the first seed are gone.
    pub fn without_weights(&self) -> Vec<&str> {
        let is_gone = |stage: &&Stage| self.finished(stage).is_some_and(|(_, is_here)| !is_here);
        self.manifest.experiment.stages.iter().filter(is_gone).map(|stage| &*stage.name).collect()
    }

    /// The stage's weights for the experiment's first seed; none where it is not finished or they are gone.
    pub fn weights(&self, stage: &Stage) -> Result<Option<Weights>> {
        let Some((key, true)) = self.finished(stage) else { return Ok(None) };
        self.manifest.weights(&self.folder, &key, &self.manifest.experiment.network(stage)).map(Some)
    }

    /// Whether its results must have the bits of this program on a CPU: those of a GPU and of another build need not.
    pub fn has_our_bits(&self) -> bool {
        let environment = &self.manifest.environment;
        environment.device == "cpu"
            && environment.fewlabel == env!("CARGO_PKG_VERSION")
            && environment.build.as_deref() == Some(env!("FEWLABEL_BUILD"))
    }

    fn weights_file(&self, key: &str) -> PathBuf {
        self.folder.join(key).join("weights.safetensors")
    }

    /// Compares the weights and histories of every finished stage of every seed with the manifest, and notes whose
    /// weights are not here.
    ///
    /// # Errors
    /// [`Error::Run`] for a file that is not the one recorded.
    pub fn check_files(&mut self) -> Result<()> {
        let experiment = &self.manifest.experiment;
        for job in experiment.plan(&[])? {
            let Some(result) = self.manifest.result.get(&job.key) else { continue };
            let path = self.folder.join(&job.key).join("history.json");
            let history = history_json(&result.history);
            match files::read(&path, history.len() as u64) {
                Ok(bytes) if bytes == history => {}
                Err(e) if e.kind() == ErrorKind::NotFound => {}
                Err(e) if e.kind() != ErrorKind::FileTooLarge => return Err(Error::io("read", &path)(e)),
                _ => {
                    let remedy = format!(
                        "run its experiment again with --out {}: that restores it, and trains nothing",
                        path_word(&self.folder)
                    );
                    return Err(Error::run(&path, "is not the history that the manifest records", remedy));
                }
            }
            if self.weights_file(&job.key).exists() {
                self.manifest.weights(&self.folder, &job.key, &experiment.network(&experiment.stages[job.stage]))?;
            } else {
                self.absent.push(job.key);
            }
        }
        Ok(())
    }
}
