//! Several processes under `mpirun` have the result of one, whatever happens to them. This program starts itself, or the command
//! line, under it; `ci/mpi` runs it.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::Device;
use fewlabel::cluster::{self, Cluster};
use fewlabel::data::synthetic;
use fewlabel::engine::Shards;
use fewlabel::experiment::{Experiment, Manifest};
use fewlabel::network::Weights;
use fewlabel::train::{Observer, Position, Progress, Trained, train_shards};

const PROGRAM: &str = env!("CARGO_BIN_EXE_fewlabel");
/// Says what this program does as a rank.
const ROLE: &str = "FEWLABEL_TEST_ROLE";
const SHARDS: usize = 4;
const METHODS: [&str; 5] =
    ["supervised", "simsiam", "byol", "simclr", "fixmatch, unlabelled: 2, threshold: 0.11, teacher: average"];

/// In a folder of its own.
type Test = fn(&Path);

fn main() {
    match std::env::var(ROLE).as_deref() {
        Ok("train") => {
            let cluster = cluster::join().expect("MPI").expect("ranks");
            print!("{}", told(|| Shards::of_team(SHARDS, team(&*cluster))));
        }
        Ok("panic") => {
            let cluster = cluster::join().expect("MPI").expect("ranks");
            let mut observer = Panics { on_this_rank: cluster.rank() == 1 };
            train("supervised", Shards::of_team(SHARDS, team(&*cluster)), &mut observer);
        }
        _ => {
            let tests: [(&str, Test); 6] = [
                ("a stage in shards has the bits of one process", stages_in_shards),
                ("an experiment has the result of one process", experiments),
                ("teams of changing ranks have the result of one process", teams_that_change),
                ("a run is continued after a rank was killed", killed_ranks),
                ("a panic ends all ranks", panics),
                ("ranks that do not share the folder say so", folders_of_their_own),
            ];
            for (name, test) in tests {
                let folder = tempfile::tempdir().expect("a folder");
                let began = Instant::now();
                test(folder.path());
                println!("{name}: ok, {:.0} s", began.elapsed().as_secs_f64());
            }
        }
    }
}

/// `mpirun` of so many ranks of a program.
fn mpirun(ranks: usize) -> Command {
    let mut command = Command::new("mpirun");
    command.args(["--allow-run-as-root", "--oversubscribe", "-n", &ranks.to_string()]).env("RAYON_NUM_THREADS", "1");
    command
}

fn team(cluster: &dyn Cluster) -> Box<dyn fewlabel::engine::Team> {
    cluster.team(&(0..cluster.size()).collect::<Vec<_>>(), SHARDS)
}

struct Panics {
    on_this_rank: bool,
}

impl Observer for Panics {
    fn step(&mut self, at: Position) {
        assert!(!self.on_this_rank || at.step < 2, "this rank panics, and others wait for it");
    }
}

fn train(method: &str, shards: Shards, observer: &mut dyn Observer) -> Trained {
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
    train_shards(&recipe, &data, &examples, start, &Device::Cpu, shards, observer).expect("a training")
}

/// One line for each method, which differs where a bit does.
fn told(shards: impl Fn() -> Shards) -> String {
    let line = |method: &&str| {
        let Trained { history, weights, .. } = train(method, shards(), &mut ());
        format!("{method} {} {history:?}\n", weights.sha256())
    };
    METHODS.iter().map(line).collect()
}

