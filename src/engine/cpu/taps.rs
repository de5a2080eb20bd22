//! A convolution by its definition: for each place in the kernel a product of the pixels under it, row by row.

use super::kernels::{Gradients, Kernels, Sizes, padded};
use super::product::{Left, Right, product};
use crate::simd::simd;

/// Where the pixel under tap `tap` for the first pixel of row `row` of y begins in an image with its border.
fn under(sizes: Sizes, row: usize, tap: usize) -> usize {
    let Sizes { inputs, kernel, stride, side, .. } = sizes;
    // A kernel of one pixel does not reach the border.
    let corner = 1 - kernel / 2;
    let (dy, dx) = (tap / kernel + corner, tap % kernel + corner);
    ((row * stride + dy) * (side + 2) + dx) * padded(inputs)
}

pub fn convolve(kernels: &Kernels, x: &[f32], y: &mut [f32]) {
    let (sizes, side_out) = (kernels.sizes, kernels.sizes.side_out());
    let Sizes { inputs, outputs, stride, .. } = sizes;
    let (from, width) = (padded(inputs), padded(outputs));
    for (row, y) in y.chunks_exact_mut(side_out * width).enumerate() {
        for (tap, w) in kernels.taps[0].chunks_exact(inputs * width).enumerate() {
            let a = Left { values: &x[under(sizes, row, tap)..], row: stride * from, col: 1 };
            product(y, width, a, Right::rows(w, width), [side_out, inputs, width], tap > 0);
        }
        add_bias(y, &kernels.bias);
    }
}

pub fn backward(kernels: &Kernels, x: &[f32], g: &[f32], to: Gradients) {
    let (sizes, side_out) = (kernels.sizes, kernels.sizes.side_out());
    let Sizes { inputs, outputs, stride, .. } = sizes;
    let (from, width) = (padded(inputs), padded(outputs));
    for (tap, dw) in to.dw.chunks_exact_mut(inputs * width).enumerate() {
        for (row, g) in g.chunks_exact(side_out * width).enumerate() {
            let a = Left { values: &x[under(sizes, row, tap)..], row: 1, col: stride * from };
            let accumulate = to.accumulate || row > 0;
            product(dw, width, a, Right::rows(g, width), [inputs, side_out, width], accumulate);
        }
    }
    let Some(dx) = to.dx else { return };
    if !to.dx_accumulate {
        dx.fill(0.0);
    }
    for (row, g) in g.chunks_exact(side_out * width).enumerate() {
        for (tap, w) in kernels.taps[1].chunks_exact(outputs * from).enumerate() {
            let a = Left { values: g, row: width, col: 1 };
            let dx = &mut dx[under(sizes, row, tap)..];
            product(dx, stride * from, a, Right::rows(w, from), [side_out, outputs, from], true);
        }
    }
}

simd! {
    /// Adds the bias of each channel to every pixel.
    pub fn add_bias(y: &mut [f32], bias: &[f32]) {
        for pixel in y.chunks_exact_mut(bias.len()) {
            pixel.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }
}
