//! An estimate of a stage's time from a few of its steps, for the plan that a run shows before it starts.

use std::time::{Duration, Instant};

use candle_core::Device;

use super::evaluate::Sums;
use super::inputs::{EVAL_BATCH, Inputs, features};
use super::{Examples, Recipe, Test};
use crate::data::Data;
use crate::engine::{self, OwnShare, Rates, Shards};
use crate::error::Result;
use crate::evaluate::TestViews;
use crate::method::Step;
use crate::network::{Mode, Network, Weights};
use crate::optimizer::State;

/// Timed steps, after a warm-up.
const STEPS: usize = 2;

/// About how long training the stage takes, from a few steps, whose results are thrown away.
///
/// # Errors
/// The engine's.
pub fn expected_time(recipe: &Recipe, data: &Data, examples: &Examples, device: &Device) -> Result<Duration> {
    let state = State::default();
    let open = |network: &Network| {
        engine::open(device, network.clone(), Weights::init(network, recipe.seed), recipe.rule, &state)
    };
    let mut model = open(&recipe.network)?;
    let some = |n: usize| -> Vec<u32> { examples.train.iter().copied().cycle().take(n).collect() };
    let looked = some(EVAL_BATCH);
    let judged = if recipe.test == Test::EveryEpoch { data.test.len() } else { examples.validation.len() };
    features(&data.train, &looked, &mut *model)?;
    let began = Instant::now();
    features(&data.train, &looked, &mut *model)?;
    let forward = began.elapsed().as_secs_f64() / EVAL_BATCH as f64;

    let frozen = recipe.network.is_frozen(Mode::Eval);
    let inputs = if frozen {
        let inputs = Inputs::features(&data.train, &some(recipe.batch), &mut *model)?;
        model = open(&recipe.network.without_trunk())?;
        inputs
    } else {
        Inputs::images(&data.train, &some(recipe.batch))
    };
    if let Some(statistics) = recipe.averages() {
        model.keep_average(statistics, &state)?;
    }
    model.shard(Shards::new(recipe.shards))?;
    let order = recipe.order(&inputs.indices, examples, recipe.epochs - 1);
    let (mut batch, mut sums) = (recipe.method.batch(), Sums::default());
    let mut began = Instant::now();
    for step in 0..=STEPS {
        if step == 1 {
            began = Instant::now();
        }
        recipe.fill_training(&mut *batch, &inputs.content, &order, 0, 0, OwnShare::default());
        let at = Step { rates: Rates::from(recipe.lr), done: step as u64, all: STEPS as u64 + 1 };
        recipe.step(&mut *model, at, &mut *batch, recipe.batch, &mut sums)?;
    }
    let step = began.elapsed().as_secs_f64() / STEPS as f64;
    let (epochs, steps) = (f64::from(recipe.epochs), recipe.steps(examples) as f64);
    // Earlier epochs may have fewer images without labels.
    let step = match recipe.method.unlabelled() {
        Some(of) => {
            let all = (0..recipe.epochs).map(|epoch| (1 + of.in_epoch(epoch, recipe.epochs)) as f64);
            step * all.sum::<f64>() / epochs / (1 + of.ratio) as f64
        }
        None => step,
    };
    // Without heads there is nothing to test; features of a frozen backbone are computed once.
    let views = TestViews::passes(recipe.test_views) as f64;
    let looks = if recipe.method.heads().is_empty() { 0.0 } else { views * judged as f64 * forward };
    let monitored =
        recipe.monitor.map_or(0, |monitor| (1..=recipe.epochs).filter(|&e| monitor.is_due(e, recipe.epochs)).count());
    let seconds = monitored as f64 * (judged + examples.labelled.len()) as f64 * forward
        + match frozen {
            true => epochs * steps * step + looks + examples.train.len() as f64 * forward,
            false => epochs * (steps * step + looks),
        };
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or_default())
}
