//! Trains SimSiam on a folder of your own images, without their labels, and uses its features: which training images
//! are most similar to a test image?
//!
//!     cargo run --release --example own_images -- my-images runs/own
//!
//! `my-images` holds `train/CLASS/` and `test/CLASS/` with images in them, at least 10 in each part. The classes only name
//! the images here.

use std::path::PathBuf;

use candle_core::Device;
use fewlabel::data::{SIDE, folder};
use fewlabel::engine::load_for_inference;
use fewlabel::experiment::{Experiment, Options, Output, run};
use fewlabel::neighbors::{nearest, normalized};
use fewlabel::train::features;

/// Enough to see something; the study takes 30.
const EPOCHS: u32 = 10;

fn main() -> fewlabel::Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(images), Some(out)) = (args.next(), args.next()) else {
        return Err(fewlabel::Error::Usage(
            "usage: own_images IMAGES OUT, the folder of images and the run directory".to_owned(),
        ));
    };
    let data = folder::load(&images, folder::Background::default(), SIDE)?.data;
    let (train, test, classes) = (data.train.len(), data.test.len(), data.classes.len());
    let hash = data.sha256();

    // An experiment with one stage: it is resumed when interrupted, and not repeated when done.
    let yaml = format!(
        "
name: own
dataset: {{name: folder, train: {train}, test: {test}, classes: {classes}, sha256: {hash:?}}}
labels: all
stages:
  - {{name: simsiam, method: simsiam, epochs: {EPOCHS}, batch: {}}}",
        64.min(train / 2)
    );
    let experiment = Experiment::parse("own_images".as_ref(), &yaml)?;
    run(&experiment, &Options { data_dir: Some(images), output: Output::Text, ..Options::new(&out) })?;

    let network = experiment.network(&experiment.stages[0]);
    let mut model = load_for_inference(&Device::Cpu, network, &out.join("simsiam/weights.safetensors"))?;

    let all = |n: usize| (0..n as u32).collect::<Vec<_>>();
    let bank = features(&data.train, &all(train), &mut *model)?;
    let asked: Vec<u32> = all(test).into_iter().step_by(test.div_ceil(5).max(1)).collect();
    let queries = features(&data.test, &asked, &mut *model)?;
    let width = bank.len() / train;
    let found = nearest(&normalized(queries, width), &normalized(bank, width), width, 3);
    let class = |label: u16| &data.classes[usize::from(label)];
    for (query, near) in asked.iter().zip(found.chunks_exact(3)) {
        let near: Vec<String> = near
            .iter()
            .map(|&(cosine, row)| format!("{} ({cosine:.2})", class(data.train.labels[row as usize])))
            .collect();
        println!("a test image of {}: most similar are {}", class(data.test.labels[*query as usize]), near.join(", "));
    }
    Ok(())
}
