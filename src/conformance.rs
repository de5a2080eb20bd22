//! What every method must hold, as one call for a test: the built-in methods are tested by it, and so is a method of one's own.
//!
//! ```no_run
//! fewlabel::conformance::check("method: simclr, temperature: 0.1");
//! ```

use std::collections::BTreeSet;

use candle_core::Device;

use crate::data::{Data, synthetic};
use crate::engine::{
    AVERAGE, Engine, Gradients, Input, Loss, Rates, Shards, Statistics, Team, cpu, reference, team_of_threads,
};
use crate::error::Result;
use crate::experiment::Experiment;
use crate::method::{Draw, Source, Step};
use crate::network::{Array, Weights};
use crate::optimizer::State;
use crate::train::{Examples, Observer, Order, Progress, Recipe, Trained, train, train_shards};

/// Checks, on the study's backbone made tiny and drawn images, a method as the keys of a stage give it:
/// - its gradient is that of its loss, by central differences and on both engines, where what it calls a constant is one;
/// - its draws depend on seed, epoch and image, not on the order of a batch;
/// - without [`uses_labels`](crate::method::Kind::uses_labels) it takes the same step whatever the labels are, and with images
///   without labels beside the labelled ones ([`unlabelled`](crate::method::Method::unlabelled)) whatever theirs are;
/// - another seed gives other weights;
/// - 1, 2, 3 and 8 threads give the same bits;
/// - so do teams of 1, 2 and 3 members, of batches in three shards;
/// - stopped after any step and resumed from its checkpoint, it comes to the same bits.
///
/// It takes seconds where the crate is optimized, minutes where it is not.
///
/// # Panics
/// With the first of these that does not hold, or with what is wrong with `stage`.
#[track_caller]
pub fn check(stage: &str) {
    check_on(stage, "channels: [3, 4, 5]");
}

/// [`check`] on another backbone, as the keys of `network` give it: `backbone: {name: resnet, depth: 8, width: 3}`, say.
///
/// # Panics
/// As [`check`].
#[track_caller]
pub fn check_on(stage: &str, network: &str) {
    let stage = Stage::new(stage, network, 0);
    stage.check_gradients();
    stage.check_draws();
    stage.check_labels();
    let whole = stage.train(1, Progress::start(stage.start()), &mut ());
    let other = Stage::new(&stage.yaml, network, 1);
    let elsewhere = other.train(1, Progress::start(other.start()), &mut ());
    assert!(whole.weights != elsewhere.weights, "{}: another seed gives the same weights", stage.yaml);
    for threads in [2, 3, 8] {
        let again = stage.train(threads, Progress::start(stage.start()), &mut ());
        assert!(again == whole, "{}: {threads} threads give other bits than one", stage.yaml);
    }
    let alone = stage.train_team(1);
    for size in [2, 3] {
        assert!(stage.train_team(size) == alone, "{}: a team of {size} gives other bits than one process", stage.yaml);
    }
    let mut kept = Kept::default();
    stage.train(2, Progress::start(stage.start()), &mut kept);
    for checkpoint in kept.0 {
        let network = &stage.recipe.network;
        let progress = Progress::from_bytes(&checkpoint, "me", network).expect("its own checkpoint");
        let (epoch, step) = (progress.epoch + 1, progress.step);
        if let Err(why) = progress.fits(&stage.recipe, &stage.examples) {
            panic!("{}: the checkpoint of epoch {epoch}, step {step} {why}", stage.yaml);
        }
        let resumed = stage.train(2, progress, &mut ());
        assert!(resumed == whole, "{}: resumed in epoch {epoch} after step {step}, other bits", stage.yaml);
    }
}

/// Images of a batch: enough for batch norm not to be all curvature.
const BATCH: usize = 12;

const EPOCHS: u32 = 2;

/// Of a batch, which they do not divide evenly; the last batch, of fewer images, is split too.
const SHARDS: usize = 3;

struct Stage {
    yaml: String,
    uses_labels: bool,
    recipe: Recipe,
    data: Data,
    examples: Examples,
}

