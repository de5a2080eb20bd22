//! The update rules of [`crate::optimizer`], each in one pass over parameter, gradient and state.

use rayon::prelude::*;

use crate::optimizer::{BETA1, BETA2, EPS, Rule, adam_corrections};

/// Values that one task takes.
const CHUNK: usize = 1 << 14;

/// Moves `weight` by `gradient` at step `t` (from 1); `slots` are the rule's state for this parameter, 0 at first.
pub fn step(rule: Rule, weight: &mut [f32], gradient: &[f32], slots: &mut [Vec<f32>], lr: f64, t: u32) {
    let parts = weight.par_chunks_mut(CHUNK).zip(gradient.par_chunks(CHUNK));
    match (rule, slots) {
        (Rule::Sgd { momentum, weight_decay }, [velocity]) => {
            let lr = lr as f32;
            parts.zip(velocity.par_chunks_mut(CHUNK)).for_each(|((weight, gradient), velocity)| {
                for ((w, g), v) in weight.iter_mut().zip(gradient).zip(velocity) {
                    // From 0 the first velocity is the gradient itself.
                    *v = momentum * *v + (g + weight_decay * *w);
                    *w -= lr * *v;
                }
            });
        }
        (Rule::Adam, [mean, square]) => {
            let (rate, root) = adam_corrections(lr, t);
            let (rate, root, eps) = (rate as f32, root as f32, EPS as f32);
            let (beta1, beta2) = (BETA1 as f32, BETA2 as f32);
            let (new1, new2) = ((1.0 - BETA1) as f32, (1.0 - BETA2) as f32);
            let state = mean.par_chunks_mut(CHUNK).zip(square.par_chunks_mut(CHUNK));
            parts.zip(state).for_each(|((weight, gradient), (mean, square))| {
                for (((w, g), m), s) in weight.iter_mut().zip(gradient).zip(mean).zip(square) {
                    *m = beta1 * *m + new1 * g;
                    *s = beta2 * *s + new2 * (g * g);
                    *w -= rate * (*m / (s.sqrt() / root + eps));
                }
            });
        }
        _ => unreachable!("a rule has its slots"),
    }
}
