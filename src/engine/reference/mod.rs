//! Candle's autograd: the plain engine that tests compare with, and the engine for GPUs.

mod layers;
mod update;

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::data::CHANNELS;
use crate::engine::{
    AVERAGE, DropoutKey, Engine, Gradients, Input, Loss, Rates, Shards, Statistics, dropout_mask, exchanged, no_average,
};
use crate::error::Error;
use crate::network::{Array, Block, Layer, Mode, Network, Spec, Weights};
use crate::optimizer::{Rule, State};
use update::Optimizer;

/// A parameter's name, the parameter, and its gradient.
type Moved = (String, Var, Tensor);

/// A network with its tensors and its optimizer's state on a candle device.
pub struct Model {
    network: Network,
    device: Device,
    /// In the network's stable order.
    tensors: Vec<(Spec, Var)>,
    optimizer: Optimizer,
    average: Option<Average>,
    taps: layers::Taps,
    /// Of the last [`Engine::forward`].
    outputs: Vec<Vec<f32>>,
}

/// An average of the weights.
struct Average {
    /// In the network's stable order; the network's own while they are exchanged.
    tensors: Vec<(Spec, Var)>,
    statistics: Statistics,
    exchanged: bool,
}

impl Average {
    /// After a step.
    fn follow(&self, tensors: &[(Spec, Var)], decay: f64) -> Result<()> {
        for ((spec, average), (_, weight)) in self.tensors.iter().zip(tensors) {
            if spec.role.is_parameter() || self.statistics == Statistics::Averaged {
                let apart = (weight.as_detached_tensor() - average.as_detached_tensor())?;
                average.set(&(average.as_detached_tensor() + (apart * (1.0 - decay))?)?)?;
            }
        }
        Ok(())
    }
}

impl Model {
    /// `weights` must be in the network's order; `state` is one that [`Engine::state`] gave, or the default.
    ///
    /// # Errors
    /// candle's, where the device fails or a shape does not fit.
    pub fn new(network: Network, weights: &Weights, rule: Rule, state: &State, device: &Device) -> Result<Model> {
        let var = |(spec, array): (Spec, &Array)| {
            let tensor = Tensor::from_slice(&array.values, array.shape.as_slice(), device)?;
            Ok((spec, Var::from_tensor(&tensor)?))
        };
        let tensors = network.tensors().zip(&weights.arrays).map(var).collect::<Result<_>>()?;
        let optimizer = Optimizer::new(rule, state, device)?;
        let (device, taps) = (device.clone(), layers::Taps::default());
        Ok(Model { network, device, tensors, optimizer, average: None, taps, outputs: vec![] })
    }

    /// The outputs of the whole pass, each [n, width] over all inputs. Those in eval mode go first, by the statistics of
    /// before.
    fn outputs(&self, inputs: &[Input], outputs: &[&str]) -> Result<Vec<Tensor>> {
        let mut of_inputs: Vec<Vec<Tensor>> = vec![vec![]; inputs.len()];
        let in_order = |train: bool| inputs.iter().enumerate().filter(move |(_, input)| input.train.is_some() == train);
        for (i, input) in in_order(false).chain(in_order(true)) {
            of_inputs[i] = self.outputs_of(input, outputs)?;
        }
        (0..outputs.len()).map(|o| Tensor::cat(&of_inputs.iter().map(|all| &all[o]).collect::<Vec<_>>(), 0)).collect()
    }

    fn outputs_of(&self, input: &Input, outputs: &[&str]) -> Result<Vec<Tensor>> {
        let place = |name: &str| {
            let mut blocks = self.network.blocks();
            let found = blocks.position(|block| block.name == name);
            found.ok_or_else(|| candle_core::Error::Msg(format!("the network has no block {name}")))
        };
        let places = outputs.iter().map(|name| place(name)).collect::<Result<Vec<_>>>()?;
        let trunk = self.network.trunk.len();
        let needed = places.iter().map(|&place| if place < trunk { place + 1 } else { trunk }).max().unwrap_or(0);
        // After each block of the trunk.
        let mut after = vec![self.images(input.values)?];
        for block in &self.network.trunk[..needed] {
            after.push(self.forward(block, &after[after.len() - 1], input.train)?);
        }
        let output = |place: usize| match place.checked_sub(trunk) {
            None => Ok(after[place + 1].clone()),
            Some(head) => self.forward(&self.network.heads[head], &after[trunk], input.train),
        };
        places.into_iter().map(output).collect()
    }

