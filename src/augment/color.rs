//! Colour: Pillow's `ImageOps` and `ImageEnhance` on planar RGB.

use super::PLANE;
use crate::data::{CHANNELS, IMAGE};
use crate::simd::simd;

simd! {
    /// All three channels become the luma (`ImageOps.grayscale`, ITU-R 601-2). `image` is [3, side, side].
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

    /// Towards the rounded mean luma for factors below 1 (`ImageEnhance.Contrast`). `image` is [3, side, side].
    pub fn contrast(image: &mut [u8], factor: f32) {
        let mean = match image.len() {
            IMAGE => mean_luma(image, PLANE),
            len => mean_luma(image, len / CHANNELS),
        };
        image.iter_mut().for_each(|x| *x = blend(mean, *x, factor));
    }

    /// Towards the grayscale image for factors below 1 (`ImageEnhance.Color`). `image` is [3, side, side].
    pub fn saturation(image: &mut [u8], factor: f32) {
        pixels(image, |r, g, b| {
            let l = luma(r, g, b);
            [r, g, b].map(|x| blend(l, x, factor))
        });
    }
}

/// The mean luma, rounded, of an image with planes of so many pixels.
#[inline(always)]
fn mean_luma(image: &mut [u8], plane: usize) -> u8 {
    let [red, green, blue] = channels(image, plane);
    let lumas = red.iter().zip(green).zip(blue).map(|((r, g), b)| u32::from(luma(*r, *g, *b)));
    ((lumas.sum::<u32>() + plane as u32 / 2) / plane as u32) as u8
}

/// Red, green and blue of an image with planes of so many pixels.
#[inline(always)]
fn channels(image: &mut [u8], plane: usize) -> [&mut [u8]; CHANNELS] {
    let (red, rest) = image.split_at_mut(plane);
    let (green, blue) = rest.split_at_mut(plane);
    [red, green, &mut blue[..plane]]
}

/// Applies `f` to the three channels of every pixel.
#[inline(always)]
pub(super) fn pixels(image: &mut [u8], f: impl Fn(u8, u8, u8) -> [u8; 3]) {
    // Of CIFAR's images the compiler knows the loop's length.
    match image.len() {
        IMAGE => planes_of(image, PLANE, f),
        len => planes_of(image, len / CHANNELS, f),
    }
}

#[inline(always)]
fn planes_of(image: &mut [u8], plane: usize, f: impl Fn(u8, u8, u8) -> [u8; 3]) {
    let [red, green, blue] = channels(image, plane);
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
pub(super) fn blend(base: u8, x: u8, factor: f32) -> u8 {
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
