//! A 3×3 convolution's kernels and their products, a chunk of images at a time.
//!
//! With W the kernels: y = W∗x + b; with g = ∂L/∂y: ∂L/∂W = Σ over pixels of g·(the x under the kernel), ∂L/∂b = Σ g,
//! ∂L/∂x = Wᵀ∗g. On images (3 channels) the sums are products with rows of pixels as they are stored; inner layers use
//! [`winograd`].
//!
//! A chunk is small enough for all its steps to stay in the cache. While its products keep the CPU busy, the next
//! chunk's data are prefetched (`ahead`): a batch does not fit into the cache, and waiting for it took a tenth of the
//! products' time.

use rayon::prelude::*;

use super::lanes::grow;
use super::product::{Left, PANEL, Right, product, product_ahead, share};
use super::winograd::{self, matrix_len};
use crate::data::CHANNELS;
use crate::network::Array;
use crate::simd::simd;

/// Winograd tiles per set of products.
const TILES: usize = 64;
/// Places in a tile, and so products in a set.
const PLACES: usize = 16;

/// One convolution's sizes, and its weights in the layouts that its products need.
pub struct Kernels {
    /// Whether it takes images: planes [3, side, side] without a border, and no gradient.
    pub first: bool,
    pub inputs: usize,
    pub outputs: usize,
    side: usize,
    /// Kernels [9, inputs, outputs padded] and [9, outputs, inputs padded]; then both transformed for Winograd.
    taps: [Vec<f32>; 2],
    transformed: [Vec<f32>; 2],
    bias: Vec<f32>,
}

/// Channels with their padding.
pub fn padded(channels: usize) -> usize {
    channels.next_multiple_of(PANEL)
}

impl Kernels {
    pub fn new(inputs: usize, outputs: usize, side: usize, first: bool) -> Kernels {
        Kernels {
            first,
            inputs,
            outputs,
            side,
            taps: [vec![], vec![]],
            transformed: [vec![], vec![]],
            bias: vec![0.0; padded(outputs)],
        }
    }

    /// Values of one image's input, border included.
    pub fn x_len(&self) -> usize {
        if self.first {
            CHANNELS * self.side * self.side
        } else {
            (self.side + 2) * (self.side + 2) * padded(self.inputs)
        }
    }

    /// Values of one image's y.
    pub fn y_len(&self) -> usize {
        self.side * self.side * padded(self.outputs)
    }

    fn tiles(&self) -> usize {
        self.side / 2 * (self.side / 2)
    }

    /// Images in a chunk.
    pub fn chunk(&self) -> usize {
        if self.first { 1 } else { (TILES / self.tiles()).max(1) }
    }

    /// Lays out a convolution's two tensors as they are now; `train`: for a backward pass too.
    pub fn set(&mut self, tensors: &[Array], train: bool) {
        let [weight, bias] = tensors else { unreachable!("a convolution has two tensors") };
        let (inputs, outputs, weight) = (self.inputs, self.outputs, &weight.values[..]);
        self.bias[..outputs].copy_from_slice(&bias.values);
        let at = |output: usize, input: usize, tap: usize| (output * inputs + input) * 9 + tap;
        let ([taps, taps_back], [kernels, kernels_back]) = (&mut self.taps, &mut self.transformed);
        let there = || {
            fill_taps(taps, inputs, outputs, |tap, input, output| weight[at(output, input, tap)]);
            if !self.first {
                grow(kernels, PLACES * inputs * padded(outputs));
                winograd::transform_kernels(taps, inputs, padded(outputs), kernels);
            }
        };
        let back = || {
            if train && !self.first {
                fill_taps(taps_back, outputs, inputs, |tap, output, input| weight[at(output, input, tap)]);
                grow(kernels_back, PLACES * outputs * padded(inputs));
                winograd::transform_kernels(taps_back, outputs, padded(inputs), kernels_back);
            }
        };
        rayon::join(there, back);
    }

    /// Scratch memory of a chunk's products, in values.
    pub fn scratch_len(&self) -> usize {
        if self.first {
            CHANNELS * (self.side + 2) * (self.side + 2)
        } else {
            let tiles = self.chunk() * self.tiles();
            PLACES * (matrix_len(tiles, padded(self.inputs)) + matrix_len(tiles, padded(self.outputs)))
        }
    }

