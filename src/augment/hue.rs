//! Hue: torchvision's `adjust_hue` on Pillow images, through Pillow's 8-bit HSV.
//!
//! Pillow mixes single and double precision and branches on the largest channel. Here the same values come from a
//! few single-precision operations without a branch, so that the loop vectorises; the tests compare all 2²⁴ colours
//! either way with a transcription of Pillow's code.

use super::color::{ROUND, pixels};
use super::simd;

simd! {
    /// Turns the hue by `shift` of a full circle, in −0.5..=0.5: H, of 8 bits, moves by 255·shift, truncated towards
    /// zero, and wraps.
    pub fn hue(image: &mut [u8], shift: f32) {
        let shift = f32::from((shift * 255.0) as i32 as u8);
        pixels(image, |r, g, b| {
            let [h, s, v] = rgb_to_hsv(r, g, b);
            let h = h + shift;
            hsv_to_rgb([if h < 256.0 { h } else { h - 256.0 }, s, v]).map(level)
        });
    }
}

/// The 8 bits of an integer in 0..=255.
#[inline(always)]
fn level(x: f32) -> u8 {
    (x + ROUND).to_bits() as u8
}

/// ⌊255 q⌋ for the exact product, q in 0..=1.
#[inline(always)]
fn floor_255(q: f32) -> f32 {
    let nearest = (q * 255.0 + ROUND) - ROUND;
    // 256 q is exact, so is its difference from an integer that near, and so is the comparison with q.
    if q * 256.0 - nearest < q { nearest - 1.0 } else { nearest }
}

/// Pillow's conversion (`rgb2hsv_row` in its `Convert.c`); the results are integers in 0..=255. The hue of a gray is
/// any, its saturation 0.
#[inline(always)]
fn rgb_to_hsv(r: u8, g: u8, b: u8) -> [f32; 3] {
    let [max, min] = [r.max(g).max(b), r.min(g).min(b)].map(f32::from);
    let [r, g, b] = [r, g, b].map(f32::from);
    let range = max - min;
    // Pillow's hue, in sixths of the circle, is the difference of two quotients (max − c)/range from 0, 2 or 4, as
    // the largest channel is r, g or b. The quotient of the smallest channel is 1, and its sign that of `order`.
    let (center, order) = if r == max {
        (0.0, g - b)
    } else if g == max {
        (2.0, b - r)
    } else {
        (4.0, r - g)
    };
    let one = 1f32.copysign(order);
    let middle = r + g + b - max - min;
    let sixths: f32 = (center + one) - one * ((max - middle) / range.max(1.0));
    let turn = sixths / 6.0;
    let turn = if turn < 0.0 { turn + 1.0 } else { turn };
    [floor_255(turn), floor_255(range / max.max(1.0)), max]
}

/// Pillow's conversion (`hsv2rgb` in its `Convert.c`); all values are integers in 0..=255.
///
/// Around the circle of 510 = 6 · 85 steps (2h), a channel lies below v by v·s/255 · u/85, rounded, where u goes from
/// 0 to 85 and back in straight lines. The product v·s·u is exact, and it is never halfway between two levels.
#[inline(always)]
fn hsv_to_rgb([h, s, v]: [f32; 3]) -> [f32; 3] {
    let angle = 2.0 * h;
    let red = 170.0 - (angle - 255.0).abs();
    let green = (angle - 170.0).abs() - 85.0;
    let blue = (angle - 340.0).abs() - 85.0;
    [red, green, blue].map(|u: f32| v - (((v * s) * u.clamp(0.0, 85.0) * (1.0 / 21675.0) + ROUND) - ROUND))
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
            let [h, s, v] = rgb_to_hsv(rgb[0], rgb[1], rgb[2]).map(level);
            let pillow = pillow_rgb_to_hsv(rgb);
            assert_eq!([if s == 0 { 0 } else { h }, s, v], pillow, "{rgb:?}");
        });
    }

    #[test]
    fn every_hsv_color_has_pillow_s_rgb() {
        for_every_color(|hsv| {
            assert_eq!(hsv_to_rgb(hsv.map(f32::from)).map(level), pillow_hsv_to_rgb(hsv), "{hsv:?}");
        });
    }
}