impl Stage {
    fn new(keys: &str, network: &str, seed: u64) -> Stage {
        let yaml = |more: &str| {
            format!(
                "{{name: t, seed: {seed}, dataset: {{name: synthetic, train: 40, test: 10}}, labels: {{count: 30, choose: \
                 stratified}}, network: {{{network}, hidden: 9, projector: 16, predictor: 8, dropout: 0.3}}, \
                 stages: [{{name: a, {keys}, epochs: {EPOCHS}, batch: {BATCH}{more}}}]}}"
            )
        };
        let parse = |more: &str| Experiment::parse("stage".as_ref(), &yaml(more));
        let experiment = match parse("") {
            Err(error) if error.to_string().contains("needs `from`") => parse(", from: random"),
            parsed => parsed,
        };
        let experiment = experiment.unwrap_or_else(|error| panic!("{error}"));
        let (stage, data) = (&experiment.stages[0], synthetic(40, 10, seed));
        let recipe = experiment.recipe(stage).unwrap_or_else(|| panic!("{keys}: a method that trains nothing"));
        let examples = experiment.examples(stage, &data).unwrap_or_else(|error| panic!("{error}"));
        Stage { yaml: keys.to_owned(), uses_labels: stage.method.uses_labels, recipe, data, examples }
    }

    fn start(&self) -> Weights {
        Weights::init(&self.recipe.network, self.recipe.seed)
    }

    fn train(&self, threads: usize, start: Progress, observer: &mut (dyn Observer + Send)) -> Trained {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        let trained = pool.install(|| train(&self.recipe, &self.data, &self.examples, start, &Device::Cpu, observer));
        trained.unwrap_or_else(|error| panic!("{}: {error}", self.yaml))
    }

    /// What all members of a team of `size` give, of batches in [`SHARDS`].
    fn train_team(&self, size: usize) -> Trained {
        let recipe = Recipe { shards: SHARDS, ..self.recipe.clone() };
        let member = |team: Box<dyn Team>| {
            let (start, shards) = (Progress::start(self.start()), Shards::of_team(SHARDS, team));
            let train = || train_shards(&recipe, &self.data, &self.examples, start, &Device::Cpu, shards, &mut ());
            // In a pool of its own: a member that waits for the others keeps a thread busy.
            rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread").install(train)
        };
        let mut all: Vec<Trained> = std::thread::scope(|scope| {
            let members = team_of_threads(size).into_iter().map(|team| scope.spawn(|| member(team)));
            let members: Vec<_> = members.collect();
            let joined = members.into_iter().map(|member| member.join().expect("a member that does not panic"));
            joined.map(|trained| trained.unwrap_or_else(|error| panic!("{}: {error}", self.yaml))).collect()
        });
        let first = all.remove(0);
        assert!(all.iter().all(|other| *other == first), "{}: members of a team of {size} differ", self.yaml);
        first
    }

    /// One step on the images `indices`, by an engine that only looks.
    fn look(&self, weights: &Weights, which: usize, indices: &[u32], epoch: u32, fixed: Option<&Seen>) -> Seen {
        let mut watch = Watch { inner: self.engine(weights, which), fixed, seen: Seen::default() };
        let mut batch = self.recipe.method.batch();
        let labelled = self.order(epoch).labelled(0);
        let draw = Draw { seed: self.recipe.seed, epoch, labelled, ..Draw::default() };
        batch.fill(&Source::Images(&self.data.train), indices, draw);
        let mut sums = vec![0.0; self.recipe.method.heads().len() + self.recipe.method.measures().len()];
        let at = Step { rates: Rates::from(0.0), done: 0, all: 1 };
        let step = batch.step(&mut watch, at, &mut sums);
        step.unwrap_or_else(|error| panic!("{}: {error}", self.yaml));
        watch.seen
    }

    fn engine(&self, weights: &Weights, which: usize) -> Box<dyn Engine> {
        let Recipe { network, rule, .. } = &self.recipe;
        let (network, state) = (network.clone(), State::default());
        let mut engine: Box<dyn Engine> = match which {
            0 => Box::new(cpu::Model::new(network, weights.clone(), *rule, &state).expect("a network of layers")),
            _ => Box::new(reference::Model::new(network, weights, *rule, &state, &Device::Cpu).expect("a network")),
        };
        if let Some(statistics) = self.recipe.averages() {
            // A constant: it stays where training starts, wherever the weights are.
            let named = |array: Array| Array { name: format!("{AVERAGE}/{}", array.name), ..array };
            let state = State { steps: 0, arrays: self.start().arrays.into_iter().map(named).collect() };
            engine.keep_average(statistics, &state).expect("an average");
        }
        engine
    }

