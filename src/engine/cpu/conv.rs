//! A 3×3 convolution: its [`Kernels`], and its [`Activation`].
//!
//! The passes are parallel over images, a chunk at a time. Kernel gradients are partial sums over [`PARTIAL`] images,
//! added in order: neither depends on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::activation::{Activation, Buffers, Tails};
use super::chain::Pass;
use super::kernels::{Kernels, padded};
use super::lanes::{chunks_or_none, grow, rest, scratch};
use super::tail;
use super::update::Sink;
use crate::simd::simd;

/// Images in one partial sum of the kernel gradients.
const PARTIAL: usize = 8;

/// One convolution with what follows it, its buffers included.
pub struct Conv {
    kernels: Kernels,
    /// Index of the kernels' tensor; the bias is the next.
    tensor: usize,
    pub after: Activation,
    /// Partial sums of ∂L/∂W, [9, inputs, outputs padded] each; ∂L/∂W in the tensor's order; ∂L/∂b per image.
    partials: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

/// The input of an operation.
pub enum Input<'a> {
    Values(&'a [f32]),
    /// The output of the convolution before, perhaps still to be made.
    After(&'a mut Activation),
}

impl<'a> Input<'a> {
    pub fn values(self) -> &'a [f32] {
        match self {
            Input::Values(x) => x,
            Input::After(before) => before.finish(),
        }
    }
}

impl Conv {
    /// `tensor`: the index of its first tensor; `first`: whether it takes images.
    pub fn new(inputs: usize, outputs: usize, side: usize, tensor: usize, first: bool) -> Conv {
        Conv {
            kernels: Kernels::new(inputs, outputs, side, first),
            tensor,
            after: Activation::new(outputs, side),
            partials: vec![],
            dw: vec![],
            db: vec![],
        }
    }

    /// Values of one image's input, border included.
    pub fn in_len(&self) -> usize {
        self.kernels.x_len()
    }

    /// From x to what [`Activation`] makes `out` of, or in eval mode to `out` itself.
    pub fn forward(&mut self, x: Input, pass: &mut Pass) {
        self.kernels.set(&pass.weights[self.tensor..self.tensor + 2], pass.train);
        self.after.prepare(pass);
        if pass.train {
            self.forward_train(x, pass);
        } else {
            self.forward_eval(x.values(), pass);
        }
    }

    fn forward_eval(&mut self, x: &[f32], pass: &Pass) {
        let Conv { kernels, after, .. } = self;
        let (chunk, x_len, sizes) = (kernels.chunk(), kernels.x_len(), after.sizes);
        after.set_running(pass.weights);
        let Buffers { tails, source, out, .. } = after.finishing();
        let results = out.par_chunks_mut(chunk * sizes.out()).zip(source.par_chunks_mut(chunk * sizes.source()));
        results.zip(x[..pass.n * x_len].par_chunks(chunk * x_len)).enumerate().for_each(|(at, ((out, source), x))| {
            scratch(chunk * sizes.y() + kernels.scratch_len(), |memory| {
                let (y, memory) = memory.split_at_mut(chunk * sizes.y());
                kernels.convolve(x, y, memory, &[]);
                tails.forward(at * chunk, y, out, source);
            });
        });
    }

