//! 2×2 max-pooling with stride 2, and ReLU.

use rayon::prelude::*;

/// x [planes, side, side] to [planes, side/2, side/2], and for each result which of its four pixels it is, in row
/// order: the first of the largest.
pub fn forward(x: &[f32], side: usize) -> (Vec<f32>, Vec<u8>) {
    let half = side / 2;
    let mut y = vec![0.0; x.len() / 4];
    let mut chosen = vec![0; y.len()];
    let planes = y.par_chunks_exact_mut(half * half).zip(chosen.par_chunks_exact_mut(half * half));
    planes.zip(x.par_chunks_exact(side * side)).for_each(|((y, chosen), x)| {
        for (at, (y, chosen)) in y.iter_mut().zip(chosen).enumerate() {
            let corner = at / half * 2 * side + at % half * 2;
            let window = [x[corner], x[corner + 1], x[corner + side], x[corner + side + 1]];
            // A NaN wins, so that it is seen.
            let larger = |best: usize, i: usize| if window[i] > window[best] || window[i].is_nan() { i } else { best };
            let best = (1..4).fold(0, larger);
            (*y, *chosen) = (window[best], best as u8);
        }
    });
    (y, chosen)
}

/// ∂L/∂x from g = ∂L/∂y: each g goes to the chosen pixel.
pub fn backward(g: &[f32], chosen: &[u8], side: usize) -> Vec<f32> {
    let half = side / 2;
    let mut dx = vec![0.0; g.len() * 4];
    let planes = g.par_chunks_exact(half * half).zip(chosen.par_chunks_exact(half * half));
    dx.par_chunks_exact_mut(side * side).zip(planes).for_each(|(dx, (g, chosen))| {
        for (at, (g, &chosen)) in g.iter().zip(chosen).enumerate() {
            let corner = at / half * 2 * side + at % half * 2;
            dx[corner + usize::from(chosen / 2) * side + usize::from(chosen % 2)] = *g;
        }
    });
    dx
}

/// x becomes max(x, 0); a NaN stays one.
pub fn relu(x: &mut [f32]) {
    x.par_chunks_mut(1 << 14).for_each(|x| x.iter_mut().for_each(|x| *x = if *x <= 0.0 { 0.0 } else { *x }));
}

/// g becomes 0 where y = max(x, 0) is 0: the derivative at 0 is 0, as in PyTorch.
pub fn relu_backward(g: &mut [f32], y: &[f32]) {
    g.par_chunks_mut(1 << 14).zip(y.par_chunks(1 << 14)).for_each(|(g, y)| {
        g.iter_mut().zip(y).for_each(|(g, y)| *g = if *y <= 0.0 { 0.0 } else { *g });
    });
}
