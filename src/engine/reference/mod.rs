//! Candle's autograd: the plain engine that tests compare with, and the engine for GPUs.

mod layers;
mod update;

use candle_core::{DType, Device, Result, Tensor, Var};

use crate::data::{CHANNELS, IMAGE, SIDE};
use crate::engine::{DropoutKey, Engine, Gradients, Objective, Outcome, Rates, dropout_mask};
use crate::network::{Array, Block, Layer, Mode, Network, PREDICTOR, Spec, Weights};
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
    /// Of the last step.
    outcome: Outcome,
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
        Ok(Model { network, device: device.clone(), tensors, optimizer, outcome: Outcome::default() })
    }

    fn differentiate(&self, objective: &Objective, dropout: DropoutKey) -> Result<(Outcome, Vec<Moved>)> {
        let (loss, outputs) = self.loss(objective, dropout)?;
        let store = loss.backward()?;
        // No gradient reaches a frozen block: its output is detached.
        let moved = self.tensors.iter().filter(|(spec, _)| spec.role.is_parameter());
        let gradients = moved.filter_map(|(spec, var)| Some((spec.name.clone(), var.clone(), store.get(var)?.clone())));
        let outcome = Outcome {
            loss: loss.to_scalar::<f32>()?.into(),
            outputs: outputs.iter().map(to_host).collect::<Result<_>>()?,
        };
        Ok((outcome, gradients.collect()))
    }

    fn loss(&self, objective: &Objective, dropout: DropoutKey) -> Result<(Tensor, Vec<Tensor>)> {
        match objective {
            Objective::Classify { images, targets } => {
                let hidden = self.trunk(&self.images(images)?, Some(dropout))?;
                let mut sum = Tensor::zeros((), DType::F32, &self.device)?;
                let mut outputs = Vec::new();
                for target in *targets {
                    let logits = self.forward(self.head(target.head)?, &hidden, Some(dropout))?;
                    let labels = Tensor::from_iter(target.labels.iter().map(|&y| u32::from(y)), &self.device)?;
                    sum = (sum + candle_nn::loss::cross_entropy(&logits, &labels)?)?;
                    outputs.push(logits);
                }
                Ok((sum, outputs))
            }
            Objective::SimSiam { views, stop_gradient } => {
                let mut outputs = Vec::new();
                for view in views {
                    let z = self.trunk(&self.images(view)?, Some(dropout))?;
                    let p = match &self.network.heads[..] {
                        [] => z.clone(),
                        _ => self.forward(self.head(PREDICTOR)?, &z, Some(dropout))?,
                    };
                    outputs.extend([z, p]);
                }
                let [z1, p1, z2, p2] = &outputs[..] else { unreachable!("two views give four outputs") };
                let constant = |z: &Tensor| if *stop_gradient { z.detach() } else { z.clone() };
                let loss1 = layers::negative_cosine(p1, &constant(z2))?;
                let loss2 = layers::negative_cosine(p2, &constant(z1))?;
                Ok((((loss1 + loss2)? / 2.0)?, outputs))
            }
        }
    }

    fn images(&self, images: &[f32]) -> Result<Tensor> {
        if self.network.trunk.is_empty() {
            let width = self.network.input_len();
            return Tensor::from_slice(images, (images.len() / width, width), &self.device);
        }
        Tensor::from_slice(images, (images.len() / IMAGE, CHANNELS, SIDE, SIDE), &self.device)
    }

    fn head(&self, name: &str) -> Result<&Block> {
        let found = self.network.heads.iter().find(|block| block.name == name);
        found.ok_or_else(|| candle_core::Error::Msg(format!("the network has no head {name}")))
    }

    /// All trunk blocks, in train mode with the dropout masks of `train`, else in eval mode.
    fn trunk(&self, x: &Tensor, train: Option<DropoutKey>) -> Result<Tensor> {
        self.network.trunk.iter().try_fold(x.clone(), |x, block| self.forward(block, &x, train))
    }

    fn forward(&self, block: &Block, x: &Tensor, train: Option<DropoutKey>) -> Result<Tensor> {
        let train = match (train, block.frozen) {
            (Some(key), None | Some(Mode::Train)) => Some(key),
            _ => None,
        };
        let out = block.layers.iter().try_fold(x.clone(), |x, (prefix, layer)| {
            let get = |name| self.tensor(&format!("{prefix}.{name}"));
            match *layer {
                Layer::Conv3x3 { .. } => layers::conv3x3(&x, get("weight")?, get("bias")?),
                Layer::Linear { .. } => layers::linear(&x, get("weight")?, get("bias")?),
                Layer::BatchNorm { .. } => {
                    let running = [get("running_mean")?, get("running_var")?];
                    layers::batch_norm(&x, get("weight")?, get("bias")?, running, train.is_some())
                }
                Layer::Relu => layers::relu(&x),
                Layer::MaxPool2 => layers::max_pool2(&x),
                Layer::Flatten => x.flatten_from(1),
                Layer::Dropout { p } => match train {
                    Some(key) => {
                        let (n, width) = x.dims2()?;
                        x * Tensor::from_vec(dropout_mask(key, p, n, width), (n, width), &self.device)?
                    }
                    None => Ok(x),
                },
            }
        })?;
        Ok(if block.frozen.is_some() { out.detach() } else { out })
    }

    fn tensor(&self, name: &str) -> Result<&Var> {
        let found = self.tensors.iter().find(|(spec, _)| spec.name == name);
        found.map(|(_, var)| var).ok_or_else(|| candle_core::Error::Msg(format!("no tensor {name}")))
    }
}

