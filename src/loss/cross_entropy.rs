//! Cross-entropy with labels, smoothed labels, or shares of every class.
//!
//! With targets t of a row, the loss is −Σ t·ln softmax(x) = Σ t·(ln Σ exp x − x), and its gradient softmax·Σ t − t. A label is
//! the target one-hot.

use crate::error::{Error, Result};

/// The mean over examples of −ln softmax(logits)\[label\], in nats (PyTorch's `cross_entropy`). Logits are [n, classes], with n
/// labels. `gradient` becomes (softmax − one-hot)/n.
///
/// # Errors
/// [`Error::Usage`] for labels of another number than rows, and for one that is no class.
pub fn cross_entropy(logits: &[f32], labels: &[u16], gradient: &mut Vec<f32>) -> Result<f64> {
    smoothed_cross_entropy(logits, labels, 0.0, gradient)
}

/// The mean over examples of −Σ t·ln softmax(logits), in nats, with the targets t = (1 − ε)·one-hot + ε/classes, ε being `smoothing`,
/// from 0 to 1 (Szegedy et al., "Rethinking the inception architecture for computer vision", 2016, §7; PyTorch's `cross_entropy`
/// with `label_smoothing`). Logits are [n, classes], with n labels. `gradient` becomes (softmax − t)/n.
///
/// # Errors
/// As [`cross_entropy`].
pub fn smoothed_cross_entropy(logits: &[f32], labels: &[u16], smoothing: f64, gradient: &mut Vec<f32>) -> Result<f64> {
    let n = labels.len();
    if n == 0 || !logits.len().is_multiple_of(n) {
        return Err(Error::Usage(format!("{n} labels for {} logits", logits.len())));
    }
    let classes = logits.len() / n;
    if let Some(label) = labels.iter().find(|label| usize::from(**label) >= classes) {
        return Err(Error::Usage(format!("label {label}, where there are {classes} classes")));
    }
    gradient.resize(logits.len(), 0.0);
    let rows = logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).zip(labels);
    let mut loss = 0.0;
    for ((logits, gradient), label) in rows {
        let hot = |class: usize| f64::from(u8::from(class == usize::from(*label)));
        loss += row(logits, |class| (1.0 - smoothing) * hot(class) + smoothing / classes as f64, 1.0, n, gradient);
    }
    Ok(loss / n as f64)
}

/// The mean over examples of the cross-entropy with `targets`, [n, classes] as the logits are, in nats (PyTorch's `cross_entropy` with
/// probabilities as its target), each times the example's weight if there are `weights`: the sum is divided by n, not by the sum
/// of the weights. `gradient` becomes weight·(softmax·Σ targets − targets)/n.
///
/// # Errors
/// [`Error::Usage`] for targets or weights of another number than logits or rows.
pub fn soft_cross_entropy(
    logits: &[f32],
    targets: &[f32],
    weights: Option<&[f32]>,
    n: usize,
    gradient: &mut Vec<f32>,
) -> Result<f64> {
    if n == 0 || !logits.len().is_multiple_of(n) || targets.len() != logits.len() {
        let (logits, targets) = (logits.len(), targets.len());
        return Err(Error::Usage(format!("{targets} targets for {logits} logits of {n} examples")));
    }
    if let Some(weights) = weights.filter(|weights| weights.len() != n) {
        return Err(Error::Usage(format!("{} weights for {n} examples", weights.len())));
    }
    let classes = logits.len() / n;
    gradient.resize(logits.len(), 0.0);
    let rows = logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).zip(targets.chunks_exact(classes));
    let mut loss = 0.0;
    for (i, ((logits, gradient), targets)) in rows.enumerate() {
        let weight = weights.map_or(1.0, |weights| f64::from(weights[i]));
        loss += row(logits, |class| f64::from(targets[class]), weight, n, gradient);
    }
    Ok(loss / n as f64)
}

/// The cross-entropy of one row with the target of each class, times `weight`, and its gradient over n.
pub(super) fn row(logits: &[f32], target: impl Fn(usize) -> f64, weight: f64, n: usize, gradient: &mut [f32]) -> f64 {
    let (exp, sum, ln_sum) = softmax(logits);
    let (mut loss, mut total) = (0.0, 0.0);
    // A class that is no target may have a probability of 0.
    for (class, x) in logits.iter().enumerate().filter(|(class, _)| target(*class) != 0.0) {
        loss += target(class) * (ln_sum - f64::from(*x));
        total += target(class);
    }
    for (class, (g, x)) in gradient.iter_mut().zip(logits).enumerate() {
        *g = (weight * (exp(*x) / sum * total - target(class)) / n as f64) as f32;
    }
    weight * loss
}

