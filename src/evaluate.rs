//! Metrics of a network's outputs, on the host, in double precision and in a fixed order.

mod views;

pub use views::TestViews;

use crate::data::MAX_CLASSES;
use crate::neighbors::{Neighbor, nearest, normalized};

/// The number of right predictions: rows of `logits` [n, classes] whose largest value, the first of several, is at
/// their label; n labels.
pub fn correct(logits: &[f32], labels: &[u16]) -> u32 {
    hits(logits, labels).map(u32::from).sum()
}

/// Of each row of `logits` [n, classes] whether its largest value, the first of several, is at its label; n labels.
pub fn hits(logits: &[f32], labels: &[u16]) -> impl Iterator<Item = bool> {
    rows(logits, labels.len()).zip(labels).map(|(row, &label)| argmax(row) == usize::from(label))
}

/// The share of `answers` (an image's label, and whether it was right) that are right; NaN without answers.
pub fn top1(answers: &[(u16, bool)]) -> f64 {
    answers.iter().filter(|(_, right)| *right).count() as f64 / answers.len() as f64
}

/// The mean over the classes that have images of the share of their images that are answered right (Brodersen et al.,
/// "The balanced accuracy and its posterior distribution", 2010; scikit-learn's `balanced_accuracy_score`). None where
/// those classes have one size: it is [`top1`] then.
pub fn balanced_top1(answers: &[(u16, bool)]) -> Option<f64> {
    let mut classes = vec![[0u32; 2]; MAX_CLASSES];
    for &(label, right) in answers {
        let [all, correct] = &mut classes[usize::from(label)];
        (*all, *correct) = (*all + 1, *correct + u32::from(right));
    }
    let there: Vec<[u32; 2]> = classes.into_iter().filter(|class| class[0] > 0).collect();
    let differ = there.iter().any(|class| class[0] != there[0][0]);
    let recalls = there.iter().map(|&[all, correct]| f64::from(correct) / f64::from(all));
    differ.then(|| recalls.sum::<f64>() / there.len() as f64)
}

/// The sum over rows of the cross-entropy −ln softmax(logits)\[label\], in nats (PyTorch's `cross_entropy` with
/// `reduction="sum"`). `logits` is [n, classes], with n labels.
///
/// # Panics
/// If a label is not below `classes`.
pub fn cross_entropy_sum(logits: &[f32], labels: &[u16]) -> f64 {
    let loss = |(row, &label): (&[f32], &u16)| {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = row.iter().map(|&x| libm::exp(f64::from(x) - f64::from(max))).sum();
        libm::log(sum) + f64::from(max) - f64::from(row[usize::from(label)])
    };
    rows(logits, labels.len()).zip(labels).map(loss).sum()
}

/// A weighted kNN classifier.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Knn {
    /// Neighbours that vote.
    pub k: usize,
    /// T: a neighbour's vote is exp(cosine / T).
    pub temperature: f64,
}

/// The predictions of a weighted kNN classifier: for each row of `queries` the class with the most votes among the
/// nearest rows of `bank`, of equal ones the first (Wu et al., "Unsupervised feature learning via non-parametric
/// instance discrimination", 2018, §3.4; the monitor of Chen and He, 2021, §4.1 and appendix D). `queries` is
/// [n, width] and `bank` [m, width], with m labels; rows are normalised here. Empty where the bank is empty.
///
/// # Panics
/// If `width` is 0, or `bank` has fewer labels than rows.
pub fn knn_predictions(queries: Vec<f32>, bank: Vec<f32>, bank_labels: &[u16], width: usize, knn: Knn) -> Vec<usize> {
    let [queries, bank] = [queries, bank].map(|features| normalized(features, width));
    let found = nearest(&queries, &bank, width, knn.k);
    let k = found.len() / (queries.len() / width).max(1);
    let classes = bank_labels.iter().max().map_or(0, |&label| usize::from(label) + 1);
    let class = |near: &[Neighbor]| {
        let mut votes = vec![0.0f64; classes];
        for &(cosine, row) in near {
            // Relative to the largest possible vote, so that none overflows.
            let vote = libm::exp((f64::from(cosine) - 1.0) / knn.temperature);
            votes[usize::from(bank_labels[row as usize])] += vote;
        }
        (1..classes).fold(0, |best, i| if votes[i] > votes[best] { i } else { best })
    };
    found.chunks_exact(k.max(1)).map(class).collect()
}

/// The collapse measure (Chen and He, 2021, §4.1 and figure 2): the standard deviation over the batch (divided by n,
/// not n − 1) of each component of z/max(‖z‖, 1e-12), averaged over the d components. Near 1/√d for outputs spread over
/// the sphere, 0 for collapsed ones. `z` is [n, d]. `moments` is scratch memory.
///
/// # Panics
/// If `n` is 0.
pub fn output_std(z: &[f32], n: usize, moments: &mut Vec<[f64; 2]>) -> f64 {
    let d = z.len() / n;
    moments.clear();
    moments.resize(d, [0.0; 2]);
    for row in rows(z, n) {
        let norm = row.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt().max(1e-12);
        for (x, [sum, square]) in row.iter().zip(&mut *moments) {
            let x = f64::from(*x) / norm;
            *sum += x;
            *square += x * x;
        }
    }
    let n = n as f64;
    let std = |[sum, square]: &[f64; 2]| (square / n - (sum / n) * (sum / n)).max(0.0).sqrt();
    moments.iter().map(std).sum::<f64>() / d as f64
}

fn rows(values: &[f32], n: usize) -> impl Iterator<Item = &[f32]> {
    values.chunks_exact((values.len() / n.max(1)).max(1))
}

