//! What a stage costs in computation, known before anything is run.

use super::{Experiment, Stage};
use crate::engine::Statistics;
use crate::evaluate::TestViews;
use crate::network::{Mode, Network};
use crate::train::Test;

impl Experiment {
    /// About how many floating-point operations the stage takes: two for each multiplication with a weight, and of a trained
    /// weight three times those of the forward pass in all.
    pub(super) fn operations(&self, stage: &Stage) -> f64 {
        let network = self.network(stage);
        let [frozen, trained] = network.operations().map(|n| n as f64);
        let forward = frozen + trained;
        let [train, test] = [self.dataset.train, self.dataset.test].map(|n| n.map_or(0, |n| n.0) as f64);
        let labels = self.label_count(stage) as f64;
        let validating = labels * f64::from(self.labels.validation.0);
        let Some(recipe) = self.recipe(stage) else { return (labels - validating + test) * forward };
        let images = if stage.method.uses_labels { labels - validating } else { train };
        let taught = if recipe.averages() == Some(Statistics::Own) { trained } else { 0.0 };
        let once = network.is_frozen(Mode::Eval);
        let input = 3.0 * trained + taught + if once { 0.0 } else { frozen };
        let epochs = f64::from(recipe.epochs);
        let training = match recipe.method.unlabelled() {
            Some(unlabelled) => {
                let taken = ((train / (unlabelled.ratio * recipe.batch) as f64).floor() * recipe.batch as f64).max(0.0);
                let of_each = input + unlabelled.judged as f64 * forward;
                let all = (0..recipe.epochs).map(|epoch| unlabelled.in_epoch(epoch, recipe.epochs) as f64);
                all.map(|ratio| taken * (input + ratio * of_each)).sum()
            }
            None => epochs * images * recipe.method.views() as f64 * input,
        };
        // Methods without heads have nothing to be judged by.
        let looks = if recipe.method.heads().is_empty() { 0.0 } else { TestViews::passes(recipe.test_views) as f64 };
        let (judged, last) = match recipe.test {
            Test::EveryEpoch => (looks * test, 0.0),
            Test::Once => (looks * validating, looks * test),
        };
        let evaluation = if once { trained } else { forward };
        let features = if once { (images + judged) * frozen } else { 0.0 };
        let queries = if recipe.test == Test::EveryEpoch { test } else { validating };
        let known = labels - validating;
        let features_of_one: f64 = Network::backbone(&self.widths()).operations().iter().map(|&n| n as f64).sum();
        let knn = stage
            .knn_every
            .map_or(0.0, |every| (epochs / f64::from(every.0)).ceil() * (known + queries) * features_of_one);
        features + training + epochs * judged * evaluation + last * forward + knn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operations(stages: &str) -> Vec<f64> {
        let yaml = format!(
            "{{name: t, dataset: {{name: synthetic, train: 1000, test: 100}}, labels: {{count: 500, choose: first}}, stages: \
             [{stages}]}}"
        );
        let experiment = Experiment::parse("t.yaml".as_ref(), &yaml).unwrap();
        experiment.stages.iter().map(|stage| experiment.operations(stage)).collect()
    }

    #[test]
    fn training_is_three_forward_passes_and_evaluation_one() {
        let forward = 2.0 * f64::from(9 * (1024 * 3 * 32 + 256 * 32 * 64 + 64 * 64 * 128) + 2048 * 512 + 512 * 10);
        assert_eq!(
            operations("{name: a, method: supervised, epochs: 7, batch: 10}"),
            [7.0 * (3.0 * 500.0 + 100.0) * forward]
        );
        // Two views of each image, and nothing to be judged by.
        let backbone = 2.0 * f64::from(9 * (1024 * 3 * 32 + 256 * 32 * 64 + 64 * 64 * 128));
        let heads = 2.0 * f64::from(2048 * 2048 + 2048 * 2048 + 2048 * 2048 + 2 * 2048 * 512);
        assert_eq!(
            operations("{name: a, method: simsiam, epochs: 2, batch: 10}, {name: b, method: knn, from: a}"),
            [2.0 * 1000.0 * 2.0 * 3.0 * (backbone + heads), (500.0 + 100.0) * backbone]
        );
        // Its backbone's kNN accuracy after the second and the last of three epochs: 500 images are known, 100 are asked about.
        assert_eq!(
            operations("{name: a, method: simsiam, epochs: 3, batch: 10, knn_every: 2}"),
            [3.0 * 1000.0 * 2.0 * 3.0 * (backbone + heads) + 2.0 * (500.0 + 100.0) * backbone]
        );
        // 33 steps of 10 labelled images and 10, 20, 30 others, whose weak views are looked at; two views of each test image.
        let semi =
            "{name: a, method: fixmatch, epochs: 3, batch: 10, unlabelled: 3, unlabelled_from: 1, test_views: flip}";
        let images = 33.0 * 10.0 * (3.0 + 1.0 + 2.0 + 3.0);
        assert_eq!(operations(semi), [(images * 3.0 + 33.0 * 10.0 * 6.0 + 3.0 * 2.0 * 100.0) * forward]);
        // Of a backbone that never changes the features are computed once.
        let probe = "{name: a, method: probe, from: random, probe: linear, frozen_norm: eval, epochs: 4, batch: 10}";
        let head = 2.0 * 2048.0 * 10.0;
        assert_eq!(operations(probe), [(500.0 + 100.0) * backbone + 4.0 * (500.0 * 3.0 + 100.0) * head]);
    }
}