    fn order(&self, epoch: u32) -> Order {
        self.recipe.order(&self.examples.train, &self.examples, epoch)
    }

    /// Examples of a step: the first ones, or those of the last epoch where the batch has images without labels.
    fn some(&self) -> Vec<u32> {
        match self.recipe.method.unlabelled() {
            Some(_) => self.order(EPOCHS - 1).step(0).to_vec(),
            None => self.examples.train[..BATCH].to_vec(),
        }
    }

    fn check_labels(&self) {
        if self.uses_labels && self.examples.unlabelled.is_empty() {
            return;
        }
        let mut others = self.data.clone();
        for (image, label) in others.train.labels.iter_mut().enumerate() {
            if !(self.uses_labels && self.examples.labelled.contains(&(image as u32))) {
                *label = (*label + 1) % 10;
            }
        }
        let others = Stage {
            data: others,
            yaml: self.yaml.clone(),
            recipe: self.recipe.clone(),
            examples: self.examples.clone(),
            ..*self
        };
        let (weights, indices) = (self.start(), self.some());
        let [seen, other] = [self, &others].map(|stage| stage.look(&weights, 0, &indices, 0, None));
        let same = seen.inputs == other.inputs && seen.loss == other.loss && seen.gradients == other.gradients;
        let whose = if self.uses_labels { "does not know these labels" } else { "does not use labels" };
        assert!(same, "{}: it {whose}, and other labels give another step", self.yaml);
    }

    fn check_gradients(&self) {
        let mut weights = self.start();
        // As after some training: no shift is 0, so no ReLU is at its edge.
        for (i, array) in weights.arrays.iter_mut().enumerate() {
            let mut stream = crate::rng::Stream::own(self.recipe.seed, 0, 0, i as u32);
            array.values.iter_mut().for_each(|value| *value += 0.05 * stream.normal().abs());
        }
        let indices = &self.some();
        for (which, engine) in ["cpu", "reference"].into_iter().enumerate() {
            let seen = self.look(&weights, which, indices, 0, None);
            let all = seen.gradients.iter().flat_map(|array| &array.values);
            let largest = all.fold(0.0f64, |largest, g| largest.max(f64::from(g.abs())));
            assert!(largest > 0.0, "{}: nothing has a gradient", self.yaml);
            for Array { name, values, .. } in &seen.gradients {
                let own = values.iter().fold(0.0f64, |own, g| own.max(f64::from(g.abs())));
                for at in (0..values.len()).step_by(values.len().div_ceil(3)) {
                    const EPS: f32 = 1e-3;
                    let loss = |sign: f32| {
                        let mut moved = weights.clone();
                        let array = moved.arrays.iter_mut().find(|array| array.name == *name);
                        array.expect("a tensor of the network").values[at] += sign * EPS;
                        self.look(&moved, which, indices, 0, Some(&seen)).loss
                    };
                    let numeric = (loss(1.0) - loss(-1.0)) / (2.0 * f64::from(EPS));
                    let error = (numeric - f64::from(values[at])).abs();
                    let gradient = values[at];
                    assert!(
                        error <= 0.05 * own + 0.01 * largest,
                        "{}: {engine}: {name}[{at}]: the gradient {gradient} is not the derivative {numeric}",
                        self.yaml
                    );
                }
            }
        }
    }

