//! Colour: Pillow's `ImageOps` and `ImageEnhance`, and torchvision's hue shift, on planar RGB.

use crate::data::SIDE;

const PLANE: usize = SIDE * SIDE;

/// ITU-R 601-2 luma, rounded: Pillow's conversion to mode L.
fn luma(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19595 + u32::from(g) * 38470 + u32::from(b) * 7471 + 0x8000) >> 16) as u8
}

/// Calls `f` with the three channels of every pixel.
fn pixels(image: &mut [u8], mut f: impl FnMut(&mut u8, &mut u8, &mut u8)) {
    let (red, rest) = image.split_at_mut(PLANE);
    let (green, blue) = rest.split_at_mut(PLANE);
    for ((r, g), b) in red.iter_mut().zip(green).zip(blue) {
        f(r, g, b);
    }
}

/// All three channels become the luma.
pub fn grayscale(image: &mut [u8]) {
    pixels(image, |r, g, b| {
        let l = luma(*r, *g, *b);
        (*r, *g, *b) = (l, l, l);
    });
}

/// x becomes 255 − x.
pub fn invert(image: &mut [u8]) {
    image.iter_mut().for_each(|x| *x = 255 - *x);
}

/// `base` + `factor` · (x − `base`), cut to 0..=255 and truncated: Pillow's `Image.blend` in single precision.
fn blend(base: u8, x: u8, factor: f32) -> u8 {
    let base = i32::from(base);
    // A float-to-integer cast saturates and truncates, as Pillow's clipping does.
    (base as f32 + factor * (i32::from(x) - base) as f32) as u8
}

/// Towards black for factors below 1 (`ImageEnhance.Brightness`).
pub fn brightness(image: &mut [u8], factor: f32) {
    image.iter_mut().for_each(|x| *x = blend(0, *x, factor));
}

/// Towards the rounded mean luma for factors below 1 (`ImageEnhance.Contrast`).
pub fn contrast(image: &mut [u8], factor: f32) {
    let mut sum = 0;
    pixels(image, |r, g, b| sum += u32::from(luma(*r, *g, *b)));
    let mean = (sum + PLANE as u32 / 2) / PLANE as u32;
    image.iter_mut().for_each(|x| *x = blend(mean as u8, *x, factor));
}

/// Towards the grayscale image for factors below 1 (`ImageEnhance.Color`).
pub fn saturation(image: &mut [u8], factor: f32) {
    pixels(image, |r, g, b| {
        let l = luma(*r, *g, *b);
        (*r, *g, *b) = (blend(l, *r, factor), blend(l, *g, factor), blend(l, *b, factor));
    });
}

/// Turns the hue by `shift` of a full circle, in −0.5..=0.5 (torchvision's `adjust_hue` on Pillow images: the
/// 8-bit H of Pillow's HSV moves by 255·shift, truncated towards zero, and wraps).
pub fn hue(image: &mut [u8], shift: f32) {
    let shift = (shift * 255.0) as i32 as u8;
    pixels(image, |r, g, b| {
        let [h, s, v] = rgb_to_hsv(*r, *g, *b);
        [*r, *g, *b] = hsv_to_rgb(h.wrapping_add(shift), s, v);
    });
}

/// Pillow's conversion (`rgb2hsv_row` in its `Convert.c`).
fn rgb_to_hsv(r: u8, g: u8, b: u8) -> [u8; 3] {
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

/// Pillow's conversion (`hsv2rgb` in its `Convert.c`).
fn hsv_to_rgb(h: u8, s: u8, v: u8) -> [u8; 3] {
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
