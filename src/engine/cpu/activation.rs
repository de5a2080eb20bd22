//! What follows a convolution, with the buffers of a batch: batch norm → ReLU → 2×2 max-pooling, any of them absent; or
//! batch norm → residual sum → ReLU ([`tail`] has the kernels).
//!
//! In training, batch norm must see the whole batch before its first output, so a convolution leaves y and its moments.
//! The next convolution makes `out` of them, each image just before it reads it, so that it is in the cache
//! ([`Activation::finishing`]); for any other layer [`Activation::finish`] makes all of `out`. The backward pass is
//! alike: batch norm's gradient needs sums over the batch, and the next convolution computes those of an image right
//! after its ∂L/∂out ([`Activation::summing`]).

use rayon::prelude::*;

use super::chain::{Group, Pass};
use super::kernels::padded;
use super::lanes::{Aligned, chunks_or_none};
use super::norm::{self, Norm};
use super::tail::{self, Tail};
use super::update::Sink;
use crate::engine::shards::Shards;
use crate::network::Array;

/// What follows one convolution.
pub struct Activation {
    pub sizes: Sizes,
    /// Index of γ's tensor.
    pub norm: Option<usize>,
    /// One for each input.
    norms: Vec<Norm>,
    /// What batch norm sums over each shard and input.
    shard_sums: Vec<f64>,
    /// Whether another operation's output is added after the norm.
    sums: bool,
    /// y of the batch; per image its moments, which the backward pass replaces by the sums for the tail's gradient; and
    /// the x's that pooling chose.
    pub y: Aligned,
    pub moments: Aligned,
    source: Aligned,
    /// The output, channels last with a border of zeros, and its gradient.
    pub out: Aligned,
    pub g: Aligned,
    /// A gradient of one value per channel.
    vector: Vec<f32>,
    groups: Vec<Group>,
    /// Whether `out` has been made; whether the sums have been, until the gradient consumes them.
    finished: bool,
    summed: bool,
}

/// The sizes of an [`Activation`]'s buffers for one image, in values.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Of y, like the side.
    channels: usize,
    side: usize,
    tail: Tail,
}

impl Sizes {
    pub fn y(self) -> usize {
        self.side * self.side * padded(self.channels)
    }

    /// Nothing where y itself is the source.
    pub fn source(self) -> usize {
        if self.tail.pool { self.side / 2 * (self.side / 2) * padded(self.channels) } else { 0 }
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
    groups: &'a [Group],
    /// Whether something is added after the norm, so that [`tail::release`] takes what follows out of the gradient.
    sums: bool,
    /// What is added after the norm, of all images.
    added: Option<&'a [f32]>,
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
    /// Of an image's input.
    fn norm(&self, i: usize) -> &Norm {
        let group = self.groups.iter().find(|group| i < group.examples.end);
        &self.norms[group.expect("an image of the batch").input]
    }

    /// From y to the output and, where the tail pools, to `source`, for the images from `first` on.
    pub fn forward(&self, first: usize, y: &[f32], out: &mut [f32], source: &mut [f32]) {
        let Sizes { tail, side, .. } = self.sizes;
        let (out_len, source_len) = (self.sizes.out(), self.sizes.source());
        for (i, (y, out)) in y.chunks_exact(self.sizes.y()).zip(out.chunks_exact_mut(out_len)).enumerate() {
            let norm = self.norm(first + i);
            match self.added {
                Some(added) => {
                    tail::forward_sum(tail.relu, norm, side, y, &added[(first + i) * out_len..][..out_len], out);
                }
                None => tail::forward(tail, norm, side, y, out, &mut source[i * source_len..][..source_len]),
            }
        }
    }

    /// The tail whose gradient is still to be taken.
    fn left(&self) -> Tail {
        if self.sums { Tail::default() } else { self.sizes.tail }
    }

    /// Takes ReLU out of the gradient g of a residual sum `out`, as [`Activation::release`] does: for its sums.
    pub fn mask(&self, out: &[f32], g: &mut [f32]) {
        if self.sums {
            tail::release(self.sizes.tail.relu, out, g, &mut [], false);
        }
    }

    /// The sums of the gradient g = ∂L/∂out of image `i`, from all images' y, or sources where the tail pools.
    pub fn gradient_sums(&self, i: usize, y: &[f32], source: &[f32], g: &[f32], sums: &mut [f32]) {
        let (of, len) = match self.sizes.tail.pool {
            true => (source, self.sizes.source()),
            false => (y, self.sizes.y()),
        };
        tail::gradient_sums(self.left(), self.norm(i), self.sizes.side, &of[i * len..][..len], g, sums);
    }

    /// From g = ∂L/∂out to ∂L/∂y.
    pub fn backward(&self, i: usize, y: &[f32], g: &[f32], g_y: &mut [f32]) {
        tail::backward(self.left(), self.norm(i), self.sizes.side, y, g, g_y);
    }
}

impl Activation {
    /// The identity.
    pub fn new(channels: usize, side: usize) -> Activation {
        Activation {
            sizes: Sizes { channels, side, tail: Tail::default() },
            norm: None,
            norms: vec![],
            shard_sums: vec![],
            sums: false,
            y: Aligned::new(),
            moments: Aligned::new(),
            source: Aligned::new(),
            out: Aligned::new(),
            g: Aligned::new(),
            vector: vec![],
            groups: vec![],
            finished: false,
            summed: false,
        }
    }

