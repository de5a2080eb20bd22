//! A convolution: its [`Kernels`], and its [`Activation`].
//!
//! The passes are parallel over images, a chunk at a time. Kernel gradients are partial sums over [`PARTIAL`] images,
//! added in order: neither depends on the number of threads.

use std::ops::Range;

use rayon::prelude::*;

use super::activation::{Activation, Buffers, Tails};
use super::chain::{Group, Pass};
use super::kernels::{Gradients, Kernels, Sizes, padded};
use super::lanes::{Aligned, LANES, chunks_or_none, rest, scratch};
use super::tail;
use super::update::Sink;
use crate::engine::shards::add_to;

/// Images in one partial sum of the kernel gradients.
const PARTIAL: usize = 8;
/// Values of ∂L/∂W that are summed over the partial sums at a time.
const SUMMED: usize = 1 << 12;

/// One convolution with what follows it, its buffers included.
pub struct Conv {
    kernels: Kernels,
    /// Index of the kernels' tensor; the bias is the next, if there is one.
    tensor: usize,
    bias: bool,
    pub after: Activation,
    /// Partial sums of ∂L/∂W, [taps, inputs, outputs padded] each; ∂L/∂W in the tensor's order; ∂L/∂b per image.
    partials: Aligned,
    dw: Vec<f32>,
    db: Aligned,
}

/// The input of an operation.
pub enum Input<'a> {
    Values(&'a [f32]),
    /// The output of the convolution before, still to be made, and what a residual sum adds to it.
    After(&'a mut Activation, Option<&'a [f32]>),
}

impl<'a> Input<'a> {
    pub fn values(self) -> &'a [f32] {
        match self {
            Input::Values(x) => x,
            Input::After(before, added) => before.finish(added),
        }
    }
}

impl Conv {
    /// `tensor`: the index of its first tensor; `first`: whether it takes images as they come in.
    pub fn new(sizes: Sizes, bias: bool, tensor: usize, first: bool) -> Conv {
        Conv {
            kernels: Kernels::new(sizes, first),
            tensor,
            bias,
            after: Activation::new(sizes.outputs, sizes.side_out()),
            partials: Aligned::new(),
            dw: vec![],
            db: Aligned::new(),
        }
    }

    /// Values of one image's input, border included.
    pub fn in_len(&self) -> usize {
        self.kernels.x_len()
    }

    /// From x to what [`Activation`] makes `out` of, or in eval mode, where it takes what a residual sum adds, to `out` itself.
    pub fn forward(&mut self, x: Input, added: Option<&[f32]>, pass: &mut Pass) {
        self.kernels.set(&pass.weights[self.tensor..][..1 + usize::from(self.bias)], pass.train);
        self.after.prepare(pass);
        if pass.train {
            self.forward_train(x, pass);
        } else {
            self.forward_eval(x.values(), added, pass);
        }
    }

    fn forward_eval(&mut self, x: &[f32], added: Option<&[f32]>, pass: &Pass) {
        let Conv { kernels, after, .. } = self;
        let (chunk, x_len, sizes) = (kernels.chunk(), kernels.x_len(), after.sizes);
        after.set_running(pass.weights);
        let Buffers { tails, source, out, .. } = after.finishing(added);
        let sources = chunks_or_none(source, (chunk * sizes.source()).max(1), pass.n.div_ceil(chunk));
        let results = out.par_chunks_mut(chunk * sizes.out()).zip(sources);
        results.zip(x[..pass.n * x_len].par_chunks(chunk * x_len)).enumerate().for_each(|(at, ((out, source), x))| {
            scratch(chunk * sizes.y() + kernels.scratch_len(), |memory| {
                let (y, memory) = memory.split_at_mut(chunk * sizes.y());
                kernels.convolve(x, y, memory, &[]);
                tails.forward(at * chunk, y, out, source.unwrap_or_default());
            });
        });
    }