    fn forward_train(&mut self, x: Input, pass: &mut Pass) {
        let Conv { kernels, after, .. } = self;
        let (chunk, tasks) = (kernels.chunk(), pass.n.div_ceil(kernels.chunk()));
        let (x_len, sizes, width) = (kernels.x_len(), after.sizes, padded(kernels.outputs));
        // Either x itself, or what is still to be made of the convolution before.
        let (x, tails, y_before, source, out) = match x {
            Input::Values(x) => (x, None, &[][..], &mut [][..], &mut [][..]),
            Input::After(before) => {
                let Buffers { tails, y, source, out, .. } = before.finishing();
                (&[][..], Some(tails), y, source, out)
            }
        };
        let [y_len, source_len] = tails.map_or([0, 1], |tails| [tails.sizes.y(), tails.sizes.source()]);
        let images = chunks_or_none(out, chunk * x_len, tasks).zip(chunks_or_none(source, chunk * source_len, tasks));
        let y = after.y[..pass.n * sizes.y()].par_chunks_mut(chunk * sizes.y());
        let moments = after.moments[..pass.n * sizes.moments()].par_chunks_mut(chunk * sizes.moments());
        let norm = after.norm.is_some();
        y.zip(moments).zip(images).enumerate().for_each(|(at, ((y, moments), (out, source)))| {
            let (first, some) = (at * chunk, y.len() / sizes.y());
            let x = match (tails, out, source) {
                (Some(tails), Some(out), Some(source)) => {
                    tails.forward(first, &y_before[first * y_len..], out, source);
                    &*out
                }
                _ => &x[first * x_len..][..some * x_len],
            };
            let ahead = rest(y_before, (first + some) * y_len, some * y_len);
            scratch(kernels.scratch_len(), |memory| kernels.convolve(x, y, memory, ahead));
            if norm {
                for (y, moments) in y.chunks_exact(sizes.y()).zip(moments.chunks_exact_mut(sizes.moments())) {
                    tail::moments(y, width, moments);
                }
            }
        });
        after.set_batch(pass.weights);
    }

    /// From the gradient of the output to the gradients of all tensors and, where it is wanted, to ∂L/∂x in `dx`. `x`
    /// is the input of the forward pass.
    pub fn backward(&mut self, x: &[f32], dx: Option<&mut [f32]>, n: usize, sink: &mut Sink) {
        self.gradients(x, dx, None, n, sink);
    }

    /// The same where the input was the convolution before: to its `g`, and the sums that its own backward pass needs.
    pub fn backward_into(&mut self, before: &mut Activation, n: usize, sink: &mut Sink) {
        let Buffers { tails, source, out, g, sums, .. } = before.summing();
        self.gradients(out, Some(g), Some((tails, source, sums)), n, sink);
    }

    fn gradients(
        &mut self,
        x: &[f32],
        dx: Option<&mut [f32]>,
        before: Option<(Tails, &[f32], &mut [f32])>,
        n: usize,
        sink: &mut Sink,
    ) {
        self.after.gradient(sink);
        let Conv { kernels, after, partials, db, .. } = self;
        let (inputs, outputs, width) = (kernels.inputs, kernels.outputs, padded(kernels.outputs));
        let (x_len, kernel_len, count) = (kernels.x_len(), 9 * inputs * width, n.div_ceil(PARTIAL));
        grow(partials, count * kernel_len);
        grow(db, n * width);
        let dx = dx.map_or(&mut [][..], |dx| &mut dx[..n * x_len]);
        let (before, sums) = before.map_or((None, &mut [][..]), |(tails, source, sums)| (Some((tails, source)), sums));
        let sums_len = before.map_or(1, |(tails, _)| tails.sizes.moments());
        let gradients = partials[..count * kernel_len].par_chunks_exact_mut(kernel_len);
        let gradients = gradients.zip(db[..n * width].par_chunks_mut(PARTIAL * width));
        let images = chunks_or_none(dx, PARTIAL * x_len, count).zip(chunks_or_none(sums, PARTIAL * sums_len, count));
        gradients.zip(images).enumerate().for_each(|(at, ((dw, db), (dx, sums)))| {
            let images = at * PARTIAL..n.min((at + 1) * PARTIAL);
            let sums = before.zip(sums).map(|((tails, source), sums)| (tails, source, sums));
            partial_backward(kernels, after, x, images, dw, db, dx, sums);
        });
        self.sum_partials(count, kernel_len);
        sink.take(self.tensor, &self.dw[..outputs * inputs * 9]);
        let bias = &mut self.dw[..outputs];
        bias.fill(0.0);
        if (0..n).any(|i| self.after.feels_shift(i)) {
            for (c, bias) in bias.iter_mut().enumerate() {
                let images = self.db[..n * width].chunks_exact(width).enumerate();
                let images = images.filter(|(i, _)| self.after.feels_shift(*i));
                *bias = images.map(|(_, db)| f64::from(db[c])).sum::<f64>() as f32;
            }
        }
        sink.take(self.tensor + 1, bias);
    }

