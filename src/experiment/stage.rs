//! A stage of an experiment as a recipe for [`crate::train`].

use super::{Experiment, Stage, StageMethod};
use crate::network::{CLASSIFICATION_HEAD, CLASSIFIER, Mode, Network, Probe};
use crate::optimizer::Schedule;
use crate::train::{Method, Recipe};

impl Experiment {
    /// The network that the stage trains.
    pub fn network(&self, stage: &Stage) -> Network {
        let widths = self.network.widths();
        match stage.method {
            StageMethod::Supervised | StageMethod::Finetune => Network::supervised(&widths),
            StageMethod::Pretext => Network::pretext(&widths),
            StageMethod::Simsiam => Network::simsiam(&widths),
            StageMethod::Probe => {
                let (probe, mode) = (stage.probe.unwrap_or(Probe::Mlp), stage.frozen_norm.unwrap_or(Mode::Train));
                Network::probe(&widths, probe, mode)
            }
        }
    }

    /// All that training the stage needs but data and weights. The experiment is complete: nothing is left open.
    pub fn recipe(&self, stage: &Stage) -> Recipe {
        let method = match stage.method {
            StageMethod::Supervised | StageMethod::Finetune => Method::Classify { head: CLASSIFICATION_HEAD },
            StageMethod::Probe => Method::Classify { head: CLASSIFIER },
            StageMethod::Pretext => Method::Pretext,
            StageMethod::Simsiam => Method::SimSiam { stop_gradient: stage.stop_gradient.unwrap_or(true) },
        };
        Recipe {
            name: stage.name.to_string(),
            method,
            network: self.network(stage),
            rule: stage.rule(),
            lr: stage.lr.expect("filled in").0,
            schedule: stage.schedule.unwrap_or(Schedule::Constant),
            epochs: stage.epochs.expect("filled in").0,
            batch: stage.batch.expect("filled in").0,
            seed: self.seed.0,
        }
    }
}
