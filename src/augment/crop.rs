//! Random resized crop: torchvision's choice of the box, Pillow's bilinear resampling.

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

/// The box of `image`, resized to 32×32 with Pillow's antialiased bilinear filter (`ImagingResample`: two passes,
/// 22-bit fixed-point weights, 8-bit rows between them).
///
/// # Panics
/// If the box is empty or reaches outside the image.
pub fn resized_crop(image: &[u8], crop: CropBox, out: &mut [u8]) {
    let CropBox { top, left, height, width } = crop;
    assert!(height > 0 && width > 0 && top + height <= SIDE && left + width <= SIDE, "{crop:?} is not inside");
    let columns = Taps::new(width);
    let rows = Taps::new(height);
    let mut wide = [0u8; SIDE * SIDE];
    for (plane, out) in image.chunks_exact(SIDE * SIDE).zip(out.chunks_exact_mut(SIDE * SIDE)) {
        let source = &plane[top * SIDE..(top + height) * SIDE];
        for (row, wide) in source.chunks_exact(SIDE).zip(wide.chunks_exact_mut(SIDE)) {
            for (x, out) in wide.iter_mut().enumerate() {
                *out = columns.sum(x, |i| row[left + i]);
            }
        }
        for (y, out) in out.chunks_exact_mut(SIDE).enumerate() {
            for (x, out) in out.iter_mut().enumerate() {
                *out = rows.sum(y, |i| wide[i * SIDE + x]);
            }
        }
    }
}

/// Fractional bits of a weight: Pillow's `PRECISION_BITS`.
const BITS: u32 = 32 - 8 - 2;
/// A crop is never larger than its result, so that the filter spans at most three pixels.
const SPAN: usize = 3;

/// For each of 32 results: the first source pixel, and the fixed-point weights from there.
struct Taps([(usize, [i32; SPAN]); SIDE]);

impl Taps {
    /// The triangle filter from `from` ≤ 32 pixels to 32 (Pillow's `precompute_coeffs` and
    /// `normalize_coeffs_8bpc`).
    fn new(from: usize) -> Taps {
        let scale = from as f64 / SIDE as f64;
        Taps(std::array::from_fn(|i| {
            let center = (i as f64 + 0.5) * scale;
            let first = (center - 1.0 + 0.5).max(0.0) as usize;
            let end = ((center + 1.0 + 0.5) as usize).min(from);
            let mut weights = [0.0; SPAN];
            for (k, weight) in weights.iter_mut().enumerate().take(end - first) {
                *weight = (1.0 - ((first + k) as f64 - center + 0.5).abs()).max(0.0);
            }
            let sum: f64 = weights.iter().sum();
            let fixed = |w: f64| (0.5 + w / sum * f64::from(1u32 << BITS)) as i32;
            (first, weights.map(fixed))
        }))
    }

    /// The weighted sum of result `i`, rounded to 8 bits.
    fn sum(&self, i: usize, source: impl Fn(usize) -> u8) -> u8 {
        let (first, weights) = &self.0[i];
        let taps = weights.iter().enumerate().filter(|(_, weight)| **weight != 0);
        let sum: i32 = taps.map(|(k, weight)| weight * i32::from(source(first + k))).sum();
        ((sum + (1 << (BITS - 1))) >> BITS).clamp(0, 255) as u8
    }
}
