//! What the batches of a stage are made of: images, or their features behind a backbone frozen in eval mode, which
//! never change and are computed once.

use crate::augment::plain_batch;
use crate::data::Dataset;
use crate::engine::Inference;
use crate::error::Result;
use crate::method::Source;
use crate::network::BACKBONE;

/// Images per forward pass of an evaluation.
pub const EVAL_BATCH: usize = 128;

/// Images of a data set, or their features.
pub(super) struct Inputs<'a> {
    pub content: Source<'a>,
    /// The inputs, as indices into the content.
    pub indices: Vec<u32>,
}

impl<'a> Inputs<'a> {
    pub fn images(data: &'a Dataset, indices: &[u32]) -> Inputs<'a> {
        Inputs { content: Source::Images(data), indices: indices.to_vec() }
    }

    /// The features of the images by `model`, in their order.
    pub fn features(data: &Dataset, indices: &[u32], model: &mut dyn Inference) -> Result<Inputs<'a>> {
        let values = features(data, indices, model)?;
        let labels = indices.iter().map(|&index| data.labels[index as usize]).collect();
        let content = Source::Features { width: values.len() / indices.len().max(1), values, labels };
        Ok(Inputs { content, indices: (0..indices.len() as u32).collect() })
    }
}

/// The features of the images at `indices`, from the model's backbone in eval mode: [n, width], in their order.
///
/// # Errors
/// The engine's.
pub fn features(data: &Dataset, indices: &[u32], model: &mut dyn Inference) -> Result<Vec<f32>> {
    let mut values = Vec::new();
    let mut images = vec![];
    for indices in indices.chunks(EVAL_BATCH) {
        images.resize(indices.len() * data.image_len(), 0.0);
        plain_batch(data, indices, &mut images);
        values.extend_from_slice(&model.infer(&images, &[BACKBONE])?[0]);
    }
    Ok(values)
}
