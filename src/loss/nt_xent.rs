//! With ẑ = z/‖z‖, s = ẑ·ẑᵀ and P the softmax over all other rows of s/T: the loss of row i is −ln P at the row of the
//! other view, the gradient for s is (P − one-hot)/(N·T) =: G, for ẑ it is (G + Gᵀ)·ẑ, and for z it is that without its part along
//! ẑ, over ‖z‖.

use rayon::prelude::*;

use super::matrix::{Product, plain};

/// The memory of [`nt_xent`] and [`supcon`](super::supcon()), kept from call to call.
#[derive(Debug, Default)]
pub struct NtXent {
    product: Product,
    unit: Vec<f32>,
    norms: Vec<f64>,
    /// s, then G, then G + Gᵀ.
    similarity: Vec<f32>,
    of_similarity: Vec<f32>,
    losses: Vec<f64>,
    of_unit: Vec<f32>,
}

/// The normalised temperature-scaled cross-entropy of two views (Chen, Kornblith, Norouzi and Hinton, "A simple framework for
/// contrastive learning of visual representations", 2020, equation 1): the mean over all N rows of z [N, width], the first
/// view's and then the second's. `gradient` becomes its gradient.
///
/// # Panics
/// If `n` is odd or not the number of rows.
pub fn nt_xent(z: &[f32], n: usize, temperature: f64, memory: &mut NtXent, gradient: &mut Vec<f32>) -> f64 {
    contrast(z, n, temperature, |i, j| j == (i + n / 2) % n, memory, gradient)
}

/// The mean over rows of the cross-entropy of telling the positives of each, other rows that each have the same share, from all other
/// rows.
pub(super) fn contrast(
    z: &[f32],
    n: usize,
    temperature: f64,
    is_positive: impl Fn(usize, usize) -> bool + Sync,
    memory: &mut NtXent,
    gradient: &mut Vec<f32>,
) -> f64 {
    assert!(n.is_multiple_of(2) && n > 0 && z.len().is_multiple_of(n), "two views of the same examples");
    let width = z.len() / n;
    let NtXent { product, unit, norms, similarity, of_similarity, losses, of_unit } = memory;
    let norm = |row: &[f32]| row.iter().map(|x| f64::from(*x) * f64::from(*x)).sum::<f64>().sqrt().max(1e-12);
    norms.clear();
    norms.extend(z.chunks_exact(width).map(norm));
    unit.resize(z.len(), 0.0);
    for ((unit, row), norm) in unit.chunks_exact_mut(width).zip(z.chunks_exact(width)).zip(&*norms) {
        unit.iter_mut().zip(row).for_each(|(unit, x)| *unit = (f64::from(*x) / norm) as f32);
    }
    product.by_transposed(similarity, plain(unit, width), unit, [n, width, n]);
    losses.resize(n, 0.0);
    similarity.par_chunks_exact_mut(n).zip(&mut *losses).enumerate().for_each(|(i, (row, loss))| {
        let others = || row.iter().enumerate().filter(|(j, _)| *j != i);
        let max = others().fold(f32::NEG_INFINITY, |max, (_, s)| max.max(*s));
        let exp = |s: f32| libm::exp((f64::from(s) - f64::from(max)) / temperature);
        let sum: f64 = others().map(|(_, s)| exp(*s)).sum();
        let positives = || others().filter(|(j, _)| is_positive(i, *j));
        let count = positives().count() as f64;
        let below: f64 = positives().map(|(_, s)| f64::from(max) - f64::from(*s)).sum();
        *loss = libm::log(sum) + below / count / temperature;
        for (j, s) in row.iter_mut().enumerate() {
            let share = if is_positive(i, j) { 1.0 / count } else { 0.0 };
            *s = if j == i { 0.0 } else { ((exp(*s) / sum - share) / (n as f64 * temperature)) as f32 };
        }
    });
    of_similarity.resize(n * n, 0.0);
    of_similarity.par_chunks_exact_mut(n).enumerate().for_each(|(i, row)| {
        row.iter_mut().enumerate().for_each(|(j, g)| *g = similarity[i * n + j] + similarity[j * n + i]);
    });
    product.by(of_unit, plain(of_similarity, n), unit, [n, n, width]);
    gradient.resize(z.len(), 0.0);
    let rows = gradient.chunks_exact_mut(width).zip(unit.chunks_exact(width).zip(of_unit.chunks_exact(width)));
    for ((gradient, (unit, of_unit)), norm) in rows.zip(&*norms) {
        let along: f64 = unit.iter().zip(of_unit).map(|(u, g)| f64::from(*u) * f64::from(*g)).sum();
        for (gradient, (u, g)) in gradient.iter_mut().zip(unit.iter().zip(of_unit)) {
            *gradient = ((f64::from(*g) - f64::from(*u) * along) / norm) as f32;
        }
    }
    losses.iter().sum::<f64>() / n as f64
}
