//! The built-in methods hold what every method must, and a method that does not is found out.

use fewlabel::conformance::{check, check_on};
use fewlabel::experiment::Experiment;
use fewlabel::method::{self, Batch, Defaults, Draw, Head, Kind, Learner, Method, Unlabelled, made};
use fewlabel::network::{CLASSIFICATION_HEAD, CLASSIFIER, Mode, Network, Probe, Widths};
use fewlabel::rng::Stream;
use serde::{Deserialize, Serialize};

/// Residual sums, strides, 1×1 convolutions and a mean over the pixels. A check takes a minute: only of a single input, and of
/// two with a teacher.
const RESIDUAL: &str = "backbone: {name: resnet, depth: 8, width: 3}";

#[test]
fn supervised_conforms() {
    check("method: supervised");
    check("method: finetune");
    check("method: supervised, average: 0.9, label_smoothing: 0.2, test_views: flip");
    check(
        "method: supervised, augment: {crop: [0.5, 1], shift: 3, flip: alternating, jitter: 0.5, gray: 0.2, randaugment: 2, cutout: 9}",
    );
    check_on("method: supervised", RESIDUAL);
}

#[test]
fn pretext_conforms() {
    check("method: pretext");
}

#[test]
fn probe_conforms() {
    check("method: probe, frozen_norm: train");
    check("method: probe, frozen_norm: eval, probe: linear");
    check("method: probe, frozen_norm: train, average: 0.5, augment: {flip: random, shift: 4}, test_views: flip_shift");
    check("method: probe, frozen_norm: eval, average: 0.5");
}

#[test]
fn simsiam_conforms() {
    check("method: simsiam");
    check("method: simsiam, stop_gradient: false, predictor_schedule: constant");
}

#[test]
fn simclr_conforms() {
    check("method: simclr, embedding: 11");
    check("method: simclr, temperature: 0.1");
}

#[test]
fn byol_conforms() {
    check("method: byol, embedding: 11");
    check("method: byol, target_momentum: 0.5, nesterov: true, decayed: weights");
    check_on("method: byol", RESIDUAL);
}

#[test]
fn barlow_twins_conforms() {
    check("method: barlow_twins");
}

#[test]
fn vicreg_conforms() {
    check("method: vicreg");
}

#[test]
fn supcon_conforms() {
    check("method: supcon, embedding: 11");
}

/// A threshold that some answers of an untrained network pass, and others do not: 53 % in the first epoch.
#[test]
fn pseudo_label_conforms() {
    check("method: pseudo_label, threshold: 0.13, ramp_up: 0");
}

#[test]
fn mean_teacher_conforms() {
    check("method: mean_teacher, unlabelled: 2, ramp_up: 0");
}

/// Low thresholds, which all answers pass: an untrained network is confident of nothing in eval mode.
#[test]
fn fixmatch_conforms() {
    check("method: fixmatch, unlabelled: 3, unlabelled_from: 1, threshold: 0.05");
    check("method: fixmatch, unlabelled: 2, threshold: 0.1, teacher: average, alignment: true, average: 0.5");
}

/// Predicts a coin that `broken` tosses wrongly: by the number of calls, or by the image's label; or whose head is broken.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Coin {
    #[serde(default)]
    broken: String,
}

static COIN: Kind = Kind {
    name: "coin",
    title: "Coin",
    about: "a fault, for the test of the checks",
    uses_labels: false,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults::adam(2, 8),
        keys: &["broken"],
        loss: "cross-entropy",
        about_loss: "None.",
        read: method::learner::<Coin>,
    }),
};

impl Method for Coin {
    fn network(&self, widths: &Widths) -> Network {
        Network::supervised(widths)
    }

    fn heads(&self) -> &[Head] {
        match &*self.broken {
            "head" => &[Head { block: CLASSIFICATION_HEAD, prefix: "" }],
            _ => &[Head { block: CLASSIFICATION_HEAD, prefix: "coin_" }],
        }
    }

    fn batch(&self) -> Box<dyn Batch> {
        use std::sync::atomic::{AtomicU32, Ordering};
        static CALLS: AtomicU32 = AtomicU32::new(0);
        let broken = self.broken.clone();
        made([CLASSIFICATION_HEAD], move |from, index, draw: Draw, out| {
            from.input(index, out);
            let calls = CALLS.fetch_add(1, Ordering::Relaxed);
            let index = match &*broken {
                "calls" => calls,
                "label" => from.label(index).into(),
                _ => index,
            };
            let noise = Stream::own(draw.seed, 9, draw.epoch, index).normal();
            out.iter_mut().for_each(|x| *x += 0.1 * noise);
            [u16::from(noise > 0.0)]
        })
    }
}

#[test]
fn a_method_with_a_fault_is_found_out() {
    method::register(&COIN).unwrap();
    assert!(method::register(&COIN).is_err(), "a name is taken once");
    check("method: coin");
    let message = |stage: &'static str| {
        let fault = std::panic::catch_unwind(|| check(stage)).expect_err("a fault");
        fault.downcast_ref::<String>().cloned().unwrap_or_default()
    };
    let found = message("method: coin, broken: calls");
    assert!(found.contains("is not the derivative") || found.contains("depends on its place"), "{found}");
    let found = message("method: coin, broken: label");
    assert!(found.ends_with("it does not use labels, and other labels give another step"), "{found}");
    let found = message("method: coin, broken: head");
    assert!(found.ends_with("stage a: coin has a head for the data's labels, and does not use labels"), "{found}");
    assert!(message("method: knn, from: random").contains("`epochs` is only for a method that trains"));
    assert!(message("method: coyn").contains("did you mean `coin`?"));
}

/// Semi-supervised on a frozen backbone, or with a head for labels of its own beside the data's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Odd {
    #[serde(default)]
    frozen: bool,
}

static ODD: Kind = Kind {
    name: "odd",
    title: "Odd",
    about: "what a method cannot be, for the test of the checks",
    uses_labels: true,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults::adam(2, 8),
        keys: &["frozen"],
        loss: "cross-entropy",
        about_loss: "None.",
        read: method::learner::<Odd>,
    }),
};

impl Method for Odd {
    fn network(&self, widths: &Widths) -> Network {
        match self.frozen {
            true => Network::probe(widths, Probe::Linear, Mode::Eval),
            false => Network::supervised(widths),
        }
    }

    fn heads(&self) -> &[Head] {
        match self.frozen {
            true => &[Head { block: CLASSIFIER, prefix: "" }],
            false => {
                &[Head { block: CLASSIFICATION_HEAD, prefix: "" }, Head { block: CLASSIFICATION_HEAD, prefix: "own_" }]
            }
        }
    }

    fn unlabelled(&self) -> Option<Unlabelled> {
        self.frozen.then(|| Unlabelled::new(1, None, 0))
    }

    fn batch(&self) -> Box<dyn Batch> {
        unreachable!("it is refused before")
    }
}

#[test]
fn a_method_that_cannot_be_trained_is_refused_when_it_is_read() {
    method::register(&ODD).unwrap();
    let refused = |keys: &str| {
        let yaml = format!("{{name: t, dataset: {{name: synthetic}}, stages: [{{name: a, method: odd, {keys}}}]}}");
        Experiment::parse("t.yaml".as_ref(), &yaml).unwrap_err().to_string()
    };
    let message = refused("frozen: true");
    assert!(message.contains("frozen in eval mode are computed once, of the labelled images alone"), "{message}");
    let message = refused("test_views: flip");
    assert!(message.contains("test_views: the method has a head for labels of its own"), "{message}");
}
