//! Reuse of stages that another run has finished: the same fingerprint means the same bits.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::manifest::StageResult;
use super::{Count, Experiment, Job, Manifest, RANDOM, Stage, plan};
use crate::error::Result;
use crate::files;
use crate::network::Weights;

impl Experiment {
    /// Of every stage, by name, the SHA-256 over all that its result depends on, the stages before it included. `self` has
    /// one seed.
    fn fingerprints(&self) -> BTreeMap<&str, String> {
        let mut all = BTreeMap::from([(RANDOM, RANDOM.to_owned())]);
        // Each after the one that it starts from.
        for index in plan(&self.stages, &[]).unwrap_or_default() {
            let stage = &self.stages[index];
            let from = stage.from.as_deref().and_then(|from| all.get(from).cloned());
            all.insert(&stage.name, self.fingerprint(stage, from));
        }
        all
    }

    /// Of a stage that starts from one with the fingerprint `from`.
    fn fingerprint(&self, stage: &Stage, from: Option<String>) -> String {
        // Without labels, a method looks at the labelled images only where they judge it.
        let validates = self.validates() && stage.learner().is_some_and(|method| !method.heads().is_empty());
        let looks = stage.method.uses_labels || stage.knn_every.is_some() || validates;
        let labels = looks.then(|| {
            let choose = self.labels.choose.filter(|_| self.count(stage) != Count::All);
            json!([self.label_count(stage), choose, self.labels.validation])
        });
        let mut recipe = serde_json::to_value(stage).expect("a stage becomes JSON");
        for key in ["name", "from", "claim", "labels"] {
            recipe.as_object_mut().expect("a map").shift_remove(key);
        }
        let tests = stage.learner().filter(|method| !method.heads().is_empty()).map(|_| self.tests());
        let all = json!([self.seed, self.dataset, self.network, recipe, labels, from, tests]);
        files::sha256(all.to_string().as_bytes())
    }
}

/// A run whose finished stages are reused.
pub(super) struct Finished {
    pub folder: PathBuf,
    manifest: Manifest,
    /// The jobs that have a result and weights, by fingerprint.
    jobs: BTreeMap<String, Job>,
}

/// A finished stage.
pub(super) struct Found {
    pub result: StageResult,
    pub weights: Weights,
    pub seconds: Option<f64>,
    /// Of the run that it is from.
    pub experiment_sha256: String,
    /// What made it, if that is another build of this version.
    pub other_build: Option<String>,
}

impl Finished {
    /// The run in `folder`. One of another version, or on another device, has nothing to reuse.
    ///
    /// # Errors
    /// A folder without a manifest of this version.
    pub fn open(folder: &Path) -> Result<Finished> {
        let manifest = Manifest::of_folder(folder)?;
        let mut jobs = BTreeMap::new();
        let environment = &manifest.environment;
        if environment.fewlabel == env!("CARGO_PKG_VERSION") && environment.device == "cpu" {
            for seed in manifest.experiment.all_seeds() {
                let of_seed = manifest.experiment.of_seed(seed);
                let fingerprints = of_seed.fingerprints();
                for (stage, of) in of_seed.stages.iter().enumerate() {
                    let job = Job { key: manifest.experiment.key(seed, &of.name), seed, stage };
                    let there = folder.join(&job.key).join("weights.safetensors").exists();
                    if there && manifest.result.contains_key(&job.key) {
                        jobs.entry(fingerprints[&*of.name].clone()).or_insert(job);
                    }
                }
            }
        }
        Ok(Finished { folder: folder.to_owned(), manifest, jobs })
    }

    /// Whether the result that `stage` of `experiment`, of one seed, would have is there.
    pub fn has(&self, experiment: &Experiment, stage: &Stage) -> bool {
        self.jobs.contains_key(&experiment.fingerprints()[&*stage.name])
    }

