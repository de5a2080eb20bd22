//! The engine for CPUs: explicit forward and backward passes whose every sum has a fixed order.
//!
//! # The numeric contract
//! The same experiment and seed give the same weights, to the last bit, for any number of threads and on any CPU with
//! fused multiply-add:
//! 1. a matrix product sums in blocks of [`product::BLOCK`] along k, inside a block by a chain of fused multiply-adds,
//!    blocks in order ([`product`]);
//! 2. every other sum is split by data, never by thread: lanes, pixels, images, groups of images, in order;
//! 3. elementary functions are +, −, ×, ÷, √ and comparisons; exp and ln come from `libm`;
//! 4. random values are keyed ([`crate::rng`]);
//! 5. on an x86-64 CPU without fused multiply-add the engine refuses to work (64-bit Arm always has it).
//!
//! # How a pass works
//! Going forward, each layer takes its input by value and leaves on a tape what its backward pass needs; going
//! backward, the tape is undone from its end, and each layer turns ∂L/∂y into ∂L/∂x and its own gradients.

mod conv;
mod linear;
mod loss;
mod norm;
mod pool;
pub mod product;
mod sums;
mod update;

use std::collections::BTreeMap;

use crate::data::{IMAGE, SIDE};
use crate::engine::{DropoutKey, Engine, Gradients, Objective, Outcome, dropout_mask};
use crate::error::{Error, Result};
use crate::network::{Array, Block, Layer, Mode, Network, Spec, Weights};
use crate::optimizer::{Rule, State};
use conv::Conv;

/// A network with its tensors and its optimizer's state.
pub struct Model {
    network: Network,
    specs: Vec<Spec>,
    weights: Weights,
    rule: Rule,
    steps: u32,
    /// Per tensor: the rule's slots, once it has had a gradient.
    slots: Vec<Vec<Vec<f32>>>,
}

/// What one layer leaves for its backward pass.
enum Saved {
    Conv {
        conv: Conv,
        x: Vec<f32>,
    },
    Norm(norm::Saved, usize),
    /// y.
    Relu(Vec<f32>),
    Pool {
        chosen: Vec<u8>,
        side: usize,
    },
    Linear {
        x: Vec<f32>,
        inputs: usize,
    },
    Dropout(Vec<f32>),
}

/// Layers passed, each with the index of its first tensor.
type Tape = Vec<(usize, Saved)>;

/// Gradients by tensor index.
type ByTensor = BTreeMap<usize, Vec<f32>>;

impl Model {
    /// `weights` must be in the network's order; `state` as [`Engine::state`] gave it, or the default.
    ///
    /// # Errors
    /// [`Error::Usage`] on a CPU without fused multiply-add.
    pub fn new(network: Network, weights: Weights, rule: Rule, state: &State) -> Result<Model> {
        #[cfg(target_arch = "x86_64")]
        if !(std::arch::is_x86_feature_detected!("avx2") && std::arch::is_x86_feature_detected!("fma")) {
            return Err(Error::Usage(
                "this CPU has no fused multiply-add (AVX2, FMA): results would differ".to_owned(),
            ));
        }
        let specs: Vec<Spec> = network.tensors().collect();
        let find = |slot: &str, spec: &Spec| {
            let name = format!("{slot}/{}", spec.name);
            state.arrays.iter().find(|array| array.name == name).map(|array| array.values.clone())
        };
        let slots = specs.iter().map(|spec| rule.slots().iter().filter_map(|slot| find(slot, spec)).collect());
        Ok(Model { slots: slots.collect(), network, specs, weights, rule, steps: state.steps })
    }

    fn values(&self, tensor: usize) -> &[f32] {
        &self.weights.arrays[tensor].values
    }

    /// The index of the block's first tensor.
    fn first(&self, block: &Block) -> usize {
        let name = block.tensors().next().map(|spec| spec.name);
        self.specs.iter().position(|spec| Some(&spec.name) == name.as_ref()).unwrap_or(0)
    }

    fn head(&self, name: &str) -> Result<Block> {
        let found = self.network.heads.iter().find(|block| block.name == name);
        found.cloned().ok_or_else(|| Error::Usage(format!("the network has no head {name}")))
    }

