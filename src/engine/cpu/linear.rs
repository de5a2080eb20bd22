//! A linear layer with what follows it: batch norm → ReLU → dropout, any of them absent.
//!
//! Features lie batch last, X [inputs, n], so that y = x·Wᵀ + b becomes Y = W·X + b with W as it is stored, and batch
//! norm's sums run along rows. With G = ∂L/∂Y: ∂L/∂W = G·Xᵀ, ∂L/∂b = Σ of G's rows, ∂L/∂X = Wᵀ·G. Of ReLU and dropout
//! with its multipliers m, out = m·max(y, 0): ∂L/∂y = m·∂L/∂out where y > 0, else 0.
//!
//! W is by far the largest matrix. It is stored in [`slabs`](super::slabs), and a step reads it twice: in the forward
//! pass, and once in the backward pass, where a block of it serves ∂L/∂X and is then updated by its ∂L/∂W while it is
//! still in the cache.
//!
//! The forward pass is parallel over outputs, [`ROWS`] at a time, the backward pass over inputs, [`COLUMNS`] at a time;
//! each sum is computed by one thread.

use rayon::prelude::*;

use super::chain::{Group, Pass};
use super::lanes::{Aligned, chunks_or_none, scratch};
use super::norm::{combined, inv_std, move_running};
use super::product::{BLOCK, Left, PANEL, Right, product, product_ahead};
use super::rows::{self, affine, pack, pack_transposed, rectify, rectify_gradient, spread};
use super::update::Sink;
use crate::engine::dropout_row;
use crate::engine::shards::Shards;

/// Outputs per task of the forward pass.
const ROWS: usize = 64;
/// Inputs per task of the backward pass: whole slabs.
const COLUMNS: usize = 2 * BLOCK;

/// One linear layer with what follows it, its buffers included.
pub struct Linear {
    inputs: usize,
    pub outputs: usize,
    /// Index of W's tensor; the bias is the next.
    tensor: usize,
    /// Index of γ's tensor.
    norm: Option<usize>,
    relu: bool,
    dropout: Option<f32>,
    /// X, or G, in panels of [`PANEL`] examples; Xᵀ in panels of features.
    panels: Aligned,
    panels_back: Aligned,
    /// W·X + b before batch norm.
    y: Aligned,
    /// Per row and group: in the forward pass the statistics that normalise, in the backward pass sums of gradients.
    moments: Vec<Moments>,
    /// What batch norm sums over each shard and input, [shard, input, 2, outputs].
    shard_sums: Vec<f64>,
    /// Dropout's multipliers, [n, outputs].
    mask: Aligned,
    /// The output, [outputs, n], and its gradient.
    pub out: Aligned,
    pub g: Aligned,
    /// A gradient of one value per row.
    vector: Vec<f32>,
}

impl Linear {
    /// `tensor`: the index of its first tensor.
    pub fn new(inputs: usize, outputs: usize, tensor: usize) -> Linear {
        Linear {
            inputs,
            outputs,
            tensor,
            norm: None,
            relu: false,
            dropout: None,
            panels: Aligned::new(),
            panels_back: Aligned::new(),
            y: Aligned::new(),
            moments: vec![],
            shard_sums: vec![],
            mask: Aligned::new(),
            out: Aligned::new(),
            g: Aligned::new(),
            vector: vec![0.0; outputs],
        }
    }

    /// Adds batch norm with its first tensor.
    pub fn add_norm(&mut self, tensor: usize) -> bool {
        self.norm.replace(tensor).is_none() && !self.relu && self.dropout.is_none()
    }

    pub fn add_relu(&mut self) -> bool {
        !std::mem::replace(&mut self.relu, true) && self.dropout.is_none()
    }

    pub fn add_dropout(&mut self, p: f32) -> bool {
        self.dropout.replace(p).is_none()
    }

