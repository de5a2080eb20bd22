//! A run by several ranks, here threads, has the result of one process, whatever happens on the way.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use fewlabel::Error;
use fewlabel::cluster::{Channel, Cluster};
use fewlabel::engine::{Team, team_of_threads};
use fewlabel::experiment::{Experiment, Manifest, Options, dismiss, run, serve};

/// A rank that is a thread of this process.
struct Rank {
    rank: usize,
    size: usize,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    mail: Mutex<Vec<Mail>>,
    arrived: Condvar,
    /// Members of teams that have not been fetched.
    teams: Mutex<BTreeMap<Vec<usize>, Members>>,
}

/// Of a team, each with its rank.
type Members = VecDeque<(usize, Box<dyn Team>)>;

/// From, to, about what.
type Mail = (usize, usize, Channel, Vec<u8>);

fn ranks(size: usize) -> Vec<Rank> {
    let shared = Arc::<Shared>::default();
    (0..size).map(|rank| Rank { rank, size, shared: shared.clone() }).collect()
}

impl Cluster for Rank {
    fn size(&self) -> usize {
        self.size
    }

    fn rank(&self) -> usize {
        self.rank
    }

    fn host(&self) -> String {
        "here".to_owned()
    }

    fn on_host(&self) -> usize {
        self.size
    }

    fn cores(&self) -> usize {
        1
    }

    fn abort(&self, code: u8) -> ! {
        // A panic would leave the other threads waiting.
        eprintln!("aborted with {code}");
        std::process::exit(101)
    }

    fn send(&self, to: usize, channel: Channel, message: &[u8]) {
        self.shared.mail.lock().unwrap().push((self.rank, to, channel, message.to_vec()));
        self.shared.arrived.notify_all();
    }

    fn receive(&self, channel: Channel, wait: Duration) -> Option<(usize, Vec<u8>)> {
        let began = Instant::now();
        let mut mail = self.shared.mail.lock().unwrap();
        loop {
            if let Some(at) = mail.iter().position(|(_, to, about, _)| (*to, *about) == (self.rank, channel)) {
                let (from, _, _, message) = mail.remove(at);
                return Some((from, message));
            }
            let left = wait.checked_sub(began.elapsed()).filter(|left| !left.is_zero())?;
            // A lost wake-up costs a moment, not the test.
            mail = self.shared.arrived.wait_timeout(mail, left.min(Duration::from_millis(50))).unwrap().0;
        }
    }

    fn team(&self, ranks: &[usize], _shards: usize) -> Box<dyn Team> {
        let mut teams = self.shared.teams.lock().unwrap();
        let members = teams.entry(ranks.to_vec()).or_default();
        if members.is_empty() {
            members.extend(ranks.iter().copied().zip(team_of_threads(ranks.len())));
        }
        let own = members.iter().position(|(rank, _)| *rank == self.rank).expect("a member");
        members.remove(own).expect("a member").1
    }
}

/// Runs the experiment into `out` by so many ranks.
fn by_ranks(experiment: &Experiment, out: &Path, size: usize, interrupted: &AtomicBool) -> fewlabel::Result<Manifest> {
    let pool = || rayon::ThreadPoolBuilder::new().num_threads(1).build().expect("a thread");
    let ranks = ranks(size);
    thread::scope(|scope| {
        for rank in &ranks[1..] {
            scope.spawn(move || pool().install(|| serve(rank, &AtomicBool::new(false))));
        }
        let options = Options { cluster: Some(&ranks[0]), interrupted, ..Options::new(out) };
        let done = pool().install(|| run(experiment, &options));
        dismiss(&ranks[0]);
        done
    })
}

fn experiment(name: &str) -> Experiment {
    Experiment::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments").join(name)).expect("an experiment")
}

