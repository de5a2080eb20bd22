//! From images to features, batch last: [n, …] to [features, n]. The order of features is PyTorch's: channel, row,
//! column.

use rayon::prelude::*;

use super::lanes::{LANES, grow};
use super::product::PANEL;
use super::rows::transpose;

/// How what is flattened is stored.
#[derive(Clone, Copy)]
pub enum Layout {
    /// Images as they come in, or features: [n, features] already.
    Input,
    /// What a convolution gives: channels last with a border, [n, side + 2, side + 2, channels padded].
    Padded { channels: usize, side: usize },
}

/// A flattening, its buffers included.
pub struct Flatten {
    layout: Layout,
    pub features: usize,
    /// The output, [features, n], and its gradient.
    pub out: Vec<f32>,
    pub g: Vec<f32>,
}

/// Images per task of the backward pass.
const TASK: usize = 16;

impl Flatten {
    pub fn new(layout: Layout, features: usize) -> Flatten {
        Flatten { layout, features, out: vec![], g: vec![] }
    }

    pub fn forward(&mut self, x: &[f32], n: usize, train: bool) {
        grow(&mut self.out, self.features * n);
        if train {
            grow(&mut self.g, self.features * n);
        }
        let Layout::Padded { channels, side } = self.layout else {
            return transpose(x, self.features, n, self.features, &mut self.out);
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
        let Layout::Padded { channels, side } = self.layout else { return };
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
    (side + 2) * (side + 2) * channels.next_multiple_of(PANEL)
}

/// Where a pixel's channels begin.
fn place(pixel: usize, side: usize, channels: usize) -> usize {
    ((pixel / side + 1) * (side + 2) + pixel % side + 1) * channels.next_multiple_of(PANEL)
}