    /// Runs `x` [n, …] through the block; in training with dropout masks of `train` and onto the `tape`.
    fn forward(
        &mut self,
        block: &Block,
        mut x: Vec<f32>,
        n: usize,
        train: Option<DropoutKey>,
        tape: &mut Tape,
    ) -> Vec<f32> {
        let train = if block.frozen == Some(Mode::Eval) { None } else { train };
        let mut tensor = self.first(block);
        // Pixels per side: images come in, features are single values.
        let mut side = if block.name == self.network.trunk[0].name { SIDE } else { 1 };
        for (_, layer) in &block.layers {
            let saved = match *layer {
                Layer::Conv3x3 { inputs, outputs } => {
                    let conv = Conv { inputs, outputs, side };
                    let y = conv.forward(&x, self.values(tensor), self.values(tensor + 1));
                    Some(Saved::Conv { conv, x: std::mem::replace(&mut x, y) })
                }
                Layer::BatchNorm { .. } => {
                    let [weight, bias, mean, var] = &mut self.weights.arrays[tensor..tensor + 4] else {
                        unreachable!("batch norm has four tensors")
                    };
                    let (weight, bias) = (&weight.values, &bias.values);
                    if train.is_some() {
                        let running = [&mut mean.values[..], &mut var.values[..]];
                        Some(Saved::Norm(norm::train(&mut x, side * side, weight, bias, running), side * side))
                    } else {
                        norm::eval(&mut x, side * side, weight, bias, [&mean.values, &var.values]);
                        None
                    }
                }
                Layer::Relu => {
                    pool::relu(&mut x);
                    train.map(|_| Saved::Relu(x.clone()))
                }
                Layer::MaxPool2 => {
                    let (y, chosen) = pool::forward(&x, side);
                    x = y;
                    side /= 2;
                    Some(Saved::Pool { chosen, side: side * 2 })
                }
                Layer::Flatten => {
                    side = 1;
                    None
                }
                Layer::Linear { inputs, .. } => {
                    let y = linear::forward(&x, inputs, self.values(tensor), self.values(tensor + 1));
                    Some(Saved::Linear { x: std::mem::replace(&mut x, y), inputs })
                }
                Layer::Dropout { p } => train.map(|key| {
                    let mask = dropout_mask(key, p, n, x.len() / n);
                    x.iter_mut().zip(&mask).for_each(|(x, m)| *x *= m);
                    Saved::Dropout(mask)
                }),
            };
            if let Some(saved) = saved.filter(|_| train.is_some() && block.frozen.is_none()) {
                tape.push((tensor, saved));
            }
            tensor += layer.tensors().len();
        }
        x
    }

    fn trunk(&mut self, images: &[f32], train: Option<DropoutKey>, tape: &mut Tape) -> Vec<f32> {
        let n = images.len() / IMAGE;
        let blocks = self.network.trunk.clone();
        blocks.iter().fold(images.to_vec(), |x, block| self.forward(block, x, n, train, tape))
    }

    /// Undoes the tape from g = ∂L/∂y, adding to `gradients`; gives ∂L/∂x, unless it is nobody's.
    fn backward(&self, tape: Tape, mut g: Vec<f32>, gradients: &mut ByTensor, wanted: bool) -> Vec<f32> {
        let mut add = |tensor: usize, values: Vec<f32>| match gradients.entry(tensor) {
            std::collections::btree_map::Entry::Vacant(entry) => {
                entry.insert(values);
            }
            std::collections::btree_map::Entry::Occupied(mut entry) => {
                entry.get_mut().iter_mut().zip(&values).for_each(|(sum, v)| *sum += v);
            }
        };
        let last = tape.len().saturating_sub(1);
        for (depth, (tensor, saved)) in tape.into_iter().rev().enumerate() {
            let wanted = wanted || depth < last;
            match saved {
                Saved::Conv { conv, x } => {
                    let (dw, db, dx) = conv.backward(&x, self.values(tensor), &g, wanted);
                    add(tensor, dw);
                    add(tensor + 1, db);
                    g = dx.unwrap_or_default();
                }
                Saved::Norm(saved, pixels) => {
                    let (dw, db) = norm::backward(&saved, &mut g, pixels, self.values(tensor));
                    add(tensor, dw);
                    add(tensor + 1, db);
                }
                Saved::Relu(y) => pool::relu_backward(&mut g, &y),
                Saved::Pool { chosen, side } => g = pool::backward(&g, &chosen, side),
                Saved::Linear { x, inputs } => {
                    let (dw, db, dx) = linear::backward(&x, inputs, self.values(tensor), &g, wanted);
                    add(tensor, dw);
                    add(tensor + 1, db);
                    g = dx.unwrap_or_default();
                }
                Saved::Dropout(mask) => g.iter_mut().zip(&mask).for_each(|(g, m)| *g *= m),
            }
        }
        g
    }

