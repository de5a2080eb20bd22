//! What follows a convolution, with the buffers of a batch: batch norm → ReLU → 2×2 max-pooling, any of them absent
//! ([`tail`] has the kernels).
//!
//! In training, batch norm must see the whole batch before its first output, so a convolution leaves y and its moments.
//! The next convolution makes `out` of them, each image just before it reads it, so that it is in the cache
//! ([`Activation::finishing`]); for any other layer [`Activation::finish`] makes all of `out`. The backward pass is
//! alike: batch norm's gradient needs sums over the batch, and the next convolution computes those of an image right
//! after its ∂L/∂out ([`Activation::summing`]).

use rayon::prelude::*;

use super::chain::{Group, Pass};
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
    /// Of the batch: batch norm takes each as a batch of its own.
    groups: Vec<Group>,
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
    /// One for each group.
    norms: &'a [Norm],
    groups: &'a [Group],
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
    /// Of an image's group.
    fn norm(&self, i: usize) -> &Norm {
        let group = self.groups.iter().position(|group| i < group.examples.end);
        &self.norms[group.expect("an image of the batch")]
    }

    /// From y to the output and to `source`, for the images from `first` on.
    pub fn forward(&self, first: usize, y: &[f32], out: &mut [f32], source: &mut [f32]) {
        let Sizes { tail, side, .. } = self.sizes;
        let results = out.chunks_exact_mut(self.sizes.out()).zip(source.chunks_exact_mut(self.sizes.source()));
        for (i, (y, (out, source))) in y.chunks_exact(self.sizes.y()).zip(results).enumerate() {
            tail::forward(tail, self.norm(first + i), side, y, out, source);
        }
    }

    /// The sums of the gradient g = ∂L/∂out.
    pub fn gradient_sums(&self, i: usize, source: &[f32], g: &[f32], sums: &mut [f32]) {
        tail::gradient_sums(self.sizes.tail, self.norm(i), self.sizes.side, source, g, sums);
    }

    /// From g = ∂L/∂out to ∂L/∂y.
    pub fn backward(&self, i: usize, y: &[f32], g: &[f32], g_y: &mut [f32]) {
        tail::backward(self.sizes.tail, self.norm(i), self.sizes.side, y, g, g_y);
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
            groups: vec![],
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
        (self.finished, self.summed) = (false, false);
        self.groups.clear();
        self.groups.extend_from_slice(pass.groups);
        self.norms.resize_with(pass.groups.len().max(self.norms.len()), Norm::default);
        grow(&mut self.out, n * sizes.out());
        grow(&mut self.source, n * sizes.source());
        if pass.train {
            grow(&mut self.y, n * sizes.y());
            grow(&mut self.moments, n * sizes.moments());
            grow(&mut self.g, n * sizes.out());
        }
    }

    /// Images of the batch.
    fn n(&self) -> usize {
        self.groups.last().map_or(0, |group| group.examples.end)
    }

    /// Whether a shift of image `i` before batch norm changes anything: batch norm by the batch's own statistics removes it.
    pub fn feels_shift(&self, i: usize) -> bool {
        let in_eval = |group: &Group| group.examples.contains(&i) && group.train.is_none();
        self.norm.is_none() || self.groups.iter().any(in_eval)
    }

    /// Batch norm by its running statistics, for all groups.
    pub fn set_running(&mut self, weights: &[Array]) {
        let width = padded(self.sizes.channels);
        self.norms.iter_mut().for_each(|norm| match self.norm {
            Some(tensor) => norm.set_running(width, &weights[tensor..tensor + 4]),
            None => norm.identity(width),
        });
    }

    /// Batch norm by the moments of each group in train mode, which move the running statistics; of one in eval mode by
    /// those, as they were before.
    pub fn set_batch(&mut self, weights: &mut [Array]) {
        let (width, pixels) = (padded(self.sizes.channels), self.sizes.side * self.sizes.side);
        let Some(tensor) = self.norm else { return self.norms.iter_mut().for_each(|norm| norm.identity(width)) };
        let tensors = &mut weights[tensor..tensor + 4];
        for (norm, _) in self.norms.iter_mut().zip(&self.groups).filter(|(_, group)| group.train.is_none()) {
            norm.set_running(width, tensors);
        }
        for (norm, group) in self.norms.iter_mut().zip(&self.groups).filter(|(_, group)| group.train.is_some()) {
            let images = group.examples.start * 2 * width..group.examples.end * 2 * width;
            norm.set_batch(&self.moments[images], width, pixels, tensors);
        }
    }

    fn buffers(&mut self) -> Buffers<'_> {
        let (n, sizes) = (self.n(), self.sizes);
        Buffers {
            tails: Tails { sizes, norms: &self.norms, groups: &self.groups },
            y: self.y.get(..n * sizes.y()).unwrap_or_default(),
            source: &mut self.source[..n * sizes.source()],
            out: &mut self.out[..n * sizes.out()],
            g: self.g.get_mut(..n * sizes.out()).unwrap_or_default(),
            sums: self.moments.get_mut(..n * sizes.moments()).unwrap_or_default(),
        }
    }

    /// The batch's tail.
    pub fn tails(&self) -> Tails<'_> {
        Tails { sizes: self.sizes, norms: &self.norms, groups: &self.groups }
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
        for (norm, group) in self.norms.iter_mut().zip(&self.groups) {
            let images = group.examples.start * sizes.moments()..group.examples.end * sizes.moments();
            norm.set_gradient(&self.moments[images], sizes.side * sizes.side, group.train.is_some());
        }
        self.vector.resize(self.sizes.channels, 0.0);
        for which in 0..2 {
            let norms = &self.norms[..self.groups.len()];
            self.vector.iter_mut().enumerate().for_each(|(c, g)| *g = Norm::gradient(norms, which, c));
            sink.take(tensor + which, &self.vector);
        }
    }
}
