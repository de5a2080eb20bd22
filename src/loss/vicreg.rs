//! With z̄ = z − mean, C = z̄ᵀ·z̄/(n − 1) and σ = √(Cⱼⱼ + ε) of a view: the gradient of the hinge 1 − σ where it is above 0 is
//! −z̄/((n − 1)·σ), that of Σ over i ≠ j of Cᵢⱼ² is 4·z̄·offdiagonal(C)/(n − 1), and that of the mean squared difference is 2(a − b)/(n·width).
//!
//! C, [width, width], need not be computed, only its diagonal: with the Gram matrix K = z̄·z̄ᵀ, [n, n], Σ over all i and j of Cᵢⱼ² is
//! Σ K²/(n − 1)², and z̄·C is K·z̄/(n − 1). A batch is much smaller than the projector is wide.

use super::matrix::{Product, columns, plain};

/// The weights of the three terms, and ε.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VicRegWeights {
    /// λ, of the invariance term.
    pub invariance: f64,
    /// μ, of the variance term.
    pub variance: f64,
    /// ν, of the covariance term.
    pub covariance: f64,
    /// Added to a variance.
    pub eps: f64,
}

/// The memory of [`vicreg`], kept from call to call.
#[derive(Debug, Default)]
pub struct VicReg {
    product: Product,
    moments: Vec<[f64; 2]>,
    centred: Vec<f32>,
    gram: Vec<f32>,
    of_covariance: Vec<f32>,
    /// What each feature's gradient has along z̄.
    along: Vec<f64>,
}

/// λ·s + μ·(v + v′)/2 + ν·(c + c′) of two views (Bardes, Ponce and LeCun, "VICReg: variance-invariance-covariance
/// regularization for self-supervised learning", 2022, equations 1 to 6): s is the mean squared difference over rows and features
/// and v the mean of both views' hinges, as in the authors' code. z is [n, width], the first view's rows and then the second's.
/// `gradient` becomes its gradient.
///
/// # Panics
/// If `n` is odd or not the number of rows.
pub fn vicreg(z: &[f32], n: usize, weights: VicRegWeights, memory: &mut VicReg, gradient: &mut Vec<f32>) -> f64 {
    assert!(n.is_multiple_of(2) && n > 0 && z.len().is_multiple_of(n), "two views of the same examples");
    let (width, n) = (z.len() / n, n / 2);
    let VicReg { product, moments, centred, gram, of_covariance, along } = memory;
    let (features, degrees) = (width as f64, (n as f64 - 1.0).max(1.0));
    let (a, b) = z.split_at(n * width);
    gradient.resize(z.len(), 0.0);
    let (of_a, of_b) = gradient.split_at_mut(n * width);
    let mut loss = 0.0;
    for ((a, b), (of_a, of_b)) in a.iter().zip(b).zip(of_a.iter_mut().zip(of_b)) {
        let apart = f64::from(*a) - f64::from(*b);
        loss += apart * apart;
        *of_a = (weights.invariance * 2.0 * apart / (n as f64 * features)) as f32;
        *of_b = -*of_a;
    }
    loss *= weights.invariance / (n as f64 * features);
    for (z, gradient) in z.chunks_exact(n * width).zip(gradient.chunks_exact_mut(n * width)) {
        columns(z, width, moments);
        let std = |squares: f64| (squares / degrees + weights.eps).sqrt();
        let hinges: f64 = moments.iter().map(|[_, squares]| (1.0 - std(*squares)).max(0.0)).sum();
        loss += weights.variance * hinges / (2.0 * features);
        centred.resize(z.len(), 0.0);
        for (out, row) in centred.chunks_exact_mut(width).zip(z.chunks_exact(width)) {
            out.iter_mut()
                .zip(row)
                .zip(&*moments)
                .for_each(|((out, x), [mean, _])| *out = (f64::from(*x) - mean) as f32);
        }
        product.by_transposed(gram, plain(centred, width), centred, [n, width, n]);
        let all: f64 = gram.iter().map(|k| f64::from(*k) * f64::from(*k)).sum::<f64>() / (degrees * degrees);
        let diagonal: f64 = moments.iter().map(|[_, squares]| (squares / degrees) * (squares / degrees)).sum();
        loss += weights.covariance * (all - diagonal) / features;
        product.by(of_covariance, plain(gram, n), centred, [n, n, width]);
        let scale = 4.0 * weights.covariance / (features * degrees);
        along.clear();
        along.extend(moments.iter().map(|[_, squares]| {
            let std = std(*squares);
            let pull = if std < 1.0 { weights.variance / (2.0 * features * degrees * std) } else { 0.0 };
            -pull - scale * squares / degrees
        }));
        let rows = centred.chunks_exact(width).zip(of_covariance.chunks_exact(width));
        for (gradient, (x, g)) in gradient.chunks_exact_mut(width).zip(rows) {
            for (gradient, (along, (x, g))) in gradient.iter_mut().zip(along.iter().zip(x.iter().zip(g))) {
                *gradient = (f64::from(*gradient) + scale / degrees * f64::from(*g) + along * f64::from(*x)) as f32;
            }
        }
    }
    loss
}