    /// From X to `out`. In training batch norm takes each group as a batch of its own.
    pub fn forward(&mut self, x: &[f32], pass: &mut Pass) {
        let (n, inputs, outputs, groups, train) = (pass.n, self.inputs, self.outputs, pass.groups, pass.train);
        self.panels.grow(n.next_multiple_of(PANEL) * inputs.max(outputs));
        self.out.grow(n * outputs);
        self.moments.resize(outputs * groups.len(), Moments::default());
        if train {
            self.g.grow(n * outputs);
        }
        if train && self.norm.is_some() {
            self.y.grow(n * outputs);
        }
        let dropout = self.dropout.filter(|_| train);
        if let Some(p) = dropout {
            self.mask.grow(n * outputs);
            for (group, mask) in groups.iter().zip(Group::split(groups, &mut self.mask, outputs)) {
                mask.par_chunks_exact_mut(outputs).enumerate().for_each(|(i, row)| match group.train {
                    Some(key) => dropout_row(key, p, i, row),
                    None => row.fill(1.0),
                });
            }
        }
        pack(x, n, inputs, &mut self.panels);
        let (norm, relu) = (self.norm, self.relu);
        let Pass { weights, .. } = pass;
        let (weight, bias) = (&weights[self.tensor].values[..], &weights[self.tensor + 1].values[..]);
        let statistics = norm.map(|tensor| [0, 1, 2, 3].map(|i| &weights[tensor + i].values[..]));
        let (panels, mask) = (&self.panels[..], &self.mask[..]);
        // What follows the product, for the rows from `first` on.
        let finish = |first: usize, out: &mut [f32], moments: &[Moments]| {
            if let Some([gamma, beta, ..]) = statistics {
                for (r, (out, moments)) in out.chunks_exact_mut(n).zip(moments.chunks_exact(groups.len())).enumerate() {
                    for (out, moments) in Group::split(groups, out, 1).zip(moments) {
                        affine(out, moments.mean, gamma[first + r] * moments.inv_std, beta[first + r]);
                    }
                }
            }
            if relu {
                rectify(out);
            }
            if dropout.is_some() {
                for (r, out) in out.chunks_exact_mut(n).enumerate() {
                    out.iter_mut().zip(mask[first + r..].iter().step_by(outputs)).for_each(|(y, m)| *y *= m);
                }
            }
        };
        let y = if train && norm.is_some() { &mut self.y[..outputs * n] } else { &mut [] };
        let saved = chunks_or_none(y, ROWS * n, outputs.div_ceil(ROWS));
        let tasks = self.out[..outputs * n].par_chunks_mut(ROWS * n);
        let tasks = tasks.zip(self.moments.par_chunks_mut(ROWS * groups.len())).enumerate();
        let is_split = pass.shards.is_split() && train && norm.is_some();
        tasks.zip(saved).for_each(|((block, (out, moments)), saved)| {
            let first = block * ROWS;
            let rows = out.len() / n;
            for (row, bias) in out.chunks_exact_mut(n).zip(&bias[first..]) {
                row.fill(*bias);
            }
            let in_slab = |start: usize| {
                let width = BLOCK.min(inputs - start);
                &weight[start * outputs + first * width..][..rows * width]
            };
            for start in (0..inputs).step_by(BLOCK) {
                let (width, next) = (BLOCK.min(inputs - start), start + BLOCK);
                let left = Left { values: in_slab(start), row: width, col: 1 };
                let right = Right { values: &panels[start * PANEL..], row: PANEL, panel: inputs * PANEL };
                let ahead = if next < inputs { in_slab(next) } else { &[] };
                product_ahead(out, n, left, right, [rows, width, n], true, [ahead, &[], &[]]);
            }
            if let Some([.., mean, var]) = statistics {
                if let Some(saved) = saved {
                    saved.copy_from_slice(out);
                }
                for (r, (out, moments)) in
                    out.chunks_exact_mut(n).zip(moments.chunks_exact_mut(groups.len())).enumerate()
                {
                    let c = first + r;
                    for ((out, group), moments) in Group::split(groups, out, 1).zip(groups).zip(moments) {
                        *moments = match group.train.filter(|_| train) {
                            Some(_) => Moments::of_batch(rows::moments(out), out.len() as f64),
                            None => Moments { mean: mean[c], inv_std: inv_std(var[c].into()), ..Moments::default() },
                        };
                    }
                }
            }
            if !is_split {
                finish(first, out, moments);
            }
        });
        if is_split {
            share(&self.moments, &mut self.shard_sums, groups, pass.shards);
            for (row, moments) in self.moments.chunks_exact_mut(groups.len()).enumerate() {
                for (group, moments) in groups.iter().zip(moments).filter(|(group, _)| group.train.is_some()) {
                    let (n, sums) = combined(shared(&self.shard_sums, pass.shards, Group::inputs(groups), group, row));
                    *moments = Moments::of_batch(sums, n);
                }
            }
            let tasks = self.out[..outputs * n].par_chunks_mut(ROWS * n);
            tasks.zip(self.moments.par_chunks(ROWS * groups.len())).enumerate().for_each(|(block, (out, moments))| {
                finish(block * ROWS, out, moments);
            });
        }
        if let Some(tensor) = norm.filter(|_| train) {
            let [mean, var] = &mut weights[tensor + 2..tensor + 4] else { unreachable!("batch norm has four tensors") };
            let inputs = &groups[..Group::inputs(groups)];
            for (c, moments) in self.moments.chunks_exact(groups.len()).enumerate() {
                for (group, Moments { sums: [of_batch, squares], .. }) in inputs.iter().zip(moments) {
                    if group.train.is_some() {
                        move_running(&mut mean.values[c], &mut var.values[c], *of_batch, *squares, group.of as f64);
                    }
                }
            }
        }
    }