    /// y of a chunk of images.
    pub fn convolve(&self, x: &[f32], y: &mut [f32], memory: &mut [f32], ahead: &[f32]) {
        let (side, from, width) = (self.side, padded(self.inputs), padded(self.outputs));
        if self.first {
            pad_image(x, side, memory);
            let kernels = Right::rows(&self.taps[0], width);
            for (row, y) in y.chunks_exact_mut(side * width).enumerate() {
                for dy in 0..3 {
                    // The three pixels that one tap row sees are 9 neighbouring values.
                    let a = Left { values: &memory[(row + dy) * (side + 2) * CHANNELS..], row: CHANNELS, col: 1 };
                    let b = Right { values: &kernels.values[dy * 9 * width..], ..kernels };
                    product(y, width, a, b, [side, 9, width], dy > 0);
                }
                add_bias(y, &self.bias);
            }
            return;
        }
        let images = x.len() / self.x_len();
        let (tiles, of_image) = (images * self.tiles(), self.tiles());
        let (v_len, m_len) = (matrix_len(tiles, from), matrix_len(tiles, width));
        let (v, memory) = memory.split_at_mut(PLACES * v_len);
        let m = &mut memory[..PLACES * m_len];
        for (i, x) in x.chunks_exact(self.x_len()).enumerate() {
            winograd::transform_input(x, side, from, v, tiles, i * of_image);
        }
        let matrices = v.chunks_exact(v_len).zip(self.transformed[0].chunks_exact(self.inputs * width));
        for (place, (m, (v, u))) in m.chunks_exact_mut(m_len).zip(matrices).enumerate() {
            let (a, b) = (Left { values: v, row: from, col: 1 }, Right::packed(u, self.inputs));
            let ahead = [share(ahead, place, PLACES), &[], &[]];
            product_ahead(m, width, a, b, [tiles, self.inputs, width], false, ahead);
        }
        for (i, y) in y.chunks_exact_mut(self.y_len()).enumerate().take(images) {
            winograd::transform_output(m, tiles, i * of_image, &self.bias, side, y);
        }
    }

    /// Values of ∂L/∂U, in which [`Kernels::backward`] sums over chunks of images.
    pub fn du_len(&self) -> usize {
        if self.first { 0 } else { PLACES * self.inputs * padded(self.outputs) }
    }

    /// From x and g = ∂L/∂y of a chunk to ∂L/∂x and ∂L/∂W: in the first layer directly in `dw`, in inner layers in
    /// `du`, which [`Kernels::fold`] turns into it. Added to what is there with `accumulate`.
    #[allow(clippy::too_many_arguments, reason = "one call, the body of a parallel loop")]
    pub fn backward(
        &self,
        x: &[f32],
        g: &[f32],
        dw: &mut [f32],
        du: &mut [f32],
        dx: Option<&mut [f32]>,
        accumulate: bool,
        memory: &mut [f32],
        ahead: [&[f32]; 3],
    ) {
        let (side, from, width) = (self.side, padded(self.inputs), padded(self.outputs));
        if self.first {
            pad_image(x, side, memory);
            for (row, g) in g.chunks_exact(side * width).enumerate() {
                for (dy, dw) in dw.chunks_exact_mut(9 * width).enumerate() {
                    let a = Left { values: &memory[(row + dy) * (side + 2) * CHANNELS..], row: 1, col: CHANNELS };
                    let b = Right::rows(g, width);
                    let ahead = ahead.map(|all| share(all, row * 3 + dy, side * 3));
                    product_ahead(dw, width, a, b, [9, side, width], accumulate || row > 0, ahead);
                }
            }
            return;
        }
        let (x_len, of_image) = (self.x_len(), self.tiles());
        let tiles = x.len() / x_len * of_image;
        let (v_len, m_len) = (matrix_len(tiles, from), matrix_len(tiles, width));
        let (v, memory) = memory.split_at_mut(PLACES * v_len);
        let m = &mut memory[..PLACES * m_len];
        for (i, (x, g)) in x.chunks_exact(x_len).zip(g.chunks_exact(self.y_len())).enumerate() {
            winograd::transform_input(x, side, from, v, tiles, i * of_image);
            winograd::transform_gradient(g, side, width, m, tiles, i * of_image);
        }
        let matrices = v.chunks_exact_mut(v_len).zip(m.chunks_exact(m_len));
        for (place, (du, (v, m))) in du.chunks_exact_mut(self.inputs * width).zip(matrices).enumerate() {
            let (a, b) = (Left { values: v, row: 1, col: from }, Right::rows(m, width));
            let ahead = ahead.map(|all| share(all, place, PLACES));
            product_ahead(du, width, a, b, [self.inputs, tiles, width], accumulate, ahead);
            if dx.is_some() {
                // ∂L/∂V takes the place of V.
                let u = &self.transformed[1][place * self.outputs * from..][..self.outputs * from];
                let (a, b) = (Left { values: m, row: width, col: 1 }, Right::packed(u, self.outputs));
                product(v, from, a, b, [tiles, self.outputs, from], false);
            }
        }
        for (i, dx) in dx.into_iter().flat_map(|dx| dx.chunks_exact_mut(x_len)).enumerate() {
            winograd::fold_gradient(v, tiles, i * of_image, side, from, dx);
        }
    }

    /// ∂L/∂W from ∂L/∂U, in inner layers.
    pub fn fold(&self, du: &[f32], dw: &mut [f32]) {
        if !self.first {
            winograd::fold_kernels(du, self.inputs, padded(self.outputs), dw);
        }
    }
}

/// Taps [9, rows, columns padded] of `value(tap, row, column)`.
fn fill_taps(taps: &mut Vec<f32>, rows: usize, columns: usize, value: impl Fn(usize, usize, usize) -> f32 + Sync) {
    let width = padded(columns);
    grow(taps, 9 * rows * width);
    taps.par_chunks_exact_mut(width).enumerate().for_each(|(at, row)| {
        for (column, tap) in row[..columns].iter_mut().enumerate() {
            *tap = value(at / rows, at % rows, column);
        }
    });
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

    /// Adds the bias of each channel to every pixel.
    fn add_bias(y: &mut [f32], bias: &[f32]) {
        for pixel in y.chunks_exact_mut(bias.len()) {
            pixel.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
        }
    }
}
