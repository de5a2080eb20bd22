//! A stage of an experiment as a recipe for [`crate::train`].

use super::{Experiment, Stage, StageMethod};
use crate::evaluate::Knn;
use crate::network::{CLASSIFICATION_HEAD, CLASSIFIER, Mode, Network, Probe};
use crate::optimizer::Schedule;
use crate::train::{Method, Monitor, Recipe, Test};

/// The kNN classifier of reruns of the study's code. The temperature is that of Wu et al.'s code for CIFAR-10
/// (lemniscate.pytorch, `cifar.py`, `--nce-t`); their paper has 0.07 on ImageNet.
pub(crate) const KNN: Monitor = Monitor { every: 1, knn: Knn { k: 20, temperature: 0.1 } };

impl Experiment {
    /// The network that the stage trains.
    pub fn network(&self, stage: &Stage) -> Network {
        let widths = self.widths();
        match stage.method {
            StageMethod::Supervised | StageMethod::Finetune => Network::supervised(&widths),
            StageMethod::Pretext => Network::pretext(&widths),
            StageMethod::Simsiam => {
                let mut network = Network::simsiam(&widths);
                if stage.predictor == Some(false) {
                    network.heads.clear();
                }
                network
            }
            StageMethod::Knn => Network::backbone(&widths),
            StageMethod::Probe => {
                let (probe, mode) = (stage.probe.unwrap_or(Probe::Mlp), stage.frozen_norm.unwrap_or(Mode::Train));
                Network::probe(&widths, probe, mode)
            }
        }
    }

    /// All that training the stage needs but data and weights, for the experiment's first seed
    /// ([`Experiment::of_seed`] for another); none for a stage that trains nothing.
    ///
    /// # Panics
    /// If the stage has no `lr`, `epochs` or `batch`. One that was read from a file has them.
    pub fn recipe(&self, stage: &Stage) -> Option<Recipe> {
        let method = match stage.method {
            StageMethod::Supervised | StageMethod::Finetune => Method::Classify { head: CLASSIFICATION_HEAD },
            StageMethod::Probe => Method::Classify { head: CLASSIFIER },
            StageMethod::Pretext => Method::Pretext,
            StageMethod::Simsiam => Method::SimSiam { stop_gradient: stage.stop_gradient.unwrap_or(true) },
            StageMethod::Knn => return None,
        };
        let schedule = stage.schedule.unwrap_or(Schedule::Constant);
        Some(Recipe {
            name: stage.name.to_string(),
            method,
            network: self.network(stage),
            rule: stage.rule(),
            lr: stage.lr.expect("filled in").0,
            schedule,
            head_schedule: stage.predictor_schedule.unwrap_or(schedule),
            epochs: stage.epochs.expect("filled in").0,
            batch: stage.batch.expect("filled in").0,
            seed: self.seed.0,
            test: if self.labels.validation.0 > 0.0 { Test::Once } else { Test::EveryEpoch },
            monitor: stage.knn_every.map(|every| Monitor { every: every.0, ..KNN }),
        })
    }
}
