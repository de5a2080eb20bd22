//! Figures from the weights: augmented views, confusion matrices, feature maps, nearest neighbours, filters.

use candle_core::Device;
use rayon::prelude::*;

use super::Run;
use super::figure::{EXTENT, Figure, Matrix, Picture, Pictures, Plot, Scatter};
use super::matrix::FEW;
use crate::augment::{Color, Pretext, SHEARS, View, plain_batch};
use crate::data::{CHANNELS, Data, Dataset, IMAGE};
use crate::engine::{self, Engine};
use crate::error::Result;
use crate::evaluate::argmax;
use crate::experiment::{KNN, RANDOM, StageMethod};
use crate::neighbors::{Neighbor, nearest, normalized};
use crate::network::{CLASSIFICATION_HEAD, CLASSIFIER, Network, Weights};
use crate::optimizer::{Rule, State};
use crate::rng::{Purpose, Stream};
use crate::train::{EVAL_BATCH, features};
use crate::umap::Graph;

/// Rows of a neighbour figure, and neighbours in each.
const QUERIES: usize = 5;
const NEAREST: usize = 10;
/// Training images among which neighbours are looked for, at most.
const BANK: usize = 10_000;
/// Images whose augmented views are shown.
const VIEWED: u32 = 6;

/// The same training images as each method's network sees them.
pub fn views(run: &Run, data: &Data) -> Figure {
    let seed = run.manifest.experiment.seed.0;
    let row = |index: u32| {
        let image = data.train.image(index as usize);
        let class = &data.classes[usize::from(data.train.labels[index as usize])];
        let mut row = vec![Picture::of_planes(image, class)];
        let mut out = vec![0; image.len()];
        for epoch in 0..3 {
            let draw = Pretext::draw(&mut Stream::new(seed, Purpose::Pretext, epoch, index));
            draw.apply(image, &mut out);
            row.push(Picture::of_planes(&out, targets(&draw)));
        }
        for (epoch, purpose, name) in [(0, Purpose::View1, "first"), (0, Purpose::View2, "second")]
            .into_iter()
            .chain([(1, Purpose::View1, "first"), (1, Purpose::View2, "second")])
        {
            View::draw(&mut Stream::new(seed, purpose, epoch, index)).apply(image, &mut out);
            row.push(Picture::of_planes(&out, name));
        }
        row
    };
    let columns = [("image", 1), ("pretext tasks, 3 epochs", 3), ("SimSiam's two views, 2 epochs", 4)];
    Figure {
        id: "views".to_owned(),
        title: "Augmented views".to_owned(),
        caption: "The first training images: unchanged, as the pretext tasks rotate, shear and recolour them, and as \
                  SimSiam's views. The label below a pretext image is what the network has to predict: rotation, \
                  shear, recolouring."
            .to_owned(),
        plot: Plot::Pictures(Pictures {
            columns: columns.map(|(title, span)| (title.to_owned(), span)).to_vec(),
            rows: (0..VIEWED.min(data.train.len() as u32)).map(row).collect(),
            scale: 2,
        }),
    }
}

/// "90° 0.2 gray"
fn targets(draw: &Pretext) -> String {
    let color = match draw.color {
        Color::Original => "color",
        Color::Grayscale => "gray",
        Color::Inverted => "inv.",
    };
    format!("{}° {} {color}", u32::from(draw.quarter_turns) * 90, SHEARS[usize::from(draw.shear)])
}

/// The confusion matrix of every stage that classifies, after its name.
pub fn confusions(run: &Run, data: &Data) -> Result<Vec<(String, Figure)>> {
    let experiment = &run.manifest.experiment;
    let mut figures = vec![];
    for stage in experiment.stages.iter().filter(|stage| stage.method.classifies()) {
        let Some(weights) = run.weights(stage)? else { continue };
        let mut model = open(experiment.network(stage), weights)?;
        let taken = match stage.method {
            StageMethod::Knn => {
                let labelled = experiment.examples(stage, data)?.labelled;
                let test: Vec<u32> = (0..data.test.len() as u32).collect();
                KNN.predictions((&data.test, &test), (&data.train, &labelled), &mut *model)?
            }
            StageMethod::Probe => predictions(&mut *model, CLASSIFIER, &data.test)?,
            _ => predictions(&mut *model, CLASSIFICATION_HEAD, &data.test)?,
        };
        let n = data.classes.len();
        let mut counts = vec![vec![0; n]; n];
        for (&label, taken) in data.test.labels.iter().zip(taken) {
            counts[usize::from(label)][taken] += 1;
        }
        let matrix = Matrix { classes: data.classes.clone(), counts };
        let figure = Figure {
            id: format!("confusion-{}", stage.name),
            title: format!("Confusion matrix of {}", stage.name),
            caption: format!(
                "Test images by their class (row) and the class predicted for them (column).{}",
                most_confused(&matrix)
            ),
            plot: Plot::Matrix(matrix),
        };
        figures.push((stage.name.to_string(), figure));
    }
    Ok(figures)
}

