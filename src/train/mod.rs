//! Training: one loop for every stage, interruptible at every step.
//!
//! A [`Recipe`] says what is done, a [`Progress`] how far it is. Every random value is keyed by epoch and index, so a
//! `Progress` is all that a resumed run needs.

mod checkpoint;
mod evaluate;
mod fits;
mod inputs;
mod order;
mod pace;
mod recipe;

use std::collections::BTreeMap;

use crate::data::Data;
use crate::engine::{self, Engine, Rates, Shards};
use crate::error::{Error, Result};
use crate::method::{Batch, Step};
use crate::network::{Array, Mode, Network, Weights};
use crate::optimizer::State;
use candle_core::Device;
use evaluate::Sums;
pub(crate) use inputs::EVAL_BATCH;
use inputs::Inputs;
pub use inputs::features;
pub(crate) use order::Order;
pub(crate) use pace::expected_time;
pub use recipe::{Examples, Monitor, Recipe, Record, Subset, Test};

/// A stage between two steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// The epoch under way, from 0; the number of epochs when finished.
    pub epoch: u32,
    /// Steps done in it.
    pub step: usize,
    /// Running sums of those steps.
    pub(crate) sums: Sums,
    /// Of every finished epoch.
    pub history: Vec<Record>,
    /// None before the first epoch, and where no validation images choose one.
    pub best: Option<Best>,
    /// As of the last step.
    pub weights: Weights,
    /// As of the last step.
    pub optimizer: State,
}

/// The best epoch so far on the validation images.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// From 1.
    pub epoch: u32,
    /// Accuracy on the validation images, a share of 1.
    pub top1: f64,
    /// As they were after it.
    pub weights: Weights,
}

