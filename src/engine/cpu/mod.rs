//! The engine for CPUs: explicit forward and backward passes in which every sum has a fixed order.
//!
//! # The numeric contract
//! The same experiment and seed give the same weights, to the last bit, for any number of threads and on any CPU:
//! 1. a matrix product sums in blocks of [`product::BLOCK`] along k: a chain of fused multiply-adds inside a block,
//!    then the blocks in order ([`product`]); in a linear layer the sum starts from the bias. A convolution is such
//!    products: of rows of pixels in the first layer (`planes`), between Winograd transforms where kernels are 3×3, the
//!    stride is 1 and the side even (`tiles`, `winograd`), tap by tap in all others (`taps`);
//! 2. every other sum is split by data (lanes, rows, images, runs of images), never by thread, and added in order;
//! 3. +, −, ×, ÷, √ and comparisons are the CPU's; all other functions (exp, ln, cos, pow …) come from `libm`;
//! 4. random values are keyed ([`crate::rng`]);
//! 5. a CPU without fused multiply-add emulates it in software: slowly, with the same bits.
//!
//! # How a pass works
//! A network becomes chains of operations (`plan`, `chain`): a convolution (`conv`, `kernels`) with its batch norm, ReLU and
//! pooling, or residual sum and ReLU (`activation`, `tail`); from images to features (`flatten`); a linear layer with its batch
//! norm, ReLU and dropout (`linear`). In a residual the shortcut's operation comes first, and the body's last one adds its output.
//! Each owns its
//! buffers, which grow to the largest batch and stay: a steady step allocates nothing. Going forward, an operation
//! leaves in them what its backward pass needs; going backward, it turns ∂L/∂y into ∂L/∂x and hands each gradient to
//! an `update::Sink`, which moves the weights at once. Several inputs go through as one batch, in which batch norm takes
//! each on its own. An average of the weights, where one is kept, moves after the step, in one pass over both.
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
mod norm;
mod plan;
mod planes;
pub mod product;
pub(crate) mod rows;
mod slabs;
mod tail;
mod taps;
mod tiles;
mod update;
mod winograd;

use std::ops::Range;

use crate::data::CHANNELS;
use crate::engine::shards::Shards;
use crate::engine::{AVERAGE, DropoutKey, Engine, Gradients, Input, Loss, Rates, Statistics, exchanged, no_average};
use crate::error::{Error, Result};
use crate::network::{Array, Block, Network, Shape, Spec, Weights};
use crate::optimizer::{Rule, State};
use chain::{Chain, Group, Pass};
use update::{ByTensor, Parts, Sink, Slots, approach};

/// Whether the engine runs the network.
///
/// # Errors
/// [`Error::Usage`] for layers that do not fit together, or in an order that the engine does not know.
pub fn check(network: &Network) -> Result<()> {
    plan::plan(&network.trunk, Shape::Images { channels: CHANNELS, side: network.side }, 0).map(|_| ())
}