    /// Adds the partial sums of ∂L/∂W in order, and puts the result into the tensor's order.
    fn sum_partials(&mut self, count: usize, kernel_len: usize) {
        let (inputs, outputs) = (self.kernels.inputs, self.kernels.outputs);
        let width = padded(outputs);
        let (total, others) = self.partials[..count * kernel_len].split_at_mut(kernel_len);
        total.par_chunks_mut(width).enumerate().for_each(|(row, total)| {
            for other in others.chunks_exact(kernel_len) {
                add_to(total, &other[row * width..][..width]);
            }
        });
        self.dw.resize(outputs * inputs * 9, 0.0);
        for (output, dw) in self.dw.chunks_exact_mut(inputs * 9).enumerate() {
            for (at, dw) in dw.iter_mut().enumerate() {
                *dw = total[(at % 9 * inputs + at / 9) * width + output];
            }
        }
    }
}

/// The gradients of up to [`PARTIAL`] images: their sum of ∂L/∂W, ∂L/∂b of each, and ∂L/∂x with the sums that the
/// convolution before needs: (its tails, the x's that they chose, the sums).
#[allow(clippy::too_many_arguments, reason = "one call, the body of a parallel loop")]
fn partial_backward(
    kernels: &Kernels,
    after: &Activation,
    x: &[f32],
    images: Range<usize>,
    dw: &mut [f32],
    db: &mut [f32],
    mut dx: Option<&mut [f32]>,
    mut before: Option<(Tails, &[f32], &mut [f32])>,
) {
    let (x_len, chunk, width) = (kernels.x_len(), kernels.chunk(), padded(kernels.outputs));
    let (tails, [y_len, out_len]) = (after.tails(), [after.sizes.y(), after.sizes.out()]);
    scratch(chunk * y_len + kernels.du_len() + kernels.scratch_len(), |memory| {
        let (g_y, memory) = memory.split_at_mut(chunk * y_len);
        let (du, memory) = memory.split_at_mut(kernels.du_len());
        for start in images.clone().step_by(chunk) {
            let (inside, end) = (start - images.start, images.end.min(start + chunk));
            for (i, g_y) in (start..end).zip(g_y.chunks_exact_mut(y_len)) {
                tails.backward(i, &after.y[i * y_len..][..y_len], &after.g[i * out_len..][..out_len], g_y);
                if after.feels_shift(i) {
                    let db = &mut db[(i - images.start) * width..][..width];
                    db.fill(0.0);
                    g_y.chunks_exact(width).for_each(|pixel| add_to(db, pixel));
                }
            }
            let mut dx = dx.as_deref_mut().map(|dx| &mut dx[inside * x_len..][..(end - start) * x_len]);
            let ahead = [(x, x_len), (&after.y[..], y_len), (&after.g[..], out_len)];
            let ahead = ahead.map(|(all, len)| rest(all, end * len, chunk * len));
            let (x, accumulate) = (&x[start * x_len..end * x_len], inside > 0);
            kernels.backward(x, g_y, dw, du, dx.as_deref_mut(), accumulate, memory, ahead);
            if let (Some((tails, source, sums)), Some(dx)) = (&mut before, dx) {
                let [source_len, sums_len] = [tails.sizes.source(), tails.sizes.moments()];
                for (i, (g, sums)) in
                    dx.chunks_exact(x_len).zip(sums[inside * sums_len..].chunks_exact_mut(sums_len)).enumerate()
                {
                    tails.gradient_sums(start + i, &source[(start + i) * source_len..][..source_len], g, sums);
                }
            }
        }
        kernels.fold(du, dw);
    });
}

simd! {
    /// Adds `values` to `sums`, one by one.
    fn add_to(sums: &mut [f32], values: &[f32]) {
        sums.iter_mut().zip(values).for_each(|(sum, v)| *sum += v);
    }
}
