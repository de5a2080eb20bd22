//! Random resized crop: torchvision's choice of the box, Pillow's bilinear resampling.

use std::sync::LazyLock;

use super::geometry::transpose;
use super::{PLANE, Plane, planes, planes_mut, simd};
use crate::data::SIDE;
use crate::rng::Stream;

/// A box inside the image, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CropBox {
    pub top: usize,
    pub left: usize,
    pub height: usize,
    pub width: usize,
}

impl CropBox {
    /// The whole image.
    pub const WHOLE: CropBox = CropBox { top: 0, left: 0, height: SIDE, width: SIDE };

    /// torchvision's `RandomResizedCrop.get_params`: an area of 0.2 to 1 of the image and a log-uniform ratio of
    /// 3/4 to 4/3; after ten boxes that do not fit, the centre (of a square image: all of it).
    pub fn draw(stream: &mut Stream) -> CropBox {
        let area = (SIDE * SIDE) as f64;
        let log_ratio = libm::logf(4.0 / 3.0);
        for _ in 0..10 {
            let target = area * f64::from(stream.uniform(0.2, 1.0));
            let ratio = f64::from(libm::expf(stream.uniform(-log_ratio, log_ratio)));
            let width = (target * ratio).sqrt().round_ties_even() as usize;
            let height = (target / ratio).sqrt().round_ties_even() as usize;
            if (1..=SIDE).contains(&width) && (1..=SIDE).contains(&height) {
                let top = stream.below((SIDE - height + 1) as u32) as usize;
                let left = stream.below((SIDE - width + 1) as u32) as usize;
                return CropBox { top, left, height, width };
            }
        }
        CropBox::WHOLE
    }
}

simd! {
    /// The box of `image`, resized to 32×32 with Pillow's antialiased bilinear filter (`ImagingResample`: two passes,
    /// 22-bit fixed-point weights, 8-bit rows between them).
    ///
    /// # Panics
    /// If the box is empty or reaches outside the image.
    pub fn resized_crop(image: &[u8], crop: CropBox, out: &mut [u8]) {
        let CropBox { top, left, height, width } = crop;
        assert!(height > 0 && width > 0 && top + height <= SIDE && left + width <= SIDE, "{crop:?} is not inside");
        let (columns, rows) = (&TAPS[width - 1], &TAPS[height - 1]);
        for (plane, out) in planes(image).iter().zip(planes_mut(out)) {
            // Whole rows at a time in both passes: the first goes along x, so it sees the plane transposed.
            let wide = transpose(&resampled_rows(&transpose(plane), left, columns));
            *out = resampled_rows(&wide, top, rows);
        }
    }
}

/// Each result is the weighted sum of two neighbouring rows, the first of which is `start` further down than its tap
/// says.
#[inline(always)]
fn resampled_rows(plane: &Plane, start: usize, taps: &Taps) -> Plane {
    let rows = plane.as_chunks::<SIDE>().0;
    let mut out = [0; PLANE];
    for (out, Tap { first, second, weights: [a, b] }) in out.as_chunks_mut::<SIDE>().0.iter_mut().zip(taps) {
        for ((out, x), y) in out.iter_mut().zip(&rows[start + first]).zip(&rows[start + second]) {
            // The weights sum to 2^BITS, give or take one: there is nothing to cut.
            *out = ((a * i32::from(*x) + b * i32::from(*y) + (1 << (BITS - 1))) >> BITS) as u8;
        }
    }
    out
}

/// Fractional bits of a weight: Pillow's `PRECISION_BITS`.
const BITS: u32 = 32 - 8 - 2;

/// A result's two source pixels and their fixed-point weights. At an edge, and where one pixel is the result, the
/// second's weight is 0.
#[derive(Clone, Copy, Debug)]
struct Tap {
    first: usize,
    second: usize,
    weights: [i32; 2],
}

type Taps = [Tap; SIDE];

/// The taps from 1, 2, …, 32 pixels to 32.
static TAPS: LazyLock<[Taps; SIDE]> = LazyLock::new(|| std::array::from_fn(|i| taps(i + 1)));

/// The triangle filter from `from` ≤ 32 pixels to 32 (Pillow's `precompute_coeffs` and `normalize_coeffs_8bpc`).
fn taps(from: usize) -> Taps {
    let scale = from as f64 / SIDE as f64;
    std::array::from_fn(|i| {
        let center = (i as f64 + 0.5) * scale;
        let first = (center - 1.0 + 0.5).max(0.0) as usize;
        let end = ((center + 1.0 + 0.5) as usize).min(from);
        let triangle = |k: usize| (1.0 - (k as f64 - center + 0.5).abs()).max(0.0);
        let sum: f64 = (first..end).map(triangle).sum();
        let fixed = |k: usize| (0.5 + triangle(k) / sum * f64::from(1u32 << BITS)) as i32;
        // Pillow sums over first..end, three pixels at most. The triangle is as wide as two: one weight of three is 0.
        let first = (first..end).find(|&k| fixed(k) > 0).expect("the nearest pixel has a weight");
        let second = (first + 1).min(end - 1);
        Tap { first, second, weights: [fixed(first), if second > first { fixed(second) } else { 0 }] }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pillow's three weights, before the one that is 0 was left out.
    #[test]
    fn two_taps_hold_all_the_weight_of_pillow_s_three() {
        for from in 1..=SIDE {
            let scale = from as f64 / SIDE as f64;
            for (i, tap) in TAPS[from - 1].iter().enumerate() {
                let center = (i as f64 + 0.5) * scale;
                let first = (center - 1.0 + 0.5).max(0.0) as usize;
                let count = ((center + 1.0 + 0.5) as usize).min(from) - first;
                assert!(count <= 3);
                let mut weights = [0.0; 3];
                for (k, weight) in weights.iter_mut().enumerate().take(count) {
                    *weight = (1.0 - ((first + k) as f64 - center + 0.5).abs()).max(0.0);
                }
                let sum: f64 = weights.iter().sum();
                let mut ours = [0; 3];
                ours[tap.first - first] += tap.weights[0];
                ours[tap.second - first] += tap.weights[1];
                assert_eq!(ours, weights.map(|w| (0.5 + w / sum * f64::from(1u32 << BITS)) as i32), "{from}, {i}");
                assert!(ours.iter().sum::<i32>().abs_diff(1 << BITS) <= 1);
            }
        }
    }
}