/// A network with its tensors and its optimizer's state.
pub struct Model {
    specs: Vec<Spec>,
    /// Linear layers' in [`slabs`]; so are their gradients and the optimizer's state.
    weights: Weights,
    rule: Rule,
    steps: u32,
    slots: Slots,
    average: Option<Average>,
    shards: Shards,
    parts: Parts,
    /// Values of one input.
    input_len: usize,
    trunk: Chain,
    heads: Vec<(&'static str, Chain)>,
    /// Of the pass: its inputs in this process's shards, in one matrix if there are several; its outputs, row by row, and their
    /// gradients.
    groups: Vec<Group>,
    joined: Vec<f32>,
    places: Vec<Place>,
    outputs: Vec<Vec<f32>>,
    gradients: Vec<Vec<f32>>,
    /// Rows of this process's shards; an output's gradient, batch last.
    rows: Vec<f32>,
    direct: Vec<f32>,
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
        let slots = specs.iter().map(|spec| rule.slots().iter().filter_map(|slot| find(state, slot, spec)).collect());
        let mut tensor = 0;
        let mut chain = |blocks: &[Block], input: Shape| {
            let chain = Chain::new(blocks, input, tensor);
            tensor += blocks.iter().flat_map(Block::tensors).count();
            chain
        };
        let trunk = match network.trunk.is_empty() {
            true => Chain::of_input(network.input_len()),
            false => chain(&network.trunk, Shape::Images { channels: CHANNELS, side: network.side })?,
        };
        let features = Shape::Features(trunk.features(trunk.len()));
        let heads = network.heads.iter().map(|block| Ok((block.name, chain(std::slice::from_ref(block), features)?)));
        Ok(Model {
            heads: heads.collect::<Result<_>>()?,
            input_len: network.input_len(),
            trunk,
            slots: slots.collect(),
            average: None,
            shards: Shards::default(),
            parts: Parts::default(),
            specs,
            weights,
            rule,
            steps: state.steps,
            groups: vec![],
            joined: vec![],
            places: vec![],
            outputs: vec![],
            gradients: vec![],
            rows: vec![],
            direct: vec![],
        })
    }

    /// Takes over the inputs of a pass as groups, and finds the places of its outputs. Everything is checked before anything
    /// changes.
    fn prepare(&mut self, inputs: &[Input], outputs: &[&str]) -> Result<()> {
        let len = self.input_len;
        for values in inputs.iter().map(|input| input.values.len()) {
            if values == 0 || !values.is_multiple_of(len) {
                let message = format!("an input of {values} values: no whole number of examples of {len} values each");
                return Err(Error::Usage(message));
            }
        }
        if inputs.is_empty() {
            return Err(Error::Usage("a pass without inputs".to_owned()));
        }
        self.shards.begin(inputs.iter().map(|input| input.values.len() / len));
        self.groups.clear();
        self.joined.clear();
        let mut first = 0;
        for shard in self.shards.own() {
            for (input, Input { values, train }) in inputs.iter().enumerate() {
                let of = values.len() / len;
                let examples = self.shards.examples(shard, of);
                let key = |key: DropoutKey| DropoutKey { first: key.first + examples.start as u32, ..key };
                let (train, n) = (train.map(key), examples.len());
                self.groups.push(Group { examples: first..first + n, train, input, of, shard });
                if inputs.len() > 1 || self.shards.is_split() {
                    self.joined.extend_from_slice(&values[examples.start * len..examples.end * len]);
                }
                first += n;
            }
        }
        self.places.clear();
        for name in outputs {
            let head = self.heads.iter().position(|(head, _)| head == name).map(Place::Head);
            let trunk = self.trunk.ends.iter().find(|(block, _)| block == name).map(|(_, ops)| Place::Trunk(*ops));
            let Some(place) = head.or(trunk) else {
                return Err(Error::Usage(format!("the network has no block {name}")));
            };
            if let Place::Trunk(ops) = place
                && self.trunk.features(ops) == 0
            {
                return Err(Error::Usage(format!("{name} ends in images, not in features")));
            }
            if self.places.contains(&place) {
                return Err(Error::Usage(format!("{name} is asked for twice")));
            }
            self.places.push(place);
        }
        Ok(())
    }

    /// How many of the trunk's operations the outputs need.
    fn trunk_ops(&self) -> usize {
        let needed = self.places.iter().map(|place| match place {
            Place::Trunk(ops) => *ops,
            Place::Head(_) => self.trunk.len(),
        });
        needed.max().unwrap_or(0)
    }

