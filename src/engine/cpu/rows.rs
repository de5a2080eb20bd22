//! Features, batch last: operations along a row, which is one feature of every example; and packing a matrix into
//! panels for [`super::product`].
//!
//! Sums along a row are in double precision, in an order that does not depend on the instruction set: [`LANES`] running
//! sums, then those in pairs.

use rayon::prelude::*;

use super::lanes::LANES;
use super::product::PANEL;
use crate::simd::simd;

/// Σ f(i).
#[inline(always)]
fn total(len: usize, f: impl Fn(usize) -> f64) -> f64 {
    let mut sums = [0.0; LANES];
    let whole = len / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += f(start + lane);
        }
    }
    for at in whole..len {
        sums[at - whole] += f(at);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

simd! {
    /// Σ x.
    pub fn sum(x: &[f32]) -> f64 {
        total(x.len(), |i| x[i].into())
    }

    /// The mean of x, and Σ (x − mean)².
    pub fn moments(x: &[f32]) -> [f64; 2] {
        let mean = total(x.len(), |i| x[i].into()) / x.len() as f64;
        [mean, total(x.len(), |i| (f64::from(x[i]) - mean) * (f64::from(x[i]) - mean))]
    }

    /// Σ g and Σ g·(x − mean).
    pub fn gradient_sums(g: &[f32], x: &[f32], mean: f32) -> [f64; 2] {
        let x = &x[..g.len()];
        [total(g.len(), |i| g[i].into()), total(g.len(), |i| f64::from(g[i]) * f64::from(x[i] - mean))]
    }

    /// x becomes (x − mean)·alpha + beta.
    pub fn affine(x: &mut [f32], mean: f32, alpha: f32, beta: f32) {
        x.iter_mut().for_each(|x| *x = (*x - mean) * alpha + beta);
    }

    /// g = ∂L/∂y becomes ∂L/∂x of batch norm: alpha·(g − mean_g − (x − mean)·pull).
    pub fn spread(g: &mut [f32], x: &[f32], [alpha, mean_g, mean, pull]: [f32; 4]) {
        g.iter_mut().zip(x).for_each(|(g, x)| *g = alpha * (*g - mean_g - (x - mean) * pull));
    }

    /// x becomes max(x, 0); NaN stays.
    pub fn rectify(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = if *x <= 0.0 { 0.0 } else { *x });
    }

    /// g becomes 0 where y = max(x, 0) is 0: the derivative at 0 is 0, as in PyTorch.
    pub fn rectify_gradient(g: &mut [f32], y: &[f32]) {
        g.iter_mut().zip(y).for_each(|(g, y)| *g = if *y <= 0.0 { 0.0 } else { *g });
    }

    /// `rows` rows of x [rows, n], columns `first` to `first` + [`PANEL`], the last ones beyond n padded with zeros.
    fn pack_panel(x: &[f32], n: usize, first: usize, panel: &mut [f32]) {
        let columns = PANEL.min(n - first);
        for (row, out) in x.chunks_exact(n).zip(panel.as_chunks_mut::<PANEL>().0) {
            if let Some(row) = row[first..].first_chunk::<PANEL>() {
                *out = *row;
            } else {
                out.fill(0.0);
                out[..columns].copy_from_slice(&row[first..]);
            }
        }
    }

    /// The transpose of up to [`PANEL`] rows of x, [rows, n], padded with zeros: [n, [`PANEL`]].
    fn transpose_panel(x: &[f32], n: usize, panel: &mut [f32]) {
        let rows = x.len() / n;
        for (i, out) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            out[rows..].fill(0.0);
            for (out, row) in out.iter_mut().zip(x.chunks_exact(n)) {
                *out = row[i];
            }
        }
    }
}

/// Rows of a panel per task.
const TASK: usize = 256;

/// x [rows, n] in panels of [`PANEL`] columns, [n / PANEL, rows, PANEL].
pub fn pack(x: &[f32], n: usize, rows: usize, panels: &mut [f32]) {
    let x = &x[..rows * n];
    panels.par_chunks_exact_mut(rows * PANEL).take(n.div_ceil(PANEL)).enumerate().for_each(|(at, panel)| {
        panel.par_chunks_mut(TASK * PANEL).zip(x.par_chunks(TASK * n)).for_each(|(panel, x)| {
            pack_panel(x, n, at * PANEL, panel);
        });
    });
}

/// xᵀ of x [rows, n] in panels of [`PANEL`] columns, [rows / PANEL, n, PANEL].
pub fn pack_transposed(x: &[f32], n: usize, rows: usize, panels: &mut [f32]) {
    panels.par_chunks_exact_mut(n * PANEL).zip(x[..rows * n].par_chunks(PANEL * n)).for_each(|(panel, x)| {
        transpose_panel(x, n, panel);
    });
}

/// The transpose of x [rows, columns] in rows of `stride`: [columns, rows].
pub fn transpose(x: &[f32], stride: usize, rows: usize, columns: usize, out: &mut [f32]) {
    // Column blocks that a cache line of x fills, so that each line is read once.
    out[..rows * columns].par_chunks_mut(LANES * rows).enumerate().for_each(|(block, out)| {
        for i in 0..rows {
            let row = &x[i * stride + block * LANES..i * stride + columns];
            for (out, x) in out.chunks_exact_mut(rows).zip(row) {
                out[i] = *x;
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_a_sum_is_sixteen_lanes_then_pairs() {
        let x: Vec<f32> = (0..37).map(|i| 1.0 / (i as f32 + 1.0)).collect();
        let lane = |l: usize| x.iter().skip(l).step_by(16).fold(0.0, |s, v| s + f64::from(*v));
        let mut pairs: Vec<f64> = (0..16).map(lane).collect();
        while pairs.len() > 1 {
            let half = pairs.len() / 2;
            pairs = (0..half).map(|i| pairs[i] + pairs[i + half]).collect();
        }
        assert_eq!(sum(&x).to_bits(), pairs[0].to_bits());
        assert_eq!(moments(&[3.0, 5.0, 10.0]), [6.0, 26.0]);
        assert_eq!(gradient_sums(&[3.0, 5.0], &[2.0, 4.0], 1.0), [8.0, 18.0]);
        assert_eq!(sum(&[]), 0.0);
    }

    #[test]
    fn panels_hold_the_matrix_and_zeros() {
        for (rows, n) in [(3usize, 5usize), (40, 33), (600, 64), (33, 2)] {
            let x: Vec<f32> = (1..=rows * n).map(|v| v as f32).collect();
            let mut panels = vec![f32::NAN; n.next_multiple_of(PANEL) * rows];
            pack(&x, n, rows, &mut panels);
            let mut back = vec![f32::NAN; rows.next_multiple_of(PANEL) * n];
            pack_transposed(&x, n, rows, &mut back);
            for (panels, rows, n, at) in [(&panels, rows, n, [n, 1]), (&back, n, rows, [1, n])] {
                for (i, value) in panels.iter().enumerate() {
                    let (row, column) = (i / PANEL % rows, i / (PANEL * rows) * PANEL + i % PANEL);
                    let expected = if column < n { x[row * at[0] + column * at[1]] } else { 0.0 };
                    assert_eq!(*value, expected, "{rows}×{n}: {row}, {column}");
                }
            }
        }
    }
}
