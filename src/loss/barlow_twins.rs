//! With â and b̂ the views after batch norm without parameters, and c = âᵀ·b̂/n: the gradient for c is 2(c − 1) on the diagonal and
//! 2λ·c beside it, =: G; for â it is b̂·Gᵀ/n, for b̂ it is â·G/n, and batch norm's own leads to z.
//!
//! c, [width, width], need not be computed, only its diagonal: with the Gram matrices A = â·âᵀ and B = b̂·b̂ᵀ, [n, n], Σ over all i and j
//! of cᵢⱼ² is Σ A∘B/n², and b̂·cᵀ is B·â/n. A batch is much smaller than the projector is wide.

use super::matrix::{Product, columns, plain};
use crate::engine::NORM_EPS;

/// The memory of [`barlow_twins`], kept from call to call.
#[derive(Debug, Default)]
pub struct BarlowTwins {
    product: Product,
    views: [View; 2],
    /// c's, then the gradient's for it beyond that of cᵢᵢ², over n.
    diagonal: Vec<f64>,
}

#[derive(Debug, Default)]
struct View {
    /// Mean and standard deviation of each feature.
    moments: Vec<[f64; 2]>,
    normalised: Vec<f32>,
    gram: Vec<f32>,
    gradient: Vec<f32>,
    sums: Vec<[f64; 2]>,
}

/// Σ (1 − cᵢᵢ)² + λ·Σ over i ≠ j of cᵢⱼ², with c the cross-correlation of the two views' features over the batch (Zbontar,
/// Jing, Misra, LeCun and Deny, "Barlow Twins: self-supervised learning via redundancy reduction", 2021, equations 1 and 2,
/// algorithm 1; the variance is biased, with batch norm's ε as in the authors' code). z is [n, width], the first view's rows and
/// then the second's. `gradient` becomes its gradient.
///
/// # Panics
/// If `n` is odd or not the number of rows.
pub fn barlow_twins(z: &[f32], n: usize, lambda: f64, memory: &mut BarlowTwins, gradient: &mut Vec<f32>) -> f64 {
    assert!(n.is_multiple_of(2) && n > 0 && z.len().is_multiple_of(n), "two views of the same examples");
    let (width, n) = (z.len() / n, n / 2);
    let BarlowTwins { product, views, diagonal } = memory;
    for (view, z) in views.iter_mut().zip(z.chunks_exact(n * width)) {
        view.normalise(z, width);
        product.by_transposed(&mut view.gram, plain(&view.normalised, width), &view.normalised, [n, width, n]);
    }
    let [a, b] = views;
    let examples = n as f64;
    diagonal.clear();
    diagonal.resize(width, 0.0);
    for (a, b) in a.normalised.chunks_exact(width).zip(b.normalised.chunks_exact(width)) {
        diagonal.iter_mut().zip(a.iter().zip(b)).for_each(|(c, (a, b))| *c += f64::from(*a) * f64::from(*b));
    }
    let squares: f64 = a.gram.iter().zip(&b.gram).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
    let mut loss = lambda * squares / (examples * examples);
    for c in &mut *diagonal {
        let value = *c / examples;
        loss += (1.0 - value) * (1.0 - value) - lambda * value * value;
        *c = 2.0 * ((value - 1.0) - lambda * value) / examples;
    }
    let scale = 2.0 * lambda / (examples * examples);
    gradient.resize(z.len(), 0.0);
    let (of_a, of_b) = gradient.split_at_mut(n * width);
    a.gradient(b, diagonal, scale, product, of_a);
    b.gradient(a, diagonal, scale, product, of_b);
    loss
}

impl View {
    /// Sets `moments`, and `normalised` to z with each feature's mean and variance removed.
    fn normalise(&mut self, z: &[f32], width: usize) {
        columns(z, width, &mut self.moments);
        let n = (z.len() / width) as f64;
        self.moments.iter_mut().for_each(|[_, squares]| *squares = (*squares / n + NORM_EPS).sqrt());
        self.normalised.resize(z.len(), 0.0);
        for (out, row) in self.normalised.chunks_exact_mut(width).zip(z.chunks_exact(width)) {
            for ((out, x), [mean, std]) in out.iter_mut().zip(row).zip(&self.moments) {
                *out = ((f64::from(*x) - mean) / std) as f32;
            }
        }
    }

    /// `out` becomes the gradient of z.
    fn gradient(&mut self, other: &View, diagonal: &[f64], scale: f64, product: &mut Product, out: &mut [f32]) {
        let (n, width) = (out.len() / diagonal.len(), diagonal.len());
        product.by(&mut self.gradient, plain(&other.gram, n), &self.normalised, [n, n, width]);
        for (g, other) in self.gradient.chunks_exact_mut(width).zip(other.normalised.chunks_exact(width)) {
            for (g, (other, d)) in g.iter_mut().zip(other.iter().zip(diagonal)) {
                *g = (scale * f64::from(*g) + f64::from(*other) * d) as f32;
            }
        }
        self.backward(width, out);
    }

    /// From the gradient of what is normalised to that of z: (g − mean(g) − x̂·mean(g·x̂))/σ.
    fn backward(&mut self, width: usize, out: &mut [f32]) {
        let n = (out.len() / width) as f64;
        self.sums.clear();
        self.sums.resize(width, [0.0; 2]);
        for (x, g) in self.normalised.chunks_exact(width).zip(self.gradient.chunks_exact(width)) {
            for (sums, (x, g)) in self.sums.iter_mut().zip(x.iter().zip(g)) {
                sums[0] += f64::from(*g);
                sums[1] += f64::from(*g) * f64::from(*x);
            }
        }
        let rows = self.normalised.chunks_exact(width).zip(self.gradient.chunks_exact(width));
        for (out, (x, g)) in out.chunks_exact_mut(width).zip(rows) {
            for (c, (out, (x, g))) in out.iter_mut().zip(x.iter().zip(g)).enumerate() {
                let ([sum_g, sum_gx], [_, std]) = (self.sums[c], self.moments[c]);
                *out = ((f64::from(*g) - sum_g / n - f64::from(*x) * sum_gx / n) / std) as f32;
            }
        }
    }
}
