//! Used by several test crates.
#![allow(dead_code, reason = "no crate uses all of it")]

use fewlabel::engine::{DropoutKey, Engine, Gradients, Input, Rates};
use fewlabel::loss::{Cosines, cross_entropy, negative_cosine};
use fewlabel::network::{PREDICTOR, PROJECTOR};
use fewlabel::rng::{Purpose, Stream};

/// `len` normal values, others for every `index`: pixels and activations without ties.
pub fn noise(len: usize, index: u32) -> Vec<f32> {
    let mut stream = Stream::new(0, Purpose::View1, 0, index);
    (0..len).map(|_| stream.normal()).collect()
}

/// What a step minimises, with its batch.
#[derive(Clone)]
pub enum Task<'a> {
    /// The sum over heads of the cross-entropy with their labels.
    Classify { images: &'a [f32], heads: &'a [&'a str], labels: Vec<&'a [u16]> },
    /// SimSiam's negative cosine of two views; without a predictor p is z.
    Siamese { views: [&'a [f32]; 2], predictor: bool, stop_gradient: bool },
}

impl<'a> Task<'a> {
    /// One head's labels.
    pub fn of_head(head: &'a &'a str, images: &'a [f32], labels: &'a [u16]) -> Task<'a> {
        Task::Classify { images, heads: std::slice::from_ref(head), labels: vec![labels] }
    }

    /// One, or two; nothing is allocated.
    fn inputs(&self, key: DropoutKey) -> ([Input<'a>; 2], usize) {
        match self {
            Task::Classify { images, .. } => ([Input::train(images, key); 2], 1),
            Task::Siamese { views, .. } => (views.map(|view| Input::train(view, key)), 2),
        }
    }

    fn outputs(&self) -> &[&'a str] {
        match self {
            Task::Classify { heads, .. } => heads,
            Task::Siamese { predictor: true, .. } => &[PROJECTOR, PREDICTOR],
            Task::Siamese { predictor: false, .. } => &[PROJECTOR],
        }
    }

    fn loss(
        &self,
        outputs: &[Vec<f32>],
        gradients: &mut [Vec<f32>],
        scratch: &mut (Cosines, Vec<f32>),
    ) -> fewlabel::Result<f64> {
        match self {
            Task::Classify { labels, .. } => {
                let mut loss = 0.0;
                for ((logits, labels), gradient) in outputs.iter().zip(labels).zip(gradients) {
                    loss += cross_entropy(logits, labels, gradient)?;
                }
                Ok(loss)
            }
            Task::Siamese { views, stop_gradient, .. } => {
                let ((cosines, of_z), n) = (scratch, 2 * (views[0].len() / fewlabel::data::IMAGE));
                let (z, p, last) = (&outputs[0], &outputs[outputs.len() - 1], outputs.len() - 1);
                let loss = negative_cosine(p, z, n, cosines, &mut gradients[last], (!stop_gradient).then_some(of_z));
                if !stop_gradient {
                    gradients[0].resize(z.len(), 0.0);
                    gradients[0].iter_mut().zip(&*of_z).for_each(|(own, more)| *own += *more);
                }
                Ok(loss)
            }
        }
    }

    /// One training step: the loss.
    pub fn step(
        &self,
        model: &mut dyn Engine,
        key: DropoutKey,
        lr: Rates,
        scratch: &mut (Cosines, Vec<f32>),
    ) -> fewlabel::Result<f64> {
        let mut loss = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| self.loss(outputs, gradients, scratch);
        let (inputs, n) = self.inputs(key);
        model.step(&inputs[..n], self.outputs(), &mut loss, lr)
    }

    /// One training pass: loss, outputs and gradients.
    pub fn gradients(&self, model: &mut dyn Engine, key: DropoutKey) -> (f64, Vec<Vec<f32>>, Gradients) {
        let (mut scratch, mut seen) = Default::default();
        let mut loss = |outputs: &[Vec<f32>], gradients: &mut [Vec<f32>]| {
            seen = outputs.to_vec();
            self.loss(outputs, gradients, &mut scratch)
        };
        let (inputs, n) = self.inputs(key);
        let (value, gradients) = model.gradients(&inputs[..n], self.outputs(), &mut loss).unwrap();
        (value, seen, gradients)
    }
}
