//! Neither a steady training step nor the loop around it allocates: every buffer has reached its size before.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use candle_core::Device;
use common::Task;
use fewlabel::data::{IMAGE, synthetic};
use fewlabel::engine::{DropoutKey, open};
use fewlabel::experiment::Experiment;
use fewlabel::network::{Network, Weights, Widths};
use fewlabel::optimizer::{Rule, State};
use fewlabel::train::{Observer, Position, Progress, train};
use rayon::{ThreadPool, ThreadPoolBuilder};

/// Counts the allocations of the threads that train; that of the tests says now and then that one takes long.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static TRAINS: Cell<bool> = const { Cell::new(false) };
}

fn pool(threads: usize) -> ThreadPool {
    ThreadPoolBuilder::new().num_threads(threads).start_handler(|_| TRAINS.set(true)).build().unwrap()
}

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(usize::from(TRAINS.get()), Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One test at a time: the count is over all threads that train.
fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_steady_step_allocates_nothing() {
    let _alone = alone();
    let widths = Widths { channels: [8, 9, 10], hidden: 33, projector: 70, predictor: 20, ..Widths::default() };
    let images: Vec<f32> = (0..40 * IMAGE).map(|i| (i % 97) as f32 / 48.0 - 1.0).collect();
    let labels: Vec<u16> = (0..20).map(|i| i % 10).collect();
    let turns: Vec<u16> = (0..20).map(|i| i % 3).collect();
    let key = DropoutKey { seed: 0, epoch: 0, first: 0 };
    let supervised = Task::of_head(&"classification_head", &images[..20 * IMAGE], &labels);
    let views = [&images[..20 * IMAGE], &images[20 * IMAGE..]];
    let simsiam = Task::Siamese { views, predictor: true, stop_gradient: true };
    let sgd = Rule::sgd(0.9, 5e-4);
    let heads = &["rotation_head", "shear_head", "color_head"];
    let pretext = Task::Classify { images: &images[..20 * IMAGE], heads, labels: vec![&turns[..]; 3] };
    let runs = [
        (Network::supervised(&widths), supervised, Rule::Adam),
        (Network::pretext(&widths), pretext, Rule::Adam),
        (fewlabel::method::simsiam::network(&widths), simsiam, sgd),
    ];
    for (network, task, rule) in runs {
        let weights = Weights::init(&network, 0);
        let mut model = open(&Device::Cpu, network, weights, rule, &State::default()).unwrap();
        for threads in [1, 2] {
            pool(threads).install(|| {
                let mut scratch = Default::default();
                // Often enough for every thread to have run every kind of task.
                (0..200).for_each(|_| assert!(task.step(&mut *model, key, 0.01.into(), &mut scratch).is_ok()));
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                (0..10).for_each(|_| assert!(task.step(&mut *model, key, 0.01.into(), &mut scratch).is_ok()));
                assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "{threads} threads");
            });
        }
    }
}

/// The loop around the step is counted too: batches, losses, accuracies, the collapse measure.
#[test]
fn a_steady_training_loop_allocates_nothing() {
    struct Counter(Vec<usize>);

    impl Observer for Counter {
        fn step(&mut self, _: Position) {
            self.0.push(ALLOCATIONS.load(Ordering::Relaxed));
        }
    }

    let _alone = alone();
    let yaml = "{name: t, dataset: {name: synthetic, train: 960, test: 10}, labels: {count: 960},
        network: {channels: [3, 4, 5], hidden: 9, projector: 20, predictor: 7},
        stages: [{name: a, method: supervised, epochs: 1, batch: 8}, {name: b, method: pretext, epochs: 1, batch: 8},
                 {name: c, method: simsiam, epochs: 1, batch: 8}, {name: d, method: simclr, epochs: 1, batch: 8},
                 {name: e, method: barlow_twins, epochs: 1, batch: 8}, {name: f, method: vicreg, epochs: 1, batch: 8},
                 {name: g, method: byol, epochs: 1, batch: 8, nesterov: true},
                 {name: h, method: supervised, epochs: 1, batch: 8, average: 0.9},
                 {name: i, method: supcon, epochs: 1, batch: 8},
                 {name: j, method: supervised, epochs: 1, batch: 8, augment: {flip: alternating, crop: [0.5, 1], shift: 4, randaugment: 2}},
                 {name: k, method: pseudo_label, epochs: 1, batch: 8}, {name: l, method: mean_teacher, epochs: 1, batch: 8},
                 {name: m, method: fixmatch, epochs: 1, batch: 4, unlabelled: 2, alignment: true}]}";
    let experiment = Experiment::parse("t.yaml".as_ref(), yaml).unwrap();
    let data = synthetic(960, 10, 0);
    for stage in &experiment.stages {
        let (recipe, examples) = (experiment.recipe(stage).unwrap(), experiment.examples(stage, &data).unwrap());
        for threads in [1, 2] {
            let start = Progress::start(Weights::init(&recipe.network, 0));
            let mut counter = Counter(Vec::with_capacity(120));
            pool(threads).install(|| train(&recipe, &data, &examples, start, &Device::Cpu, &mut counter)).unwrap();
            let counts = &counter.0;
            assert_eq!(counts.len(), 120);
            assert_eq!(counts[119] - counts[90], 0, "{}, {threads} threads", stage.name);
        }
    }
}