/// The first index of the largest value; 0 of an empty row.
pub(crate) fn argmax(row: &[f32]) -> usize {
    (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn correct_counts_the_first_largest() {
        assert_eq!(correct(&[0.0, 2.0, 1.0, 3.0, 3.0, 0.0], &[1, 0]), 2);
        assert_eq!(correct(&[0.0, 2.0, 1.0, 3.0, 3.0, 0.0], &[0, 1]), 0);
    }

    /// `sklearn.metrics.balanced_accuracy_score(labels, taken)`, scikit-learn 1.9.1.
    #[test]
    fn balanced_accuracy_is_that_of_scikit_learn() {
        let of = |labels: &[u16], taken: &[u16]| {
            balanced_top1(&labels.iter().zip(taken).map(|(a, b)| (*a, a == b)).collect::<Vec<_>>())
        };
        assert_eq!(of(&[0, 0, 0, 0, 0, 0, 1, 1, 1], &[0, 0, 0, 0, 0, 1, 1, 0, 0]), Some(0.5833333333333334));
        assert_eq!(of(&[2, 2, 2, 5, 7, 7], &[2, 2, 5, 5, 2, 0]), Some(0.5555555555555555));
        assert_eq!(of(&[3, 3, 3, 3, 1], &[3; 5]), Some(0.5), "a constant answer is right of one class in two");
        assert_eq!(of(&[0, 1, 0, 1], &[0, 0, 0, 1]), None, "of one size it is the accuracy");
        assert_eq!(of(&[], &[]), None);
    }

    #[test]
    fn cross_entropy_of_equal_logits_is_ln_of_the_classes() {
        assert!((cross_entropy_sum(&[7.0; 20], &[3, 9]) - 2.0 * std::f64::consts::LN_10).abs() < 1e-14);
        // torch.nn.functional.cross_entropy(tensor([[1., 2., 3.]]), tensor([0])) in float64
        assert!((cross_entropy_sum(&[1.0, 2.0, 3.0], &[0]) - 2.407_605_964_444_38).abs() < 1e-14);
        assert!(cross_entropy_sum(&[1000.0, -1000.0], &[0]).abs() < 1e-12, "large logits do not overflow");
    }

    fn knn_correct(
        queries: &[f32],
        labels: &[u16],
        bank: &[f32],
        bank_labels: &[u16],
        width: usize,
        knn: Knn,
    ) -> usize {
        let classes = knn_predictions(queries.to_vec(), bank.to_vec(), bank_labels, width, knn);
        assert_eq!(classes.len(), labels.len());
        classes.iter().zip(labels).filter(|(class, label)| **class == usize::from(**label)).count()
    }

    #[test]
    fn knn_weighs_the_votes_of_the_nearest() {
        let bank = [1.0, 0.0, 0.9, 0.1, 0.0, 2.0, 0.1, 3.0, -1.0, 0.0];
        let labels = [3, 3, 5, 5, 7];
        let right = |query: [f32; 2], label: u16, k: usize, temperature: f64| {
            knn_correct(&query, &[label], &bank, &labels, 2, Knn { k, temperature })
        };
        assert_eq!(right([5.0, 1.0], 3, 2, 0.1), 1, "lengths do not matter");
        assert_eq!(right([1.0, 9.0], 5, 2, 0.1), 1);
        // One neighbour at cosine 1 against two at 0: e¹⁰ : 2 with T = 0.1, e^0.01 : 2 with T = 100.
        let bank = [1.0, 0.0, 0.0, 1.0, 0.0, 1.0];
        let right =
            |label, temperature| knn_correct(&[1.0, 0.0], &[label], &bank, &[1, 2, 2], 2, Knn { k: 3, temperature });
        assert_eq!([right(1, 0.1), right(2, 0.1), right(1, 100.0), right(2, 100.0)], [1, 0, 0, 1]);
        assert_eq!(right(1, 1e-3), 1, "no vote overflows");
        // Cosines 1 and 0.8 with T = 0.001: e¹⁰⁰⁰ and e⁸⁰⁰ would both be infinite, and the lower class would win.
        let of = |labels: &[u16], bank: &[f32], bank_labels: &[u16], k: usize| {
            let queries = [1.0, 0.0, 0.0, 1.0];
            knn_correct(&queries[..2 * labels.len()], labels, bank, bank_labels, 2, Knn { k, temperature: 1e-3 })
        };
        assert_eq!(of(&[2], &[0.8, 0.6, 1.0, 0.0], &[1, 2], 2), 1);
        assert_eq!(of(&[1], &[1.0, 0.0, 1.0, 0.0], &[2, 1], 2), 1, "of equal votes the first class wins");
        // Each of several queries has its own neighbours.
        assert_eq!(of(&[2, 1], &[1.0, 0.1, 1.0, 0.2, 0.1, 1.0, 0.2, 1.0], &[2, 2, 1, 1], 2), 2);
        assert_eq!(of(&[1, 1], &[1.0, 0.1, 1.0, 0.2, 0.1, 1.0, 0.2, 1.0], &[2, 2, 1, 1], 2), 1);
    }

    #[test]
    fn output_std_tells_spread_from_collapse() {
        let mut stream = crate::rng::Stream::new(0, crate::rng::Purpose::Init, 0, 0);
        let spread: Vec<f32> = (0..256 * 64).map(|_| stream.normal()).collect();
        assert!((output_std(&spread, 256, &mut vec![]) - 0.125).abs() < 0.002, "1/√64");
        let collapsed: Vec<f32> = (0..256 * 64).map(|i| (i % 64) as f32).collect();
        assert!(output_std(&collapsed, 256, &mut vec![[1.0; 2]; 99]) < 1e-7);
    }
}
