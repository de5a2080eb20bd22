//! Prediction of the labels of images: `supervised` from random weights, `finetune` from another stage's.

use serde::{Deserialize, Serialize};

use super::made::smoothed;
use super::registry::{Defaults, Fault, Kind, Learner, learner};
use super::{Batch, Draw, Head, Method};
use crate::augment::{Augmentation, Draws};
use crate::network::{CLASSIFICATION_HEAD, Network, Widths};
use crate::rng::Purpose;
use crate::settings::is_default;

/// The study's baseline.
pub static SUPERVISED: Kind = Kind {
    name: "supervised",
    title: "Supervised",
    about: "training on the labelled images, from random weights",
    uses_labels: true,
    transfers: false,
    learner: Some(Learner {
        defaults: Defaults::adam(50, 128),
        keys: &["label_smoothing", "augment"],
        loss: "cross-entropy",
        about_loss: "The mean cross-entropy, in nats.",
        read: learner::<Classify>,
    }),
};

/// All weights go on from another stage's.
pub static FINETUNE: Kind = Kind {
    name: "finetune",
    title: "Fine-tuning",
    about: "training of all weights on the labelled images, from another stage's",
    uses_labels: true,
    transfers: true,
    learner: Some(Learner {
        defaults: Defaults::adam(30, 64),
        keys: &["label_smoothing", "augment"],
        loss: "cross-entropy",
        about_loss: "The mean cross-entropy, in nats.",
        read: learner::<Classify>,
    }),
};

/// Cross-entropy on the labels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Classify {
    /// ε of [`smoothed_cross_entropy`](crate::loss::smoothed_cross_entropy) in training; test and validation losses have the
    /// labels as they are. Left out if 0.
    #[serde(skip_serializing_if = "is_default")]
    pub label_smoothing: f64,
    /// Of the images in training; left out if they stay as they are, as in the study.
    #[serde(skip_serializing_if = "Augmentation::is_none")]
    pub augment: Augmentation,
}

pub(super) const HEADS: [Head; 1] = [Head { block: CLASSIFICATION_HEAD, prefix: "" }];

impl Method for Classify {
    fn network(&self, widths: &Widths) -> Network {
        Network::supervised(widths)
    }

    fn batch(&self) -> Box<dyn Batch> {
        labelled(CLASSIFICATION_HEAD, self.label_smoothing, self.augment)
    }

    fn heads(&self) -> &[Head] {
        &HEADS
    }

    fn check(&self) -> Result<(), Fault> {
        check_smoothing(self.label_smoothing)?;
        self.augment.check("augment")
    }
}

/// Examples, augmented in training, and their labels for one head, smoothed.
pub(super) fn labelled(head: &'static str, smoothing: f64, augment: Augmentation) -> Box<dyn Batch> {
    smoothed([head], smoothing, move |from, index, draw, out| {
        if draw.evaluates || augment.is_none() {
            from.input(index, out);
        } else {
            let Draw { seed, epoch, .. } = draw;
            augment.input(from.images(), Draws { seed, purpose: Purpose::Augment, epoch, image: index }, out);
        }
        [from.label(index)]
    })
}

/// Whether labels keep a part of their weight.
pub(super) fn check_smoothing(smoothing: f64) -> Result<(), Fault> {
    match (0.0..1.0).contains(&smoothing) {
        true => Ok(()),
        false => {
            let message = format!("label_smoothing: {smoothing} is no number from 0 to below 1");
            Err(Fault::new("label_smoothing", message))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;
    use crate::method::{FixMatch, Labelled, LinearProbe, MeanTeacher, PseudoLabel, Source};

    #[test]
    fn images_are_augmented_in_training_and_never_where_they_are_judged() {
        let augment = Augmentation { shift: 4, randaugment: 2, ..Augmentation::default() };
        let methods: [&dyn Method; 5] = [
            &Classify { augment, ..Classify::default() },
            &LinearProbe { augment, ..LinearProbe::default() },
            &PseudoLabel { augment, ..PseudoLabel::default() },
            &MeanTeacher { augment, ..MeanTeacher::default() },
            &FixMatch { augment, ..FixMatch::default() },
        ];
        let data = synthetic(20, 10, 0);
        let (from, indices): (_, Vec<u32>) = (Source::Images(&data.train), (3..13).collect());
        let mut plain = vec![0.0; indices.len() * from.width()];
        indices.iter().zip(plain.chunks_exact_mut(from.width())).for_each(|(&index, out)| from.input(index, out));
        for method in methods {
            let mut batch = method.batch();
            batch.fill(&from, &indices, Draw { evaluates: true, ..Draw::default() });
            assert!(batch.input() == plain, "{method:?}");
            let labelled = Labelled { n: 4, before: 0, of: 10 };
            batch.fill(&from, &indices, Draw { labelled, ..Draw::default() });
            let rows = batch.input().chunks_exact(from.width()).zip(plain.chunks_exact(from.width()));
            assert!(rows.filter(|(augmented, plain)| augmented != plain).count() > 7, "{method:?}");
        }
    }
}
