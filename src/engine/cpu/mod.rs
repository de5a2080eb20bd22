//! The engine for CPUs: explicit forward and backward passes in which every sum has a fixed order.
//!
//! # The numeric contract
//! The same experiment and seed give the same weights, to the last bit, for any number of threads and on any CPU:
//! 1. a matrix product sums in blocks of [`product::BLOCK`] along k: a chain of fused multiply-adds inside a block,
//!    then the blocks in order ([`product`]); in a linear layer the sum starts from the bias. A convolution is such
//!    products: of rows of pixels in the first layer (`kernels`), between Winograd transforms in the others
//!    (`winograd`);
//! 2. every other sum is split by data (lanes, rows, images, runs of images), never by thread, and added in order;
//! 3. +, −, ×, ÷, √ and comparisons are the CPU's; all other functions (exp, ln, cos, pow …) come from `libm`;
//! 4. random values are keyed ([`crate::rng`]);
//! 5. a CPU without fused multiply-add emulates it in software: slowly, with the same bits.
//!
//! # How a pass works
//! A network becomes chains of operations (`chain`): a convolution (`conv`, `kernels`) with its batch norm, ReLU and
//! pooling (`activation`, `tail`), a linear layer with its batch norm, ReLU and dropout (`linear`). Each owns its
//! buffers, which grow to the largest batch and stay: a steady step allocates nothing. Going forward, an operation
//! leaves in them what its backward pass needs; going backward, it turns ∂L/∂y into ∂L/∂x and hands each gradient to
//! an `update::Sink`, which moves the weights at once. SimSiam's two views go through as one batch, in which batch norm
//! takes each view on its own.
//!
//! Between products, a step is bound by memory: a batch's images do not fit into the cache. So the next convolution
//! applies what follows the previous one, image by image while it is in the cache, and products prefetch what comes
//! after them.
//!
//! Images are channels last, [n, rows, columns, channels], so that SIMD lanes are channels of one pixel. Features are
//! batch last, [features, n], so that a weight matrix multiplies them as it is stored. Each module's documentation
//! derives its backward pass.

mod activation;
mod chain;
mod conv;
mod flatten;
mod kernels;
mod lanes;
#[doc(hidden)]
pub mod layer;
mod linear;
mod loss;
mod norm;
pub mod product;
pub(crate) mod rows;
mod slabs;
mod tail;
mod update;
mod winograd;

use crate::engine::{DropoutKey, Engine, Gradients, Objective, Outcome, Rates};
use crate::error::{Error, Result};
use crate::network::{Array, Block, Mode, Network, PREDICTOR, Spec, Weights};
use crate::optimizer::{Rule, State};
use chain::{Chain, Pass};
use loss::Cosines;
use update::{ByTensor, Sink, Slots};

/// A network with its tensors and its optimizer's state.
pub struct Model {
    specs: Vec<Spec>,
    /// Linear layers' in [`slabs`]; so are their gradients and the optimizer's state.
    weights: Weights,
    rule: Rule,
    steps: u32,
    slots: Slots,
    /// Values of one input.
    input_len: usize,
    trunk: Chain,
    /// Number of operations of the trunk's first block.
    backbone: usize,
    heads: Vec<(&'static str, Chain)>,
    cosines: Cosines,
    /// Both views, one after the other.
    images: Vec<f32>,
    outcome: Outcome,
}

impl Model {
    /// `weights` must be in the network's order; `state` is one that [`Engine::state`] gave, or the default.
    ///
    /// # Errors
    /// [`Error::Usage`] for a network with layers in an order that the engine does not know.
    pub fn new(network: Network, weights: Weights, rule: Rule, state: &State) -> Result<Model> {
        let specs: Vec<Spec> = network.tensors().collect();
        let mut weights = weights;
        for (spec, array) in specs.iter().zip(&mut weights.arrays) {
            if let [_, inputs] = spec.shape[..] {
                array.values = slabs::from_rows(&array.values, inputs);
            }
        }
        let find = |slot: &str, spec: &Spec| {
            let name = format!("{slot}/{}", spec.name);
            let found = state.arrays.iter().find(|array| array.name == name);
            found.map(|array| match spec.shape[..] {
                [_, inputs] => slabs::from_rows(&array.values, inputs),
                _ => array.values.clone(),
            })
        };
        let slots = specs.iter().map(|spec| rule.slots().iter().filter_map(|slot| find(slot, spec)).collect());
        let mut tensor = 0;
        let mut chain = |blocks: &[Block], first: bool| {
            let chain = Chain::new(blocks, first, tensor);
            tensor += blocks.iter().flat_map(Block::tensors).count();
            chain
        };
        let (trunk, backbone) = match network.trunk.first() {
            Some(first) => (chain(&network.trunk, true)?, Chain::new(std::slice::from_ref(first), true, 0)?.len()),
            None => (Chain::of_input(network.input_len()), 1),
        };
        let heads = network.heads.iter().map(|block| Ok((block.name, chain(std::slice::from_ref(block), false)?)));
        Ok(Model {
            heads: heads.collect::<Result<_>>()?,
            input_len: network.input_len(),
            trunk,
            backbone,
            slots: slots.collect(),
            specs,
            weights,
            rule,
            steps: state.steps,
            cosines: Cosines::default(),
            images: vec![],
            outcome: Outcome::default(),
        })
    }

