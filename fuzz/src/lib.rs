//! What several targets share.

/// `whole` with the changes that `edits` asks for: three bytes each, a position of two and the new byte; a byte left over is
/// how many are cut off the end.
pub fn edited(whole: &[u8], edits: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % bytes.len();
        bytes[at] = edit[2];
    }
    if let [cut] = edits.chunks_exact(3).remainder() {
        bytes.truncate(bytes.len().saturating_sub(usize::from(*cut)));
    }
    bytes
}
