//! What follows a convolution, in one pass over each image: batch norm → ReLU → 2×2 max-pooling, any of them absent.
//!
//! The forward pass keeps, for each value it gives, the x that it came from (`source`): the first of the largest in its
//! window. Backward, the sums that batch norm's gradient needs then cost a quarter of a pass, since only the chosen
//! pixels have a gradient; and ∂L/∂x of all pixels is made right where the convolution's own gradient takes it, by
//! choosing again.
//!
//! x is [side, side, channels]; what comes out has a border of zeros around it, for the convolution that follows.

use std::array::from_fn;

use super::norm::Norm;
use super::simd::{LANES, Lanes, lanes, lanes_mut, simd};

/// What a tail does; the norm may be the identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail {
    pub relu: bool,
    pub pool: bool,
}

impl Tail {
    /// Values at or below it become it, and have no gradient (ReLU's at 0 is 0, as in PyTorch). A NaN stays one.
    #[inline(always)]
    fn floor(self) -> f32 {
        if self.relu { 0.0 } else { f32::NEG_INFINITY }
    }

    /// Pixels of a window's side.
    #[inline(always)]
    pub fn stride(self) -> usize {
        if self.pool { 2 } else { 1 }
    }
}

/// [`Norm`] by lanes.
#[derive(Clone, Copy)]
struct Channels<'a> {
    mean: &'a [Lanes],
    alpha: &'a [Lanes],
    beta: &'a [Lanes],
}

