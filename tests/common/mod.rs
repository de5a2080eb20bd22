//! Used by several test crates.

use fewlabel::rng::{Purpose, Stream};

/// `len` normal values, others for every `index`: pixels and activations without ties.
pub fn noise(len: usize, index: u32) -> Vec<f32> {
    let mut stream = Stream::new(0, Purpose::View1, 0, index);
    (0..len).map(|_| stream.normal()).collect()
}
