//! Quarter turns, shear and flip: pixels are moved, never interpolated.

use super::affine::{affine, shear_along_x};
use super::{PLANE, Plane, any, each_plane, planes, planes_mut, side_of};
use crate::data::SIDE;
use crate::simd::simd;

simd! {
    /// Turns counter-clockwise by `turns` · 90° (Pillow's `Image.rotate`).
    pub fn quarter_turns(image: &[u8], turns: u8, out: &mut [u8]) {
        let side = side_of(image);
        if side != SIDE {
            return each_plane(image, side, out, |plane, out| any::quarter_turns(plane, side, turns, out));
        }
        for (plane, out) in planes(image).iter().zip(planes_mut(out)) {
            match turns % 4 {
                0 => *out = *plane,
                1 => *out = upside_down(&transpose(plane)),
                2 => {
                    *out = *plane;
                    out.reverse();
                }
                _ => *out = transpose(&upside_down(plane)),
            }
        }
    }

    /// Mirrors left and right.
    pub fn flip(image: &mut [u8]) {
        match side_of(image) {
            SIDE => image.as_chunks_mut::<SIDE>().0.iter_mut().for_each(|row| row.reverse()),
            side => image.chunks_exact_mut(side).for_each(<[u8]>::reverse),
        }
    }

    /// Shears along x: the pixel (x, y) is taken from (x + `shear`·y, y), the nearest one, black outside.
    ///
    /// Pillow's `Image.transform` with `AFFINE` (1, shear, 0, 0, 1, 0) and `NEAREST`: pixel centres mapped in 16.16
    /// fixed point (`affine_fixed` in its `Geometry.c`).
    pub fn shear_x(image: &[u8], shear: f64, out: &mut [u8]) {
        if side_of(image) != SIDE {
            return affine(image, shear_along_x(shear), out);
        }
        let moves = moves(shear);
        // A row moves as a whole, at most out of the image.
        const SIGHT: i64 = SIDE as i64;
        let moves: [i64; SIDE] = std::array::from_fn(|y| moves(y).clamp(-SIGHT, SIGHT));
        let inside: [[bool; SIDE]; SIDE] =
            moves.map(|by| std::array::from_fn(|x| (0..SIDE as i8).contains(&(x as i8 + by as i8))));
        // Padded by a row on either side, so that every moved row can be read.
        let mut padded = [0; SIDE + PLANE + SIDE];
        for (plane, out) in planes(image).iter().zip(planes_mut(out)) {
            padded[SIDE..][..PLANE].copy_from_slice(plane);
            for (y, out) in out.as_chunks_mut::<SIDE>().0.iter_mut().enumerate() {
                let row = &padded[((1 + y) as i64 * SIGHT + moves[y]) as usize..][..SIDE];
                for x in 0..SIDE {
                    out[x] = row[x] * u8::from(inside[y][x]);
                }
            }
        }
    }
}

/// By how many pixels each row moves.
#[inline(always)]
fn moves(shear: f64) -> impl Fn(usize) -> i64 {
    let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
    let (step, start) = (fixed(shear), fixed(0.5 + shear * 0.5));
    move |y| (start + step * y as i64) >> 16
}

/// The rows in reverse order.
#[inline(always)]
fn upside_down(plane: &Plane) -> Plane {
    let mut out = *plane;
    out.as_chunks_mut::<SIDE>().0.reverse();
    out
}

/// The transpose.
///
/// An element's index is 5 bits of y and 5 bits of x. A perfect shuffle of the plane (its halves interleaved) rotates
/// these ten bits left by one; five shuffles exchange y and x. Each is a loop that vectorises.
#[inline(always)]
pub(super) fn transpose(plane: &Plane) -> Plane {
    let shuffled = |from: &Plane| {
        let mut out = [0; PLANE];
        let (low, high) = from.split_at(PLANE / 2);
        for ((out, low), high) in out.as_chunks_mut::<2>().0.iter_mut().zip(low).zip(high) {
            *out = [*low, *high];
        }
        out
    };
    shuffled(&shuffled(&shuffled(&shuffled(&shuffled(plane)))))
}
