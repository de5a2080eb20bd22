//! A stage trained by ranks under `mpirun` has the bits of one process. Without `mpirun` around it, this program starts itself
//! under it, and compares.

use std::process::Command;

use candle_core::Device;
use fewlabel::cluster;
use fewlabel::data::synthetic;
use fewlabel::engine::Shards;
use fewlabel::experiment::Experiment;
use fewlabel::network::Weights;
use fewlabel::train::{Progress, Trained, train_shards};

const SHARDS: usize = 4;
const METHODS: [&str; 3] = ["supervised", "byol", "simclr"];

fn trained(method: &str, shards: Shards) -> Trained {
    let yaml = format!(
        "{{name: t, dataset: {{name: synthetic, train: 40, test: 10}}, labels: {{count: 30, choose: stratified}}, network: \
         {{channels: [3, 4, 5], hidden: 9, projector: 16, predictor: 8}}, stages: [{{name: a, method: {method}, epochs: 2, \
         batch: 12, shards: {SHARDS}}}]}}"
    );
    let experiment = Experiment::parse("ranks".as_ref(), &yaml).expect("an experiment");
    let (stage, data) = (&experiment.stages[0], synthetic(40, 10, 0));
    let recipe = experiment.recipe(stage).expect("a method that trains");
    let examples = experiment.examples(stage, &data).expect("examples");
    let start = Progress::start(Weights::init(&recipe.network, 0));
    train_shards(&recipe, &data, &examples, start, &Device::Cpu, shards, &mut ()).expect("a training")
}

/// One line for each method, which differs where a bit does.
fn told(shards: impl Fn() -> Shards) -> String {
    let line = |method: &&str| {
        let Trained { history, weights, .. } = trained(method, shards());
        let bits: Vec<u32> = weights.arrays.iter().flat_map(|array| &array.values).map(|v| v.to_bits()).collect();
        let hash = bits.iter().fold(0u64, |hash, bits| (hash ^ u64::from(*bits)).wrapping_mul(0x0100_0000_01b3));
        format!("{method} {hash:016x} {history:?}\n")
    };
    METHODS.iter().map(line).collect()
}

fn main() {
    if let Some(_cluster) = cluster::join() {
        print!("{}", told(|| Shards::of_team(SHARDS, cluster::team_of_ranks(SHARDS))));
        return;
    }
    let alone = told(|| Shards::new(SHARDS));
    for ranks in ["1", "2", "3", "4"] {
        let mut command = Command::new("mpirun");
        command.args(["--allow-run-as-root", "--oversubscribe", "-n", ranks]);
        let program = std::env::current_exe().expect("this program");
        let output = command.arg(program).env("RAYON_NUM_THREADS", "1").output().expect("mpirun");
        assert!(output.status.success(), "{ranks} ranks: {}", String::from_utf8_lossy(&output.stderr));
        let mut lines: Vec<_> = std::str::from_utf8(&output.stdout).expect("text").lines().collect();
        lines.sort_unstable();
        assert_eq!(lines.len(), ranks.parse::<usize>().expect("a number") * METHODS.len());
        lines.dedup();
        let mut expected: Vec<_> = alone.lines().collect();
        expected.sort_unstable();
        assert!(lines == expected, "{ranks} ranks: {lines:#?} are not {expected:#?}");
        println!("{ranks} ranks have the bits of one process");
    }
}