    /// Runs the inputs, [`Model::prepare`]d, up to the outputs.
    fn run(&mut self, inputs: &[Input]) {
        let ops = self.trunk_ops();
        let Model { trunk, heads, weights, groups, places, outputs, joined, shards, rows, .. } = self;
        let n = Group::all(groups).end;
        let train = groups.iter().any(|group| group.train.is_some());
        let mut pass = Pass { n, groups, train, weights: &mut weights.arrays, shards };
        trunk.forward(ops, whole(inputs, joined), &mut pass);
        at_least(outputs, places.len());
        for (place, output) in places.iter().zip(outputs) {
            let features = match place {
                Place::Trunk(ops) => trunk.out(*ops, n),
                Place::Head(head) => {
                    let (_, head) = &mut heads[*head];
                    head.forward(head.len(), trunk.out(ops, n), &mut pass);
                    head.out(head.len(), n)
                }
            };
            match pass.shards.is_split() {
                true => {
                    to_rows(features, n, rows);
                    gather(rows, groups, pass.shards, output);
                }
                false => to_rows(features, n, output),
            }
        }
    }

    fn is_exchanged(&self) -> bool {
        self.average.as_ref().is_some_and(|average| average.exchanged)
    }

    /// Forward, loss and backward. The gradients go to `kept`, or update the weights.
    fn pass(
        &mut self,
        inputs: &[Input],
        outputs: &[&str],
        loss: &mut Loss,
        lr: Rates,
        kept: Option<&mut ByTensor>,
    ) -> Result<f64> {
        if self.is_exchanged() {
            return Err(exchanged());
        }
        self.prepare(inputs, outputs)?;
        if self.groups.iter().all(|group| group.train.is_none()) {
            return Err(Error::Usage("all inputs are in eval mode: a step needs one in train mode".to_owned()));
        }
        self.run(inputs);
        at_least(&mut self.gradients, outputs.len());
        let (found, gradients) = (&self.outputs[..outputs.len()], &mut self.gradients[..outputs.len()]);
        gradients.iter_mut().for_each(Vec::clear);
        let value = loss(found, gradients)?;
        for (name, (output, gradient)) in outputs.iter().zip(found.iter().zip(&*gradients)) {
            if !gradient.is_empty() && gradient.len() != output.len() {
                let (values, wanted) = (gradient.len(), output.len());
                return Err(Error::Usage(format!("{name}: a gradient of {values} values for an output of {wanted}")));
            }
        }
        self.backward(inputs, lr, kept);
        Ok(value)
    }

    /// From the outputs' gradients to those of the weights.
    fn backward(&mut self, inputs: &[Input], lr: Rates, kept: Option<&mut ByTensor>) {
        let ops = self.trunk_ops();
        let Model {
            trunk, heads, weights, slots, groups, places, gradients, joined, direct, shards, parts, rows, ..
        } = self;
        let (weights, n) = (&mut weights.arrays, Group::all(groups).end);
        if shards.is_split() {
            gradients.iter_mut().for_each(|gradient| keep_own(gradient, groups, shards, rows));
        }
        let (rule, t, mut kept) = (self.rule, self.steps + 1, kept);
        let learns = trunk.learns(ops);
        // Whether the gradient of the trunk's output is there already.
        let mut begun = false;
        for (place, gradient) in places.iter().zip(&*gradients).filter(|(_, gradient)| !gradient.is_empty()) {
            let Place::Head(head) = place else { continue };
            let (_, head) = &mut heads[*head];
            let (hidden, dh) = trunk.end(ops, n);
            from_rows(gradient, n, head.end(head.len(), n).1);
            let (slots, kept) = (&mut *slots, kept.as_deref_mut());
            let mut sink = Sink { weights, slots, rule, lr: lr.heads, t, kept, shards, parts };
            head.backward(head.len(), hidden, learns.then_some((&mut *dh, begun)), groups, &mut sink, |_, _| {});
            begun = true;
        }
        // The last operation that gets a gradient begins.
        let gradient_at = |at: usize| {
            let here = places.iter().zip(&*gradients).filter(move |(place, _)| **place == Place::Trunk(at));
            here.map(|(_, gradient)| gradient).filter(|gradient| !gradient.is_empty())
        };
        let last = if begun { ops } else { (1..=ops).rev().find(|&at| gradient_at(at).next().is_some()).unwrap_or(0) };
        let mut sink = Sink { weights, slots, rule, lr: lr.trunk, t, kept, shards, parts };
        trunk.backward(last, whole(inputs, joined), None, groups, &mut sink, |at, g| {
            for gradient in gradient_at(at) {
                if at == last && !begun {
                    from_rows(gradient, n, g);
                    begun = true;
                } else {
                    direct.resize(g.len(), 0.0);
                    from_rows(gradient, n, direct);
                    g.iter_mut().zip(&*direct).for_each(|(g, more)| *g += more);
                }
            }
        });
        sink.end_sums();
    }
}

