//! How a stage learns: one file a method, with its settings, network, batch, loss and measures.
//!
//! A [`Kind`] is a method as experiments name it, a [`Method`] one with its settings, a [`Batch`] its examples of one step.
//! Everything else is the same for all: the training loop, checkpoints, manifests, reports, transfer to other stages.

pub mod barlow_twins;
pub mod byol;
pub mod classify;
pub mod fixmatch;
mod made;
pub mod mean_teacher;
pub mod pretext;
pub mod probe;
pub mod pseudo_label;
mod registry;
mod semi_supervised;
pub mod simclr;
pub mod simsiam;
mod source;
pub mod supcon;
pub mod vicreg;
mod views;

use std::collections::BTreeMap;
use std::fmt::Debug;

pub use barlow_twins::BarlowTwins;
pub use byol::Byol;
pub use classify::Classify;
pub use fixmatch::FixMatch;
pub use made::made;
pub use mean_teacher::MeanTeacher;
pub use pretext::PretextTasks;
pub use probe::LinearProbe;
pub use pseudo_label::PseudoLabel;
pub use registry::{Complete, Defaults, Fault, Kind, Learner, Settings, find, kinds, learner, register};
pub use simclr::SimClr;
pub use simsiam::SimSiam;
pub use source::Source;
pub use supcon::SupCon;
pub use vicreg::VicReg;
pub use views::{labelled_views, taught_views, two_views};

use crate::engine::{DropoutKey, Engine, OwnShare, Rates};
use crate::error::Result;
use crate::network::{Network, PROJECTOR, Widths};
use crate::optimizer::Schedule;

/// The metric of a method that measures how far its outputs are spread ([`crate::evaluate::output_std`]).
pub const OUTPUT_STD: &str = "output_std";

/// A method with its settings.
pub trait Method: Debug + Send + Sync {
    /// What is trained. The block [`BACKBONE`](crate::network::BACKBONE) is what other stages take over.
    fn network(&self, widths: &Widths) -> Network;

    /// An empty batch; the training loop has two, and makes one while the other is trained on.
    fn batch(&self) -> Box<dyn Batch>;

    /// The heads that have an accuracy; none where nothing is classified. How many classes each has, [`Method::network`] says,
    /// which may go by a setting: it is the width of the block.
    fn heads(&self) -> &[Head] {
        &[]
    }

    /// Whether it compares two views of each image, by [`two_views`] or one of its kin: a batch has two inputs for each image,
    /// the spread of the projector's outputs is measured, and an incomplete last batch is left out.
    fn compares_views(&self) -> bool {
        false
    }

    /// Names of the training metrics besides the loss and the accuracies, in the order of [`Batch::step`]'s sums.
    fn measures(&self) -> &[&'static str] {
        if self.compares_views() { &[OUTPUT_STD] } else { &[] }
    }

    /// Width of the outputs whose spread [`OUTPUT_STD`] measures: healthy ones have 1/√width.
    fn output_width(&self, network: &Network) -> Option<usize> {
        network.width_of(PROJECTOR).filter(|_| self.compares_views())
    }

    /// Whether its loss is lowest where all outputs are alike: a run then warns when their spread goes.
    fn can_collapse(&self) -> bool {
        false
    }

    /// Whether it learns from a teacher: an average of the network with running statistics of its own
    /// ([`Statistics::Own`](crate::engine::Statistics::Own)), to which [`Batch::step`] gives its decay.
    fn has_teacher(&self) -> bool {
        false
    }

    /// Of a semi-supervised method: the images without labels beside the labelled ones. Its kind uses labels.
    fn unlabelled(&self) -> Option<Unlabelled> {
        None
    }

    /// d of the average that is evaluated in the network's stead, for a stage that does not say; none if it has none then.
    fn average(&self) -> Option<f64> {
        None
    }

    /// Inputs that a step takes for each image: what a batch costs in memory.
    fn views(&self) -> usize {
        match self.unlabelled() {
            Some(Unlabelled { ratio, .. }) => 1 + ratio,
            None if self.compares_views() => 2,
            None => 1,
        }
    }

    /// Whether an incomplete last batch is left out.
    fn drops_last(&self) -> bool {
        self.compares_views()
    }

