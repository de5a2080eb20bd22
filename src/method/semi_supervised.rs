//! Batches of labelled images and of images without labels, which go through the network together.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{Batch, Draw, Fault, Source, Step, Unlabelled};
use crate::augment::{Augmentation, Draws, Flip, plain_batch};
use crate::engine::{Engine, Input};
use crate::error::Result;
use crate::evaluate::correct;
use crate::loss::cross_entropy;
use crate::network::CLASSIFICATION_HEAD;
use crate::rng::Purpose;

/// What a batch is made of. The labelled images, and the student's unlabelled ones, are one input in train mode: batch norm takes
/// them together.
#[derive(Clone, Copy, Debug)]
pub(super) struct Halves {
    /// Of the labelled images.
    pub labelled: Augmentation,
    /// Of the unlabelled images for the student.
    pub unlabelled: Augmentation,
    /// Of the same images for the teacher, if there is one: it sees them in eval mode, and what it gives are constants.
    pub teacher: Option<(Teacher, Augmentation)>,
    /// Of the loss of images without labels.
    pub weight: f64,
    /// The share of the steps in which the weight grows from 0.
    pub ramp_up: f64,
}

/// Who tells what images without labels show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Teacher {
    /// The network itself.
    Network,
    /// The average of its weights.
    Average,
}

/// What the loss of images without labels takes beside the student's logits, [m, classes].
pub(super) struct Taught<'a> {
    /// The teacher's logits, [m, classes]; empty without a teacher.
    pub logits: &'a [f32],
    /// How many images.
    pub m: usize,
}

/// A batch that is trained by cross-entropy on the labelled images plus the weighted `loss` on the student's logits of the others,
/// [m, classes]: it writes their gradient, and gives the loss and the method's one measure, both means, without the weight.
pub(super) fn semi_supervised(
    halves: Halves,
    loss: impl FnMut(&[f32], Taught, &mut Vec<f32>) -> (f64, f64) + Send + 'static,
) -> Box<dyn Batch> {
    let (draw, all, images, taught, labels, logits, gradient) = Default::default();
    Box::new(SemiSupervised { halves, loss, draw, all, images, taught, labels, logits, gradient })
}

struct SemiSupervised<L> {
    halves: Halves,
    loss: L,
    draw: Draw,
    /// Images of both kinds.
    all: usize,
    /// Labelled ones, then the student's.
    images: Vec<f32>,
    /// The teacher's.
    taught: Vec<f32>,
    /// One list, of the one head.
    labels: [Vec<u16>; 1],
    /// The teacher's.
    logits: Vec<f32>,
    gradient: Vec<f32>,
}

impl<L: FnMut(&[f32], Taught, &mut Vec<f32>) -> (f64, f64) + Send> Batch for SemiSupervised<L> {
    fn fill(&mut self, from: &Source, indices: &[u32], draw: Draw) {
        (self.draw, self.all) = (draw, indices.len());
        let (data, width) = (from.images(), from.width());
        let n = if draw.evaluates { indices.len() } else { draw.labelled.n };
        let (labelled, others) = indices.split_at(n);
        let [labels] = &mut self.labels;
        labels.clear();
        labels.extend(labelled.iter().map(|&index| from.label(index)));
        self.images.resize(indices.len() * width, 0.0);
        if draw.evaluates {
            return plain_batch(data, indices, &mut self.images);
        }
        let Halves { labelled: augment, unlabelled, teacher, .. } = self.halves;
        let draws = |purpose, epoch, image| Draws { seed: draw.seed, purpose, epoch, image };
        let own = draw.own.of(indices.len());
        let rows = self.images[own.start * width..own.end * width].par_chunks_exact_mut(width);
        rows.zip(own).with_min_len(8).for_each(|(out, i)| match labelled.get(i) {
            Some(&image) => augment.input(data, draws(Purpose::Augment, draw.labelled.pass(i), image), out),
            None => unlabelled.input(data, draws(Purpose::Strong, draw.epoch, indices[i]), out),
        });
        if let Some((_, augment)) = teacher {
            self.taught.resize(others.len() * width, 0.0);
            let own = draw.own.of(others.len());
            let rows = self.taught[own.start * width..own.end * width].par_chunks_exact_mut(width).zip(&others[own]);
            rows.with_min_len(8)
                .for_each(|(out, &image)| augment.input(data, draws(Purpose::Weak, draw.epoch, image), out));
        }
    }