/// An average of the weights.
struct Average {
    /// The arrays, or the network's while they are exchanged.
    weights: Weights,
    statistics: Statistics,
    exchanged: bool,
}

impl Average {
    /// After a step. An average that equals the weights stays as it is, to the last bit.
    fn follow(&mut self, specs: &[Spec], weights: &Weights, decay: f64) {
        let follows = |spec: &Spec| spec.role.is_parameter() || self.statistics == Statistics::Averaged;
        for ((spec, average), weights) in specs.iter().zip(&mut self.weights.arrays).zip(&weights.arrays) {
            if follows(spec) {
                approach(&mut average.values, &weights.values, (1.0 - decay) as f32);
            }
        }
    }
}

/// Where an output comes from.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// So many of the trunk's operations.
    Trunk(usize),
    /// The head's index.
    Head(usize),
}

/// Grows to `len` matrices; the memory of more stays for other passes.
fn at_least(matrices: &mut Vec<Vec<f32>>, len: usize) {
    if matrices.len() < len {
        matrices.resize_with(len, Vec::new);
    }
}

/// All inputs in one: the only one as it is, unless they were `joined`.
fn whole<'a>(inputs: &[Input<'a>], joined: &'a [f32]) -> &'a [f32] {
    if joined.is_empty() { inputs[0].values } else { joined }
}

/// For each group the place of its rows in an output: the inputs' whole ones, one after the other.
fn places<'a>(groups: &'a [Group], shards: &'a Shards) -> impl Iterator<Item = (&'a Group, Range<usize>)> {
    groups.iter().map(|group| {
        let before: usize = groups[..group.input].iter().map(|group| group.of).sum();
        let Range { start, end } = shards.examples(group.shard, group.of);
        (group, before + start..before + end)
    })
}

/// From the `rows` of this process's groups to those of the whole `output`.
fn gather(rows: &[f32], groups: &[Group], shards: &mut Shards, output: &mut Vec<f32>) {
    let (width, inputs) = (rows.len() / Group::all(groups).end, &groups[..Group::inputs(groups)]);
    output.resize(inputs.iter().map(|group| group.of).sum::<usize>() * width, 0.0);
    for (group, to) in places(groups, shards) {
        let Range { start, end } = group.examples;
        output[to.start * width..to.end * width].copy_from_slice(&rows[start * width..end * width]);
    }
    let mut rest = &mut output[..];
    for group in inputs {
        let (values, after) = rest.split_at_mut(group.of * width);
        shards.complete(values, group.of);
        rest = after;
    }
}

/// Keeps of an output's gradient the rows of this process's groups, in their order.
fn keep_own(gradient: &mut Vec<f32>, groups: &[Group], shards: &Shards, rows: &mut Vec<f32>) {
    let all: usize = groups[..Group::inputs(groups)].iter().map(|group| group.of).sum();
    let width = gradient.len() / all;
    rows.clear();
    for (_, at) in places(groups, shards) {
        rows.extend_from_slice(&gradient[at.start * width..at.end * width]);
    }
    std::mem::swap(gradient, rows);
}

/// x [features, n] in rows [n, features].
fn to_rows(x: &[f32], n: usize, rows: &mut Vec<f32>) {
    rows.resize(x.len(), 0.0);
    rows::transpose(x, n, x.len() / n, n, rows);
}

/// The inverse of [`to_rows`].
fn from_rows(rows: &[f32], n: usize, x: &mut [f32]) {
    let features = rows.len() / n;
    rows::transpose(rows, features, n, features, x);
}

