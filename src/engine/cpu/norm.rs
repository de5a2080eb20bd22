//! Batch norm of one batch: what normalises it, and what the gradient needs.
//!
//! Forward (Ioffe and Szegedy, "Batch normalization", 2015, algorithm 1), with μ and σ² over images and pixels of a
//! channel: x̂ = (x − μ)/√(σ² + ε), y = γ·x̂ + β, computed as
//! (x − μ)·α + β with α = γ/√(σ² + ε): subtracting first rounds less where μ is large. Backward, with g = ∂L/∂y and
//! means over the same values: ∂L/∂β = Σ g, ∂L/∂γ = Σ g·x̂, ∂L/∂x = α·(g − mean(g) − x̂·mean(g·x̂)). The gradient of a
//! shift before batch norm is exactly 0: μ removes the shift.

use crate::engine::{NORM_EPS, NORM_MOMENTUM};
use crate::network::Array;

/// Batch norm of some channels for one batch, or the identity.
#[derive(Default)]
pub struct Norm {
    pub mean: Vec<f32>,
    /// γ/√(σ² + ε).
    pub alpha: Vec<f32>,
    /// β.
    pub beta: Vec<f32>,
    /// 1/√(σ² + ε).
    inv_std: Vec<f32>,
    /// mean(g) and mean(g·x̂)/√(σ² + ε), for the backward pass.
    pub mean_g: Vec<f32>,
    pub pull: Vec<f32>,
    /// ∂L/∂γ and ∂L/∂β of this batch.
    gradients: [Vec<f64>; 2],
}

/// 1/√(variance + ε).
pub fn inv_std(variance: f64) -> f32 {
    (1.0 / (variance + NORM_EPS).sqrt()) as f32
}

/// Moves running statistics towards a batch of `count` values with this mean and sum of squared deviations. The running
/// variance takes the unbiased one.
pub fn move_running(running_mean: &mut f32, running_var: &mut f32, mean: f64, squares: f64, count: f64) {
    let toward = |old: &mut f32, new: f64| {
        *old = ((1.0 - NORM_MOMENTUM) * f64::from(*old) + NORM_MOMENTUM * new) as f32;
    };
    toward(running_mean, mean);
    toward(running_var, squares / (count - 1.0));
}

/// The mean and the sum of squared deviations of all values, from their number, mean and sum of squared deviations in each part, in
/// order (Chan, Golub and LeVeque, "Updating formulae and a pairwise algorithm for computing sample variances", 1979).
pub fn combined(parts: impl Iterator<Item = (f64, [f64; 2])> + Clone) -> (f64, [f64; 2]) {
    let mut first = parts.clone();
    if let (Some(only), None) = (first.next(), first.next()) {
        return only;
    }
    let count = parts.clone().map(|(count, _)| count).sum::<f64>();
    let mean = parts.clone().map(|(count, [mean, _])| count * mean).sum::<f64>() / count;
    let squares = parts.map(|(count, [of, squares])| squares + count * (of - mean) * (of - mean)).sum::<f64>();
    (count, [mean, squares])
}

/// Of the first channels the mean and the sum of squared deviations over images, [2, width], from the moments of each image,
/// [images, 2, width]: the sum over its `pixels`, and the sum of squared deviations from its mean. Images are added in order, in double
/// precision, as [`combined`] does.
pub fn statistics(moments: &[f32], width: usize, channels: usize, pixels: usize, statistics: &mut [f64]) {
    let images = || moments.chunks_exact(2 * width);
    let count = (images().len() * pixels) as f64;
    for c in 0..channels {
        let mean = images().map(|m| f64::from(m[c])).sum::<f64>() / count;
        let apart = |m: &[f32]| f64::from(m[c]) / pixels as f64 - mean;
        let squares = images().map(|m| f64::from(m[width + c]) + pixels as f64 * apart(m) * apart(m)).sum::<f64>();
        (statistics[c], statistics[width + c]) = (mean, squares);
    }
}

/// The totals, [2, width], of the sums of each image, [images, 2, width]: Σ g and Σ g·(x − μ). Images are added in order.
pub fn totals(sums: &[f32], totals: &mut [f64]) {
    let len = totals.len();
    for (at, total) in totals.iter_mut().enumerate() {
        *total = sums.chunks_exact(len).map(|m| f64::from(m[at])).sum::<f64>();
    }
}

impl Norm {
    /// Becomes the identity on `width` channels.
    pub fn identity(&mut self, width: usize) {
        for (values, value) in [
            (&mut self.mean, 0.0),
            (&mut self.alpha, 1.0),
            (&mut self.beta, 0.0),
            (&mut self.inv_std, 1.0),
            (&mut self.mean_g, 0.0),
            (&mut self.pull, 0.0),
        ] {
            values.clear();
            values.resize(width, value);
        }
    }

    fn set(&mut self, c: usize, mean: f32, variance: f64, [weight, bias]: [&Array; 2]) {
        let inv_std = inv_std(variance);
        (self.mean[c], self.inv_std[c]) = (mean, inv_std);
        (self.alpha[c], self.beta[c]) = (weight.values[c] * inv_std, bias.values[c]);
    }

    /// From the [`statistics`] of each shard, in order, with its number of values: combined as those of images are. Moves the
    /// running statistics. `tensors`: γ, β, running mean, running variance.
    pub fn set_batch<'a>(
        &mut self,
        width: usize,
        shards: impl Iterator<Item = (f64, &'a [f64])> + Clone,
        tensors: &mut [Array],
    ) {
        self.identity(width);
        let [weight, bias, running_mean, running_var] = tensors else { unreachable!("batch norm has four tensors") };
        for c in 0..weight.values.len() {
            let (count, [mean, squares]) = combined(shards.clone().map(|(count, of)| (count, [of[c], of[width + c]])));
            self.set(c, mean as f32, squares / count, [weight, bias]);
            move_running(&mut running_mean.values[c], &mut running_var.values[c], mean, squares, count);
        }
    }

    /// From the running statistics.
    pub fn set_running(&mut self, width: usize, tensors: &[Array]) {
        self.identity(width);
        let [weight, bias, mean, var] = tensors else { unreachable!("batch norm has four tensors") };
        for c in 0..weight.values.len() {
            self.set(c, mean.values[c], var.values[c].into(), [weight, bias]);
        }
    }

    /// From the [`totals`] of each shard, in order, for `count` values in all. Running statistics do not depend on x: without
    /// `of_batch` there are no means to subtract.
    pub fn set_gradient<'a>(&mut self, shards: impl Iterator<Item = &'a [f64]> + Clone, count: f64, of_batch: bool) {
        let width = self.mean.len();
        self.gradients.iter_mut().for_each(|values| values.resize(width, 0.0));
        for c in 0..width {
            let total = |at: usize| shards.clone().map(|of| of[at]).sum::<f64>();
            let (sum_g, sum_gx) = (total(c), total(width + c) * f64::from(self.inv_std[c]));
            (self.gradients[0][c], self.gradients[1][c]) = (sum_gx, sum_g);
            if of_batch {
                self.mean_g[c] = (sum_g / count) as f32;
                self.pull[c] = (sum_gx / count) as f32 * self.inv_std[c];
            }
        }
    }

    /// ∂L/∂γ (`which` = 0) or ∂L/∂β (1) of channel `c`, summed over batches with the same tensors.
    pub fn gradient(batches: &[Norm], which: usize, c: usize) -> f32 {
        batches.iter().map(|norm| norm.gradients[which][c]).sum::<f64>() as f32
    }
}