    /// The result that `stage` of `experiment`, of one seed, would have, if it is there.
    ///
    /// # Errors
    /// Weights that are not those that the manifest records.
    pub fn find(&self, experiment: &Experiment, stage: &Stage) -> Result<Option<Found>> {
        let wanted = &experiment.fingerprints()[&*stage.name];
        let Some(Job { key, seed, stage }) = self.jobs.get(wanted) else { return Ok(None) };
        let Manifest { experiment, result, environment, experiment_sha256, .. } = &self.manifest;
        let network = experiment.of_seed(*seed).network(&experiment.stages[*stage]);
        let weights = self.manifest.weights(&self.folder, key, &network);
        let weights = weights.map_err(|error| error.with_remedy("delete this file, or leave out --reuse"))?;
        Ok(Some(Found {
            result: result[key].clone(),
            weights,
            seconds: environment.seconds.get(key).copied(),
            experiment_sha256: experiment_sha256.clone(),
            other_build: environment.other_build(),
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn experiment(yaml: &str) -> Experiment {
        let head = "name: t\ndataset: {name: synthetic, train: 100, test: 20}\n";
        Experiment::parse("t.yaml".as_ref(), &format!("{head}{yaml}")).unwrap()
    }

    #[test]
    fn a_fingerprint_changes_with_what_the_result_depends_on_and_with_nothing_else() {
        let of = |labels: &str, stages: &str| {
            let experiment =
                experiment(&format!("labels: {{{labels}}}\nstages:\n{stages}").replace("; once}", "}\ntest: once"));
            let fingerprints = experiment.fingerprints();
            fingerprints[&*experiment.stages.last().unwrap().name].clone()
        };
        let (first, strict) = ("count: 40, choose: first", "count: 40, choose: stratified, validation: 0.25");
        let simsiam = "  - {name: a, method: simsiam, batch: 8}\n";
        let base = of(first, simsiam);
        assert_eq!(of(strict, "  - {name: b, method: simsiam, batch: 8, predictor: true}\n"), base);
        assert_ne!(of(first, "  - {name: a, method: simsiam, batch: 8, epochs: 3}\n"), base);
        assert_ne!(of(first, "  - {name: a, method: simsiam, batch: 8, stop_gradient: false}\n"), base);
        let watched = "  - {name: a, method: simsiam, batch: 8, knn_every: 2}\n";
        assert_ne!(of(first, watched), of(strict, watched), "the monitor looks at labels");
        let pretext = "  - {name: a, method: pretext, batch: 8}\n";
        assert_ne!(of(first, pretext), of(strict, pretext), "the test images are looked at once");
        assert_eq!(of(first, pretext), of("count: 50, choose: stratified", pretext));
        let once = "count: 40, choose: first; once";
        assert_ne!(of(first, pretext), of(once, pretext), "it is tested once");
        assert_eq!(of(once, simsiam), base, "it has nothing to test");
        let other = "count: 80, choose: stratified, validation: 0.25";
        assert_ne!(of(strict, pretext), of(other, pretext), "its history is of the validation images");
        let probe =
            |name: &str, from: &str| format!("{simsiam}  - {{name: {name}, method: probe, from: {from}, batch: 8}}\n");
        assert_eq!(of(first, &probe("b", "a")), of(first, &probe("c", "a")));
        assert_ne!(of(first, &probe("b", "a")), of(first, &probe("b", "random")));
        assert_ne!(
            of(first, &probe("b", "a")),
            of(first, &probe("b", "a").replace("method: simsiam", "method: pretext"))
        );
        assert_ne!(of(first, &probe("b", "a")), of(strict, &probe("b", "a")));
    }

    /// Each stage's fingerprint has that of the one before it: recursion would take a thread's stack with it.
    #[test]
    fn a_long_chain_of_stages_has_fingerprints() {
        let mut experiment =
            experiment("labels: {count: 40, choose: first}\nstages: [{name: s, method: supervised, batch: 8}]\n");
        let name = |i: usize| crate::experiment::Name::new(&format!("s{i}")).unwrap();
        let first =
            Stage { method: crate::method::find("finetune").unwrap(), name: name(0), ..experiment.stages[0].clone() };
        let stage = |i: usize| Stage { name: name(i), from: (i > 0).then(|| name(i - 1)), ..first.clone() };
        experiment.stages = (0..3_000).map(stage).collect();
        let fingerprints = experiment.fingerprints();
        assert_eq!(fingerprints.len(), 3_000 + 1);
        assert_ne!(fingerprints["s2999"], fingerprints["s2998"]);
    }
}
