//! The update rules of [`crate::optimizer`] as candle operations.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor};

use super::{Moved, to_array};
use crate::network::Array;
use crate::optimizer::{BETA1, BETA2, Decayed, EPS, Rule, State, adam_corrections};

/// A rule and its state on the parameters' device.
pub struct Optimizer {
    rule: Rule,
    steps: u32,
    /// By parameter name: the rule's slots, from the parameter's first gradient on.
    slots: BTreeMap<String, Vec<Tensor>>,
}

impl Optimizer {
    /// Continues from `state`.
    pub fn new(rule: Rule, state: &State, device: &Device) -> Result<Optimizer> {
        let mut slots: BTreeMap<String, Vec<Tensor>> = BTreeMap::new();
        for slot in rule.slots() {
            for Array { name, shape, values } in &state.arrays {
                if let Some(parameter) = name.strip_prefix(slot).and_then(|rest| rest.strip_prefix('/')) {
                    let tensor = Tensor::from_slice(values, shape.as_slice(), device)?;
                    slots.entry(parameter.to_owned()).or_default().push(tensor);
                }
            }
        }
        Ok(Optimizer { rule, steps: state.steps, slots })
    }

    /// Updates every (name, parameter, gradient); `lr` gives a name's learning rate.
    pub(super) fn step(&mut self, gradients: &[Moved], lr: impl Fn(&str) -> f64) -> Result<()> {
        self.steps += 1;
        for (name, parameter, gradient) in gradients {
            let lr = lr(name);
            let slots = self.slots.get(name).map(Vec::as_slice);
            let weight = parameter.as_tensor();
            let (weight, slots) = match self.rule {
                Rule::Sgd { momentum, weight_decay, nesterov, decayed } => {
                    let gradient = match decayed {
                        Decayed::Weights if weight.rank() < 2 => gradient.clone(),
                        _ => (gradient + (weight * f64::from(weight_decay))?)?,
                    };
                    let velocity = match slots {
                        Some([velocity]) => ((velocity * f64::from(momentum))? + &gradient)?,
                        _ => gradient.clone(),
                    };
                    let step = match nesterov {
                        true => (gradient + (&velocity * f64::from(momentum))?)?,
                        false => velocity.clone(),
                    };
                    ((weight - (step * lr)?)?, vec![velocity])
                }
                Rule::Adam => {
                    let zero = gradient.zeros_like()?;
                    let (mean, square) = match slots {
                        Some([mean, square]) => (mean, square),
                        _ => (&zero, &zero),
                    };
                    let mean = ((mean * BETA1)? + (gradient * (1.0 - BETA1))?)?;
                    let square = ((square * BETA2)? + (gradient.sqr()? * (1.0 - BETA2))?)?;
                    let (rate, root) = adam_corrections(lr, self.steps);
                    let denominator = ((square.sqrt()? / root)? + EPS)?;
                    ((weight - ((&mean / denominator)? * rate)?)?, vec![mean, square])
                }
            };
            parameter.set(&weight)?;
            self.slots.insert(name.clone(), slots.iter().map(Tensor::detach).collect());
        }
        Ok(())
    }

    /// The state, on the host.
    pub fn state(&self) -> Result<State> {
        let mut arrays = Vec::new();
        for (name, slots) in &self.slots {
            for (slot, tensor) in self.rule.slots().iter().zip(slots) {
                arrays.push(to_array(&format!("{slot}/{name}"), tensor)?);
            }
        }
        Ok(State { steps: self.steps, arrays })
    }
}
