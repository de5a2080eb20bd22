//! `manifest.json`: the experiment, its result, and the environment it ran in.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::Experiment;
use crate::data::ClassCount;
use crate::error::{Error, Result};
use crate::files::{self, unique};
use crate::network::{Network, Weights};
use crate::suggest::did_you_mean_path;
use crate::text::{path_word, visible};
use crate::train::{Record, Trained};

/// The longest manifest that is read, in bytes: that of a thousand seeds of the study has about 60 MB.
const MOST: u64 = 256 << 20;
/// What to do about a damaged manifest.
const FROM_SOURCE: &str = "restore it from a copy, or run its experiment again into another folder";

/// `experiment` and `result` have the same bits for the same experiment; all that may differ is in `environment`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Complete.
    pub experiment: Experiment,
    /// [`Experiment::sha256`].
    pub experiment_sha256: String,
    /// The data set's classes by label; empty before the data is read, and in manifests of earlier versions. No part of
    /// what `verify` compares.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<ClassCount>,
    /// Of the finished jobs, by [`Job::key`](super::Job::key): the stage, below `seed-…` where there are several seeds.
    #[serde(deserialize_with = "unique")]
    pub result: BTreeMap<String, StageResult>,
    /// SHA-256 of each result as JSON, so that no part of it changes alone; empty in manifests of earlier versions.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub result_sha256: BTreeMap<String, String>,
    /// Where and when it was run.
    pub environment: Environment,
}

/// What a finished stage gave.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StageResult {
    /// The last epoch's metrics.
    #[serde(rename = "final")]
    pub last: Record,
    /// The epoch with the highest `test_top1`, the first of several: chosen by looking at the test set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak: Option<Record>,
    /// The epoch that the validation images chose, else the last, with the one look at the test images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chosen: Option<Record>,
    /// [`crate::network::Weights::sha256`].
    pub weights_sha256: String,
    /// Of `history.json`.
    pub history_sha256: String,
    /// Every epoch. `verify` does without it: the hash tells whether it differs, though not where.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub history: Vec<Record>,
}

impl StageResult {
    /// What stands for the stage on the test images: the epoch that validation chose, else the last.
    pub fn tested(&self) -> &Record {
        self.chosen.as_ref().unwrap_or(&self.last)
    }

    /// The test accuracy that stands for the stage: of [`StageResult::tested`].
    pub fn top1(&self) -> Option<f64> {
        self.tested().metrics.get("test_top1").copied()
    }

    /// Of what training gave: last epoch, best epoch, hashes. None without a history.
    pub fn new(trained: &Trained) -> Option<StageResult> {
        let Trained { history, chosen, weights } = trained;
        Some(StageResult {
            last: history.last()?.clone(),
            peak: peak(history, "test_top1").cloned(),
            chosen: chosen.clone(),
            weights_sha256: weights.sha256(),
            history_sha256: files::sha256(&history_json(history)),
            history: history.clone(),
        })
    }

    /// SHA-256 over all of it, as JSON.
    fn sha256(&self) -> String {
        files::sha256(&serde_json::to_vec(self).expect("numbers, strings and maps become JSON"))
    }

    /// Whether its history is there and matches its hash, the other records match the history, and every accuracy is a
    /// share of 1. The chosen epoch's test metrics are in no history: [`Manifest::result_sha256`] covers them.
    pub(crate) fn is_whole(&self) -> bool {
        let records = self.history.iter().chain(&self.chosen);
        let mut accuracies = records.flat_map(|record| &record.metrics).filter(|(name, _)| name.ends_with("top1"));
        accuracies.all(|(_, top1)| (0.0..=1.0).contains(top1))
            && files::sha256(&history_json(&self.history)) == self.history_sha256
            && self.history.last() == Some(&self.last)
            && peak(&self.history, "test_top1") == self.peak.as_ref()
            && self.chosen.as_ref().is_none_or(|chosen| {
                let best = peak(&self.history, "validation_top1").unwrap_or(&self.last);
                chosen.epoch == best.epoch
            })
    }
}

/// The epoch with the highest accuracy of this name, the first of several. Epoch 0 is before training, and no choice.
fn peak<'a>(history: &'a [Record], accuracy: &str) -> Option<&'a Record> {
    let top1 = |record: &Record| record.metrics.get(accuracy).copied();
    let tested = history.iter().filter(|record| record.epoch > 0 && top1(record).is_some());
    tested.reduce(|best, record| if top1(record) > top1(best) { record } else { best })
}

