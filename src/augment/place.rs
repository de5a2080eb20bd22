//! Moves of an image's content: shift with reflection, and cutout.

use super::{each_plane, side_of};
use crate::simd::simd;

/// A square that cutout fills, in pixels; a part of it may lie outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Square {
    /// The row above which half of it lies.
    pub y: usize,
    /// The column to the left of which half of it lies.
    pub x: usize,
    /// Its side.
    pub side: usize,
}

/// The level that cutout leaves: about 0 as the network's input, where DeVries and Taylor (2017) have the data's mean.
pub const GRAY: u8 = 127;

simd! {
    /// Moves `image` down and to the right, or up and to the left where a number is negative; what comes in is the image's
    /// reflection at its edge, whose own pixels are not repeated (`torch.nn.functional.pad` with `reflect`, then a crop). Both
    /// are [3, side, side].
    ///
    /// # Panics
    /// If they differ in size, or the image moves by its side or further.
    pub fn shift(image: &[u8], down: i32, right: i32, out: &mut [u8]) {
        let side = side_of(image);
        let last = side as i32 - 1;
        assert!(down.abs() <= last && right.abs() <= last, "{down} and {right} of {side} pixels");
        let reflected = |at: i32| {
            let at = at.abs();
            (if at > last { 2 * last - at } else { at }) as usize
        };
        // In the middle a row moves as a whole.
        let (left, n) = (right.max(0) as usize, side - right.unsigned_abs() as usize);
        each_plane(image, side, out, |plane, out| {
            for (y, out) in out.chunks_exact_mut(side).enumerate() {
                let row = &plane[reflected(y as i32 - down) * side..][..side];
                out[left..left + n].copy_from_slice(&row[(-right).max(0) as usize..][..n]);
                for x in (0..left).chain(left + n..side) {
                    out[x] = row[reflected(x as i32 - right)];
                }
            }
        });
    }
}

/// Fills a square with [`GRAY`] (DeVries and Taylor, "Improved regularization of convolutional neural networks with cutout",
/// 2017). `image` is [3, side, side].
pub fn cutout(image: &mut [u8], square: Square) {
    let side = side_of(image);
    let span = |center: usize| {
        let first = center as isize - (square.side / 2) as isize;
        first.clamp(0, side as isize) as usize..(first + square.side as isize).clamp(0, side as isize) as usize
    };
    let (rows, columns) = (span(square.y), span(square.x));
    for plane in image.chunks_exact_mut(side * side) {
        for row in plane.chunks_exact_mut(side).take(rows.end).skip(rows.start) {
            row[columns.clone()].fill(GRAY);
        }
    }
}