impl Progress {
    /// Before the first step.
    pub fn start(weights: Weights) -> Progress {
        let (sums, history, optimizer) = Default::default();
        Progress { epoch: 0, step: 0, sums, history, best: None, weights, optimizer }
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
    /// Epochs of the stage.
    pub epochs: u32,
    /// Steps done in the epoch.
    pub step: usize,
    /// Steps of an epoch.
    pub steps: usize,
    /// Images that one step takes.
    pub batch: usize,
    /// Mean training loss of the epoch so far; NaN in [`Observer::epoch`], where the last record has it.
    pub loss: f64,
    /// Accuracy of the first head in the epoch so far, a share of 1, and the prefix of its metric (`rotation_` or
    /// nothing). `None` where there is no head, and in [`Observer::epoch`].
    pub top1: Option<(&'static str, f64)>,
}

/// Called by the training loop. After every step it calls `step`, then `interrupted` and `checkpoint_due`, and `save`
/// if one of them is true; after every epoch `epoch`, then likewise `checkpoint_due` and `save`. An error ends the
/// training and is returned. `()` never stops and saves nothing.
pub trait Observer {
    /// After every step.
    fn step(&mut self, _at: Position) {}
    /// Whether to save the progress after this step or epoch.
    fn checkpoint_due(&mut self) -> bool {
        false
    }
    /// Whether to stop after this step; the progress is saved first. Not called at the end of an epoch.
    fn interrupted(&self) -> bool {
        false
    }
    /// Saves the progress.
    fn save(&mut self, _progress: &Progress) -> Result<()> {
        Ok(())
    }
    /// After every epoch, with all records so far.
    fn epoch(&mut self, _history: &[Record], _at: Position) -> Result<()> {
        Ok(())
    }
}

impl Observer for () {}

/// The result of a stage.
#[derive(Clone, Debug, PartialEq)]
pub struct Trained {
    /// Of every epoch.
    pub history: Vec<Record>,
    /// The single test of the chosen epoch; `None` where every epoch is tested, or where the method has no accuracy.
    pub chosen: Option<Record>,
    /// Of the chosen epoch, else of the last; their average where the recipe has one.
    pub weights: Weights,
}

/// Trains from `start` to the recipe's last epoch, in this process alone.
///
/// # Errors
/// [`Error::Interrupted`] when the observer asks to stop (the progress is saved), [`Error::Diverged`], the observer's
/// own errors, and those of the engine ([`engine::open`]).
///
/// # Panics
/// If a frozen backbone has changed, which would be a fault of the engine; with a batch of 0 images; with
/// [`Test::Once`] and 0 epochs; and for pretext tasks or SimSiam on a backbone frozen in eval mode.
pub fn train(
    recipe: &Recipe,
    data: &Data,
    examples: &Examples,
    start: Progress,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Trained> {
    train_shards(recipe, data, examples, start, device, Shards::new(recipe.shards), observer)
}

/// [`train`] by a team of processes, each with some of the batches' `shards`, of which there are [`Recipe::shards`]. Each gives
/// the whole result.
///
/// # Errors
/// Those of [`train`]; all members stop when one's observer asks to.
///
/// # Panics
/// As [`train`].
pub fn train_shards(
    recipe: &Recipe,
    data: &Data,
    examples: &Examples,
    start: Progress,
    device: &Device,
    shards: Shards,
    observer: &mut dyn Observer,
) -> Result<Trained> {
    let mut progress = start;
    let frozen = frozen_parameters(&recipe.network, &progress.weights);
    if progress.epoch < recipe.epochs {
        progress = train_epochs(recipe, data, examples, progress, device, shards, observer)?;
    }
    // Some methods measure nothing after the last update: only here would it show that it diverged.
    let mut values = progress.weights.arrays.iter().flat_map(|array| &array.values);
    if let Some(&value) = values.find(|value| !value.is_finite()) {
        return Err(Error::Diverged { stage: recipe.name.clone(), epoch: progress.epoch, loss: value.into() });
    }
    let Progress { history, weights, best, .. } = progress;
    assert_eq!(frozen, frozen_parameters(&recipe.network, &weights), "a frozen backbone has changed");
    let (epoch, weights) = best.map_or((recipe.epochs, weights), |best| (best.epoch, best.weights));
    let mut chosen = None;
    if recipe.test == Test::Once && !recipe.method.heads().is_empty() {
        let mut model = engine::open_for_inference(device, recipe.network.clone(), weights.clone())?;
        let all: Vec<u32> = (0..data.test.len() as u32).collect();
        let metrics = recipe.evaluate(&mut *model, &Inputs::images(&data.test, &all), "test", epoch - 1)?;
        chosen = Some(Record { epoch, metrics });
    }
    Ok(Trained { history, chosen, weights })
}

fn train_epochs(
    recipe: &Recipe,
    data: &Data,
    examples: &Examples,
    start: Progress,
    device: &Device,
    shards: Shards,
    observer: &mut dyn Observer,
) -> Result<Progress> {
    let mut progress = start;
    // The engine holds the weights from here on; `progress` has a copy only while it is saved.
    let (weights, optimizer) = progress.take_tensors();
    let mut model = engine::open(device, recipe.network.clone(), weights, recipe.rule, &optimizer)?;
    let looks = if recipe.test == Test::EveryEpoch { data.test.len() } else { 0 };
    let all: Vec<u32> = (0..looks as u32).collect();
    let sources = [(&data.train, &examples.train), (&data.train, &examples.validation), (&data.test, &all)];
    let mut whole = None;
    let [train, validation, test] = if recipe.network.is_frozen(Mode::Eval) {
        let of = |(data, indices): (_, &Vec<u32>)| Inputs::features(data, indices, &mut *model);
        let [train, validation, test] = sources.map(of);
        // From here on only the heads are trained.
        let (heads, weights) = (recipe.network.without_trunk(), model.weights()?);
        let mut of_heads = Weights::init(&heads, recipe.seed);
        of_heads.transfer(&weights);
        model = engine::open(device, heads, of_heads, recipe.rule, &optimizer)?;
        whole = Some(weights);
        [train?, validation?, test?]
    } else {
        sources.map(|(data, indices)| Inputs::images(data, indices))
    };
    if let Some(statistics) = recipe.averages() {
        model.keep_average(statistics, &optimizer)?;
    }
    let own = shards.own_share();
    model.shard(shards)?;
    drop(optimizer);
    let weights_of = |model: &dyn Engine| -> Result<Weights> {
        let weights = model.weights()?;
        let Some(mut whole) = whole.clone() else { return Ok(weights) };
        whole.transfer(&weights);
        Ok(whole)
    };
    let snapshot = |progress: &mut Progress, model: &dyn Engine| -> Result<()> {
        progress.weights = weights_of(model)?;
        progress.optimizer = model.state()?;
        Ok(())
    };
    let exchange = |model: &mut dyn Engine| if recipe.average.is_some() { model.exchange_average() } else { Ok(()) };
    let steps = recipe.steps(examples);
    let [all_steps, warmup] = [recipe.epochs, recipe.warmup].map(|epochs| u64::from(epochs) * steps as u64);
    let [mut batch, mut next] = [(); 2].map(|()| recipe.method.batch());
    while progress.epoch < recipe.epochs {
        let order = recipe.order(&train.indices, examples, progress.epoch);
        let position = |progress: &Progress| Position {
            epoch: progress.epoch + 1,
            epochs: recipe.epochs,
            step: progress.step,
            steps,
            batch: order.step(0).len(),
            loss: progress.sums.mean_loss(),
            top1: progress.sums.top1(&*recipe.method),
        };
        let epoch = progress.epoch;
        let fill = |batch: &mut dyn Batch, step: usize| {
            if step < steps {
                recipe.fill_training(batch, &train.content, &order, step, epoch, own);
            }
        };
        fill(&mut *batch, progress.step);
        while progress.step < steps {
            let done = u64::from(progress.epoch) * steps as u64 + progress.step as u64;
            let [trunk, heads] =
                [recipe.schedule, recipe.head_schedule].map(|s| s.rate_after(warmup, recipe.lr, done, all_steps));
            let rates = Rates { trunk, heads, average: recipe.average.map_or(1.0, |decay| average(decay, done)) };
            let at = Step { rates, done, all: all_steps };
            let Progress { step, sums, .. } = &mut progress;
            let images = order.counted(*step);
            // A core that the step leaves idle makes the next batch; neither reads what the other writes.
            let (loss, ()) =
                rayon::join(|| recipe.step(&mut *model, at, &mut *batch, images, sums), || fill(&mut *next, *step + 1));
            std::mem::swap(&mut batch, &mut next);
            let loss = loss?;
            if !loss.is_finite() {
                return Err(Error::Diverged { stage: recipe.name.clone(), epoch: progress.epoch + 1, loss });
            }
            progress.step += 1;
            observer.step(position(&progress));
            // All members of a team stop, or none.
            let interrupted = model.any(observer.interrupted());
            if interrupted || observer.checkpoint_due() {
                snapshot(&mut progress, &*model)?;
                observer.save(&progress)?;
                progress.take_tensors();
            }
            if interrupted {
                return Err(Error::interrupted());
            }
        }
        // What is judged is what becomes the result.
        exchange(&mut *model)?;
        let mut metrics = std::mem::take(&mut progress.sums).means(&*recipe.method);
        metrics.extend(match recipe.test {
            Test::EveryEpoch => recipe.evaluate(&mut *model, &test, "test", epoch)?,
            Test::Once if validation.indices.is_empty() => BTreeMap::new(),
            Test::Once => recipe.evaluate(&mut *model, &validation, "validation", epoch)?,
        });
        if let Some(monitor) = recipe.monitor.filter(|monitor| monitor.is_due(epoch + 1, recipe.epochs)) {
            let (prefix, queries) = match recipe.test {
                Test::EveryEpoch => ("test", (&data.test, &all[..])),
                Test::Once => ("validation", (&data.train, &examples.validation[..])),
            };
            let top1 = monitor.top1(queries, (&data.train, &examples.labelled), &mut *model)?;
            metrics.insert(format!("{prefix}_knn_top1"), top1);
        }
        // Only these metrics show whether the epoch's last update diverged.
        if let Some(&loss) = metrics.values().find(|value| !value.is_finite()) {
            return Err(Error::Diverged { stage: recipe.name.clone(), epoch: progress.epoch + 1, loss });
        }
        if let Some(&top1) = metrics.get("validation_top1")
            && progress.best.as_ref().is_none_or(|best| top1 > best.top1)
        {
            progress.best = Some(Best { epoch: epoch + 1, top1, weights: weights_of(&*model)? });
        }
        exchange(&mut *model)?;
        let record = Record { epoch: progress.epoch + 1, metrics };
        let at = position(&progress);
        progress.history.push(record);
        (progress.epoch, progress.step) = (progress.epoch + 1, 0);
        observer.epoch(&progress.history, at)?;
        if progress.epoch < recipe.epochs && observer.checkpoint_due() {
            snapshot(&mut progress, &*model)?;
            observer.save(&progress)?;
            progress.take_tensors();
        }
    }
    exchange(&mut *model)?;
    progress.weights = weights_of(&*model)?;
    Ok(progress)
}

/// d of the average in the step after `done` others: at most (1 + done)/(10 + done), so that it soon forgets the initial weights
/// (TensorFlow's `ExponentialMovingAverage` with `num_updates`).
fn average(decay: f64, done: u64) -> f64 {
    decay.min((1 + done) as f64 / (10 + done) as f64)
}

/// The arrays that must not change: frozen blocks' parameters, and in eval mode their statistics too.
fn frozen_parameters(network: &Network, weights: &Weights) -> Vec<Array> {
    let frozen = network.blocks().filter_map(|block| block.frozen.map(|mode| (block, mode)));
    let specs = frozen.flat_map(|(block, mode)| block.tensors().map(move |spec| (spec, mode)));
    let still = specs.filter(|(spec, mode)| spec.role.is_parameter() || *mode == Mode::Eval);
    still.filter_map(|(spec, _)| weights.get(&spec.name).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;
    use crate::experiment::Experiment;

    /// Two epochs of a stage with these keys, and its recipe.
    fn trained(keys: &str) -> (Recipe, Trained) {
        trained_with("", keys)
    }

    /// The same with keys of the experiment, `first`.
    fn trained_with(first: &str, keys: &str) -> (Recipe, Trained) {
        let yaml = format!(
            "{{name: t, {first} dataset: {{name: synthetic, train: 60, test: 40}}, labels: {{count: 60, choose: first}}, network:
            {{channels: [2, 3, 4], hidden: 8}}, stages: [{{name: a, {keys}, epochs: 2, batch: 10}}]}}"
        );
        let experiment = Experiment::parse("t.yaml".as_ref(), &yaml).unwrap();
        let (stage, data) = (&experiment.stages[0], synthetic(60, 40, 0));
        let (recipe, examples) = (experiment.recipe(stage).unwrap(), experiment.examples(stage, &data).unwrap());
        let start = Progress::start(Weights::init(&recipe.network, 0));
        let trained = train(&recipe, &data, &examples, start, &Device::Cpu, &mut ()).unwrap();
        (recipe, trained)
    }

    #[test]
    fn the_average_is_what_is_tested_and_what_the_stage_gives() {
        for method in ["method: supervised", "method: probe, from: random, frozen_norm: eval"] {
            let (_, without) = trained(method);
            let (_, of_nothing) = trained(&format!("{method}, average: 0"));
            assert!(of_nothing == without, "{method}: it is the network itself");
            let (recipe, averaged) = trained(&format!("{method}, average: 0.9"));
            assert!(averaged.weights != without.weights, "{method}");
            let (last, of_network) = (&averaged.history[1].metrics, &without.history[1].metrics);
            assert_eq!(last["train_loss"], of_network["train_loss"], "{method}: the network is the same");
            assert_ne!(last["test_loss"], of_network["test_loss"], "{method}");
            let network = recipe.network.clone();
            let state = State::default();
            let mut model = engine::open(&Device::Cpu, network, averaged.weights, recipe.rule, &state).unwrap();
            let (data, all) = (synthetic(60, 40, 0), (0..40).collect::<Vec<u32>>());
            let again = recipe.evaluate(&mut *model, &Inputs::images(&data.test, &all), "test", 1).unwrap();
            assert!(again.iter().all(|(name, value)| last[name] == *value), "{method}: {again:?}, not {last:?}");
        }
    }

    #[test]
    fn a_test_of_the_last_epoch_alone_is_the_last_of_all_tests() {
        for keys in ["method: supervised, average: 0.9", "method: pretext"] {
            let [every, once] = ["", "test: once,"].map(|first| trained_with(first, keys).1);
            assert!(once.weights == every.weights && every.chosen.is_none(), "{keys}");
            let (mut metrics, chosen) = (every.history[1].metrics.clone(), once.chosen.unwrap());
            let tests: BTreeMap<String, f64> = metrics.extract_if(.., |name, _| name.starts_with("test_")).collect();
            assert_eq!((chosen.epoch, chosen.metrics), (2, tests), "{keys}");
            assert_eq!(once.history[1].metrics, metrics, "{keys}: nothing is tested before");
        }
    }

    #[test]
    fn an_average_soon_forgets_where_it_began() {
        assert_eq!([0, 1, 90].map(|done| average(0.999, done)), [1.0 / 10.0, 2.0 / 11.0, 91.0 / 100.0]);
        assert_eq!((average(0.999, 9_000), average(0.0, 5)), (0.999, 0.0));
    }

    /// At a rate of nearly 0 the weights stay: what differs is what they see.
    #[test]
    fn images_are_viewed_in_tests() {
        let losses = |keys: &str| {
            let (_, trained) = trained(&format!("method: supervised, lr: 1e-30{keys}"));
            ["train_loss", "test_loss"].map(|name| trained.history[0].metrics[name])
        };
        let [train, test] = losses("");
        let [same, viewed] = losses(", test_views: flip");
        assert!(same == train && viewed != test, "{viewed}");
        assert_ne!(losses(", test_views: flip_shift")[1], viewed);
    }

    #[test]
    fn smoothed_labels_are_trained_on_and_not_tested_by() {
        let at_first = "method: supervised, lr: 1e-30";
        let losses = |keys: &str| {
            let (_, trained) = trained(&format!("{at_first}{keys}"));
            ["train_loss", "test_loss"].map(|name| trained.history[0].metrics[name])
        };
        let ([train, test], [smoothed, same]) = (losses(""), losses(", label_smoothing: 0.5"));
        assert_eq!(same, test);
        assert!(smoothed != train && (smoothed - train).abs() < 0.2, "{smoothed}, {train}: of random weights");
    }

    /// SimSiam measures nothing after its last update, but weights that have diverged must be noticed.
    #[test]
    fn weights_that_are_no_numbers_are_no_result() {
        let yaml = "{name: t, dataset: {name: synthetic, train: 20, test: 10}, labels: {count: 10, choose: first},
            network: {channels: [1, 2, 3], projector: 4, predictor: 2},
            stages: [{name: a, method: simsiam, epochs: 1, batch: 4}]}";
        let experiment = Experiment::parse("t.yaml".as_ref(), yaml).unwrap();
        let (stage, data) = (&experiment.stages[0], synthetic(20, 10, 0));
        let (recipe, examples) = (experiment.recipe(stage).unwrap(), experiment.examples(stage, &data).unwrap());
        let mut trained = Progress { epoch: 1, ..Progress::start(Weights::init(&recipe.network, 0)) };
        let result = |progress| train(&recipe, &data, &examples, progress, &Device::Cpu, &mut ());
        assert!(result(trained.clone()).is_ok());
        trained.weights.arrays[0].values[3] = f32::NAN;
        assert!(matches!(result(trained), Err(Error::Diverged { epoch: 1, .. })));
    }
}
