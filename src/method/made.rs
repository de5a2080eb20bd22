//! Batches of images, each made by a function that knows their labels.

use std::ops::Range;

use rayon::prelude::*;

use super::{Batch, Draw, Source, Step};
use crate::engine::{Engine, Input};
use crate::error::Result;
use crate::evaluate::correct;
use crate::loss::smoothed_cross_entropy;

/// A batch that is trained by the sum over `heads` of the mean cross-entropy with their labels ([`mod@crate::loss::cross_entropy`]), in
/// train mode; another loss takes a [`Batch`] of its own. The heads are [`Method::heads`](super::Method::heads), in that order.
///
/// `make` takes where the example is from, its index there and the key of its random values. It writes the network's input for it, of
/// [`Source::width`] values, and gives its label for each head. It is called from several threads, in any order.
pub fn made<const K: usize>(
    heads: [&'static str; K],
    make: impl Fn(&Source, u32, Draw, &mut [f32]) -> [u16; K] + Send + Sync + 'static,
) -> Box<dyn Batch> {
    smoothed(heads, 0.0, make)
}

/// [`made`] with labels smoothed by ε = `smoothing` ([`smoothed_cross_entropy`]).
pub(super) fn smoothed<const K: usize>(
    heads: [&'static str; K],
    smoothing: f64,
    make: impl Fn(&Source, u32, Draw, &mut [f32]) -> [u16; K] + Send + Sync + 'static,
) -> Box<dyn Batch> {
    Box::new(Made {
        heads,
        smoothing,
        make,
        draw: Draw::default(),
        input: vec![],
        drawn: vec![],
        labels: [(); K].map(|()| vec![]),
        exact: vec![],
    })
}

struct Made<F, const K: usize> {
    heads: [&'static str; K],
    smoothing: f64,
    make: F,
    draw: Draw,
    input: Vec<f32>,
    /// By example, then by head.
    drawn: Vec<[u16; K]>,
    labels: [Vec<u16>; K],
    /// Labels as the engine tells them to others.
    exact: Vec<f32>,
}

impl<F: Fn(&Source, u32, Draw, &mut [f32]) -> [u16; K] + Send + Sync, const K: usize> Batch for Made<F, K> {
    fn fill(&mut self, from: &Source, indices: &[u32], draw: Draw) {
        self.draw = draw;
        let (n, width) = (indices.len(), from.width());
        self.input.resize(n * width, 0.0);
        let Range { start, end } = draw.own.of(n);
        let Made { make, input, .. } = self;
        let examples =
            indices[start..end].par_iter().zip(input[start * width..end * width].par_chunks_exact_mut(width));
        // An image takes some microseconds, about as long as waking a thread.
        let examples = examples.with_min_len(8).map(|(&index, out)| make(from, index, draw, out));
        examples.collect_into_vec(&mut self.drawn);
        for (head, labels) in self.labels.iter_mut().enumerate() {
            labels.clear();
            labels.resize(n, 0);
            labels[start..end].iter_mut().zip(&self.drawn).for_each(|(label, drawn)| *label = drawn[head]);
        }
    }

    fn step(&mut self, model: &mut dyn Engine, at: Step, sums: &mut [f64]) -> Result<f64> {
        if self.drawn.len() < self.labels[0].len() {
            for labels in &mut self.labels {
                self.exact.clear();
                self.exact.extend(labels.iter().map(|&label| f32::from(label)));
                model.complete(&mut self.exact, labels.len());
                labels.iter_mut().zip(&self.exact).for_each(|(label, exact)| *label = *exact as u16);
            }
        }
        let (labels, smoothing) = (&self.labels, self.smoothing);
        let mut loss = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
            let mut total = 0.0;
            for (((logits, labels), gradient), sum) in outputs.iter().zip(labels).zip(gradients).zip(&mut *sums) {
                total += smoothed_cross_entropy(logits, labels, smoothing, gradient)?;
                *sum += f64::from(correct(logits, labels));
            }
            Ok(total)
        };
        model.step(&[Input::train(&self.input, self.draw.dropout())], &self.heads, &mut loss, at.rates)
    }

    fn input(&self) -> &[f32] {
        &self.input
    }

    fn labels(&self) -> &[Vec<u16>] {
        &self.labels
    }
}
