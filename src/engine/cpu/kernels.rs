//! A convolution's kernels and their products, a chunk of images at a time.
//!
//! With W the kernels: y = W∗x + b; with g = ∂L/∂y: ∂L/∂W = Σ over pixels of g·(the x under the kernel), ∂L/∂b = Σ g,
//! ∂L/∂x = Wᵀ∗g. There are three ways to the sums: [`planes`] for the images that come in, [`tiles`] for 3×3 kernels on an even
//! side, which needs 16 products where the definition has 36, and [`taps`], the definition, for all others.
//!
//! A chunk is small enough for all its steps to stay in the cache. While its products keep the CPU busy, the next
//! chunk's data are prefetched (`ahead`): a batch does not fit into the cache, and waiting for it took a tenth of the
//! products' time.

use rayon::prelude::*;

use super::lanes::{Aligned, LANES};
use super::product::{HALF, PANEL};
use super::winograd::{self, matrix_len};
use super::{planes, taps, tiles};
use crate::data::CHANNELS;
use crate::network::Array;

/// A convolution's sizes.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    pub inputs: usize,
    pub outputs: usize,
    /// Of the kernels: 1 or 3.
    pub kernel: usize,
    /// 1 or 2.
    pub stride: usize,
    /// Of the input.
    pub side: usize,
}

impl Sizes {
    /// Side of y.
    pub fn side_out(self) -> usize {
        self.side.div_ceil(self.stride)
    }

    /// Places in a kernel.
    pub fn taps(self) -> usize {
        self.kernel * self.kernel
    }
}

/// How the sums are computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Planes,
    Tiles,
    Taps,
}

/// One convolution's weights in the layouts that its products need.
pub struct Kernels {
    pub sizes: Sizes,
    way: Way,
    /// Kernels [taps, inputs, outputs padded] and [taps, outputs, inputs padded]; then both transformed for Winograd.
    pub taps: [Aligned; 2],
    pub transformed: [Aligned; 2],
    pub bias: Vec<f32>,
}

/// Where a chunk's gradients go.
pub struct Gradients<'a> {
    /// ∂L/∂W, [taps, inputs, outputs padded]; of Winograd's kernels ∂L/∂U in `du`, which [`Kernels::fold`] turns into it.
    pub dw: &'a mut [f32],
    pub du: &'a mut [f32],
    /// Whether both are added to what is there.
    pub accumulate: bool,
    /// ∂L/∂x, with its border, where it is wanted, and whether it is added to what is there.
    pub dx: Option<&'a mut [f32]>,
    pub dx_accumulate: bool,
}

/// Channels with their padding.
pub fn padded(channels: usize) -> usize {
    if channels <= HALF { HALF } else { channels.next_multiple_of(PANEL) }
}

impl Kernels {
    /// `first`: whether it takes images as they come in.
    pub fn new(sizes: Sizes, first: bool) -> Kernels {
        let way = match sizes {
            _ if first => Way::Planes,
            Sizes { kernel: 3, stride: 1, side, .. } if side.is_multiple_of(2) => Way::Tiles,
            _ => Way::Taps,
        };
        let bias = vec![0.0; padded(sizes.outputs)];
        let [taps, transformed] = Default::default();
        Kernels { sizes, way, taps, transformed, bias }
    }

    /// Whether it takes images as they come in: planes [3, side, side] without a border, and no gradient.
    pub fn is_first(&self) -> bool {
        self.way == Way::Planes
    }

    /// Values of one image's input, border included.
    pub fn x_len(&self) -> usize {
        let Sizes { side, inputs, .. } = self.sizes;
        if self.is_first() { CHANNELS * side * side } else { (side + 2) * (side + 2) * padded(inputs) }
    }

    /// Values of one image's y.
    pub fn y_len(&self) -> usize {
        self.sizes.side_out() * self.sizes.side_out() * padded(self.sizes.outputs)
    }

    /// Values of [`Gradients::dw`].
    pub fn dw_len(&self) -> usize {
        self.sizes.taps() * self.sizes.inputs * padded(self.sizes.outputs)
    }

