//! UMAP: a map of features in the plane that keeps neighbours together (McInnes, Healy and Melville, "UMAP: Uniform
//! manifold approximation and projection for dimension reduction", 2018). Constants are those of the authors'
//! umap-learn with its defaults, `metric="cosine"` and `init="pca"`; unlike there, the neighbours are exact, the
//! principal components are of the normalised rows, and the start has no noise.
//!
//! A [`Graph`] joins every row to its nearest neighbours; [`Graph::layout`] pulls joined points together and pushes
//! random pairs apart, one after the other, so that the same seed gives the same bits on any number of threads.

use std::collections::BTreeMap;

use rayon::prelude::*;

use crate::neighbors::{Neighbor, nearest, normalized};
use crate::rng::{Purpose, Stream};

/// Nearest rows that a row is joined to, itself included (`n_neighbors`).
const NEIGHBORS: usize = 15;
/// A and B of the attraction 1 / (1 + A·d^2B): `umap.umap_.find_ab_params(spread=1.0, min_dist=0.1)`.
const A: f32 = 1.576_943_5;
const B: f32 = 0.895_060_9;
/// Negative samples per joined pair (`negative_sample_rate`).
const PUSHES: f32 = 5.0;
/// The longest step along an axis (`clip`).
const LONGEST: f32 = 4.0;
/// Width and height of the layout at its start.
const EXTENT: f32 = 10.0;
/// Rows in one partial sum: the order of the sums does not depend on threads.
const PARTIAL: usize = 256;

/// Rows and their weighted edges (the paper's algorithms 2 and 3; distance: 1 − cosine).
pub struct Graph {
    /// (row, other row, weight in (0, 1]), in both directions, in order.
    edges: Vec<(u32, u32, f32)>,
    /// Where the layout starts.
    start: Vec<[f32; 2]>,
}

impl Graph {
    /// The graph of features [n, width]. All pairs are compared, so the time grows with n².
    ///
    /// # Panics
    /// If `width` is 0.
    pub fn new(features: Vec<f32>, width: usize) -> Graph {
        let rows = normalized(features, width);
        let near = nearest(&rows, &rows, width, NEIGHBORS);
        let n = rows.len() / width.max(1);
        Graph { edges: edges(&near, NEIGHBORS.min(n)), start: principal_components(&rows, width) }
    }

    /// A point (x, y) for every row, in arbitrary units: the start is 10 wide and high. `seed` draws the negative
    /// samples (the paper's algorithm 5). 500 epochs for up to 10,000 rows, else 200, as in umap-learn.
    pub fn layout(&self, seed: u64) -> Vec<[f32; 2]> {
        let mut points = self.start.clone();
        let n = points.len();
        let epochs: u32 = if n <= 10_000 { 500 } else { 200 };
        let strongest = self.edges.iter().map(|edge| edge.2).fold(0.0, f32::max);
        // An edge is sampled in proportion to its weight; one that would never be is left out.
        let edges: Vec<_> = self.edges.iter().filter(|edge| edge.2 >= strongest / epochs as f32).collect();
        let every: Vec<f32> = edges.iter().map(|edge| strongest / edge.2).collect();
        let mut pull_at = every.clone();
        let mut push_at: Vec<f32> = every.iter().map(|every| every / PUSHES).collect();
        for epoch in 0..epochs {
            let mut stream = Stream::new(seed, Purpose::Umap, epoch, 0);
            let (now, rate) = (epoch as f32, 1.0 - epoch as f32 / epochs as f32);
            for (i, &&(row, other, _)) in edges.iter().enumerate() {
                if pull_at[i] > now {
                    continue;
                }
                pull_at[i] += every[i];
                let (row, other) = (row as usize, other as usize);
                let (between, square) = difference(points[row], points[other]);
                if square > 0.0 {
                    let power = libm::powf(square, B);
                    let pull = -2.0 * A * B * power / square / (A * power + 1.0);
                    for axis in 0..2 {
                        let step = (pull * between[axis]).clamp(-LONGEST, LONGEST) * rate;
                        points[row][axis] += step;
                        points[other][axis] -= step;
                    }
                }
                let pushes = ((now - push_at[i]) * PUSHES / every[i]) as u32;
                push_at[i] += pushes as f32 * every[i] / PUSHES;
                for _ in 0..pushes {
                    let (between, square) = difference(points[row], points[stream.below(n as u32) as usize]);
                    if square > 0.0 {
                        let push = 2.0 * B / ((0.001 + square) * (A * libm::powf(square, B) + 1.0));
                        for axis in 0..2 {
                            points[row][axis] += (push * between[axis]).clamp(-LONGEST, LONGEST) * rate;
                        }
                    }
                }
            }
        }
        points
    }
}

