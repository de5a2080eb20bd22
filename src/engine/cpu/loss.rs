//! Losses with their gradients, row by row in double precision; exp and ln from libm.

use crate::engine::COSINE_EPS;

/// The mean over rows of −ln softmax(logits)\[label\], and its gradient (softmax − one-hot)/n. `logits` [n, classes].
pub fn cross_entropy(logits: &[f32], labels: &[u8]) -> (f64, Vec<f32>) {
    let n = labels.len();
    let classes = logits.len() / n;
    let mut g = Vec::with_capacity(logits.len());
    let mut loss = 0.0;
    for (row, &label) in logits.chunks_exact(classes).zip(labels) {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exps: Vec<f64> = row.iter().map(|&x| libm::exp(f64::from(x) - f64::from(max))).collect();
        let sum: f64 = exps.iter().sum();
        loss += libm::log(sum) + f64::from(max) - f64::from(row[usize::from(label)]);
        let hot = |class: usize| f64::from(u8::from(class == usize::from(label)));
        g.extend(exps.iter().enumerate().map(|(class, e)| ((e / sum - hot(class)) / n as f64) as f32));
    }
    (loss / n as f64, g)
}

/// The mean over rows of −cos(p, z) = −p·z / (max(‖p‖, ε)·max(‖z‖, ε)), and its gradients for p and z.
///
/// For rows longer than ε: ∂/∂p = −(z/‖z‖ − cos·p/‖p‖)/‖p‖, and the same with p and z exchanged; a norm at its floor
/// is a constant.
pub fn negative_cosine(p: &[f32], z: &[f32], n: usize) -> (f64, Vec<f32>, Vec<f32>) {
    let d = p.len() / n;
    let (mut dp, mut dz) = (Vec::with_capacity(p.len()), Vec::with_capacity(z.len()));
    let mut loss = 0.0;
    for (p, z) in p.chunks_exact(d).zip(z.chunks_exact(d)) {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let (norm_p, norm_z) = (dot(p, p).sqrt(), dot(z, z).sqrt());
        let (floor_p, floor_z) = (norm_p.max(COSINE_EPS), norm_z.max(COSINE_EPS));
        let cosine = dot(p, z) / (floor_p * floor_z);
        loss -= cosine;
        let gradient = |out: &mut Vec<f32>, own: &[f32], other: &[f32], norm: f64, floor: f64, other_floor: f64| {
            let pull = if norm > COSINE_EPS { cosine / (floor * floor) } else { 0.0 };
            let value = |(a, b): (&f32, &f32)| f64::from(*b) / (floor * other_floor) - pull * f64::from(*a);
            out.extend(own.iter().zip(other).map(|pair| (-value(pair) / n as f64) as f32));
        };
        gradient(&mut dp, p, z, norm_p, floor_p, floor_z);
        gradient(&mut dz, z, p, norm_z, floor_z, floor_p);
    }
    (loss / n as f64, dp, dz)
}