/// The values of `slot/TENSOR` in the engine's layout, if a state has them.
fn find(state: &State, slot: &str, spec: &Spec) -> Option<Vec<f32>> {
    let name = format!("{slot}/{}", spec.name);
    let found = state.arrays.iter().find(|array| array.name == name)?;
    Some(match spec.shape[..] {
        [_, inputs] => slabs::from_rows(&found.values, inputs),
        _ => found.values.clone(),
    })
}

/// An array for the outside, row by row, of a tensor's values, its gradient or an optimizer slot.
fn array(name: String, spec: &Spec, values: &[f32]) -> Array {
    let values = match spec.shape[..] {
        [_, inputs] => slabs::to_rows(values, inputs),
        _ => values.to_vec(),
    };
    Array { name, shape: spec.shape.clone(), values }
}

impl Engine for Model {
    fn forward(&mut self, inputs: &[Input], outputs: &[&str]) -> Result<&[Vec<f32>]> {
        self.prepare(inputs, outputs)?;
        self.run(inputs);
        Ok(&self.outputs[..outputs.len()])
    }

    fn step(&mut self, inputs: &[Input], outputs: &[&str], loss: &mut Loss, lr: Rates) -> Result<f64> {
        let loss = self.pass(inputs, outputs, loss, lr, None)?;
        self.steps += 1;
        if let Some(average) = &mut self.average {
            average.follow(&self.specs, &self.weights, lr.average);
        }
        Ok(loss)
    }

    fn gradients(&mut self, inputs: &[Input], outputs: &[&str], loss: &mut Loss) -> Result<(f64, Gradients)> {
        let mut gradients = ByTensor::new();
        let loss = self.pass(inputs, outputs, loss, Rates::from(0.0), Some(&mut gradients))?;
        let array =
            |(tensor, values): (usize, Vec<f32>)| array(self.specs[tensor].name.clone(), &self.specs[tensor], &values);
        Ok((loss, gradients.into_iter().map(array).collect()))
    }

    fn weights(&self) -> Result<Weights> {
        let arrays = self.specs.iter().zip(&self.weights.arrays);
        Ok(Weights { arrays: arrays.map(|(spec, from)| array(spec.name.clone(), spec, &from.values)).collect() })
    }

    fn state(&self) -> Result<State> {
        if self.is_exchanged() {
            return Err(exchanged());
        }
        let mut arrays = Vec::new();
        let mut add =
            |slot: &str, spec: &Spec, values| arrays.push(array(format!("{slot}/{}", spec.name), spec, values));
        for (spec, slots) in self.specs.iter().zip(&self.slots) {
            self.rule.slots().iter().zip(slots).for_each(|(slot, values)| add(slot, spec, values));
        }
        let average = self.average.iter().flat_map(|average| &average.weights.arrays);
        self.specs.iter().zip(average).for_each(|(spec, average)| add(AVERAGE, spec, &average.values));
        Ok(State { steps: self.steps, arrays })
    }

    fn shard(&mut self, shards: Shards) -> Result<()> {
        self.shards = shards;
        Ok(())
    }

    fn complete(&mut self, values: &mut [f32], n: usize) {
        self.shards.begin(std::iter::once(n));
        self.shards.complete(values, n);
    }

    fn any(&mut self, flag: bool) -> bool {
        self.shards.any(flag)
    }

    fn keep_average(&mut self, statistics: Statistics, state: &State) -> Result<()> {
        let mut weights = self.weights.clone();
        for (spec, array) in self.specs.iter().zip(&mut weights.arrays) {
            if let Some(values) = find(state, AVERAGE, spec) {
                array.values = values;
            }
        }
        self.average = Some(Average { weights, statistics, exchanged: false });
        Ok(())
    }

    fn exchange_average(&mut self) -> Result<()> {
        let average = self.average.as_mut().ok_or_else(no_average)?;
        std::mem::swap(&mut self.weights, &mut average.weights);
        average.exchanged = !average.exchanged;
        Ok(())
    }
}
