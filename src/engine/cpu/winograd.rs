//! 3×3 convolution by Winograd's F(2×2, 3×3): 16 products where the definition has 36.
//!
//! A 4×4 tile d of the input and a 3×3 kernel w give the 2×2 outputs y = Aᵀ·[(G·w·Gᵀ) ⊙ (Bᵀ·d·B)]·A (Lavin and Gray,
//! "Fast algorithms for convolutional neural networks", 2016, §4.1), with
//!
//! ```text
//! Bᵀ = 1  0 -1  0    G =  1   0   0    Aᵀ = 1  1  1  0
//!      0  1  1  0         ½   ½   ½         0  1 -1 -1
//!      0 -1  1  0         ½  -½   ½
//!      0  1  0 -1         0   0   1
//! ```
//!
//! Summed over input channels, ⊙ is a matrix product for each of the 16 places: M = V·U, with V [tiles, inputs] of the
//! transformed input and U [inputs, outputs] of the transformed kernels. All maps are linear, so the backward pass is
//! their transposes in reverse order: with g = ∂L/∂y
//!
//! - ∂L/∂M = A·g·Aᵀ,
//! - ∂L/∂U = Vᵀ·∂L/∂M and ∂L/∂w = Gᵀ·∂L/∂U·G,
//! - ∂L/∂V = ∂L/∂M·Uᵀ and ∂L/∂d = B·∂L/∂V·Bᵀ, summed where tiles overlap.
//!
//! The entries of A, B and G are so small that this rounds no more than the definition (their table 4).
//!
//! Images are channels last; V and M are [16, tiles, channels], kernels [9, inputs, outputs], U [panels, 16, inputs,
//! outputs of a panel], ∂L/∂U [16, inputs, outputs]. A cache line separates the 16 matrices: a transform touches the same
//! place of each, and they would all be in one cache set.

use std::ops::Range;

use rayon::prelude::*;

use super::lanes::{Aligned, LANES, Lanes, add, lanes, lanes_mut, mul, sub};
use super::product::PANEL;
use crate::simd::simd;

/// Values from one of 16 matrices [rows, channels] to the next.
pub fn matrix_len(rows: usize, channels: usize) -> usize {
    rows * channels + LANES
}

/// Values of one panel of U: its 16 matrices.
pub fn panel_len(rows: usize, width: usize) -> usize {
    16 * matrix_len(rows, PANEL.min(width))
}

/// U = G·w·Gᵀ, from kernels [9, rows, width] to panels of 16 matrices.
pub fn transform_kernels(taps: &[f32], rows: usize, width: usize, u: &mut Aligned) {
    let (panels, panel_len) = (width.div_ceil(PANEL), panel_len(rows, width));
    u.grow(panels * panel_len);
    u.par_chunks_exact_mut(panel_len).take(panels).enumerate().for_each(|(panel, u)| {
        transform_panel(taps, rows, width, panel, u);
    });
}

const HALF: Lanes = [0.5; LANES];
const ZERO: Lanes = [0.0; LANES];

#[inline(always)]
fn neg(a: Lanes) -> Lanes {
    mul(a, [-1.0; LANES])
}

/// Bᵀ·x.
#[inline(always)]
fn b_t([a, b, c, d]: [Lanes; 4]) -> [Lanes; 4] {
    [sub(a, c), add(b, c), sub(c, b), sub(b, d)]
}

/// B·x.
#[inline(always)]
fn b([a, b, c, d]: [Lanes; 4]) -> [Lanes; 4] {
    [a, add(sub(b, c), d), add(sub(b, a), c), neg(d)]
}

/// Aᵀ·x.
#[inline(always)]
fn a_t([a, b, c, d]: [Lanes; 4]) -> [Lanes; 2] {
    [add(add(a, b), c), sub(sub(b, c), d)]
}

/// A·x.
#[inline(always)]
fn a([a, b]: [Lanes; 2]) -> [Lanes; 4] {
    [a, add(a, b), sub(a, b), neg(b)]
}

/// G·x.
#[inline(always)]
fn g([a, b, c]: [Lanes; 3]) -> [Lanes; 4] {
    let (outer, inner) = (mul(add(a, c), HALF), mul(b, HALF));
    [a, add(outer, inner), sub(outer, inner), c]
}

/// Gᵀ·x.
#[inline(always)]
fn g_t([a, b, c, d]: [Lanes; 4]) -> [Lanes; 3] {
    let (sum, difference) = (mul(add(b, c), HALF), mul(sub(b, c), HALF));
    [add(a, sum), difference, add(sum, d)]
}

/// F·x·Fᵀ for a map F of `$n` values to `$m`, where the expression gives x by row and column. A macro, so that all of
/// it stays in registers.
macro_rules! both {
    ($f:ident, $n:literal => $m:literal, |$i:ident, $j:ident| $x:expr) => {{
        let mut columns = [[ZERO; $n]; $m];
        for $j in 0..$n {
            let mut column = [ZERO; $n];
            for $i in 0..$n {
                column[$i] = $x;
            }
            let column = $f(column);
            for i in 0..$m {
                columns[i][$j] = column[i];
            }
        }
        let mut rows = [[ZERO; $m]; $m];
        for i in 0..$m {
            rows[i] = $f(columns[i]);
        }
        rows
    }};
}