impl Engine for Model {
    fn step(&mut self, objective: &Objective, dropout: DropoutKey, lr: Rates) -> crate::Result<&Outcome> {
        let (outcome, gradients) = self.differentiate(objective, dropout)?;
        let heads: Vec<String> = self.network.heads.iter().flat_map(Block::tensors).map(|spec| spec.name).collect();
        self.optimizer
            .step(&gradients, |name| if heads.iter().any(|head| head == name) { lr.heads } else { lr.trunk })?;
        self.outcome = outcome;
        Ok(&self.outcome)
    }

    fn gradients(&mut self, objective: &Objective, dropout: DropoutKey) -> crate::Result<(Outcome, Gradients)> {
        let (outcome, gradients) = self.differentiate(objective, dropout)?;
        let arrays = gradients.iter().map(|(name, _, gradient)| to_array(name, gradient)).collect::<Result<_>>()?;
        Ok((outcome, arrays))
    }

    fn predict(&mut self, images: &[f32], heads: &[&str]) -> crate::Result<Vec<Vec<f32>>> {
        let hidden = self.trunk(&self.images(images)?, None)?;
        heads.iter().map(|head| Ok(to_host(&self.forward(self.head(head)?, &hidden, None)?)?)).collect()
    }

    fn features(&mut self, images: &[f32], mode: Mode) -> crate::Result<Vec<f32>> {
        let train = (mode == Mode::Train).then_some(DropoutKey { seed: 0, epoch: 0, first: 0 });
        Ok(to_host(&self.forward(&self.network.trunk[0], &self.images(images)?, train)?)?)
    }

    fn weights(&self) -> crate::Result<Weights> {
        let arrays = self.tensors.iter().map(|(spec, var)| to_array(&spec.name, var));
        Ok(Weights { arrays: arrays.collect::<Result<_>>()? })
    }

    fn state(&self) -> crate::Result<State> {
        Ok(self.optimizer.state()?)
    }
}

fn to_host(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}

fn to_array(name: &str, tensor: &Tensor) -> Result<Array> {
    Ok(Array { name: name.to_owned(), shape: tensor.dims().to_vec(), values: to_host(tensor)? })
}
