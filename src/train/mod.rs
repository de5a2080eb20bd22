//! Training: one loop for every stage, interruptible at every step.
//!
//! A [`Recipe`] says what is done, a [`Progress`] how far it has come. Every random value is keyed by epoch and
//! index, so that a `Progress` is all that a resumed run needs.

mod checkpoint;
mod method;

use std::collections::BTreeMap;

use candle_core::Device;
use serde::{Deserialize, Serialize};

use crate::data::{Data, epoch_order};
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::network::{Array, Mode, Network, Weights};
use crate::optimizer::{Rule, Schedule, State};
pub use method::Method;
use method::{Batch, Sums};

/// One stage's training.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The stage, for messages.
    pub name: String,
    pub method: Method,
    pub network: Network,
    pub rule: Rule,
    /// The rate at the first step.
    pub lr: f64,
    pub schedule: Schedule,
    pub epochs: u32,
    pub batch: usize,
    pub seed: u64,
}

impl Recipe {
    /// Steps of an epoch over `n` images. SimSiam drops a last short batch, the others keep it.
    pub fn steps(&self, n: usize) -> usize {
        if self.method.drops_last() { n / self.batch } else { n.div_ceil(self.batch) }
    }
}

/// What is kept of one epoch: metrics by name. Accuracies (`…top1`) are shares of 1; losses are means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// From 1.
    pub epoch: u32,
    #[serde(flatten)]
    pub metrics: BTreeMap<String, f64>,
}

/// A stage between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The epoch under way, from 0; the number of epochs when finished.
    pub epoch: u32,
    /// Steps done in it.
    pub step: usize,
    /// Running sums of those steps.
    pub sums: Sums,
    pub history: Vec<Record>,
    pub weights: Weights,
    pub optimizer: State,
}

impl Progress {
    /// Before the first step.
    pub fn start(weights: Weights) -> Progress {
        let (sums, history, optimizer) = Default::default();
        Progress { epoch: 0, step: 0, sums, history, weights, optimizer }
    }

    fn take_tensors(&mut self) -> (Weights, State) {
        (std::mem::take(&mut self.weights), std::mem::take(&mut self.optimizer))
    }
}

/// Where a stage is: for a progress display.
#[derive(Clone, Copy, Debug)]
pub struct Position {
    /// From 1.
    pub epoch: u32,
    pub epochs: u32,
    /// Steps done in the epoch, and steps of an epoch.
    pub step: usize,
    pub steps: usize,
    /// Images that one step takes.
    pub batch: usize,
    /// Mean training loss of the epoch so far.
    pub loss: f64,
}

/// Told of every step and epoch, and asked whether to go on. `()` goes on and keeps nothing.
pub trait Observer {
    /// After every step.
    fn step(&mut self, _at: Position) {}
    /// Whether the progress should be saved after this step.
    fn checkpoint_due(&mut self) -> bool {
        false
    }
    /// Whether to stop after this step; its progress is saved first.
    fn interrupted(&self) -> bool {
        false
    }
    /// After every epoch, and when due or interrupted.
    fn save(&mut self, _progress: &Progress) -> Result<()> {
        Ok(())
    }
    /// After every epoch, before it is saved.
    fn epoch(&mut self, _record: &Record, _at: Position) -> Result<()> {
        Ok(())
    }
}

impl Observer for () {}

/// Trains from `start` to the recipe's last epoch on the training images `examples`.
///
/// # Errors
/// [`Error::Interrupted`] when the observer says so (the progress is saved), [`Error::Diverged`], the observer's
/// own errors, and those of the tensor library.
pub fn train(
    recipe: &Recipe,
    data: &Data,
    examples: &[u32],
    start: Progress,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Progress> {
    let mut progress = start;
    let network = recipe.network.clone();
    let frozen = frozen_parameters(&network, &progress.weights);
    if progress.epoch == recipe.epochs {
        return Ok(progress);
    }
    // The engine has them now; a second copy of everything, only while it is saved.
    let (weights, optimizer) = progress.take_tensors();
    let mut model = engine::open(device, network, weights, recipe.rule, &optimizer)?;
    drop(optimizer);
    let snapshot = |progress: &mut Progress, model: &dyn Engine| -> Result<()> {
        progress.weights = model.weights()?;
        progress.optimizer = model.state()?;
        Ok(())
    };
    let steps = recipe.steps(examples.len());
    let [mut batch, mut next] = <[Batch; 2]>::default();
    while progress.epoch < recipe.epochs {
        let order = epoch_order(examples, recipe.seed, progress.epoch);
        let position = |progress: &Progress| Position {
            epoch: progress.epoch + 1,
            epochs: recipe.epochs,
            step: progress.step,
            steps,
            batch: recipe.batch,
            loss: progress.sums.mean_loss(),
        };
        let epoch = progress.epoch;
        let fill = |batch: &mut Batch, step: usize| {
            if step < steps {
                recipe.fill_training(batch, &data.train, &order, step, epoch);
            }
        };
        fill(&mut batch, progress.step);
        while progress.step < steps {
            let done = u64::from(progress.epoch) * steps as u64 + progress.step as u64;
            let lr = recipe.schedule.rate(recipe.lr, done, u64::from(recipe.epochs) * steps as u64);
            let Progress { step, sums, .. } = &mut progress;
            // Where the step leaves a core idle, it makes the next batch; neither reads what the other writes.
            let (loss, ()) =
                rayon::join(|| recipe.step(&mut *model, lr, &batch, epoch, sums), || fill(&mut next, *step + 1));
            std::mem::swap(&mut batch, &mut next);
            let loss = loss?;
            if !loss.is_finite() {
                return Err(Error::Diverged { stage: recipe.name.clone(), epoch: progress.epoch + 1, loss });
            }
            progress.step += 1;
            observer.step(position(&progress));
            let interrupted = observer.interrupted();
            if interrupted || observer.checkpoint_due() {
                snapshot(&mut progress, &*model)?;
                observer.save(&progress)?;
                progress.take_tensors();
            }
            if interrupted {
                return Err(Error::Interrupted);
            }
        }
        let mut metrics = std::mem::take(&mut progress.sums).means(recipe.method);
        metrics.extend(recipe.evaluate(&mut *model, &data.test, progress.epoch)?);
        // The last update of an epoch shows in the test metrics only.
        if let Some(&loss) = metrics.values().find(|value| !value.is_finite()) {
            return Err(Error::Diverged { stage: recipe.name.clone(), epoch: progress.epoch + 1, loss });
        }
        let record = Record { epoch: progress.epoch + 1, metrics };
        let at = position(&progress);
        progress.history.push(record.clone());
        (progress.epoch, progress.step) = (progress.epoch + 1, 0);
        snapshot(&mut progress, &*model)?;
        observer.epoch(&record, at)?;
        observer.save(&progress)?;
        if progress.epoch < recipe.epochs {
            progress.take_tensors();
        }
    }
    assert_eq!(frozen, frozen_parameters(&recipe.network, &progress.weights), "a frozen backbone has moved");
    Ok(progress)
}

/// The arrays that must not move: of frozen blocks the parameters, and in eval mode the statistics too.
fn frozen_parameters(network: &Network, weights: &Weights) -> Vec<Array> {
    let frozen = network.blocks().filter_map(|block| block.frozen.map(|mode| (block, mode)));
    let specs = frozen.flat_map(|(block, mode)| block.tensors().map(move |spec| (spec, mode)));
    let still = specs.filter(|(spec, mode)| spec.role.is_parameter() || *mode == Mode::Eval);
    still.filter_map(|(spec, _)| weights.get(&spec.name).cloned()).collect()
}
