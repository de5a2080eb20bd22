//! Python reads weights and images as this crate does, and computes the same with them.
//!
//! Needs `python3` with numpy, safetensors and pillow, and for `examples/pytorch.py` torch (`FEWLABEL_PYTHON` names
//! another interpreter); says so where something is missing.

mod common;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::noise;
use fewlabel::augment::plain_batch;
use fewlabel::data::folder::{self, Background};
use fewlabel::data::{Dataset, IMAGE, SIDE};
use fewlabel::engine::{Engine, Input, cpu};
use fewlabel::network::{Mode, Network, Probe, Weights, Widths};
use fewlabel::optimizer::{Rule, State};
use image::{ImageBuffer, Rgb, Rgba};

type Args<'a> = [&'a dyn AsRef<OsStr>];

fn python(args: &Args) -> std::io::Result<Output> {
    let python = std::env::var_os("FEWLABEL_PYTHON").unwrap_or("python3".into());
    Command::new(python).args(args.iter().map(AsRef::as_ref)).output()
}

/// Whether Python has the modules; says so if not.
fn has(modules: &str) -> bool {
    let there = python(&[&"-c", &format!("import {modules}")]).is_ok_and(|output| output.status.success());
    if !there {
        // Straight to standard error: the harness would hide what a passing test prints.
        let _ = writeln!(std::io::stderr(), "skipped: Python does not have all of {modules}");
    }
    there
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The output of a script of tests/python.
fn checked(name: &str, args: &Args) -> String {
    let script = script("tests/python").join(name);
    let output = python(&[&[&script as &dyn AsRef<OsStr>][..], args].concat()).unwrap();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The index of the largest value.
fn top(logits: &[f32]) -> usize {
    (1..logits.len()).fold(0, |best, i| if logits[i] > logits[best] { i } else { best })
}

/// Pictures of odd sizes and every mode in a folder, and how the crate reads them, by name.
fn pictures(place: &Path, side: usize) -> Dataset {
    for class in ["train/a", "train/b", "test/a"] {
        std::fs::create_dir_all(place.join(class)).unwrap();
    }
    let class = place.join("train/a");
    checked("check_pictures.py", &[&"write", &class]);
    let level = |x: u32, y: u32, c: u32| (x * 1999 + y * 701 + c * 9001) as u16;
    let rgb = |x, y| Rgb([0, 1, 2].map(|c| level(x, y, c)));
    ImageBuffer::<Rgb<u16>, Vec<u16>>::from_fn(70, 41, rgb).save(class.join("deep-rgb.png")).unwrap();
    let rgba = |x, y| Rgba([0, 1, 2, 3].map(|c| level(x, y, c)));
    ImageBuffer::<Rgba<u16>, Vec<u16>>::from_fn(41, 70, rgba).save(class.join("deep-rgba.png")).unwrap();
    for other in ["train/b", "test/a"] {
        std::fs::copy(class.join("l.png"), place.join(other).join("l.png")).unwrap();
    }
    let mut train = folder::load(place, Background::default(), side).unwrap().data.train;
    train.truncate(train.labels.iter().filter(|label| **label == 0).count());
    train
}

/// `examples/preprocess.py` reads pictures as the crate does, level by level, but for what decoders round.
#[test]
fn python_prepares_pictures_alike() {
    if !has("numpy, PIL") {
        return;
    }
    for side in [SIDE, 16, 50, 128] {
        let place = tempfile::tempdir().unwrap();
        let data = pictures(place.path(), side);
        assert_eq!(data.len(), 37, "every picture was read");
        let levels = place.path().join("levels");
        std::fs::write(&levels, &data.images).unwrap();
        let args: &Args = &[&"compare", &place.path().join("train/a"), &levels, &side.to_string()];
        let said = checked("check_pictures.py", args);
        assert_eq!(said.lines().count(), data.len());
    }
}

/// Networks that classify give the logits, others features: within single precision the same, with the same answers.
#[test]
fn python_computes_alike_with_a_weights_file() {
    if !has("numpy, safetensors") {
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let widths =
        Widths { channels: [4, 6, 8], hidden: 16, projector: 12, predictor: 5, classes: 7, ..Widths::default() };
    let images = noise(9 * IMAGE, 1);
    let file = place.path().join("images");
    std::fs::write(&file, images.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()).unwrap();
    let probe = |probe| Network::probe(&widths, probe, Mode::Eval);
    let networks = [
        (Network::supervised(&widths), "classification_head"),
        (probe(Probe::Linear), "classifier"),
        (probe(Probe::Mlp), "classifier"),
        (Network::pretext(&widths), "backbone"),
        (fewlabel::method::simsiam::network(&widths), "backbone"),
        (Network::backbone(&widths), "backbone"),
    ];
    let names = ["猫", "a \"b\"", "c", "d", "e", "f", "\u{1f98a}"].map(str::to_owned);
    for (network, head) in networks {
        let mut weights = Weights::init(&network, 1);
        for (i, array) in weights.arrays.iter_mut().enumerate() {
            // As after training: no statistic, scale or shift is 0 or 1.
            array.values.iter_mut().zip(noise(10_000, i as u32).iter().cycle()).for_each(|(v, x)| *v += 0.1 * x.abs());
        }
        let path = place.path().join("weights.safetensors");
        weights.save(&path, &names).unwrap();
        let mut model = cpu::Model::new(network, weights, Rule::Adam, &State::default()).unwrap();
        let ours = &model.forward(&[Input::eval(&images)], &[head]).unwrap()[0];
        let said = checked("check_weights.py", &[&path, &file]);
        let mut lines = said.lines();
        assert_eq!(serde_json::from_str::<Vec<String>>(lines.next().unwrap()).unwrap(), names);
        let theirs: Vec<Vec<f32>> =
            lines.map(|line| line.split(' ').map(|value| value.parse().unwrap()).collect()).collect();
        assert_eq!(theirs.len(), 9);
        let largest = ours.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        for (ours, theirs) in ours.chunks_exact(ours.len() / 9).zip(&theirs) {
            assert_eq!((ours.len(), top(ours)), (theirs.len(), top(theirs)));
            assert!(ours.iter().zip(theirs).all(|(a, b)| (a - b).abs() < 1e-5 * largest), "{ours:?} is not {theirs:?}");
        }
    }
}

/// Every fault of use is one line, without a traceback; and the program's answers are the crate's.
#[test]
fn the_example_answers_or_says_what_is_wrong() {
    let program = script("examples/pytorch.py");
    let run = |args: &Args| {
        let output = python(&[&[&program as &dyn AsRef<OsStr>][..], args].concat()).unwrap();
        assert!(!text(&output.stderr).contains("Traceback"), "{}", text(&output.stderr));
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    if !has("sys") {
        return;
    }
    if !has("torch, safetensors, numpy, PIL") {
        let (code, _, message) = run(&[]);
        assert!(code != Some(0) && message.contains("pip install torch safetensors numpy pillow"), "{message}");
        return;
    }
    let place = tempfile::tempdir().unwrap();
    let data = pictures(place.path(), SIDE);
    let widths = Widths { channels: [4, 6, 8], hidden: 16, classes: 3, ..Widths::default() };
    let network = Network::probe(&widths, Probe::Mlp, Mode::Eval);
    let mut weights = Weights::init(&network, 1);
    let mut images = vec![0.0; data.len() * IMAGE];
    plain_batch(&data, &(0..data.len() as u32).collect::<Vec<_>>(), &mut images);
    let logits = |weights: &Weights| {
        let model = cpu::Model::new(network.clone(), weights.clone(), Rule::Adam, &State::default());
        model.unwrap().forward(&[Input::eval(&images)], &["classifier"]).unwrap()[0].clone()
    };
    // Untrained, the last layer gives all pictures nearly the same; without their mean they differ.
    let all = logits(&weights);
    for (class, bias) in weights.arrays.last_mut().unwrap().values.iter_mut().enumerate() {
        *bias -= all.iter().skip(class).step_by(3).sum::<f32>() / data.len() as f32;
    }
    let path = place.path().join("weights.safetensors");
    let names = ["猫", "a \"b\"", "c"].map(str::to_owned);
    weights.save(&path, &names).unwrap();
    let logits = logits(&weights);
    let mut files: Vec<_> =
        std::fs::read_dir(place.path().join("train/a")).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let args: Vec<_> = std::iter::once(&path).chain(&files).map(|path| path as &dyn AsRef<OsStr>).collect();
    let (code, said, message) = run(&args);
    assert_eq!(code, Some(0), "{message}");
    let best: Vec<&str> = said.split(":\n").skip(1).map(|after| after.lines().next().unwrap()).collect();
    assert_eq!(best.len(), data.len(), "{said}");
    let answers: Vec<&String> = logits.chunks_exact(3).map(|logits| &names[top(logits)]).collect();
    assert!(names.iter().all(|name| answers.contains(&name)), "some picture for every answer: {answers:?}");
    for (file, (line, answer)) in files.iter().zip(best.iter().zip(answers)) {
        assert!(
            line.ends_with(answer) || file.extension().is_some_and(|e| e == "jpg"),
            "{file:?}: {line}, not {answer}"
        );
    }

    let picture = &files[0];
    let bad = |args: &Args, expected: &str| {
        let (code, _, message) = run(args);
        assert!(code != Some(0) && message.contains(expected), "{message}");
    };
    bad(&[], "usage: ");
    bad(&[&path], "usage: ");
    bad(&[&"nowhere", picture], "nowhere: cannot be read");
    bad(&[picture, picture], "not the weights of a fewlabel stage");
    bad(&[&path, &"nowhere"], "nowhere: not a picture that can be read");
    bad(&[&path, &path], "weights.safetensors: not a picture that can be read");
}
