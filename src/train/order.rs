//! Which examples each step of an epoch takes.

use super::{Examples, Recipe};
use crate::data::{cycled_order, epoch_order, unlabelled_order};
use crate::method::{Labelled, Unlabelled};

/// The examples of an epoch, step after step.
pub struct Order {
    indices: Vec<u32>,
    /// Examples of a step; of the last there may be fewer.
    per_step: usize,
    /// Of the first step.
    labelled: Labelled,
}

impl Order {
    /// The examples of one step, those with labels first.
    pub fn step(&self, step: usize) -> &[u32] {
        let first = self.first(step);
        &self.indices[first..self.indices.len().min(first + self.per_step)]
    }

    /// The position in the epoch of the step's first example.
    pub fn first(&self, step: usize) -> usize {
        step * self.per_step
    }

    /// Of a step of a semi-supervised method.
    pub fn labelled(&self, step: usize) -> Labelled {
        let Labelled { n, before, of } = self.labelled;
        Labelled { n, before: before + (step * n) as u64, of }
    }

    /// The images of a step that its metrics count: those with labels, where others have none.
    pub fn counted(&self, step: usize) -> usize {
        if self.labelled.n > 0 { self.labelled.n } else { self.step(step).len() }
    }
}

impl Recipe {
    /// Steps of an epoch: over all images without labels where there are such, else over all that is trained on, with or without
    /// an incomplete last batch, as the method says.
    pub fn steps(&self, examples: &Examples) -> usize {
        let n = examples.train.len();
        match self.method.unlabelled() {
            Some(Unlabelled { ratio, .. }) => examples.unlabelled.len() / (ratio * self.batch),
            None if self.method.drops_last() => n / self.batch,
            None => n.div_ceil(self.batch),
        }
    }

    /// How many images the metrics of an epoch's first `steps` count.
    pub(super) fn counted(&self, examples: &Examples, steps: usize) -> usize {
        match self.method.unlabelled() {
            Some(_) => steps * self.batch,
            None => examples.train.len().min(steps * self.batch),
        }
    }

    /// The order of `epoch` over the inputs `train`, which are indices into what batches are made of.
    pub(crate) fn order(&self, train: &[u32], examples: &Examples, epoch: u32) -> Order {
        let Some(unlabelled) = self.method.unlabelled() else {
            let indices = epoch_order(train, self.seed, epoch);
            return Order { indices, per_step: self.batch, labelled: Labelled::default() };
        };
        let (steps, batch) = (self.steps(examples), self.batch);
        let others = batch * unlabelled.in_epoch(epoch, self.epochs);
        let before = u64::from(epoch) * (steps * batch) as u64;
        let labelled = cycled_order(train, self.seed, before, steps * batch);
        let all = unlabelled_order(&examples.unlabelled, self.seed, epoch);
        let of_steps = labelled.chunks_exact(batch).zip(all.chunks_exact(others));
        let indices = of_steps.flat_map(|(labelled, others)| labelled.iter().chain(others).copied()).collect();
        Order { indices, per_step: batch + others, labelled: Labelled { n: batch, before, of: train.len() } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;
    use crate::experiment::Experiment;

    /// 10 labelled of 40 images, 3 a step with `keys`.
    fn stage(keys: &str) -> (Recipe, Examples) {
        let yaml = format!(
            "{{name: t, dataset: {{name: synthetic, train: 40, test: 10}}, labels: {{count: 10, choose: first}}, network:
            {{channels: [2, 3, 4]}}, stages: [{{name: a, method: fixmatch, batch: 3, {keys}}}]}}"
        );
        let experiment = Experiment::parse("t.yaml".as_ref(), &yaml).unwrap();
        let stage = &experiment.stages[0];
        (experiment.recipe(stage).unwrap(), experiment.examples(stage, &synthetic(40, 10, 0)).unwrap())
    }

    #[test]
    fn an_epoch_takes_all_images_once_and_labelled_ones_pass_after_pass() {
        let (recipe, examples) = stage("unlabelled: 4, epochs: 5");
        let steps = recipe.steps(&examples);
        assert_eq!(steps, 3, "40 images, 12 a step");
        let mut labelled = vec![];
        for epoch in 0..5 {
            let order = recipe.order(&examples.train, &examples, epoch);
            let mut others = vec![];
            for step in 0..steps {
                let Labelled { n, before, of } = order.labelled(step);
                assert_eq!((n, before, of), (3, labelled.len() as u64, 10));
                assert_eq!((order.first(step), order.counted(step)), (15 * step, 3));
                let passes: Vec<u32> = (0..3).map(|i| order.labelled(step).pass(i)).collect();
                assert_eq!(passes, [0, 1, 2].map(|i| (labelled.len() + i) as u32 / 10));
                labelled.extend_from_slice(&order.step(step)[..3]);
                others.extend_from_slice(&order.step(step)[3..]);
            }
            assert_eq!(others.len(), 36);
            others.sort_unstable();
            assert!(others.windows(2).all(|pair| pair[0] < pair[1]), "none twice");
        }
        let mut passes: Vec<Vec<u32>> = labelled.chunks_exact(10).map(<[u32]>::to_vec).collect();
        assert!(passes.windows(2).all(|pair| pair[0] != pair[1]), "each in an order of its own");
        passes.iter_mut().for_each(|pass| pass.sort_unstable());
        assert!(passes.iter().all(|pass| *pass == examples.train));
    }

    #[test]
    fn images_without_labels_grow_and_steps_stay() {
        let (recipe, examples) = stage("unlabelled: 4, unlabelled_from: 1, epochs: 4");
        let sizes = [0, 1, 2, 3].map(|epoch| recipe.order(&examples.train, &examples, epoch).step(2).len());
        assert_eq!(sizes, [6, 9, 12, 15]);
        assert_eq!(recipe.steps(&examples), 3);
    }
}
