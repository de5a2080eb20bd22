//! Experiments: the YAML file, what it unfolds into, and the folder that its run fills.
//!
//! An [`Experiment`] is complete: every default is filled in when it is read, it is written into the manifest as it
//! is, and its SHA-256 names it. What may differ without changing a result (threads, folders, device) is not in it.

mod backbone;
mod classes;
mod console;
mod cost;
mod dataset;
mod defaults;
mod differs;
mod examples;
mod folder;
mod labels;
mod learnt;
mod lock;
mod manifest;
mod memory;
mod observer;
mod outlook;
mod parse;
mod past;
mod plan;
mod preview;
mod ranks;
mod reuse;
mod run;
mod schedule;
mod stage;
pub mod table;
mod value;
mod work;
mod yaml;

use serde::{Deserialize, Serialize};

use crate::files;
use crate::network::Widths;
pub use crate::optimizer::OptimizerName;
use crate::train::Test;
pub use backbone::BackboneSpec;
pub(crate) use console::duration;
pub use console::{Output, log, print};
pub(crate) use dataset::unknown;
pub use dataset::{DatasetName, DatasetSpec};
pub use folder::{changed, seal};
pub use labels::{Count, Labels};
pub use lock::is_locked;
pub use manifest::{Environment, Manifest, StageResult};
pub(crate) use manifest::{checkpoint_owner, history_json};
pub(crate) use outlook::{Loaded, load_data};
pub use past::{PastRun, past_runs};
pub use plan::Job;
use plan::plan;
pub use ranks::{dismiss, serve};
pub use run::{CHECKPOINT_EVERY, Options, preview, run};
pub use stage::Stage;
pub(crate) use stage::{KNN, keys as stage_keys};
pub use value::{
    BatchSize, Channels, Classes, Decay, Epochs, Images, Name, Percent, Rate, Seed, Seeds, ShardCount, Share, Side,
    Width,
};

/// An experiment, as in its YAML file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "an experiment: keys and values, `name`, `dataset` and `stages` at least")]
pub struct Experiment {
    /// Names the run directory, `runs/<name>`.
    pub name: Name,
    /// The key of every random stream; 0 by default.
    #[serde(default)]
    pub seed: Seed,
    /// The number of seeds to run with (`seed`, `seed` + 1, …); 1 by default.
    #[serde(default = "one_seed", skip_serializing_if = "is_one")]
    pub seeds: Seeds,
    /// The images.
    pub dataset: DatasetSpec,
    /// The labelled images; by default the study's.
    #[serde(default, deserialize_with = "Labels::read")]
    pub labels: Labels,
    /// When the test images are used; left out where [`Experiment::tests`] says the same without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub test: Option<Test>,
    /// The networks' widths; by default the study's.
    #[serde(default)]
    pub network: NetworkSpec,
    /// At least one.
    pub stages: Vec<Stage>,
    /// What the seeds are to decide.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Claim>,
}

fn one_seed() -> Seeds {
    Seeds(1)
}

fn is_one(seeds: &Seeds) -> bool {
    seeds.0 == 1
}

/// A claim that one stage has a higher test accuracy than another.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a claim: {better: STAGE, than: STAGE}")]
pub struct Claim {
    /// The stage that is claimed to be better.
    pub better: Name,
    /// The other.
    pub than: Name,
}

/// [`Widths`]; by default the study's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "widths: {projector: …}")]
pub struct NetworkSpec {
    /// The backbone; by default the study's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backbone: Option<BackboneSpec>,
    /// [`Widths::channels`], of the study's backbone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<[Channels; 3]>,
    /// [`Widths::hidden`].
    pub hidden: Width,
    /// [`Widths::projector`].
    pub projector: Width,
    /// [`Widths::predictor`].
    pub predictor: Width,
    /// [`Widths::dropout`].
    pub dropout: Share,
}

impl Default for NetworkSpec {
    fn default() -> NetworkSpec {
        let widths = Widths::default();
        NetworkSpec {
            backbone: None,
            channels: None,
            hidden: Width(widths.hidden),
            projector: Width(widths.projector),
            predictor: Width(widths.predictor),
            dropout: Share(widths.dropout),
        }
    }
}

impl Experiment {
    /// When the test images are used: once where validation images choose the epochs, else after every epoch unless it says
    /// otherwise.
    pub fn tests(&self) -> Test {
        self.test.unwrap_or(if self.validates() { Test::Once } else { Test::EveryEpoch })
    }

    /// Whether a part of the labelled images chooses each model's epoch.
    pub fn validates(&self) -> bool {
        self.labels.validation.0 > 0.0
    }

    /// The sizes of its networks.
    pub fn widths(&self) -> Widths {
        let NetworkSpec { backbone, channels, hidden, projector, predictor, dropout } = &self.network;
        let side = self.dataset.side.0;
        Widths {
            side,
            backbone: backbone.as_ref().map(|backbone| backbone.layers(side)),
            channels: channels.map_or(Widths::default().channels, |channels| channels.map(|c| c.0)),
            hidden: hidden.0,
            projector: projector.0,
            predictor: predictor.0,
            dropout: dropout.0,
            classes: self.dataset.class_count(),
        }
    }
}

/// The files of a stage's folder.
pub(crate) const FILES: [&str; 3] = ["history.json", "weights.safetensors", "checkpoint"];

/// As `from`: random weights.
pub const RANDOM: &str = "random";

impl Experiment {
    /// The same for one of its seeds alone.
    pub fn of_seed(&self, seed: u64) -> Experiment {
        Experiment { seed: Seed(seed), seeds: Seeds(1), ..self.clone() }
    }

    /// The stage whose weights `stage` takes over; none where it starts from random weights.
    pub fn source(&self, stage: &Stage) -> Option<&Stage> {
        let from = stage.from.as_deref().filter(|from| *from != RANDOM)?;
        self.stages.iter().find(|stage| *stage.name == *from)
    }

    /// SHA-256 of the complete experiment's JSON: its identity.
    pub fn sha256(&self) -> String {
        files::sha256(&serde_json::to_vec(self).expect("an experiment becomes JSON"))
    }
}
