//! The update rules of [`crate::optimizer`], each in one pass over parameter, gradient and state, and where gradients
//! go: into the update at once, so that a large one is never whole in memory, or into a list.

use std::collections::BTreeMap;
use std::ops::Range;

use rayon::prelude::*;

use crate::network::Array;
use crate::optimizer::{BETA1, BETA2, EPS, Rule, adam_corrections};
use crate::simd::simd;

/// Gradients by tensor index.
pub type ByTensor = BTreeMap<usize, Vec<f32>>;

/// Per tensor: the rule's state arrays, once it has had a gradient.
pub type Slots = Vec<Vec<Vec<f32>>>;

/// What takes the gradients of a backward pass.
pub struct Sink<'a> {
    pub weights: &'a mut [Array],
    pub slots: &'a mut Slots,
    pub rule: Rule,
    pub lr: f64,
    /// The step, from 1.
    pub t: u32,
    /// Where gradients are kept; without it they move the weights.
    pub kept: Option<&'a mut ByTensor>,
}

impl Sink<'_> {
    /// The whole gradient of a tensor.
    pub fn take(&mut self, tensor: usize, gradient: &[f32]) {
        self.take_rows(tensor, 1 << 14, |block, give| {
            let start = block << 14;
            give(0, &gradient[start..gradient.len().min(start + (1 << 14))]);
        });
    }

    /// The gradient of a tensor in blocks of `block` values: `compute(i, give)` gives that of block i in pieces, each
    /// with its place in the block. Blocks go in parallel.
    pub fn take_rows(
        &mut self,
        tensor: usize,
        block: usize,
        compute: impl Fn(usize, &mut dyn FnMut(usize, &[f32])) + Sync,
    ) {
        let weight = &mut self.weights[tensor].values;
        if let Some(kept) = &mut self.kept {
            let gradient = kept.entry(tensor).or_default();
            gradient.resize(weight.len(), 0.0);
            gradient.par_chunks_mut(block).enumerate().for_each(|(i, out)| {
                compute(i, &mut |at, piece| out[at..at + piece.len()].copy_from_slice(piece));
            });
            return;
        }
        let slots = &mut self.slots[tensor];
        slots.resize_with(self.rule.slots().len(), || vec![0.0; weight.len()]);
        let weight = weight.par_chunks_mut(block).enumerate();
        let piece = |at: usize, piece: &[f32]| -> Range<usize> { at..at + piece.len() };
        match (self.rule, &mut slots[..]) {
            (Rule::Sgd { momentum, weight_decay }, [velocity]) => {
                let lr = self.lr as f32;
                weight.zip(velocity.par_chunks_mut(block)).for_each(|((i, weight), velocity)| {
                    compute(i, &mut |at, gradient| {
                        let at = piece(at, gradient);
                        sgd(&mut weight[at.clone()], gradient, &mut velocity[at], [lr, momentum, weight_decay]);
                    });
                });
            }
            (Rule::Adam, [mean, square]) => {
                let (rate, root) = adam_corrections(self.lr, self.t);
                let rates = [rate as f32, root as f32];
                let state = mean.par_chunks_mut(block).zip(square.par_chunks_mut(block));
                weight.zip(state).for_each(|((i, weight), (mean, square))| {
                    compute(i, &mut |at, gradient| {
                        let at = piece(at, gradient);
                        adam(&mut weight[at.clone()], gradient, &mut mean[at.clone()], &mut square[at], rates);
                    });
                });
            }
            _ => unreachable!("a rule has its slots"),
        }
    }
}

simd! {
    fn sgd(weight: &mut [f32], gradient: &[f32], velocity: &mut [f32], rates: [f32; 3]) {
        let [lr, momentum, weight_decay] = rates;
        for ((w, g), v) in weight.iter_mut().zip(gradient).zip(velocity) {
            // From 0 the first velocity is the gradient itself.
            *v = momentum * *v + (g + weight_decay * *w);
            *w -= lr * *v;
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
