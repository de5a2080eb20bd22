//! Parity with PyTorch and Pillow over every fixture in the folder `PARITY_DIR` (default `golden/parity`).
//!
//! `golden/parity/README.md` says what the arrays hold and which tolerance a port must meet; those numbers are
//! the ones below. `golden/parity/make_parity.py` writes fixtures for fresh seeds.

mod augment;
mod fixture;
mod networks;

use fixture::Fixture;

#[test]
fn every_fixture_of_the_folder_is_met() {
    let fixtures = fixture::all();
    for fixture in &fixtures {
        match fixture.case.as_str() {
            "supervised" => networks::supervised(fixture),
            "pretext" => networks::pretext(fixture),
            "simsiam" => networks::simsiam(fixture),
            "probe" => networks::probe(fixture),
            "augment" => augment::all(fixture),
            other => panic!("{}: no test for the case {other}", fixture.path.display()),
        }
        println!("met: {}", fixture.path.display());
    }
    assert!(!fixtures.is_empty(), "no fixture found");
}

/// The files that this crate writes hold what PyTorch's `state_dict` of the same modules holds (but for
/// `num_batches_tracked`, which `load_state_dict` fills in by itself).
#[test]
fn weights_files_carry_pytorch_names_and_shapes() {
    for fixture in fixture::all().iter().filter(|fixture| fixture.case != "augment") {
        let network = networks::describe(fixture);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights.safetensors");
        fewlabel::network::Weights::init(&network, 0).save(&path).unwrap();
        let saved = candle_core::safetensors::load(&path, &candle_core::Device::Cpu).unwrap();
        let mut ours: Vec<_> = saved.iter().map(|(name, t)| (name.clone(), t.dims().to_vec())).collect();
        let mut theirs: Vec<_> = fixture.below("init/").map(|(name, t)| (name.to_owned(), t.dims().to_vec())).collect();
        ours.sort();
        theirs.sort();
        assert_eq!(ours, theirs, "{}", fixture.path.display());
    }
}
