//! Parity with PyTorch and Pillow over every fixture in the folder `PARITY_DIR` (default `golden/parity`).
//!
//! `golden/parity/README.md` says what the arrays hold and which tolerance a port must meet; here crops and adjustments
//! of colour must be exact too. `golden/parity/make_parity.py` writes fixtures for fresh seeds.

mod augment;
#[path = "../common/mod.rs"]
mod common;
mod fixture;
mod losses;
mod methods;
mod networks;

use std::panic::{AssertUnwindSafe, catch_unwind};

use fixture::Fixture;
use networks::Kind;

#[test]
fn the_cpu_engine_meets_every_fixture() {
    meets_every_fixture(Kind::Cpu);
}

#[test]
fn the_reference_engine_meets_every_fixture() {
    meets_every_fixture(Kind::Reference);
}

#[test]
fn augmentations_meet_every_fixture() {
    let fixtures = fixture::all();
    let cases = [
        ("augment", augment::all as fn(&Fixture)),
        ("randaugment", augment::operations),
        ("wide-augment", augment::wide),
    ];
    for (case, meets) in cases {
        fixtures.iter().filter(|fixture| fixture.case == case).for_each(meets);
        let is_there = fixtures.iter().any(|fixture| fixture.case == case);
        assert!(
            is_there || (std::env::var_os("PARITY_DIR").is_some() && case != "augment"),
            "no fixture of {case} found"
        );
    }
}

#[test]
fn losses_meet_every_fixture() {
    let fixtures = fixture::all();
    let of_losses: Vec<_> = fixtures.iter().filter(|fixture| fixture.case.starts_with("loss-")).collect();
    of_losses.iter().for_each(|fixture| losses::meets(fixture));
    if std::env::var_os("PARITY_DIR").is_none() {
        let cases: Vec<&str> = of_losses.iter().filter_map(|fixture| fixture.case.strip_prefix("loss-")).collect();
        assert_eq!(
            cases,
            [
                "barlow_twins",
                "byol",
                "fixmatch",
                "fixmatch-aligned",
                "mean_teacher",
                "pseudo_label",
                "simclr",
                "simclr-cold",
                "supcon",
                "vicreg"
            ]
        );
    }
}

/// The fixtures of whole networks.
fn of_networks() -> Vec<Fixture> {
    let is_network = |fixture: &Fixture| !fixture.case.ends_with("augment") && !fixture.case.starts_with("loss-");
    fixture::all().into_iter().filter(is_network).collect()
}

fn meets_every_fixture(kind: Kind) {
    let check = |fixture: &Fixture| match fixture.case.as_str() {
        "supervised" => networks::supervised(kind, fixture),
        "pretext" => networks::pretext(kind, fixture),
        "simsiam" => networks::simsiam(kind, fixture),
        "probe" => networks::probe(kind, fixture),
        "byol" => methods::byol(kind, fixture),
        "fixmatch" => methods::fixmatch(kind, fixture),
        "residual" => methods::residual(kind, fixture),
        other => panic!("{}: no test for the case {other}", fixture.path.display()),
    };
    let networks = of_networks();
    assert!(!networks.is_empty(), "no fixture found");
    if std::env::var_os("PARITY_DIR").is_none() {
        let cases: std::collections::BTreeSet<&str> = networks.iter().map(|fixture| &*fixture.case).collect();
        assert!(
            cases.into_iter().eq(["byol", "fixmatch", "pretext", "probe", "residual", "simsiam", "supervised"]),
            "a fixture is missing"
        );
    }
    // After all of them, not at the first failure; each has been printed.
    let met = |fixture: &&Fixture| catch_unwind(AssertUnwindSafe(|| check(fixture))).is_ok();
    let missed: Vec<_> = networks.iter().filter(|fixture| !met(fixture)).map(|f| f.path.display()).collect();
    assert!(missed.is_empty(), "{} of {} fixtures missed", missed.len(), networks.len());
}

/// The files that this crate writes hold what PyTorch's `state_dict` of the same modules holds (but for
/// `num_batches_tracked`, which `load_state_dict` fills in by itself).
#[test]
fn weights_files_carry_pytorch_names_and_shapes() {
    let fixtures = of_networks();
    assert!(!fixtures.is_empty(), "no fixture found");
    for fixture in &fixtures {
        let network = networks::describe(fixture);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        fewlabel::network::Weights::init(&network, 0).save(&path, &[]).unwrap();
        let saved = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
        let mut ours: Vec<_> = saved.iter().map(|(name, t)| (name.clone(), t.dims().to_vec())).collect();
        let mut theirs: Vec<_> = fixture.below("init/").map(|(name, t)| (name.to_owned(), t.dims().to_vec())).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{}", fixture.path.display());
    }
}
