//! Figures from images and weights: augmented views, confusion matrices, feature maps, nearest neighbours, filters.

use candle_core::Device;
use rayon::prelude::*;

use super::figure::{EXTENT, Figure, Matrix, Picture, Pictures, Plot, Scatter};
use super::matrix::{FEW, NAMED};
use super::run::Run;
use super::sheet::{firsts, mapped, some};
use super::tested::Tested;
use crate::augment::{Color, Pretext, SHEARS, View};
use crate::data::{CHANNELS, Data, Dataset};
use crate::engine::open_for_inference;
use crate::error::Result;
use crate::experiment::RANDOM;
use crate::neighbors::{Neighbor, nearest, normalized};
use crate::network::{Network, Weights};
use crate::rng::{Purpose, Stream};
use crate::text::visible;
use crate::train::features;
use crate::umap::Graph;

/// Rows of a neighbour figure, and neighbours in each.
const QUERIES: usize = 5;
const NEAREST: usize = 10;
/// Training images among which neighbours are looked for, at most.
const BANK: usize = 10_000;
/// Side of an image in a figure, in pixels, unless it has more.
const SHOWN: usize = 64;
/// Images whose augmented views are shown.
const VIEWED: u32 = 6;

/// The same training images as the pretext tasks and the methods on views show them to their networks.
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
            View::draw(&mut Stream::new(seed, purpose, epoch, index), data.train.side).apply(image, &mut out);
            row.push(Picture::of_planes(&out, name));
        }
        row
    };
    let columns = [("image", 1), ("pretext tasks, three draws", 3), ("pairs of views, two draws", 4)];
    Figure {
        id: "views".to_owned(),
        title: "Augmented views".to_owned(),
        caption: "The first training images: unchanged, as the pretext tasks rotate, shear and recolour them, and as \
                  the pairs of views that other methods compare. The label below a pretext image is what the network has to predict: rotation, \
                  shear, recolouring."
            .to_owned(),
        plot: Plot::Pictures(Pictures {
            columns: columns.map(|(title, span)| (title.to_owned(), span)).to_vec(),
            rows: (0..VIEWED.min(data.train.len() as u32)).map(row).collect(),
            size: SHOWN.max(data.test.side),
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

/// The stage's confusion matrix.
pub fn confusion(Tested { stage, matrix, .. }: &Tested) -> Figure {
    Figure {
        id: format!("confusion-{stage}"),
        title: format!("Confusion matrix of {stage}"),
        caption: format!(
            "Test images by their class (row) and the class predicted for them (column); the colour is the share of the \
             row.{}{}",
            most_confused(matrix),
            nameless(matrix.classes.len())
        ),
        plot: Plot::Matrix(matrix.clone()),
    }
}

/// Why a figure of so many classes does not name them, where it does not.
fn nameless(classes: usize) -> String {
    match classes {
        ..=NAMED => String::new(),
        _ => format!(" The names of {classes} classes have no room: the page gives those under the pointer."),
    }
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

/// First-layer filters of every backbone, untrained and after each pre-training; with `data` also its nearest neighbours
/// and, where a stage is finished, its feature map.
pub fn backbones(run: &Run, data: Option<&Data>, say: &mut dyn FnMut(&str)) -> Result<Vec<Figure>> {
    let experiment = &run.manifest.experiment;
    let network = Network::backbone(&experiment.widths());
    let seed = experiment.seed.0;
    let untrained = Weights::init(&network, seed);
    let mut backbones = vec![(RANDOM.to_owned(), untrained.clone())];
    for stage in experiment.stages.iter().filter(|stage| !stage.classifies()) {
        if let Some(trained) = run.weights(stage)? {
            let mut weights = untrained.clone();
            weights.transfer(&trained);
            backbones.push((stage.name.to_string(), weights));
        }
    }
    let Some(data) = data else {
        return Ok(backbones.iter().filter_map(|(name, weights)| filters(name, weights)).collect());
    };
    let mapped = mapped(data, seed);
    let queries = firsts(&data.test, &mapped, QUERIES);
    let test = if run.has_results() { mapped } else { queries.clone() };
    let bank = some(data.train.len(), BANK, seed, 0);
    let (mut graphs, mut figures) = (vec![], vec![]);
    for (name, weights) in backbones {
        say(&format!("report: nearest neighbours of {name}"));
        figures.extend(filters(&name, &weights));
        let mut model = open_for_inference(&Device::Cpu, network.clone(), weights)?;
        let rows = features(&data.test, &test, &mut *model)?;
        let width = rows.len() / test.len();
        let known = features(&data.train, &bank, &mut *model)?;
        let of = |query: &u32| test.binary_search(query).map_or(&[][..], |at| &rows[at * width..][..width]);
        let asked: Vec<f32> = queries.iter().flat_map(of).copied().collect();
        figures.push(neighbors(&name, (asked, &queries), (known, &bank), width, data));
        if run.has_results() {
            graphs.push((name, Graph::new(rows, width)));
        }
    }
    say("report: UMAP");
    let maps: Vec<Figure> =
        graphs.par_iter().map(|(name, graph)| map(name, &graph.layout(seed), &test, data)).collect();
    Ok([maps, figures].concat())
}

/// Test images, and the training images whose features are nearest: `asked` and `known` are rows of features, of the test
/// images `queries` and the training images `bank`.
fn neighbors(
    name: &str,
    (asked, queries): (Vec<f32>, &[u32]),
    (known, bank): (Vec<f32>, &[u32]),
    width: usize,
    data: &Data,
) -> Figure {
    let picture = |images: &Dataset, index: u32| {
        let index = index as usize;
        Picture::of_planes(images.image(index), &*data.classes[usize::from(images.labels[index])])
    };
    let shown = NEAREST.min(bank.len());
    let found = nearest(&normalized(asked, width), &normalized(known, width), width, shown);
    let row = |(&query, near): (&u32, &[Neighbor])| {
        let near = near.iter().map(|near| bank[near.1 as usize]).map(|index| Picture {
            right: Some(data.train.labels[index as usize] == data.test.labels[query as usize]),
            ..picture(&data.train, index)
        });
        std::iter::once(picture(&data.test, query)).chain(near).collect()
    };
    let all = data.train.len();
    let some = if bank.len() < all { format!("{BANK} of ") } else { String::new() };
    Figure {
        id: format!("neighbors-{name}"),
        title: format!("Nearest neighbours by {}", titled(name)),
        caption: format!(
            "Each row: a test image, then the {shown} of {some}the {all} training images with the highest cosine \
             similarity of features. Solid frame: same class; dashed frame: another class."
        ),
        plot: Plot::Pictures(Pictures {
            columns: vec![("query".to_owned(), 1), ("training images, nearest first".to_owned(), shown)],
            rows: queries.iter().zip(found.chunks_exact(shown)).map(row).collect(),
            size: SHOWN.max(data.test.side),
        }),
    }
}

/// A backbone's name in a title.
fn titled(name: &str) -> &str {
    if name == RANDOM { "random weights (untrained)" } else { name }
}

/// The first convolution, [c, 3, 3, 3]: each filter as a picture, gray where it is 0. None of a backbone that begins otherwise.
fn filters(name: &str, weights: &Weights) -> Option<Figure> {
    let filters = weights.arrays.first().filter(|array| array.shape[1..] == [CHANNELS, 3, 3])?;
    let picture = |filter: &[f32]| {
        let largest = filter.iter().fold(f32::MIN_POSITIVE, |largest, x| largest.max(x.abs()));
        let planes: Vec<u8> = filter.iter().map(|x| (127.5 + 127.5 * x / largest) as u8).collect();
        Picture::of_planes(&planes, "")
    };
    let pictures: Vec<Picture> = filters.values.chunks_exact(CHANNELS * 9).map(picture).collect();
    Some(Figure {
        id: format!("filters-{name}"),
        title: format!("First-layer filters of {}", titled(name)),
        caption: "The 3 × 3 weights of each filter of the first convolution as red, green and blue, scaled to the \
                  filter's largest weight; gray is 0."
            .to_owned(),
        plot: Plot::Pictures(Pictures {
            columns: vec![],
            rows: pictures.chunks(16).map(<[Picture]>::to_vec).collect(),
            size: 30,
        }),
    })
}

/// The layout of the test images `test` as a figure, scaled to [`EXTENT`] with its proportions kept.
fn map(name: &str, layout: &[[f32; 2]], test: &[u32], data: &Data) -> Figure {
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
    let (n, all) = (test.len(), data.test.len());
    let images = match n == all {
        true => "all test images".to_owned(),
        false => format!("{n} of the {all} test images, chosen at random"),
    };
    let alike = match data.classes.len() {
        ..=NAMED => "",
        _ => " Several classes share a colour and a marker.",
    };
    Figure {
        id: format!("umap-{name}"),
        title: format!("Feature map (UMAP) of {}", titled(name)),
        caption: format!(
            "UMAP of the backbone's features of {images}: images with similar features lie close together. Axes, and \
             distances between clusters, have no meaning.{alike}{}",
            nameless(data.classes.len())
        ),
        plot: Plot::Scatter(Scatter {
            classes: data.classes.iter().map(|name| visible(name).into_owned()).collect(),
            points: layout.iter().map(place).collect(),
            labels: test.iter().map(|&index| data.test.labels[index as usize]).collect(),
            images: if n == all { vec![] } else { test.to_vec() },
            sheet: String::new(),
        }),
    }
}