/// The pairs of classes that are confused most often, where they are too many to see.
fn most_confused(Matrix { classes, counts }: &Matrix) -> String {
    let cells = counts.iter().enumerate().flat_map(|(i, row)| row.iter().enumerate().map(move |(j, n)| (*n, i, j)));
    let mut wrong: Vec<(u32, usize, usize)> = cells.filter(|&(n, i, j)| i != j && n > 0).collect();
    wrong.sort_by_key(|&(n, ..)| std::cmp::Reverse(n));
    let pairs: Vec<String> =
        wrong.iter().take(3).map(|&(n, i, j)| format!("{} as {} ({n})", classes[i], classes[j])).collect();
    match pairs[..] {
        [_, ..] if classes.len() > FEW => format!(" Most often confused: {}.", pairs.join(", ")),
        _ => String::new(),
    }
}

/// First-layer filters of every backbone, untrained and after each pre-training; with `data` also its feature map and
/// nearest neighbours.
pub fn backbones(run: &Run, data: Option<&Data>, say: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let experiment = &run.manifest.experiment;
    let network = Network::backbone(&experiment.widths());
    let untrained = Weights::init(&network, experiment.seed.0);
    let mut backbones = vec![(RANDOM.to_owned(), untrained.clone())];
    for stage in experiment.stages.iter().filter(|stage| !stage.method.classifies()) {
        if let Some(trained) = run.weights(stage)? {
            let mut weights = untrained.clone();
            weights.transfer(&trained);
            backbones.push((stage.name.to_string(), weights));
        }
    }
    let Some(data) = data else {
        return Ok(backbones.iter().map(|(name, weights)| filters(name, weights)).collect());
    };
    let test: Vec<u32> = (0..data.test.len() as u32).collect();
    // A random part of the training images: a folder has them class by class.
    let mut bank: Vec<u32> = (0..data.train.len() as u32).collect();
    Stream::new(experiment.seed.0, Purpose::Bank, 0, 0).shuffle(&mut bank);
    bank.truncate(BANK);
    bank.sort_unstable();
    let (mut graphs, mut figures) = (vec![], vec![]);
    for (name, weights) in backbones {
        say(&format!("report: nearest neighbours of {name}"));
        figures.push(filters(&name, &weights));
        let mut model = open(network.clone(), weights)?;
        let rows = features(&data.test, &test, &mut *model)?;
        let width = rows.len() / test.len();
        let known = features(&data.train, &bank, &mut *model)?;
        figures.push(neighbors(&name, &rows, (known, &bank), width, data));
        graphs.push((name, Graph::new(rows, width)));
    }
    say("report: UMAP");
    let seed = experiment.seed.0;
    let maps: Vec<Figure> = graphs.par_iter().map(|(name, graph)| map(name, &graph.layout(seed), data)).collect();
    Ok([maps, figures].concat())
}

fn open(network: Network, weights: Weights) -> Result<Box<dyn Engine>> {
    engine::open(&Device::Cpu, network, weights, Rule::Adam, &State::default())
}

/// The class that `head` predicts for each image.
fn predictions(model: &mut dyn Engine, head: &str, images: &Dataset) -> Result<Vec<usize>> {
    let mut classes = Vec::with_capacity(images.len());
    let all: Vec<u32> = (0..images.len() as u32).collect();
    for indices in all.chunks(EVAL_BATCH) {
        let mut input = vec![0.0; indices.len() * IMAGE];
        plain_batch(images, indices, &mut input);
        let logits = model.predict(&input, &[head])?.remove(0);
        classes.extend(logits.chunks_exact(logits.len() / indices.len()).map(argmax));
    }
    Ok(classes)
}

