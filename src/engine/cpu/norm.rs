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

    /// From the moments of each image, [images, 2, width]: the sum of a channel over `pixels`, and the sum of squared
    /// deviations from its mean. Images are added in order, in double precision (Chan, Golub and LeVeque, "Updating
    /// formulae and a pairwise algorithm for computing sample variances", 1979). Moves the running statistics.
    /// `tensors`: γ, β, running mean, running variance.
    pub fn set_batch(&mut self, moments: &[f32], width: usize, pixels: usize, tensors: &mut [Array]) {
        self.identity(width);
        let [weight, bias, running_mean, running_var] = tensors else { unreachable!("batch norm has four tensors") };
        let images = || moments.chunks_exact(2 * width);
        let count = (images().len() * pixels) as f64;
        for c in 0..weight.values.len() {
            let mean = images().map(|m| f64::from(m[c])).sum::<f64>() / count;
            let apart = |m: &[f32]| f64::from(m[c]) / pixels as f64 - mean;
            let squares = images().map(|m| f64::from(m[width + c]) + pixels as f64 * apart(m) * apart(m)).sum::<f64>();
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

    /// From the sums of each image, [images, 2, width]: Σ g and Σ g·(x − μ). Running statistics do not depend on x: without
    /// `of_batch` there are no means to subtract.
    pub fn set_gradient(&mut self, sums: &[f32], pixels: usize, of_batch: bool) {
        let width = self.mean.len();
        let images = || sums.chunks_exact(2 * width);
        let count = (images().len() * pixels) as f64;
        self.gradients.iter_mut().for_each(|values| values.resize(width, 0.0));
        for c in 0..width {
            let total = |at: usize| images().map(|m| f64::from(m[at])).sum::<f64>();
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
