//! The update rules of [`crate::optimizer`], each in one pass over parameter, gradient and state; and the sink of a
//! backward pass's gradients: they update the weights at once, so that a large one is never whole in memory, or are
//! kept.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use super::lanes::{chunks_or_none, rest};
use crate::engine::shards::Shards;
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
    pub shards: &'a mut Shards,
    /// Of a batch that is split: what has been summed over each of the own shards.
    pub parts: &'a mut Parts,
}

/// Gradients by tensor index, of each of the own shards, and those whose sum over all shards has begun, each with its rate.
#[derive(Debug, Default)]
pub struct Parts {
    by_tensor: BTreeMap<usize, Vec<Vec<f32>>>,
    begun: Vec<(usize, f64)>,
}

/// The gradients of one of the own shards, which are the whole ones where a batch is not split.
pub struct Part<'s, 'a> {
    sink: &'s mut Sink<'a>,
    part: usize,
}

impl Part<'_, '_> {
    /// [`Sink::take`].
    pub fn take(&mut self, tensor: usize, gradient: &[f32]) {
        self.chunks(tensor, SIZE)
            .zip(gradient.par_chunks(SIZE))
            .for_each(|(mut chunk, gradient)| chunk.take(0, gradient));
    }

    /// A tensor in chunks of `size` values, each to be given its gradient, in any order and at any time.
    pub fn chunks(&mut self, tensor: usize, size: usize) -> impl IndexedParallelIterator<Item = Chunk<'_>> {
        let Sink { weights, slots, rule, lr, t, kept, shards, parts } = &mut *self.sink;
        let kept = match shards.is_split() {
            false => kept.as_deref_mut().map(|kept| kept.entry(tensor).or_default()),
            true => {
                let of_shards = parts.by_tensor.entry(tensor).or_default();
                of_shards.resize_with(shards.own().len(), Vec::new);
                Some(&mut of_shards[self.part])
            }
        };
        chunks(&mut weights[tensor], &mut slots[tensor], kept, *rule, *lr, *t, size)
    }
}

/// Values that are updated at a time.
const SIZE: usize = 1 << 14;

impl<'a> Sink<'a> {
    /// The gradients of own shard `part`.
    pub fn part(&mut self, part: usize) -> Part<'_, 'a> {
        Part { sink: self, part }
    }

    /// Says that the gradients of these tensors are there, of each own shard.
    pub fn begin_sums(&mut self, tensors: Range<usize>) {
        if self.shards.is_split() {
            for tensor in tensors {
                let parts = self.parts.by_tensor.get_mut(&tensor).map(std::mem::take).unwrap_or_default();
                self.shards.team.begin_sum(parts);
                self.parts.begun.push((tensor, self.lr));
            }
        }
    }

    /// Takes all sums that have begun.
    pub fn end_sums(&mut self) {
        for at in 0..self.parts.begun.len() {
            let (tensor, lr) = self.parts.begun[at];
            let parts = self.shards.team.end_sum();
            self.lr = lr;
            self.take(tensor, &parts[0]);
            self.parts.by_tensor.insert(tensor, parts);
        }
        self.parts.begun.clear();
    }

    /// The whole gradient of a tensor.
    pub fn take(&mut self, tensor: usize, gradient: &[f32]) {
        let kept = self.kept.as_deref_mut().map(|kept| kept.entry(tensor).or_default());
        let (weights, slots) = (&mut self.weights[tensor], &mut self.slots[tensor]);
        chunks(weights, slots, kept, self.rule, self.lr, self.t, SIZE)
            .zip(gradient.par_chunks(SIZE))
            .for_each(|(mut chunk, gradient)| chunk.take(0, gradient));
    }
}

/// [`Part::chunks`] of a gradient that is kept, or updates the values.
fn chunks<'a>(
    weight: &'a mut Array,
    slots: &'a mut Vec<Vec<f32>>,
    kept: Option<&'a mut Vec<f32>>,
    rule: Rule,
    lr: f64,
    t: u32,
    size: usize,
) -> impl IndexedParallelIterator<Item = Chunk<'a>> {
    let Array { shape, values: weight, .. } = weight;
    let dimensions = shape.len();
    let (len, count) = (weight.len(), weight.len().div_ceil(size));
    let kept = kept.map_or(&mut [][..], |gradient| {
        gradient.resize(len, 0.0);
        gradient
    });
    if kept.is_empty() {
        slots.resize_with(rule.slots().len(), || vec![0.0; len]);
    }
    let mut slots = slots.iter_mut().map(|slot| &mut slot[..]);
    let [first, second] = [(); 2].map(|()| chunks_or_none(slots.next().unwrap_or_default(), size, count));
    let update = match rule {
        Rule::Sgd { momentum, weight_decay, nesterov, decayed } => {
            let decays = decayed == Decayed::All || dimensions > 1;
            let rates = [lr as f32, momentum, if decays { weight_decay } else { 0.0 }];
            if nesterov { Update::Nesterov(rates) } else { Update::Sgd(rates) }
        }
        Rule::Adam => {
            let (rate, root) = adam_corrections(lr, t);
            Update::Adam([rate as f32, root as f32])
        }
    };
    let chunks = weight.par_chunks_mut(size).zip(first.zip(second)).zip(chunks_or_none(kept, size, count));
    chunks.map(move |((weight, (first, second)), kept)| Chunk { weight, slots: [first, second], kept, update })
}

/// `average` moves towards `weights` by the share `new` of the way.
pub fn approach(average: &mut [f32], weights: &[f32], new: f32) {
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
