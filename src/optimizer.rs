//! Update rules and their constants, learning-rate schedules, and the optimizer state that a checkpoint keeps.
//!
//! The rules are PyTorch's `torch.optim.SGD` and `torch.optim.Adam` (single-tensor form). An engine applies them; a
//! parameter without a gradient stays as it is, and so does its state.

use serde::{Deserialize, Serialize};

use crate::network::Array;

/// The update rule of one stage.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    /// g ← g + weight_decay·w; v ← momentum·v + g (v = g at first); w ← w − lr·v, or with Nesterov's momentum
    /// w ← w − lr·(g + momentum·v) (`torch.optim.SGD` without dampening).
    Sgd {
        /// The share of the previous velocity that is kept.
        momentum: f32,
        /// λ in g + λ·w.
        weight_decay: f32,
        /// Nesterov's momentum, as Sutskever, Martens, Dahl and Hinton have it ("On the importance of initialization and
        /// momentum in deep learning", 2013).
        nesterov: bool,
        /// What weight decay is on; λ is 0 elsewhere.
        decayed: Decayed,
    },
    /// Kingma and Ba, "Adam", 2015, algorithm 1, with [`BETA1`], [`BETA2`] and [`EPS`]. t counts the optimizer's steps,
    /// in PyTorch the parameter's: the same where every step updates the same parameters.
    Adam,
}

/// The parameters that weight decay is on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Decayed {
    /// All of them.
    #[default]
    All,
    /// Those of two or more dimensions: weights of convolutions and linear layers, no biases, nor batch norm's γ and β.
    Weights,
}

/// An update rule by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OptimizerName {
    /// [`Rule::Adam`].
    Adam,
    /// [`Rule::Sgd`].
    Sgd,
}

/// Adam's decay of the mean of gradients (PyTorch's default).
pub const BETA1: f64 = 0.9;
/// Adam's decay of the mean of squared gradients (PyTorch's default).
pub const BETA2: f64 = 0.999;
/// Added to Adam's denominator (PyTorch's default).
pub const EPS: f64 = 1e-8;

impl Rule {
    /// [`Rule::Sgd`] without Nesterov's momentum, decay on all parameters.
    pub const fn sgd(momentum: f32, weight_decay: f32) -> Rule {
        Rule::Sgd { momentum, weight_decay, nesterov: false, decayed: Decayed::All }
    }

    /// Names of the state arrays that the rule keeps beside each parameter, as PyTorch calls them.
    pub fn slots(self) -> &'static [&'static str] {
        match self {
            Rule::Sgd { .. } => &["momentum_buffer"],
            Rule::Adam => &["exp_avg", "exp_avg_sq"],
        }
    }
}

/// Adam's corrections at step `t` (from 1): lr / (1 − β₁ᵗ), and √(1 − β₂ᵗ).
pub(crate) fn adam_corrections(lr: f64, t: u32) -> (f64, f64) {
    let correction = |beta: f64| 1.0 - libm::pow(beta, t.into());
    (lr / correction(BETA1), correction(BETA2).sqrt())
}

/// An optimizer's state on the host; the default is the state before the first step.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// Steps taken.
    pub steps: u32,
    /// For each updated parameter and slot ([`Rule::slots`]) an array called `slot/parameter`, of the parameter's
    /// shape.
    pub arrays: Vec<Array>,
}

/// How the learning rate changes over a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// lr in every step.
    Constant,
    /// lr/2 · (1 + cos(π·step/steps)): to 0 over the stage, step by step (Loshchilov and Hutter, "SGDR", 2017,
    /// equation 5; PyTorch's `CosineAnnealingLR` with `T_max` = all steps).
    Cosine,
    /// lr · (1 − step/steps): to 0 over the stage.
    Linear,
    /// By a cosine from lr/25 to lr over the first 30 % of the steps, then by one to lr/250,000 (Smith and Topin,
    /// "Super-convergence", 2019; PyTorch's `OneCycleLR` with its defaults).
    OneCycle,
}

