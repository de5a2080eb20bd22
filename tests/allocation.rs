//! A steady training step allocates nothing: every buffer has grown to its size before.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;
use fewlabel::data::IMAGE;
use fewlabel::engine::{DropoutKey, Objective, Target, open};
use fewlabel::network::{Network, Weights, Widths};
use fewlabel::optimizer::{Rule, State};

/// Counts what every thread allocates.
struct Counting;

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

// SAFETY: all is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
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

#[test]
fn a_steady_step_allocates_nothing() {
    let widths = Widths { channels: [8, 9, 10], hidden: 33, projector: 70, predictor: 20, ..Widths::default() };
    let images: Vec<f32> = (0..40 * IMAGE).map(|i| (i % 97) as f32 / 48.0 - 1.0).collect();
    let labels: Vec<u8> = (0..20).map(|i| i % 10).collect();
    let turns: Vec<u8> = (0..20).map(|i| i % 3).collect();
    let key = DropoutKey { seed: 0, epoch: 0, first: 0 };
    let targets = [Target { head: "classification_head", labels: &labels }];
    let supervised = Objective::Classify { images: &images[..20 * IMAGE], targets: &targets };
    let simsiam = Objective::SimSiam { views: [&images[..20 * IMAGE], &images[20 * IMAGE..]], stop_gradient: true };
    let sgd = Rule::Sgd { momentum: 0.9, weight_decay: 5e-4 };
    let tasks = ["rotation_head", "shear_head", "color_head"].map(|head| Target { head, labels: &turns });
    let pretext = Objective::Classify { images: &images[..20 * IMAGE], targets: &tasks };
    let runs = [
        (Network::supervised(&widths), supervised, Rule::Adam),
        (Network::pretext(&widths), pretext, Rule::Adam),
        (Network::simsiam(&widths), simsiam, sgd),
    ];
    for (network, objective, rule) in runs {
        let weights = Weights::init(&network, 0);
        let mut model = open(&Device::Cpu, network, weights, rule, &State::default()).unwrap();
        for threads in [1, 2] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| {
                // Often enough that every thread has had every kind of task.
                (0..200).for_each(|_| assert!(model.step(&objective, key, 0.01.into()).is_ok()));
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                (0..10).for_each(|_| assert!(model.step(&objective, key, 0.01.into()).is_ok()));
                assert_eq!(ALLOCATIONS.load(Ordering::Relaxed) - before, 0, "{threads} threads");
            });
        }
    }
}
