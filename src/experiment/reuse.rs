//! Reuse of stages that another run has finished: the same fingerprint means the same bits.

use std::path::Path;

use serde_json::json;

use super::manifest::StageResult;
use super::{Count, Experiment, Manifest, RANDOM, Stage, StageMethod};
use crate::error::Result;
use crate::files;
use crate::network::Weights;

impl Experiment {
    /// SHA-256 over all that the stage's result depends on, including the stages before it. `self` has one seed.
    fn fingerprint(&self, stage: &Stage) -> String {
        let from = match stage.from.as_deref() {
            Some(RANDOM) => Some(RANDOM.to_owned()),
            Some(from) => self.stages.iter().find(|s| *s.name == *from).map(|source| self.fingerprint(source)),
            None => None,
        };
        let looks_once = self.labels.validation.0 > 0.0;
        let labels = match stage.method {
            StageMethod::Simsiam if stage.knn_every.is_none() => None,
            StageMethod::Pretext if stage.knn_every.is_none() && !looks_once => None,
            _ => {
                let choose = self.labels.choose.filter(|_| self.count(stage) != Count::All);
                Some(json!([self.label_count(stage), choose, self.labels.validation]))
            }
        };
        let mut recipe = serde_json::to_value(stage).expect("a stage becomes JSON");
        for key in ["name", "from", "claim", "labels"] {
            recipe.as_object_mut().expect("a map").shift_remove(key);
        }
        // The labels' validation share decides when the test images are looked at.
        let all = json!([self.seed, self.dataset, self.network, recipe, labels, from]);
        files::sha256(all.to_string().as_bytes())
    }
}

/// A finished stage of the run in `folder` with the result that `stage` of `experiment`, of one seed, would have.
///
/// # Errors
/// A folder without a manifest of this version, and files that are not those that its manifest records.
pub(super) fn find(folder: &Path, experiment: &Experiment, stage: &Stage) -> Result<Option<Found>> {
    let manifest = Manifest::of_folder(folder)?;
    if manifest.environment.fewlabel != env!("CARGO_PKG_VERSION") || manifest.environment.device != "cpu" {
        return Ok(None);
    }
    let wanted = experiment.fingerprint(stage);
    for job in manifest.experiment.plan(&[])? {
        let of_seed = manifest.experiment.of_seed(job.seed);
        let other = &of_seed.stages[job.stage];
        let Some(result) = manifest.result.get(&job.key) else { continue };
        let there = folder.join(&job.key).join("weights.safetensors").exists();
        if !there || of_seed.fingerprint(other) != wanted {
            continue;
        }
        let weights = manifest.weights(folder, &job.key, &of_seed.network(other));
        let weights = weights.map_err(|error| error.with_remedy("delete this file, or leave out --reuse"))?;
        let seconds = manifest.environment.seconds.get(&job.key).copied();
        let experiment_sha256 = manifest.experiment_sha256;
        return Ok(Some(Found { result: result.clone(), weights, seconds, experiment_sha256 }));
    }
    Ok(None)
}

/// A finished stage.
pub(super) struct Found {
    pub result: StageResult,
    pub weights: Weights,
    pub seconds: Option<f64>,
    /// Of the run that it is from.
    pub experiment_sha256: String,
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
            let experiment = experiment(&format!("labels: {{{labels}}}\nstages:\n{stages}"));
            experiment.fingerprint(experiment.stages.last().unwrap())
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
}
