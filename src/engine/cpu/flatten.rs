//! From images to features, batch last: [n, …] to [features, n]. The order of features is PyTorch's: channel, row,
//! column. Or the mean over the pixels of each channel: y = Σ x / pixels and ∂L/∂x = ∂L/∂y / pixels. It is summed over each
//! row, then over the rows: short sums round less.

use rayon::prelude::*;

use super::kernels::padded;
use super::lanes::{Aligned, LANES, Lanes, add, lanes};
use super::rows::transpose;
use crate::simd::simd;

/// How what is flattened is stored.
#[derive(Clone, Copy)]
pub enum Layout {
    /// Images as they come in, or features: [n, features] already.
    Input,
    /// What a convolution gives: channels last with a border, [n, side + 2, side + 2, channels padded].
    Padded { channels: usize, side: usize },
    /// The same, of which the mean over the pixels is taken.
    Mean { channels: usize, side: usize },
}

/// A flattening, its buffers included.
pub struct Flatten {
    layout: Layout,
    pub features: usize,
    /// The output, [features, n], and its gradient.
    pub out: Aligned,
    pub g: Aligned,
}

/// Images per task of the backward pass.
const TASK: usize = 16;

impl Flatten {
    pub fn new(layout: Layout, features: usize) -> Flatten {
        Flatten { layout, features, out: Aligned::new(), g: Aligned::new() }
    }

    pub fn forward(&mut self, x: &[f32], n: usize, train: bool) {
        self.out.grow(self.features * n);
        if train {
            self.g.grow(self.features * n);
        }
        let (channels, side) = match self.layout {
            Layout::Input => return transpose(x, self.features, n, self.features, &mut self.out),
            Layout::Mean { channels, side } => {
                let out = &mut self.out[..self.features * n];
                return out.par_chunks_mut(LANES * n).enumerate().for_each(|(c, out)| {
                    for (i, x) in x.chunks_exact(image_len(channels, side)).take(n).enumerate() {
                        let mean = mean(x, side, padded(channels), c);
                        out[i..].iter_mut().step_by(n).zip(mean).for_each(|(out, mean)| *out = mean);
                    }
                });
            }
            Layout::Padded { channels, side } => (channels, side),
        };
        let (image, pixels) = (image_len(channels, side), side * side);
        self.out[..self.features * n].par_chunks_mut(LANES * pixels * n).enumerate().for_each(|(c, out)| {
            for (i, x) in x.chunks_exact(image).take(n).enumerate() {
                for pixel in 0..pixels {
                    let x = &x[place(pixel, side, channels) + c * LANES..];
                    for (out, x) in out[pixel * n + i..].iter_mut().step_by(pixels * n).zip(x) {
                        *out = *x;
                    }
                }
            }
        });
    }

    /// From `g` to ∂L/∂x in `dx`; its border stays as it is.
    pub fn backward(&self, dx: &mut [f32], n: usize) {
        let (channels, side) = match self.layout {
            Layout::Input => return,
            Layout::Mean { channels, side } => {
                let image = image_len(channels, side);
                return dx[..n * image].par_chunks_exact_mut(image).enumerate().for_each(|(i, dx)| {
                    let of_image = self.g[i..].iter().step_by(n).take(channels);
                    let (first, rest) = dx[place(0, side, channels)..].split_at_mut(padded(channels));
                    first.iter_mut().zip(of_image).for_each(|(dx, g)| *dx = g / (side * side) as f32);
                    let offset = place(0, side, channels) + padded(channels);
                    for pixel in 1..side * side {
                        let at = place(pixel, side, channels) - offset;
                        rest[at..][..first.len()].copy_from_slice(first);
                    }
                });
            }
            Layout::Padded { channels, side } => (channels, side),
        };
        let (image, pixels) = (image_len(channels, side), side * side);
        dx[..n * image].par_chunks_mut(TASK * image).enumerate().for_each(|(task, dx)| {
            for pixel in 0..pixels {
                for channel in 0..channels {
                    let g = &self.g[(channel * pixels + pixel) * n + task * TASK..];
                    let at = place(pixel, side, channels) + channel;
                    for (dx, g) in dx[at..].iter_mut().step_by(image).zip(g) {
                        *dx = *g;
                    }
                }
            }
        });
    }
}

fn image_len(channels: usize, side: usize) -> usize {
    (side + 2) * (side + 2) * padded(channels)
}

/// Where a pixel's channels begin.
fn place(pixel: usize, side: usize, channels: usize) -> usize {
    ((pixel / side + 1) * (side + 2) + pixel % side + 1) * padded(channels)
}

simd! {
    /// The mean over the pixels of an image with a border, lanes `c` of its `width` channels.
    fn mean(x: &[f32], side: usize, width: usize, c: usize) -> Lanes {
        let (x, per_pixel) = (lanes(x), width / LANES);
        let mut total = [0.0; LANES];
        for row in 1..=side {
            let mut sum = [0.0; LANES];
            for column in 1..=side {
                sum = add(sum, x[(row * (side + 2) + column) * per_pixel + c]);
            }
            total = add(total, sum);
        }
        total.map(|sum| sum / (side * side) as f32)
    }
}
