//! Hue: torchvision's `adjust_hue` on Pillow images, through Pillow's 8-bit HSV.
//!
//! Pillow mixes single and double precision and branches on the largest channel. Here a few single-precision operations
//! without branches give the same values, so that the loop vectorises; the tests compare all 2²⁴ colours, in both
//! directions, with a transcription of Pillow's code.

use super::color::{ROUND, pixels};
use crate::simd::simd;

simd! {
    /// Turns the hue by `shift` of a full circle, in −0.5..=0.5: H, of 8 bits, moves by 255·shift, truncated towards
    /// zero, and wraps.
    pub fn hue(image: &mut [u8], shift: f32) {
        let shift = f32::from((shift * 255.0) as i32 as u8);
        pixels(image, |r, g, b| {
            let [h, s, v] = rgb_to_hsv(r, g, b);
            let h = h + shift;
            hsv_to_rgb(if h < 256.0 { h } else { h - 256.0 }, s, v)
        });
    }
}

/// The nearest integer, in 0..=255.
#[inline(always)]
fn rounded(x: f32) -> u8 {
    (x + ROUND).to_bits() as u8
}

/// ⌊255 q⌋ for the exact product, q in 0..=1.
#[inline(always)]
fn floor_255(q: f32) -> f32 {
    let nearest = (q * 255.0 + ROUND) - ROUND;
    // 256 q is exact, so is its difference from an integer that near, and so is the comparison with q.
    if q * 256.0 - nearest < q { nearest - 1.0 } else { nearest }
}

/// Pillow's conversion (`rgb2hsv_row` in its `Convert.c`); the results are integers in 0..=255. A gray has
/// saturation 0 and an arbitrary hue.
#[inline(always)]
fn rgb_to_hsv(r: u8, g: u8, b: u8) -> [f32; 3] {
    let (low, high) = (r.min(g), r.max(g));
    let (min, middle, max) = (low.min(b), low.max(high.min(b)), high.max(b));
    // Pillow's hue, in sixths of the circle, is the difference of two quotients (max − c)/range from 0, 2 or 4, as
    // the largest channel is r, g or b. The quotient of the smallest channel is 1.
    let (center, falling) = if r == max {
        (0, g >= b)
    } else if g == max {
        (2, b >= r)
    } else {
        (4, r >= g)
    };
    let below = i16::from(max - middle);
    let (start, step) = if falling { (center + 1i16, -below) } else { (center - 1, below) };
    let range = max - min;
    let sixths = f32::from(start) + f32::from(step) / f32::from(range.max(1));
    let turn = sixths / 6.0;
    let turn = if turn < 0.0 { turn + 1.0 } else { turn };
    [floor_255(turn), floor_255(f32::from(range) / f32::from(max.max(1))), f32::from(max)]
}

/// Pillow's conversion (`hsv2rgb` in its `Convert.c`) of integers in 0..=255.
///
/// Around the circle of 255 = 6 · 42.5 steps, a channel lies below v by v · s/255 · u/42.5, rounded, where u goes from
/// 0 to 42.5 and back in straight lines. That is never halfway between two levels.
#[inline(always)]
fn hsv_to_rgb(h: f32, s: f32, v: f32) -> [u8; 3] {
    let red = 85.0 - (h - 127.5).abs();
    let green = (h - 85.0).abs() - 42.5;
    let blue = (h - 170.0).abs() - 42.5;
    let scale = v * s * (1.0 / (255.0 * 42.5));
    [red, green, blue].map(|u: f32| rounded(v).wrapping_sub(rounded(scale * u.clamp(0.0, 42.5))))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pillow's `rgb2hsv_row`, line by line.
    fn pillow_rgb_to_hsv([r, g, b]: [u8; 3]) -> [u8; 3] {
        let max = r.max(g).max(b);
        let min = r.min(g).min(b);
        if max == min {
            return [0, 0, max];
        }
        let range = f32::from(max - min);
        let saturation = range / f32::from(max);
        let [rc, gc, bc] = [r, g, b].map(|c| f32::from(max - c) / range);
        // C computes 2.0 + rc − bc in double precision and stores a float.
        let hue = if r == max {
            bc - gc
        } else if g == max {
            (2.0 + f64::from(rc) - f64::from(bc)) as f32
        } else {
            (4.0 + f64::from(gc) - f64::from(rc)) as f32
        };
        let turn = f64::from(hue) / 6.0 + 1.0;
        let hue = (turn - turn.floor()) as f32;
        [(f64::from(hue) * 255.0) as u8, (f64::from(saturation) * 255.0) as u8, max]
    }

    /// Pillow's `hsv2rgb`, line by line.
    fn pillow_hsv_to_rgb([h, s, v]: [u8; 3]) -> [u8; 3] {
        if s == 0 {
            return [v, v, v];
        }
        let sixths = f64::from(f32::from(h)) * 6.0 / 255.0;
        let sector = sixths.floor();
        let fraction = f64::from((sixths - sector) as f32);
        let s = f64::from((f64::from(s) / 255.0) as f32);
        let value = f64::from(v);
        let p = (value * (1.0 - s)).round() as u8;
        let q = (value * (1.0 - s * fraction)).round() as u8;
        let t = (value * (1.0 - s * (1.0 - fraction))).round() as u8;
        match sector as u8 % 6 {
            0 => [v, t, p],
            1 => [q, v, p],
            2 => [p, v, t],
            3 => [p, q, v],
            4 => [t, p, v],
            _ => [v, p, q],
        }
    }

    /// All 2²⁴ colours, in parallel.
    fn for_every_color(check: impl Fn([u8; 3]) + Sync) {
        use rayon::prelude::*;
        (0..=255).into_par_iter().for_each(|x| {
            (0..=255).for_each(|y| (0..=255).for_each(|z| check([x, y, z])));
        });
    }

    #[test]
    fn every_rgb_color_has_pillow_s_hsv() {
        for_every_color(|rgb| {
            let [h, s, v] = rgb_to_hsv(rgb[0], rgb[1], rgb[2]).map(rounded);
            let pillow = pillow_rgb_to_hsv(rgb);
            assert_eq!([if s == 0 { 0 } else { h }, s, v], pillow, "{rgb:?}");
        });
    }

    #[test]
    fn every_hsv_color_has_pillow_s_rgb() {
        for_every_color(|hsv| {
            let [h, s, v] = hsv.map(f32::from);
            assert_eq!(hsv_to_rgb(h, s, v), pillow_hsv_to_rgb(hsv), "{hsv:?}");
        });
    }
}
