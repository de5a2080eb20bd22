//! Whether a progress is one that a stage can have: a checkpoint's hash shows that it is as it was written, not that a
//! training wrote it.

use super::{Examples, Progress, Recipe};
use crate::engine::AVERAGE;
use crate::network::{Block, Mode};

impl Progress {
    /// Says what in this progress no training by `recipe` on `examples` would have left: epoch and step, records, best
    /// epoch, sums, and the optimizer's state. Weights are of the network already ([`Progress::from_bytes`]).
    ///
    /// # Errors
    /// The first such thing, as the end of a sentence about the checkpoint.
    pub fn fits(&self, recipe: &Recipe, examples: &Examples) -> Result<(), String> {
        let steps = recipe.steps(examples);
        let Progress { epoch, step, .. } = *self;
        if epoch >= recipe.epochs || step > steps {
            let (epoch, epochs) = (u64::from(epoch) + 1, recipe.epochs);
            return Err(format!("is at step {step} of epoch {epoch}, and the stage has {epochs} of {steps} steps"));
        }
        let epochs: Vec<u32> = self.history.iter().map(|record| record.epoch).collect();
        if !epochs.iter().copied().eq(1..=epoch) {
            return Err(format!("is in epoch {} and has records of {epochs:?}", epoch + 1));
        }
        if self.best.as_ref().map(|best| (best.epoch, best.top1.to_bits())) != self.best_of_history() {
            return Err("has another best epoch than its records".to_owned());
        }
        if !self.sums.fits(&*recipe.method, recipe.counted(examples, step)) {
            return Err(format!("has sums that are not those of {step} steps"));
        }
        let done = u64::from(epoch) * steps as u64 + step as u64;
        if u64::from(self.optimizer.steps) != done {
            return Err(format!("is after {done} steps, and its optimizer after {}", self.optimizer.steps));
        }
        self.check_slots(recipe, done > 0)
    }

    /// The first epoch with the highest accuracy on the validation images, and that accuracy's bits.
    fn best_of_history(&self) -> Option<(u32, u64)> {
        let validated = |record: &super::Record| Some((record.epoch, *record.metrics.get("validation_top1")?));
        let best = |a: (u32, f64), b: (u32, f64)| if b.1 > a.1 { b } else { a };
        self.history.iter().filter_map(validated).reduce(best).map(|(epoch, top1)| (epoch, top1.to_bits()))
    }

    /// Whether there is a state of every parameter that is trained, an average of every tensor if one is kept, of their
    /// shapes, and nothing else; before the first step there is none.
    fn check_slots(&self, recipe: &Recipe, has_begun: bool) -> Result<(), String> {
        let mut left: Vec<_> = self.optimizer.arrays.iter().collect();
        let trained = trained_blocks(recipe).flat_map(Block::tensors).filter(|spec| spec.role.is_parameter());
        let slots = trained.flat_map(|spec| recipe.rule.slots().iter().map(move |slot| (*slot, spec.clone())));
        // On features only the heads are there.
        let in_engine = recipe.network.blocks().skip(match recipe.network.is_frozen(Mode::Eval) {
            true => recipe.network.trunk.len(),
            false => 0,
        });
        let averaged = in_engine.flat_map(Block::tensors).filter(|_| recipe.averages().is_some());
        let averages = averaged.map(|spec| (AVERAGE, spec));
        for (slot, spec) in slots.chain(averages).filter(|_| has_begun) {
            let name = format!("{slot}/{}", spec.name);
            let Some(at) = left.iter().position(|array| array.name == name) else {
                return Err(format!("lacks the optimizer's {name}"));
            };
            let array = left.swap_remove(at);
            if array.shape != spec.shape {
                return Err(format!("has an optimizer's {name} of shape {:?}, not {:?}", array.shape, spec.shape));
            }
        }
        match left.first() {
            Some(array) => Err(format!("has an optimizer's {} that nothing uses", crate::text::visible(&array.name))),
            None => Ok(()),
        }
    }
}