simd! {
    /// V of the tiles `of` one image x [side + 2, side + 2, channels], with its border of zeros, into those from `first` on
    /// of `tiles`.
    pub fn transform_input(
        x: &[f32],
        side: usize,
        channels: usize,
        v: &mut [f32],
        tiles: usize,
        of: Range<usize>,
        first: usize,
    ) {
        let (x, v) = (lanes(x), lanes_mut(v));
        let (per_pixel, wide, half) = (channels / LANES, side + 2, side / 2);
        let matrix = matrix_len(tiles, channels) / LANES;
        let start = of.start;
        for tile in of {
            let corner = tile / half * 2 * wide + tile % half * 2;
            for c in 0..per_pixel {
                let t = both!(b_t, 4 => 4, |i, j| x[(corner + i * wide + j) * per_pixel + c]);
                for at in 0..16 {
                    v[at * matrix + (first + tile - start) * per_pixel + c] = t[at / 4][at % 4];
                }
            }
        }
    }

    /// y = Aᵀ·M·A + bias of the tiles `of` one image, [side, side, channels].
    pub fn transform_output(
        m: &[f32],
        tiles: usize,
        of: Range<usize>,
        first: usize,
        bias: &[f32],
        side: usize,
        y: &mut [f32],
    ) {
        let (m, y, bias) = (lanes(m), lanes_mut(y), lanes(bias));
        let (per_pixel, half) = (bias.len(), side / 2);
        let matrix = matrix_len(tiles, per_pixel * LANES) / LANES;
        let start = of.start;
        for tile in of {
            let corner = tile / half * 2 * side + tile % half * 2;
            for c in 0..per_pixel {
                let out = both!(a_t, 4 => 2, |i, j| m[(i * 4 + j) * matrix + (first + tile - start) * per_pixel + c]);
                for at in 0..4 {
                    y[(corner + at / 2 * side + at % 2) * per_pixel + c] = add(out[at / 2][at % 2], bias[c]);
                }
            }
        }
    }

    /// ∂L/∂M = A·g·Aᵀ of the tiles `of` one image, from g = ∂L/∂y.
    pub fn transform_gradient(
        g: &[f32],
        side: usize,
        channels: usize,
        m: &mut [f32],
        tiles: usize,
        of: Range<usize>,
        first: usize,
    ) {
        let (g, m) = (lanes(g), lanes_mut(m));
        let (per_pixel, half) = (channels / LANES, side / 2);
        let matrix = matrix_len(tiles, channels) / LANES;
        let start = of.start;
        for tile in of {
            let corner = tile / half * 2 * side + tile % half * 2;
            for c in 0..per_pixel {
                let t = both!(a, 2 => 4, |i, j| g[(corner + i * side + j) * per_pixel + c]);
                for at in 0..16 {
                    m[at * matrix + (first + tile - start) * per_pixel + c] = t[at / 4][at % 4];
                }
            }
        }
    }

    /// Adds Σ over the tiles `of` one image of B·∂L/∂V·Bᵀ to ∂L/∂x, with the border: [side + 2, side + 2, channels].
    pub fn fold_gradient(
        v: &[f32],
        tiles: usize,
        of: Range<usize>,
        first: usize,
        side: usize,
        channels: usize,
        dx: &mut [f32],
    ) {
        let (v, dx) = (lanes(v), lanes_mut(dx));
        let (per_pixel, wide, half) = (channels / LANES, side + 2, side / 2);
        let matrix = matrix_len(tiles, channels) / LANES;
        let start = of.start;
        for tile in of {
            let corner = tile / half * 2 * wide + tile % half * 2;
            for c in 0..per_pixel {
                let d = both!(b, 4 => 4, |i, j| v[(i * 4 + j) * matrix + (first + tile - start) * per_pixel + c]);
                for at in 0..16 {
                    let to = &mut dx[(corner + at / 4 * wide + at % 4) * per_pixel + c];
                    *to = add(*to, d[at / 4][at % 4]);
                }
            }
        }
    }

    /// The 16 matrices [rows, columns of a panel] of one panel of U.
    fn transform_panel(taps: &[f32], rows: usize, width: usize, panel: usize, u: &mut [f32]) {
        let (taps, u) = (lanes(taps), lanes_mut(u));
        let columns = PANEL.min(width);
        let (per_row, per_panel, matrix) = (width / LANES, columns / LANES, matrix_len(rows, columns) / LANES);
        for row in 0..rows {
            for c in 0..per_panel {
                let from = row * per_row + panel * per_panel + c;
                let t = both!(g, 3 => 4, |i, j| taps[(i * 3 + j) * rows * per_row + from]);
                for at in 0..16 {
                    u[at * matrix + row * per_panel + c] = t[at / 4][at % 4];
                }
            }
        }
    }

    /// ∂L/∂w = Gᵀ·∂L/∂U·G, from 16 matrices [rows, width] to kernels [9, rows, width].
    pub fn fold_kernels(du: &[f32], rows: usize, width: usize, taps: &mut [f32]) {
        let (du, taps) = (lanes(du), lanes_mut(taps));
        let (size, matrix) = (rows * width / LANES, matrix_len(rows, width) / LANES);
        for at in 0..size {
            let w = both!(g_t, 4 => 3, |i, j| du[(i * 4 + j) * matrix + at]);
            for tap in 0..9 {
                taps[tap * size + at] = w[tap / 3][tap % 3];
            }
        }
    }
}
