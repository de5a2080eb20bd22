//! Prediction of which rotation, shear and recolouring an image has undergone: the study's three pretext tasks at once, on
//! all images, without labels.

use serde::{Deserialize, Serialize};

use super::registry::{Defaults, Kind, Learner, learner};
use super::{Batch, Head, Method, made};
use crate::augment::{Pretext, to_input, with_image};
use crate::network::{Network, PRETEXT_HEADS, Widths};
use crate::rng::{Purpose, Stream};

/// As experiments name it.
pub static PRETEXT: Kind = Kind {
    name: "pretext",
    title: "Pretext tasks",
    about: "prediction of rotation, shear and recolouring on all images, without labels",
    uses_labels: false,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults::adam(30, 64),
        keys: &[],
        loss: "cross-entropy",
        about_loss: "The sum of the tasks' mean cross-entropies, in nats.",
        read: learner::<PretextTasks>,
    }),
};

/// The sum of the three tasks' cross-entropies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PretextTasks {}

const TASKS: usize = PRETEXT_HEADS.len();
const NAMES: [&str; TASKS] = [PRETEXT_HEADS[0].0, PRETEXT_HEADS[1].0, PRETEXT_HEADS[2].0];
const HEADS: [Head; TASKS] = [
    Head { block: NAMES[0], prefix: "rotation_" },
    Head { block: NAMES[1], prefix: "shear_" },
    Head { block: NAMES[2], prefix: "color_" },
];

impl Method for PretextTasks {
    fn network(&self, widths: &Widths) -> Network {
        Network::pretext(widths)
    }

    fn batch(&self) -> Box<dyn Batch> {
        made(NAMES, |from, index, draw, out| {
            let purpose = if draw.evaluates { Purpose::PretextTest } else { Purpose::Pretext };
            let transformation = Pretext::draw(&mut Stream::new(draw.seed, purpose, draw.epoch, index));
            with_image(from.width(), |image| {
                transformation.apply(from.images().image(index as usize), image);
                to_input(image, out);
            });
            transformation.labels()
        })
    }

    fn heads(&self) -> &[Head] {
        &HEADS
    }
}