fn stages_in_shards(_: &Path) {
    let alone = told(|| Shards::new(SHARDS));
    for ranks in 1..=4 {
        let own = std::env::current_exe().expect("this program");
        let output = succeeded(mpirun(ranks).arg(own).env(ROLE, "train"));
        let said = String::from_utf8(output.stdout).expect("text");
        let of = |text: &str| {
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(of(&said), of(&alone.repeat(ranks)), "{ranks} ranks");
    }
}

fn experiments(folder: &Path) {
    for name in ["smoke-strict", "smoke-methods", "smoke-semi"] {
        let alone = run_alone(name, &folder.join(name));
        for ranks in [1, 2, 4] {
            let out = folder.join(format!("{name}-{ranks}"));
            succeeded(run(mpirun(ranks).arg(PROGRAM), name, &out));
            assert_eq!(result(&out), alone, "{name} by {ranks} ranks");
            assert!(out.join("report.html").exists());
        }
    }
}

/// Several teams at once, and ranks that go from one to another: what makes one is not taken for an order to another.
fn teams_that_change(folder: &Path) {
    let file = folder.join("teams.yaml");
    let stages: String = ["a", "b", "c"]
        .map(|name| format!("{{name: {name}, method: simsiam, epochs: 1, batch: 32, shards: 2}}, "))
        .concat();
    let yaml = format!(
        "{{name: teams, seeds: 4, dataset: {{name: synthetic, train: 100, test: 20}}, labels: {{count: 50}}, network: \
         {{channels: [3, 4, 5], projector: 16, predictor: 8}}, stages: [{stages}]}}"
    );
    fs::write(&file, yaml).expect("a file");
    let start = |command: &mut Command, out: &Path| {
        succeeded(command.arg("run").arg(&file).arg("--out").arg(out).args(["--quiet", "--checkpoint-every", "0"]));
        result(out)
    };
    let alone = start(&mut Command::new(PROGRAM), &folder.join("alone"));
    for n in 0..8 {
        let together = start(mpirun(4 + n % 3).arg(PROGRAM), &folder.join(n.to_string()));
        assert_eq!(together, alone, "run {n}");
    }
}

fn killed_ranks(folder: &Path) {
    let (name, ranks) = ("smoke-strict", 3);
    let alone = run_alone(name, &folder.join("alone"));
    let began = Instant::now();
    succeeded(run(mpirun(ranks).arg(PROGRAM), name, &folder.join("whole")));
    let (mut whole, mut killed, mut tries) = (began.elapsed(), 0, 0);
    while killed < 10 {
        tries += 1;
        assert!(tries <= 40, "only {killed} of 40 runs were there to be killed");
        let out = folder.join(tries.to_string());
        let mut job = run(mpirun(ranks).arg(PROGRAM), name, &out).stderr(Stdio::null()).spawn().expect("mpirun");
        // Anywhere in the run, and the ranks in turn.
        thread::sleep(whole * (2 * killed + 1) / 20);
        let rank = loop {
            let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", job.id())).unwrap_or_default();
            if let Some(rank) = children.split_whitespace().nth(killed as usize % ranks) {
                break Some(rank.to_owned());
            }
            if job.try_wait().expect("its end").is_some() {
                break None;
            }
            thread::sleep(Duration::from_millis(10));
        };
        match rank {
            Some(rank) => {
                // It may be gone by now.
                let _ = Command::new("kill").args(["-KILL", &rank]).output().expect("kill");
                killed += u32::from(!job.wait().expect("its end").success());
            }
            // Faster than the one before.
            None => whole = whole * 9 / 10,
        }
        succeeded(run(mpirun(1 + killed as usize % 4).arg(PROGRAM), name, &out));
        assert_eq!(result(&out), alone, "killed {killed} times, in run {tries}");
    }
    println!("{killed} ranks killed");
}

fn panics(_: &Path) {
    let began = Instant::now();
    let own = std::env::current_exe().expect("this program");
    let output = mpirun(2).arg(own).env(ROLE, "panic").output().expect("mpirun");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("this rank panics"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(10), "the job took {:?} to end", began.elapsed());
}

fn folders_of_their_own(folder: &Path) {
    let places = ["a", "b"].map(|name| folder.join(name));
    places.iter().for_each(|place| fs::create_dir(place).expect("a folder"));
    let mut command = mpirun(1);
    command.arg("--wdir").arg(&places[0]);
    run(command.arg(PROGRAM), "smoke", Path::new("out")).args([":", "-n", "1", "--wdir"]).arg(&places[1]);
    let output = run(command.arg(PROGRAM), "smoke", Path::new("out")).output().expect("mpirun");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("fewlabel: rank 1: out: is not the same folder on"), "{said}");
    assert!(said.contains("name a folder that all machines share, with --out"), "{said}");
    assert_eq!(output.status.code(), Some(2));
}

/// `command`, which begins a run of the experiment into `out`.
fn run<'a>(command: &'a mut Command, name: &str, out: &Path) -> &'a mut Command {
    let experiment = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("experiments/{name}.yaml"));
    command.arg("run").arg(experiment).arg("--out").arg(out).args(["--quiet", "--checkpoint-every", "0"])
}

fn run_alone(name: &str, out: &Path) -> String {
    succeeded(run(&mut Command::new(PROGRAM), name, out));
    result(out)
}

/// The `result` of the run's manifest, as text.
fn result(out: &Path) -> String {
    let manifest = Manifest::load(&out.join("manifest.json")).expect("a manifest");
    serde_json::to_string_pretty(&manifest.result).expect("JSON")
}

fn succeeded(command: &mut Command) -> Output {
    let output = command.output().expect("a program that starts");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}
