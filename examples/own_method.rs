//! A pre-training method of your own, in terms of the library: by which quarter turn was an image rotated? (RotNet:
//! Gidaris, Singh and Komodakis, "Unsupervised representation learning by predicting image rotations", 2018.) Its
//! backbone is then fine-tuned on few labels, and compared with the same network from random weights.
//!
//!     cargo run --release --example own_method
//!
//! On these drawn shapes so short a pre-training does not pay off: 30.7 % against 55.1 % (seed 0, one run each).

use candle_core::Device;
use fewlabel::augment::{quarter_turns, to_input};
use fewlabel::data::{Data, IMAGE, epoch_order, synthetic};
use fewlabel::engine::{self, DropoutKey, Input};
use fewlabel::experiment::Experiment;
use fewlabel::loss::cross_entropy;
use fewlabel::network::{Network, Weights};
use fewlabel::optimizer::{Rule, State};
use fewlabel::rng::{Purpose, Stream};
use fewlabel::train::{Progress, train};

const SEED: u64 = 0;
const EPOCHS: u32 = 5;
const BATCH: usize = 64;

/// The fine-tuning, as in an experiment file.
const FINETUNING: &str = "
name: own-method
dataset: {name: synthetic, train: 4000, test: 1000}
labels: {count: 500, choose: stratified}
network: {channels: [16, 32, 64], hidden: 128}
stages:
  - {name: finetune, method: finetune, from: random, epochs: 15, batch: 64}";

/// The method: all images, rotated at random; the labels are the quarter turns.
fn rotation(data: &Data, network: &Network) -> fewlabel::Result<Weights> {
    let weights = Weights::init(network, SEED);
    let mut model = engine::open(&Device::Cpu, network.clone(), weights, Rule::Adam, &State::default())?;
    let all: Vec<u32> = (0..data.train.len() as u32).collect();
    for epoch in 0..EPOCHS {
        let (mut loss, mut steps) = (0.0, 0);
        for (step, indices) in epoch_order(&all, SEED, epoch).chunks(BATCH).enumerate() {
            let (mut images, mut labels) = (vec![0.0; indices.len() * IMAGE], vec![]);
            for (&index, out) in indices.iter().zip(images.chunks_exact_mut(IMAGE)) {
                // Keyed by epoch and image: the same draw on any number of threads.
                let turns = Stream::new(SEED, Purpose::Pretext, epoch, index).below(4) as u8;
                let mut turned = [0; IMAGE];
                quarter_turns(data.train.image(index as usize), turns, &mut turned);
                to_input(&turned, out);
                labels.push(turns);
            }
            let dropout = DropoutKey { seed: SEED, epoch, first: (step * BATCH) as u32 };
            let mut of_turns = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
                cross_entropy(&outputs[0], &labels, &mut gradients[0])
            };
            loss += model.step(&[Input::train(&images, dropout)], &["rotation_head"], &mut of_turns, 1e-3.into())?;
            steps += 1;
        }
        println!("rotation: epoch {}/{EPOCHS}  loss {:.4}", epoch + 1, loss / f64::from(steps));
    }
    model.weights()
}

fn main() -> fewlabel::Result<()> {
    let data = synthetic(4000, 1000, SEED);
    let experiment = Experiment::parse("own_method".as_ref(), FINETUNING)?;
    let stage = &experiment.stages[0];
    let (recipe, examples) = (experiment.recipe(stage).expect("it trains"), experiment.examples(stage, &data)?);
    let pretrained = rotation(&data, &Network::pretext(&experiment.widths()))?;
    for (name, from) in [("random weights", None), ("rotation", Some(&pretrained))] {
        let mut weights = Weights::init(&recipe.network, SEED);
        // By name: the backbone and the hidden layer; the classifier stays as initialised.
        from.iter().for_each(|from| weights.transfer(from));
        let trained = train(&recipe, &data, &examples, Progress::start(weights), &Device::Cpu, &mut ())?;
        let last = &trained.history[trained.history.len() - 1].metrics;
        println!("from {name}: {:.1} % of the test images after the last epoch", 100.0 * last["test_top1"]);
    }
    Ok(())
}
