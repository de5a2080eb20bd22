//! Labelled images and where they come from.

pub mod cifar10;
pub mod fetch;
mod subset;
mod synthetic;

pub use subset::{Choose, epoch_order, labelled, validation};
pub use synthetic::synthetic;

/// Height and width of every image, in pixels.
pub const SIDE: usize = 32;
/// Red, green, blue.
pub const CHANNELS: usize = 3;
/// Bytes of one image: [`CHANNELS`] planes of [`SIDE`] × [`SIDE`], row by row.
pub const IMAGE: usize = CHANNELS * SIDE * SIDE;
/// Classes of every data set here.
pub const CLASSES: usize = 10;

/// Images as `u8` [n, 3, 32, 32], with a label below [`CLASSES`] for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub images: Vec<u8>,
    pub labels: Vec<u8>,
}

impl Dataset {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Image `index`, [3, 32, 32].
    pub fn image(&self, index: usize) -> &[u8] {
        &self.images[index * IMAGE..][..IMAGE]
    }

    /// Keeps the first `n` images.
    pub fn truncate(&mut self, n: usize) {
        self.images.truncate(n * IMAGE);
        self.labels.truncate(n);
    }
}

/// A training and a test set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    pub train: Dataset,
    pub test: Dataset,
    /// The classes' names, by label.
    pub classes: Vec<String>,
}
