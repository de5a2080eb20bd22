//! Labelled images and where they come from.

pub mod cifar10;
pub mod cifar100;
pub mod fetch;
pub mod folder;
mod registry;
mod subset;
mod synthetic;

use sha2::{Digest, Sha256};

use crate::files;
pub(crate) use registry::{BUILT_IN, PART};
pub use registry::{Kind, kinds, register};
pub use subset::{Choose, epoch_order, labelled, proportional, validation};
pub(crate) use subset::{cycled_order, not_stratified, share_of, unlabelled_order};
pub use synthetic::synthetic;

/// Height and width of CIFAR's images, in pixels.
pub const SIDE: usize = 32;
/// Height and width of the smallest images that a network takes.
pub const MIN_SIDE: usize = 16;
/// Those of the largest.
pub const MAX_SIDE: usize = 128;
/// Red, green, blue.
pub const CHANNELS: usize = 3;
/// Bytes of an image of CIFAR: [`CHANNELS`] planes of [`SIDE`] × [`SIDE`], row by row.
pub const IMAGE: usize = CHANNELS * SIDE * SIDE;
/// Classes of CIFAR-10 and of the synthetic set.
pub const CLASSES: usize = 10;
/// Classes that a data set can have.
pub const MAX_CLASSES: usize = 1000;

/// Square images as `u8` [n, 3, side, side], with a label below the number of classes for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    /// One after the other.
    pub images: Vec<u8>,
    /// One for each image.
    pub labels: Vec<u16>,
    /// Height and width of each image, in pixels: an even number from [`MIN_SIDE`] to [`MAX_SIDE`].
    pub side: usize,
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

    /// Bytes of one image.
    pub fn image_len(&self) -> usize {
        CHANNELS * self.side * self.side
    }

    /// Image `index`, [3, side, side].
    pub fn image(&self, index: usize) -> &[u8] {
        &self.images[index * self.image_len()..][..self.image_len()]
    }

    /// How many images each of so many classes has, by label.
    ///
    /// # Panics
    /// If a label is none of them.
    pub fn class_sizes(&self, classes: usize) -> Vec<usize> {
        let mut sizes = vec![0; classes];
        self.labels.iter().for_each(|&label| sizes[usize::from(label)] += 1);
        sizes
    }

    /// Keeps the first `n` images.
    pub fn truncate(&mut self, n: usize) {
        self.images.truncate(n * self.image_len());
        self.labels.truncate(n);
    }
}

/// A training and a test set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data {
    /// What networks learn from, with labels or without.
    pub train: Dataset,
    /// What they are judged by.
    pub test: Dataset,
    /// The classes' names, by label.
    pub classes: Vec<String>,
}

/// A class, and how many images it has.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassCount {
    /// The class's name.
    pub name: String,
    /// Training images.
    pub train: usize,
    /// Test images.
    pub test: usize,
}

impl Data {
    /// The classes by label, with their numbers of images.
    ///
    /// # Panics
    /// If a label is none of them.
    pub fn class_counts(&self) -> Vec<ClassCount> {
        let [train, test] = [&self.train, &self.test].map(|set| set.class_sizes(self.classes.len()));
        let classes = self.classes.iter().zip(train.into_iter().zip(test));
        let class = |(name, (train, test)): (&String, _)| ClassCount { name: name.clone(), train, test };
        classes.map(class).collect()
    }

    /// The first images of both sets.
    pub fn first(mut self, train: usize, test: usize) -> Data {
        self.train.truncate(train);
        self.test.truncate(test);
        self
    }

    /// SHA-256 over the classes' names, then labels and pixels of the training and the test images; each name and each
    /// set after its length in eight bytes, little end first. A label is one byte; where there are more than 256 classes
    /// two, little end first.
    pub fn sha256(&self) -> String {
        let mut hash = Sha256::new();
        let length = |n: usize| (n as u64).to_le_bytes();
        hash.update(length(self.classes.len()));
        for name in &self.classes {
            hash.update(length(name.len()));
            hash.update(name);
        }
        for set in [&self.train, &self.test] {
            hash.update(length(set.len()));
            for label in set.labels.iter().map(|label| label.to_le_bytes()) {
                hash.update(&label[..if self.classes.len() > 256 { 2 } else { 1 }]);
            }
            hash.update(&set.images);
        }
        files::hex(&hash.finalize())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The hashes that experiment files have: a label is a byte as long as it can be one.
    #[test]
    fn labels_of_many_classes_are_hashed_as_two_bytes() {
        let of = |classes: usize, bytes: &[u8]| {
            let names: Vec<String> = (0..classes).map(|class| class.to_string()).collect();
            let set = |labels: &[u16]| Dataset { images: vec![7; labels.len()], labels: labels.to_vec(), side: SIDE };
            let data = Data { train: set(&[255, 1]), test: set(&[0]), classes: names.clone() };
            let mut plain = (classes as u64).to_le_bytes().to_vec();
            for name in &names {
                plain.extend((name.len() as u64).to_le_bytes());
                plain.extend(name.bytes());
            }
            let train = [&2u64.to_le_bytes()[..], &bytes[..bytes.len() * 2 / 3], &[7, 7]].concat();
            let test = [&1u64.to_le_bytes()[..], &bytes[bytes.len() * 2 / 3..], &[7]].concat();
            assert_eq!(data.sha256(), files::sha256(&[plain, train, test].concat()), "{classes} classes");
        };
        of(256, &[255, 1, 0]);
        of(257, &[255, 0, 1, 0, 0, 0]);
    }
}
