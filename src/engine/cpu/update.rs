//! The update rules of [`crate::optimizer`], each in one pass over parameter, gradient and state; and the sink of a
//! backward pass's gradients: they update the weights at once, so that a large one is never whole in memory, or are
//! kept.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::lanes::{chunks_or_none, rest};
use crate::network::Array;
use crate::optimizer::{BETA1, BETA2, Decayed, EPS, Rule, adam_corrections};
use crate::simd::simd;

/// Gradients by tensor index.
pub type ByTensor = BTreeMap<usize, Vec<f32>>;

/// Per tensor: the rule's state arrays, empty before its first gradient.
pub type Slots = Vec<Vec<Vec<f32>>>;

/// Receives the gradients of a backward pass.
pub struct Sink<'a> {
    pub weights: &'a mut [Array],
    pub slots: &'a mut Slots,
    pub rule: Rule,
    pub lr: f64,
    /// The step, from 1.
    pub t: u32,
    /// Keeps the gradients; without it they update the weights.
    pub kept: Option<&'a mut ByTensor>,
}

impl Sink<'_> {
    /// The whole gradient of a tensor.
    pub fn take(&mut self, tensor: usize, gradient: &[f32]) {
        const SIZE: usize = 1 << 14;
        self.chunks(tensor, SIZE)
            .zip(gradient.par_chunks(SIZE))
            .for_each(|(mut chunk, gradient)| chunk.take(0, gradient));
    }

    /// A tensor in chunks of `size` values, each to be given its gradient, in any order and at any time.
    pub fn chunks(&mut self, tensor: usize, size: usize) -> impl IndexedParallelIterator<Item = Chunk<'_>> {
        let Array { shape, values: weight, .. } = &mut self.weights[tensor];
        let dimensions = shape.len();
        let (len, count) = (weight.len(), weight.len().div_ceil(size));
        let kept = self.kept.as_mut().map_or(&mut [][..], |kept| {
            let gradient = kept.entry(tensor).or_default();
            gradient.resize(len, 0.0);
            gradient
        });
        let slots = &mut self.slots[tensor];
        if kept.is_empty() {
            slots.resize_with(self.rule.slots().len(), || vec![0.0; len]);
        }
        let mut slots = slots.iter_mut().map(|slot| &mut slot[..]);
        let [first, second] = [(); 2].map(|()| chunks_or_none(slots.next().unwrap_or_default(), size, count));
        let update = match self.rule {
            Rule::Sgd { momentum, weight_decay, nesterov, decayed } => {
                let decays = decayed == Decayed::All || dimensions > 1;
                let rates = [self.lr as f32, momentum, if decays { weight_decay } else { 0.0 }];
                if nesterov { Update::Nesterov(rates) } else { Update::Sgd(rates) }
            }
            Rule::Adam => {
                let (rate, root) = adam_corrections(self.lr, self.t);
                Update::Adam([rate as f32, root as f32])
            }
        };
        let chunks = weight.par_chunks_mut(size).zip(first.zip(second)).zip(chunks_or_none(kept, size, count));
        chunks.map(move |((weight, (first, second)), kept)| Chunk { weight, slots: [first, second], kept, update })
    }
}

/// `average` moves towards `weights` by the share `new` of the way.
pub fn approach(average: &mut [f32], weights: &[f32], new: f32) {
    const SIZE: usize = 1 << 14;
    let chunks = average.par_chunks_mut(SIZE).zip(weights.par_chunks(SIZE));
    chunks.for_each(|(average, weights)| approach_chunk(average, weights, new));
}

/// A rule with its rates of this step.
#[derive(Clone, Copy)]
enum Update {
    Sgd([f32; 3]),
    Nesterov([f32; 3]),
    Adam([f32; 2]),
}

/// Consecutive values of a tensor, to be given their gradient.
pub struct Chunk<'a> {
    /// The values; updated where the gradient has been given.
    pub weight: &'a mut [f32],
    /// The rule's state.
    slots: [Option<&'a mut [f32]>; 2],
    kept: Option<&'a mut [f32]>,
    update: Update,
}

impl Chunk<'_> {
    /// What [`Chunk::take`] reads or writes of up to `len` values from `at` on, to be prefetched.
    pub fn ahead(&self, at: usize, len: usize) -> [&[f32]; 3] {
        let [first, second] = self.slots.each_ref().map(|slot| slot.as_deref().unwrap_or_default());
        [self.weight, first, second].map(|all| rest(all, at, len))
    }

    /// The gradient of the values from `at` on.
    pub fn take(&mut self, at: usize, gradient: &[f32]) {
        let at = at..at + gradient.len();
        if let Some(kept) = &mut self.kept {
            return kept[at].copy_from_slice(gradient);
        }
        let weight = &mut self.weight[at.clone()];
        match (self.update, &mut self.slots) {
            (Update::Sgd(rates), [Some(velocity), None]) => sgd(weight, gradient, &mut velocity[at], rates),
            (Update::Nesterov(rates), [Some(velocity), None]) => nesterov(weight, gradient, &mut velocity[at], rates),
            (Update::Adam(rates), [Some(mean), Some(square)]) => {
                adam(weight, gradient, &mut mean[at.clone()], &mut square[at], rates);
            }
            _ => unreachable!("a rule has its slots"),
        }
    }
}

simd! {
    fn approach_chunk(average: &mut [f32], weights: &[f32], new: f32) {
        average.iter_mut().zip(weights).for_each(|(a, w)| *a += new * (w - *a));
    }

    fn sgd(weight: &mut [f32], gradient: &[f32], velocity: &mut [f32], rates: [f32; 3]) {
        let [lr, momentum, weight_decay] = rates;
        for ((w, g), v) in weight.iter_mut().zip(gradient).zip(velocity) {
            // Starting from 0, the first velocity is the gradient itself.
            *v = momentum * *v + (g + weight_decay * *w);
            *w -= lr * *v;
        }
    }

    fn nesterov(weight: &mut [f32], gradient: &[f32], velocity: &mut [f32], rates: [f32; 3]) {
        let [lr, momentum, weight_decay] = rates;
        for ((w, g), v) in weight.iter_mut().zip(gradient).zip(velocity) {
            let g = g + weight_decay * *w;
            *v = momentum * *v + g;
            *w -= lr * (g + momentum * *v);
        }
    }

    fn adam(weight: &mut [f32], gradient: &[f32], mean: &mut [f32], square: &mut [f32], rates: [f32; 2]) {
        let ([rate, root], eps) = (rates, EPS as f32);
        let (beta1, beta2) = (BETA1 as f32, BETA2 as f32);
        let (new1, new2) = ((1.0 - BETA1) as f32, (1.0 - BETA2) as f32);
        for (((w, g), m), s) in weight.iter_mut().zip(gradient).zip(mean).zip(square) {
            *m = beta1 * *m + new1 * g;
            *s = beta2 * *s + new2 * (g * g);
            *w -= rate * (*m / (s.sqrt() / root + eps));
        }
    }
}