/// What may differ between two runs with the same result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Environment {
    /// Version of this program.
    pub fewlabel: String,
    /// The commit that it was built from, with "+changes" where its sources differed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// A hash of its sources, compiler, target and profile; none in manifests of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<String>,
    /// When the manifest was written: UTC, RFC 3339.
    pub written: String,
    /// [`std::env::consts::OS`].
    pub os: String,
    /// [`std::env::consts::ARCH`].
    pub arch: String,
    /// The processor's name, where the system tells it.
    pub cpu: Option<String>,
    /// Those of the engine's instruction sets that the processor has.
    #[serde(default)]
    pub cpu_features: Vec<String>,
    /// Cores that the process may use.
    pub cores: usize,
    /// Threads that it used.
    pub threads: usize,
    /// `cpu` or `cuda`.
    pub device: String,
    /// Wall-clock seconds spent on each job, by its key, interruptions not counted.
    pub seconds: BTreeMap<String, f64>,
    /// For jobs reused from another run (`--reuse`), by key: the SHA-256 of its experiment.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub reused: BTreeMap<String, String>,
}

impl Environment {
    /// What made the results, if it is another build of this version: the same experiment should give the same bits with
    /// it, but nothing has checked that.
    pub(super) fn other_build(&self) -> Option<String> {
        let is_this = self.build.as_deref() == Some(env!("FEWLABEL_BUILD"));
        let commit = self.commit.as_ref().map_or(String::new(), |commit| format!(", commit {commit}"));
        let build = self.build.as_deref().unwrap_or("an earlier one");
        (!is_this).then(|| visible(&format!("{build}{commit}")).into_owned())
    }

    #[allow(clippy::disallowed_methods, reason = "the environment is no part of the result")]
    fn here(device: &str) -> Environment {
        let cpuinfo = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Environment {
            fewlabel: env!("CARGO_PKG_VERSION").to_owned(),
            commit: Some(env!("FEWLABEL_COMMIT").to_owned()).filter(|commit| !commit.is_empty()),
            build: Some(env!("FEWLABEL_BUILD").to_owned()),
            written: humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string(),
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            cpu: model.map(|(_, name)| name.trim().to_owned()),
            cpu_features: crate::simd::features().into_iter().map(str::to_owned).collect(),
            cores: std::thread::available_parallelism().map_or(1, |n| n.get()),
            threads: rayon::current_num_threads(),
            device: device.to_owned(),
            seconds: BTreeMap::new(),
            reused: BTreeMap::new(),
        }
    }
}

impl Manifest {
    /// The manifest of a run that has not begun.
    pub fn new(experiment: &Experiment, device: &str) -> Manifest {
        Manifest {
            experiment: experiment.clone(),
            experiment_sha256: experiment.sha256(),
            classes: vec![],
            result: BTreeMap::new(),
            result_sha256: BTreeMap::new(),
            environment: Environment::here(device),
        }
    }

    /// Refuses a file that no version of this program can have written.
    pub(super) fn check_ours(path: &Path) -> Result<()> {
        let remedy = "move it away, or choose another folder with --out";
        let bytes = files::read(path, MOST).map_err(|e| Error::unreadable(path, e, remedy))?;
        match serde_json::from_slice::<serde_json::Value>(&bytes) {
            Ok(value) if value.get("experiment_sha256").is_some() => Ok(()),
            _ => Err(Error::run(path, "is not a manifest of this program", remedy)),
        }
    }

    /// Reads the manifest of the run directory `folder`, as [`Manifest::load`] does.
    ///
    /// # Errors
    /// Those of [`Manifest::load`], and [`Error::Run`] for what is no run directory.
    pub fn of_folder(folder: &Path) -> Result<Manifest> {
        let path = folder.join("manifest.json");
        let is_run = |path: &Path| path.join("manifest.json").is_file();
        let meant = |folder: &Path| did_you_mean_path(folder, "runs", is_run);
        if path.is_file() {
            Manifest::load(&path)
        } else if folder.is_dir() {
            let problem = "is no run directory: it holds no manifest.json";
            Err(Error::run(folder, problem, format!("name the folder that `fewlabel run` wrote into{}", meant(folder))))
        } else if folder.is_file() {
            let parent = folder.parent().filter(|parent| is_run(parent));
            let parent = parent.map_or(String::new(), |parent| format!(": {}", path_word(parent)));
            Err(Error::run(folder, "is a file, not a run directory", format!("name the folder that holds it{parent}")))
        } else {
            let problem = format!("there is no such folder{}", meant(folder));
            Err(Error::run(folder, problem, "`fewlabel runs` lists the runs that there are"))
        }
    }

    /// Reads the manifest of a run: as [`Manifest::load_claim`], and checks the results against their hashes.
    ///
    /// # Errors
    /// Those of [`Manifest::load_claim`], and [`Error::Run`] for a result that was changed.
    pub fn load(path: &Path) -> Result<Manifest> {
        let manifest = Manifest::load_claim(path)?;
        let hashes = &manifest.result_sha256;
        let is_hashed = |key: &str, result: &StageResult| hashes.get(key) == Some(&result.sha256());
        let is_good =
            |key: &str, result: &StageResult| result.is_whole() && (hashes.is_empty() || is_hashed(key, result));
        match manifest.result.iter().find(|(key, result)| !is_good(key, result)) {
            Some((key, _)) => {
                let problem = format!("the result of {key} was changed: its parts do not match");
                Err(Error::run(path, problem, FROM_SOURCE))
            }
            None => Ok(manifest),
        }
    }