/// The first test image of each of a few classes, and the training images whose features are nearest; `test` and
/// `known` are rows of features, the latter of the training images `bank`.
fn neighbors(name: &str, test: &[f32], (known, bank): (Vec<f32>, &[u32]), width: usize, data: &Data) -> Figure {
    let mut queries: Vec<usize> = vec![];
    for (index, label) in data.test.labels.iter().enumerate() {
        if queries.len() < QUERIES && queries.iter().all(|&query| data.test.labels[query] != *label) {
            queries.push(index);
        }
    }
    let picture = |images: &Dataset, index: usize| {
        Picture::of_planes(images.image(index), &*data.classes[usize::from(images.labels[index])])
    };
    let rows: Vec<f32> = queries.iter().flat_map(|query| &test[query * width..][..width]).copied().collect();
    let shown = NEAREST.min(bank.len());
    let found = nearest(&normalized(rows, width), &normalized(known, width), width, shown);
    let row = |(&query, near): (&usize, &[Neighbor])| {
        let near = near.iter().map(|near| bank[near.1 as usize] as usize).map(|index| Picture {
            right: Some(data.train.labels[index] == data.test.labels[query]),
            ..picture(&data.train, index)
        });
        std::iter::once(picture(&data.test, query)).chain(near).collect()
    };
    let all = data.train.len();
    let some = if bank.len() < all { format!("{BANK} of ") } else { String::new() };
    Figure {
        id: format!("neighbors-{name}"),
        title: format!("Nearest neighbours by {name}"),
        caption: format!(
            "Each row: a test image, then the {shown} of {some}the {all} training images with the highest cosine \
             similarity of features. Solid frame: same class; dashed frame: another class."
        ),
        plot: Plot::Pictures(Pictures {
            columns: vec![("query".to_owned(), 1), ("training images, nearest first".to_owned(), shown)],
            rows: queries.iter().zip(found.chunks_exact(shown)).map(row).collect(),
            scale: 2,
        }),
    }
}

/// The first convolution, [c, 3, 3, 3]: each filter as a picture, gray where it is 0.
fn filters(name: &str, weights: &Weights) -> Figure {
    let filters = &weights.arrays[0].values;
    let picture = |filter: &[f32]| {
        let largest = filter.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
        let planes: Vec<u8> = filter.iter().map(|x| (127.5 + 127.5 * x / largest) as u8).collect();
        Picture::of_planes(&planes, "")
    };
    let pictures: Vec<Picture> = filters.chunks_exact(CHANNELS * 9).map(picture).collect();
    Figure {
        id: format!("filters-{name}"),
        title: format!("First-layer filters of {name}"),
        caption: "The 3 × 3 weights of each filter of the first convolution as red, green and blue, scaled to the \
                  filter's largest weight; gray is 0."
            .to_owned(),
        plot: Plot::Pictures(Pictures {
            columns: vec![],
            rows: pictures.chunks(16).map(<[Picture]>::to_vec).collect(),
            scale: 10,
        }),
    }
}

/// The layout as a figure, scaled to [`EXTENT`] with its proportions kept.
fn map(name: &str, layout: &[[f32; 2]], data: &Data) -> Figure {
    let range = |axis: usize| {
        let values = layout.iter().map(|point| point[axis]);
        values.fold((f32::MAX, f32::MIN), |(low, high), x| (low.min(x), high.max(x)))
    };
    let ranges = [range(0), range(1)];
    let longest = ranges.iter().map(|(low, high)| high - low).fold(f32::MIN_POSITIVE, f32::max);
    let place = |point: &[f32; 2]| {
        [0, 1].map(|axis| {
            let (low, high) = ranges[axis];
            let centered = (point[axis] - (low + high) / 2.0) / longest + 0.5;
            (centered * f32::from(EXTENT)) as u16
        })
    };
    Figure {
        id: format!("umap-{name}"),
        title: format!("Feature map (UMAP) of {name}"),
        caption: "UMAP of the backbone's features of all test images: images with similar features lie close \
                  together. Axes, and distances between clusters, have no meaning."
            .to_owned(),
        plot: Plot::Scatter(Scatter {
            classes: data.classes.clone(),
            points: layout.iter().map(place).collect(),
            labels: data.test.labels.clone(),
            sheet: String::new(),
        }),
    }
}
