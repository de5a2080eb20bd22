//! Whether a stage's result differs from that of weights that have learnt nothing.

use super::table::{metric, results};
use super::{Manifest, Stage, StageResult};
use crate::data::share_of;
use crate::method::Head;

/// The 95 % point of the standard normal distribution. The accuracy of guessing on n images has the chance level c as its
/// mean and √(c(1 − c)/n) as its standard deviation (binomial). An accuracy of less than c plus Z of these is no evidence
/// of learning: a one-sided test of a proportion at 5 %.
const Z: f64 = 1.645;

fn is_chance(top1: f64, n: usize, chance: f64) -> bool {
    top1 <= chance + Z * (chance * (1.0 - chance) / n as f64).sqrt()
}

/// The same for the mean of the classes' own accuracies: of k classes with `sizes` images guessing gets c = 1/k of each,
/// and the variance of the mean is Σ c(1 − c)/nᵢ over k².
fn is_balanced_chance(balanced: f64, sizes: &[usize]) -> bool {
    let k = sizes.len() as f64;
    let inverse: f64 = sizes.iter().map(|&n| 1.0 / n as f64).sum();
    balanced <= 1.0 / k + Z * ((1.0 - 1.0 / k) / k * inverse).sqrt() / k
}

impl Manifest {
    /// The evidence in its result that a stage has hardly learnt; none if it has learnt.
    pub(crate) fn hardly_learnt(&self, stage: &Stage, result: &StageResult) -> Option<String> {
        let guessing = |name: &str, top1: f64, n: usize, chance: f64, of: &str| {
            let (value, level) = (metric(name, top1), 100.0 * chance);
            is_chance(top1, n, chance).then(|| format!("{value} of {n} images, {of} {level:.1} %"))
        };
        let test = self.experiment.dataset.test.map_or(0, |images| images.0);
        if stage.classifies() {
            let Some((_, share)) = self.largest_class() else {
                let chance = 1.0 / self.experiment.dataset.class_count() as f64;
                return guessing("test_top1", result.top1()?, test, chance, "chance is");
            };
            // A constant answer gets the largest class right, and nothing of the others: whoever gets more of either
            // has learnt.
            let sizes: Vec<usize> = self.classes.iter().map(|class| class.test).filter(|&test| test > 0).collect();
            let balanced = result.tested().metrics.get("test_balanced_top1");
            let learnt = balanced.is_some_and(|&balanced| !is_balanced_chance(balanced, &sizes));
            let said = guessing("test_top1", result.top1()?, test, share, "a constant answer gets");
            return said.filter(|_| !learnt);
        }
        let method = stage.learner()?;
        let about = share_of(self.experiment.label_count(stage), self.experiment.labels.validation.0);
        let validating = self.validating(stage).map_or(about, |sizes| sizes.iter().sum());
        let judged = [
            ("test", test),
            ("validation", validating),
            ("train", self.experiment.dataset.train.map_or(0, |images| images.0)),
        ];
        let network = self.experiment.network(stage);
        let at_chance = method.heads().iter().filter_map(|Head { block, prefix }| {
            let named = |(set, n)| (format!("{set}_{prefix}top1"), n);
            let value =
                |name: &str| [&result.last, result.tested()].iter().find_map(|of| of.metrics.get(name).copied());
            let mut found = judged.map(named).into_iter().filter_map(|(name, n)| Some((value(&name)?, name, n)));
            let ((top1, name, n), classes) = (found.next()?, network.width_of(block)?);
            guessing(&name, top1, n, 1.0 / classes as f64, "chance is")
        });
        let at_chance: Vec<String> = at_chance.collect();
        let said = (!at_chance.is_empty()).then(|| at_chance.join("; "));
        said.or_else(|| method.hardly_learnt(&result.last.metrics))
    }

    /// The same for the stage whose weights `stage` starts from.
    pub(super) fn source_hardly_learnt(&self, seed: u64, stage: &Stage) -> Option<(&Stage, String)> {
        let source = self.experiment.source(stage)?;
        let result = self.result.get(&self.experiment.key(seed, &source.name))?;
        Some((source, self.hardly_learnt(source, result)?))
    }

