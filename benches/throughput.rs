//! Throughput of training steps, evaluation and augmentation, in images per second (an image of a method on views is two
//! views), and of their parts.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;

use candle_core::Device;
use common::Task;
use criterion::{Criterion, Throughput, criterion_group};
use fewlabel::augment;
use fewlabel::data::{IMAGE, SIDE, synthetic};
use fewlabel::engine::cpu::layer::LayerBench;
use fewlabel::engine::cpu::product::{BLOCK, Left, PANEL, Right, product_ahead};
use fewlabel::engine::{self, DropoutKey, Engine, Input, Rates, Statistics};
use fewlabel::method::{BarlowTwins, Byol, Draw, FixMatch, Labelled, Method, SimClr, Source, Step, VicReg};
use fewlabel::network::{Block, CLASSIFICATION_HEAD, Network, PRETEXT_HEADS, Weights, Widths, backbone};
use fewlabel::optimizer::{Decayed, Rule, State};
use fewlabel::rng::{Purpose, Stream};
use fewlabel::umap::Graph;
use rayon::prelude::*;

const KEY: DropoutKey = DropoutKey { seed: 0, epoch: 0, first: 0 };

fn open(network: Network, rule: Rule) -> Box<dyn Engine> {
    let weights = Weights::init(&network, 0);
    engine::open(&Device::Cpu, network, weights, rule, &State::default()).expect("the study's own networks")
}

