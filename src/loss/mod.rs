//! Losses: plain functions from a network's outputs to the loss and its gradient, in double precision and in a fixed order;
//! exp and ln from libm. Outputs and gradients are matrices row by row, one row for each example, as an
//! [`Engine`](crate::engine::Engine) gives and takes them.

pub mod barlow_twins;
pub mod consistency;
pub mod cosine;
pub mod cross_entropy;
mod matrix;
pub mod nt_xent;
pub mod supcon;
pub mod vicreg;

pub use barlow_twins::{BarlowTwins, barlow_twins};
pub use consistency::{aligned, consistency, squared_softmax};
pub use cosine::{COSINE_EPS, Cosines, negative_cosine};
pub use cross_entropy::{cross_entropy, smoothed_cross_entropy, soft_cross_entropy};
pub use nt_xent::{NtXent, nt_xent};
pub use supcon::supcon;
pub use vicreg::{VicReg, VicRegWeights, vicreg};