    fn check_draws(&self) {
        let (weights, some) = (self.start(), self.some());
        // Those with labels stay the first.
        let mut backwards = some.clone();
        let (labelled, others) = backwards.split_at_mut(BATCH);
        labelled.reverse();
        others.reverse();
        let [forth, back] = [&some, &backwards].map(|indices| self.look(&weights, 0, indices, EPOCHS - 1, None).inputs);
        assert_eq!(forth.len(), back.len(), "{}: the number of inputs depends on the order", self.yaml);
        let mut seen = BTreeSet::new();
        for (forth, back) in forth.iter().zip(&back) {
            // An input may have several rows for each image: all first ones, all second ones …
            let width = self.recipe.network.input_len();
            // … and one with images without labels has them after the others, or alone.
            let parts = |rows: &[f32]| match some.len() {
                BATCH => rows.chunks(BATCH * width).map(<[f32]>::to_vec).collect(),
                all if rows.len() < all * width => vec![rows.to_vec()],
                _ => [&rows[..BATCH * width], &rows[BATCH * width..]].map(<[f32]>::to_vec).to_vec(),
            };
            for (forth, back) in parts(forth).iter().zip(&parts(back)) {
                let same = forth.chunks(width).eq(back.chunks(width).rev());
                assert!(same, "{}: what is drawn for an image depends on its place in the batch", self.yaml);
                seen.insert(forth.iter().map(|value| value.to_bits()).collect::<Vec<u32>>());
            }
        }
        assert!(!seen.is_empty(), "{}: a step without inputs", self.yaml);
    }
}

/// What a step has shown.
#[derive(Default)]
struct Seen {
    inputs: Vec<Vec<f32>>,
    outputs: Vec<Vec<f32>>,
    /// Whether each output is a constant.
    is_constant: Vec<bool>,
    gradients: Gradients,
    loss: f64,
}

/// An engine that looks and moves nothing.
struct Watch<'a> {
    inner: Box<dyn Engine>,
    /// Constants are as they were there.
    fixed: Option<&'a Seen>,
    seen: Seen,
}

impl Engine for Watch<'_> {
    fn forward(&mut self, inputs: &[Input], outputs: &[&str]) -> Result<&[Vec<f32>]> {
        self.seen.inputs.extend(inputs.iter().map(|input| input.values.to_vec()));
        self.inner.forward(inputs, outputs)
    }

    fn step(&mut self, inputs: &[Input], outputs: &[&str], loss: &mut Loss, _: Rates) -> Result<f64> {
        let Watch { inner, fixed, seen } = self;
        seen.inputs.extend(inputs.iter().map(|input| input.values.to_vec()));
        let mut watched = |found: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
            let mut found = found.to_vec();
            if let Some(fixed) = fixed {
                let constants = found.iter_mut().zip(&fixed.outputs).zip(&fixed.is_constant);
                constants.filter(|(_, is)| **is).for_each(|((now, then), _)| now.clone_from(then));
            }
            let value = loss(&found, gradients)?;
            seen.is_constant = gradients.iter().map(Vec::is_empty).collect();
            seen.outputs = found;
            Ok(value)
        };
        (self.seen.loss, self.seen.gradients) = inner.gradients(inputs, outputs, &mut watched)?;
        Ok(self.seen.loss)
    }

    fn gradients(&mut self, inputs: &[Input], outputs: &[&str], loss: &mut Loss) -> Result<(f64, Gradients)> {
        self.inner.gradients(inputs, outputs, loss)
    }

    fn weights(&self) -> Result<Weights> {
        self.inner.weights()
    }

    fn state(&self) -> Result<State> {
        self.inner.state()
    }

    fn shard(&mut self, shards: Shards) -> Result<()> {
        self.inner.shard(shards)
    }

    fn complete(&mut self, values: &mut [f32], n: usize) {
        self.inner.complete(values, n);
    }

    fn any(&mut self, flag: bool) -> bool {
        self.inner.any(flag)
    }

    fn keep_average(&mut self, statistics: Statistics, state: &State) -> Result<()> {
        self.inner.keep_average(statistics, state)
    }

    fn exchange_average(&mut self) -> Result<()> {
        self.inner.exchange_average()
    }
}

/// The checkpoint after every step and epoch.
#[derive(Default)]
struct Kept(Vec<Vec<u8>>);

impl Observer for Kept {
    fn checkpoint_due(&mut self) -> bool {
        true
    }

    fn save(&mut self, progress: &Progress) -> Result<()> {
        self.0.push(progress.to_bytes("me").concat());
        Ok(())
    }
}