/// The numerators of the softmax of a row, relative to its largest value, their sum, and ln of the whole denominator.
pub(super) fn softmax(row: &[f32]) -> (impl Fn(f32) -> f64 + use<>, f64, f64) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = move |x: f32| libm::exp(f64::from(x) - f64::from(max));
    let sum: f64 = row.iter().map(|&x| exp(x)).sum();
    (exp, sum, libm::log(sum) + f64::from(max))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    const LOGITS: [f32; 12] = [1.5, -0.25, 0.5, 3.0, 0.0, 2.0, -1.0, 0.75, -2.0, 1.0, 1.0, 0.125];

    fn check(found: (f64, Vec<f32>), loss: f64, gradient: [f64; 12]) {
        assert!((found.0 - loss).abs() < 1e-15, "{}", found.0);
        for (g, expected) in found.1.iter().zip(gradient) {
            assert!((f64::from(*g) - expected).abs() < 1e-7 * expected.abs(), "{g}, not {expected}");
        }
    }

    /// `F.cross_entropy(x, torch.tensor([3, 0, 2]), label_smoothing=0.1)` and its gradient, in double precision (PyTorch 2.15).
    #[test]
    fn smoothed_labels_are_those_of_pytorch() {
        let mut gradient = vec![];
        let loss = smoothed_cross_entropy(&LOGITS, &[3, 0, 2], 0.1, &mut gradient).unwrap();
        #[rustfmt::skip]
        let expected = [
            0.047006925970510226, 0.0012833617574657483, 0.012025210333647347, -0.06031549806162326,
            -0.27767899189505835, 0.21817331522985509, 0.0029437686644578575, 0.05656190800074544,
            -0.0016053031743703005, 0.12680276484483885, -0.17319723515516117, 0.04799977348469273,
        ];
        check((loss, gradient), 1.2730822025691795, expected);
    }

    /// `(F.cross_entropy(x, t, reduction="none") * w).mean()`, likewise; the last row of t sums to more than 1.
    #[test]
    fn soft_and_weighted_targets_are_those_of_pytorch() {
        let targets = [0.5, 0.25, 0.25, 0.0, 0.0, 1.0, 0.0, 0.0, 0.125, 0.125, 0.5, 0.5];
        let mut gradient = vec![];
        let loss = soft_cross_entropy(&LOGITS, &targets, Some(&[1.0, 0.25, 2.0]), 3, &mut gradient).unwrap();
        #[rustfmt::skip]
        let expected = [
            -0.11132640736282311, -0.07371663824253424, -0.06297478966635266, 0.24801783527171006,
            0.007663585359568745, -0.02670667119253624, 0.002819275499447797, 0.01622381033351969,
            -0.06651325793592575, 0.25450691211209703, 0.004506912112097063, -0.19250056628826817,
        ];
        check((loss, gradient), 2.1539619886748422, expected);
    }

    /// As `cross_entropy` was before it had targets: the published results hang on it. A class without any probability changes
    /// nothing.
    #[test]
    fn labels_alone_have_the_bits_of_their_own_formula() {
        let mut logits = LOGITS;
        logits[2] = f32::NEG_INFINITY;
        let (labels, mut gradient, mut expected) = ([3, 0, 1], vec![], vec![]);
        let loss = cross_entropy(&logits, &labels, &mut gradient).unwrap();
        let mut sum_of_rows = 0.0;
        for (row, label) in logits.chunks(4).zip(labels) {
            let max = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
            let sum: f64 = row.iter().map(|x| libm::exp(f64::from(*x) - max)).sum();
            sum_of_rows += libm::log(sum) + max - f64::from(row[usize::from(label)]);
            expected.extend(row.iter().enumerate().map(|(class, x)| {
                let hot = f64::from(u8::from(class == usize::from(label)));
                ((libm::exp(f64::from(*x) - max) / sum - hot) / 3.0) as f32
            }));
        }
        assert_eq!((loss, gradient), (sum_of_rows / 3.0, expected));
        let (hot, mut soft) = ([0, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0].map(|hot| hot as f32), vec![]);
        assert_eq!(soft_cross_entropy(&logits, &hot, None, 3, &mut soft).unwrap(), loss);
    }

    #[test]
    fn targets_that_do_not_fit_are_refused() {
        let mut gradient = vec![];
        let mut soft =
            |targets: &[f32], weights| soft_cross_entropy(&LOGITS, targets, weights, 3, &mut gradient).unwrap_err();
        assert!(soft(&[0.5; 11], None).to_string().contains("11 targets for 12 logits of 3 examples"));
        assert!(soft(&[0.5; 12], Some(&[1.0; 4])).to_string().contains("4 weights for 3 examples"));
        assert!(cross_entropy(&LOGITS, &[0, 1, 4], &mut vec![]).unwrap_err().to_string().contains("label 4"));
    }
}
