use crate::augment::to_input;
use crate::data::Dataset;

/// What batches are made of: images of a data set, or their features behind a backbone frozen in eval mode, which never change
/// and are computed once.
pub enum Source<'a> {
    /// By index in the data set.
    Images(&'a Dataset),
    /// By index in the rows.
    Features {
        /// [n, width].
        values: Vec<f32>,
        /// Of a row.
        width: usize,
        /// One for each row.
        labels: Vec<u16>,
    },
}

impl Source<'_> {
    /// Values of one input.
    pub fn width(&self) -> usize {
        match self {
            Source::Images(data) => data.image_len(),
            Source::Features { width, .. } => *width,
        }
    }

    /// The label of one example.
    ///
    /// # Panics
    /// If there is no such example.
    pub fn label(&self, index: u32) -> u16 {
        match self {
            Source::Images(data) => data.labels[index as usize],
            Source::Features { labels, .. } => labels[index as usize],
        }
    }

    /// The images, for a method that transforms them.
    ///
    /// # Panics
    /// For features: only a network whose trunk is frozen in eval mode is trained on those.
    pub fn images(&self) -> &Dataset {
        match self {
            Source::Images(data) => data,
            Source::Features { .. } => unreachable!("a method that transforms images trains its backbone"),
        }
    }

    /// One example as network input, without augmentation, into `out`.
    ///
    /// # Panics
    /// If there is no such example, or `out` has not [`Source::width`] values.
    pub fn input(&self, index: u32, out: &mut [f32]) {
        match self {
            Source::Images(data) => to_input(data.image(index as usize), out),
            Source::Features { values, width, .. } => out.copy_from_slice(&values[index as usize * width..][..*width]),
        }
    }
}
