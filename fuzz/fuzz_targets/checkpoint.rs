//! Any bytes behind the hash of a checkpoint, which is made to fit: its readers get what no disk would give them.
#![no_main]

use fewlabel::files::sha256;
use fewlabel::network::{Network, Widths};
use fewlabel::train::Progress;

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let network = Network::supervised(&Widths { channels: [1, 1, 1], hidden: 1, ..Widths::default() });
    let bytes = [sha256(body).as_bytes(), b"\n", body].concat();
    if let Ok(progress) = Progress::from_bytes(&bytes, "fuzz", &network) {
        assert_eq!(progress.weights.arrays.len(), network.tensors().count());
    }
    assert!(Progress::from_bytes(body, "fuzz", &network).is_err(), "no hash is guessed");
});
