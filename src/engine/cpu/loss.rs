//! Losses with their gradients, in double precision; exp and ln from libm. Outputs are batch last, [values, n].

use rayon::prelude::*;

use crate::engine::COSINE_EPS;
use crate::simd::simd;

/// The mean over examples of −ln softmax(logits)\[label\], and in `g` its gradient (softmax − one-hot)/n. Logits and
/// `g` are [classes, n].
pub fn cross_entropy(logits: &[f32], labels: &[u8], g: &mut [f32]) -> f64 {
    let n = labels.len();
    let mut loss = 0.0;
    for (i, &label) in labels.iter().enumerate() {
        let column = || logits[i..].iter().step_by(n).copied();
        let max = column().fold(f32::NEG_INFINITY, f32::max);
        let exp = |x: f32| libm::exp(f64::from(x) - f64::from(max));
        let sum: f64 = column().map(exp).sum();
        loss += libm::log(sum) + f64::from(max) - f64::from(logits[usize::from(label) * n + i]);
        for (class, x) in column().enumerate() {
            let hot = f64::from(u8::from(class == usize::from(label)));
            g[class * n + i] = ((exp(x) / sum - hot) / n as f64) as f32;
        }
    }
    loss / n as f64
}

/// Rows in one partial sum.
const ROWS: usize = 256;

/// SimSiam's negative cosines, and their buffers.
#[derive(Default)]
pub struct Cosines {
    /// Partial sums of p·z, p² and z² over each example's rows: [rows / [`ROWS`], 3, 2n].
    sums: Vec<f64>,
    /// The factors of `combine`, [4, 2n]: two per example for the gradient of p, two for that of z.
    factors: Vec<f64>,
}

impl Cosines {
    /// D(p₁, z₂)/2 + D(p₂, z₁)/2, with D the mean over examples of −cos(p, z) = −p·z/(max(‖p‖, ε)·max(‖z‖, ε)).
    /// p and z are [d, 2n]: the first view's examples, then the second's.
    ///
    /// For rows longer than ε: ∂/∂p of −cos = −(z/‖z‖ − cos·p/‖p‖)/‖p‖, and the same with p and z exchanged; a norm at
    /// its floor is a constant. The gradient of p goes into `dp`.
    pub fn loss(&mut self, p: &[f32], z: &[f32], n: usize, dp: &mut [f32]) -> f64 {
        let columns = 2 * n;
        let partials = p.len().div_ceil(ROWS * columns);
        self.sums.resize(partials * 3 * columns, 0.0);
        let sums = self.sums.par_chunks_exact_mut(3 * columns);
        sums.zip(p.par_chunks(ROWS * columns).zip(z.par_chunks(ROWS * columns))).for_each(|(sums, (p, z))| {
            products(p, z, n, sums);
        });
        self.factors.resize(4 * columns, 0.0);
        let mut loss = 0.0;
        for i in 0..columns {
            let total = |which: usize, at: usize| {
                self.sums.chunks_exact(3 * columns).map(|sums| sums[which * columns + at]).sum::<f64>()
            };
            let other = (i + n) % columns;
            let (norm_p, norm_z) = (total(1, i).sqrt(), total(2, other).sqrt());
            let (floor_p, floor_z) = (norm_p.max(COSINE_EPS), norm_z.max(COSINE_EPS));
            let cosine = total(0, i) / (floor_p * floor_z);
            loss -= cosine;
            let pull = |norm: f64| if norm > COSINE_EPS { cosine / (norm * norm) } else { 0.0 };
            // Half of each view's mean.
            let share = 1.0 / columns as f64;
            self.factors[i] = -share / (floor_p * floor_z);
            self.factors[columns + i] = share * pull(norm_p);
            self.factors[2 * columns + other] = -share / (floor_p * floor_z);
            self.factors[3 * columns + other] = share * pull(norm_z);
        }
        let (of_p, _) = self.factors.split_at(2 * columns);
        gradient(p, z, n, of_p, dp, false);
        loss / columns as f64
    }

    /// Adds the gradient of z to `dz`, after [`Cosines::loss`].
    pub fn add_gradient_of_z(&self, p: &[f32], z: &[f32], n: usize, dz: &mut [f32]) {
        gradient(z, p, n, &self.factors[4 * n..], dz, true);
    }
}

/// Sets `d` to own·factors₂ + other·factors₁, or adds that to it; `other` of an example is in the other view.
fn gradient(own: &[f32], other: &[f32], n: usize, factors: &[f64], d: &mut [f32], accumulate: bool) {
    let rows = d.par_chunks_mut(ROWS * 2 * n).zip(own.par_chunks(ROWS * 2 * n)).zip(other.par_chunks(ROWS * 2 * n));
    rows.for_each(|((d, own), other)| combine(own, other, n, factors, d, accumulate));
}

simd! {
    fn products(p: &[f32], z: &[f32], n: usize, sums: &mut [f64]) {
        sums.fill(0.0);
        let (pz, squares) = sums.split_at_mut(2 * n);
        let (pp, zz) = squares.split_at_mut(2 * n);
        for (p, z) in p.chunks_exact(2 * n).zip(z.chunks_exact(2 * n)) {
            let (z1, z2) = z.split_at(n);
            let (pz1, pz2) = pz.split_at_mut(n);
            let (p1, p2) = p.split_at(n);
            for (sum, (p, z)) in pz1.iter_mut().zip(p1.iter().zip(z2)) {
                *sum += f64::from(*p) * f64::from(*z);
            }
            for (sum, (p, z)) in pz2.iter_mut().zip(p2.iter().zip(z1)) {
                *sum += f64::from(*p) * f64::from(*z);
            }
            for (sum, p) in pp.iter_mut().zip(p) {
                *sum += f64::from(*p) * f64::from(*p);
            }
            for (sum, z) in zz.iter_mut().zip(z) {
                *sum += f64::from(*z) * f64::from(*z);
            }
        }
    }

    fn combine(own: &[f32], other: &[f32], n: usize, factors: &[f64], d: &mut [f32], accumulate: bool) {
        let (of_other, of_own) = factors[..4 * n].split_at(2 * n);
        let rows = own.chunks_exact(2 * n).zip(other.chunks_exact(2 * n));
        for (d, (own, other)) in d.chunks_exact_mut(2 * n).zip(rows) {
            for half in 0..2 {
                let (here, there) = (half * n..(half + 1) * n, (1 - half) * n..(2 - half) * n);
                let factors = of_other[here.clone()].iter().zip(&of_own[here.clone()]);
                let values = own[here.clone()].iter().zip(&other[there]);
                for (d, ((own, other), (a, b))) in d[here].iter_mut().zip(values.zip(factors)) {
                    let value = (f64::from(*other) * a + f64::from(*own) * b) as f32;
                    *d = if accumulate { *d + value } else { value };
                }
            }
        }
    }
}
