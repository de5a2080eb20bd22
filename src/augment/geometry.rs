//! Quarter turns, shear and flip: pixels moved, never mixed.

use crate::data::SIDE;

/// Turns counter-clockwise by `turns` · 90° (Pillow's `Image.rotate`).
pub fn quarter_turns(image: &[u8], turns: u8, out: &mut [u8]) {
    let last = SIDE - 1;
    move_pixels(image, out, |y, x| {
        Some(match turns % 4 {
            0 => (y, x),
            1 => (x, last - y),
            2 => (last - y, last - x),
            _ => (last - x, y),
        })
    });
}

/// Mirrors left and right.
pub fn flip(image: &mut [u8]) {
    image.chunks_exact_mut(SIDE).for_each(<[u8]>::reverse);
}

/// Shears along x: the pixel (x, y) is taken from (x + `shear`·y, y), the nearest one, black outside.
///
/// Pillow's `Image.transform` with `AFFINE` (1, shear, 0, 0, 1, 0) and `NEAREST`: pixel centres mapped in 16.16
/// fixed point (`affine_fixed` in its `Geometry.c`).
pub fn shear_x(image: &[u8], shear: f64, out: &mut [u8]) {
    let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let (step, start) = (fixed(shear), fixed(0.5 + shear * 0.5));
    move_pixels(image, out, |y, x| {
        let from = (start + step * y as i64 + 65536 * x as i64) >> 16;
        (0..SIDE as i64).contains(&from).then_some((y, from as usize))
    });
}

/// Fills every plane of `out`: the pixel (y, x) comes from `source(y, x)`, or is black.
fn move_pixels(image: &[u8], out: &mut [u8], source: impl Fn(usize, usize) -> Option<(usize, usize)>) {
    const PLANE: usize = SIDE * SIDE;
    for y in 0..SIDE {
        for x in 0..SIDE {
            let from = source(y, x).map(|(y, x)| y * SIDE + x);
            for plane in (0..image.len()).step_by(PLANE) {
                out[plane + y * SIDE + x] = from.map_or(0, |from| image[plane + from]);
            }
        }
    }
}