    fn is_exchanged(&self) -> bool {
        self.average.as_ref().is_some_and(|average| average.exchanged)
    }

    fn differentiate(&self, inputs: &[Input], outputs: &[&str], loss: &mut Loss) -> crate::Result<(f64, Vec<Moved>)> {
        if self.is_exchanged() {
            return Err(exchanged());
        }
        let tensors = self.outputs(inputs, outputs)?;
        let on_host: Vec<Vec<f32>> = tensors.iter().map(to_host).collect::<Result<_>>()?;
        let mut gradients = vec![vec![]; tensors.len()];
        let value = loss(&on_host, &mut gradients)?;
        // What has these gradients: the sum of every output times its own.
        let precision = layers::precision(&self.device);
        let mut sum = Tensor::zeros((), precision, &self.device)?;
        for (tensor, gradient) in tensors.iter().zip(gradients).filter(|(_, gradient)| !gradient.is_empty()) {
            let gradient = Tensor::from_vec(gradient, tensor.dims(), &self.device)?.to_dtype(precision)?;
            sum = (sum + (tensor * gradient)?.sum_all()?)?;
        }
        let store = sum.backward()?;
        // No gradient reaches a frozen block: its output is detached.
        let moved = self.tensors.iter().filter(|(spec, _)| spec.role.is_parameter());
        let gradients = moved.filter_map(|(spec, var)| Some((spec.name.clone(), var.clone(), store.get(var)?.clone())));
        Ok((value, gradients.collect()))
    }

    fn images(&self, images: &[f32]) -> Result<Tensor> {
        let (len, side) = (self.network.input_len(), self.network.side);
        let x = match self.network.trunk.is_empty() {
            true => Tensor::from_slice(images, (images.len() / len, len), &self.device),
            false => Tensor::from_slice(images, (images.len() / len, CHANNELS, side, side), &self.device),
        };
        x?.to_dtype(layers::precision(&self.device))
    }

    fn forward(&self, block: &Block, x: &Tensor, train: Option<DropoutKey>) -> Result<Tensor> {
        let train = match (train, block.frozen) {
            (Some(key), None | Some(Mode::Train)) => Some(key),
            _ => None,
        };
        let out = self.layers(&block.layers, x.clone(), train)?;
        Ok(if block.frozen.is_some() { out.detach() } else { out })
    }

    fn layers(&self, layers: &[(String, Layer)], x: Tensor, train: Option<DropoutKey>) -> Result<Tensor> {
        layers.iter().try_fold(x, |x, (prefix, layer)| {
            let var = |name| self.tensor(&format!("{prefix}.{name}"));
            let get = |name| var(name)?.to_dtype(x.dtype());
            match layer {
                Layer::Conv { stride, bias, .. } => {
                    let bias = if *bias { Some(get("bias")?) } else { None };
                    layers::conv(&x, &get("weight")?, bias.as_ref(), *stride, &self.taps)
                }
                Layer::Linear { .. } => layers::linear(&x, &get("weight")?, &get("bias")?),
                Layer::BatchNorm { .. } => {
                    let running = [var("running_mean")?, var("running_var")?];
                    layers::batch_norm(&x, &get("weight")?, &get("bias")?, running, train.is_some())
                }
                Layer::Relu => layers::relu(&x),
                Layer::MaxPool2 => layers::max_pool2(&x),
                Layer::MeanPool => x.flatten_from(2)?.mean(2),
                Layer::Flatten => x.flatten_from(1),
                Layer::Dropout { p } => match train {
                    Some(key) => {
                        let (n, width) = x.dims2()?;
                        let mask = Tensor::from_vec(dropout_mask(key, *p, n, width), (n, width), &self.device)?;
                        &x * mask.to_dtype(x.dtype())?
                    }
                    None => Ok(x),
                },
                Layer::Residual { body, shortcut } => {
                    self.layers(body, x.clone(), train)? + self.layers(shortcut, x, train)?
                }
            }
        })
    }

