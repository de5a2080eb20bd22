//! The network's first convolution: its input are planes [3, side, side] without a border, and it has no gradient.
//!
//! With the channels of a pixel side by side, the pixels under one row of a kernel are 3 or 9 neighbouring values, so that the
//! sums over a row of y are a product for each row of the kernels.

use super::kernels::{Gradients, Kernels, Sizes, padded};
use super::product::{Left, Right, product, product_ahead, share};
use super::taps::add_bias;
use crate::data::CHANNELS;
use crate::simd::simd;

/// Of an image with its border.
pub fn scratch_len(side: usize) -> usize {
    CHANNELS * (side + 2) * (side + 2)
}

/// The values under row `dy` of the kernels, from the first pixel of row `row` of y on.
fn under(sizes: Sizes, padded_image: &[f32], row: usize, dy: usize) -> &[f32] {
    let Sizes { kernel, stride, side, .. } = sizes;
    // A kernel of one pixel does not reach the border.
    let corner = 1 - kernel / 2;
    &padded_image[((row * stride + dy + corner) * (side + 2) + corner) * CHANNELS..]
}

pub fn convolve(kernels: &Kernels, x: &[f32], y: &mut [f32], memory: &mut [f32]) {
    let (Sizes { outputs, kernel, stride, side, .. }, side_out) = (kernels.sizes, kernels.sizes.side_out());
    let (width, terms) = (padded(outputs), kernel * CHANNELS);
    pad_image(x, side, memory);
    for (row, y) in y.chunks_exact_mut(side_out * width).enumerate() {
        for (dy, taps) in kernels.taps[0].chunks_exact(terms * width).enumerate() {
            let a = Left { values: under(kernels.sizes, memory, row, dy), row: stride * CHANNELS, col: 1 };
            product(y, width, a, Right::rows(taps, width), [side_out, terms, width], dy > 0);
        }
        add_bias(y, &kernels.bias);
    }
}

pub fn backward(kernels: &Kernels, x: &[f32], g: &[f32], to: Gradients, memory: &mut [f32], ahead: [&[f32]; 3]) {
    let (Sizes { outputs, kernel, stride, side, .. }, side_out) = (kernels.sizes, kernels.sizes.side_out());
    let (width, terms) = (padded(outputs), kernel * CHANNELS);
    pad_image(x, side, memory);
    for (row, g) in g.chunks_exact(side_out * width).enumerate() {
        for (dy, dw) in to.dw.chunks_exact_mut(terms * width).enumerate() {
            let a = Left { values: under(kernels.sizes, memory, row, dy), row: 1, col: stride * CHANNELS };
            let ahead = ahead.map(|all| share(all, row * kernel + dy, side_out * kernel));
            let sizes = [terms, side_out, width];
            product_ahead(dw, width, a, Right::rows(g, width), sizes, to.accumulate || row > 0, ahead);
        }
    }
}

simd! {
    /// An input image, planes [3, side, side], as channels last with a border: [side + 2, side + 2, 3].
    fn pad_image(x: &[f32], side: usize, out: &mut [f32]) {
        let wide = (side + 2) * CHANNELS;
        out[..wide * (side + 2)].fill(0.0);
        for (c, plane) in x.chunks_exact(side * side).enumerate() {
            for (row, out) in plane.chunks_exact(side).zip(out[wide..].chunks_exact_mut(wide)) {
                for (x, pixel) in row.iter().zip(out[CHANNELS..].chunks_exact_mut(CHANNELS)) {
                    pixel[c] = *x;
                }
            }
        }
    }
}
