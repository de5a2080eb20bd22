//! Features: linear layer → batch norm → ReLU → dropout, and back; the losses. Matrices are [features][n].

use crate::sums::{Group, Tensors, along, dot};

pub type Rows = Vec<Vec<f32>>;

/// One linear layer with what follows it, and what its backward pass needs.
pub struct Linear {
    name: String,
    norm: Option<String>,
    relu: bool,
    mask: Option<Rows>,
    groups: Vec<Group>,
    x: Rows,
    y: Rows,
    /// Per feature and group: what normalises, a mean and 1/√(σ² + ε).
    moments: Vec<Vec<[f32; 2]>>,
    pub out: Rows,
}

fn inv_std(variance: f64) -> f32 {
    (1.0 / (variance + 1e-5).sqrt()) as f32
}

impl Linear {
    /// `mask`: dropout's multipliers. Groups in train mode update the running statistics.
    pub fn forward(
        name: &str,
        norm: Option<&str>,
        relu: bool,
        mask: Option<Rows>,
        x: Rows,
        groups: &[Group],
        weights: &mut Tensors,
    ) -> Linear {
        let (weight, bias) = (&weights[&format!("{name}.weight")], &weights[&format!("{name}.bias")]);
        let (n, inputs) = (x[0].len(), x.len());
        let element = |o: usize, i: usize| dot((0..inputs).map(|k| (weight[o * inputs + k], x[k][i])), Some(bias[o]));
        let y: Rows = (0..bias.len()).map(|o| (0..n).map(|i| element(o, i)).collect()).collect();
        let (mut out, mut moments) = (y.clone(), vec![]);
        if let Some(norm) = norm {
            for (o, row) in out.iter_mut().enumerate() {
                let mut of_feature = vec![];
                // As they are before the pass.
                let running = ["running_mean", "running_var"].map(|which| weights[&format!("{norm}.{which}")][o]);
                for group in groups {
                    let of_group = &mut row[group.examples.clone()];
                    let count = of_group.len() as f64;
                    let mean = along(&of_group.iter().map(|x| f64::from(*x)).collect::<Vec<_>>()) / count;
                    let apart = |x: &f32| (f64::from(*x) - mean) * (f64::from(*x) - mean);
                    let squares = along(&of_group.iter().map(apart).collect::<Vec<_>>());
                    let (gamma, beta) = (weights[&format!("{norm}.weight")][o], weights[&format!("{norm}.bias")][o]);
                    let by = match group.train {
                        true => [mean as f32, inv_std(squares / count)],
                        false => [running[0], inv_std(running[1].into())],
                    };
                    let alpha = gamma * by[1];
                    of_group.iter_mut().for_each(|x| *x = (*x - by[0]) * alpha + beta);
                    of_feature.push(by);
                    if !group.train {
                        continue;
                    }
                    for (which, new) in [("running_mean", mean), ("running_var", squares / (count - 1.0))] {
                        let old = &mut weights.get_mut(&format!("{norm}.{which}")).unwrap()[o];
                        *old = (0.9 * f64::from(*old) + 0.1 * new) as f32;
                    }
                }
                moments.push(of_feature);
            }
        }
        for (o, row) in out.iter_mut().enumerate() {
            for (i, value) in row.iter_mut().enumerate() {
                if relu && *value <= 0.0 {
                    *value = 0.0;
                }
                if let Some(mask) = &mask {
                    *value *= mask[o][i];
                }
            }
        }
        let (name, norm) = (name.to_owned(), norm.map(str::to_owned));
        Linear { name, norm, relu, mask, groups: groups.to_vec(), x, y, moments, out }
    }

