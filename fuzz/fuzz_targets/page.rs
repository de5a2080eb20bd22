//! A page in a run directory, of any bytes, beside files of somebody's own: any bytes, or any bytes sealed with their right
//! hash. It is looked at, and nothing is changed or removed.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use fewlabel::files::sha256;
use fewlabel::report::{is_fresh, state};
use tempfile::TempDir;

const OWN: [&str; 3] = ["holiday.png", "holiday.svg", "results.csv"];

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    OWN.iter().for_each(|name| fs::write(folder.path().join(name), "my own").expect("room for it"));
    folder
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let seal = format!("{}\"}}</script>\n</html>\n", sha256(rest));
    let page = if kind % 2 == 0 { rest.to_vec() } else { [rest, seal.as_bytes()].concat() };
    fs::write(FOLDER.path().join("report.html"), page).expect("room for it");
    assert!(!is_fresh(FOLDER.path()), "there is no manifest");
    let _ = state(FOLDER.path());
    assert!(OWN.iter().all(|name| fs::read(FOLDER.path().join(name)).is_ok_and(|own| own == b"my own")));
});