impl<'a> Channels<'a> {
    #[inline(always)]
    fn of(norm: &'a Norm) -> Channels<'a> {
        Channels { mean: lanes(&norm.mean), alpha: lanes(&norm.alpha), beta: lanes(&norm.beta) }
    }

    #[inline(always)]
    fn apply(self, c: usize, x: &Lanes) -> Lanes {
        let (mean, alpha, beta) = (&self.mean[c], &self.alpha[c], &self.beta[c]);
        from_fn(|l| (x[l] - mean[l]) * alpha[l] + beta[l])
    }
}

/// The larger of two candidates (value, x): the first of equals. A NaN wins, so that it is seen.
#[inline(always)]
fn larger(a: [Lanes; 2], b: [Lanes; 2]) -> [Lanes; 2] {
    let second: [bool; LANES] = from_fn(|l| b[0][l] > a[0][l] || b[0][l].is_nan());
    from_fn(|i| from_fn(|l| if second[l] { b[i][l] } else { a[i][l] }))
}

simd! {
    /// From x to `out` [side' + 2, side' + 2, channels], and to `source` [side', side', channels].
    pub fn forward(tail: Tail, norm: &Norm, side: usize, x: &[f32], out: &mut [f32], source: &mut [f32]) {
        let (norm, x, out, source) = (Channels::of(norm), lanes(x), lanes_mut(out), lanes_mut(source));
        let (groups, floor, after) = (norm.mean.len(), tail.floor(), side / tail.stride());
        for at in 0..after * after {
            let (row, column) = (at / after, at % after);
            for c in 0..groups {
                let pixel = |i: usize, j: usize| {
                    let x = x[((row * tail.stride() + i) * side + column * tail.stride() + j) * groups + c];
                    [norm.apply(c, &x), x]
                };
                let mut best = pixel(0, 0);
                if tail.pool {
                    best = larger(larger(larger(best, pixel(0, 1)), pixel(1, 0)), pixel(1, 1));
                }
                let y = best[0].map(|v| if v <= floor { floor } else { v });
                out[((row + 1) * (after + 2) + column + 1) * groups + c] = y;
                source[at * groups + c] = best[1];
            }
        }
    }

    /// Σ g and Σ g·(x − μ) over the pixels of one image, [2, channels]; g = ∂L/∂out has a border that counts for
    /// nothing.
    pub fn gradient_sums(tail: Tail, norm: &Norm, side: usize, source: &[f32], g: &[f32], sums: &mut [f32]) {
        let (norm, source, g, sums) = (Channels::of(norm), lanes(source), lanes(g), lanes_mut(sums));
        let (groups, floor, after) = (norm.mean.len(), tail.floor(), side / tail.stride());
        sums.fill([0.0; LANES]);
        for row in 0..after {
            for c in 0..groups {
                // Row by row: sums of few values round less.
                let mut of_row = [[0.0; LANES]; 2];
                for column in 0..after {
                    let (x, y) = (&source[(row * after + column) * groups + c], column + 1);
                    let (v, g) = (norm.apply(c, x), &g[((row + 1) * (after + 2) + y) * groups + c]);
                    for l in 0..LANES {
                        let g = if v[l] <= floor { 0.0 } else { g[l] };
                        of_row[0][l] += g;
                        of_row[1][l] += g * (x[l] - norm.mean[c][l]);
                    }
                }
                for (i, of_row) in of_row.iter().enumerate() {
                    for l in 0..LANES {
                        sums[i * groups + c][l] += of_row[l];
                    }
                }
            }
        }
    }

    /// ∂L/∂x of one image, [side, side, channels], from x and g = ∂L/∂out.
    pub fn backward(tail: Tail, norm: &Norm, side: usize, x: &[f32], g: &[f32], dx: &mut [f32]) {
        let (mean_g, pull) = (lanes(&norm.mean_g), lanes(&norm.pull));
        let (norm, x, g, dx) = (Channels::of(norm), lanes(x), lanes(g), lanes_mut(dx));
        let (groups, floor, after) = (norm.mean.len(), tail.floor(), side / tail.stride());
        for at in 0..after * after {
            let (row, column) = (at / after, at % after);
            for c in 0..groups {
                let place = |i: usize, j: usize| {
                    ((row * tail.stride() + i) * side + column * tail.stride() + j) * groups + c
                };
                let (mean, alpha) = (&norm.mean[c], &norm.alpha[c]);
                let g = &g[((row + 1) * (after + 2) + column + 1) * groups + c];
                let spread = |x: &Lanes, g: &Lanes| -> Lanes {
                    from_fn(|l| alpha[l] * (g[l] - mean_g[c][l] - (x[l] - mean[l]) * pull[c][l]))
                };
                if !tail.pool {
                    let (x, v) = (&x[place(0, 0)], norm.apply(c, &x[place(0, 0)]));
                    let g = from_fn(|l| if v[l] <= floor { 0.0 } else { g[l] });
                    dx[place(0, 0)] = spread(x, &g);
                    continue;
                }
                let window: [Lanes; 4] = from_fn(|i| x[place(i / 2, i % 2)]);
                // Each candidate carries its place in the window along.
                let candidate = |i: usize| [norm.apply(c, &window[i]), [i as f32; LANES]];
                let best = (1..4).fold(candidate(0), |best, i| larger(best, candidate(i)));
                let g: Lanes = from_fn(|l| if best[0][l] <= floor { 0.0 } else { g[l] });
                for (i, x) in window.iter().enumerate() {
                    let g = from_fn(|l| if best[1][l] == i as f32 { g[l] } else { 0.0 });
                    dx[place(i / 2, i % 2)] = spread(x, &g);
                }
            }
        }
    }

    /// The moments of one image x [pixels, channels]: per channel its sum, and its sum of squared distances from its
    /// mean, [2, channels].
    pub fn moments(x: &[f32], channels: usize, moments: &mut [f32]) {
        let (x, groups) = (lanes(x), channels / LANES);
        let pixels = x.len() / groups;
        let (sums, squares) = lanes_mut(moments).split_at_mut(groups);
        for c in 0..groups {
            sums[c] = sum_of(x, groups, c, |_, x| x);
            let mean = sums[c].map(|sum| sum / pixels as f32);
            squares[c] = sum_of(x, groups, c, |l, x| (x - mean[l]) * (x - mean[l]));
        }
    }
}

/// Σ f(lane, x) over the pixels of channel group `c`, in runs of 32: sums of few values round less.
#[inline(always)]
fn sum_of(x: &[Lanes], groups: usize, c: usize, f: impl Fn(usize, f32) -> f32) -> Lanes {
    let mut total = [0.0; LANES];
    for run in x.chunks(32 * groups) {
        let mut sum = [0.0; LANES];
        for pixel in run.chunks_exact(groups) {
            for l in 0..LANES {
                sum[l] += f(l, pixel[c][l]);
            }
        }
        for l in 0..LANES {
            total[l] += sum[l];
        }
    }
    total
}