    /// The number of examples in `images`.
    fn examples(&self, images: &[f32]) -> Result<usize> {
        let len = self.input_len;
        match images.len() {
            values if values > 0 && values.is_multiple_of(len) => Ok(values / len),
            values => Err(Error::Usage(format!("images of {values} values: each has {len}, and there must be one"))),
        }
    }

    /// A training pass into `outcome`; the gradients go to `kept`, or update the weights.
    fn pass(
        &mut self,
        objective: &Objective,
        dropout: DropoutKey,
        lr: Rates,
        kept: Option<&mut ByTensor>,
    ) -> Result<()> {
        let (images, views, heads) = match objective {
            Objective::Classify { images, targets } => (*images, 1, targets.len()),
            Objective::SimSiam { views: [first, second], .. } => {
                if first.len() != second.len() {
                    let message = format!(
                        "views of {} and {} values: they must be of the same images",
                        first.len(),
                        second.len()
                    );
                    return Err(Error::Usage(message));
                }
                self.images.clear();
                self.images.extend_from_slice(first);
                self.images.extend_from_slice(second);
                (&self.images[..], 2, self.heads.len())
            }
        };
        let name = |at: usize| match objective {
            Objective::Classify { targets, .. } => targets[at].head,
            Objective::SimSiam { .. } => PREDICTOR,
        };
        // Everything is checked before anything changes.
        let n = self.examples(images)?;
        for at in 0..heads {
            let classes = find(&mut self.heads, name(at))?.features();
            if let Objective::Classify { targets, .. } = objective {
                targets[at].check(n, classes)?;
            }
        }
        let Model { trunk, weights, slots, outcome, cosines, .. } = self;
        let weights = &mut weights.arrays;
        let (rule, t) = (self.rule, self.steps + 1);
        let mut kept = kept;
        trunk.forward(trunk.len(), images, &mut Pass { n, views, train: Some(dropout), weights });
        let learns = trunk.learns();
        outcome.loss = 0.0;
        let outputs = &mut outcome.outputs;
        for at in 0..heads {
            let head = find(&mut self.heads, name(at))?;
            let (hidden, dh) = trunk.end(n);
            head.forward(head.len(), hidden, &mut Pass { n, views, train: Some(dropout), weights });
            let (out, g) = head.end(n);
            match objective {
                Objective::Classify { targets, .. } => {
                    outcome.loss += loss::cross_entropy(out, targets[at].labels, g);
                    outputs.resize_with(heads, Vec::new);
                    rows_of(out, n, 0..n, &mut outputs[at]);
                }
                Objective::SimSiam { .. } => {
                    outcome.loss = cosines.loss(out, hidden, n / 2, g);
                    views_into(outputs, hidden, out, n);
                }
            }
            let (slots, kept) = (&mut *slots, kept.as_deref_mut());
            let mut sink = Sink { weights, slots, rule, lr: lr.heads, t, kept };
            head.backward(hidden, learns.then_some(&mut *dh), at > 0, n, views, &mut sink);
            if let Objective::SimSiam { stop_gradient: false, .. } = objective {
                let (p, _) = head.end(n);
                cosines.add_gradient_of_z(p, hidden, n / 2, dh);
            }
        }
        if let (Objective::SimSiam { stop_gradient, .. }, 0) = (objective, heads) {
            let (z, dz) = trunk.end(n);
            let z = &*z;
            outcome.loss = cosines.loss(z, z, n / 2, dz);
            if !stop_gradient {
                cosines.add_gradient_of_z(z, z, n / 2, dz);
            }
            views_into(outputs, z, z, n);
        }
        let mut sink = Sink { weights, slots, rule, lr: lr.trunk, t, kept };
        trunk.backward(images, None, false, n, views, &mut sink);
        Ok(())
    }
}

/// An array for the outside, row by row, of a tensor's values, its gradient or an optimizer slot.
fn array(name: String, spec: &Spec, values: &[f32]) -> Array {
    let values = match spec.shape[..] {
        [_, inputs] => slabs::to_rows(values, inputs),
        _ => values.to_vec(),
    };
    Array { name, shape: spec.shape.clone(), values }
}

/// The head called `name`.
fn find<'a>(heads: &'a mut [(&'static str, Chain)], name: &str) -> Result<&'a mut Chain> {
    let found = heads.iter_mut().find(|(head, _)| *head == name);
    found.map(|(_, chain)| chain).ok_or_else(|| Error::Usage(format!("the network has no head {name}")))
}

/// z₁, p₁, z₂, p₂ from both views' z and p.
fn views_into(outputs: &mut Vec<Vec<f32>>, z: &[f32], p: &[f32], n: usize) {
    outputs.resize_with(4, Vec::new);
    for (i, of) in [z, p, z, p].into_iter().enumerate() {
        rows_of(of, n, i / 2 * (n / 2)..(i / 2 + 1) * (n / 2), &mut outputs[i]);
    }
}

/// `columns` of x [features, n], transposed into rows.
fn rows_of(x: &[f32], n: usize, columns: std::ops::Range<usize>, out: &mut Vec<f32>) {
    let features = x.len() / n;
    out.resize(features * columns.len(), 0.0);
    rows::transpose(&x[columns.start..], n, features, columns.len(), out);
}

impl Engine for Model {
    fn step(&mut self, objective: &Objective, dropout: DropoutKey, lr: Rates) -> Result<&Outcome> {
        self.pass(objective, dropout, lr, None)?;
        self.steps += 1;
        Ok(&self.outcome)
    }

    fn gradients(&mut self, objective: &Objective, dropout: DropoutKey) -> Result<(Outcome, Gradients)> {
        let mut gradients = ByTensor::new();
        self.pass(objective, dropout, Rates::from(0.0), Some(&mut gradients))?;
        let array =
            |(tensor, values): (usize, Vec<f32>)| array(self.specs[tensor].name.clone(), &self.specs[tensor], &values);
        Ok((self.outcome.clone(), gradients.into_iter().map(array).collect()))
    }

    fn predict(&mut self, images: &[f32], heads: &[&str]) -> Result<Vec<Vec<f32>>> {
        let n = self.examples(images)?;
        let weights = &mut self.weights.arrays;
        let mut pass = Pass { n, views: 1, train: None, weights };
        self.trunk.forward(self.trunk.len(), images, &mut pass);
        let (hidden, _) = self.trunk.end(n);
        let output = |head: &&str| {
            let head = find(&mut self.heads, head)?;
            head.forward(head.len(), hidden, &mut pass);
            let mut rows = Vec::new();
            rows_of(head.end(n).0, n, 0..n, &mut rows);
            Ok(rows)
        };
        heads.iter().map(output).collect()
    }

    fn features(&mut self, images: &[f32], mode: Mode) -> Result<Vec<f32>> {
        let n = self.examples(images)?;
        let train = (mode == Mode::Train).then_some(DropoutKey { seed: 0, epoch: 0, first: 0 });
        let mut pass = Pass { n, views: 1, train, weights: &mut self.weights.arrays };
        self.trunk.forward(self.backbone, images, &mut pass);
        let mut rows = Vec::new();
        rows_of(self.trunk.out(self.backbone, n), n, 0..n, &mut rows);
        Ok(rows)
    }

    fn weights(&self) -> Result<Weights> {
        let arrays = self.specs.iter().zip(&self.weights.arrays);
        Ok(Weights { arrays: arrays.map(|(spec, from)| array(spec.name.clone(), spec, &from.values)).collect() })
    }

    fn state(&self) -> Result<State> {
        let mut arrays = Vec::new();
        for (spec, slots) in self.specs.iter().zip(&self.slots) {
            for (slot, values) in self.rule.slots().iter().zip(slots) {
                arrays.push(array(format!("{slot}/{}", spec.name), spec, values));
            }
        }
        Ok(State { steps: self.steps, arrays })
    }
}
