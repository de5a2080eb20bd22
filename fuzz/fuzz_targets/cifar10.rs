//! Any bytes as CIFAR-10's archive: never the data, never a panic.
#![no_main]

use fewlabel::data::cifar10::{Source, load};

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), bytes).expect("room for it");
    assert!(load(&Source::Archive(file.path().to_owned())).is_err());
});