    /// Adds batch norm with its first tensor.
    pub fn add_norm(&mut self, tensor: usize) -> bool {
        self.norm.replace(tensor).is_none() && !self.sizes.tail.relu && !self.sizes.tail.pool && !self.sums
    }

    /// Another operation's output, of the same shape, is to be added.
    pub fn add_sum(&mut self) -> bool {
        !std::mem::replace(&mut self.sums, true) && !self.sizes.tail.relu && !self.sizes.tail.pool
    }

    pub fn add_relu(&mut self) -> bool {
        !std::mem::replace(&mut self.sizes.tail.relu, true) && !self.sizes.tail.pool
    }

    pub fn add_pool(&mut self) -> bool {
        !std::mem::replace(&mut self.sizes.tail.pool, true) && !self.sums && self.sizes.side > 1
    }

    /// Sizes the buffers for a batch.
    pub fn prepare(&mut self, pass: &Pass) {
        let (n, sizes) = (pass.n, self.sizes);
        (self.finished, self.summed) = (false, false);
        self.groups.clear();
        self.groups.extend_from_slice(pass.groups);
        self.norms.resize_with(Group::inputs(pass.groups).max(self.norms.len()), Norm::default);
        self.out.grow(n * sizes.out());
        self.source.grow(n * sizes.source());
        if pass.train {
            self.y.grow(n * sizes.y());
            self.moments.grow(n * sizes.moments());
            self.g.grow(n * sizes.out());
        }
    }

    /// Of the batch.
    pub fn groups(&self) -> &[Group] {
        &self.groups
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

    /// Batch norm by its running statistics, for all inputs.
    pub fn set_running(&mut self, weights: &[Array]) {
        let width = padded(self.sizes.channels);
        self.norms.iter_mut().for_each(|norm| match self.norm {
            Some(tensor) => norm.set_running(width, &weights[tensor..tensor + 4]),
            None => norm.identity(width),
        });
    }

    /// Batch norm by the moments of each input in train mode, which move the running statistics; of one in eval mode by
    /// those, as they were before.
    pub fn set_batch(&mut self, weights: &mut [Array], shards: &mut Shards) {
        let Activation { sizes, norms, groups, moments, shard_sums, .. } = self;
        let (width, pixels) = (padded(sizes.channels), sizes.side * sizes.side);
        let Some(tensor) = self.norm else { return norms.iter_mut().for_each(|norm| norm.identity(width)) };
        let (tensors, inputs) = (&mut weights[tensor..tensor + 4], Group::inputs(groups));
        shard_sums.resize(shards.count() * inputs * 2 * width, 0.0);
        for group in groups.iter().filter(|group| group.train.is_some()) {
            let moments = &moments[group.examples.start * 2 * width..group.examples.end * 2 * width];
            let to = &mut shard_sums[(group.shard * inputs + group.input) * 2 * width..][..2 * width];
            norm::statistics(moments, width, sizes.channels, pixels, to);
        }
        shards.complete_sums(shard_sums);
        let groups = &groups[..inputs];
        for (norm, _) in norms.iter_mut().zip(groups).filter(|(_, group)| group.train.is_none()) {
            norm.set_running(width, tensors);
        }
        for (norm, group) in norms.iter_mut().zip(groups).filter(|(_, group)| group.train.is_some()) {
            let sums = group.sums(shard_sums, inputs, shards);
            norm.set_batch(width, sums.map(|(n, of)| ((n * pixels) as f64, of)), tensors);
        }
    }

    fn buffers<'a>(&'a mut self, added: Option<&'a [f32]>) -> Buffers<'a> {
        let (n, sizes) = (self.n(), self.sizes);
        Buffers {
            tails: Tails { sizes, norms: &self.norms, groups: &self.groups, sums: self.sums, added },
            y: self.y.get(..n * sizes.y()).unwrap_or_default(),
            source: &mut self.source[..n * sizes.source()],
            out: &mut self.out[..n * sizes.out()],
            g: self.g.get_mut(..n * sizes.out()).unwrap_or_default(),
            sums: self.moments.get_mut(..n * sizes.moments()).unwrap_or_default(),
        }
    }

    /// The batch's tail.
    pub fn tails(&self) -> Tails<'_> {
        let Activation { sizes, norms, groups, sums, .. } = self;
        Tails { sizes: *sizes, norms, groups, sums: *sums, added: None }
    }

