//! Augmentations: draws as plain values, applied by pure functions to `u8` images with Pillow's arithmetic.
//!
//! An image is [3, 32, 32]: three planes of 32 rows. A [`View`] or a [`Pretext`] describes all that is done to one
//! image; drawing it takes a random stream, applying it does not.

mod color;
mod crop;
mod geometry;
mod hue;
mod pretext;
mod view;

pub use color::{brightness, contrast, grayscale, invert, saturation};
pub use crop::{CropBox, resized_crop};
pub use geometry::{flip, quarter_turns, shear_x};
pub use hue::hue;
pub use pretext::{Color, Pretext, SHEARS};
pub use view::{Adjustment, Jitter, View};

use rayon::prelude::*;

use crate::data::{Dataset, IMAGE, SIDE};
use crate::rng::{Purpose, Stream};
use crate::simd::simd;

const PLANE: usize = SIDE * SIDE;
/// One channel, row by row.
type Plane = [u8; PLANE];

#[inline(always)]
fn planes(image: &[u8]) -> &[Plane] {
    image.as_chunks().0
}

#[inline(always)]
fn planes_mut(image: &mut [u8]) -> &mut [Plane] {
    image.as_chunks_mut().0
}

simd! {
    /// Images scaled to network input: (x/255 − 0.5)/0.5 as PyTorch computes it in `f32`.
    pub fn to_input(images: &[u8], out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(images) {
            *out = (f32::from(x) / 255.0 - 0.5) / 0.5;
        }
    }
}

/// Writes the images at `indices` as network input into `out`, [n, 3, 32, 32].
///
/// # Panics
/// If `out` is not for as many images, or an index is out of range.
pub fn plain_batch(data: &Dataset, indices: &[u32], out: &mut [f32]) {
    batch(indices, out, |index, out| to_input(data.image(index as usize), out)).collect()
}

/// Writes one SimSiam view of each image at `indices` as network input into `out`, [n, 3, 32, 32]; `purpose` says
/// whether it is the first or the second view.
///
/// # Panics
/// If `out` is not for as many images, or an index is out of range.
pub fn view_batch(data: &Dataset, indices: &[u32], seed: u64, purpose: Purpose, epoch: u32, out: &mut [f32]) {
    batch(indices, out, |index, out| {
        let mut image = [0; IMAGE];
        View::draw(&mut Stream::new(seed, purpose, epoch, index)).apply(data.image(index as usize), &mut image);
        to_input(&image, out);
    })
    .collect()
}

/// Draws a pretext transformation for each image at `indices`, into `draws`, which is cleared first, and writes the
/// transformed images as network input into `out`, [n, 3, 32, 32]. `purpose` is [`Purpose::Pretext`] or
/// [`Purpose::PretextTest`].
///
/// # Panics
/// If `out` is not for as many images, or an index is out of range.
pub fn pretext_batch(
    data: &Dataset,
    indices: &[u32],
    seed: u64,
    purpose: Purpose,
    epoch: u32,
    out: &mut [f32],
    draws: &mut Vec<Pretext>,
) {
    batch(indices, out, |index, out| {
        let mut image = [0; IMAGE];
        let draw = Pretext::draw(&mut Stream::new(seed, purpose, epoch, index));
        draw.apply(data.image(index as usize), &mut image);
        to_input(&image, out);
        draw
    })
    .collect_into_vec(draws)
}

/// `make(index, out)` for each of `indices`, in parallel; each writes only its own image.
///
/// # Panics
/// If `out` is not for as many images.
fn batch<T: Send>(
    indices: &[u32],
    out: &mut [f32],
    make: impl Fn(u32, &mut [f32]) -> T + Sync + Send,
) -> impl IndexedParallelIterator<Item = T> {
    assert_eq!(out.len(), indices.len() * IMAGE, "a batch of {} images", indices.len());
    // An image takes some microseconds, about as long as waking a thread.
    indices.par_iter().zip(out.par_chunks_exact_mut(IMAGE)).with_min_len(8).map(move |(&index, out)| make(index, out))
}
