//! A convolution by the products between Winograd's transforms ([`winograd`]), a set of tiles at a time.

use std::ops::Range;

use super::kernels::{Gradients, Kernels, Sizes, padded};
use super::product::{Left, PANEL, Right, product, product_ahead, share};
use super::winograd::{self, matrix_len, panel_len};

/// Tiles in a set: as many images as have no more, or rows of tiles of one image.
const TILES: usize = 64;
/// Places in a tile, and so products in a set.
pub const PLACES: usize = 16;

/// Tiles of an image.
fn of_image(side: usize) -> usize {
    side / 2 * (side / 2)
}

/// Images in a chunk.
pub fn chunk(side: usize) -> usize {
    (TILES / of_image(side)).max(1)
}

/// Tiles in a set.
fn of_set(side: usize) -> usize {
    match chunk(side) {
        1 => (TILES / (side / 2)).max(1) * (side / 2),
        images => images * of_image(side),
    }
}

/// Of V and M of a set.
pub fn scratch_len(sizes: Sizes) -> usize {
    let tiles = of_set(sizes.side).min(chunk(sizes.side) * of_image(sizes.side));
    PLACES * (matrix_len(tiles, padded(sizes.inputs)) + matrix_len(tiles, padded(sizes.outputs)))
}

/// The sets of `images` images: tiles of every image.
fn sets(side: usize, images: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let (all, set) = (of_image(side), if images > 1 { of_image(side) } else { of_set(side) });
    (0..all).step_by(set).map(move |first| first..all.min(first + set))
}

/// V and M of so many tiles, and the values of one of the matrices of each.
fn split(memory: &mut [f32], tiles: usize, from: usize, width: usize) -> ([&mut [f32]; 2], [usize; 2]) {
    let lens = [from, width].map(|channels| matrix_len(tiles, channels));
    let (v, rest) = memory.split_at_mut(PLACES * lens[0]);
    ([v, &mut rest[..PLACES * lens[1]]], lens)
}

/// The matrix [rows, width] of one place in U.
fn right(u: &[f32], place: usize, rows: usize, width: usize) -> Right<'_> {
    let row = PANEL.min(width);
    Right { values: &u[place * matrix_len(rows, row)..], row, panel: panel_len(rows, width) }
}

pub fn convolve(kernels: &Kernels, x: &[f32], y: &mut [f32], memory: &mut [f32], ahead: &[f32]) {
    let Sizes { inputs, outputs, side, .. } = kernels.sizes;
    let (from, width) = (padded(inputs), padded(outputs));
    let images = x.len() / kernels.x_len();
    let sets = sets(side, images);
    let count = sets.len() * PLACES;
    for (set, of) in sets.enumerate() {
        let tiles = images * of.len();
        let ([v, m], [v_len, m_len]) = split(memory, tiles, from, width);
        for (i, x) in x.chunks_exact(kernels.x_len()).enumerate() {
            winograd::transform_input(x, side, from, v, tiles, of.clone(), i * of.len());
        }
        for (place, (m, v)) in m.chunks_exact_mut(m_len).zip(v.chunks_exact(v_len)).enumerate() {
            let a = Left { values: v, row: from, col: 1 };
            let b = right(&kernels.transformed[0], place, inputs, width);
            let ahead = [share(ahead, set * PLACES + place, count), &[], &[]];
            product_ahead(m, width, a, b, [tiles, inputs, width], false, ahead);
        }
        for (i, y) in y.chunks_exact_mut(kernels.y_len()).enumerate().take(images) {
            winograd::transform_output(m, tiles, of.clone(), i * of.len(), &kernels.bias, side, y);
        }
    }
}

pub fn backward(kernels: &Kernels, x: &[f32], g: &[f32], to: Gradients, memory: &mut [f32], ahead: [&[f32]; 3]) {
    let Sizes { inputs, outputs, side, .. } = kernels.sizes;
    let (from, width) = (padded(inputs), padded(outputs));
    let (x_len, y_len) = (kernels.x_len(), kernels.y_len());
    let images = x.len() / x_len;
    let Gradients { du, accumulate, mut dx, dx_accumulate, .. } = to;
    if let Some(dx) = dx.as_deref_mut().filter(|_| !dx_accumulate) {
        dx.fill(0.0);
    }
    let sets = sets(side, images);
    let count = sets.len() * PLACES;
    for (set, of) in sets.enumerate() {
        let tiles = images * of.len();
        let ([v, m], [v_len, m_len]) = split(memory, tiles, from, width);
        for (i, (x, g)) in x.chunks_exact(x_len).zip(g.chunks_exact(y_len)).enumerate() {
            winograd::transform_input(x, side, from, v, tiles, of.clone(), i * of.len());
            winograd::transform_gradient(g, side, width, m, tiles, of.clone(), i * of.len());
        }
        let matrices = v.chunks_exact_mut(v_len).zip(m.chunks_exact(m_len));
        for (place, (du, (v, m))) in du.chunks_exact_mut(matrix_len(inputs, width)).zip(matrices).enumerate() {
            let (a, b) = (Left { values: v, row: 1, col: from }, Right::rows(m, width));
            let ahead = ahead.map(|all| share(all, set * PLACES + place, count));
            product_ahead(du, width, a, b, [inputs, tiles, width], accumulate || set > 0, ahead);
            if dx.is_some() {
                // ∂L/∂V takes the place of V.
                let a = Left { values: m, row: width, col: 1 };
                let b = right(&kernels.transformed[1], place, outputs, from);
                product(v, from, a, b, [tiles, outputs, from], false);
            }
        }
        for (i, dx) in dx.iter_mut().flat_map(|dx| dx.chunks_exact_mut(x_len)).enumerate() {
            winograd::fold_gradient(v, tiles, of.clone(), i * of.len(), side, from, dx);
        }
    }
}
