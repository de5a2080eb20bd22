//! Augmentations: draws as plain values, applied by pure functions to `u8` images with Pillow's arithmetic.
//!
//! An image is [3, side, side]: three planes, row by row, of a side from 16 to 128. A [`View`], a [`Pretext`] or a
//! [`Transformation`] describes all that is done to one image; drawing it takes a random stream, applying it does not.

mod affine;
mod any;
mod augmentation;
mod color;
mod crop;
mod geometry;
mod hue;
mod levels;
mod operation;
mod place;
mod pretext;
mod view;

pub use affine::{Matrix, affine, rotation, shear_along_x, shear_along_y, translation};
pub use augmentation::{Augmentation, Draws, Flip, Transformation};
pub use color::{brightness, contrast, grayscale, invert, saturation};
pub use crop::{CropBox, resized_crop};
pub use geometry::{flip, quarter_turns, shear_x};
pub use hue::hue;
pub use levels::{autocontrast, equalize, posterize, sharpness, solarize};
pub use operation::Operation;
pub use place::{GRAY, Square, cutout, shift};
pub use pretext::{Color, Pretext, SHEARS};
pub use view::{Adjustment, Jitter, View, jitter};

use rayon::prelude::*;

use crate::data::{CHANNELS, Dataset, IMAGE, MAX_SIDE, SIDE};
use crate::rng::{Purpose, Stream};
use crate::simd::simd;

const PLANE: usize = SIDE * SIDE;
/// One channel of an image of CIFAR, row by row.
type Plane = [u8; PLANE];

/// The side of an image.
///
/// # Panics
/// If it is not three square planes.
#[inline(always)]
fn side_of(image: &[u8]) -> usize {
    if image.len() == IMAGE {
        return SIDE;
    }
    let side = (image.len() / CHANNELS).isqrt();
    assert!((1..=MAX_SIDE).contains(&side) && image.len() == CHANNELS * side * side, "{} bytes", image.len());
    side
}

/// `make` with room for an image of `len` bytes on the stack, of any side.
///
/// # Panics
/// If that is more than an image can have.
pub fn with_image<T>(len: usize, make: impl FnOnce(&mut [u8]) -> T) -> T {
    match len {
        // To clear the largest would take as long as what is done to this one.
        IMAGE => make(&mut [0; IMAGE]),
        _ => make(&mut [0; CHANNELS * MAX_SIDE * MAX_SIDE][..len]),
    }
}

/// `apply` to each plane of `image` and of `out`.
///
/// # Panics
/// If they differ in size.
#[inline(always)]
fn each_plane(image: &[u8], side: usize, out: &mut [u8], apply: impl Fn(&[u8], &mut [u8])) {
    assert_eq!(image.len(), out.len(), "an image of {side} × {side} pixels");
    image.chunks_exact(side * side).zip(out.chunks_exact_mut(side * side)).for_each(|(plane, out)| apply(plane, out));
}

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

/// Writes the images at `indices` as network input into `out`, [n, 3, side, side].
///
/// # Panics
/// If `out` is not for as many images, or an index is out of range.
pub fn plain_batch(data: &Dataset, indices: &[u32], out: &mut [f32]) {
    batch(data, indices, out, |index, out| to_input(data.image(index as usize), out)).collect()
}

/// Writes one SimSiam view of each image at `indices` as network input into `out`, [n, 3, side, side]; `purpose` says
/// whether it is the first or the second view.
///
/// # Panics
/// If `out` is not for as many images, or an index is out of range.
pub fn view_batch(data: &Dataset, indices: &[u32], seed: u64, purpose: Purpose, epoch: u32, out: &mut [f32]) {
    batch(data, indices, out, |index, out| {
        let view = View::draw(&mut Stream::new(seed, purpose, epoch, index), data.side);
        with_image(data.image_len(), |image| {
            view.apply(data.image(index as usize), image);
            to_input(image, out);
        })
    })
    .collect()
}

/// Draws a pretext transformation for each image at `indices`, into `draws`, which is cleared first, and writes the
/// transformed images as network input into `out`, [n, 3, side, side]. `purpose` is [`Purpose::Pretext`] or
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
    batch(data, indices, out, |index, out| {
        let draw = Pretext::draw(&mut Stream::new(seed, purpose, epoch, index));
        with_image(data.image_len(), |image| {
            draw.apply(data.image(index as usize), image);
            to_input(image, out);
        });
        draw
    })
    .collect_into_vec(draws)
}

/// `make(index, out)` for each of `indices`, in parallel; each writes only its own image.
///
/// # Panics
/// If `out` is not for as many images.
fn batch<T: Send>(
    data: &Dataset,
    indices: &[u32],
    out: &mut [f32],
    make: impl Fn(u32, &mut [f32]) -> T + Sync + Send,
) -> impl IndexedParallelIterator<Item = T> {
    let len = data.image_len();
    assert_eq!(out.len(), indices.len() * len, "a batch of {} images", indices.len());
    // An image takes some microseconds, about as long as waking a thread.
    indices.par_iter().zip(out.par_chunks_exact_mut(len)).with_min_len(8).map(move |(&index, out)| make(index, out))
}
