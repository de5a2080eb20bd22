//! fewlabel
pub mod augment;
pub mod data;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod experiment;
pub mod files;
pub mod network;
pub mod optimizer;
pub mod report;
pub mod rng;
pub mod train;
pub use error::{Error, Result};