    fn forward_train(&mut self, x: Input, pass: &mut Pass) {
        let Conv { kernels, after, .. } = self;
        let (chunk, tasks) = (kernels.chunk(), pass.n.div_ceil(kernels.chunk()));
        let (x_len, sizes, width) = (kernels.x_len(), after.sizes, padded(kernels.sizes.outputs));
        // Either x itself, or what is still to be made of the convolution before.
        let (x, tails, y_before, source, out) = match x {
            Input::Values(x) => (x, None, &[][..], &mut [][..], &mut [][..]),
            Input::After(before, added) => {
                let Buffers { tails, y, source, out, .. } = before.finishing(added);
                (&[][..], Some(tails), y, source, out)
            }
        };
        let [y_len, source_len] = tails.map_or([0, 0], |tails| [tails.sizes.y(), tails.sizes.source()]);
        let sources = chunks_or_none(source, (chunk * source_len).max(1), tasks);
        let images = chunks_or_none(out, chunk * x_len, tasks).zip(sources);
        let y = after.y[..pass.n * sizes.y()].par_chunks_mut(chunk * sizes.y());
        let moments = after.moments[..pass.n * sizes.moments()].par_chunks_mut(chunk * sizes.moments());
        let norm = after.norm.is_some();
        y.zip(moments).zip(images).enumerate().for_each(|(at, ((y, moments), (out, source)))| {
            let (first, some) = (at * chunk, y.len() / sizes.y());
            let x = match (tails, out) {
                (Some(tails), Some(out)) => {
                    tails.forward(first, &y_before[first * y_len..], out, source.unwrap_or_default());
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
        after.set_batch(pass.weights, pass.shards);
    }

    /// From the gradient of the output to the gradients of all tensors and, where it is wanted, to ∂L/∂x in `dx`. `x` is the
    /// input of the forward pass.
    pub fn backward(&mut self, x: &[f32], dx: Option<&mut [f32]>, n: usize, sink: &mut Sink) {
        self.gradients(x, dx.map(|dx| Into { dx, accumulate: false, summed: None }), n, sink);
    }

    /// The same where the input was the convolution before: also to its `g`, or added to it with `accumulate`, and, if this is
    /// the `last` that adds to it, the sums that its own backward pass needs.
    pub fn backward_into(&mut self, before: &mut Activation, accumulate: bool, last: bool, n: usize, sink: &mut Sink) {
        let Buffers { tails, y, source, out, g, sums } = before.summing(last);
        let summed = last.then_some(Summed { tails, y, source, sums });
        self.gradients(out, Some(Into { dx: g, accumulate, summed }), n, sink);
    }

    fn gradients(&mut self, x: &[f32], into: Option<Into>, n: usize, sink: &mut Sink) {
        self.after.gradient(sink);
        let Conv { kernels, after, partials, dw, db, tensor, bias } = self;
        let (Sizes { inputs, outputs, .. }, taps) = (kernels.sizes, kernels.sizes.taps());
        let (x_len, kernel_len, width) = (kernels.x_len(), kernels.dw_len(), padded(outputs));
        partials.grow(n.div_ceil(PARTIAL) * kernel_len);
        db.grow(n * width);
        let (dx, accumulate, summed) = match into {
            Some(Into { dx, accumulate, summed }) => (&mut dx[..n * x_len], accumulate, summed),
            None => (&mut [][..], false, None),
        };
        let (before, sums) = match summed {
            Some(Summed { tails, y, source, sums }) => (Some((tails, y, source)), sums),
            None => (None, &mut [][..]),
        };
        let sums_len = before.map_or(1, |(tails, ..)| tails.sizes.moments());
        // The same for each shard, in its own examples.
        let (mut dx, mut sums) = (dx, sums);
        for (part, groups) in Group::by_shard(after.groups()).enumerate() {
            let all = Group::all(groups);
            let (n, count) = (all.len(), all.len().div_ceil(PARTIAL));
            let [dx, sums] = [(&mut dx, n * x_len), (&mut sums, n * sums_len)].map(|(values, len)| {
                let all = std::mem::take(values);
                let (own, rest) = all.split_at_mut(len.min(all.len()));
                *values = rest;
                own
            });
            let gradients = partials[..count * kernel_len].par_chunks_exact_mut(kernel_len);
            let gradients = gradients.zip(db[all.start * width..all.end * width].par_chunks_mut(PARTIAL * width));
            let images =
                chunks_or_none(dx, PARTIAL * x_len, count).zip(chunks_or_none(sums, PARTIAL * sums_len, count));
            gradients.zip(images).enumerate().for_each(|(at, ((dw, db), (dx, sums)))| {
                let first = all.start + at * PARTIAL;
                let images = first..all.end.min(first + PARTIAL);
                let summed = before.zip(sums).map(|((tails, y, source), sums)| Summed { tails, y, source, sums });
                let into = dx.map(|dx| Into { dx, accumulate, summed });
                partial_backward(kernels, after, x, images, dw, db, into);
            });
            sum_partials(kernels.sizes, &mut partials[..count * kernel_len], kernel_len, dw);
            sink.part(part).take(*tensor, &dw[..outputs * inputs * taps]);
            if !*bias {
                continue;
            }
            let bias = &mut dw[..outputs];
            bias.fill(0.0);
            if all.clone().any(|i| after.feels_shift(i)) {
                for (c, bias) in bias.iter_mut().enumerate() {
                    let images = all.clone().filter(|&i| after.feels_shift(i));
                    *bias = images.map(|i| f64::from(db[i * width + c])).sum::<f64>() as f32;
                }
            }
            sink.part(part).take(*tensor + 1, bias);
        }
        sink.begin_sums(*tensor..*tensor + 1 + usize::from(*bias));
    }
}

/// Adds the partial sums of ∂L/∂W in order, and puts the result into the tensor's order.
fn sum_partials(sizes: Sizes, partials: &mut [f32], kernel_len: usize, dw: &mut Vec<f32>) {
    let (Sizes { inputs, outputs, .. }, taps, width) = (sizes, sizes.taps(), padded(sizes.outputs));
    let (total, others) = partials.split_at_mut(kernel_len);
    total.par_chunks_mut(SUMMED).enumerate().for_each(|(at, total)| {
        for other in others.chunks_exact(kernel_len) {
            add_to(total, &other[at * SUMMED..][..total.len()]);
        }
    });
    dw.resize(outputs * inputs * taps, 0.0);
    // A cache line of the sums, which are of as many outputs, at a time.
    dw.par_chunks_mut(LANES * inputs * taps).enumerate().for_each(|(block, dw)| {
        for (at, sums) in total.chunks_exact(width).enumerate() {
            let to = at % inputs * taps + at / inputs;
            dw[to..].iter_mut().step_by(inputs * taps).zip(&sums[block * LANES..]).for_each(|(dw, sum)| *dw = *sum);
        }
    });
}

/// Where ∂L/∂x of some images goes, with a border.
struct Into<'a> {
    dx: &'a mut [f32],
    /// Added to what is there.
    accumulate: bool,
    summed: Option<Summed<'a>>,
}

/// The `sums` that the convolution before needs of some images, and all images' values that they are made from.
struct Summed<'a> {
    tails: Tails<'a>,
    y: &'a [f32],
    source: &'a [f32],
    sums: &'a mut [f32],
}

/// The gradients of up to [`PARTIAL`] images: their sum of ∂L/∂W, ∂L/∂b of each, and ∂L/∂x.
fn partial_backward(
    kernels: &Kernels,
    after: &Activation,
    x: &[f32],
    images: Range<usize>,
    dw: &mut [f32],
    db: &mut [f32],
    mut into: Option<Into>,
) {
    let (x_len, chunk, width) = (kernels.x_len(), kernels.chunk(), padded(kernels.sizes.outputs));
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
            let dx_accumulate = into.as_ref().is_some_and(|into| into.accumulate);
            let dx = into.as_mut().map(|into| &mut into.dx[inside * x_len..][..(end - start) * x_len]);
            let ahead = [(x, x_len), (&after.y[..], y_len), (&after.g[..], out_len)];
            let ahead = ahead.map(|(all, len)| rest(all, end * len, chunk * len));
            let to = Gradients { dw: &mut *dw, du: &mut *du, accumulate: inside > 0, dx, dx_accumulate };
            kernels.backward(&x[start * x_len..end * x_len], g_y, to, memory, ahead);
            if let Some(Into { dx, summed: Some(Summed { tails, y, source, sums }), .. }) = &mut into {
                let sums_len = tails.sizes.moments();
                let images = dx[inside * x_len..]
                    .chunks_exact_mut(x_len)
                    .zip(sums[inside * sums_len..].chunks_exact_mut(sums_len));
                for (i, (g, sums)) in (start..end).zip(images) {
                    tails.mask(&x[i * x_len..][..x_len], g);
                    tails.gradient_sums(i, y, source, g, sums);
                }
            }
        }
        kernels.fold(du, dw);
    });
}
