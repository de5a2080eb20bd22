//! What follows a convolution, in one pass over each image: batch norm → ReLU → 2×2 max-pooling, any of them absent.
//!
//! Where it pools, the forward pass keeps, for each output, the x that it came from (`source`): the first maximum of its
//! window. In the backward pass the sums for batch norm's gradient then cost a quarter of a pass, since only the chosen
//! pixels have a gradient; ∂L/∂x of all pixels is computed where the convolution's own gradient needs it, by choosing again.
//! Without pooling x itself is the source.
//!
//! In a residual sum, another layer's output is added after the norm ([`forward_sum`]). Its gradient is that of the sum,
//! which [`release`] masks by ReLU at once; what is left of the tail is the norm.
//!
//! x is [side, side, channels]; the output has a border of zeros, for the convolution that follows.

use super::lanes::{LANES, Lanes, add, lanes, lanes_mut, mul, sub};
use super::norm::Norm;
use crate::simd::simd;

/// What follows the norm, which may be the identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tail {
    pub relu: bool,
    pub pool: bool,
}

impl Tail {
    /// Values at or below the floor become the floor and get no gradient (ReLU's at 0 is 0, as in PyTorch). NaN stays.
    #[inline(always)]
    fn floor(self) -> f32 {
        if self.relu { 0.0 } else { f32::NEG_INFINITY }
    }

    /// Side of a pooling window, in pixels.
    #[inline(always)]
    pub fn stride(self) -> usize {
        if self.pool { 2 } else { 1 }
    }
}

/// [`Norm`] by lanes.
#[derive(Clone, Copy)]
struct NormLanes<'a> {
    mean: &'a [Lanes],
    alpha: &'a [Lanes],
    beta: &'a [Lanes],
}

