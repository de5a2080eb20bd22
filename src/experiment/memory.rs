//! Whether a stage fits into this machine's memory, before hours are spent on finding out.

use super::{Experiment, Stage};
use crate::data::CHANNELS;
use crate::error::{Error, Result};
use crate::network::Mode;
use crate::train::EVAL_BATCH;

/// Assumed where the system does not tell its memory: more than most machines have, and far less than a slip of a digit
/// asks for.
const UNKNOWN: u64 = 48_000_000_000;

impl Experiment {
    /// Refuses a stage that takes more memory than this machine has for each of so many processes.
    ///
    /// # Errors
    /// [`Error::Unfit`] with how much it takes.
    pub(super) fn check_memory(&self, stage: &Stage, processes: usize) -> Result<()> {
        let (needed, there) = (self.memory(stage), machine() / processes as u64);
        if needed <= there {
            return Ok(());
        }
        let gb = |bytes: u64| bytes.div_ceil(1_000_000_000);
        let what = if stage.method.learner.is_none() { "features" } else { "batch and widths" };
        let message = format!(
            "stage {}: its {what} need about {} GB of memory, more than the {} GB of this machine{}",
            stage.name,
            gb(needed),
            gb(there),
            if processes > 1 { format!(" for each of {processes} processes") } else { String::new() }
        );
        Err(Error::Unfit { at: vec!["stages".to_owned(), format!("name: {}", stage.name)], message })
    }

    /// About how many bytes the stage takes: data set, weights with gradients, two moments and an average, what a batch leaves for
    /// the backward pass, and the features of a kNN classifier, a monitor, or a probe on a backbone that never changes.
    pub(super) fn memory(&self, stage: &Stage) -> u64 {
        let widths = self.widths();
        let weights = self.network(stage).bytes();
        // Per pixel of a convolution: its result, the normalised one, the rectified one and a gradient.
        let activations = 4 * (widths.activations() + widths.features() + widths.hidden + 4 * widths.projector);
        let views = stage.learner().map_or(1, |method| method.views());
        let batch = stage.batch.map_or(0, |batch| batch.0 * views).max(EVAL_BATCH);
        let [train, test] = [self.dataset.train, self.dataset.test].map(|n| n.map_or(0, |n| n.0));
        let copies = match self.network(stage).is_frozen(Mode::Eval) {
            // As computed and as normalised.
            _ if stage.method.learner.is_none() || stage.knn_every.is_some() => 2,
            frozen => usize::from(frozen),
        };
        let features = copies * (self.images(self.count(stage)) + test) * widths.features();
        let images = (train + test) * CHANNELS * widths.side * widths.side;
        let averages = self.recipe(stage).is_some_and(|recipe| recipe.averages().is_some());
        (4 + u64::from(averages)) * weights + 4 * (batch * activations + features) as u64 + images as u64
    }
}

/// This machine's memory in bytes: the system's, or less where a control group says so.
fn machine() -> u64 {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let total = |text: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    };
    let limit = read("/sys/fs/cgroup/memory.max").trim().parse().unwrap_or(u64::MAX);
    total(&read("/proc/meminfo")).unwrap_or(UNKNOWN).min(limit)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Side;

    fn experiment(data: &str, network: &str, stages: &str) -> Experiment {
        let yaml = format!(
            "{{name: t, dataset: {{name: synthetic, {data}}}, labels: {{count: all}}, network: {{{network}}}, stages: \
             [{stages}]}}"
        );
        Experiment::parse("t.yaml".as_ref(), &yaml).unwrap()
    }

    #[test]
    fn features_of_a_knn_count() {
        // 1,024 channels give 16,384 features of 4 bytes, twice, of 200,000 + 200,000 images: 52.4 GB, and 1.2 GB of
        // images.
        let (data, wide) = ("train: 200000, test: 200000", "channels: [8, 8, 1024]");
        let knn = experiment(data, wide, "{name: a, method: knn, from: random}");
        let gb = knn.memory(&knn.stages[0]) / 1_000_000_000;
        assert!((53..56).contains(&gb), "{gb}");
        // With 64 × 64 pixels four times as many of both: 209.7 GB and 4.9 GB.
        let mut large = knn.clone();
        large.dataset.side = Side(64);
        let gb = large.memory(&large.stages[0]) / 1_000_000_000;
        assert!((214..217).contains(&gb), "{gb}");
        let watched = experiment(data, wide, "{name: a, method: pretext, knn_every: 2}, {name: b, method: pretext}");
        let [a, b] = [0, 1].map(|i| watched.memory(&watched.stages[i]));
        assert_eq!(a - b, 2 * 4 * 400_000 * 16_384);
    }

    #[test]
    fn what_no_machine_has_is_refused_with_its_place() {
        // A batch of 65,536 images over 1,024 channels: 4 × 4 × 65,536 × 1.4 million bytes.
        let data = "train: 200000, test: 100";
        let wide = "channels: [1024, 1024, 1024]";
        let huge = experiment(data, wide, "{name: a, method: supervised, batch: 65536}");
        match huge.check_memory(&huge.stages[0], 1) {
            Err(Error::Unfit { at, message }) => {
                assert_eq!(at, ["stages", "name: a"]);
                assert!(message.starts_with("stage a: its batch and widths need about 14"), "{message}");
                assert!(message.ends_with(" GB of this machine"), "{message}");
            }
            other => panic!("{other:?}"),
        }
        let small =
            experiment("train: 100, test: 100", "channels: [1, 2, 3]", "{name: a, method: supervised, batch: 10}");
        assert!(small.check_memory(&small.stages[0], 1).is_ok());
    }
}