    /// Reads a manifest and checks that its experiment is complete and matches its hash, and that every result is of one
    /// of its stages. The results themselves are not checked, and may lack their histories: whether they are right is
    /// for `verify` to find out.
    ///
    /// # Errors
    /// [`Error::Run`] for a file that cannot be read, is no manifest of this version, or whose experiment was changed.
    pub fn load_claim(path: &Path) -> Result<Manifest> {
        let remedy = FROM_SOURCE;
        if path.is_dir() {
            let manifest = path_word(&path.join("manifest.json"));
            return Err(Error::run(
                path,
                "is a folder, not a manifest",
                format!("name the manifest in it: {manifest}"),
            ));
        }
        let bytes = files::read(path, MOST).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => {
                let is_manifest = |path: &Path| path.extension().is_some_and(|ending| ending == "json");
                let problem = format!("there is no such file{}", did_you_mean_path(path, "golden", is_manifest));
                Error::run(path, problem, "name the manifest.json of a run, or one of golden/")
            }
            _ => Error::unreadable(path, e, remedy),
        })?;
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|e| {
            Error::run(path, format!("is not a manifest of this version: {}", visible(&e.to_string())), remedy)
        })?;
        if manifest.experiment.sha256() != manifest.experiment_sha256 {
            return Err(Error::run(path, "its experiment was changed: the hash does not match", remedy));
        }
        let mut complete = manifest.experiment.clone();
        match complete.complete() {
            Err(conflict) => {
                return Err(Error::run(path, format!("its experiment cannot be run: {}", conflict.message), remedy));
            }
            Ok(()) if complete != manifest.experiment => {
                return Err(Error::run(path, "its experiment is not complete", remedy));
            }
            Ok(()) => {}
        }
        match manifest.stray_result() {
            Some(key) => {
                let problem = format!("has a result of {}, which its experiment does not have", visible(key));
                Err(Error::run(path, problem, "it was edited: restore it from a copy"))
            }
            None => Ok(manifest),
        }
    }

    /// The key of a result that is of none of the experiment's stages.
    fn stray_result(&self) -> Option<&String> {
        let experiment = &self.experiment;
        let of_seed = |seed| experiment.stages.iter().map(move |stage| experiment.key(seed, &stage.name));
        let keys: BTreeSet<String> = experiment.all_seeds().flat_map(of_seed).collect();
        self.result.keys().find(|key| !keys.contains(*key))
    }

    /// The data set's classes by label.
    pub(super) fn class_names(&self) -> Vec<String> {
        self.classes.iter().map(|class| class.name.clone()).collect()
    }

    /// The weights of the finished job `key`, of `network`, from the run's `folder`.
    ///
    /// # Errors
    /// [`Error::Run`] for weights that are not those recorded.
    pub(crate) fn weights(&self, folder: &Path, key: &str, network: &Network) -> Result<Weights> {
        checked_weights(folder, key, network, self.result.get(key).map(|result| &*result.weights_sha256))
    }

    /// Writes it atomically, indented for people, with the environment of now.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn save(&mut self, path: &Path) -> Result<()> {
        self.result_sha256 = self.result.iter().map(|(key, result)| (key.clone(), result.sha256())).collect();
        let Environment { seconds, reused, device, .. } = self.environment.clone();
        self.environment = Environment { seconds, reused, ..Environment::here(&device) };
        files::write_atomically(path, &[&pretty(self)])
    }
}

/// Whose the checkpoints of the job `key` are, of the experiment with this hash.
pub(crate) fn checkpoint_owner(experiment_sha256: &str, key: &str) -> String {
    format!("stage {key} of experiment {experiment_sha256}, fewlabel {}", env!("CARGO_PKG_VERSION"))
}

/// The weights of the job `key`, of `network`, from the run's `folder`, which have this hash.
pub(super) fn checked_weights(folder: &Path, key: &str, network: &Network, sha256: Option<&str>) -> Result<Weights> {
    let path = folder.join(key).join("weights.safetensors");
    let weights = Weights::load(&path, network)?;
    if sha256 != Some(&*weights.sha256()) {
        return Err(Error::run(&path, "these are not the weights that the run recorded", Weights::remedy(&path)));
    }
    Ok(weights)
}

/// The bytes of a `history.json`.
pub fn history_json(history: &[Record]) -> Vec<u8> {
    pretty(&history)
}

fn pretty(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(value).expect("numbers, strings and maps become JSON");
    bytes.push(b'\n');
    bytes
}