    /// From `g` = ∂L/∂out to the gradients of all tensors and, where it is wanted, to ∂L/∂X in `dx`, added to what is
    /// there with `accumulate`. `x` is the input of the forward pass.
    pub fn backward(&mut self, x: &[f32], dx: Option<&mut [f32]>, accumulate: bool, groups: &[Group], sink: &mut Sink) {
        let (inputs, outputs) = (self.inputs, self.outputs);
        let n = groups.last().map_or(0, |group| group.examples.end);
        self.tail_backward(n, groups, sink);
        if dx.is_some() {
            pack(&self.g, n, outputs, &mut self.panels);
        }
        self.panels_back.grow(n * inputs.next_multiple_of(PANEL));
        pack_transposed(x, n, inputs, &mut self.panels_back);
        let (g, panels, panels_back) = (&self.g[..outputs * n], &self.panels[..], &self.panels_back[..]);
        let mut dx = dx.map_or(&mut [][..], |dx| &mut dx[..inputs * n]);
        for (part, groups) in Group::by_shard(groups).enumerate() {
            let examples = Group::all(groups);
            let mut part = sink.part(part);
            let chunks = part.chunks(self.tensor, COLUMNS * outputs);
            // ∂L/∂X of all examples, with the first shard.
            let dx = std::mem::take(&mut dx);
            let tasks = chunks.zip(chunks_or_none(dx, COLUMNS * n, inputs.div_ceil(COLUMNS))).enumerate();
            tasks.for_each(|(task, (mut chunk, mut dx))| {
                let columns = task * COLUMNS..inputs.min((task + 1) * COLUMNS);
                scratch(BLOCK * BLOCK, |dw| {
                    for first in (0..outputs).step_by(BLOCK) {
                        let rows = BLOCK.min(outputs - first);
                        for start in columns.clone().step_by(BLOCK) {
                            let width = BLOCK.min(inputs - start);
                            let at = (start - columns.start) * outputs + first * width;
                            if let Some(dx) = &mut dx {
                                let left = Left { values: &chunk.weight[at..], row: 1, col: width };
                                let panels = &panels[first * PANEL..];
                                let right = Right { values: panels, row: PANEL, panel: outputs * PANEL };
                                let dx = &mut dx[(start - columns.start) * n..];
                                product(dx, n, left, right, [width, rows, n], accumulate || first > 0);
                            }
                            let left = Left { values: &g[first * n + examples.start..], row: n, col: 1 };
                            let panels = &panels_back[start * n + examples.start * PANEL..];
                            let right = Right { values: panels, row: PANEL, panel: n * PANEL };
                            let ahead = chunk.ahead(at + rows * width, rows * width);
                            product_ahead(dw, width, left, right, [rows, examples.len(), width], false, ahead);
                            chunk.take(at, &dw[..rows * width]);
                        }
                    }
                });
            });
        }
        sink.begin_sums(self.tensor..self.tensor + 1);
    }