/// The vector from `b` to `a`, and its length squared.
fn difference(a: [f32; 2], b: [f32; 2]) -> ([f32; 2], f32) {
    let between = [a[0] - b[0], a[1] - b[1]];
    (between, between[0] * between[0] + between[1] * between[1])
}

/// Each row's certainties (`k` neighbours a row, its own entry among them), then p + q − p·q of both directions
/// (`fuzzy_simplicial_set`).
fn edges(near: &[Neighbor], k: usize) -> Vec<(u32, u32, f32)> {
    let mut both: BTreeMap<(u32, u32), f32> = BTreeMap::new();
    for (row, near) in (0..).zip(near.chunks_exact(k.max(1))) {
        // Of equal rows another may stand first.
        let mut others: Vec<(f32, u32)> = near.iter().copied().filter(|&(_, other)| other != row).collect();
        others.truncate(k - 1);
        let distances: Vec<f64> = others.iter().map(|&(cosine, _)| (1.0 - f64::from(cosine)).max(0.0)).collect();
        for (certainty, (_, other)) in certainties(&distances).into_iter().zip(others) {
            for edge in [(row, other), (other, row)] {
                let p = both.entry(edge).or_insert(0.0);
                *p = *p + certainty - *p * certainty;
            }
        }
    }
    both.into_iter().filter(|&(_, p)| p > 0.0).map(|((row, other), p)| (row, other, p)).collect()
}

/// exp(−(d − nearest) / σ) with σ such that they sum to log₂ of the number of neighbours (`smooth_knn_dist`).
fn certainties(distances: &[f64]) -> Vec<f32> {
    let target = libm::log2((distances.len() + 1) as f64);
    let nearest = distances.iter().copied().find(|&d| d > 0.0).unwrap_or(0.0);
    let of = |sigma: f64| distances.iter().map(move |d| libm::exp(-(d - nearest).max(0.0) / sigma));
    let (mut low, mut high, mut sigma) = (0.0, f64::INFINITY, 1.0);
    for _ in 0..64 {
        let sum: f64 = of(sigma).sum();
        if (sum - target).abs() < 1e-5 {
            break;
        }
        if sum > target {
            high = sigma
        } else {
            low = sigma
        }
        sigma = if high.is_finite() { (low + high) / 2.0 } else { sigma * 2.0 };
    }
    // Keeps many equal distances from dividing by almost 0 (`MIN_K_DIST_SCALE`).
    let mean = distances.iter().sum::<f64>() / (distances.len() + 1) as f64;
    of(sigma.max(1e-3 * mean)).map(|p| p as f32).collect()
}

/// The rows' first two principal components, scaled to the extent of the start.
fn principal_components(rows: &[f32], width: usize) -> Vec<[f32; 2]> {
    let n = rows.len() / width.max(1);
    let mean = weighted_sum(rows, width, &vec![1.0 / n.max(1) as f64; n]);
    let mut axes: [Vec<f64>; 2] = [0, 1].map(|axis| {
        let mut stream = Stream::new(0, Purpose::Umap, u32::MAX, axis);
        (0..width).map(|_| f64::from(stream.normal())).collect()
    });
    let mut along = [vec![], vec![]];
    // Power iteration: by then the start no longer changes visibly.
    for _ in 0..30 {
        orthonormalize(&mut axes);
        for (axis, along) in axes.iter_mut().zip(&mut along) {
            let shift = dot(axis, mean.iter().copied());
            let project = |row: &[f32]| dot(axis, row.iter().map(|&x| f64::from(x))) - shift;
            *along = rows.par_chunks_exact(width).map(project).collect::<Vec<f64>>();
            *axis = weighted_sum(rows, width, along);
        }
    }
    let scaled = along.map(|along| {
        let (low, high) = along.iter().fold((f64::MAX, f64::MIN), |(low, high), &x| (low.min(x), high.max(x)));
        let scale = if high > low { f64::from(EXTENT) / (high - low) } else { 0.0 };
        along.into_iter().map(|x| ((x - low) * scale) as f32).collect::<Vec<f32>>()
    });
    (0..n).map(|i| [scaled[0][i], scaled[1][i]]).collect()
}