fn training(c: &mut Criterion) {
    let widths = Widths::default();
    let data = synthetic(128, 10, 0).train;
    let indices: Vec<u32> = (0..128).collect();
    let mut group = c.benchmark_group("train_step");
    group.sample_size(20);

    let mut images = vec![0.0; 128 * IMAGE];
    augment::plain_batch(&data, &indices, &mut images);
    let (task, mut scratch) = (Task::of_head(&CLASSIFICATION_HEAD, &images, &data.labels), Default::default());
    let mut model = open(Network::supervised(&widths), Rule::Adam);
    group.throughput(Throughput::Elements(128));
    group.bench_function("supervised_b128", |b| b.iter(|| task.step(&mut *model, KEY, 1e-3.into(), &mut scratch)));

    // As `resnet8_b128` and `plain_b128` in benches/peer/pytorch.py: the mean over the pixels, a linear layer, SGD.
    let [c64, c128, c256] = [64, 128, 256].map(backbone::Step::Conv);
    let pool = backbone::Step::Pool;
    let own = [
        ("resnet8_b128", backbone::resnet(1, 16)),
        ("plain_b128", backbone::plain(&[c64, pool, c128, pool, c256, pool])),
    ];
    for (name, layers) in own {
        let widths = Widths { backbone: Some(layers), ..Widths::default() };
        let head = Block::linear(CLASSIFICATION_HEAD, widths.features(), 10, &[]);
        let network = Network::of(&widths, vec![widths.backbone()], vec![head]);
        let mut model = open(network, Rule::sgd(0.9, 5e-4));
        group.bench_function(name, |b| b.iter(|| task.step(&mut *model, KEY, 0.1.into(), &mut scratch)));
    }

    let (mut images, mut draws) = (vec![0.0; 64 * IMAGE], vec![]);
    augment::pretext_batch(&data, &indices[..64], 0, Purpose::Pretext, 0, &mut images, &mut draws);
    let labels: Vec<Vec<u16>> = (0..3).map(|task| draws.iter().map(|draw| draw.labels()[task]).collect()).collect();
    let heads = PRETEXT_HEADS.map(|(head, _)| head);
    let task = Task::Classify { images: &images, heads: &heads, labels: labels.iter().map(Vec::as_slice).collect() };
    let mut model = open(Network::pretext(&widths), Rule::Adam);
    group.throughput(Throughput::Elements(64));
    group.bench_function("pretext_b64", |b| b.iter(|| task.step(&mut *model, KEY, 1e-3.into(), &mut scratch)));

    let views = [Purpose::View1, Purpose::View2].map(|view| {
        let mut images = vec![0.0; 64 * IMAGE];
        augment::view_batch(&data, &indices[..64], 0, view, 0, &mut images);
        images
    });
    let task = Task::Siamese { views: [&views[0], &views[1]], predictor: true, stop_gradient: true };
    let mut model = open(fewlabel::method::simsiam::network(&widths), Rule::sgd(0.9, 5e-4));
    group.bench_function("simsiam_b64", |b| b.iter(|| task.step(&mut *model, KEY, 0.0125.into(), &mut scratch)));

    // As experiments have them, by the methods themselves.
    let of_views: [(&str, Box<dyn Method>); 4] = [
        ("simclr_b128", Box::new(SimClr::default())),
        ("byol_b128", Box::new(Byol::default())),
        ("barlow_twins_b128", Box::new(BarlowTwins::default())),
        ("vicreg_b128", Box::new(VicReg::default())),
    ];
    group.throughput(Throughput::Elements(128));
    for (name, method) in of_views {
        let mut model = open(method.network(&widths), Rule::sgd(0.9, 5e-4));
        if method.has_teacher() {
            model.keep_average(Statistics::Own, &State::default()).expect("an average");
        }
        let (mut batch, mut sums) = (method.batch(), vec![0.0; method.measures().len()]);
        batch.fill(&Source::Images(&data), &indices, Draw::default());
        let at = Step { rates: 0.06.into(), done: 0, all: 1 };
        group.bench_function(name, |b| b.iter(|| batch.step(&mut *model, at, &mut sums)));
    }

    // 64 labelled images and 192 others, of which every answer is learnt.
    let method = FixMatch { unlabelled: 3, threshold: 0.0, ..FixMatch::default() };
    let sgd = Rule::Sgd { momentum: 0.9, weight_decay: 5e-4, nesterov: true, decayed: Decayed::All };
    let mut model = open(method.network(&widths), sgd);
    model.keep_average(Statistics::Averaged, &State::default()).expect("an average");
    let (mut batch, mut sums) = (method.batch(), vec![0.0; 2]);
    let labelled = Labelled { n: 64, before: 0, of: 64 };
    batch.fill(&Source::Images(&data), &[&indices[..], &indices[..]].concat(), Draw { labelled, ..Draw::default() });
    let at = Step { rates: Rates { average: 0.999, ..Rates::from(0.03) }, done: 0, all: 1 };
    group.throughput(Throughput::Elements(256));
    group.bench_function("fixmatch_b64", |b| b.iter(|| batch.step(&mut *model, at, &mut sums)));
}

fn evaluation(c: &mut Criterion) {
    let mut images = vec![0.0; 128 * IMAGE];
    augment::plain_batch(&synthetic(128, 10, 0).train, &(0..128).collect::<Vec<_>>(), &mut images);
    let mut model = open(Network::supervised(&Widths::default()), Rule::Adam);
    let mut group = c.benchmark_group("eval");
    group.throughput(Throughput::Elements(128));
    group.bench_function("supervised_b128", |b| {
        b.iter(|| model.forward(&[Input::eval(&images)], &[CLASSIFICATION_HEAD]).map(<[Vec<f32>]>::len))
    });
}

/// One image at a time, on one thread.
fn augmentation(c: &mut Criterion) {
    let data = synthetic(64, 10, 0).train;
    let mut out = vec![0; IMAGE];
    let mut group = c.benchmark_group("augment");
    group.throughput(Throughput::Elements(64));
    group.bench_function("simsiam_view", |b| {
        b.iter(|| {
            for i in 0..64 {
                augment::View::draw(&mut Stream::new(0, Purpose::View1, 0, i), SIDE)
                    .apply(data.image(i as usize), &mut out);
                black_box(&out);
            }
        })
    });
    group.bench_function("pretext", |b| {
        b.iter(|| {
            for i in 0..64 {
                let draw = augment::Pretext::draw(&mut Stream::new(0, Purpose::Pretext, 0, i));
                draw.apply(data.image(i as usize), &mut out);
                black_box(&out);
            }
        })
    });
}

