//! FixMatch's loss of unlabelled images; the gradient of a counted row is that of cross-entropy, (softmax − one-hot)/n.

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
