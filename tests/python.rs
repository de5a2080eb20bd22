//! A weights file opens in Python, and PyTorch computes with it what this crate does.
//!
//! Needs `python3` with safetensors and numpy, and for the second half torch (`FEWLABEL_PYTHON` names another
//! interpreter); says so where something is missing.

use std::io::Write;
use std::process::Command;

use fewlabel::data::IMAGE;
use fewlabel::engine::{Engine, cpu};
use fewlabel::network::{Network, Weights, Widths};
use fewlabel::optimizer::{Rule, State};

#[test]
fn a_weights_file_opens_in_python() {
    let python = std::env::var("FEWLABEL_PYTHON").unwrap_or("python3".to_owned());
    let probe = Command::new(&python).args(["-c", "import numpy, safetensors"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        let _ = writeln!(std::io::stderr(), "skipped: {python} has no numpy and safetensors");
        return;
    }
    let widths = Widths { channels: [4, 6, 8], hidden: 16, ..Widths::default() };
    let network = Network::supervised(&widths);
    let weights = Weights::init(&network, 1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    weights.save(&path, &[]).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/check_weights.py");
    let output = Command::new(&python).arg(script).arg(&path).args(["4,6,8", "16"]).output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{error}");
    let Some(theirs) = said.strip_prefix("logits ") else {
        let _ = writeln!(std::io::stderr(), "skipped the computation: {said}");
        return;
    };
    let theirs: Vec<f32> = theirs.split_whitespace().map(|v| v.parse().unwrap()).collect();
    let image: Vec<f32> = (0..IMAGE).map(|i| i as f32 / 1536.0 - 1.0).collect();
    let mut model = cpu::Model::new(network, weights, Rule::Adam, &State::default()).unwrap();
    let ours = model.predict(&image, &["classification_head"]).unwrap().remove(0);
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(&theirs) {
        assert!((a - b).abs() < 1e-5, "{ours:?} is not {theirs:?}");
    }
}
