//! Any bytes as CIFAR-10's archive, or as the tar file in it: never accepted, never a panic.
#![no_main]

use std::io::Write;

use fewlabel::data::cifar10::{Source, check};
use flate2::Compression;
use flate2::write::GzEncoder;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    if kind % 2 == 0 {
        file.write_all(rest).expect("room for it");
    } else {
        let mut packed = GzEncoder::new(&mut file, Compression::fast());
        packed.write_all(rest).and_then(|()| packed.try_finish()).expect("room for it");
    }
    if let Ok(reports) = check(&Source::Archive(file.path().to_owned())) {
        assert!(reports.iter().all(|report| report.problem.is_some()), "a file is taken for an official one");
    }
});
