//! BYOL: each view predicts what a slowly moving average of the network makes of the other view (Grill et al., "Bootstrap your own
//! latent: a new approach to self-supervised learning", 2020).
//!
//! The online network gives p, the predictor's output; the target network, its average, gives z′, the projector's. With D the negative
//! cosine, the loss is D(p₁, z′₂)/2 + D(p₂, z′₁)/2, with z′ a constant in it. The paper has ‖p/‖p‖ − z′/‖z′‖‖² = 2 + 2·D (equation 2),
//! summed over both views: the same but for a factor of 4 and a constant; this scale is that of SimSiam and of lightly, whose rates
//! are the defaults. [`mod@crate::loss::cosine`] has the gradient.
//!
//! After step k of K (from 0) the target ξ follows the online network θ: ξ ← τ·ξ + (1 − τ)·θ with
//! τ = 1 − (1 − τ₀)·(cos(πk/K) + 1)/2 (§3.1 and §3.3). Batch norm takes each view on its own; the target's has running statistics of its
//! own. Other stages take over the online network's backbone.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::registry::{Defaults, Fault, Kind, Learner, learner};
use super::simclr::check_embedding;
use super::simsiam::unrelated;
use super::{Batch, Method, Step, taught_views};
use crate::loss::{Cosines, negative_cosine};
use crate::network::{Block, Layer, Network, PREDICTOR, PROJECTOR, Widths};

/// As experiments name it.
pub static BYOL: Kind = Kind {
    name: "byol",
    title: "BYOL",
    about: "prediction of what an average of the network makes of the other view, on all images, without labels",
    uses_labels: false,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults::of_views(),
        keys: &["embedding", "target_momentum"],
        loss: "negative cosine",
        about_loss: "The mean negative cosine similarity between one view's prediction and the target network's projection of the other \
                     view: −1 where all agree.",
        read: learner::<Byol>,
    }),
};

/// The negative cosine of predictions and what an average of the network gives.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Byol {
    /// Width of the projector's and the predictor's output; the paper's (§3.3).
    pub embedding: usize,
    /// τ₀: the share of the target that stays in the first step. The authors' for 100 to 300 epochs (`_EMA_PRESETS` in their code; 0.996
    /// for 1,000), and lightly's in its benchmark on CIFAR-10, where it is constant.
    pub target_momentum: f64,
}

impl Default for Byol {
    fn default() -> Byol {
        Byol { embedding: 256, target_momentum: 0.99 }
    }
}

impl Byol {
    /// τ of a step.
    fn decay(self, at: Step) -> f64 {
        let share = at.done as f64 / at.all as f64;
        1.0 - (1.0 - self.target_momentum) * (libm::cos(std::f64::consts::PI * share) + 1.0) / 2.0
    }
}

impl Method for Byol {
    fn network(&self, widths: &Widths) -> Network {
        // §3.3: projector and predictor alike, with one hidden layer of 4,096 there.
        let (hidden, d) = (widths.projector, self.embedding);
        let mlp = |inputs| {
            let first = Layer::Linear { inputs, outputs: hidden };
            vec![
                first,
                Layer::BatchNorm { channels: hidden },
                Layer::Relu,
                Layer::Linear { inputs: hidden, outputs: d },
            ]
        };
        let heads = vec![Block::sequential(PREDICTOR, mlp(d))];
        Network { heads, ..Network::projected(widths, mlp(widths.features())) }
    }

    fn batch(&self) -> Box<dyn Batch> {
        let (byol, mut cosines) = (*self, Cosines::default());
        // The online projection is there for the measure of its spread.
        let outputs = &[PROJECTOR, PREDICTOR];
        taught_views(
            outputs,
            PROJECTOR,
            move |at| byol.decay(at),
            move |outputs, target, gradients, n| {
                negative_cosine(&outputs[1], target, n, &mut cosines, &mut gradients[1], None)
            },
        )
    }

    fn compares_views(&self) -> bool {
        true
    }

    fn has_teacher(&self) -> bool {
        true
    }

    fn can_collapse(&self) -> bool {
        true
    }

    fn hardly_learnt(&self, metrics: &BTreeMap<String, f64>) -> Option<String> {
        unrelated(metrics)
    }

    fn check(&self) -> Result<(), Fault> {
        if !(0.0..=1.0).contains(&self.target_momentum) {
            let message = format!("target_momentum: {} is no number from 0 to 1", self.target_momentum);
            return Err(Fault::new("target_momentum", message));
        }
        check_embedding(self.embedding)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::data::synthetic;
    use crate::experiment::Experiment;
    use crate::network::Weights;
    use crate::train::{Observer, Progress, train};

    /// Its parameters move as `target_momentum` says, its running statistics with its own passes.
    #[test]
    fn the_target_is_an_average_with_statistics_of_its_own() {
        for (momentum, moves) in [(1.0, false), (0.5, true)] {
            check_target(momentum, moves);
        }
    }

    fn check_target(target_momentum: f64, parameters_move: bool) {
        let yaml = format!(
            "{{name: t, dataset: {{name: synthetic, train: 40, test: 10}}, labels: {{count: 10, choose: first}}, network:
            {{channels: [2, 3, 4], projector: 8}}, stages: [{{name: a, method: byol, target_momentum: {target_momentum},
            epochs: 1, batch: 10}}]}}"
        );
        let experiment = Experiment::parse("t.yaml".as_ref(), &yaml).unwrap();
        let (stage, data) = (&experiment.stages[0], synthetic(40, 10, 0));
        let (recipe, examples) = (experiment.recipe(stage).unwrap(), experiment.examples(stage, &data).unwrap());
        let start = Weights::init(&recipe.network, 0);
        let mut last = Last::default();
        train(&recipe, &data, &examples, Progress::start(start.clone()), &Device::Cpu, &mut last).unwrap();
        let progress = last.0.expect("a step");
        for array in start.arrays {
            let name = format!("average/{}", array.name);
            let average = progress.optimizer.arrays.iter().find(|average| average.name == name).unwrap();
            let online = progress.weights.get(&array.name).unwrap();
            // The target has no use for its predictor.
            let moves = match array.name.contains("running") {
                true => !array.name.starts_with("predictor"),
                false => parameters_move && online.values != array.values,
            };
            assert_eq!(average.values != array.values, moves, "{name}");
            assert!(average.values != online.values || array.name.ends_with("bias"), "{name}");
        }
    }

    #[derive(Default)]
    struct Last(Option<Progress>);

    impl Observer for Last {
        fn checkpoint_due(&mut self) -> bool {
            true
        }

        fn save(&mut self, progress: &Progress) -> crate::Result<()> {
            self.0 = Some(progress.clone());
            Ok(())
        }
    }

    #[test]
    fn the_target_moves_ever_more_slowly() {
        let byol = Byol { target_momentum: 0.996, ..Byol::default() };
        let decay = |done| byol.decay(Step { rates: 0.1.into(), done, all: 100 });
        assert!((decay(0) - 0.996).abs() < 1e-15 && (decay(50) - 0.998).abs() < 1e-15);
        // 1 - 0.004 * (cos(0.99 * pi) + 1) / 2, in Python.
        assert!((decay(99) - 0.9999990131207314).abs() < 1e-15, "{}", decay(99));
    }
}
