//! What follows a convolution, with the buffers of a batch: batch norm → ReLU → 2×2 max-pooling, any of them absent
//! ([`tail`] has the kernels).
//!
//! In training, batch norm must see the whole batch before its first output, so a convolution leaves y and its moments.
//! The next convolution makes `out` of them, each image just before it reads it, so that it is in the cache
//! ([`Activation::finishing`]); for any other layer [`Activation::finish`] makes all of `out`. The backward pass is
//! alike: batch norm's gradient needs sums over the batch, and the next convolution computes those of an image right
//! after its ∂L/∂out ([`Activation::summing`]).

use rayon::prelude::*;

use super::Pass;
use super::kernels::padded;
use super::lanes::grow;
use super::norm::Norm;
use super::tail::{self, Tail};
use super::update::Sink;
use crate::network::Array;

/// What follows one convolution.
pub struct Activation {
    pub sizes: Sizes,
    /// Index of γ's tensor.
    pub norm: Option<usize>,
    norms: Vec<Norm>,
    /// y of the batch; per image its moments, which the backward pass replaces by the sums for the tail's gradient; and
    /// the x's that pooling chose.
    pub y: Vec<f32>,
    pub moments: Vec<f32>,
    source: Vec<f32>,
    /// The output, channels last with a border of zeros, and its gradient.
    pub out: Vec<f32>,
    pub g: Vec<f32>,
    /// A gradient of one value per channel.
    vector: Vec<f32>,
    /// Images of the batch, and of each view, which batch norm takes as a batch of its own.
    n: usize,
    of_view: usize,
    /// Whether `out` has been made; whether the sums have been, until the gradient consumes them.
    finished: bool,
    summed: bool,
}

/// The sizes of an [`Activation`]'s buffers for one image, in values.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Of y.
    channels: usize,
    side: usize,
    tail: Tail,
}

impl Sizes {
    pub fn y(self) -> usize {
        self.side * self.side * padded(self.channels)
    }

    pub fn source(self) -> usize {
        self.y() / (self.tail.stride() * self.tail.stride())
    }

    /// Border included.
    pub fn out(self) -> usize {
        let side = self.side / self.tail.stride() + 2;
        side * side * padded(self.channels)
    }

    /// Of the moments, or the sums.
    pub fn moments(self) -> usize {
        2 * padded(self.channels)
    }
}

/// The tail of a batch: [`tail`]'s kernels for its image `i`.
#[derive(Clone, Copy)]
pub struct Tails<'a> {
    pub sizes: Sizes,
    norms: &'a [Norm],
    of_view: usize,
}

/// An [`Activation`]'s buffers, each with all images of the batch, to be read and written image by image.
pub struct Buffers<'a> {
    pub tails: Tails<'a>,
    pub y: &'a [f32],
    pub source: &'a mut [f32],
    pub out: &'a mut [f32],
    pub g: &'a mut [f32],
    pub sums: &'a mut [f32],
}

impl Tails<'_> {
    /// From y to the output and to `source`, for the images from `first` on.
    pub fn forward(&self, first: usize, y: &[f32], out: &mut [f32], source: &mut [f32]) {
        let Sizes { tail, side, .. } = self.sizes;
        let results = out.chunks_exact_mut(self.sizes.out()).zip(source.chunks_exact_mut(self.sizes.source()));
        for (i, (y, (out, source))) in y.chunks_exact(self.sizes.y()).zip(results).enumerate() {
            tail::forward(tail, &self.norms[(first + i) / self.of_view], side, y, out, source);
        }
    }

    /// The sums of the gradient g = ∂L/∂out.
    pub fn gradient_sums(&self, i: usize, source: &[f32], g: &[f32], sums: &mut [f32]) {
        tail::gradient_sums(self.sizes.tail, &self.norms[i / self.of_view], self.sizes.side, source, g, sums);
    }

    /// From g = ∂L/∂out to ∂L/∂y.
    pub fn backward(&self, i: usize, y: &[f32], g: &[f32], g_y: &mut [f32]) {
        tail::backward(self.sizes.tail, &self.norms[i / self.of_view], self.sizes.side, y, g, g_y);
    }
}

impl Activation {
    /// The identity.
    pub fn new(channels: usize, side: usize) -> Activation {
        Activation {
            sizes: Sizes { channels, side, tail: Tail::default() },
            norm: None,
            norms: vec![],
            y: vec![],
            moments: vec![],
            source: vec![],
            out: vec![],
            g: vec![],
            vector: vec![],
            n: 0,
            of_view: 1,
            finished: false,
            summed: false,
        }
    }

    /// Adds batch norm with its first tensor.
    pub fn add_norm(&mut self, tensor: usize) -> bool {
        self.norm.replace(tensor).is_none() && !self.sizes.tail.relu && !self.sizes.tail.pool
    }

    pub fn add_relu(&mut self) -> bool {
        !std::mem::replace(&mut self.sizes.tail.relu, true) && !self.sizes.tail.pool
    }