impl<'a> NormLanes<'a> {
    #[inline(always)]
    fn of(norm: &'a Norm) -> NormLanes<'a> {
        NormLanes { mean: lanes(&norm.mean), alpha: lanes(&norm.alpha), beta: lanes(&norm.beta) }
    }

    #[inline(always)]
    fn apply(self, c: usize, x: Lanes) -> Lanes {
        add(mul(sub(x, self.mean[c]), self.alpha[c]), self.beta[c])
    }
}

/// Where `other` is larger, `chosen` becomes `other`, and `along` becomes `other_along`; of equals the first stays. A
/// NaN wins, so that it is noticed.
#[inline(always)]
fn choose(chosen: &mut Lanes, along: &mut Lanes, other: Lanes, other_along: Lanes) {
    for l in 0..LANES {
        // `||` would be a branch, and keep the compiler from vectorising.
        let larger = (other[l] > chosen[l]) | other[l].is_nan();
        chosen[l] = if larger { other[l] } else { chosen[l] };
        along[l] = if larger { other_along[l] } else { along[l] };
    }
}

/// `g` where v is above the floor, else 0.
#[inline(always)]
fn masked(mut g: Lanes, v: Lanes, floor: f32) -> Lanes {
    for l in 0..LANES {
        g[l] = if v[l] <= floor { 0.0 } else { g[l] };
    }
    g
}

simd! {
    /// From x to `out` [side' + 2, side' + 2, channels], and to `source` [side', side', channels].
    pub fn forward(tail: Tail, norm: &Norm, side: usize, x: &[f32], out: &mut [f32], source: &mut [f32]) {
        let (norm, x, out, source) = (NormLanes::of(norm), lanes(x), lanes_mut(out), lanes_mut(source));
        let (per_pixel, floor, after) = (norm.mean.len(), tail.floor(), side / tail.stride());
        for row in 0..after {
            for column in 0..after {
                let first = (row * side + column) * tail.stride() * per_pixel;
                let (to, kept) = (((row + 1) * (after + 2) + column + 1) * per_pixel, (row * after + column) * per_pixel);
                for c in 0..per_pixel {
                    let mut source_x = x[first + c];
                    let mut y = norm.apply(c, source_x);
                    if tail.pool {
                        for next in [per_pixel, side * per_pixel, (side + 1) * per_pixel] {
                            let x = x[first + c + next];
                            choose(&mut y, &mut source_x, norm.apply(c, x), x);
                        }
                    }
                    for y in &mut y {
                        *y = if *y <= floor { floor } else { *y };
                    }
                    out[to + c] = y;
                    if tail.pool {
                        source[kept + c] = source_x;
                    }
                }
            }
        }
    }

    /// From x and what is `added`, [side + 2, side + 2, channels] like `out`, to `out`; without pooling.
    pub fn forward_sum(relu: bool, norm: &Norm, side: usize, x: &[f32], added: &[f32], out: &mut [f32]) {
        let (norm, x, added, out) = (NormLanes::of(norm), lanes(x), lanes(added), lanes_mut(out));
        let (per_pixel, floor) = (norm.mean.len(), Tail { relu, pool: false }.floor());
        for row in 0..side {
            for column in 0..side {
                let (from, to) = (row * side + column, (row + 1) * (side + 2) + column + 1);
                for c in 0..per_pixel {
                    let mut y = add(norm.apply(c, x[from * per_pixel + c]), added[to * per_pixel + c]);
                    for y in &mut y {
                        *y = if *y <= floor { floor } else { *y };
                    }
                    out[to * per_pixel + c] = y;
                }
            }
        }
    }

    /// The gradient g of a residual sum `out` becomes that before its ReLU, and goes into `into` or, with `accumulate`, is
    /// added to it.
    pub fn release(relu: bool, out: &[f32], g: &mut [f32], into: &mut [f32], accumulate: bool) {
        for (g, out) in g.iter_mut().zip(out) {
            *g = if relu & (*out <= 0.0) { 0.0 } else { *g };
        }
        match accumulate {
            true => into.iter_mut().zip(g).for_each(|(into, g)| *into += *g),
            false => into.iter_mut().zip(g).for_each(|(into, g)| *into = *g),
        }
    }

    /// Σ g and Σ g·(x − μ) over the pixels of one image, [2, channels], from each output's source; the border of g = ∂L/∂out
    /// is ignored.
    pub fn gradient_sums(tail: Tail, norm: &Norm, side: usize, source: &[f32], g: &[f32], sums: &mut [f32]) {
        let (norm, source, g, sums) = (NormLanes::of(norm), lanes(source), lanes(g), lanes_mut(sums));
        let (per_pixel, floor, after) = (norm.mean.len(), tail.floor(), side / tail.stride());
        sums.fill([0.0; LANES]);
        for row in 0..after {
            for c in 0..per_pixel {
                // Row by row: short sums round less.
                let mut of_row = [[0.0; LANES]; 2];
                for column in 0..after {
                    let x = source[(row * after + column) * per_pixel + c];
                    let g = g[((row + 1) * (after + 2) + column + 1) * per_pixel + c];
                    let g = masked(g, norm.apply(c, x), floor);
                    of_row[0] = add(of_row[0], g);
                    of_row[1] = add(of_row[1], mul(g, sub(x, norm.mean[c])));
                }
                sums[c] = add(sums[c], of_row[0]);
                sums[per_pixel + c] = add(sums[per_pixel + c], of_row[1]);
            }
        }
    }

    /// ∂L/∂x of one image, [side, side, channels], from x and g = ∂L/∂out.
    pub fn backward(tail: Tail, norm: &Norm, side: usize, x: &[f32], g: &[f32], dx: &mut [f32]) {
        let (mean_g, pull) = (lanes(&norm.mean_g), lanes(&norm.pull));
        let (norm, x, g, dx) = (NormLanes::of(norm), lanes(x), lanes(g), lanes_mut(dx));
        let (per_pixel, floor, after) = (norm.mean.len(), tail.floor(), side / tail.stride());
        for row in 0..after {
            for column in 0..after {
                let first = (row * side + column) * tail.stride() * per_pixel;
                let from = ((row + 1) * (after + 2) + column + 1) * per_pixel;
                for c in 0..per_pixel {
                    let (corner, g) = (first + c, g[from + c]);
                    let (mean, alpha, mean_g, pull) = (norm.mean[c], norm.alpha[c], mean_g[c], pull[c]);
                    if !tail.pool {
                        let x = x[corner];
                        let g = masked(g, norm.apply(c, x), floor);
                        dx[corner] = mul(alpha, sub(sub(g, mean_g), mul(sub(x, mean), pull)));
                        continue;
                    }
                    let window = [0, per_pixel, side * per_pixel, (side + 1) * per_pixel];
                    // Each candidate carries along its place in the window.
                    let (mut v, mut best) = (norm.apply(c, x[corner]), [0.0; LANES]);
                    for (i, at) in window.into_iter().enumerate().skip(1) {
                        choose(&mut v, &mut best, norm.apply(c, x[corner + at]), [i as f32; LANES]);
                    }
                    let g = masked(g, v, floor);
                    for (i, at) in window.into_iter().enumerate() {
                        let mut of_pixel = g;
                        for l in 0..LANES {
                            of_pixel[l] = if best[l] == i as f32 { g[l] } else { 0.0 };
                        }
                        let x = x[corner + at];
                        dx[corner + at] = mul(alpha, sub(sub(of_pixel, mean_g), mul(sub(x, mean), pull)));
                    }
                }
            }
        }
        // The last row and column of an odd side are in no window.
        let end = after * tail.stride();
        for at in (0..side * side).filter(|at| end < side && (at / side >= end || at % side >= end)) {
            for c in 0..per_pixel {
                let x = sub(x[at * per_pixel + c], norm.mean[c]);
                dx[at * per_pixel + c] = mul(norm.alpha[c], sub(sub([0.0; LANES], mean_g[c]), mul(x, pull[c])));
            }
        }
    }

    /// The moments of one image x [pixels, channels]: per channel the sum and the sum of squared deviations from the
    /// mean, [2, channels].
    pub fn moments(x: &[f32], channels: usize, moments: &mut [f32]) {
        let (x, per_pixel) = (lanes(x), channels / LANES);
        let pixels = x.len() / per_pixel;
        let (sums, squares) = lanes_mut(moments).split_at_mut(per_pixel);
        for c in 0..per_pixel {
            sums[c] = sum_of(x, per_pixel, c, |x| x);
            let mean = mul(sums[c], [1.0 / pixels as f32; LANES]);
            squares[c] = sum_of(x, per_pixel, c, |x| mul(sub(x, mean), sub(x, mean)));
        }
    }
}

/// Σ f(x) over the pixels, lanes `c`, in runs of 32: short sums round less.
#[inline(always)]
fn sum_of(x: &[Lanes], per_pixel: usize, c: usize, f: impl Fn(Lanes) -> Lanes) -> Lanes {
    let mut total = [0.0; LANES];
    for run in x.chunks(32 * per_pixel) {
        let mut sum = [0.0; LANES];
        for pixel in run.chunks_exact(per_pixel) {
            sum = add(sum, f(pixel[c]));
        }
        total = add(total, sum);
    }
    total
}
