//! Exact nearest neighbours by cosine similarity, in a fixed order.

use rayon::prelude::*;

use crate::engine::cpu::product::{Left, PANEL, Right, product};
use crate::engine::cpu::rows::pack_transposed;

/// Queries per matrix product.
const QUERIES: usize = 64;

/// The cosine similarity of a query and a row of the bank, and the row's index.
pub type Neighbor = (f32, u32);

/// The rows of `features` [n, width] scaled to length 1, in place: their products are cosines. A row of zeros stays.
///
/// # Panics
/// If `width` is 0.
pub fn normalized(features: Vec<f32>, width: usize) -> Vec<f32> {
    let mut rows = features;
    rows.par_chunks_exact_mut(width).for_each(|row| {
        let length = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
    });
    rows
}

/// For each row of `queries` [m, width] the `k` rows of `bank` [n, width] with the largest product, the largest first
/// and of equal ones the earlier: [m, min(k, n)] entries. Exact; products as in [`crate::engine::cpu::product`].
///
/// ```
/// let found = fewlabel::neighbors::nearest(&[1.0, 0.0], &[0.0, 1.0, 1.0, 0.0], 2, 1);
/// assert_eq!(found, [(1.0, 1)]);
/// ```
///
/// # Panics
/// If `width` is 0.
pub fn nearest(queries: &[f32], bank: &[f32], width: usize, k: usize) -> Vec<Neighbor> {
    let n = bank.len() / width;
    let k = k.min(n);
    if k == 0 {
        return vec![];
    }
    let mut panels = vec![0.0; n.next_multiple_of(PANEL) * width];
    pack_transposed(bank, width, n, &mut panels);
    let mut nearest = vec![(0.0, 0); queries.len() / width * k];
    nearest.par_chunks_mut(QUERIES * k).zip(queries.par_chunks(QUERIES * width)).for_each(|(nearest, queries)| {
        let m = queries.len() / width;
        let mut similar = vec![0.0; m * n];
        let left = Left { values: queries, row: width, col: 1 };
        product(&mut similar, n, left, Right::packed(&panels, width), [m, width, n], false);
        for (nearest, similar) in nearest.chunks_exact_mut(k).zip(similar.chunks_exact(n)) {
            let mut all: Vec<Neighbor> = similar.iter().copied().zip(0..).collect();
            let closer = |a: &Neighbor, b: &Neighbor| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
            if k < n {
                all.select_nth_unstable_by(k, closer);
            }
            all.truncate(k);
            all.sort_unstable_by(closer);
            nearest.copy_from_slice(&all);
        }
    });
    nearest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::{Purpose, Stream};

    #[test]
    fn the_nearest_are_those_of_a_full_sort() {
        let (width, n, m) = (70, 90, 65);
        let mut stream = Stream::new(0, Purpose::Init, 0, 0);
        let mut draw = |rows: usize| -> Vec<f32> { (0..rows * width).map(|_| stream.normal()).collect() };
        let (queries, mut bank) = (normalized(draw(m), width), draw(n));
        // Two equal rows, and one of zeros.
        bank.copy_within(3 * width..4 * width, 50 * width);
        bank[7 * width..8 * width].fill(0.0);
        let bank = normalized(bank, width);
        for k in [1, 5, 90, 200] {
            let found = nearest(&queries, &bank, width, k);
            assert_eq!(found.len(), m * k.min(n));
            for (query, found) in queries.chunks(width).zip(found.chunks(k.min(n))) {
                let similar = |row: usize| -> f64 {
                    query.iter().zip(&bank[row * width..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
                };
                for pair in found.windows(2) {
                    assert!(pair[0].0 > pair[1].0 || (pair[0].0 == pair[1].0 && pair[0].1 < pair[1].1), "{pair:?}");
                }
                for &(value, row) in found {
                    assert!((f64::from(value) - similar(row as usize)).abs() < 1e-5);
                }
                let worst = f64::from(found.last().unwrap().0);
                let better = (0..n).filter(|&row| similar(row) > worst + 1e-5).count();
                assert!(better < found.len(), "{better} rows are closer than the last of {}", found.len());
            }
        }
    }

    #[test]
    fn rows_are_divided_by_their_length() {
        assert_eq!(normalized(vec![3.0, 4.0, 0.0, 0.0, -2.0, 0.0], 2), [0.6, 0.8, 0.0, 0.0, -1.0, 0.0]);
    }
}
