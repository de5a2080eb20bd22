//! Colour: Pillow's `ImageOps` and `ImageEnhance` on planar RGB.

use super::{PLANE, Plane, planes_mut};
use crate::simd::simd;

simd! {
    /// All three channels become the luma (`ImageOps.grayscale`, ITU-R 601-2). `image` is [3, 32, 32].
    ///
    /// # Panics
    /// If `image` has another length.
    pub fn grayscale(image: &mut [u8]) {
        pixels(image, |r, g, b| [luma(r, g, b); 3]);
    }

    /// x becomes 255 − x.
    pub fn invert(image: &mut [u8]) {
        image.iter_mut().for_each(|x| *x = 255 - *x);
    }

    /// Towards black for factors below 1 (`ImageEnhance.Brightness`).
    pub fn brightness(image: &mut [u8], factor: f32) {
        image.iter_mut().for_each(|x| *x = blend(0, *x, factor));
    }

    /// Towards the rounded mean luma for factors below 1 (`ImageEnhance.Contrast`). `image` is [3, 32, 32].
    ///
    /// # Panics
    /// If `image` has another length.
    pub fn contrast(image: &mut [u8], factor: f32) {
        let [red, green, blue] = channels(image);
        let lumas = red.iter().zip(green).zip(blue).map(|((r, g), b)| u32::from(luma(*r, *g, *b)));
        let mean = (lumas.sum::<u32>() + PLANE as u32 / 2) / PLANE as u32;
        image.iter_mut().for_each(|x| *x = blend(mean as u8, *x, factor));
    }

    /// Towards the grayscale image for factors below 1 (`ImageEnhance.Color`). `image` is [3, 32, 32].
    ///
    /// # Panics
    /// If `image` has another length.
    pub fn saturation(image: &mut [u8], factor: f32) {
        pixels(image, |r, g, b| {
            let l = luma(r, g, b);
            [r, g, b].map(|x| blend(l, x, factor))
        });
    }
}

#[inline(always)]
fn channels(image: &mut [u8]) -> &mut [Plane; 3] {
    planes_mut(image).as_mut_array().expect("an image has three planes")
}

/// Applies `f` to the three channels of every pixel.
#[inline(always)]
pub(super) fn pixels(image: &mut [u8], f: impl Fn(u8, u8, u8) -> [u8; 3]) {
    let [red, green, blue] = channels(image);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        [*r, *g, *b] = f(*r, *g, *b);
    }
}

/// ITU-R 601-2 luma, rounded: Pillow's conversion to mode L.
#[inline(always)]
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// `base` + `factor` · (x − `base`), truncated and clamped to 0..=255: Pillow's `Image.blend` in single precision.
#[inline(always)]
fn blend(base: u8, x: u8, factor: f32) -> u8 {
    let base = i32::from(base);
    // A larger factor would leave 0..=255 all the same.
    let factor = factor.clamp(-8192.0, 8192.0);
    floor(base as f32 + factor * (i32::from(x) - base) as f32).clamp(0, 255) as u8
}

/// Added to a float of magnitude below 2²², this rounds it to the nearest integer, which is then in the low bits.
pub(super) const ROUND: f32 = 12_582_912.0; // 1.5 · 2²³

/// ⌊x⌋ for magnitudes below 2²². A cast does not vectorise, since it must saturate.
#[inline(always)]
fn floor(x: f32) -> i32 {
    let nearest = x + ROUND;
    nearest.to_bits() as i32 - ROUND.to_bits() as i32 - i32::from(nearest - ROUND > x)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A float-to-integer cast truncates and saturates, as Pillow's clipping does.
    #[test]
    fn a_blend_is_the_plain_formula_for_all_levels_and_any_factor() {
        let drawn = (0..20).map(|i| 0.6 + 0.8 * i as f32 / 19.0);
        for factor in drawn.chain([0.0, 1.0, -1.0, 0.1, 255.0, 8192.0, 8193.0, 1e9, f32::MAX, f32::MIN]) {
            for (base, x) in (0..=255).flat_map(|base| (0..=255).map(move |x| (base, x))) {
                let plain = f32::from(base) + factor * (f32::from(x) - f32::from(base));
                assert_eq!(blend(base, x, factor), plain as u8, "{base} {x} {factor}");
            }
        }
    }
}