/// The blocks that get a gradient: those of the trunk that are not frozen, and the heads that the method trains.
fn trained_blocks(recipe: &Recipe) -> impl Iterator<Item = &Block> {
    let heads = recipe.method.heads();
    let is_trained = move |block: &&Block| heads.is_empty() || heads.iter().any(|head| head.block == block.name);
    let trunk = recipe.network.trunk.iter().filter(|block| block.frozen.is_none());
    trunk.chain(recipe.network.heads.iter().filter(is_trained))
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::data::{Data, synthetic};
    use crate::error::Result;
    use crate::experiment::Experiment;
    use crate::network::{Array, Weights};
    use crate::train::{Best, Observer, Sums, train};

    /// Keeps the progress of every step and epoch.
    #[derive(Default)]
    struct Kept(Vec<Progress>);

    impl Observer for Kept {
        fn checkpoint_due(&mut self) -> bool {
            true
        }

        fn save(&mut self, progress: &Progress) -> Result<()> {
            self.0.push(progress.clone());
            Ok(())
        }
    }

    /// Recipe, examples and every progress of two epochs of the stage `yaml`.
    fn trained(yaml: &str, validation: f32) -> (Recipe, Examples, Vec<Progress>) {
        let yaml = format!(
            "{{name: t, dataset: {{name: synthetic, train: 50, test: 10}}, network: {{channels: [1, 2, 3], hidden: 4,
            projector: 4, predictor: 2}}, labels: {{count: 40, choose: stratified, validation: {validation}}},
            stages: [{{name: a, epochs: 2, batch: 16, {yaml}}}]}}"
        );
        let experiment = Experiment::parse("t.yaml".as_ref(), &yaml).unwrap();
        let (stage, data): (_, Data) = (&experiment.stages[0], synthetic(50, 10, 0));
        let (recipe, examples) = (experiment.recipe(stage).unwrap(), experiment.examples(stage, &data).unwrap());
        let mut kept = Kept::default();
        let start = Progress::start(Weights::init(&recipe.network, 0));
        train(&recipe, &data, &examples, start.clone(), &Device::Cpu, &mut kept).unwrap();
        kept.0.insert(0, start);
        (recipe, examples, kept.0)
    }

    #[test]
    fn what_a_training_leaves_fits_it() {
        for (stage, validation, steps) in [
            ("method: supervised", 0.25, 2),
            ("method: supervised, optimizer: sgd", 0.0, 3),
            ("method: pretext", 0.25, 4),
            ("method: simsiam", 0.0, 3),
            ("method: simsiam, predictor: false", 0.0, 3),
            ("method: byol", 0.0, 3),
            ("method: supervised, average: 0.9", 0.25, 2),
            ("method: finetune, from: random", 0.0, 3),
            ("method: fixmatch, unlabelled: 1", 0.0, 3),
            ("method: probe, from: random, frozen_norm: train", 0.0, 3),
            ("method: probe, from: random, frozen_norm: eval, probe: linear", 0.25, 2),
            ("method: probe, from: random, frozen_norm: eval, average: 0.9", 0.0, 3),
        ] {
            let (recipe, examples, all) = trained(stage, validation);
            // The start, every step of two epochs, and the end of the first.
            assert_eq!(all.len(), 1 + 2 * steps + 1, "{stage}");
            for progress in &all {
                assert_eq!(progress.fits(&recipe, &examples), Ok(()), "{stage}");
            }
        }
    }

    #[test]
    fn what_no_training_leaves_is_refused() {
        let (recipe, examples, all) = trained("method: supervised", 0.25);
        // In the second epoch, after one step.
        let good = all[4].clone();
        assert_eq!((good.epoch, good.step, good.optimizer.steps), (1, 1, 3));
        let refused = |change: fn(&mut Progress), why: &str| {
            let mut progress = good.clone();
            change(&mut progress);
            let said = progress.fits(&recipe, &examples).expect_err(why);
            assert!(said.contains(why), "{said}, not {why}");
        };
        refused(|p| (p.epoch, p.step, p.history) = (2, 0, vec![]), "is at step 0 of epoch 3, and the stage has 2 of 2");
        refused(|p| p.epoch = u32::MAX, "is at step 1 of epoch 4294967296");
        refused(|p| p.step = 3, "is at step 3 of epoch 2");
        refused(|p| p.history.clear(), "is in epoch 2 and has records of []");
        refused(|p| p.history.push(p.history[0].clone()), "records of [1, 1]");
        refused(|p| p.history[0].epoch = 7, "records of [7]");
        refused(|p| p.best = None, "another best epoch");
        refused(|p| p.best.as_mut().unwrap().top1 = 0.99, "another best epoch");
        refused(|p| p.best.as_mut().unwrap().epoch = 2, "another best epoch");
        refused(|p| p.sums = Sums::default(), "has sums that are not those of 1 steps");
        refused(|p| p.optimizer.steps = 2, "is after 3 steps, and its optimizer after 2");
        refused(|p| drop(p.optimizer.arrays.remove(0)), "lacks the optimizer's exp_avg/backbone.0.weight");
        refused(|p| p.optimizer.arrays.clear(), "lacks the optimizer's");
        refused(|p| p.optimizer.arrays[0].shape = vec![27], "of shape [27], not [1, 3, 3, 3]");
        let more = |p: &mut Progress| {
            p.optimizer.arrays.push(Array { name: "momentum_buffer/x\n".to_owned(), shape: vec![], values: vec![] });
        };
        refused(more, r"has an optimizer's momentum_buffer/x\n that nothing uses");
        let (averaging, same_examples, averaged) = trained("method: supervised, average: 0.9", 0.25);
        for (name, why) in [
            ("average/backbone.1.running_mean", "lacks the optimizer's average/backbone.1.running_mean"),
            ("average/fc.weight", "lacks the optimizer's average/fc.weight"),
        ] {
            let mut progress = averaged[4].clone();
            progress.optimizer.arrays.retain(|array| array.name != name);
            assert_eq!(progress.fits(&averaging, &same_examples), Err(why.to_owned()));
        }
        let without = averaged[4].fits(&recipe, &examples).unwrap_err();
        assert!(without.contains("optimizer's average/") && without.ends_with("that nothing uses"), "{without}");
        let mut early = all[0].clone();
        early.optimizer.arrays.clone_from(&good.optimizer.arrays);
        assert!(early.fits(&recipe, &examples).is_err(), "a state before the first step");
        early = all[0].clone();
        early.best = Some(Best { epoch: 1, top1: 0.5, weights: early.weights.clone() });
        assert!(early.fits(&recipe, &examples).is_err(), "a best epoch before the first");
    }
}