    fn tensor(&self, name: &str) -> Result<&Var> {
        let found = self.tensors.iter().find(|(spec, _)| spec.name == name);
        found.map(|(_, var)| var).ok_or_else(|| candle_core::Error::Msg(format!("no tensor {name}")))
    }
}

impl Engine for Model {
    fn forward(&mut self, inputs: &[Input], outputs: &[&str]) -> crate::Result<&[Vec<f32>]> {
        self.outputs = self.outputs(inputs, outputs)?.iter().map(to_host).collect::<Result<_>>()?;
        Ok(&self.outputs)
    }

    fn step(&mut self, inputs: &[Input], outputs: &[&str], loss: &mut Loss, lr: Rates) -> crate::Result<f64> {
        let (value, gradients) = self.differentiate(inputs, outputs, loss)?;
        let heads: Vec<String> = self.network.heads.iter().flat_map(Block::tensors).map(|spec| spec.name).collect();
        self.optimizer
            .step(&gradients, |name| if heads.iter().any(|head| head == name) { lr.heads } else { lr.trunk })?;
        if let Some(average) = &self.average {
            average.follow(&self.tensors, lr.average)?;
        }
        Ok(value)
    }

    fn gradients(&mut self, inputs: &[Input], outputs: &[&str], loss: &mut Loss) -> crate::Result<(f64, Gradients)> {
        let (value, gradients) = self.differentiate(inputs, outputs, loss)?;
        let arrays = gradients.iter().map(|(name, _, gradient)| to_array(name, gradient)).collect::<Result<_>>()?;
        Ok((value, arrays))
    }

    fn weights(&self) -> crate::Result<Weights> {
        let arrays = self.tensors.iter().map(|(spec, var)| to_array(&spec.name, var));
        Ok(Weights { arrays: arrays.collect::<Result<_>>()? })
    }

    fn state(&self) -> crate::Result<State> {
        if self.is_exchanged() {
            return Err(exchanged());
        }
        let mut state = self.optimizer.state()?;
        for (spec, var) in self.average.iter().flat_map(|average| &average.tensors) {
            state.arrays.push(to_array(&format!("{AVERAGE}/{}", spec.name), var)?);
        }
        Ok(state)
    }

    fn shard(&mut self, shards: Shards) -> crate::Result<()> {
        match shards.team.size() {
            1 => Ok(()),
            _ => Err(Error::Usage("only the CPU engine trains in a team".to_owned())),
        }
    }

    fn complete(&mut self, _values: &mut [f32], _n: usize) {}

    fn any(&mut self, flag: bool) -> bool {
        flag
    }

    fn keep_average(&mut self, statistics: Statistics, state: &State) -> crate::Result<()> {
        let copy = |(spec, var): &(Spec, Var)| {
            let name = format!("{AVERAGE}/{}", spec.name);
            let tensor = match state.arrays.iter().find(|array| array.name == name) {
                Some(array) => Tensor::from_slice(&array.values, array.shape.as_slice(), &self.device)?,
                None => var.as_tensor().copy()?,
            };
            Ok((spec.clone(), Var::from_tensor(&tensor)?))
        };
        let tensors = self.tensors.iter().map(copy).collect::<Result<_>>()?;
        self.average = Some(Average { tensors, statistics, exchanged: false });
        Ok(())
    }

    fn exchange_average(&mut self) -> crate::Result<()> {
        let average = self.average.as_mut().ok_or_else(no_average)?;
        std::mem::swap(&mut self.tensors, &mut average.tensors);
        average.exchanged = !average.exchanged;
        Ok(())
    }
}

fn to_host(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1()
}

fn to_array(name: &str, tensor: &Tensor) -> Result<Array> {
    Ok(Array { name: name.to_owned(), shape: tensor.dims().to_vec(), values: to_host(tensor)? })
}
