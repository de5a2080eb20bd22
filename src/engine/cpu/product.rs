//! Matrix products with one fixed order of every sum.
//!
//! Each element is a sum over k in blocks of [`BLOCK`]: inside a block a chain of fused multiply-adds in order of k,
//! starting from +0; then the block sums in order. Nothing else (tiling, threads, instruction set) changes that order,
//! so nothing else changes the bits. A CPU without fused multiply-add computes the same chain in software, slowly.
//!
//! The kernel keeps a tile of up to 8 × 32 sums in registers. It is written with arrays: `[f32; 16]` becomes one
//! AVX-512 register, and at 99 % of the multiply-add rate of a Zen 4 core, as measured, intrinsics would gain nothing.

use super::lanes::rest;
use crate::simd::simd;

/// Terms in one chain. Short chains round less than long ones, which SimSiam's z needs to stay within 1e-5 of
/// PyTorch's; below 64 the additions between chains begin to cost.
pub const BLOCK: usize = 64;
/// Columns of B in a panel.
pub const PANEL: usize = 32;
/// Columns of a narrow matrix: one of exactly so many has no padding.
pub const HALF: usize = PANEL / 2;
/// Values in a cache line.
const LINE: usize = 16;
/// Rows of the highest tile.
const MAX_ROWS: usize = 8;

/// A: element (i, k) is `values[i * row + k * col]`.
#[derive(Clone, Copy)]
pub struct Left<'a> {
    /// At least the matrix.
    pub values: &'a [f32],
    /// Row stride, in values.
    pub row: usize,
    /// Column stride, in values.
    pub col: usize,
}

/// B in panels of [`PANEL`] columns, the last one padded unless B has [`HALF`] columns: element (k, j) is
/// `values[j / PANEL * panel + k * row + j % PANEL]`.
#[derive(Clone, Copy)]
pub struct Right<'a> {
    /// At least the matrix.
    pub values: &'a [f32],
    /// Row stride inside a panel, in values.
    pub row: usize,
    /// Panel stride, in values.
    pub panel: usize,
}

