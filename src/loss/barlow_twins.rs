//! With â and b̂ the views after batch norm without parameters, and c = âᵀ·b̂/n: the gradient for c is 2(c − 1) on the diagonal and
//! 2λ·c beside it, =: G; for â it is b̂·Gᵀ/n, for b̂ it is â·G/n, and batch norm's own leads to z.

use super::matrix::{Product, columns, plain, transposed};
use crate::engine::NORM_EPS;

/// The memory of [`barlow_twins`], kept from call to call.
#[derive(Debug, Default)]
pub struct BarlowTwins {
    product: Product,
    views: [View; 2],
    /// c, then G/n.
    correlation: Vec<f32>,
}

#[derive(Debug, Default)]
struct View {
    moments: Vec<[f64; 2]>,
    normalised: Vec<f32>,
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
    let BarlowTwins { product, views, correlation } = memory;
    for (view, z) in views.iter_mut().zip(z.chunks_exact(n * width)) {
        columns(z, width, &mut view.moments);
        view.normalised.resize(z.len(), 0.0);
        for (out, row) in view.normalised.chunks_exact_mut(width).zip(z.chunks_exact(width)) {
            for ((out, x), [mean, squares]) in out.iter_mut().zip(row).zip(&view.moments) {
                *out = ((f64::from(*x) - mean) / (squares / n as f64 + NORM_EPS).sqrt()) as f32;
            }
        }
    }
    let [first, second] = views;
    product.by(correlation, transposed(&first.normalised, width), &second.normalised, [width, n, width]);
    let mut loss = 0.0;
    for (i, row) in correlation.chunks_exact_mut(width).enumerate() {
        let mut of_row = 0.0;
        for (j, c) in row.iter_mut().enumerate() {
            let value = f64::from(*c) / n as f64;
            let (apart, weight) = if i == j { (value - 1.0, 1.0) } else { (value, lambda) };
            of_row += weight * apart * apart;
            *c = (2.0 * weight * apart / n as f64) as f32;
        }
        loss += of_row;
    }
    product.by_transposed(&mut first.gradient, plain(&second.normalised, width), correlation, [n, width, width]);
    product.by(&mut second.gradient, plain(&first.normalised, width), correlation, [n, width, width]);
    gradient.resize(z.len(), 0.0);
    for (view, out) in [first, second].into_iter().zip(gradient.chunks_exact_mut(n * width)) {
        view.backward(width, out);
    }
    loss
}

impl View {
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
                let ([sum_g, sum_gx], [_, squares]) = (self.sums[c], self.moments[c]);
                let std = (squares / n + NORM_EPS).sqrt();
                *out = ((f64::from(*g) - sum_g / n - f64::from(*x) * sum_gx / n) / std) as f32;
            }
        }
    }
}