    fn differentiate(&mut self, objective: &Objective, dropout: DropoutKey) -> Result<(Outcome, ByTensor)> {
        let mut gradients = ByTensor::new();
        let outcome = match objective {
            Objective::Classify { images, targets } => {
                let n = images.len() / IMAGE;
                let mut trunk = Tape::new();
                let hidden = self.trunk(images, Some(dropout), &mut trunk);
                let mut dh = vec![0.0; hidden.len()];
                let mut outcome = Outcome::default();
                for target in *targets {
                    let head = self.head(target.head)?;
                    let mut tape = Tape::new();
                    let logits = self.forward(&head, hidden.clone(), n, Some(dropout), &mut tape);
                    let (loss, g) = loss::cross_entropy(&logits, target.labels);
                    let g = self.backward(tape, g, &mut gradients, !trunk.is_empty());
                    dh.iter_mut().zip(&g).for_each(|(sum, g)| *sum += g);
                    outcome.loss += loss;
                    outcome.outputs.push(logits);
                }
                self.backward(trunk, dh, &mut gradients, false);
                outcome
            }
            Objective::SimSiam { views, stop_gradient } => {
                let predictor = self.head("predictor")?;
                let n = views[0].len() / IMAGE;
                let mut passes = Vec::new();
                for view in views {
                    let (mut trunk, mut head) = (Tape::new(), Tape::new());
                    let z = self.trunk(view, Some(dropout), &mut trunk);
                    let p = self.forward(&predictor, z.clone(), n, Some(dropout), &mut head);
                    passes.push((z, p, trunk, head));
                }
                let (z, p) = (|i: usize| &passes[i].0, |i: usize| &passes[i].1);
                let (loss1, dp1, dz2) = loss::negative_cosine(p(0), z(1), n);
                let (loss2, dp2, dz1) = loss::negative_cosine(p(1), z(0), n);
                let mut outcome = Outcome { loss: (loss1 + loss2) / 2.0, outputs: vec![] };
                for ((z, p, trunk, head), (dp, dz)) in passes.into_iter().zip([(dp1, dz1), (dp2, dz2)]) {
                    let half = |g: Vec<f32>| g.into_iter().map(|g| g / 2.0).collect::<Vec<_>>();
                    let mut g = self.backward(head, half(dp), &mut gradients, true);
                    if !stop_gradient {
                        g.iter_mut().zip(half(dz)).for_each(|(sum, g)| *sum += g);
                    }
                    self.backward(trunk, g, &mut gradients, false);
                    outcome.outputs.extend([z, p]);
                }
                outcome
            }
        };
        Ok((outcome, gradients))
    }
}

impl Engine for Model {
    fn step(&mut self, objective: &Objective, dropout: DropoutKey, lr: f64) -> Result<Outcome> {
        let (outcome, gradients) = self.differentiate(objective, dropout)?;
        self.steps += 1;
        for (tensor, gradient) in gradients {
            let weight = &mut self.weights.arrays[tensor].values;
            let slots = &mut self.slots[tensor];
            slots.resize(self.rule.slots().len(), vec![0.0; weight.len()]);
            update::step(self.rule, weight, &gradient, slots, lr, self.steps);
        }
        Ok(outcome)
    }

    fn gradients(&mut self, objective: &Objective, dropout: DropoutKey) -> Result<(Outcome, Gradients)> {
        let (outcome, gradients) = self.differentiate(objective, dropout)?;
        let array = |(tensor, values): (usize, Vec<f32>)| {
            let Spec { name, shape, .. } = self.specs[tensor].clone();
            Array { name, shape, values }
        };
        Ok((outcome, gradients.into_iter().map(array).collect()))
    }

    fn predict(&mut self, images: &[f32], heads: &[&str]) -> Result<Vec<Vec<f32>>> {
        let mut tape = Tape::new();
        let hidden = self.trunk(images, None, &mut tape);
        let n = images.len() / IMAGE;
        heads.iter().map(|head| Ok(self.forward(&self.head(head)?, hidden.clone(), n, None, &mut tape))).collect()
    }

    fn features(&mut self, images: &[f32], mode: Mode) -> Result<Vec<f32>> {
        let train = (mode == Mode::Train).then_some(DropoutKey { seed: 0, epoch: 0, first: 0 });
        let backbone = self.network.trunk[0].clone();
        Ok(self.forward(&backbone, images.to_vec(), images.len() / IMAGE, train, &mut Tape::new()))
    }

    fn weights(&self) -> Result<Weights> {
        Ok(self.weights.clone())
    }

    fn state(&self) -> Result<State> {
        let mut arrays = Vec::new();
        for (spec, slots) in self.specs.iter().zip(&self.slots) {
            for (slot, values) in self.rule.slots().iter().zip(slots) {
                let name = format!("{slot}/{}", spec.name);
                arrays.push(Array { name, shape: spec.shape.clone(), values: values.clone() });
            }
        }
        Ok(State { steps: self.steps, arrays })
    }
}