    /// Whether `out` has been made.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// For the caller that now makes `out` and `source` of every image; `added` is what a residual sum adds.
    pub fn finishing<'a>(&'a mut self, added: Option<&'a [f32]>) -> Buffers<'a> {
        self.finished = true;
        self.buffers(added)
    }

    /// For the caller that now makes `g` of every image and, if it is `last` to add to it, its sums.
    pub fn summing(&mut self, last: bool) -> Buffers<'_> {
        self.summed = last;
        self.buffers(None)
    }

    /// Makes `out`, unless that is done.
    pub fn finish(&mut self, added: Option<&[f32]>) -> &[f32] {
        let sizes = self.sizes;
        if !self.finished {
            let Buffers { tails, y, source, out, .. } = self.finishing(added);
            let count = out.len() / sizes.out();
            let sources = chunks_or_none(source, sizes.source().max(1), count);
            let images = out.par_chunks_exact_mut(sizes.out()).zip(sources);
            images.zip(y.par_chunks_exact(sizes.y())).enumerate().for_each(|(i, ((out, source), y))| {
                tails.forward(i, y, out, source.unwrap_or_default());
            });
        }
        &self.out
    }

    /// Takes ReLU out of the gradient `g` of a residual sum, which goes `into` what was added, too, where that learns: added
    /// to what is there or not.
    pub fn release(&mut self, into: Option<(&mut [f32], bool)>) {
        let (relu, len, n) = (self.sizes.tail.relu, self.sizes.out(), self.n());
        let (into, accumulate) =
            into.map_or((&mut [][..], false), |(into, accumulate)| (&mut into[..n * len], accumulate));
        let images = self.g[..n * len].par_chunks_exact_mut(len).zip(self.out.par_chunks_exact(len));
        images.zip(chunks_or_none(into, len, n)).for_each(|((g, out), into)| {
            tail::release(relu, out, g, into.unwrap_or_default(), accumulate);
        });
    }

    /// Batch norm's gradients from `g`, and what [`Tails::backward`] needs of them.
    pub fn gradient(&mut self, sink: &mut Sink) {
        let Some(tensor) = self.norm else { return };
        let sizes = self.sizes;
        if !std::mem::take(&mut self.summed) {
            let Buffers { tails, y, source, g, sums, .. } = self.buffers(None);
            let (source, images) = (&*source, g.par_chunks_exact(sizes.out()));
            sums.par_chunks_exact_mut(sizes.moments()).zip(images).enumerate().for_each(|(i, (sums, g))| {
                tails.gradient_sums(i, y, source, g, sums);
            });
        }
        let Activation { norms, groups, moments, shard_sums, .. } = self;
        let (inputs, len) = (Group::inputs(groups), sizes.moments());
        shard_sums.resize(sink.shards.count() * inputs * len, 0.0);
        for group in &*groups {
            let to = &mut shard_sums[(group.shard * inputs + group.input) * len..][..len];
            norm::totals(&moments[group.examples.start * len..group.examples.end * len], to);
        }
        sink.shards.complete_sums(shard_sums);
        for (norm, group) in norms.iter_mut().zip(&groups[..inputs]) {
            let sums = group.sums(shard_sums, inputs, sink.shards).map(|(_, of)| of);
            let count = (group.of * sizes.side * sizes.side) as f64;
            norm.set_gradient(sums, count, group.train.is_some());
        }
        self.vector.resize(self.sizes.channels, 0.0);
        for which in 0..2 {
            let norms = &self.norms[..Group::inputs(&self.groups)];
            self.vector.iter_mut().enumerate().for_each(|(c, g)| *g = Norm::gradient(norms, which, c));
            sink.take(tensor + which, &self.vector);
        }
    }
}
