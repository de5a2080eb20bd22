//! Batch norm over dimension 1 of [n, c, pixels] (features: one pixel).
//!
//! Forward, with μ and σ² over images and pixels: x̂ = (x − μ)/√(σ² + ε), y = γ·x̂ + β, computed as (x − μ)·α + β with
//! α = γ/√(σ² + ε): subtracting first rounds less where μ is large. Backward, with g = ∂L/∂y and means over the same values: ∂L/∂β = Σ g,
//! ∂L/∂γ = Σ g·x̂, ∂L/∂x = α · (g − mean(g) − x̂·mean(g·x̂)). A channel's sums go over the pixels of an image in single
//! precision, over the images in double.

use rayon::prelude::*;

use super::sums;
use crate::engine::{NORM_EPS, NORM_MOMENTUM};

/// What the backward pass needs.
pub struct Saved {
    x: Vec<f32>,
    mean: Vec<f32>,
    /// 1/√(σ² + ε) per channel.
    inv_std: Vec<f32>,
}

/// In training: x becomes y; `running` (mean, variance) move by [`NORM_MOMENTUM`], the variance unbiased.
pub fn train(x: &mut Vec<f32>, pixels: usize, weight: &[f32], bias: &[f32], running: [&mut [f32]; 2]) -> Saved {
    let channels = weight.len();
    let count = (x.len() / channels) as f64;
    let sum = per_channel(channels, pixels, x, |_, plane| sums::sum(plane));
    let mean: Vec<f32> = sum.iter().map(|s| (s / count) as f32).collect();
    let squares = per_channel(channels, pixels, x, |c, plane| sums::sum_squares(plane, mean[c]));
    let inv_std: Vec<f32> = squares.iter().map(|s| (1.0 / (s / count + NORM_EPS).sqrt()) as f32).collect();
    let [running_mean, running_var] = running;
    let toward = |old: f32, new: f64| ((1.0 - NORM_MOMENTUM) * f64::from(old) + NORM_MOMENTUM * new) as f32;
    for c in 0..channels {
        running_mean[c] = toward(running_mean[c], mean[c].into());
        running_var[c] = toward(running_var[c], squares[c] / (count - 1.0));
    }
    let mut y = vec![0.0; x.len()];
    let size = channels * pixels;
    y.par_chunks_exact_mut(size).zip(x.par_chunks_exact(size)).for_each(|(y, x)| {
        affine(y, x, pixels, weight, bias, &mean, &inv_std);
    });
    Saved { x: std::mem::replace(x, y), mean, inv_std }
}

/// In evaluation: x becomes y by the running statistics.
pub fn eval(x: &mut Vec<f32>, pixels: usize, weight: &[f32], bias: &[f32], running: [&[f32]; 2]) {
    let [mean, var] = running;
    let inv_std: Vec<f32> = var.iter().map(|&v| (1.0 / (f64::from(v) + NORM_EPS).sqrt()) as f32).collect();
    let mut y = vec![0.0; x.len()];
    let size = weight.len() * pixels;
    y.par_chunks_exact_mut(size).zip(x.par_chunks_exact(size)).for_each(|(y, x)| {
        affine(y, x, pixels, weight, bias, mean, &inv_std);
    });
    *x = y;
}

/// One image.
fn affine(y: &mut [f32], x: &[f32], pixels: usize, weight: &[f32], bias: &[f32], mean: &[f32], inv_std: &[f32]) {
    for (c, (y, x)) in y.chunks_exact_mut(pixels).zip(x.chunks_exact(pixels)).enumerate() {
        let alpha = weight[c] * inv_std[c];
        let (mean, bias) = (mean[c], bias[c]);
        y.iter_mut().zip(x).for_each(|(y, x)| *y = (x - mean) * alpha + bias);
    }
}

/// g = ∂L/∂y becomes ∂L/∂x; gives ∂L/∂γ and ∂L/∂β.
pub fn backward(saved: &Saved, g: &mut [f32], pixels: usize, weight: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let Saved { x, mean, inv_std } = saved;
    let channels = weight.len();
    let count = (g.len() / channels) as f64;
    let db = per_channel(channels, pixels, g, |_, plane| sums::sum(plane));
    let dw = per_channel_pair(channels, pixels, g, x, |c, g, x| sums::dot_centred(g, x, mean[c]) * inv_std[c]);
    let means = |sums: &[f64]| -> Vec<f32> { sums.iter().map(|s| (s / count) as f32).collect() };
    let (mean_g, mean_gx) = (means(&db), means(&dw));
    let size = channels * pixels;
    g.par_chunks_exact_mut(size).zip(x.par_chunks_exact(size)).for_each(|(g, x)| {
        for (c, (g, x)) in g.chunks_exact_mut(pixels).zip(x.chunks_exact(pixels)).enumerate() {
            let (alpha, mean, pull) = (weight[c] * inv_std[c], mean[c], inv_std[c] * mean_gx[c]);
            let mean_g = mean_g[c];
            g.iter_mut().zip(x).for_each(|(g, x)| *g = alpha * (*g - mean_g - (x - mean) * pull));
        }
    });
    let narrow = |sums: Vec<f64>| sums.into_iter().map(|s| s as f32).collect();
    (narrow(dw), narrow(db))
}

/// Σ over images of `plane(channel, pixels)`, for each channel.
fn per_channel(channels: usize, pixels: usize, x: &[f32], plane: impl Fn(usize, &[f32]) -> f32 + Sync) -> Vec<f64> {
    per_channel_pair(channels, pixels, x, x, |c, x, _| plane(c, x))
}

/// The same over two arrays.
fn per_channel_pair(
    channels: usize,
    pixels: usize,
    a: &[f32],
    b: &[f32],
    plane: impl Fn(usize, &[f32], &[f32]) -> f32 + Sync,
) -> Vec<f64> {
    // Tasks of whole channels: the order of a channel's sum is that of the images, whoever adds it up.
    let chunk = if pixels == 1 { 64 } else { 1 };
    let mut sums = vec![0.0; channels];
    sums.par_chunks_mut(chunk).enumerate().for_each(|(task, sums)| {
        let first = task * chunk;
        for (a, b) in a.chunks_exact(channels * pixels).zip(b.chunks_exact(channels * pixels)) {
            for (c, sum) in (first..).zip(sums.iter_mut()) {
                let at = c * pixels..(c + 1) * pixels;
                *sum += f64::from(plane(c, &a[at.clone()], &b[at]));
            }
        }
    });
    sums
}
