//! The kernels' memory: lanes of values, buffers that grow, a scratch buffer per thread.

use std::cell::Cell;

use rayon::iter::repeat_n;
use rayon::prelude::*;

/// Values that kernels process at once. Channels of images are padded with zeros to a multiple of it.
pub const LANES: usize = 16;

/// [`LANES`] neighbouring values.
pub type Lanes = [f32; LANES];

/// The lanes of `values`, whose length is a multiple of [`LANES`].
#[inline(always)]
pub fn lanes(values: &[f32]) -> &[Lanes] {
    values.as_chunks().0
}

/// [`lanes`], mutable.
#[inline(always)]
pub fn lanes_mut(values: &mut [f32]) -> &mut [Lanes] {
    values.as_chunks_mut().0
}

/// a + b, lane by lane.
#[inline(always)]
pub fn add(mut a: Lanes, b: Lanes) -> Lanes {
    for l in 0..LANES {
        a[l] += b[l];
    }
    a
}

/// a − b, lane by lane.
#[inline(always)]
pub fn sub(mut a: Lanes, b: Lanes) -> Lanes {
    for l in 0..LANES {
        a[l] -= b[l];
    }
    a
}

/// a · b, lane by lane.
#[inline(always)]
pub fn mul(mut a: Lanes, b: Lanes) -> Lanes {
    for l in 0..LANES {
        a[l] *= b[l];
    }
    a
}

/// Lends `len` values of this thread's scratch memory, not cleared. It only grows, so that a steady step allocates
/// nothing.
pub fn scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static SCRATCH: Cell<Vec<f32>> = const { Cell::new(Vec::new()) };
    }
    let mut values = SCRATCH.take();
    if values.len() < len {
        values.resize(len, 0.0);
    }
    let result = f(&mut values[..len]);
    SCRATCH.set(values);
    result
}

/// Grows `values` to at least `len`; what is there stays.
pub fn grow(values: &mut Vec<f32>, len: usize) {
    values.resize(values.len().max(len), 0.0);
}

/// Up to `len` values from `at` on, as many as there are.
pub fn rest(values: &[f32], at: usize, len: usize) -> &[f32] {
    values.get(at..).map_or(&[], |rest| &rest[..len.min(rest.len())])
}

/// `count` chunks of `values`, or `count` times `None` where it is empty.
pub fn chunks_or_none(
    values: &mut [f32],
    size: usize,
    count: usize,
) -> impl IndexedParallelIterator<Item = Option<&mut [f32]>> {
    values.par_chunks_mut(size).map(Some).chain(repeat_n((), count).map(|()| None)).take(count)
}
