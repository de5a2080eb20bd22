//! Benchmarks of learning image classification from few labels that anyone can check: the same experiment and seed give
//! the same weights, to the last bit, on any number of threads of any CPU.
//!
//! "The study" in these pages is M. Rezaee, *SimSiam: Self-Supervised and Contrastive Representation Learning*,
//! <https://github.com/msmrexe/pytorch-simsiam-contrastive-ssl> (MIT): a supervised baseline, pretext tasks and SimSiam
//! on CIFAR-10 with 5,000 labels. `experiments/study.yaml` reproduces it; what a file leaves out is its recipe.
//!
//! Data flows down this list: a module uses those above it. (The one exception: a fresh run removes its old report.)
//!
//! | module | what lives there |
//! | --- | --- |
//! | [`error`], [`files`], [`text`] | the error type; bounded reads, atomic writes; pieces of messages |
//! | [`settings`] | keys of an experiment file that only a method or a backbone knows |
//! | [`rng`] | random streams: every draw is a function of (seed, purpose, epoch, index) |
//! | [`data`] | CIFAR-10 and CIFAR-100, folders of images, the synthetic set, a program's own; labelled subsets, epoch orders |
//! | [`augment`] | SimSiam's views, the pretext tasks' images, augmentations of labelled images, on `u8` pixels |
//! | [`network`] | networks as descriptions, their weights, initialisation |
//! | [`optimizer`] | update rules, schedules, optimizer state |
//! | [`engine`] | forward and backward passes: explicit on the CPU, candle's autograd as the reference |
//! | [`cluster`] | several processes that run one experiment |
//! | [`loss`] | from outputs to loss and gradient |
//! | [`neighbors`], [`evaluate`] | nearest neighbours; accuracy, cross-entropy, kNN, the collapse measure |
//! | [`method`] | how a stage learns: one file a method |
//! | [`train`] | the one loop, its progress and its checkpoints |
//! | [`statistics`] | intervals, paired differences, verdicts, equivalence |
//! | [`experiment`] | the YAML file, its stages, the run directory, the result table |
//! | [`golden`] | manifests compared: bit for bit, or within a margin |
//! | [`umap`] | maps of features |
//! | [`report`] | figures and the HTML report |
//! | [`check`] | a read-only look over a run directory: every hash, every relation between its files |
//! | [`cli`] | the command line, for programs that add methods or data sets |
//! | [`conformance`] | what every method must hold, as one call for a test |
//!
//! [`engine::cpu`] states the numeric contract. A run in a few lines:
//!
//! ```
//! use fewlabel::experiment::{Experiment, Options, run};
//!
//! let yaml = "
//! name: example
//! dataset: {name: synthetic, train: 60, test: 20}
//! labels: {count: 20, choose: stratified}
//! network: {channels: [2, 3, 4], hidden: 8}
//! stages:
//!   - {name: baseline, method: supervised, epochs: 1, batch: 10}
//! ";
//! let experiment = Experiment::parse("example.yaml".as_ref(), yaml)?;
//! let folder = tempfile::tempdir().unwrap();
//! let manifest = run(&experiment, &Options::new(folder.path()))?;
//! assert!(manifest.result["baseline"].last.metrics["test_top1"] <= 1.0);
//! # Ok::<(), fewlabel::Error>(())
//! ```

#![warn(missing_docs)]

pub mod augment;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod conformance;
pub mod data;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod files;
pub mod golden;
pub mod loss;
pub mod method;
pub mod neighbors;
pub mod network;
pub mod optimizer;
mod registry;
pub mod report;
pub mod rng;
pub mod settings;
mod simd;
pub mod statistics;
mod suggest;
mod sums;
pub mod text;
pub mod train;
pub mod umap;

pub use error::{Error, Result};
