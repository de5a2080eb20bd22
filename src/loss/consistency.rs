//! Losses of images without labels, by what another pass gives for them.
//!
//! FixMatch's is a cross-entropy with its class: the gradient of a counted row is (softmax − one-hot)/n. Mean teacher's is the
//! squared error of probabilities p to constants q, over K classes: with e = p − q, its gradient for the logits is 2/(nK) · p·(e
//! − Σ e·p).

use super::cross_entropy::{row, softmax};

/// FixMatch's loss of unlabelled images (Sohn et al., "FixMatch: simplifying semi-supervised learning with consistency and
/// confidence", 2020, equation 4): the mean over all images of the cross-entropy of the strong view's logits with the class that
/// the weak view's give, where its probability is at least `threshold`, else 0. Logits are [n, classes]. `gradient` becomes the
/// gradient for the strong view's; the weak view's are constants. Gives the loss, and the share of images that count.
///
/// # Panics
/// If the views differ in length, or `n` is 0 or not their number of rows.
pub fn consistency(weak: &[f32], strong: &[f32], n: usize, threshold: f64, gradient: &mut Vec<f32>) -> (f64, f64) {
    assert!(n > 0 && weak.len() == strong.len() && weak.len().is_multiple_of(n), "two views of the same images");
    let classes = weak.len() / n;
    gradient.resize(strong.len(), 0.0);
    let (mut loss, mut counted) = (0.0, 0.0);
    let rows = weak.chunks_exact(classes).zip(strong.chunks_exact(classes)).zip(gradient.chunks_exact_mut(classes));
    for ((weak, strong), gradient) in rows {
        let class = crate::evaluate::argmax(weak);
        let (of_weak, sum, _) = softmax(weak);
        if of_weak(weak[class]) / sum < threshold {
            gradient.fill(0.0);
            continue;
        }
        counted += 1.0;
        loss += row(strong, |c| f64::from(u8::from(c == class)), 1.0, n, gradient);
    }
    (loss / n as f64, counted / n as f64)
}

/// Mean teacher's loss of unlabelled images (Tarvainen and Valpola, "Mean teachers are better role models", 2017, equation 1;
/// their code's `softmax_mse_loss`): the mean over images and classes of (softmax(logits) − softmax(taught))². Both are [n,
/// classes]. `gradient` becomes the gradient for the logits; what is taught is a constant.
///
/// # Panics
/// If they differ in length, or `n` is 0 or not their number of rows.
pub fn squared_softmax(logits: &[f32], taught: &[f32], n: usize, gradient: &mut Vec<f32>) -> f64 {
    assert!(n > 0 && logits.len() == taught.len() && logits.len().is_multiple_of(n), "logits of the same images");
    let classes = logits.len() / n;
    gradient.resize(logits.len(), 0.0);
    let mut loss = 0.0;
    let rows = logits.chunks_exact(classes).zip(taught.chunks_exact(classes)).zip(gradient.chunks_exact_mut(classes));
    for ((logits, taught), gradient) in rows {
        let [(p, of_p, _), (q, of_q, _)] = [softmax(logits), softmax(taught)];
        let terms = || logits.iter().zip(taught).map(|(a, b)| (p(*a) / of_p, p(*a) / of_p - q(*b) / of_q));
        loss += terms().map(|(_, error)| error * error).sum::<f64>();
        let mean: f64 = terms().map(|(p, error)| p * error).sum();
        let scale = 2.0 / (n * classes) as f64;
        gradient.iter_mut().zip(terms()).for_each(|(g, (p, error))| *g = (scale * p * (error - mean)) as f32);
    }
    loss / (n * classes) as f64
}

/// Logits whose mean probabilities over the n rows of `logits`, [n, classes], are taken out of each: log p − log(mean p), which
/// is that of p divided by the mean and normalised but for a constant in each row (Berthelot et al., "ReMixMatch", 2020, §3.1).
/// In memory that is kept.
///
/// # Panics
/// If `n` is 0 or not the number of rows.
pub fn aligned<'a>(logits: &[f32], n: usize, means: &mut Vec<f64>, out: &'a mut Vec<f32>) -> &'a [f32] {
    assert!(n > 0 && logits.len().is_multiple_of(n), "{n} rows of logits");
    let classes = logits.len() / n;
    means.clear();
    means.resize(classes, 0.0);
    for row in logits.chunks_exact(classes) {
        let (exp, sum, _) = softmax(row);
        means.iter_mut().zip(row).for_each(|(mean, x)| *mean += exp(*x) / sum);
    }
    // A class that nothing is near has no mean to take out.
    means.iter_mut().for_each(|mean| *mean = libm::log((*mean / n as f64).max(f64::MIN_POSITIVE)));
    out.clear();
    out.extend(logits.iter().zip(means.iter().cycle()).map(|(x, mean)| (f64::from(*x) - mean) as f32));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn aligned_answers_are_equally_frequent() {
        // Probabilities (0.8, 0.2), (0.6, 0.4): means 0.7 and 0.3, so 8/7 : 2/3 and 6/7 : 4/3.
        let logits = [0.8f64, 0.2, 0.6, 0.4].map(|p| libm::log(p) as f32);
        let (mut means, mut out) = (vec![], vec![]);
        let found = aligned(&logits, 2, &mut means, &mut out);
        for (row, ratio) in found.chunks(2).zip([8.0 / 7.0 / (2.0 / 3.0), 6.0 / 7.0 / (4.0 / 3.0)]) {
            assert!((libm::exp(f64::from(row[0] - row[1])) - ratio).abs() < 1e-6, "{row:?}, {ratio}");
        }
    }
}
