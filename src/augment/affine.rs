//! Rotation, shear and translation: each pixel is taken from the nearest one, black outside.

use super::side_of;
use crate::data::CHANNELS;
use crate::simd::simd;

/// [a, b, c, d, e, f]: the pixel (x, y) is taken from (a·x + b·y + c, d·x + e·y + f).
pub type Matrix = [f64; 6];

simd! {
    /// Pillow's `Image.transform` with `AFFINE` and `NEAREST`: pixel centres mapped in 16.16 fixed point (`affine_fixed` in its
    /// `Geometry.c`). Both images are [3, side, side].
    ///
    /// # Panics
    /// If they differ in size.
    pub fn affine(image: &[u8], matrix: Matrix, out: &mut [u8]) {
        let side = side_of(image);
        assert_eq!(image.len(), out.len(), "an image of {side} × {side} pixels");
        let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
        let [a, b, c, d, e, f] = matrix;
        let [dx, dy] = [fixed(a), fixed(d)];
        let [mut row_x, mut row_y] = [fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)];
        let plane = side * side;
        for y in 0..side {
            let [mut from_x, mut from_y] = [row_x, row_y];
            for x in 0..side {
                let [column, row] = [from_x >> 16, from_y >> 16].map(|at| at as usize);
                let inside = column < side && row < side;
                let from = if inside { row * side + column } else { 0 };
                for channel in 0..CHANNELS {
                    out[channel * plane + y * side + x] = image[channel * plane + from] * u8::from(inside);
                }
                (from_x, from_y) = (from_x + dx, from_y + dy);
            }
            (row_x, row_y) = (row_x + fixed(b), row_y + fixed(e));
        }
    }
}

/// The matrix that turns an image counter-clockwise about its centre (Pillow's `Image.rotate`).
pub fn rotation(degrees: f64, side: usize) -> Matrix {
    let angle = -degrees.to_radians();
    let (sin, cos) = (libm::sin(angle), libm::cos(angle));
    let center = side as f64 / 2.0;
    [cos, sin, center - cos * center - sin * center, -sin, cos, center + sin * center - cos * center]
}

/// Shear along x: `shear` pixels per pixel along y.
pub fn shear_along_x(shear: f64) -> Matrix {
    [1.0, shear, 0.0, 0.0, 1.0, 0.0]
}

/// Shear along y: `shear` pixels per pixel along x.
pub fn shear_along_y(shear: f64) -> Matrix {
    [1.0, 0.0, 0.0, shear, 1.0, 0.0]
}

/// Moves an image to the right and down by whole pixels.
pub fn translation(right: i32, down: i32) -> Matrix {
    [1.0, 0.0, f64::from(-right), 0.0, 1.0, f64::from(-down)]
}

#[cfg(test)]
mod tests {
    use super::super::{geometry, quarter_turns};
    use super::*;
    use crate::data::{IMAGE, SIDE};
    use crate::rng::{Purpose, Stream};

    fn image(n: u32) -> Vec<u8> {
        let mut stream = Stream::new(4, Purpose::Init, 0, n);
        (0..IMAGE).map(|_| stream.bits() as u8).collect()
    }

    #[test]
    fn a_shear_along_x_is_that_of_the_pretext_tasks() {
        let mut stream = Stream::new(5, Purpose::Init, 0, 0);
        for n in 0..100 {
            let (image, shear) = (image(n), f64::from(stream.uniform(-1.5, 1.5)));
            let [mut ours, mut theirs] = [vec![0; IMAGE], vec![0; IMAGE]];
            affine(&image, shear_along_x(shear), &mut ours);
            geometry::shear_x(&image, shear, &mut theirs);
            assert!(ours == theirs, "{shear}");
        }
    }

    #[test]
    fn whole_turns_and_moves_lose_no_pixel_that_stays_inside() {
        let (image, mut ours, mut theirs) = (image(0), vec![0; IMAGE], vec![0; IMAGE]);
        for (degrees, turns) in [(0.0, 0), (90.0, 1), (180.0, 2), (270.0, 3), (-90.0, 3), (360.0, 0)] {
            affine(&image, rotation(degrees, SIDE), &mut ours);
            quarter_turns(&image, turns, &mut theirs);
            assert!(ours == theirs, "{degrees}");
        }
        affine(&image, translation(3, -5), &mut ours);
        for (at, &pixel) in ours.iter().enumerate() {
            let (channel, y, x) = (at / 1024, at % 1024 / SIDE, at % SIDE);
            let inside = x >= 3 && y + 5 < SIDE;
            assert_eq!(pixel, if inside { image[channel * 1024 + (y + 5) * SIDE + x - 3] } else { 0 }, "{x} {y}");
        }
    }
}
