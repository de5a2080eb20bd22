//! A checkpoint's reader behind the check of its hash, which is made to match: either any bytes, or a whole checkpoint
//! with any of its bytes changed.
#![no_main]

use std::sync::LazyLock;

use fewlabel::files::sha256;
use fewlabel::network::{Network, Weights, Widths};
use fewlabel::train::Progress;

static NETWORK: LazyLock<Network> = LazyLock::new(|| {
    Network::supervised(&Widths { channels: [1, 1, 1], hidden: 1, ..Widths::default() })
});

/// Without its hash.
static WHOLE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let [_, body] = Progress::start(Weights::init(&NETWORK, 0)).to_bytes("fuzz");
    body
});

/// Three bytes per edit: a position of two, and the new byte; a byte left over is how many to cut off the end.
fn edited(edits: &[u8]) -> Vec<u8> {
    let mut body = WHOLE.clone();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % body.len();
        body[at] = edit[2];
    }
    if let [keep] = edits.chunks_exact(3).remainder() {
        body.truncate(body.len().saturating_sub(usize::from(*keep)));
    }
    body
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let body = if kind % 2 == 0 { rest.to_vec() } else { edited(rest) };
    let bytes = [sha256(&body).as_bytes(), b"\n", &body].concat();
    if let Ok(progress) = Progress::from_bytes(&bytes, "fuzz", &NETWORK) {
        assert_eq!(progress.weights.arrays.len(), NETWORK.tensors().count());
    }
    assert!(Progress::from_bytes(&body, "fuzz", &NETWORK).is_err(), "no hash is guessed");
});