    /// From g = ∂L/∂out to the gradients of the tensors and ∂L/∂x.
    pub fn backward(self, g: Rows, weights: &Tensors, gradients: &mut Tensors) -> Rows {
        let (mut g, n) = (g, self.x[0].len());
        let sum = |values: &[f32]| along(&values.iter().map(|g| f64::from(*g)).collect::<Vec<_>>());
        let (mut bias, mut of_norm) = (vec![], [vec![], vec![]]);
        for (o, g) in g.iter_mut().enumerate() {
            for (i, g) in g.iter_mut().enumerate() {
                if self.relu && self.out[o][i] <= 0.0 {
                    *g = 0.0;
                }
                if let Some(mask) = &self.mask {
                    *g *= mask[o][i];
                }
            }
            let Some(norm) = &self.norm else {
                bias.push(sum(g) as f32);
                continue;
            };
            let gamma = weights[&format!("{norm}.weight")][o];
            let (mut totals, mut shift) = ([0.0f64; 2], 0.0);
            for (group, &[mean, inv_std]) in self.groups.iter().zip(&self.moments[o]) {
                let (g, y) = (&mut g[group.examples.clone()], &self.y[o][group.examples.clone()]);
                let count = g.len() as f64;
                let sum_g = sum(g);
                let product = |(g, y): (&f32, &f32)| f64::from(*g) * f64::from(y - mean);
                let sum_gx = along(&g.iter().zip(y).map(product).collect::<Vec<_>>()) * f64::from(inv_std);
                totals = [totals[0] + sum_gx, totals[1] + sum_g];
                let (mean_g, pull) = match group.train {
                    true => ((sum_g / count) as f32, (sum_gx / count) as f32 * inv_std),
                    false => (0.0, 0.0),
                };
                let alpha = gamma * inv_std;
                g.iter_mut().zip(y).for_each(|(g, y)| *g = alpha * ((*g - mean_g) - (y - mean) * pull));
                // Batch norm by the batch's own statistics removes any shift.
                shift += if group.train { 0.0 } else { sum(g) };
            }
            of_norm.iter_mut().zip(totals).for_each(|(values, total)| values.push(total as f32));
            bias.push(shift as f32);
        }
        if let Some(norm) = &self.norm {
            let [weight, shift] = of_norm;
            gradients.insert(format!("{norm}.weight"), weight);
            gradients.insert(format!("{norm}.bias"), shift);
        }
        gradients.insert(format!("{}.bias", self.name), bias);
        let (weight, inputs) = (&weights[&format!("{}.weight", self.name)], self.x.len());
        let of_weight = |at: usize| dot((0..n).map(|i| (g[at / inputs][i], self.x[at % inputs][i])), None);
        gradients.insert(format!("{}.weight", self.name), (0..weight.len()).map(of_weight).collect());
        let of_x = |k: usize, i: usize| dot((0..g.len()).map(|o| (weight[o * inputs + k], g[o][i])), None);
        (0..inputs).map(|k| (0..n).map(|i| of_x(k, i)).collect()).collect()
    }
}

/// The mean cross-entropy and its gradient.
pub fn cross_entropy(logits: &Rows, labels: &[u16]) -> (f64, Rows) {
    let n = labels.len();
    let (mut loss, mut g) = (0.0, logits.clone());
    for (i, label) in labels.iter().map(|&label| usize::from(label)).enumerate() {
        let max = logits.iter().map(|row| row[i]).fold(f32::NEG_INFINITY, f32::max);
        let exps: Vec<f64> = logits.iter().map(|row| libm::exp(f64::from(row[i]) - f64::from(max))).collect();
        let sum: f64 = exps.iter().sum();
        loss += libm::log(sum) + f64::from(max) - f64::from(logits[label][i]);
        for (class, exp) in exps.iter().enumerate() {
            let hot = if class == label { 1.0 } else { 0.0 };
            g[class][i] = ((exp / sum - hot) / n as f64) as f32;
        }
    }
    (loss / n as f64, g)
}

/// D(p₁, z₂)/2 + D(p₂, z₁)/2 of fewer than 257 features, and its gradient for p; z is a constant.
pub fn cosines(p: &Rows, z: &Rows) -> (f64, Rows) {
    let columns = p[0].len();
    let (mut loss, mut g) = (0.0, p.clone());
    for i in 0..columns {
        let other = (i + columns / 2) % columns;
        let sum = |a: &Rows, at: usize, b: &Rows, to: usize| {
            a.iter().zip(b).fold(0.0f64, |sum, (a, b)| sum + f64::from(a[at]) * f64::from(b[to]))
        };
        let (norm_p, norm_z) = (sum(p, i, p, i).sqrt(), sum(z, other, z, other).sqrt());
        let cosine = sum(p, i, z, other) / (norm_p * norm_z);
        loss -= cosine;
        let share = 1.0 / columns as f64;
        for (g, (p, z)) in g.iter_mut().zip(p.iter().zip(z)) {
            let (of_z, of_p) = (-share / (norm_p * norm_z), share * (cosine / (norm_p * norm_p)));
            g[i] = (f64::from(z[other]) * of_z + f64::from(p[i]) * of_p) as f32;
        }
    }
    (loss / columns as f64, g)
}
