//! Tables of levels: Pillow's `ImageOps` on each channel, and its sharpening.

use super::{color::blend, side_of};
use crate::simd::simd;

simd! {
    /// Keeps the highest `bits` of each level (`ImageOps.posterize`).
    pub fn posterize(image: &mut [u8], bits: u8) {
        let mask = !(0xFFu16 >> bits.min(8)) as u8;
        image.iter_mut().for_each(|x| *x &= mask);
    }

    /// Inverts the levels from `threshold` on, none for 256 (`ImageOps.solarize`).
    pub fn solarize(image: &mut [u8], threshold: u16) {
        image.iter_mut().for_each(|x| *x = if u16::from(*x) < threshold { *x } else { 255 - *x });
    }

    /// Spreads each channel's levels over 0 to 255 (`ImageOps.autocontrast`). `image` is [3, side, side].
    pub fn autocontrast(image: &mut [u8]) {
        let side = side_of(image);
        for plane in image.chunks_exact_mut(side * side) {
            let (low, high) = plane.iter().fold((255, 0), |(low, high), &x| (x.min(low), x.max(high)));
            if high > low {
                // Double precision, as in Python.
                let scale = 255.0 / f64::from(high - low);
                let offset = f64::from(low) * -scale;
                let table: [u8; 256] = std::array::from_fn(|level| (level as f64 * scale + offset) as u8);
                plane.iter_mut().for_each(|x| *x = table[usize::from(*x)]);
            }
        }
    }

    /// Makes each channel's levels about equally frequent (`ImageOps.equalize`). `image` is [3, side, side].
    pub fn equalize(image: &mut [u8]) {
        let side = side_of(image);
        for plane in image.chunks_exact_mut(side * side) {
            let mut counts = [0u32; 256];
            plane.iter().for_each(|&x| counts[usize::from(x)] += 1);
            let last = counts.iter().rev().find(|&&count| count > 0).copied().unwrap_or(0);
            let step = (plane.len() as u32 - last) / 255;
            if step > 0 {
                let mut below = step / 2;
                let table = counts.map(|count| {
                    let level = (below / step).min(255) as u8;
                    below += count;
                    level
                });
                plane.iter_mut().for_each(|x| *x = table[usize::from(*x)]);
            }
        }
    }

    /// Towards the smoothed image for factors below 1 (`ImageEnhance.Sharpness`). `image` is [3, side, side].
    pub fn sharpness(image: &mut [u8], factor: f32) {
        let side = side_of(image);
        for plane in image.chunks_exact_mut(side * side) {
            // Rows as they were: above, and the row itself. Pixels of the edge stay.
            let [mut above, mut own] = [[0; crate::data::MAX_SIDE]; 2];
            above[..side].copy_from_slice(&plane[..side]);
            for y in 1..side.saturating_sub(1) {
                let (before, below) = plane.split_at_mut((y + 1) * side);
                let row = &mut before[y * side..];
                own[..side].copy_from_slice(row);
                for x in 1..side - 1 {
                    let three = |row: &[u8]| row[x - 1..=x + 1].iter().map(|&x| u32::from(x)).sum::<u32>();
                    let sum = three(&above) + three(&own) + three(below) + 4 * u32::from(own[x]);
                    // The mean, rounded: of 13 weights none is halfway (`ImageFilter.SMOOTH`).
                    row[x] = blend(((2 * sum + 13) / 26) as u8, own[x], factor);
                }
                above = own;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::IMAGE;

    /// By hand, of Pillow's formulas.
    #[test]
    fn tables_are_those_of_the_formulas() {
        let of = |apply: &dyn Fn(&mut [u8]), pixels: &[u8]| {
            let mut image: Vec<u8> = pixels.iter().copied().cycle().take(IMAGE).collect();
            apply(&mut image);
            image[..pixels.len()].to_vec()
        };
        assert_eq!(of(&|image| posterize(image, 4), &[255, 128, 15, 16]), [240, 128, 0, 16]);
        assert_eq!(of(&|image| posterize(image, 8), &[255, 128, 15, 16]), [255, 128, 15, 16]);
        assert_eq!(of(&|image| solarize(image, 128), &[255, 128, 127, 0]), [0, 127, 127, 0]);
        assert_eq!(of(&|image| solarize(image, 256), &[255, 128, 127, 0]), [255, 128, 127, 0]);
        assert_eq!(of(&|image| solarize(image, 0), &[255, 0]), [0, 255]);
        // 255 / 128 · (x − 64), truncated.
        assert_eq!(of(&autocontrast, &[64, 192, 96, 65]), [0, 255, 63, 1]);
        assert_eq!(of(&autocontrast, &[7, 7]), [7, 7], "one level stays");
        // Of 1,024 pixels each level has 256; (1024 − 256) / 255 = 3, then (1 + 256 k) / 3.
        assert_eq!(of(&equalize, &[10, 20, 30, 200]), [0, 85, 171, 255]);
        assert_eq!(of(&equalize, &[10, 10]), [10, 10], "one level stays");
    }

    #[test]
    fn sharpening_leaves_the_edge_and_even_areas_as_they_are() {
        let mut image: Vec<u8> = (0..IMAGE).map(|i| (i * 7 % 251) as u8).collect();
        let before = image.clone();
        sharpness(&mut image, 1.0);
        assert_eq!(image, before, "a factor of 1 is no change");
        sharpness(&mut image, 0.0);
        for (at, (now, then)) in image.iter().zip(&before).enumerate() {
            let (y, x) = (at % 1024 / 32, at % 32);
            if x == 0 || y == 0 || x == 31 || y == 31 {
                assert_eq!(now, then);
            } else {
                let of = |dy: usize, dx: usize| u32::from(before[at + 32 * dy + dx - 33]);
                let sum: u32 = (0..9).map(|k| of(k / 3, k % 3)).sum::<u32>() + 4 * u32::from(*then);
                assert_eq!(u32::from(*now), (f64::from(sum) / 13.0).round() as u32);
            }
        }
        let mut even = vec![77; IMAGE];
        sharpness(&mut even, 0.3);
        assert_eq!(even, vec![77; IMAGE]);
    }
}