    fn step(&mut self, model: &mut dyn Engine, at: Step, sums: &mut [f64]) -> Result<f64> {
        let SemiSupervised { halves, loss, draw, all, images, taught, labels: [labels], logits, gradient } = self;
        let (n, weight) = (labels.len(), halves.weight * ramp_up(at, halves.ramp_up));
        if let Some((teacher, _)) = halves.teacher {
            exchange(teacher, model)?;
            logits.clone_from(&model.forward(&[Input::eval(taught)], &[CLASSIFICATION_HEAD])?[0]);
            exchange(teacher, model)?;
        }
        let mut both = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
            let (labelled, others) = outputs[0].split_at(outputs[0].len() / *all * n);
            let of_labelled = cross_entropy(labelled, labels, gradient)?;
            gradients[0].extend_from_slice(gradient);
            let (of_others, measure) = loss(others, Taught { logits, m: *all - n }, gradient);
            gradients[0].extend(gradient.iter().map(|g| g * weight as f32));
            sums[0] += f64::from(correct(labelled, labels));
            sums[1] += measure * n as f64;
            Ok(of_labelled + weight * of_others)
        };
        model.step(&[Input::train(images, draw.dropout())], &[CLASSIFICATION_HEAD], &mut both, at.rates)
    }

    fn input(&self) -> &[f32] {
        &self.images
    }

    fn labels(&self) -> &[Vec<u16>] {
        &self.labels
    }
}

fn exchange(teacher: Teacher, model: &mut dyn Engine) -> Result<()> {
    if teacher == Teacher::Average { model.exchange_average() } else { Ok(()) }
}

/// The part of a loss's weight that a step has: it grows linearly over the first `share` of the steps (Wang et al., "USB", 2022:
/// `unsup_warm_up` in their code).
fn ramp_up(at: Step, share: f64) -> f64 {
    let steps = share * at.all as f64;
    if (at.done as f64) < steps { at.done as f64 / steps } else { 1.0 }
}

/// A weight's ramp and the numbers that all semi-supervised methods have.
pub(super) fn check(unlabelled: Unlabelled, weight: f64, ramp: f64) -> std::result::Result<(), Fault> {
    let Unlabelled { ratio, first, .. } = unlabelled;
    let fault = |key, message: String| Err(Fault::new(key, format!("{key}: {message}")));
    match () {
        () if !(1..=MOST).contains(&ratio) => {
            fault("unlabelled", format!("{ratio} is no number of images from 1 to {MOST}"))
        }
        () if !(1..=ratio).contains(&first) => {
            fault("unlabelled_from", format!("{first} is no number of images from 1 to {ratio}"))
        }
        () if !(0.0..=1000.0).contains(&weight) => fault("weight", format!("{weight} is no number from 0 to 1000")),
        () if !(0.0..=1.0).contains(&ramp) => fault("ramp_up", format!("{ramp} is no number from 0 to 1")),
        () => Ok(()),
    }
}

/// The most images without labels for each labelled one.
const MOST: usize = 64;

/// A probability, of the setting `key`.
pub(super) fn check_share(key: &'static str, share: f64) -> std::result::Result<(), Fault> {
    match (0.0..=1.0).contains(&share) {
        true => Ok(()),
        false => Err(Fault::new(key, format!("{key}: {share} is no number from 0 to 1"))),
    }
}

/// Flip and shift: FixMatch's weak augmentation (Sohn et al., 2020, §2.3).
pub(super) const WEAK: Augmentation =
    Augmentation { crop: None, shift: 4, flip: Some(Flip::Random), jitter: 0.0, gray: 0.0, randaugment: 0, cutout: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_grows_over_its_share_of_the_steps() {
        let at = |done| Step { rates: 0.1.into(), done, all: 100 };
        assert_eq!([0, 10, 39, 40, 99].map(|done| ramp_up(at(done), 0.4)), [0.0, 0.25, 0.975, 1.0, 1.0]);
        assert_eq!(ramp_up(at(0), 0.0), 1.0);
    }

    #[test]
    fn images_without_labels_grow_from_the_first_epoch_to_the_last() {
        let of = |first, epochs| -> Vec<usize> {
            let unlabelled = Unlabelled::new(5, first, 0);
            (0..epochs).map(|epoch| unlabelled.in_epoch(epoch, epochs)).collect()
        };
        assert_eq!(of(Some(1), 9), [1, 1, 2, 2, 3, 3, 4, 4, 5]);
        assert_eq!(of(None, 3), [5, 5, 5]);
        assert_eq!(of(Some(1), 1), [1]);
    }
}
