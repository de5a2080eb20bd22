//! A pre-training method of your own: by which quarter turn was an image rotated? (RotNet: Gidaris, Singh and Komodakis,
//! "Unsupervised representation learning by predicting image rotations", 2018.) Registered, it is a method like the built-in
//! ones: this program has the whole command line, and its runs are resumed, verified and reported like any other.
//!
//!     cargo run --release --example own_method -- run examples/own_method.yaml

use std::process::ExitCode;

use fewlabel::augment::{quarter_turns, to_input, with_image};
use fewlabel::method::{self, Batch, Defaults, Fault, Head, Kind, Learner, Method, made};
use fewlabel::network::{Block, Network, Widths};
use fewlabel::rng::Stream;
use serde::{Deserialize, Serialize};

static ROTATION: Kind = Kind {
    name: "rotation",
    title: "Rotation",
    about: "prediction of an image's quarter turns, on all images, without labels",
    uses_labels: false,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults::adam(5, 64),
        keys: &["turned"],
        loss: "cross-entropy",
        about_loss: "The mean cross-entropy, in nats.",
        read: method::learner::<Rotation>,
    }),
};

/// Its keys in a stage: the share of images that are turned, by any quarter, 0 included.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Rotation {
    turned: f32,
}

impl Default for Rotation {
    fn default() -> Rotation {
        Rotation { turned: 1.0 }
    }
}

impl Method for Rotation {
    fn network(&self, widths: &Widths) -> Network {
        let heads = vec![Block::linear("rotation_head", widths.hidden, 4, &[])];
        Network { heads, ..Network::supervised(widths) }
    }

    fn heads(&self) -> &[Head] {
        &[Head { block: "rotation_head", prefix: "rotation_" }]
    }

    fn batch(&self) -> Box<dyn Batch> {
        let share = self.turned;
        made(["rotation_head"], move |from, index, draw, out| {
            // Keyed by epoch and image: the same draw on any number of threads, and after a kill.
            let mut stream = Stream::own(draw.seed, draw.evaluates.into(), draw.epoch, index);
            let turns = if stream.chance(share) { stream.below(4) as u8 } else { 0 };
            with_image(from.width(), |turned| {
                quarter_turns(from.images().image(index as usize), turns, turned);
                to_input(turned, out);
            });
            [turns.into()]
        })
    }

    fn check(&self) -> Result<(), Fault> {
        match (0.0..=1.0).contains(&self.turned) {
            true => Ok(()),
            false => Err(Fault::new("turned", format!("turned: {} is no share from 0 to 1", self.turned))),
        }
    }
}

fn main() -> ExitCode {
    method::register(&ROTATION).expect("a name of its own");
    fewlabel::cli::main()
}
