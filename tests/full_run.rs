//! The study on the real CIFAR-10: its headline accuracies, each within its band. A program, not a list of tests, so
//! that its progress is seen.
//!
//! `FEWLABEL_SEEDS=n` runs the seeds 0 to n − 1 and judges their means. It goes on where it was interrupted, in a folder
//! of `target/full-run/` that is this build's own: what another has computed says nothing of this one.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use candle_core::Device;
use fewlabel::augment::view_batch;
use fewlabel::data::{IMAGE, cifar10, synthetic};
use fewlabel::engine::{self, DropoutKey, Objective};
use fewlabel::experiment::table::results;
use fewlabel::experiment::{Experiment, Options, Output, Seeds, StageResult, run};
use fewlabel::files::sha256;
use fewlabel::network::{Network, Weights, Widths};
use fewlabel::optimizer::{Rule, State};
use fewlabel::rng::Purpose;
use fewlabel::train::Record;
use fewlabel::{Error, Result};

/// Where the mean test accuracy over the seeds must be, in per cent.
struct Band {
    stage: &'static str,
    /// Of the best epoch.
    peak: [f64; 2],
    /// Of the last epoch.
    last: [f64; 2],
}

/// The study claims 63–65, 67–68 and 65–66 %; its own code, run again (seed 0, n = 1), peaks at 66.9, 69.0 and 66.3 % and
/// ends at 64.2, 68.7 and 64.7 %. Peaks: two points around the claim; ends: two around that run. The baseline's are
/// two points around 66 and 64 %, between what is claimed and that run.
const BANDS: [Band; 3] = [
    Band { stage: "baseline", peak: [64.0, 68.0], last: [62.0, 66.0] },
    Band { stage: "pretext-finetune", peak: [65.0, 70.0], last: [66.7, 70.7] },
    Band { stage: "simsiam-probe", peak: [63.0, 68.0], last: [62.7, 66.7] },
];

fn main() -> ExitCode {
    match full_run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("full run: {error}");
            ExitCode::FAILURE
        }
    }
}

fn full_run() -> Result<bool> {
    let seeds = std::env::var("FEWLABEL_SEEDS").map_or(Ok(1), |text| text.parse().map_err(|_| text));
    let seeds = seeds.ok().filter(|seeds| (1..=1000).contains(seeds));
    let seeds = seeds.ok_or_else(|| Error::Usage("FEWLABEL_SEEDS: a number of seeds from 1 to 1000".to_owned()))?;
    // Without the data this says how to get it.
    cifar10::locate(None)?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut experiment = Experiment::load(&root.join("experiments/seed.yaml"))?;
    experiment.seeds = Seeds(seeds);
    let program =
        std::env::current_exe().and_then(std::fs::read).map_err(Error::io("read", Path::new("this program")))?;
    let out = root.join(format!("target/full-run/{}-{seeds}", &sha256(&program)[..12]));
    println!("The seed protocol for {seeds} seeds into {}", out.display());
    println!("From the start it takes about {:.0} minutes here.", seeds as f64 * minutes()?);
    let manifest = run(&experiment, &Options { output: Output::Text, ..Options::new(&out) })?;
    let mut good = true;
    for Band { stage, peak, last } in BANDS {
        let of = |what: &dyn Fn(&StageResult) -> Option<&Record>| -> Vec<f64> {
            let records = results(&manifest, stage).into_iter().filter_map(|(_, result)| what(result));
            records.map(|record| record.metrics["test_top1"] * 100.0).collect()
        };
        let found =
            [("peak", of(&|result| result.peak.as_ref()), peak), ("end", of(&|result| Some(&result.last)), last)];
        for (what, all, [low, high]) in found {
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let inside = all.len() == seeds as usize && (low..=high).contains(&mean);
            let verdict = if inside { "ok" } else { "OUTSIDE" };
            println!("{stage}, {what}: {mean:.2} %, band {low}–{high} %: {verdict}");
            good &= inside;
        }
    }
    println!("test result: {}", if good { "ok" } else { "FAILED" });
    Ok(good)
}

/// About how long one seed takes, from some SimSiam steps: four fifths of all (`golden/seed.json`, `seconds`).
fn minutes() -> Result<f64> {
    let (batch, widths) = (64, Widths::default());
    let data = synthetic(batch, 10, 0).train;
    let indices: Vec<u32> = (0..batch as u32).collect();
    let views = [Purpose::View1, Purpose::View2].map(|view| {
        let mut images = vec![0.0; batch * IMAGE];
        view_batch(&data, &indices, 0, view, 0, &mut images);
        images
    });
    let objective = Objective::SimSiam { views: [&views[0], &views[1]], stop_gradient: true };
    let network = Network::simsiam(&widths);
    let weights = Weights::init(&network, 0);
    let rule = Rule::Sgd { momentum: 0.9, weight_decay: 5e-4 };
    let mut model = engine::open(&Device::Cpu, network, weights, rule, &State::default())?;
    let mut fastest = Duration::MAX;
    for _ in 0..8 {
        let began = Instant::now();
        model.step(&objective, DropoutKey { seed: 0, epoch: 0, first: 0 }, 0.01.into())?;
        fastest = fastest.min(began.elapsed());
    }
    Ok(fastest.as_secs_f64() * (30 * 781) as f64 / 60.0 / 0.8)
}
