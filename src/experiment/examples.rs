//! The images that a stage takes, once the data set is there: what no experiment file can show by itself.

use super::defaults::Conflict;
use super::{Count, DatasetName, Experiment, Images, Stage};
use crate::data::{Choose, Data, labelled, validation};
use crate::error::{Error, Result};
use crate::train::Examples;

/// Classes that a line names at most.
const NAMED: usize = 5;

impl Experiment {
    /// The stage's images.
    ///
    /// # Errors
    /// [`Error::Unfit`] where the classes do not have the images that are to be labelled, or to validate.
    pub fn examples(&self, stage: &Stage, data: &Data) -> Result<Examples> {
        self.chosen(stage, data).map_err(|Conflict { at, message }| Error::Unfit { at, message })
    }

    fn chosen(&self, stage: &Stage, data: &Data) -> Result<Examples, Conflict> {
        let (seed, share) = (self.seed.0, self.labels.validation.0);
        let count_is = |message: String| match stage.labels {
            Some(_) => Conflict::of_stage(&stage.name, Some("labels"), format!("labels: {message}")),
            None => Conflict::new(&["labels", "count"], format!("labels.count: {message}")),
        };
        let all = match (self.count(stage), self.labels.choose) {
            (Count::Images(Images(count)), Some(choose)) => labelled(&data.train, &data.classes, choose, count, seed)
                .map_err(|error| count_is(error.to_string()))?,
            _ => (0..data.train.len() as u32).collect(),
        };
        // In a folder class follows class, and in many a data set.
        if self.labels.choose == Some(Choose::First) && self.dataset.name.is_own() {
            let sizes = data.train.class_sizes(data.classes.len());
            if let Some(classes) = named(data, &sizes, &sizes_of(data, &all)) {
                let first = all.len();
                // A stage's own number, where all others have labels: only the experiment's key says how to choose.
                let remedy = match self.labels.count {
                    Count::All => "take `labels: {count: all, choose: stratified}`, or `proportional`",
                    _ => "take `choose: stratified` or `proportional`, or `labels: all`",
                };
                let of = if self.dataset.name == DatasetName::Folder { "folder" } else { "data set" };
                return Err(count_is(format!("the first {first} images of the {of} have no {classes}: {remedy}")));
            }
        }
        let [labelled, validation] = validation(&data.train, &all, share, seed);
        let validation_is = |message: String| {
            Err(Conflict::new(&["labels", "validation"], format!("labels.validation: {share} {message}")))
        };
        if share > 0.0 && validation.is_empty() {
            let sizes = sizes_of(data, &all);
            let most = sizes.iter().copied().max().unwrap_or(0);
            let largest = sizes.iter().position(|&size| size == most).map_or("", |class| &data.classes[class]);
            return validation_is(format!("of {most} images is none, and {largest} has the most: take a larger share"));
        }
        if labelled.is_empty() {
            let n = all.len();
            return validation_is(format!("takes {n} of {n} labelled images and leaves none to train on"));
        }
        let train = if stage.method.uses_labels { labelled.clone() } else { (0..data.train.len() as u32).collect() };
        let unlabelled = match stage.learner().and_then(|method| method.unlabelled()) {
            Some(_) => (0..data.train.len() as u32).collect(),
            None => vec![],
        };
        stage.check_batch(train.len(), data.train.len())?;
        Ok(Examples { train, labelled, validation, unlabelled })
    }

    /// What should be known of the classes that `examples` leaves without labels, or without images to validate with: a
    /// line each.
    pub(super) fn gaps(&self, data: &Data, examples: &Examples) -> Vec<String> {
        let share = self.labels.validation.0;
        let [trained, validating] = [&examples.labelled, &examples.validation].map(|images| sizes_of(data, images));
        let labelled: Vec<usize> = trained.iter().zip(&validating).map(|(a, b)| a + b).collect();
        let unlabelled = named(data, &data.train.class_sizes(data.classes.len()), &labelled)
            .map(|classes| format!("labels: no training image of {classes} is labelled"));
        let unvalidated = named(data, &labelled, &validating)
            .filter(|_| share > 0.0)
            .map(|classes| format!("labels.validation: {share} leaves no validation image of {classes}"));
        unlabelled.into_iter().chain(unvalidated).collect()
    }
}

/// How many of `images` each class has.
fn sizes_of(data: &Data, images: &[u32]) -> Vec<usize> {
    let mut sizes = vec![0; data.classes.len()];
    images.iter().for_each(|&index| sizes[usize::from(data.train.labels[index as usize])] += 1);
    sizes
}

/// The classes that have images by `sizes` and none by `left`: "dogs (6) and owls (2)"; none where there is no such.
fn named(data: &Data, sizes: &[usize], left: &[usize]) -> Option<String> {
    let without = (0..sizes.len()).filter(|&class| sizes[class] > 0 && left[class] == 0);
    let mut names: Vec<String> = without.map(|class| format!("{} ({})", data.classes[class], sizes[class])).collect();
    if names.len() > NAMED {
        let others = names.len() - NAMED;
        names.truncate(NAMED);
        names.push(format!("{others} other{}", if others == 1 { "" } else { "s" }));
    }
    let last = names.pop()?;
    Some(if names.is_empty() { last } else { format!("{} and {last}", names.join(", ")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::synthetic;

    /// Whether it classifies or not.
    #[test]
    fn what_uses_labels_trains_on_the_labelled_images_alone() {
        let of = |method: &str| {
            let yaml = format!(
                "{{name: t, dataset: {{name: synthetic, train: 60, test: 10}}, labels: {{count: 30, choose: stratified, validation: 0.4}},
                stages: [{{name: a, method: {method}, batch: 8}}]}}"
            );
            let experiment = Experiment::parse("t.yaml".as_ref(), &yaml).unwrap();
            experiment.examples(&experiment.stages[0], &synthetic(60, 10, 0)).unwrap()
        };
        let Examples { train, labelled, validation, unlabelled } = of("supcon");
        assert_eq!((train.len(), validation.len()), (20, 10));
        assert!(unlabelled.is_empty());
        let semi = of("fixmatch, unlabelled: 3");
        assert_eq!((&semi.train, semi.unlabelled.len()), (&train, 60), "validation images have no labels there");
        assert!(train == labelled && validation.iter().all(|image| !train.contains(image)));
        assert_eq!(of("supervised").train, train);
        assert_eq!(of("simclr").train.len(), 60);
    }
}