impl<'a> Right<'a> {
    /// Panels of k × [`PANEL`] values, one after the other.
    pub fn packed(values: &'a [f32], k: usize) -> Right<'a> {
        Right { values, row: PANEL, panel: k * PANEL }
    }

    /// A row-major matrix whose rows are `width` long: a multiple of [`PANEL`], or [`HALF`].
    pub fn rows(values: &'a [f32], width: usize) -> Right<'a> {
        Right { values, row: width, panel: PANEL }
    }
}

/// Sets C, [m, n] in rows of `stride` values, to A·B, or to C + A·B with `accumulate`; sizes are [m, k, n]. On one
/// thread.
///
/// # Panics
/// If A, B or C is shorter than the sizes say, or `stride` less than n.
pub fn product(c: &mut [f32], stride: usize, a: Left, b: Right, sizes: [usize; 3], accumulate: bool) {
    product_ahead(c, stride, a, b, sizes, accumulate, [&[]; 3]);
}

/// [`product`], which meanwhile prefetches `ahead`, what is to be read next: a tile's sums keep the CPU too busy to do
/// so by itself.
///
/// # Panics
/// As [`product`].
pub fn product_ahead(
    c: &mut [f32],
    stride: usize,
    a: Left,
    b: Right,
    sizes: [usize; 3],
    accumulate: bool,
    ahead: [&[f32]; 3],
) {
    let [m, k, n] = sizes;
    if m == 0 || n == 0 {
        return;
    }
    if k > 0 {
        return blocks(c, stride, a, b, sizes, accumulate, ahead);
    }
    check_c(c, stride, m, n);
    if !accumulate {
        c.chunks_mut(stride).take(m).for_each(|row| row[..n].fill(0.0));
    }
}

/// Panics unless C holds m > 0 rows of n > 0 values.
fn check_c(c: &[f32], stride: usize, m: usize, n: usize) {
    assert!(reaches(c.len(), [(m - 1, stride), (n, 1)]) && stride >= n, "C is too short");
}

/// Panics unless A, B and C hold the sizes, and none of these is 0.
fn check(c: &[f32], stride: usize, a: Left, b: Right, [m, k, n]: [usize; 3]) {
    assert!(m > 0 && k > 0 && n > 0, "an empty product");
    check_c(c, stride, m, n);
    assert!(reaches(a.values.len(), [(m - 1, a.row), (k - 1, a.col), (1, 1)]), "A is too short");
    let last = if n == HALF { HALF } else { PANEL };
    assert!(reaches(b.values.len(), [((n - 1) / PANEL, b.panel), (k - 1, b.row), (last, 1)]), "B is too short");
}

/// Whether `len` values are at least Σ count · size over the pairs (count, size); no if that overflows.
fn reaches<const N: usize>(len: usize, steps: [(usize, usize); N]) -> bool {
    let end = steps.iter().try_fold(0usize, |end, &(steps, of)| end.checked_add(steps.checked_mul(of)?));
    end.is_some_and(|end| end <= len)
}

simd! {
    fn blocks(
        c: &mut [f32],
        stride: usize,
        a: Left,
        b: Right,
        sizes: [usize; 3],
        accumulate: bool,
        ahead: [&[f32]; 3],
    ) {
        multiversion::target::match_target! {
            "x86_64+avx512f" => all_tiles::<8, 2, 16, 1>(c, stride, a, b, sizes, accumulate, ahead),
            "x86_64+avx2" => all_tiles::<6, 2, 8, 2>(c, stride, a, b, sizes, accumulate, ahead),
            _ => all_tiles::<6, 4, 4, 4>(c, stride, a, b, sizes, accumulate, ahead),
        }
    }
}

/// Loops over blocks of k, panels, and tiles of up to `ROWS` rows, `V` × `L` columns at a time, or of a narrow matrix `H` × `L`.
///
/// # Panics
/// As [`product`], and for sizes of 0.
#[inline(always)]
fn all_tiles<const ROWS: usize, const V: usize, const L: usize, const H: usize>(
    c: &mut [f32],
    stride: usize,
    a: Left,
    b: Right,
    [m, k, n]: [usize; 3],
    accumulate: bool,
    ahead: [&[f32]; 3],
) {
    const { assert!(ROWS <= MAX_ROWS) };
    // All that the kernel reads and writes, once: in a tile only C is looked at again.
    check(c, stride, a, b, [m, k, n]);
    // Tiles of nearly equal height: a tile of one row takes as long as a full one.
    let tiles = m.div_ceil(ROWS);
    let (height, higher) = (m / tiles, m % tiles);
    let fetches = ahead.iter().any(|ahead| !ahead.is_empty());
    let shares = if fetches { tiles * k.div_ceil(BLOCK) * n.div_ceil(PANEL) } else { 1 };
    let mut ahead = ahead.map(|ahead| ahead.chunks(ahead.len().div_ceil(shares).next_multiple_of(LINE).max(LINE)));
    for start in (0..k).step_by(BLOCK) {
        let terms = BLOCK.min(k - start);
        let add = accumulate || start > 0;
        for first in (0..n).step_by(PANEL) {
            let columns = PANEL.min(n - first);
            let b_panel = &b.values[first / PANEL * b.panel + start * b.row..];
            for tile in 0..tiles {
                if fetches {
                    ahead.iter_mut().filter_map(Iterator::next).for_each(fetch);
                }
                let (top, rows) = (tile * height + tile.min(higher), height + usize::from(tile < higher));
                let a_rows = &a.values[top * a.row + start * a.col..];
                let out = &mut c[top * stride + first..];
                if columns == PANEL {
                    // SAFETY: `check` found that A reaches row m − 1, column k − 1, of which top + rows − 1 and start +
                    // terms − 1 are none beyond, and B row k − 1 of the last panel with all its columns.
                    unsafe {
                        tile_of::<V, L, PANEL>(rows, terms, a_rows, a.row, a.col, b_panel, b.row, out, stride, add);
                    }
                } else if n == HALF {
                    // SAFETY: as above; of so narrow a B `check` found these columns.
                    unsafe {
                        tile_of::<H, L, HALF>(rows, terms, a_rows, a.row, a.col, b_panel, b.row, out, stride, add);
                    }
                } else {
                    // The sums of the padding must not go into C.
                    let mut whole = [0.0; MAX_ROWS * PANEL];
                    let whole = &mut whole[..];
                    // SAFETY: as above; B holds the padding, too.
                    unsafe {
                        tile_of::<V, L, PANEL>(rows, terms, a_rows, a.row, a.col, b_panel, b.row, whole, PANEL, false);
                    }
                    for (row, sums) in out.chunks_mut(stride).zip(whole.chunks_exact(PANEL)).take(rows) {
                        for (c, sum) in row.iter_mut().zip(&sums[..columns]) {
                            *c = if add { *c + sum } else { *sum };
                        }
                    }
                }
            }
        }
    }
}

/// Chunk `at` of `values` in `count` about equal ones of whole cache lines: what one of `count` products prefetches.
pub fn share(values: &[f32], at: usize, count: usize) -> &[f32] {
    let len = values.len().div_ceil(count).next_multiple_of(LINE);
    rest(values, at * len, len)
}

/// Prefetches `values` into the cache.
#[inline(always)]
fn fetch(values: &[f32]) {
    for line in values.chunks(LINE) {
        #[cfg(target_arch = "x86_64")]
        // SAFETY: a hint, which reads nothing.
        unsafe {
            use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast());
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = line;
    }
}

/// A tile of `rows` rows by `WIDTH` columns, by a function compiled for that number of rows.
///
/// # Safety
/// A must hold `rows` rows of `terms` > 0 terms, `a[(rows − 1) · a_row + (terms − 1) · a_col]` the last of them; B that many
/// rows of `WIDTH` values, the last one from `b[(terms − 1) · b_row]` on.
///
/// # Panics
/// If C does not hold the tile, or `rows` is not 1 to [`MAX_ROWS`].
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the arguments of a BLAS kernel")]
unsafe fn tile_of<const V: usize, const L: usize, const WIDTH: usize>(
    rows: usize,
    terms: usize,
    a: &[f32],
    a_row: usize,
    a_col: usize,
    b: &[f32],
    b_row: usize,
    c: &mut [f32],
    stride: usize,
    add: bool,
) {
    const { assert!(WIDTH.is_multiple_of(V * L)) };
    assert!(c.len() >= (rows - 1) * stride + WIDTH);
    for first in (0..WIDTH).step_by(V * L) {
        let (b, c) = (&b[first..], &mut c[first..]);
        // SAFETY: the caller's promise for A and B: V · L columns from `first` on end in the panel, of which they divide the
        // width. C was checked just now.
        unsafe {
            match rows {
                1 => tile::<1, V, L>(terms, a, a_row, a_col, b, b_row, c, stride, add),
                2 => tile::<2, V, L>(terms, a, a_row, a_col, b, b_row, c, stride, add),
                3 => tile::<3, V, L>(terms, a, a_row, a_col, b, b_row, c, stride, add),
                4 => tile::<4, V, L>(terms, a, a_row, a_col, b, b_row, c, stride, add),
                5 => tile::<5, V, L>(terms, a, a_row, a_col, b, b_row, c, stride, add),
                6 => tile::<6, V, L>(terms, a, a_row, a_col, b, b_row, c, stride, add),
                7 => tile::<7, V, L>(terms, a, a_row, a_col, b, b_row, c, stride, add),
                8 => tile::<8, V, L>(terms, a, a_row, a_col, b, b_row, c, stride, add),
                _ => unreachable!("a tile of {rows} rows"),
            }
        }
    }
}

/// `R` rows by `V` × `L` columns of C: one chain of `terms` fused multiply-adds each.
///
/// # Safety
/// A must hold `R` rows and B `V` · `L` columns of `terms` terms, C that many rows and columns: the last elements are
/// `a[(R − 1) · a_row + (terms − 1) · a_col]`, `b[(terms − 1) · b_row + V · L − 1]` and `c[(R − 1) · stride + V · L − 1]`.
#[inline(always)]
#[allow(clippy::too_many_arguments, reason = "the arguments of a BLAS kernel")]
unsafe fn tile<const R: usize, const V: usize, const L: usize>(
    terms: usize,
    a: &[f32],
    a_row: usize,
    a_col: usize,
    b: &[f32],
    b_row: usize,
    c: &mut [f32],
    stride: usize,
    add: bool,
) {
    let mut sums = [[[0.0f32; L]; V]; R];
    let (mut a, mut b, c) = (a.as_ptr(), b.as_ptr(), c.as_mut_ptr());
    for _ in 0..terms {
        // SAFETY: the caller's promise; checked slices here cost half of the rate.
        unsafe {
            let columns: [[f32; L]; V] = std::array::from_fn(|v| *b.add(v * L).cast());
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = *a.add(r * a_row);
                for (sums, columns) in sums.iter_mut().zip(&columns) {
                    for (sum, y) in sums.iter_mut().zip(columns) {
                        *sum = x.mul_add(*y, *sum);
                    }
                }
            }
            a = a.wrapping_add(a_col);
            b = b.wrapping_add(b_row);
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        for (v, sums) in sums.iter().enumerate() {
            // SAFETY: the caller's promise.
            let c: &mut [f32; L] = unsafe { &mut *c.add(r * stride + v * L).cast() };
            for (c, sum) in c.iter_mut().zip(sums) {
                *c = if add { *c + sum } else { *sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rng::{Purpose, Stream};

    /// The contract, literally.
    fn oracle(a: &[f32], b: &[f32], [m, k, n]: [usize; 3], before: Option<&[f32]>) -> Vec<f32> {
        let element = |i: usize, j: usize| {
            let terms: Vec<usize> = (0..k).collect();
            let blocks = terms.chunks(BLOCK);
            let mut sums =
                blocks.map(|block| block.iter().fold(0.0f32, |sum, &p| a[i * k + p].mul_add(b[p * n + j], sum)));
            let start = before.map_or_else(|| sums.next().unwrap_or(0.0), |before| before[i * n + j]);
            sums.fold(start, |sum, block| sum + block)
        };
        (0..m * n).map(|at| element(at / n, at % n)).collect()
    }

    fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
        (0..rows * cols).map(|at| values[at % rows * cols + at / rows]).collect()
    }

    /// B [k, n] in packed panels; NaN where nothing may be read into a result.
    fn packed(b: &[f32], k: usize, n: usize) -> Vec<f32> {
        let value = |at: usize| {
            let (panel, row, column) = (at / (k * PANEL), at / PANEL % k, at % PANEL);
            if panel * PANEL + column < n { b[row * n + panel * PANEL + column] } else { f32::NAN }
        };
        (0..n.div_ceil(PANEL) * k * PANEL).map(value).collect()
    }

    fn bits(values: &[f32]) -> Vec<u32> {
        values.iter().map(|v| v.to_bits()).collect()
    }

    /// Also where the index of the last element overflows.
    #[test]
    fn matrices_that_are_too_short_are_refused() {
        let values = [0.0; 64];
        let good = Left { values: &values, row: 1, col: 1 };
        let b = Right::packed(&values, 1);
        let refused = |c: usize, stride: usize, left: Left, right: Right, sizes: [usize; 3]| {
            let run = || product(&mut vec![0.0; c], stride, left, right, sizes, false);
            assert!(std::panic::catch_unwind(run).is_err(), "{sizes:?}");
        };
        refused(3, 2, good, b, [2, 1, 2]);
        refused(4, 1, good, b, [2, 1, 2]);
        refused(usize::MAX.count_ones() as usize, usize::MAX, good, b, [3, 1, 2]);
        refused(6, 2, Left { values: &values[..2], ..good }, b, [3, 1, 2]);
        refused(6, 2, Left { row: 1 << (usize::BITS - 1), ..good }, b, [3, 1, 2]);
        refused(3, 2, good, Right { values: &values[..31], ..b }, [1, 1, 2]);
        refused(100, 100, good, Right { panel: 1 << (usize::BITS - 2), ..b }, [1, 1, 100]);
    }

    /// Sizes at several edges that Miri, which is thousands of times slower, can do.
    const SMALL: [[usize; 3]; 2] = [[1, 65, 3], [9, 2, 33]];

    type Tiles = fn(&mut [f32], usize, Left, Right, [usize; 3], bool, [&[f32]; 3]);

    /// Those of every instruction set, on any CPU.
    #[test]
    fn every_shape_of_tile_adds_in_the_same_order() {
        let more = [[8, 65, 32], [7, 64, 64], [9, 65, 16]];
        for &sizes in SMALL.iter().chain(more.iter().filter(|_| !cfg!(miri))) {
            let [m, k, n] = sizes;
            let mut stream = Stream::new(0, Purpose::Init, k as u32, m as u32);
            let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| stream.normal()).collect() };
            let (a, b) = (draw(m * k), draw(k * n));
            let panels = packed(&b, k, n);
            let (left, right) = (Left { values: &a, row: k, col: 1 }, Right::packed(&panels, k));
            let sums = |tiles: Tiles| {
                let mut c = vec![f32::NAN; m * n];
                tiles(&mut c, n, left, right, sizes, false, [&a, &b, &panels[..5]]);
                bits(&c)
            };
            let expected = bits(&oracle(&a, &b, sizes, None));
            assert_eq!(sums(all_tiles::<8, 2, 16, 1>), expected, "AVX-512, {sizes:?}");
            assert_eq!(sums(all_tiles::<6, 2, 8, 2>), expected, "AVX2, {sizes:?}");
            assert_eq!(sums(all_tiles::<6, 4, 4, 4>), expected, "other, {sizes:?}");
        }
    }

    /// Each function looks after itself, whoever calls it.
    #[test]
    fn the_kernel_relies_on_no_check_of_its_caller() {
        let values = [1.0; 3 * PANEL];
        let refuses = |what: &str, run: &dyn Fn()| {
            let run = std::panic::AssertUnwindSafe(run);
            assert!(std::panic::catch_unwind(run).is_err(), "{what}");
        };
        let tiles = |c: usize, a: usize, b: usize, sizes: [usize; 3]| {
            let a = Left { values: &values[..a], row: 3, col: 1 };
            let b = Right::packed(&values[..b], 3);
            all_tiles::<6, 4, 4, 4>(&mut vec![0.0; c], PANEL, a, b, sizes, false, [&[]; 3]);
        };
        let whole = 3 * PANEL;
        tiles(2 * PANEL, 6, whole, [2, 3, PANEL]);
        refuses("A", &|| tiles(2 * PANEL, 5, whole, [2, 3, PANEL]));
        refuses("B", &|| tiles(2 * PANEL, 6, whole - 1, [2, 3, PANEL]));
        refuses("C", &|| tiles(2 * PANEL - 1, 6, whole, [2, 3, PANEL]));
        for sizes in [[0, 3, PANEL], [2, 0, PANEL], [2, 3, 0]] {
            refuses("nothing", &|| tiles(2 * PANEL, 6, whole, sizes));
        }
        let tile = |rows: usize| {
            let (a, mut c) = ([1.0; MAX_ROWS + 1], [0.0; (MAX_ROWS + 1) * PANEL]);
            // SAFETY: one term of up to MAX_ROWS + 1 rows and one of PANEL columns are there.
            unsafe { tile_of::<4, 4, PANEL>(rows, 1, &a, 1, 1, &values, PANEL, &mut c, PANEL, false) };
            c.iter().filter(|&&sum| sum == 1.0).count()
        };
        assert_eq!([tile(1), tile(MAX_ROWS)], [PANEL, MAX_ROWS * PANEL]);
        refuses("no row", &|| assert!(tile(0) > 0));
        refuses("too many rows", &|| assert!(tile(MAX_ROWS + 1) > 0));
    }

    fn check_sums(m: usize, k: usize, n: usize) {
        let mut stream = Stream::new(0, Purpose::Init, k as u32, (m * 1000 + n) as u32);
        let mut draw = |len: usize| -> Vec<f32> { (0..len).map(|_| stream.normal()).collect() };
        let (a, b, before) = (draw(m * k), draw(k * n), draw(m * n));
        let (a_t, panels) = (transpose(&a, m, k), packed(&b, k, n));
        let width = if n == HALF { HALF } else { n.next_multiple_of(PANEL) };
        let wide: Vec<f32> =
            (0..k * width).map(|at| if at % width < n { b[at / width * n + at % width] } else { 0.0 }).collect();
        let lefts = [Left { values: &a, row: k, col: 1 }, Left { values: &a_t, row: 1, col: m }];
        let rights = [Right::packed(&panels, k), Right::rows(&wide, width)];
        for (form, (left, right)) in lefts.into_iter().flat_map(|l| rights.map(|r| (l, r))).enumerate() {
            for before in [None, Some(&before[..])] {
                // C in the middle of longer rows, whose other values must stay.
                let stride = n + 3;
                let mut c = vec![7.0; m * stride];
                for (row, before) in c.chunks_mut(stride).zip(before.into_iter().flat_map(|b| b.chunks(n))) {
                    row[..n].copy_from_slice(before);
                }
                product(&mut c, stride, left, right, [m, k, n], before.is_some());
                let rows: Vec<f32> = c.chunks(stride).flat_map(|row| &row[..n]).copied().collect();
                assert_eq!(bits(&rows), bits(&oracle(&a, &b, [m, k, n], before)), "{m}×{k}×{n}, form {form}");
                assert!(c.chunks(stride).all(|row| row[n..] == [7.0; 3]), "{m}×{k}×{n}: beyond C");
            }
        }
    }

    #[test]
    fn the_order_of_sums_is_the_contract_at_its_edges() {
        if cfg!(miri) {
            return SMALL.iter().for_each(|&[m, k, n]| check_sums(m, k, n));
        }
        for m in [1, 2, 7, 8, 9, 65] {
            for n in [1, 3, 16, 32, 33] {
                for k in [1, 2, 63, 64, 65, 256, 257, 513] {
                    check_sums(m, k, n);
                }
            }
        }
    }

    #[test]
    fn shares_make_the_whole() {
        let values: Vec<f32> = (0..100).map(|i| i as f32).collect();
        for of in [1, 3, 7, 200] {
            let shares: Vec<&[f32]> = (0..of).map(|at| share(&values, at, of)).collect();
            assert_eq!(shares.concat(), values, "{of}");
            assert!(shares.iter().all(|part| part.len() % LINE == 0 || part.last() == values.last()), "{of}");
        }
        assert!(share(&[], 0, 4).is_empty());
    }

    #[test]
    fn an_empty_sum_is_zero() {
        let mut c = [5.0; 6];
        let (a, b) = (Left { values: &[], row: 0, col: 1 }, Right::packed(&[], 0));
        product(&mut c, 3, a, b, [2, 0, 3], true);
        assert_eq!(c, [5.0; 6]);
        product(&mut c, 3, a, b, [2, 0, 3], false);
        assert_eq!(c, [0.0; 6]);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_order_of_sums_is_the_contract(m in 1usize..80, k in 1usize..600, n in 1usize..120) {
            check_sums(m, k, n);
        }
    }
}