    /// The heads' schedule; none if it is the stage's.
    fn head_schedule(&self) -> Option<Schedule> {
        None
    }

    /// The evidence in an epoch's metrics that nothing has been learnt, where no accuracy tells.
    fn hardly_learnt(&self, _metrics: &BTreeMap<String, f64>) -> Option<String> {
        None
    }

    /// Settings out of range, or that contradict each other: the key, and why. Called when an experiment is read, before anything
    /// else of the method.
    ///
    /// # Errors
    /// The first of them.
    fn check(&self) -> std::result::Result<(), Fault> {
        Ok(())
    }
}

/// Images without labels in the batches of a semi-supervised method: an epoch goes through all training images once, as
/// unlabelled ones, but for an incomplete last step, and through the labelled images as often as that takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unlabelled {
    /// μ of the last epoch: so many of them for each labelled image.
    pub ratio: usize,
    /// μ of the first epoch, from 1 to `ratio`: it grows epoch by epoch. Steps stay the same, and an epoch goes through a part of
    /// the images only.
    pub first: usize,
    /// Passes in eval mode of each of them that a step makes besides.
    pub judged: usize,
}

impl Unlabelled {
    /// `ratio` in every epoch, or growing from `first`.
    pub fn new(ratio: usize, first: Option<usize>, judged: usize) -> Unlabelled {
        Unlabelled { ratio, first: first.unwrap_or(ratio), judged }
    }

    /// μ of `epoch` (from 0) of `epochs`: on the straight line from the first epoch's to the last's, rounded down.
    pub fn in_epoch(self, epoch: u32, epochs: u32) -> usize {
        let grown = (self.ratio - self.first) as u64 * u64::from(epoch) / u64::from((epochs - 1).max(1));
        self.first + grown as usize
    }
}

/// A head that is trained on labels: a block of the network that ends in a linear layer with an output for each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// Its block.
    pub block: &'static str,
    /// Of the labels that the batch draws itself: begins the names of its metrics. Empty where they are the data's.
    pub prefix: &'static str,
}

impl Head {
    /// Whether it predicts the data's labels: its accuracy is that of the stage.
    pub fn is_of_data(&self) -> bool {
        self.prefix.is_empty()
    }
}

/// The examples of one step, in memory that is reused from step to step.
///
/// [`made()`] gives one for heads that are trained by cross-entropy, [`two_views`], [`labelled_views`] and [`taught_views`] for
/// losses on two views of each image. Any other loss takes one of its own: here a network is to tell the mean of each of an
/// image's colours, by the squared error.
///
/// ```
/// use fewlabel::engine::{Engine, Input};
/// use fewlabel::experiment::{Experiment, Options, run};
/// use fewlabel::method::{self, Batch, Defaults, Draw, Kind, Learner, Method, Source, Step};
/// use fewlabel::network::{Block, Network, Widths};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Default)]
/// struct Colors {
///     draw: Draw,
///     input: Vec<f32>,
///     /// [n, 3].
///     means: Vec<f32>,
/// }
///
/// impl Batch for Colors {
///     fn fill(&mut self, from: &Source, indices: &[u32], draw: Draw) {
///         self.draw = draw;
///         self.input.resize(indices.len() * from.width(), 0.0);
///         self.means.clear();
///         for (&index, image) in indices.iter().zip(self.input.chunks_exact_mut(from.width())) {
///             from.input(index, image);
///             let planes = image.chunks_exact(from.width() / 3);
///             self.means.extend(planes.map(|plane| plane.iter().sum::<f32>() / plane.len() as f32));
///         }
///     }
///
///     fn step(&mut self, model: &mut dyn Engine, at: Step, _: &mut [f64]) -> fewlabel::Result<f64> {
///         let (means, n) = (&self.means, self.means.len() as f32);
///         let mut loss = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
///             let errors = outputs[0].iter().zip(means).map(|(told, mean)| told - mean);
///             gradients[0].clear();
///             gradients[0].extend(errors.clone().map(|error| 2.0 * error / n));
///             Ok(errors.map(|error| f64::from(error * error / n)).sum())
///         };
///         let input = Input::train(&self.input, self.draw.dropout());
///         model.step(&[input], &["colors"], &mut loss, at.rates)
///     }
/// }
///
/// #[derive(Debug, Serialize, Deserialize)]
/// struct MeanColors {}
///
/// impl Method for MeanColors {
///     fn network(&self, widths: &Widths) -> Network {
///         let heads = vec![Block::linear("colors", widths.hidden, 3, &[])];
///         Network { heads, ..Network::supervised(widths) }
///     }
///
///     fn batch(&self) -> Box<dyn Batch> {
///         Box::new(Colors::default())
///     }
/// }
///
/// static COLORS: Kind = Kind {
///     name: "colors",
///     title: "Mean colours",
///     about: "the mean of each colour of an image, on all images, without labels",
///     uses_labels: false,
///     transfers: false,
///     learner: Some(Learner {
///         defaults: Defaults::adam(5, 64),
///         keys: &[],
///         loss: "squared error",
///         about_loss: "The mean squared error of the colours' means.",
///         read: method::learner::<MeanColors>,
///     }),
/// };
///
/// method::register(&COLORS)?;
/// let yaml = "
/// name: colors
/// dataset: {name: synthetic, train: 60, test: 20}
/// labels: {count: 20}
/// network: {channels: [2, 3, 4], hidden: 8}
/// stages:
///   - {name: colors, method: colors, epochs: 4, batch: 10}
///   - {name: probe, method: probe, from: colors, epochs: 1, batch: 10}
/// ";
/// let folder = tempfile::tempdir().unwrap();
/// let manifest = run(&Experiment::parse("colors.yaml".as_ref(), yaml)?, &Options::new(folder.path()))?;
/// let losses: Vec<f64> = manifest.result["colors"].history.iter().map(|epoch| epoch.metrics["train_loss"]).collect();
/// assert!(losses[3] < losses[0]);
/// # Ok::<(), fewlabel::Error>(())
/// ```
pub trait Batch: Send {
    /// Draws the examples `indices`. Random values are keyed by `draw`, and by the image's index or its place in the batch.
    fn fill(&mut self, from: &Source, indices: &[u32], draw: Draw);

