//! What a constant answer gets, where a data set's classes differ in size.

use super::{Count, Manifest, Stage};
use crate::data::{Choose, ClassCount, proportional, share_of};

/// The largest of classes of these `sizes`, the first of several, and its share (of 1) of all images: what a constant
/// answer gets. None where the classes that have images have one size.
fn largest(sizes: &[usize]) -> Option<(usize, f64)> {
    let most = sizes.iter().copied().max()?;
    let differ = sizes.iter().any(|&size| size != 0 && size != most);
    let share = most as f64 / sizes.iter().map(|&size| size as f64).sum::<f64>();
    differ.then(|| sizes.iter().position(|&size| size == most)).flatten().map(|label| (label, share))
}

impl Manifest {
    /// The largest class of the test images, and its share (of 1) of them; none where the classes have one size, or
    /// where their sizes are not known.
    pub fn largest_class(&self) -> Option<(&ClassCount, f64)> {
        let sizes: Vec<usize> = self.classes.iter().map(|class| class.test).collect();
        largest(&sizes).map(|(label, share)| (&self.classes[label], share))
    }

    /// Whether classes of these sizes are all training images of the experiment.
    fn has_as_many(&self, train: &[usize]) -> bool {
        let all = train.iter().try_fold(0usize, |all, &size| all.checked_add(size));
        self.experiment.dataset.train.is_some_and(|images| all == Some(images.0))
    }

    /// The share (of 1) of the largest class of the images that every epoch of `stage` is judged on: the validation
    /// images, where there are such. None as of [`Manifest::largest_class`].
    pub(crate) fn largest_share(&self, stage: &Stage) -> Option<f64> {
        if !self.experiment.validates() {
            return self.largest_class().map(|(_, share)| share);
        }
        largest(&self.validating(stage)?).map(|(_, share)| share)
    }

    /// How many images of each class validate; none where that is not known without the images.
    pub(super) fn validating(&self, stage: &Stage) -> Option<Vec<usize>> {
        let labels = &self.experiment.labels;
        let train: Vec<usize> = self.classes.iter().map(|class| class.train).collect();
        let labelled = match (self.experiment.count(stage), labels.choose) {
            // A manifest may say anything.
            _ if !self.has_as_many(&train) => return None,
            (Count::All, _) => train,
            (Count::Images(images), Some(Choose::Proportional)) => proportional(images.0, &train),
            (Count::Images(images), Some(Choose::Stratified)) => vec![images.0 / train.len(); train.len()],
            _ => return None,
        };
        Some(labelled.into_iter().map(|size| share_of(size, labels.validation.0)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::Experiment;

    #[test]
    fn the_largest_class_is_that_of_the_images_that_judge() {
        assert_eq!(largest(&[3, 7, 7]), Some((1, 7.0 / 17.0)));
        assert_eq!(largest(&[5, 0, 5]), None, "a class without images is none");
        assert_eq!(largest(&[]), None);
        let share = |labels: &str| {
            let yaml = format!(
                "{{name: t, dataset: {{name: synthetic, train: 60, test: 20}}, labels: {labels},
                 stages: [{{name: a, method: supervised, batch: 4}}]}}"
            );
            let experiment = Experiment::parse("t.yaml".as_ref(), &yaml).unwrap();
            let class = |name: &str, train, test| ClassCount { name: name.to_owned(), train, test };
            let classes = vec![class("a", 40, 5), class("b", 20, 15)];
            let manifest = Manifest { classes, ..Manifest::new(&experiment, "cpu") };
            assert_eq!(manifest.largest_class().map(|(class, share)| (&*class.name, share)), Some(("b", 0.75)));
            manifest.largest_share(&experiment.stages[0])
        };
        assert_eq!(share("all"), Some(0.75));
        assert_eq!(share("{count: all, validation: 0.25}"), Some(10.0 / 15.0));
        assert_eq!(share("{count: 30, choose: proportional, validation: 0.25}"), Some(5.0 / 7.0), "5 of 20, 2 of 10");
        assert_eq!(share("{count: 30, choose: stratified, validation: 0.4}"), None, "as many of each");
    }
}
