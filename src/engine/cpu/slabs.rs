//! The layout of a linear layer's weights in the engine: slabs of [`BLOCK`] inputs, [inputs / BLOCK, outputs, BLOCK],
//! the last one as narrow as what is left. Row by row, neighbouring outputs of W [outputs, inputs] are kilobytes apart,
//! on different pages and in the same few cache sets; in slabs every product reads memory in one stream.

use super::product::BLOCK;

/// The slabs of W [outputs, inputs].
pub fn from_rows(w: &[f32], inputs: usize) -> Vec<f32> {
    let slab = |start: usize| w.chunks_exact(inputs).flat_map(move |row| &row[start..inputs.min(start + BLOCK)]);
    (0..inputs).step_by(BLOCK).flat_map(slab).copied().collect()
}

/// W [outputs, inputs] from its slabs.
pub fn to_rows(slabs: &[f32], inputs: usize) -> Vec<f32> {
    let outputs = slabs.len() / inputs;
    let mut w = vec![0.0; slabs.len()];
    for (at, slab) in slabs.chunks(BLOCK * outputs).enumerate() {
        let width = slab.len() / outputs;
        for (row, part) in w.chunks_exact_mut(inputs).zip(slab.chunks_exact(width)) {
            row[at * BLOCK..at * BLOCK + width].copy_from_slice(part);
        }
    }
    w
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_holds_the_same_inputs_of_every_output() {
        let (outputs, inputs) = (3, 2 * BLOCK + 5);
        let w: Vec<f32> = (0..outputs * inputs).map(|i| i as f32).collect();
        let slabs = from_rows(&w, inputs);
        for (output, row) in w.chunks(inputs).enumerate() {
            for (input, value) in row.iter().enumerate() {
                let start = input / BLOCK * BLOCK;
                let width = BLOCK.min(inputs - start);
                assert_eq!(slabs[start * outputs + output * width + input % BLOCK], *value);
            }
        }
        assert_eq!(to_rows(&slabs, inputs), w);
    }
}
