//! A weights file: any bytes, or a whole one with any of its bytes changed. What is accepted has the network's tensors, and
//! is the same when it is written and read again.
#![no_main]

use std::fs;
use std::sync::LazyLock;

use fewlabel::network::{Network, Weights, Widths};
use fewlabel_fuzz::edited;
use tempfile::NamedTempFile;

static FILE: LazyLock<NamedTempFile> = LazyLock::new(|| NamedTempFile::new().expect("a temporary file"));

static NETWORK: LazyLock<Network> =
    LazyLock::new(|| Network::supervised(&Widths { channels: [1, 1, 1], hidden: 1, ..Widths::default() }));

static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let names = ["cat".to_owned(), "dog".to_owned()];
    Weights::init(&NETWORK, 0).save(FILE.path(), &names).expect("room for it");
    fs::read(FILE.path()).expect("it is there")
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let bytes = if kind % 2 == 0 { rest.to_vec() } else { edited(&WHOLE, rest) };
    fs::write(FILE.path(), bytes).expect("room for it");
    if let Ok(weights) = Weights::load(FILE.path(), &NETWORK) {
        assert!(weights.arrays.iter().map(|array| array.shape.clone()).eq(NETWORK.tensors().map(|spec| spec.shape)));
        assert!(weights.arrays.iter().flat_map(|array| &array.values).all(|value| value.is_finite()));
        weights.save(FILE.path(), &[]).expect("room for it");
        assert_eq!(Weights::load(FILE.path(), &NETWORK).expect("what was written can be read"), weights);
    }
});
