//! The negative cosine of two views, of SimSiam and BYOL.

use rayon::prelude::*;

/// The floor of each norm in the cosine (PyTorch's `cosine_similarity` with the study's eps).
pub const COSINE_EPS: f64 = 1e-6;

/// Values of a row in one partial sum.
const RUN: usize = 256;
/// Rows per task.
const ROWS: usize = 8;

/// The cosine of each row of p with a row of z, and what their gradients need. It keeps its memory from call to call.
#[derive(Debug, Default)]
pub struct Cosines(Vec<Pair>);

#[derive(Clone, Copy, Debug, Default)]
struct Pair {
    cosine: f64,
    /// max(‖p‖, ε)·max(‖z‖, ε).
    norms: f64,
    /// cos/‖p‖² and cos/‖z‖²; 0 for a norm at its floor, which is a constant.
    pulls: [f64; 2],
}

/// The mean over rows of −cos(p, z) = −p·z/(max(‖p‖, ε)·max(‖z‖, ε)), where row i of p belongs to row (i + n/2) mod n of z: of two
/// views, one after the other, each to the other one (Chen and He, "Exploring simple Siamese representation learning", 2021,
/// equations 1 and 2: D(p₁, z₂)/2 + D(p₂, z₁)/2). p and z are [n, width].
///
/// `of_p` becomes the gradient of p and, where it is wanted, `of_z` that of z. For rows longer than ε, ∂/∂p of −cos is
/// −(z/‖z‖ − cos·p/‖p‖)/‖p‖, and the same with p and z exchanged.
///
/// # Panics
/// If p and z differ in length, or `n` is odd or not their number of rows.
pub fn negative_cosine(
    p: &[f32],
    z: &[f32],
    n: usize,
    cosines: &mut Cosines,
    of_p: &mut Vec<f32>,
    of_z: Option<&mut Vec<f32>>,
) -> f64 {
    assert!(p.len() == z.len() && n.is_multiple_of(2) && p.len().is_multiple_of(n), "two views of the same examples");
    let (width, other) = (p.len() / n, |i: usize| (i + n / 2) % n);
    let row = |of: &'_ [f32], i: usize| -> std::ops::Range<usize> { i * of.len() / n..(i + 1) * of.len() / n };
    let pairs = &mut cosines.0;
    pairs.resize(n, Pair::default());
    pairs.par_chunks_mut(ROWS).enumerate().for_each(|(task, pairs)| {
        for (i, pair) in pairs.iter_mut().enumerate() {
            let i = task * ROWS + i;
            *pair = Pair::of(&p[row(p, i)], &z[row(z, other(i))]);
        }
    });
    // Half of each view's mean.
    let share = 1.0 / n as f64;
    of_p.resize(p.len(), 0.0);
    of_p.par_chunks_mut(width).enumerate().for_each(|(i, d)| {
        let Pair { norms, pulls, .. } = pairs[i];
        combine(&p[row(p, i)], &z[row(z, other(i))], [-share / norms, share * pulls[0]], d);
    });
    if let Some(of_z) = of_z {
        of_z.resize(z.len(), 0.0);
        of_z.par_chunks_mut(width).enumerate().for_each(|(i, d)| {
            let Pair { norms, pulls, .. } = pairs[other(i)];
            combine(&z[row(z, i)], &p[row(p, other(i))], [-share / norms, share * pulls[1]], d);
        });
    }
    pairs.iter().fold(0.0, |loss, pair| loss - pair.cosine) / n as f64
}

impl Pair {
    fn of(p: &[f32], z: &[f32]) -> Pair {
        let mut partials = [0.0; 3];
        for (p, z) in p.chunks(RUN).zip(z.chunks(RUN)) {
            let mut sums = [0.0; 3];
            for (p, z) in p.iter().zip(z) {
                let (p, z) = (f64::from(*p), f64::from(*z));
                sums[0] += p * z;
                sums[1] += p * p;
                sums[2] += z * z;
            }
            partials.iter_mut().zip(sums).for_each(|(total, sum)| *total += sum);
        }
        let [product, of_p, of_z] = partials;
        let (norm_p, norm_z) = (of_p.sqrt(), of_z.sqrt());
        let norms = norm_p.max(COSINE_EPS) * norm_z.max(COSINE_EPS);
        let cosine = product / norms;
        let pull = |norm: f64| if norm > COSINE_EPS { cosine / (norm * norm) } else { 0.0 };
        Pair { cosine, norms, pulls: [pull(norm_p), pull(norm_z)] }
    }
}

/// `d` becomes other·a + own·b.
fn combine(own: &[f32], other: &[f32], [a, b]: [f64; 2], d: &mut [f32]) {
    for (d, (own, other)) in d.iter_mut().zip(own.iter().zip(other)) {
        *d = (f64::from(*other) * a + f64::from(*own) * b) as f32;
    }
}