    /// Turns `g` from ∂L/∂out into ∂L/∂(W·X + b), and hands the gradients of γ, β and b to the sink.
    fn tail_backward(&mut self, n: usize, groups: &[Group], sink: &mut Sink) {
        let (outputs, relu, norm, inputs) = (self.outputs, self.relu, self.norm, Group::inputs(groups));
        let (out, y, mask) = (&self.out[..], &self.y[..], self.dropout.map(|_| &self.mask[..]));
        let gamma = norm.map(|tensor| &sink.weights[tensor].values[..]);
        // Each group's part of a row, with its y, its moments and γ.
        let for_groups =
            |c: usize, g: &mut [f32], moments: &mut [Moments], f: fn(&mut Moments, &mut [f32], &[f32], f32, &Group)| {
                let Some(gamma) = gamma else { return };
                for ((g, group), moments) in Group::split(groups, g, 1).zip(groups).zip(moments) {
                    f(moments, g, &y[c * n + group.examples.start..][..g.len()], gamma[c], group);
                }
            };
        let is_split = sink.shards.is_split() && norm.is_some();
        let tasks = self.g[..outputs * n].par_chunks_mut(ROWS * n);
        let tasks = tasks.zip(self.moments.par_chunks_mut(ROWS * groups.len()));
        tasks.enumerate().for_each(|(block, (g, moments))| {
            for (r, (g, moments)) in g.chunks_exact_mut(n).zip(moments.chunks_exact_mut(groups.len())).enumerate() {
                let c = block * ROWS + r;
                if relu {
                    // Where dropout zeroed the output, g becomes 0 as well.
                    rectify_gradient(g, &out[c * n..][..n]);
                }
                if let Some(mask) = mask {
                    g.iter_mut().zip(mask[c..].iter().step_by(outputs)).for_each(|(g, m)| *g *= m);
                }
                if norm.is_none() {
                    // Over all inputs at once.
                    moments.fill(Moments::default());
                    let shards = moments.chunks_mut(inputs).zip(Group::by_shard(groups));
                    shards.for_each(|(moments, groups)| moments[0].shift = rows::sum(&g[Group::all(groups)]));
                }
                for_groups(c, g, moments, |moments, g, y, _, _| moments.sums = rows::gradient_sums(g, y, moments.mean));
                if !is_split {
                    for_groups(c, g, moments, Moments::backward);
                }
            }
        });
        if is_split {
            share(&self.moments, &mut self.shard_sums, groups, sink.shards);
            for (row, moments) in self.moments.chunks_exact_mut(groups.len()).enumerate() {
                for (group, moments) in groups.iter().zip(moments) {
                    let of_shards = shared(&self.shard_sums, sink.shards, inputs, group, row);
                    moments.sums = [0, 1].map(|i| of_shards.clone().map(|(_, sums)| sums[i]).sum());
                }
            }
            let tasks = self.g[..outputs * n].par_chunks_exact_mut(n);
            tasks.zip(self.moments.par_chunks_mut(groups.len())).enumerate().for_each(|(c, (g, moments))| {
                for_groups(c, g, moments, Moments::backward);
            });
        }
        if let Some(tensor) = norm {
            // Of all shards, at the first own one.
            for (tensor, of) in [(tensor, 0), (tensor + 1, 1)] {
                for (value, moments) in self.vector.iter_mut().zip(self.moments.chunks_exact(groups.len())) {
                    *value = moments[..inputs].iter().map(|m| m.sums[of]).sum::<f64>() as f32;
                }
                sink.take(tensor, &self.vector);
            }
        }
        for part in 0..groups.len() / inputs {
            for (value, moments) in self.vector.iter_mut().zip(self.moments.chunks_exact(groups.len())) {
                *value = moments[part * inputs..][..inputs].iter().map(|m| m.shift).sum::<f64>() as f32;
            }
            sink.part(part).take(self.tensor + 1, &self.vector);
        }
        sink.begin_sums(self.tensor + 1..self.tensor + 2);
    }
}

