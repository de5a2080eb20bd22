//! Batches of two views of each image, for methods that compare their outputs.

use super::{Batch, Draw, Source, Step};
use crate::augment::view_batch;
use crate::engine::{Engine, Input};
use crate::error::Result;
use crate::evaluate::output_std;
use crate::rng::Purpose;

/// A batch of two views of each image: SimSiam's random crop, colours and flip ([`crate::augment::View`]), one draw for each
/// view, epoch and image. Both go through the network in train mode, `together` in one batch for batch norm, or each in one of its
/// own. The one measure is [`super::OUTPUT_STD`], of the first view's first output; the method must say that it
/// [`compares_views`](super::Method::compares_views).
///
/// `loss` gives the loss of n images, and takes
/// - the `outputs`, blocks of the network by name: of each a matrix [2n, width], row i of image i's first view, row n + i of its second;
/// - the gradients, one for each output, of the same length once it is filled: one that stays empty makes its output a constant;
/// - the number of rows, 2n.
pub fn two_views(
    outputs: &'static [&'static str],
    together: bool,
    loss: impl FnMut(&[Vec<f32>], &mut [Vec<f32>], usize) -> f64 + Send + 'static,
) -> Box<dyn Batch> {
    let mut loss = loss;
    batch(outputs, together, None, move |outputs, _, gradients, n| loss(outputs, gradients, n))
}

/// [`two_views`] for a method that uses labels: `loss` takes the outputs, the n images' labels, and the gradients.
pub fn labelled_views(
    outputs: &'static [&'static str],
    together: bool,
    loss: impl FnMut(&[Vec<f32>], &[u16], &mut [Vec<f32>]) -> f64 + Send + 'static,
) -> Box<dyn Batch> {
    let mut loss = loss;
    batch(outputs, together, None, move |outputs, of, gradients, _| loss(outputs, of.labels, gradients))
}

/// [`two_views`] for a method with a teacher ([`Method::has_teacher`](super::Method::has_teacher)), each view in a batch of its own. The
/// teacher is an average of the network: both views go through it as well, in train mode, and `loss` takes its output `target`,
/// [2n, width] and a constant, after the network's own. After the step the average becomes d·average + (1 − d)·network with
/// d = `decay` of the step ([`Rates::average`](crate::engine::Rates)).
pub fn taught_views(
    outputs: &'static [&'static str],
    target: &'static str,
    decay: impl Fn(Step) -> f64 + Send + 'static,
    loss: impl FnMut(&[Vec<f32>], &[f32], &mut [Vec<f32>], usize) -> f64 + Send + 'static,
) -> Box<dyn Batch> {
    let (teacher, mut loss) = (Teacher { target, decay: Box::new(decay), output: vec![] }, loss);
    batch(outputs, false, Some(teacher), move |outputs, of, gradients, n| loss(outputs, of.target, gradients, n))
}

/// What a loss may take beside the outputs.
struct Constants<'a> {
    /// The teacher's output; empty where there is none.
    target: &'a [f32],
    /// The images'.
    labels: &'a [u16],
}

fn batch(
    outputs: &'static [&'static str],
    together: bool,
    teacher: Option<Teacher>,
    loss: impl FnMut(&[Vec<f32>], Constants, &mut [Vec<f32>], usize) -> f64 + Send + 'static,
) -> Box<dyn Batch> {
    let (draw, images, labels, moments) = Default::default();
    Box::new(TwoViews { outputs, together, teacher, loss, draw, images, labels, moments })
}

struct TwoViews<L> {
    outputs: &'static [&'static str],
    together: bool,
    teacher: Option<Teacher>,
    loss: L,
    draw: Draw,
    /// Both views, one after the other.
    images: Vec<f32>,
    labels: Vec<u16>,
    moments: Vec<[f64; 2]>,
}

struct Teacher {
    target: &'static str,
    decay: Box<dyn Fn(Step) -> f64 + Send>,
    /// What it gives for both views, in memory that is kept.
    output: Vec<f32>,
}

impl Teacher {
    fn teach(&mut self, model: &mut dyn Engine, inputs: &[Input]) -> Result<()> {
        model.exchange_average()?;
        self.output.clone_from(&model.forward(inputs, &[self.target])?[0]);
        model.exchange_average()
    }
}

impl<L: FnMut(&[Vec<f32>], Constants, &mut [Vec<f32>], usize) -> f64 + Send> Batch for TwoViews<L> {
    fn fill(&mut self, from: &Source, indices: &[u32], draw: Draw) {
        self.draw = draw;
        self.labels.clear();
        self.labels.extend(indices.iter().map(|&index| from.label(index)));
        self.images.resize(2 * indices.len() * from.width(), 0.0);
        let (n, width) = (indices.len(), from.width());
        let views = self.images.split_at_mut(n * width);
        for (view, (images, purpose)) in [(views.0, Purpose::View1), (views.1, Purpose::View2)].into_iter().enumerate()
        {
            // Together, the own rows are of both views' 2n.
            let own = match self.together {
                true => draw.own.of(2 * n),
                false => draw.own.of(n),
            };
            let before = if self.together { view * n } else { 0 };
            let [start, end] = [own.start, own.end].map(|row| row.saturating_sub(before).min(n));
            let images = &mut images[start * width..end * width];
            view_batch(from.images(), &indices[start..end], draw.seed, purpose, draw.epoch, images);
        }
    }

    fn step(&mut self, model: &mut dyn Engine, at: Step, sums: &mut [f64]) -> Result<f64> {
        let TwoViews { outputs, together, teacher, loss, draw, images, labels, moments } = self;
        let (n, key, mut rates) = (labels.len(), draw.dropout(), at.rates);
        let (first, second) = images.split_at(images.len() / 2);
        let [both, each] = [&[Input::train(images, key)][..], &[Input::train(first, key), Input::train(second, key)]];
        let inputs = if *together { both } else { each };
        let target = match teacher {
            Some(teacher) => {
                teacher.teach(model, inputs)?;
                rates.average = (teacher.decay)(at);
                &teacher.output[..]
            }
            None => &[],
        };
        let mut measured = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
            let z = &outputs[0];
            sums[0] += output_std(&z[..z.len() / 2], n, moments) * n as f64;
            Ok(loss(outputs, Constants { target, labels }, gradients, 2 * n))
        };
        model.step(inputs, outputs, &mut measured, rates)
    }
}