impl Schedule {
    /// The rate of `step` (from 0) out of `steps`.
    pub fn rate(self, lr: f64, step: u64, steps: u64) -> f64 {
        let (step, steps) = (step as f64, steps as f64);
        match self {
            Schedule::Constant => lr,
            Schedule::Cosine => lr / 2.0 * (1.0 + libm::cos(std::f64::consts::PI * step / steps)),
            Schedule::Linear => lr * (1.0 - step / steps),
            Schedule::OneCycle => {
                let (first, last) = ((0.3 * steps - 1.0).max(0.0), steps - 1.0);
                if step <= first {
                    between(lr / 25.0, lr, if first > 0.0 { step / first } else { 1.0 })
                } else {
                    between(lr, lr / 25.0 / 1e4, (step - first) / (last - first))
                }
            }
        }
    }

    /// The same after a warm-up of `warmup` steps, in which the rate grows linearly to lr (Goyal et al., "Accurate, large
    /// minibatch SGD: training ImageNet in 1 hour", 2017, §2.2).
    pub fn rate_after(self, warmup: u64, lr: f64, step: u64, steps: u64) -> f64 {
        match step.checked_sub(warmup) {
            None => lr * (step + 1) as f64 / warmup as f64,
            Some(step) => self.rate(lr, step, steps - warmup),
        }
    }
}

/// From `start` to `end` by half a cosine.
fn between(start: f64, end: f64, share: f64) -> f64 {
    end + (start - end) / 2.0 * (1.0 + libm::cos(std::f64::consts::PI * share))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The keys of `optimizer.state[parameter]` in PyTorch, but for Adam's `step`: checkpoints are written with them.
    #[test]
    fn state_has_the_names_of_pytorch() {
        assert_eq!(Rule::sgd(0.9, 0.0).slots(), ["momentum_buffer"]);
        assert_eq!(Rule::Adam.slots(), ["exp_avg", "exp_avg_sq"]);
    }

    #[test]
    fn cosine_starts_at_the_rate_halves_midway_and_ends_near_zero() {
        let rate = |step| Schedule::Cosine.rate(0.1, step, 100);
        assert_eq!(rate(0), 0.1);
        assert!((rate(50) - 0.05).abs() < 1e-15);
        // 0.1 / 2 · (1 + cos(0.99 π)), from Python's math module.
        assert!((rate(99) - 2.4671981713420e-5).abs() < 1e-15, "{}", rate(99));
        assert_eq!(Schedule::Constant.rate(0.1, 99, 100), 0.1);
    }

    /// `torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100)`, its formula in Python's math module.
    #[test]
    fn one_cycle_is_that_of_pytorch() {
        let expected = [0.0040000000000000036, 0.029516394846410082, 0.1, 0.09994965352845243, 0.0500002, 4e-07];
        for (step, expected) in [0, 10, 29, 30, 64, 99].into_iter().zip(expected) {
            let rate = Schedule::OneCycle.rate(0.1, step, 100);
            assert!((rate - expected).abs() < 1e-15, "{step}: {rate}, not {expected}");
        }
        assert!((1..9).all(|steps| (0..steps).all(|step| Schedule::OneCycle.rate(0.1, step, steps).is_finite())));
    }

    #[test]
    fn a_warm_up_grows_to_the_rate_and_the_schedule_has_the_rest() {
        let rate = |step| Schedule::Linear.rate_after(4, 0.1, step, 14);
        let rates: Vec<f64> = (0..14).map(rate).collect();
        assert_eq!(rates[..5], [0.025, 0.05, 0.1 * 3.0 / 4.0, 0.1, 0.1]);
        assert!((rates[13] - 0.01).abs() < 1e-15, "a tenth is left in the last of ten steps");
        for schedule in [Schedule::Constant, Schedule::Cosine, Schedule::Linear, Schedule::OneCycle] {
            assert!((0..9).all(|step| schedule.rate_after(0, 0.3, step, 9) == schedule.rate(0.3, step, 9)));
        }
    }

    #[test]
    fn adam_corrections_are_those_of_the_paper() {
        // At t = 1: lr / (1 − 0.9) and √(1 − 0.999); the steps after shrink towards lr and 1.
        let (rate, root) = adam_corrections(1e-3, 1);
        assert!((rate - 1e-2).abs() < 1e-15 && (root * root - 1e-3).abs() < 1e-15);
        let (rate, root) = adam_corrections(1e-3, 100_000);
        assert!((rate - 1e-3).abs() < 1e-15 && (root - 1.0).abs() < 1e-12);
    }
}