/// Of one row of one group.
#[derive(Clone, Copy, Default)]
struct Moments {
    /// What normalises.
    mean: f32,
    inv_std: f32,
    /// The mean and the sum of squared deviations in the forward pass, Σ g·x̂ and Σ g in the backward pass.
    sums: [f64; 2],
    /// ∂L/∂b: batch norm by the batch's own statistics removes any shift.
    shift: f64,
}

impl Moments {
    /// Of a batch of `n` with this mean and sum of squared deviations.
    fn of_batch(sums: [f64; 2], n: f64) -> Moments {
        Moments { mean: sums[0] as f32, inv_std: inv_std(sums[1] / n), sums, shift: 0.0 }
    }

    /// With Σ g and Σ g·(y − μ) over the input's examples in `sums`: turns `g` from the gradient after batch norm into that before it.
    /// Running statistics do not depend on y: in eval mode there are no means to subtract.
    fn backward(&mut self, g: &mut [f32], y: &[f32], gamma: f32, group: &Group) {
        let [sum_g, sum_gx] = self.sums;
        self.sums = [sum_gx * f64::from(self.inv_std), sum_g];
        let (count, alpha) = (group.of as f64, gamma * self.inv_std);
        let (mean_g, pull) = ((sum_g / count) as f32, (self.sums[0] / count) as f32 * self.inv_std);
        if group.train.is_some() {
            spread(g, y, [alpha, mean_g, self.mean, pull]);
            self.shift = 0.0;
        } else {
            spread(g, y, [alpha, 0.0, self.mean, 0.0]);
            self.shift = rows::sum(g);
        }
    }
}

/// The sums of each row and group, [row, group], as [shard, input, row, 2] with those of the other members' shards.
fn share(moments: &[Moments], sums: &mut Vec<f64>, groups: &[Group], shards: &mut Shards) {
    let (inputs, rows) = (Group::inputs(groups), moments.len() / groups.len());
    sums.resize(shards.count() * inputs * rows * 2, 0.0);
    for (row, moments) in moments.chunks_exact(groups.len()).enumerate() {
        for (group, moments) in groups.iter().zip(moments) {
            let at = ((group.shard * inputs + group.input) * rows + row) * 2;
            sums[at..at + 2].copy_from_slice(&moments.sums);
        }
    }
    shards.complete_sums(sums);
}

/// Of what [`share`] gives those of a row for a group's input, each with the shard's number of its examples.
fn shared<'a>(
    sums: &'a [f64],
    shards: &'a Shards,
    inputs: usize,
    group: &Group,
    row: usize,
) -> impl Iterator<Item = (f64, [f64; 2])> + Clone {
    group.sums(sums, inputs, shards).map(move |(n, of)| (n as f64, [of[2 * row], of[2 * row + 1]]))
}