    /// Which stages have hardly learnt: first those that others may build on, then those that classify.
    pub(super) fn learning_notes(&self) -> Vec<String> {
        let named = |stage: &Stage| {
            let all = results(self, &stage.name);
            let weak = all.iter().filter(|(_, result)| self.hardly_learnt(stage, result).is_some()).count();
            let seeds = if all.len() > 1 { format!(" ({weak} of {} seeds)", all.len()) } else { String::new() };
            (weak > 0).then(|| format!("{}{seeds}", stage.name))
        };
        let (classifiers, sources): (Vec<&Stage>, Vec<&Stage>) =
            self.experiment.stages.iter().partition(|stage| stage.classifies());
        let note = |stages: Vec<&Stage>, end: &str| {
            let names: Vec<String> = stages.into_iter().filter_map(named).collect();
            (!names.is_empty()).then(|| format!("hardly learnt: {}{end}", names.join(", ")))
        };
        let builds_on_it = "; stages that start from it may do no better than from random weights";
        let chance = match self.largest_class() {
            Some(_) => "; not measurably better than a constant answer",
            None => "; not measurably better than chance",
        };
        [note(sources, builds_on_it), note(classifiers, chance)].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::ClassCount;
    use crate::experiment::Experiment;
    use crate::network::Weights;
    use crate::train::{Record, Trained};

    const YAML: &str = "
name: t
dataset: {name: synthetic, train: 4000, test: 1000}
labels: {count: 500, choose: stratified}
stages:
  - {name: baseline, method: supervised}
  - {name: pretext, method: pretext}
  - {name: simsiam, method: simsiam}
  - {name: probe, method: probe, from: simsiam}";

    /// What is said of a stage with these metrics after its last epoch.
    fn of(stage: &str, metrics: &[(&str, f64)]) -> Option<String> {
        let manifest = with(stage, metrics);
        let stage = manifest.experiment.stages.iter().find(|s| *s.name == *stage).unwrap();
        manifest.hardly_learnt(stage, &manifest.result[&*stage.name])
    }

    fn with(stage: &str, metrics: &[(&str, f64)]) -> Manifest {
        let mut manifest = Manifest::new(&Experiment::parse("t.yaml".as_ref(), YAML).unwrap(), "cpu");
        let metrics = metrics.iter().map(|(name, value)| (name.to_string(), *value)).collect();
        let trained =
            Trained { history: vec![Record { epoch: 1, metrics }], chosen: None, weights: Weights::default() };
        manifest.result.insert(stage.to_owned(), StageResult::new(&trained).unwrap());
        manifest
    }

    #[test]
    fn chance_and_what_chance_may_give_is_no_learning() {
        // 0.1 + 1.645 · √(0.1 · 0.9 / 1000) = 0.1156.
        let top1 = |top1: f64| of("baseline", &[("test_top1", top1)]);
        let expected = "test_top1 11.5 % of 1000 images, chance is 10.0 %";
        assert_eq!([top1(0.115).as_deref(), top1(0.116).as_deref()], [Some(expected), None]);
        assert!(top1(0.02).is_some(), "below chance too");
        // Of a class with 300 of the images: 0.3 + 1.645 · √(0.3 · 0.7 / 1000) = 0.3238.
        let of_largest = |top1: f64| {
            let mut manifest = with("baseline", &[("test_top1", top1)]);
            let class = |test: usize| ClassCount { name: "a".to_owned(), train: 0, test };
            manifest.classes = [300, 200, 200, 200, 100].map(class).to_vec();
            manifest.hardly_learnt(&manifest.experiment.stages[0], &manifest.result["baseline"])
        };
        let expected = "test_top1 32.3 % of 1000 images, a constant answer gets 30.0 %";
        assert_eq!([of_largest(0.323).as_deref(), of_largest(0.324).as_deref()], [Some(expected), None]);
        // 0.25 + 1.645 · √(0.25 · 0.75 / 1000) = 0.2725; a third of the others.
        let tasks = |rotation: f64| {
            let learnt = [("test_shear_top1", 0.9), ("test_color_top1", 0.9)];
            of("pretext", &[&[("test_rotation_top1", rotation), ("train_rotation_top1", 0.9)], &learnt[..]].concat())
        };
        let expected = "test_rotation_top1 27.2 % of 1000 images, chance is 25.0 %";
        assert_eq!([tasks(0.272).as_deref(), tasks(0.273).as_deref()], [Some(expected), None]);
        let loss = |loss: f64| of("simsiam", &[("train_loss", loss)]);
        let expected = "loss -0.0400, where views that agree have -1, and unrelated ones 0";
        assert_eq!([loss(-0.04).as_deref(), loss(-0.11).as_deref()], [Some(expected), None]);
    }

    /// Of classes with 180, 10 and 10 test images: a constant answer has 90 % of the images, and a third of the classes.
    #[test]
    fn more_of_the_small_classes_is_learning_too() {
        let of = |top1: f64, balanced: f64| {
            let mut manifest = with("baseline", &[("test_top1", top1), ("test_balanced_top1", balanced)]);
            let class = |test: usize| ClassCount { name: "a".to_owned(), train: 0, test };
            manifest.classes = [180, 10, 10].map(class).to_vec();
            manifest.hardly_learnt(&manifest.experiment.stages[0], &manifest.result["baseline"]).is_some()
        };
        assert!(of(0.9, 1.0 / 3.0), "a constant answer");
        assert!(!of(0.755, 0.72), "fewer images, twice as many of the classes");
        // 1/3 + 1.645 · √(2/9 · (1/180 + 1/10 + 1/10)) / 3 = 0.4505.
        assert_eq!([of(0.5, 0.450), of(0.5, 0.451)], [true, false]);
    }

    /// As many as the run has: of each class a share that is rounded down.
    #[test]
    fn the_images_that_validate_are_counted_by_class() {
        let said = |labels: &str, train: [usize; 3]| {
            let yaml = format!(
                "{{name: t, dataset: {{name: folder, train: {}, test: 30, classes: 3, sha256: x}}, labels: {labels},
                stages: [{{name: a, method: pretext, batch: 4}}]}}",
                train.iter().sum::<usize>()
            );
            let experiment = Experiment::parse("t.yaml".as_ref(), &yaml).unwrap();
            let mut manifest = Manifest::new(&experiment, "cpu");
            let class = |train: usize| ClassCount { name: "a".to_owned(), train, test: 10 };
            manifest.classes = train.map(class).to_vec();
            let metrics = [("validation_rotation_top1".to_owned(), 0.25)].into();
            let trained =
                Trained { history: vec![Record { epoch: 1, metrics }], chosen: None, weights: Weights::default() };
            manifest.hardly_learnt(&experiment.stages[0], &StageResult::new(&trained).unwrap()).unwrap()
        };
        let proportional = said("{count: 45, choose: proportional, validation: 0.1}", [270, 15, 15]);
        assert_eq!(proportional, "validation_rotation_top1 25.0 % of 4 images, chance is 25.0 %", "of 41, 2 and 2");
        let stratified = said("{count: 45, choose: stratified, validation: 0.1}", [270, 15, 15]);
        assert!(stratified.contains(" of 3 images"), "{stratified}");
        let all = said("{count: all, validation: 0.1}", [29, 15, 15]);
        assert!(all.contains(" of 4 images"), "2, 1 and 1: {all}");
    }

    /// Tested once, after the last epoch: the test images judge, not those that it has trained on.
    #[test]
    fn a_method_that_is_tested_once_is_judged_by_the_test() {
        let yaml = YAML.replace("stages:", "test: once\nstages:");
        let manifest = Manifest::new(&Experiment::parse("t.yaml".as_ref(), &yaml).unwrap(), "cpu");
        let record =
            |name: &str, top1: f64| Record { epoch: 1, metrics: [(format!("{name}_rotation_top1"), top1)].into() };
        let said = |top1: f64| {
            let (history, chosen) = (vec![record("train", 0.9)], Some(record("test", top1)));
            let result = StageResult::new(&Trained { history, chosen, weights: Weights::default() }).unwrap();
            manifest.hardly_learnt(&manifest.experiment.stages[1], &result)
        };
        assert_eq!(said(0.25).unwrap(), "test_rotation_top1 25.0 % of 1000 images, chance is 25.0 %");
        assert_eq!(said(0.5), None);
    }

    #[test]
    fn the_notes_name_the_stages_that_have_hardly_learnt() {
        let notes = |stage: &str, name: &str, value: f64| with(stage, &[(name, value)]).learning_notes();
        let expected = "hardly learnt: simsiam; stages that start from it may do no better than from random weights";
        assert_eq!(notes("simsiam", "train_loss", -0.04), [expected]);
        assert_eq!(notes("probe", "test_top1", 0.1), ["hardly learnt: probe; not measurably better than chance"]);
        assert_eq!(notes("simsiam", "train_loss", -0.7), [""; 0]);
    }

    /// Every stage of the published results has learnt, and says nothing, but for SimSiam on drawn shapes with one seed.
    #[test]
    fn no_other_stage_of_a_golden_manifest_has_hardly_learnt() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let golden: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect();
        assert!(golden.len() >= 5, "{golden:?}");
        for path in golden {
            let manifest = Manifest::load_claim(&path).unwrap();
            let expected: &[&str] = match path.ends_with("quick-seeds.json") {
                true => &["hardly learnt: simsiam-probe (1 of 5 seeds); not measurably better than chance"],
                false => &[],
            };
            assert_eq!(manifest.learning_notes(), expected, "{}", path.display());
        }
    }
}
