//! Cross-entropy with labels.

use crate::error::{Error, Result};

/// The mean over examples of −ln softmax(logits)\[label\], in nats (PyTorch's `cross_entropy`). Logits are [n, classes], with n
/// labels. `gradient` becomes (softmax − one-hot)/n.
///
/// # Errors
/// [`Error::Usage`] for labels of another number than rows, and for one that is no class.
pub fn cross_entropy(logits: &[f32], labels: &[u16], gradient: &mut Vec<f32>) -> Result<f64> {
    let n = labels.len();
    if n == 0 || !logits.len().is_multiple_of(n) {
        return Err(Error::Usage(format!("{n} labels for {} logits", logits.len())));
    }
    let classes = logits.len() / n;
    if let Some(label) = labels.iter().find(|label| usize::from(**label) >= classes) {
        return Err(Error::Usage(format!("label {label}, where there are {classes} classes")));
    }
    gradient.resize(logits.len(), 0.0);
    let mut loss = 0.0;
    for ((row, gradient), &label) in logits.chunks_exact(classes).zip(gradient.chunks_exact_mut(classes)).zip(labels) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp = |x: f32| libm::exp(f64::from(x) - f64::from(max));
        let sum: f64 = row.iter().map(|&x| exp(x)).sum();
        loss += libm::log(sum) + f64::from(max) - f64::from(row[usize::from(label)]);
        for (class, (g, &x)) in gradient.iter_mut().zip(row).enumerate() {
            let hot = f64::from(u8::from(class == usize::from(label)));
            *g = ((exp(x) / sum - hot) / n as f64) as f32;
        }
    }
    Ok(loss / n as f64)
}

/// The numerators of the softmax of a row, relative to its largest value, their sum, and ln of the whole denominator.
pub(super) fn softmax(row: &[f32]) -> (impl Fn(f32) -> f64 + use<>, f64, f64) {
    let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp = move |x: f32| libm::exp(f64::from(x) - f64::from(max));
    let sum: f64 = row.iter().map(|&x| exp(x)).sum();
    (exp, sum, libm::log(sum) + f64::from(max))
}
