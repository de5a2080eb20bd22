//! Randomly damaged experiments, checkpoints and manifests: never a panic, and nothing wrong is accepted. The same
//! 98,000 every time; `ci/fuzz` searches for others.

use std::path::Path;

use fewlabel::error::Result;
use fewlabel::experiment::{Experiment, Manifest};
use fewlabel::network::{Array, Network, Weights, Widths};
use fewlabel::optimizer::State;
use fewlabel::rng::{Purpose, Stream};
use fewlabel::train::{Best, Progress, Record};

/// Inserted into a text beside random bytes: what parsers stumble over.
const PIECES: [&str; 16] = [
    "-1",
    "0",
    "1e309",
    "18446744073709551616",
    ".nan",
    "null",
    "~",
    "[",
    "{",
    "}",
    "&a ",
    "*a",
    ": ",
    "\n  - ",
    "\u{feff}",
    "é",
];

/// `bytes` with one to four changes: a bit flipped, a range removed, copied or filled, a piece or a byte inserted, the
/// end cut off.
fn damaged(bytes: &[u8], stream: &mut Stream) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..1 + stream.below(4) {
        let len = bytes.len() as u32;
        let at = stream.below(len + 1) as usize;
        let end = (at + 1 + stream.below(40) as usize).min(bytes.len());
        match stream.below(7) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << stream.below(8),
            2 => drop(bytes.drain(at.min(end)..end)),
            3 => {
                let range = bytes[at.min(end)..end].to_vec();
                let to = stream.below(len + 1) as usize;
                bytes.splice(to..to, range);
            }
            4 => bytes[at.min(end)..end].fill(stream.below(256) as u8),
            5 => {
                let piece = PIECES[stream.below(PIECES.len() as u32) as usize];
                bytes.splice(at..at, piece.bytes());
            }
            _ if stream.chance(0.2) => bytes.truncate(at),
            _ => bytes.insert(at, stream.below(256) as u8),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// How many of `count` damaged copies of each of `originals` pass `check(original, damaged)`.
fn each(originals: &[Vec<u8>], count: u32, mut check: impl FnMut(&[u8], &[u8]) -> bool) -> u32 {
    let mut accepted = 0;
    for (which, original) in originals.iter().enumerate() {
        assert!(check(original, original), "the original is accepted");
        for i in 0..count {
            let damaged = damaged(original, &mut Stream::new(0, Purpose::Init, which as u32, i));
            accepted += u32::from(check(original, &damaged));
        }
    }
    accepted
}

#[test]
fn a_damaged_experiment_is_refused_or_makes_sense() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let texts: Vec<Vec<u8>> = files.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let count = 50_000u32.div_ceil(texts.len() as u32);
    let accepted = each(&texts, count, |_, bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return false };
        match Experiment::parse(Path::new("damaged.yaml"), text) {
            Ok(experiment) => {
                // Complete: it survives being written and read, and it can be planned.
                let written = serde_yaml::to_string(&experiment).unwrap();
                let again = Experiment::parse(Path::new("again.yaml"), &written).unwrap();
                assert_eq!(again, experiment, "{text}");
                assert_eq!(again.sha256(), experiment.sha256(), "{text}");
                assert!(!experiment.plan(&[]).unwrap().is_empty());
                true
            }
            Err(error) => {
                assert!(error.to_string().starts_with("damaged.yaml"), "{error}");
                false
            }
        }
    });
    // A damaged comment or digit leaves an experiment: the checks above did run.
    assert!(accepted > 1000, "{accepted}");
}

#[test]
fn a_damaged_checkpoint_is_refused() {
    let network = Network::supervised(&Widths { channels: [1, 2, 3], hidden: 4, ..Widths::default() });
    let weights = Weights::init(&network, 1);
    let arrays = weights.arrays.iter().map(|a| Array { name: format!("exp_avg/{}", a.name), ..a.clone() }).collect();
    let record = Record { epoch: 1, metrics: [("validation_top1".to_owned(), 0.3)].into() };
    let mut progress = Progress::start(weights);
    progress.epoch = 1;
    progress.history = vec![record];
    progress.best = Some(Best { epoch: 1, top1: 0.3, weights: Weights::init(&network, 2) });
    progress.optimizer = State { steps: 7, arrays };
    let bytes = progress.to_bytes("me").concat();
    let accepted = each(&[bytes], 30_000, |original, bytes| {
        let read = Progress::from_bytes(bytes, "me", &network);
        read.is_ok() && (bytes == original || panic!("a damaged checkpoint is accepted"))
    });
    assert_eq!(accepted, 0);
}

#[test]
fn a_damaged_manifest_is_refused_or_of_the_same_experiment() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("manifest.json");
    let golden = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/golden/study.json")).unwrap();
    let read = |bytes: &[u8], load: fn(&Path) -> Result<Manifest>| {
        std::fs::write(&path, bytes).unwrap();
        load(&path)
    };
    let original = read(&golden, Manifest::load).unwrap();
    let histories =
        |manifest: &Manifest| -> Vec<_> { manifest.result.values().map(|result| result.history.clone()).collect() };
    let (mut whole, mut result_changed) = (0, 0);
    let accepted = each(&[golden], 18_000, |_, bytes| match read(bytes, Manifest::load_claim) {
        Ok(manifest) => {
            assert_eq!(manifest.experiment_sha256, manifest.experiment.sha256());
            assert!(manifest.experiment == original.experiment, "another experiment under the old hash");
            // The manifest of a run must have the histories that its hashes name.
            let of_hash = manifest.result.values().map(|result| &result.history_sha256);
            match read(bytes, Manifest::load) {
                Ok(again) => {
                    let same_hashes = of_hash.eq(original.result.values().map(|result| &result.history_sha256));
                    assert!(!same_hashes || histories(&again) == histories(&original), "a history was changed");
                    whole += 1;
                }
                Err(_) => result_changed += 1,
            }
            true
        }
        Err(_) => false,
    });
    // Most of the file is digits of histories, which `verify` compares: the checks above did run.
    assert!(accepted > 500 && whole > 5 && result_changed > 500, "{accepted} {whole} {result_changed}");
}
