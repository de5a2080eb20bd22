//! Experiments: the YAML file, what it unfolds into, and the folder that its run fills.
//!
//! An [`Experiment`] is complete: every default is filled in when it is read, it is written into the manifest as it
//! is, and its SHA-256 names it. What may differ without changing a result (threads, folders, device) is not in it.

mod console;
mod defaults;
mod manifest;
mod parse;
mod plan;
mod run;
mod stage;
mod value;

use serde::{Deserialize, Serialize};

use crate::data::Choose;
use crate::files;
use crate::network::{Mode, Probe, Widths};
use crate::optimizer::{Rule, Schedule};
pub(crate) use console::duration;
pub use manifest::{Manifest, StageResult};
use plan::plan;
pub use run::{Options, run};
pub use value::{Batch, Channels, Epochs, Images, Name, Percent, Rate, Seed, Share, Width};

/// An experiment, as in its YAML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// Names the run directory, `runs/<name>`.
    pub name: Name,
    /// The key of every random stream; 0 unless given.
    #[serde(default)]
    pub seed: Seed,
    pub dataset: DatasetSpec,
    /// The labelled images; the study's unless given.
    #[serde(default)]
    pub labels: Labels,
    /// The networks' widths; the study's unless given.
    #[serde(default)]
    pub network: NetworkSpec,
    /// At least one.
    pub stages: Vec<Stage>,
}

/// Which images.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetSpec {
    pub name: DatasetName,
    /// The first so many training images; CIFAR-10: all unless given; synthetic: 10,000.
    pub train: Option<Images>,
    /// The first so many test images; CIFAR-10: all unless given; synthetic: 2,000.
    pub test: Option<Images>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetName {
    Cifar10,
    /// Drawn from the experiment's seed ([`crate::data::synthetic`]).
    Synthetic,
}

/// Which training images have labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Labels {
    pub count: Images,
    pub choose: Choose,
}

impl Default for Labels {
    fn default() -> Labels {
        Labels { count: Images(5000), choose: Choose::First }
    }
}

/// [`Widths`], each the study's unless given.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NetworkSpec {
    pub channels: [Channels; 3],
    pub hidden: Width,
    pub projector: Width,
    pub predictor: Width,
    pub dropout: Share,
}

impl Default for NetworkSpec {
    fn default() -> NetworkSpec {
        let widths = Widths::default();
        NetworkSpec {
            channels: widths.channels.map(Channels),
            hidden: Width(widths.hidden),
            projector: Width(widths.projector),
            predictor: Width(widths.predictor),
            dropout: Share(widths.dropout),
        }
    }
}

impl NetworkSpec {
    pub fn widths(&self) -> Widths {
        Widths {
            channels: self.channels.map(|c| c.0),
            hidden: self.hidden.0,
            projector: self.projector.0,
            predictor: self.predictor.0,
            dropout: self.dropout.0,
        }
    }
}

/// One stage. What is left out is filled in with the study's recipe for the method; an option that the method or
/// the optimizer has no use for is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// Names its folder in the run directory.
    pub name: Name,
    pub method: StageMethod,
    /// The stage whose weights are taken over: needed by `finetune` and `probe`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Name>,
    pub epochs: Option<Epochs>,
    pub batch: Option<Batch>,
    pub optimizer: Option<OptimizerName>,
    pub lr: Option<Rate>,
    /// Of `sgd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<Share>,
    /// Of `sgd`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<Share>,
    pub schedule: Option<Schedule>,
    /// Of `simsiam`: whether z is a constant in the loss.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop_gradient: Option<bool>,
    /// Of `probe`: the classifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
    /// Of `probe`: the frozen backbone's batch norm uses and moves its running statistics (`train`, the study's
    /// code) or only uses them (`eval`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frozen_norm: Option<Mode>,
    /// The test accuracy that the study claims for this stage, from and to, in per cent: shown beside the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<[Percent; 2]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StageMethod {
    /// The labelled images from random weights.
    Supervised,
    /// Rotation, shear and recolouring on all images, without labels.
    Pretext,
    /// Two views of all images, without labels.
    Simsiam,
    /// The labelled images from another stage's weights, all of which move.
    Finetune,
    /// The labelled images on another stage's frozen backbone.
    Probe,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    Adam,
    Sgd,
}

impl Stage {
    /// The update rule.
    pub fn rule(&self) -> Rule {
        match self.optimizer {
            Some(OptimizerName::Sgd) => Rule::Sgd {
                momentum: self.momentum.map_or(0.0, |v| v.0),
                weight_decay: self.weight_decay.map_or(0.0, |v| v.0),
            },
            _ => Rule::Adam,
        }
    }
}

impl Experiment {
    /// SHA-256 of the complete experiment's JSON: its identity.
    pub fn sha256(&self) -> String {
        files::sha256(&serde_json::to_vec(self).expect("an experiment becomes JSON"))
    }
}
