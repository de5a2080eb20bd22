//! Random resized crop: torchvision's choice of the box, Pillow's bilinear resampling.

use super::geometry::transpose;
use super::{PLANE, Plane, any, each_plane, planes, planes_mut, side_of};
use crate::data::SIDE;
use crate::rng::Stream;
use crate::simd::simd;

/// A box inside the image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropBox {
    /// The first row, from 0.
    pub top: usize,
    /// The first column, from 0.
    pub left: usize,
    /// Rows, at least 1.
    pub height: usize,
    /// Columns, at least 1.
    pub width: usize,
}

impl CropBox {
    /// The whole image.
    pub fn whole(side: usize) -> CropBox {
        CropBox { top: 0, left: 0, height: side, width: side }
    }

    /// SimSiam's: an area of 0.2 to 1 of the image ([`CropBox::draw_area`]).
    pub fn draw(stream: &mut Stream, side: usize) -> CropBox {
        CropBox::draw_area(stream, side, [0.2, 1.0])
    }

    /// torchvision's `RandomResizedCrop.get_params`: a share of the image's area between two and a log-uniform aspect ratio of
    /// 3/4 to 4/3; after ten boxes that do not fit, the centre, which is all of a square image.
    pub fn draw_area(stream: &mut Stream, side: usize, [least, most]: [f32; 2]) -> CropBox {
        let area = (side * side) as f64;
        let log_ratio = libm::logf(4.0 / 3.0);
        for _ in 0..10 {
            let target = area * f64::from(stream.uniform(least, most));
            let ratio = f64::from(libm::expf(stream.uniform(-log_ratio, log_ratio)));
            let width = (target * ratio).sqrt().round_ties_even() as usize;
            let height = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=side).contains(&width) && (1..=side).contains(&height) {
                let top = stream.below((side - height + 1) as u32) as usize;
                let left = stream.below((side - width + 1) as u32) as usize;
                return CropBox { top, left, height, width };
            }
        }
        CropBox::whole(side)
    }
}

simd! {
    /// The box of `image`, [3, side, side], resized to its size with Pillow's antialiased bilinear filter (`ImagingResample`: two
    /// passes, 22-bit fixed-point weights, 8-bit rows between them).
    ///
    /// # Panics
    /// If the box is empty or reaches outside the image, or `out` is not of the image's size.
    pub fn resized_crop(image: &[u8], crop: CropBox, out: &mut [u8]) {
        let CropBox { top, left, height, width } = crop;
        let side = side_of(image);
        assert!(height > 0 && width > 0 && top + height <= side && left + width <= side, "{crop:?} is not inside");
        if side != SIDE {
            return each_plane(image, side, out, |plane, out| any::resized_crop(plane, side, crop, out));
        }
        for (plane, out) in planes(image).iter().zip(planes_mut(out)) {
            // Both passes work on whole rows: the first is along x, so it gets the plane transposed.
            let mut columns = [0; PLANE];
            resample_rows(&transpose(plane), left, width, &mut columns);
            resample_rows(&transpose(&columns), top, height, out);
        }
    }
}

/// Resamples the `from` rows from `start` on to 32.
#[inline(always)]
fn resample_rows(plane: &Plane, start: usize, from: usize, out: &mut Plane) {
    let rows = &plane.as_chunks::<SIDE>().0[start..][..from];
    for (i, out) in out.as_chunks_mut::<SIDE>().0.iter_mut().enumerate() {
        let ([first, second], [a, b]) = taps(i, from);
        for ((out, x), y) in out.iter_mut().zip(&rows[first]).zip(&rows[second]) {
            *out = ((a * u16::from(*x) + b * u16::from(*y) + 32) >> 6) as u8;
        }
    }
}

/// The two source pixels of output `i` of 32 and their weights, in 64ths.
///
/// From at most 32 pixels to 32, Pillow's triangle filter is plain interpolation between pixel centres, whose distances
/// are whole 64ths: of the weights' 22 bits, the upper 6 suffice.
#[inline(always)]
fn taps(i: usize, from: usize) -> ([usize; 2], [u16; 2]) {
    // The output's centre, relative to the first source pixel's.
    let center = ((2 * i + 1) * from).saturating_sub(32);
    let (first, beyond) = (center / 64, (center % 64) as u16);
    ([first, (first + 1).min(from - 1)], [64 - beyond, beyond])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`, for all sizes and results.
    #[test]
    fn taps_are_pillow_s_weights() {
        const BITS: u32 = 32 - 8 - 2; // its PRECISION_BITS
        for (from, i) in (1..=SIDE).flat_map(|from| (0..SIDE).map(move |i| (from, i))) {
            let center = (i as f64 + 0.5) * (from as f64 / SIDE as f64);
            let first = (center - 1.0 + 0.5).max(0.0) as usize;
            let end = ((center + 1.0 + 0.5) as usize).min(from);
            let mut pillow = [0.0; SIDE];
            for (k, weight) in pillow.iter_mut().enumerate().take(end).skip(first) {
                *weight = (1.0 - (k as f64 - center + 0.5).abs()).max(0.0);
            }
            let sum: f64 = pillow.iter().sum();
            let pillow = pillow.map(|w| (0.5 + w / sum * f64::from(1u32 << BITS)) as u32);
            let mut ours = [0; SIDE];
            let (pixels, weights) = taps(i, from);
            for (pixel, weight) in pixels.into_iter().zip(weights) {
                ours[pixel] += u32::from(weight) << (BITS - 6);
            }
            assert_eq!(ours, pillow, "{i} from {from}");
        }
    }
}