    /// Values of [`Gradients::du`], summed over chunks of images.
    pub fn du_len(&self) -> usize {
        if self.way == Way::Tiles {
            tiles::PLACES * matrix_len(self.sizes.inputs, padded(self.sizes.outputs))
        } else {
            0
        }
    }

    /// Images in a chunk.
    pub fn chunk(&self) -> usize {
        if self.way == Way::Tiles { tiles::chunk(self.sizes.side) } else { 1 }
    }

    /// Scratch memory of a chunk's products, in values.
    pub fn scratch_len(&self) -> usize {
        match self.way {
            Way::Planes => planes::scratch_len(self.sizes.side),
            Way::Tiles => tiles::scratch_len(self.sizes),
            Way::Taps => 0,
        }
    }

    /// Lays out the kernels, and the bias if there is one, as they are now; `train`: for a backward pass too.
    pub fn set(&mut self, tensors: &[Array], train: bool) {
        let (Sizes { inputs, outputs, .. }, taps) = (self.sizes, self.sizes.taps());
        let (weight, way) = (&tensors[0].values[..], self.way);
        if let Some(bias) = tensors.get(1) {
            self.bias[..outputs].copy_from_slice(&bias.values);
        }
        let at = |output: usize, input: usize, tap: usize| (output * inputs + input) * taps + tap;
        let ([there, back], [kernels, kernels_back]) = (&mut self.taps, &mut self.transformed);
        let forward = || {
            fill_taps(there, [taps, inputs, outputs], |tap, input, output| weight[at(output, input, tap)]);
            if way == Way::Tiles {
                winograd::transform_kernels(there, inputs, padded(outputs), kernels);
            }
        };
        let backward = || {
            if train && way != Way::Planes {
                fill_taps(back, [taps, outputs, inputs], |tap, output, input| weight[at(output, input, tap)]);
            }
            if train && way == Way::Tiles {
                winograd::transform_kernels(back, outputs, padded(inputs), kernels_back);
            }
        };
        rayon::join(forward, backward);
    }

    /// y of a chunk of images.
    pub fn convolve(&self, x: &[f32], y: &mut [f32], memory: &mut [f32], ahead: &[f32]) {
        match self.way {
            Way::Planes => planes::convolve(self, x, y, memory),
            Way::Tiles => tiles::convolve(self, x, y, memory, ahead),
            Way::Taps => taps::convolve(self, x, y),
        }
    }

    /// From x and g = ∂L/∂y of a chunk to its gradients.
    pub fn backward(&self, x: &[f32], g: &[f32], to: Gradients, memory: &mut [f32], ahead: [&[f32]; 3]) {
        match self.way {
            Way::Planes => planes::backward(self, x, g, to, memory, ahead),
            Way::Tiles => tiles::backward(self, x, g, to, memory, ahead),
            Way::Taps => taps::backward(self, x, g, to),
        }
    }

    /// ∂L/∂W from ∂L/∂U.
    pub fn fold(&self, du: &[f32], dw: &mut [f32]) {
        if self.way == Way::Tiles {
            winograd::fold_kernels(du, self.sizes.inputs, padded(self.sizes.outputs), dw);
        }
    }
}

/// Taps [taps, rows, columns padded] of `value(tap, row, column)`, in blocks of rows and columns: a transposition by whole rows
/// would read each cache line once for every value in it.
fn fill_taps(to: &mut Aligned, [taps, rows, columns]: [usize; 3], value: impl Fn(usize, usize, usize) -> f32 + Sync) {
    let width = padded(columns);
    to.grow(taps * rows * width);
    to.par_chunks_exact_mut(rows * width).enumerate().for_each(|(tap, to)| {
        to.par_chunks_mut(LANES * width).enumerate().for_each(|(block, to)| {
            for first in (0..columns).step_by(LANES) {
                let some = first..columns.min(first + LANES);
                for (row, to) in to.chunks_exact_mut(width).enumerate() {
                    for (column, to) in some.clone().zip(&mut to[some.clone()]) {
                        *to = value(tap, block * LANES + row, column);
                    }
                }
            }
        });
    });
}

const _: () = assert!(HALF == LANES, "lanes of channels divide both widths");
