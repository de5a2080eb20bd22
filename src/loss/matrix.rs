//! Products of matrices for losses, with the engine's order of sums ([`crate::engine::cpu::product`]).

use rayon::prelude::*;

use crate::engine::cpu::product::{Left, PANEL, Right, product};
use crate::engine::cpu::rows::{pack, pack_transposed};

/// Rows of a result per task.
const ROWS: usize = 32;

/// A·B; keeps its memory from call to call.
#[derive(Debug, Default)]
pub struct Product {
    /// B in panels.
    panels: Vec<f32>,
}

impl Product {
    /// `c`, [m, n], becomes A·B with B [k, n].
    pub fn by(&mut self, c: &mut Vec<f32>, a: Left, b: &[f32], [m, k, n]: [usize; 3]) {
        self.panels.resize(n.next_multiple_of(PANEL) * k, 0.0);
        pack(b, n, k, &mut self.panels);
        self.run(c, a, [m, k, n]);
    }

    /// `c`, [m, n], becomes A·Bᵀ with B [n, k].
    pub fn by_transposed(&mut self, c: &mut Vec<f32>, a: Left, b: &[f32], [m, k, n]: [usize; 3]) {
        self.panels.resize(n.next_multiple_of(PANEL) * k, 0.0);
        pack_transposed(b, k, n, &mut self.panels);
        self.run(c, a, [m, k, n]);
    }

    fn run(&self, c: &mut Vec<f32>, a: Left, [m, k, n]: [usize; 3]) {
        c.resize(m * n, 0.0);
        c.par_chunks_mut(ROWS * n).enumerate().for_each(|(task, c)| {
            let a = Left { values: &a.values[task * ROWS * a.row..], ..a };
            product(c, n, a, Right::packed(&self.panels, k), [c.len() / n, k, n], false);
        });
    }
}

/// A matrix as it is, [m, k].
pub fn plain(values: &[f32], k: usize) -> Left<'_> {
    Left { values, row: k, col: 1 }
}

/// Of each column of x [n, width] the mean, and Σ (x − mean)²; rows are added in order.
pub fn columns(x: &[f32], width: usize, moments: &mut Vec<[f64; 2]>) {
    let n = (x.len() / width) as f64;
    moments.clear();
    moments.resize(width, [0.0; 2]);
    for row in x.chunks_exact(width) {
        moments.iter_mut().zip(row).for_each(|(moments, x)| moments[0] += f64::from(*x));
    }
    moments.iter_mut().for_each(|moments| moments[0] /= n);
    for row in x.chunks_exact(width) {
        moments.iter_mut().zip(row).for_each(|([mean, squares], x)| {
            *squares += (f64::from(*x) - *mean) * (f64::from(*x) - *mean);
        });
    }
}