/// These stages of a small network on a few images.
fn of_stages(stages: &str) -> Experiment {
    let head = "
name: t
dataset: {name: synthetic, train: 60, test: 20}
labels: {count: 60, choose: first}
network: {channels: [2, 3, 4], hidden: 8}
stages:";
    Experiment::parse("t.yaml".as_ref(), &format!("{head}{stages}")).expect("an experiment")
}

#[test]
fn any_number_of_ranks_has_the_result_of_one_process() {
    // Of several seeds; with a stage in shards.
    for name in ["smoke-strict.yaml", "smoke-methods.yaml", "smoke-semi.yaml"] {
        let (experiment, folder) = (experiment(name), tempfile::tempdir().unwrap());
        let alone = run(&experiment, &Options::new(&folder.path().join("alone"))).unwrap();
        for size in 1..=4 {
            let out = folder.path().join(size.to_string());
            let manifest = by_ranks(&experiment, &out, size, &AtomicBool::new(false)).unwrap();
            assert_eq!(manifest.result, alone.result, "{name} by {size} ranks");
            assert_eq!(manifest, Manifest::load(&out.join("manifest.json")).unwrap());
            let log = std::fs::read_to_string(out.join("log.txt")).unwrap();
            let begun = log.lines().filter(|line| line.contains("step")).count();
            let trained = experiment.stages.iter().filter(|stage| stage.epochs.is_some()).count();
            assert_eq!(begun, trained * experiment.seeds.0 as usize, "each stage is trained once, in one log:\n{log}");
        }
    }
}

#[test]
fn an_interrupted_run_is_continued_by_any_number_of_ranks() {
    let experiment = of_stages(
        "
  - {name: a, method: supervised, epochs: 40, batch: 10, shards: 3}
  - {name: b, method: pretext, epochs: 12, batch: 20}
  - {name: c, method: finetune, from: b, epochs: 2, batch: 10}",
    );
    let folder = tempfile::tempdir().unwrap();
    let alone = run(&experiment, &Options::new(&folder.path().join("alone"))).unwrap();
    for (first, second) in [(2, 3), (3, 1), (1, 2), (4, 2)] {
        let out = folder.path().join(format!("{first}-{second}"));
        let interrupted = AtomicBool::new(false);
        let done = thread::scope(|scope| {
            scope.spawn(|| {
                // After its first epoch of forty.
                let began = Instant::now();
                while !out.join("a/history.json").exists() && began.elapsed() < Duration::from_secs(60) {
                    thread::sleep(Duration::from_millis(1));
                }
                interrupted.store(true, Ordering::Relaxed);
            });
            by_ranks(&experiment, &out, first, &interrupted)
        });
        assert!(matches!(done, Err(Error::Interrupted(_))), "{done:?}");
        assert!(out.join("a/checkpoint").exists());
        let manifest = by_ranks(&experiment, &out, second, &AtomicBool::new(false)).unwrap();
        assert_eq!(manifest.result, alone.result, "by {first} ranks, then by {second}");
    }
}

#[test]
fn a_stage_that_fails_stops_the_others_and_says_where() {
    let experiment = of_stages(
        "
  - {name: good, method: supervised, epochs: 3000, batch: 10}
  - {name: bad, method: supervised, epochs: 60, batch: 10, optimizer: sgd, lr: 10, momentum: 0.99}",
    );
    let folder = tempfile::tempdir().unwrap();
    match by_ranks(&experiment, folder.path(), 2, &AtomicBool::new(false)) {
        Err(Error::Rank { rank: 1, code: 3, message }) => {
            assert!(message.starts_with("stage bad, epoch ") && message.contains("the training diverged"), "{message}");
        }
        other => panic!("{other:?}"),
    }
    assert!(folder.path().join("good/checkpoint").exists(), "the other stage has stopped, with a checkpoint");
    let log = std::fs::read_to_string(folder.path().join("log.txt")).unwrap();
    assert!(log.contains("bad: rank 1: stage bad, epoch "), "{log}");
}