    pub fn add_pool(&mut self) -> bool {
        self.sizes.side.is_multiple_of(2) && !std::mem::replace(&mut self.sizes.tail.pool, true)
    }

    /// Channels and side of the output.
    pub fn shape(&self) -> (usize, usize) {
        (self.sizes.channels, self.sizes.side / self.sizes.tail.stride())
    }

    /// Sizes the buffers for a batch.
    pub fn prepare(&mut self, pass: &Pass) {
        let (n, sizes) = (pass.n, self.sizes);
        (self.n, self.of_view, self.finished, self.summed) = (n, n / pass.views, false, false);
        self.norms.resize_with(pass.views.max(self.norms.len()), Norm::default);
        grow(&mut self.out, n * sizes.out());
        grow(&mut self.source, n * sizes.source());
        if pass.train.is_some() {
            grow(&mut self.y, n * sizes.y());
            grow(&mut self.moments, n * sizes.moments());
            grow(&mut self.g, n * sizes.out());
        }
    }

    /// Batch norm by its running statistics.
    pub fn set_running(&mut self, weights: &[Array]) {
        let width = padded(self.sizes.channels);
        self.norms.iter_mut().for_each(|norm| match self.norm {
            Some(tensor) => norm.set_running(width, &weights[tensor..tensor + 4]),
            None => norm.identity(width),
        });
    }

    /// Batch norm by the batch's moments; moves the running statistics.
    pub fn set_batch(&mut self, weights: &mut [Array]) {
        let (width, pixels) = (padded(self.sizes.channels), self.sizes.side * self.sizes.side);
        let of_views = self.moments[..self.n * 2 * width].chunks_exact(self.of_view * 2 * width);
        for (norm, moments) in self.norms.iter_mut().zip(of_views) {
            match self.norm {
                Some(tensor) => norm.set_batch(moments, width, pixels, &mut weights[tensor..tensor + 4]),
                None => norm.identity(width),
            }
        }
    }

    fn buffers(&mut self) -> Buffers<'_> {
        let (n, sizes) = (self.n, self.sizes);
        Buffers {
            tails: Tails { sizes, norms: &self.norms, of_view: self.of_view },
            y: self.y.get(..n * sizes.y()).unwrap_or_default(),
            source: &mut self.source[..n * sizes.source()],
            out: &mut self.out[..n * sizes.out()],
            g: self.g.get_mut(..n * sizes.out()).unwrap_or_default(),
            sums: self.moments.get_mut(..n * sizes.moments()).unwrap_or_default(),
        }
    }

    /// The batch's tail.
    pub fn tails(&self) -> Tails<'_> {
        Tails { sizes: self.sizes, norms: &self.norms, of_view: self.of_view }
    }

    /// For the caller that now makes `out` and `source` of every image.
    pub fn finishing(&mut self) -> Buffers<'_> {
        self.finished = true;
        self.buffers()
    }

    /// For the caller that now makes `g` and its sums of every image.
    pub fn summing(&mut self) -> Buffers<'_> {
        self.summed = true;
        self.buffers()
    }

    /// Makes `out`, unless that is done.
    pub fn finish(&mut self) -> &[f32] {
        let sizes = self.sizes;
        if !self.finished {
            let Buffers { tails, y, source, out, .. } = self.finishing();
            let images = out.par_chunks_exact_mut(sizes.out()).zip(source.par_chunks_exact_mut(sizes.source()));
            images.zip(y.par_chunks_exact(sizes.y())).enumerate().for_each(|(i, ((out, source), y))| {
                tails.forward(i, y, out, source);
            });
        }
        &self.out
    }

    /// Batch norm's gradients from `g`, and what [`Tails::backward`] needs of them.
    pub fn gradient(&mut self, sink: &mut Sink) {
        let Some(tensor) = self.norm else { return };
        let sizes = self.sizes;
        if !std::mem::take(&mut self.summed) {
            let Buffers { tails, source, g, sums, .. } = self.buffers();
            let images = source.par_chunks_exact(sizes.source()).zip(g.par_chunks_exact(sizes.out()));
            sums.par_chunks_exact_mut(sizes.moments()).zip(images).enumerate().for_each(|(i, (sums, (source, g)))| {
                tails.gradient_sums(i, source, g, sums);
            });
        }
        let of_views = self.moments[..self.n * sizes.moments()].chunks_exact(self.of_view * sizes.moments());
        for (norm, sums) in self.norms.iter_mut().zip(of_views) {
            norm.set_gradient(sums, self.sizes.side * self.sizes.side);
        }
        self.vector.resize(self.sizes.channels, 0.0);
        for which in 0..2 {
            let norms = &self.norms[..self.n / self.of_view];
            self.vector.iter_mut().enumerate().for_each(|(c, g)| *g = Norm::gradient(norms, which, c));
            sink.take(tensor + which, &self.vector);
        }
    }
}