fn dot(a: &[f64], b: impl Iterator<Item = f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Gram–Schmidt.
fn orthonormalize([first, second]: &mut [Vec<f64>; 2]) {
    let normalize = |axis: &mut Vec<f64>| {
        let length = dot(axis, axis.iter().copied()).sqrt();
        // Equal rows vary along no axis.
        axis.iter_mut().for_each(|x| *x = if length > 1e-100 { *x / length } else { 0.0 });
    };
    normalize(first);
    let along = dot(first, second.iter().copied());
    second.iter_mut().zip(first).for_each(|(b, a)| *b -= along * *a);
    normalize(second);
}

/// Σ weight × row, as partial sums added in order.
fn weighted_sum(rows: &[f32], width: usize, weights: &[f64]) -> Vec<f64> {
    let add = |mut sum: Vec<f64>, other: Vec<f64>| {
        sum.iter_mut().zip(other).for_each(|(a, b)| *a += b);
        sum
    };
    let partial = |(rows, weights): (&[f32], &[f64])| {
        let mut sum = vec![0.0; width];
        for (row, weight) in rows.chunks_exact(width).zip(weights) {
            sum.iter_mut().zip(row).for_each(|(sum, &x)| *sum += weight * f64::from(x));
        }
        sum
    };
    let partials: Vec<Vec<f64>> =
        rows.par_chunks(PARTIAL * width).zip(weights.par_chunks(PARTIAL)).map(partial).collect();
    partials.into_iter().fold(vec![0.0; width], add)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `umap.umap_.smooth_knn_dist` 0.5.12 on the distances 0 (itself), 0.1, 0.2, 0.4, 0.8: rho and sigma, then
    /// `compute_membership_strengths`.
    #[test]
    fn certainties_are_those_of_umap_learn() {
        let ours = certainties(&[0.1, 0.2, 0.4, 0.8]);
        for (ours, theirs) in ours.iter().zip([1.0, 0.754_180_13, 0.428_968_34, 0.138_779_61]) {
            assert!((f64::from(*ours) - theirs).abs() < 1e-5, "{ours} {theirs}");
        }
    }

    #[test]
    fn few_equal_or_no_rows_have_a_map_too() {
        assert!(Graph::new(vec![], 3).layout(0).is_empty());
        assert_eq!(Graph::new(vec![1.0, 2.0, 3.0], 3).layout(0).len(), 1);
        let points = Graph::new(vec![1.0; 60], 3).layout(0);
        assert!(points.len() == 20 && points.iter().flatten().all(|x| x.is_finite()), "{points:?}");
        let points = Graph::new(vec![0.0; 60], 3).layout(0);
        assert!(points.iter().flatten().all(|x| x.is_finite()), "{points:?}");
    }

    #[test]
    fn what_is_apart_stays_apart() {
        // Two bundles of directions.
        let mut stream = Stream::new(0, Purpose::Init, 0, 0);
        let mut features = vec![];
        for i in 0..60 {
            let noise = [0.1; 3].map(|size| size * stream.normal());
            features.extend(if i % 2 == 0 { [1.0 + noise[0], noise[1], noise[2]] } else { [noise[0], 1.0, noise[2]] });
        }
        let points = Graph::new(features, 3).layout(3);
        for (i, point) in points.iter().enumerate() {
            let square = |other: usize| difference(*point, points[other]).1;
            let nearest = (0..60).filter(|&j| j != i).min_by(|&a, &b| square(a).total_cmp(&square(b))).unwrap();
            assert_eq!(nearest % 2, i % 2, "{points:?}");
        }
    }
}
