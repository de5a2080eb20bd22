//! Experiments: the YAML file, what it unfolds into, and the folder that its run fills.
//!
//! An [`Experiment`] is complete: every default is filled in when it is read, it is written into the manifest as it
//! is, and its SHA-256 names it. What may differ without changing a result (threads, folders, device) is not in it.

mod classes;
mod console;
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
mod parse;
mod past;
mod plan;
mod reuse;
mod run;
mod stage;
pub mod table;
mod value;
mod yaml;

use serde::{Deserialize, Serialize};

use crate::data::folder::Background;
use crate::data::{CLASSES, SIDE};
use crate::files;
use crate::network::Widths;
pub use crate::optimizer::OptimizerName;
pub(crate) use console::duration;
pub use console::{Output, log, print};
pub use folder::{changed, seal};
pub use labels::{Count, Labels};
pub use lock::is_locked;
pub(crate) use manifest::history_json;
pub use manifest::{Environment, Manifest, StageResult};
pub use past::{PastRun, past_runs};
pub use plan::Job;
use plan::plan;
pub use run::{CHECKPOINT_EVERY, Options, run};
pub(crate) use run::{Loaded, load_data};
pub use stage::Stage;
pub(crate) use stage::{KNN, keys as stage_keys};
pub use value::{
    BatchSize, Channels, Classes, Decay, Epochs, Images, Name, Percent, Rate, Seed, Seeds, Share, Side, Width,
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

/// The data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a data set: {name: …}")]
pub struct DatasetSpec {
    /// Where they are from.
    pub name: DatasetName,
    /// How many training images, the first ones; by default all of CIFAR-10 and CIFAR-100, and 10,000 synthetic ones.
    /// Required for a folder, where it must be all of them.
    pub train: Option<Images>,
    /// How many test images, likewise; by default 2,000 synthetic ones.
    pub test: Option<Images>,
    /// The number of classes of a folder, where it is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// SHA-256 of a folder's images as the networks get them ([`crate::data::Data::sha256`]), where it is required: other
    /// images are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Of a folder: what is seen through transparent pixels; white unless given.
    #[serde(default, skip_serializing_if = "is_white")]
    pub background: Background,
    /// Height and width of a folder's images as the networks get them; 32 unless given, and for every other data set.
    #[serde(default = "side_of_cifar", skip_serializing_if = "is_side_of_cifar")]
    pub side: Side,
}

fn side_of_cifar() -> Side {
    Side(SIDE)
}

fn is_side_of_cifar(side: &Side) -> bool {
    *side == side_of_cifar()
}

fn is_white(background: &Background) -> bool {
    *background == Background::default()
}

impl DatasetSpec {
    /// Classes of the data set.
    pub fn class_count(&self) -> usize {
        match self.name {
            DatasetName::Cifar10 | DatasetName::Synthetic => CLASSES,
            DatasetName::Cifar100 => 100,
            DatasetName::Folder => self.classes.map_or(CLASSES, |classes| classes.0),
        }
    }
}

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DatasetName {
    /// The first 50,000 and the last 10,000 images of CIFAR-10 ([`crate::data::cifar10`]).
    Cifar10,
    /// With its 100 fine labels ([`crate::data::cifar100`]).
    Cifar100,
    /// One's own images ([`crate::data::folder`]).
    Folder,
    /// Drawn from the experiment's seed ([`crate::data::synthetic`]).
    Synthetic,
}

/// [`Widths`]; by default the study's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "widths: {projector: …}")]
pub struct NetworkSpec {
    /// [`Widths::channels`].
    pub channels: [Channels; 3],
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
            channels: widths.channels.map(Channels),
            hidden: Width(widths.hidden),
            projector: Width(widths.projector),
            predictor: Width(widths.predictor),
            dropout: Share(widths.dropout),
        }
    }
}

impl Experiment {
    /// The sizes of its networks.
    pub fn widths(&self) -> Widths {
        let NetworkSpec { channels, hidden, projector, predictor, dropout } = &self.network;
        Widths {
            side: self.dataset.side.0,
            backbone: None,
            channels: channels.map(|c| c.0),
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
