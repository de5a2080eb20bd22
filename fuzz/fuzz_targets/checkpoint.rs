//! A checkpoint's reader behind the check of its hash, which is made to match: any bytes, or a whole checkpoint of a tiny
//! training with any of its bytes changed. What is accepted and fits the training is resumed to its end.
#![no_main]

use std::sync::LazyLock;

use candle_core::Device;
use fewlabel::data::{Data, synthetic};
use fewlabel::error::{Error, Result};
use fewlabel::experiment::Experiment;
use fewlabel::files::sha256;
use fewlabel::network::Weights;
use fewlabel::train::{Examples, Observer, Progress, Recipe, train};
use fewlabel_fuzz::edited;

const YAML: &str = "
name: fuzz
dataset: {name: synthetic, train: 20, test: 10}
labels: {count: 20, choose: stratified, validation: 0.5}
network: {channels: [1, 1, 1], hidden: 1}
stages: [{name: a, method: supervised, epochs: 2, batch: 5}]";

/// A training, and its checkpoint after the first step of the second epoch, without its hash.
struct Training {
    recipe: Recipe,
    data: Data,
    examples: Examples,
    checkpoint: Vec<u8>,
}

/// Keeps the progress after the first step of the second epoch.
struct Second(Option<Progress>);

impl Observer for Second {
    fn checkpoint_due(&mut self) -> bool {
        true
    }

    fn save(&mut self, progress: &Progress) -> Result<()> {
        if progress.epoch == 1 && progress.step == 1 {
            self.0 = Some(progress.clone());
        }
        Ok(())
    }
}

impl Training {
    fn resume(&self, start: Progress, observer: &mut dyn Observer) -> Result<()> {
        train(&self.recipe, &self.data, &self.examples, start, &Device::Cpu, observer).map(drop)
    }
}

static TRAINING: LazyLock<Training> = LazyLock::new(|| {
    let experiment = Experiment::parse("fuzz.yaml".as_ref(), YAML).expect("an experiment");
    let (stage, data) = (&experiment.stages[0], synthetic(20, 10, 0));
    let recipe = experiment.recipe(stage).expect("it is trained");
    let examples = experiment.examples(stage, &data).expect("enough images");
    let mut training = Training { recipe, data, examples, checkpoint: vec![] };
    let (start, mut second) = (Progress::start(Weights::init(&training.recipe.network, 0)), Second(None));
    training.resume(start, &mut second).expect("it can be trained");
    let progress = second.0.expect("a second epoch");
    progress.fits(&training.recipe, &training.examples).expect("its own checkpoint");
    [_, training.checkpoint] = progress.to_bytes("fuzz");
    training
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let Training { recipe, examples, checkpoint, .. } = &*TRAINING;
    let body = if kind % 2 == 0 { rest.to_vec() } else { edited(checkpoint, rest) };
    let bytes = [sha256(&body).as_bytes(), b"\n", &body].concat();
    if let Ok(progress) = Progress::from_bytes(&bytes, "fuzz", &recipe.network) {
        assert_eq!(progress.weights.arrays.len(), recipe.network.tensors().count());
        if progress.fits(recipe, examples).is_ok() {
            match TRAINING.resume(progress, &mut ()) {
                Ok(()) | Err(Error::Diverged { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
    assert!(Progress::from_bytes(&body, "fuzz", &recipe.network).is_err(), "no hash is guessed");
});
