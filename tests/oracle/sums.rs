//! The orders of sums.

use std::collections::BTreeMap;

/// Values by tensor name.
pub type Tensors = BTreeMap<String, Vec<f32>>;

/// A matrix product's element: in blocks of 64 terms, each a chain of fused multiply-adds from +0, blocks added in
/// order to `start`.
pub fn dot(terms: impl Iterator<Item = (f32, f32)>, start: Option<f32>) -> f32 {
    let terms: Vec<(f32, f32)> = terms.collect();
    let chains = terms.chunks(64).map(|block| block.iter().fold(0.0f32, |sum, (x, y)| x.mul_add(*y, sum)));
    start.into_iter().chain(chains).reduce(|sum, block| sum + block).unwrap()
}

/// A sum along a row: 16 running sums, then those in pairs.
pub fn along(terms: &[f64]) -> f64 {
    let mut sums: Vec<f64> =
        (0..16).map(|lane| terms.iter().skip(lane).step_by(16).fold(0.0, |sum, x| sum + x)).collect();
    while sums.len() > 1 {
        let half = sums.len() / 2;
        sums = (0..half).map(|i| sums[i] + sums[i + half]).collect();
    }
    sums[0]
}

/// Consecutive examples, a batch of their own in batch norm: normalised by its own statistics, or by the running ones.
#[derive(Clone)]
pub struct Group {
    pub examples: std::ops::Range<usize>,
    pub train: bool,
}

/// Groups of so many examples each, in train mode or not.
pub fn groups(of: &[(usize, bool)]) -> Vec<Group> {
    let mut first = 0;
    let group = |&(n, train): &(usize, bool)| {
        first += n;
        Group { examples: first - n..first, train }
    };
    of.iter().map(group).collect()
}
