//! Batches of two views of each image, for methods that compare their outputs.

use super::{Batch, Draw, Source, Step};
use crate::augment::view_batch;
use crate::engine::{Engine, Input};
use crate::error::Result;
use crate::evaluate::output_std;
use crate::rng::Purpose;

/// A batch that is trained by `loss`, a function of `outputs` of both views: each a matrix with the first view's rows and then
/// the second's, 2n of them. It gives the gradients of those that are no constants, and its last argument is 2n. Batch norm
/// takes the views `together`, or each on its own. The one measure is [`super::OUTPUT_STD`], of the first view's first output.
pub fn two_views(
    outputs: &'static [&'static str],
    together: bool,
    loss: impl FnMut(&[Vec<f32>], &mut [Vec<f32>], usize) -> f64 + Send + 'static,
) -> Box<dyn Batch> {
    let mut loss = loss;
    batch(outputs, together, None, move |outputs, _, gradients, n| loss(outputs, gradients, n))
}

/// The same with a teacher ([`Method::has_teacher`](super::Method::has_teacher)), through which both views go as well, in train
/// mode: `loss` gets its output `target`, a constant, after the others. After the step the teacher moves by `decay`
/// ([`Rates::average`](crate::engine::Rates)).
pub fn taught_views(
    outputs: &'static [&'static str],
    target: &'static str,
    decay: impl Fn(Step) -> f64 + Send + 'static,
    loss: impl FnMut(&[Vec<f32>], &[f32], &mut [Vec<f32>], usize) -> f64 + Send + 'static,
) -> Box<dyn Batch> {
    let teacher = Teacher { target, decay: Box::new(decay), output: vec![] };
    batch(outputs, false, Some(teacher), loss)
}

fn batch(
    outputs: &'static [&'static str],
    together: bool,
    teacher: Option<Teacher>,
    loss: impl FnMut(&[Vec<f32>], &[f32], &mut [Vec<f32>], usize) -> f64 + Send + 'static,
) -> Box<dyn Batch> {
    Box::new(TwoViews {
        outputs,
        together,
        teacher,
        loss,
        draw: Draw::default(),
        images: vec![],
        moments: vec![],
        rows: 0,
    })
}

struct TwoViews<L> {
    outputs: &'static [&'static str],
    together: bool,
    teacher: Option<Teacher>,
    loss: L,
    draw: Draw,
    /// Both views, one after the other.
    images: Vec<f32>,
    moments: Vec<[f64; 2]>,
    /// Views in the batch.
    rows: usize,
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

impl<L: FnMut(&[Vec<f32>], &[f32], &mut [Vec<f32>], usize) -> f64 + Send> Batch for TwoViews<L> {
    fn fill(&mut self, from: &Source, indices: &[u32], draw: Draw) {
        self.draw = draw;
        self.rows = 2 * indices.len();
        self.images.resize(self.rows * from.width(), 0.0);
        let views = self.images.split_at_mut(indices.len() * from.width());
        for (view, purpose) in [(views.0, Purpose::View1), (views.1, Purpose::View2)] {
            view_batch(from.images(), indices, draw.seed, purpose, draw.epoch, view);
        }
    }

    fn step(&mut self, model: &mut dyn Engine, at: Step, sums: &mut [f64]) -> Result<f64> {
        let TwoViews { outputs, together, teacher, loss, draw, images, moments, rows } = self;
        let (rows, key, mut rates) = (*rows, draw.dropout(), at.rates);
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
            sums[0] += output_std(&z[..z.len() / 2], rows / 2, moments) * (rows / 2) as f64;
            Ok(loss(outputs, target, gradients, rows))
        };
        model.step(inputs, outputs, &mut measured, rates)
    }
}
