//! One plane of an image of any side, in plain loops. CIFAR's side has loops of constant length in [`super::crop`] and
//! [`super::geometry`].

use super::CropBox;
use crate::data::MAX_SIDE;

/// Room for a plane of any image.
const PLANE: usize = MAX_SIDE * MAX_SIDE;

/// Turns `plane`, [side, side], counter-clockwise by `turns` · 90°.
#[inline(always)]
pub(super) fn quarter_turns(plane: &[u8], side: usize, turns: u8, out: &mut [u8]) {
    let last = side - 1;
    for (y, row) in out.chunks_exact_mut(side).enumerate() {
        for (x, out) in row.iter_mut().enumerate() {
            let (y, x) = match turns % 4 {
                0 => (y, x),
                1 => (x, last - y),
                2 => (last - y, last - x),
                _ => (last - x, y),
            };
            *out = plane[y * side + x];
        }
    }
}

/// Pillow's `ImagingResample` of the box of `plane`, [side, side], to the whole of `out`: along x, then along y.
#[inline(always)]
pub(super) fn resized_crop(plane: &[u8], side: usize, crop: CropBox, out: &mut [u8]) {
    let CropBox { top, left, height, width } = crop;
    let mut taps = [Taps::default(); MAX_SIDE];
    let mut wide = [0; PLANE];
    let rows = plane.chunks_exact(side).skip(top).take(height);
    taps.iter_mut().take(side).enumerate().for_each(|(i, taps)| *taps = Taps::new(i, width, side));
    for (row, out) in rows.zip(wide.chunks_exact_mut(side)) {
        let row = &row[left..][..width];
        for (out, Taps { pixels, weights }) in out.iter_mut().zip(&taps) {
            *out = mean(pixels.map(|pixel| row[pixel]), *weights);
        }
    }
    for (i, out) in out.chunks_exact_mut(side).enumerate() {
        let Taps { pixels, weights } = Taps::new(i, height, side);
        let [a, b, c] = pixels.map(|row| &wide[row * side..][..side]);
        for (out, ((a, b), c)) in out.iter_mut().zip(a.iter().zip(b).zip(c)) {
            *out = mean([*a, *b, *c], weights);
        }
    }
}

/// Bits behind the point of a weight: Pillow's `PRECISION_BITS`.
const BITS: u32 = 32 - 8 - 2;

#[inline(always)]
fn mean(values: [u8; 3], weights: [u32; 3]) -> u8 {
    let sum: u32 = (0..3).map(|k| u32::from(values[k]) * weights[k]).sum();
    ((sum + (1 << (BITS - 1))) >> BITS).min(255) as u8
}

/// The source pixels of one pixel and their weights.
#[derive(Clone, Copy, Default)]
struct Taps {
    pixels: [usize; 3],
    weights: [u32; 3],
}

impl Taps {
    /// Of pixel `i` of `side` from at most as many pixels: Pillow's `precompute_coeffs`, with a triangle that is no wider
    /// than 2 then, and `normalize_coeffs_8bpc`.
    #[inline(always)]
    fn new(i: usize, from: usize, side: usize) -> Taps {
        let center = (i as f64 + 0.5) * (from as f64 / side as f64);
        let first = (center - 0.5).max(0.0) as usize;
        let end = ((center + 1.5) as usize).min(from);
        let weight = |pixel: usize| match pixel < end {
            true => (1.0 - (pixel as f64 - center + 0.5).abs()).max(0.0),
            false => 0.0,
        };
        let pixels = [first, first + 1, first + 2];
        let weights = pixels.map(weight);
        let sum = weights[0] + weights[1] + weights[2];
        Taps {
            pixels: pixels.map(|pixel| pixel.min(from - 1)),
            weights: weights.map(|weight| (0.5 + weight / sum * f64::from(1u32 << BITS)) as u32),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{crop, geometry};
    use super::*;
    use crate::data::{CHANNELS, IMAGE, SIDE};
    use crate::rng::{Purpose, Stream};

    /// What is pinned by hashes and by Pillow's own results for 32 × 32 holds for these loops.
    #[test]
    fn plain_loops_do_the_same_as_those_of_constant_length() {
        let mut stream = Stream::new(3, Purpose::Init, 0, 0);
        let pixels = IMAGE / CHANNELS;
        let (mut fast, mut plain) = (vec![0; IMAGE], vec![0; IMAGE]);
        for n in 0..400 {
            let image: Vec<u8> = (0..IMAGE).map(|_| stream.bits() as u8).collect();
            let [height, width] = [0; 2].map(|_| 1 + stream.below(SIDE as u32) as usize);
            let [top, left] = [height, width].map(|size| stream.below((SIDE - size + 1) as u32) as usize);
            let area = CropBox { top, left, height, width };
            let same = |what: &str, fast: &[u8], plain: &[u8]| assert!(fast == plain, "{what} {n}: {area:?}");
            let planes = |plain: &mut Vec<u8>, apply: &dyn Fn(&[u8], &mut [u8])| {
                image.chunks(pixels).zip(plain.chunks_mut(pixels)).for_each(|(plane, out)| apply(plane, out));
            };
            crop::resized_crop(&image, area, &mut fast);
            planes(&mut plain, &|plane, out| resized_crop(plane, SIDE, area, out));
            same("crop", &fast, &plain);
            geometry::quarter_turns(&image, n as u8, &mut fast);
            planes(&mut plain, &|plane, out| quarter_turns(plane, SIDE, n as u8, out));
            same("turns", &fast, &plain);
        }
    }
}
