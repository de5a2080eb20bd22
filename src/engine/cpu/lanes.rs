//! The kernels' memory: lanes of values, buffers that grow, a scratch buffer per thread.

use std::cell::Cell;
use std::ops::{Deref, DerefMut};

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

/// Values that begin with a cache line. An allocator gives large blocks whose address is a multiple of 16 bytes; then every
/// second to fourth vector that is loaded or stored lies in two lines.
#[derive(Debug, Default)]
pub struct Aligned {
    values: Vec<f32>,
    /// Values before the first line.
    skipped: usize,
}

impl Aligned {
    /// Bytes of a cache line.
    const LINE: usize = 64;

    /// No values.
    pub const fn new() -> Aligned {
        Aligned { values: Vec::new(), skipped: 0 }
    }

    /// At least `len` values from here on, zeros where there were none; what is there stays.
    pub fn grow(&mut self, len: usize) {
        if self.len() < len {
            let most = Aligned::LINE / size_of::<f32>() - 1;
            let mut values = vec![0.0; most + len];
            let skipped = values.as_ptr().align_offset(Aligned::LINE).min(most);
            values[skipped..][..self.len()].copy_from_slice(self);
            values.truncate(skipped + len);
            *self = Aligned { values, skipped };
        }
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values[self.skipped..]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.values[self.skipped..]
    }
}

/// Lends `len` values of this thread's scratch memory, not cleared. It only grows, so that a steady step allocates
/// nothing.
pub fn scratch<R>(len: usize, f: impl FnOnce(&mut [f32]) -> R) -> R {
    thread_local! {
        static SCRATCH: Cell<Aligned> = const { Cell::new(Aligned::new()) };
    }
    let mut values = SCRATCH.take();
    values.grow(len);
    let result = f(&mut values[..len]);
    SCRATCH.set(values);
    result
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_values_begin_with_a_line_and_stay_as_they_grow() {
        let mut values = Aligned::new();
        for len in [1, 3, 17, 16, 1000, 100_000] {
            let before = values.to_vec();
            values.grow(len);
            assert_eq!(values.as_ptr().addr() % 64, 0);
            assert_eq!(values.len(), len.max(before.len()));
            assert_eq!(values[..before.len()], before);
            assert!(values[before.len()..].iter().all(|value| *value == 0.0));
            values.fill(len as f32);
        }
    }
}
