//! Augmentations: draws as plain values, applied by pure functions to `u8` images with Pillow's arithmetic.
//!
//! An image is [3, 32, 32]: three planes of 32 rows. A [`View`] or a [`Pretext`] says all that is done to one image;
//! drawing it takes a random stream, applying it takes none.

mod color;
mod crop;
mod geometry;
mod pretext;
mod view;

pub use color::{brightness, contrast, grayscale, hue, invert, saturation};
pub use crop::{CropBox, resized_crop};
pub use geometry::{flip, quarter_turns, shear_x};
pub use pretext::{Color, Pretext, SHEARS};
pub use view::{Adjustment, Jitter, View};

use rayon::prelude::*;

use crate::data::{Dataset, IMAGE};
use crate::rng::{Purpose, Stream};

/// A batch's images scaled to network input, [n, 3, 32, 32]: (x/255 − 0.5)/0.5 as PyTorch computes it in `f32`.
pub fn to_input(images: &[u8]) -> Vec<f32> {
    let scaled: [f32; 256] = std::array::from_fn(|x| (x as f32 / 255.0 - 0.5) / 0.5);
    images.iter().map(|&x| scaled[usize::from(x)]).collect()
}

/// The images at `indices`, as network input.
pub fn plain_batch(data: &Dataset, indices: &[u32]) -> Vec<f32> {
    batch(data, indices, |_, image, out| out.copy_from_slice(image))
}

/// One SimSiam view of each image at `indices`, as network input; `purpose` says the first or the second.
pub fn view_batch(data: &Dataset, indices: &[u32], seed: u64, purpose: Purpose, epoch: u32) -> Vec<f32> {
    batch(data, indices, |index, image, out| {
        View::draw(&mut Stream::new(seed, purpose, epoch, index)).apply(image, out);
    })
}

/// The pretext draw of each image at `indices`, and the transformed images as network input.
pub fn pretext_batch(
    data: &Dataset,
    indices: &[u32],
    seed: u64,
    purpose: Purpose,
    epoch: u32,
) -> (Vec<f32>, Vec<Pretext>) {
    let draw = |index| Pretext::draw(&mut Stream::new(seed, purpose, epoch, index));
    let images = batch(data, indices, |index, image, out| draw(index).apply(image, out));
    (images, indices.iter().map(|&index| draw(index)).collect())
}

/// `transform(index, image, out)` for each of `indices`, in parallel; each writes only its own image.
fn batch(data: &Dataset, indices: &[u32], transform: impl Fn(u32, &[u8], &mut [u8]) + Sync) -> Vec<f32> {
    let mut out = vec![0; indices.len() * IMAGE];
    out.par_chunks_exact_mut(IMAGE).zip(indices).for_each(|(out, &index)| {
        transform(index, data.image(index as usize), out);
    });
    to_input(&out)
}
