//! Sums in an order that no instruction set changes: always 16 running sums, then those in pairs.

const LANES: usize = 16;

/// Σ f(a) for single precision values.
#[inline(always)]
fn lanes(len: usize, f: impl Fn(usize) -> f32) -> f32 {
    if len == 1 {
        return f(0);
    }
    let mut sums = [0.0f32; LANES];
    let whole = len / LANES * LANES;
    for start in (0..whole).step_by(LANES) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += f(start + lane);
        }
    }
    for at in whole..len {
        sums[at - whole] += f(at);
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            sums[lane] += sums[lane + width];
        }
        width /= 2;
    }
    sums[0]
}

/// Σ x.
pub fn sum(x: &[f32]) -> f32 {
    lanes(x.len(), |i| x[i])
}

/// Σ (x − mean)².
pub fn sum_squares(x: &[f32], mean: f32) -> f32 {
    lanes(x.len(), |i| (x[i] - mean) * (x[i] - mean))
}

/// Σ a·(b − mean).
pub fn dot_centred(a: &[f32], b: &[f32], mean: f32) -> f32 {
    let b = &b[..a.len()];
    lanes(a.len(), |i| a[i] * (b[i] - mean))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_sixteen_lanes_then_pairs() {
        let x: Vec<f32> = (0..37).map(|i| 1.0 / (i as f32 + 1.0)).collect();
        let lane = |l: usize| x.iter().skip(l).step_by(16).fold(0.0f32, |s, v| s + v);
        let mut pairs: Vec<f32> = (0..16).map(lane).collect();
        while pairs.len() > 1 {
            let half = pairs.len() / 2;
            pairs = (0..half).map(|i| pairs[i] + pairs[i + half]).collect();
        }
        assert_eq!(sum(&x).to_bits(), pairs[0].to_bits());
        assert_eq!(sum_squares(&[3.0, 5.0], 4.0), 2.0);
        assert_eq!(dot_centred(&[3.0, 5.0], &[2.0, 4.0], 1.0), 18.0);
        assert_eq!(sum(&[]), 0.0);
    }
}
