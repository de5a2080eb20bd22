//! A manifest: any bytes, or a golden one with any of its bytes changed and its hashes made to match. What is accepted is
//! the same when it is written and read again, compares, and has a table.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use fewlabel::experiment::{Experiment, Manifest, table};
use fewlabel::files::sha256;
use fewlabel::golden;
use fewlabel_fuzz::edited;
use serde_json::Value;
use tempfile::NamedTempFile;

static FILE: LazyLock<NamedTempFile> = LazyLock::new(|| NamedTempFile::new().expect("a temporary file"));

/// The smallest: an edit reaches its first 65,536 bytes.
const WHOLE: &[u8] = include_bytes!("../../golden/collapse.json");

/// With the hashes of its experiment and its histories, where it is a manifest so far.
fn rehashed(json: &[u8]) -> Option<Vec<u8>> {
    let mut manifest: Value = serde_json::from_slice(json).ok()?;
    let experiment: Experiment = serde_json::from_value(manifest.get("experiment")?.clone()).ok()?;
    manifest["experiment_sha256"] = experiment.sha256().into();
    // Where it is absent, the histories' hashes are all that there is.
    manifest.as_object_mut()?.remove("result_sha256");
    for (_, result) in manifest.get_mut("result")?.as_object_mut()? {
        let Some(history) = result.get("history") else { continue };
        let history = [&serde_json::to_vec_pretty(history).ok()?[..], b"\n"].concat();
        result["history_sha256"] = sha256(&history).into();
    }
    serde_json::to_vec(&manifest).ok()
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let bytes = if kind % 2 == 0 { rest.to_vec() } else { edited(WHOLE, rest) };
    let bytes = if kind % 4 < 2 { bytes } else { rehashed(&bytes).unwrap_or(bytes) };
    let path = FILE.path();
    let read = |bytes: &[u8]| {
        fs::write(path, bytes).expect("room for it");
        (Manifest::load_claim(path).ok(), Manifest::load(path).ok())
    };
    let (claim, whole) = read(&bytes);
    if let Some(whole) = &whole {
        assert_eq!(claim.as_ref(), Some(whole), "what is whole is a claim, too");
    }
    let Some(claim) = claim else { return };
    let again = serde_json::to_vec(&claim).expect("a manifest becomes JSON");
    assert_eq!(read(&again), (Some(claim.clone()), whole));
    let _ = (table::text(&claim, false), table::markdown(&claim), table::csv(&[("a", &claim)]));
    let _ = golden::compare(&claim, &claim, None);
});
