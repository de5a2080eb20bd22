//! y = x·Wᵀ + b. With g = ∂L/∂y: ∂L/∂W = gᵀ·x, ∂L/∂b = Σ g over rows, ∂L/∂x = g·W.

use super::product::{Matrix, product};

/// x [n, inputs] to [n, outputs]; weight [outputs, inputs].
pub fn forward(x: &[f32], inputs: usize, weight: &[f32], bias: &[f32]) -> Vec<f32> {
    let (n, outputs) = (x.len() / inputs, bias.len());
    let mut y = vec![0.0; n * outputs];
    product(&mut y, Matrix::new(x, n, inputs), Matrix::new(weight, outputs, inputs).t(), false);
    for row in y.chunks_exact_mut(outputs) {
        row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
    }
    y
}

/// Gradients of weight and bias, and of x where `wanted`.
pub fn backward(
    x: &[f32],
    inputs: usize,
    weight: &[f32],
    g: &[f32],
    wanted: bool,
) -> (Vec<f32>, Vec<f32>, Option<Vec<f32>>) {
    let n = x.len() / inputs;
    let outputs = g.len() / n;
    let gradient = Matrix::new(g, n, outputs);
    let mut dw = vec![0.0; weight.len()];
    product(&mut dw, gradient.t(), Matrix::new(x, n, inputs), false);
    let mut db = vec![0.0; outputs];
    for row in g.chunks_exact(outputs) {
        db.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
    }
    let dx = wanted.then(|| {
        let mut dx = vec![0.0; x.len()];
        product(&mut dx, gradient, Matrix::new(weight, outputs, inputs), false);
        dx
    });
    (dw, db, dx)
}