    /// The training step `at` on the examples: the loss. Adds to `sums`, of each head the number of right answers, then of each
    /// measure its mean times the number of examples, which are the labelled ones where others have no labels.
    ///
    /// # Errors
    /// The engine's.
    fn step(&mut self, model: &mut dyn Engine, at: Step, sums: &mut [f64]) -> Result<f64>;

    /// The network's input, by which an evaluation judges the heads: required of a method that has heads.
    fn input(&self) -> &[f32] {
        &[]
    }

    /// The labels of each head, in the order of [`Method::heads`]: required of a method that has heads.
    fn labels(&self) -> &[Vec<u16>] {
        &[]
    }
}

/// A training step of a stage.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// What the stage's schedules give for it.
    pub rates: Rates,
    /// Steps before it.
    pub done: u64,
    /// Steps of the whole stage, at least 1.
    pub all: u64,
}

/// Where a batch is in a stage: the key of its random values.
#[derive(Clone, Copy, Debug, Default)]
pub struct Draw {
    /// The experiment's.
    pub seed: u64,
    /// From 0.
    pub epoch: u32,
    /// The position in the epoch of the batch's first example.
    pub first: u32,
    /// Whether it is to be evaluated, not trained on: random values of its own.
    pub evaluates: bool,
    /// Which examples this process trains on: the network's inputs for others are not looked at, and need not be made. Labels,
    /// and all that a loss takes, are wanted for every example.
    pub own: OwnShare,
    /// Of a semi-supervised method's training batch.
    pub labelled: Labelled,
}

/// The labelled examples of a semi-supervised batch, which are the first; the others have no labels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Labelled {
    /// How many.
    pub n: usize,
    /// How many the stage has taken before.
    pub before: u64,
    /// How many different ones there are: each pass through them has an order of its own.
    pub of: usize,
}

impl Labelled {
    /// Which pass through the labelled images the batch's labelled example `i` belongs to, from 0: with the image, a key of
    /// random values.
    pub fn pass(self, i: usize) -> u32 {
        ((self.before + i as u64) / self.of.max(1) as u64) as u32
    }
}

impl Draw {
    /// The key of the batch's dropout masks.
    pub fn dropout(self) -> DropoutKey {
        DropoutKey { seed: self.seed, epoch: self.epoch, first: self.first }
    }
}