/// The product of two square matrices on all threads, in FLOP per second.
fn products(c: &mut Criterion) {
    const N: usize = 2048;
    const TASK: [usize; 2] = [256, 128];
    let mut stream = Stream::new(0, Purpose::Init, 0, 0);
    // A in slabs of k, B in panels of columns: each task reads them sequentially.
    let (a, b): (Vec<f32>, Vec<f32>) = (0..N * N).map(|_| (stream.unit(), stream.unit())).unzip();
    let mut out = vec![0.0; N * N];
    let mut group = c.benchmark_group("gemm");
    group.sample_size(20);
    group.throughput(Throughput::Elements(2 * (N as u64).pow(3)));
    group.bench_function("2048", |bench| {
        bench.iter(|| {
            out.par_chunks_exact_mut(TASK[0] * TASK[1]).enumerate().for_each(|(task, out)| {
                let (rows, panel) = (task * TASK[0] % N, task * TASK[0] / N * TASK[1] / PANEL);
                for start in (0..N).step_by(BLOCK) {
                    let a = |start: usize| &a[start * N + rows * BLOCK..][..TASK[0] * BLOCK];
                    let ahead = if start + BLOCK < N { a(start + BLOCK) } else { &[] };
                    let left = Left { values: a(start), row: BLOCK, col: 1 };
                    let right = Right { values: &b[(panel * N + start) * PANEL..], row: PANEL, panel: N * PANEL };
                    let sizes = [TASK[0], BLOCK, TASK[1]];
                    product_ahead(out, TASK[1], left, right, sizes, start > 0, [ahead, &[], &[]]);
                }
            });
            black_box(&out);
        })
    });
}

/// Each layer of a SimSiam step on both views of 64 images; FLOP of its products.
fn layers(c: &mut Criterion) {
    let mut group = c.benchmark_group("layer");
    group.sample_size(20);
    let layers = [
        ("conv_3_32", LayerBench::conv(3, 32, 32, 128), false),
        ("conv_32_64", LayerBench::conv(32, 64, 16, 128), true),
        ("conv_64_128", LayerBench::conv(64, 128, 8, 128), true),
        ("linear_2048_2048", LayerBench::linear(2048, 2048, 128), true),
        ("linear_2048_512", LayerBench::linear(2048, 512, 128), true),
        ("linear_512_2048", LayerBench::linear(512, 2048, 128), true),
    ];
    for (name, mut layer, learns) in layers {
        group.throughput(Throughput::Elements(layer.flop));
        group.bench_function(format!("{name}_forward"), |b| b.iter(|| layer.forward()));
        group.throughput(Throughput::Elements(layer.flop * if learns { 2 } else { 1 }));
        layer.forward();
        group.bench_function(format!("{name}_backward"), |b| b.iter(|| layer.backward(learns)));
    }
}

/// A report's map of features: the neighbours, and the layout, which is on one thread. Rows per second.
fn maps(c: &mut Criterion) {
    const ROWS: usize = 2000;
    const WIDTH: usize = 512;
    let mut stream = Stream::new(0, Purpose::Init, 0, 0);
    let features: Vec<f32> = (0..ROWS * WIDTH).map(|_| stream.normal().max(0.0)).collect();
    let mut group = c.benchmark_group("umap");
    group.sample_size(10);
    group.throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("graph_2000x512", |b| b.iter(|| Graph::new(features.clone(), WIDTH)));
    let graph = Graph::new(features, WIDTH);
    group.bench_function("layout_2000", |b| b.iter(|| graph.layout(0)));
}

criterion_group!(benches, training, evaluation, augmentation, products, layers, maps);

/// The main thread is one of the pool's, as in the program.
fn main() {
    rayon::ThreadPoolBuilder::new().use_current_thread().build_global().expect("no pool has been asked for yet");
    benches();
    Criterion::default().configure_from_args().final_summary();
}
