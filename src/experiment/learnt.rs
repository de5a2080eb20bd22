//! Whether a stage's result differs from that of weights that have learnt nothing.

use super::table::{metric, results};
use super::{Manifest, Stage, StageMethod, StageResult};
use crate::data::share_of;
use crate::network::PRETEXT_HEADS;

/// The 95 % point of the standard normal distribution. The accuracy of guessing on n images has the chance level c as its
/// mean and √(c(1 − c)/n) as its standard deviation (binomial). An accuracy of less than c plus Z of these is no evidence
/// of learning: a one-sided test of a proportion at 5 %.
const Z: f64 = 1.645;

/// SimSiam's loss is the negative cosine between a view's prediction and the other view (Chen and He, 2021, equation 1).
/// With random weights the two are unrelated, and in d dimensions their cosine is 0 ± 1/√d (0.02 for 2,048). A
/// prediction with cosine c explains c² of a unit vector: below this threshold, less than one per cent.
const LEAST_COSINE: f64 = 0.1;

fn is_chance(top1: f64, n: usize, chance: f64) -> bool {
    top1 <= chance + Z * (chance * (1.0 - chance) / n as f64).sqrt()
}

impl Manifest {
    /// The evidence in its result that a stage has hardly learnt; none if it has learnt.
    pub(crate) fn hardly_learnt(&self, stage: &Stage, result: &StageResult) -> Option<String> {
        let guessing = |name: &str, top1: f64, n: usize, chance: f64| {
            let (value, level) = (metric(name, top1), 100.0 * chance);
            is_chance(top1, n, chance).then(|| format!("{value} of {n} images, chance is {level:.1} %"))
        };
        let test = self.experiment.dataset.test.map_or(0, |images| images.0);
        match stage.method {
            StageMethod::Simsiam => {
                let loss = *result.last.metrics.get("train_loss")?;
                let is_near_0 = -loss < LEAST_COSINE;
                is_near_0.then(|| format!("loss {loss:.4}, where views that agree have -1, and unrelated ones 0"))
            }
            StageMethod::Pretext => {
                let validating = share_of(self.experiment.label_count(stage), self.experiment.labels.validation.0);
                let judged = [
                    ("test", test),
                    ("validation", validating),
                    ("train", self.experiment.dataset.train.map_or(0, |images| images.0)),
                ];
                let at_chance = PRETEXT_HEADS.iter().filter_map(|(head, classes)| {
                    let task = head.trim_end_matches("_head");
                    let named = |(set, n)| (format!("{set}_{task}_top1"), n);
                    let found = judged.map(named).into_iter().find(|(name, _)| result.last.metrics.contains_key(name));
                    let (name, n) = found?;
                    guessing(&name, result.last.metrics[&name], n, 1.0 / *classes as f64)
                });
                let at_chance: Vec<String> = at_chance.collect();
                (!at_chance.is_empty()).then(|| at_chance.join("; "))
            }
            _ => {
                // A constant answer gets the largest class right.
                let even = 1.0 / self.experiment.dataset.class_count() as f64;
                let chance = self.largest_class().map_or(even, |(_, share)| share);
                guessing("test_top1", result.top1()?, test, chance)
            }
        }
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
            self.experiment.stages.iter().partition(|stage| stage.method.classifies());
        let note = |stages: Vec<&Stage>, end: &str| {
            let names: Vec<String> = stages.into_iter().filter_map(named).collect();
            (!names.is_empty()).then(|| format!("hardly learnt: {}{end}", names.join(", ")))
        };
        let builds_on_it = "; a stage on these weights may measure little more than random ones";
        let chance = match self.largest_class() {
            Some(_) => "; no better than a constant answer",
            None => "; no better than chance",
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
        let expected = "test_top1 32.3 % of 1000 images, chance is 30.0 %";
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

    #[test]
    fn the_notes_name_the_stages_that_have_hardly_learnt() {
        let notes = |stage: &str, name: &str, value: f64| with(stage, &[(name, value)]).learning_notes();
        let expected = "hardly learnt: simsiam; a stage on these weights may measure little more than random ones";
        assert_eq!(notes("simsiam", "train_loss", -0.04), [expected]);
        assert_eq!(notes("probe", "test_top1", 0.1), ["hardly learnt: probe; no better than chance"]);
        assert_eq!(notes("simsiam", "train_loss", -0.7), [""; 0]);
    }

    /// Every stage of the published results has learnt, and says nothing.
    #[test]
    fn no_stage_of_a_golden_manifest_has_hardly_learnt() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/golden");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let golden: Vec<_> = files.filter(|path| path.extension().is_some_and(|ending| ending == "json")).collect();
        assert!(golden.len() >= 5, "{golden:?}");
        for path in golden {
            let manifest = Manifest::load_claim(&path).unwrap();
            assert_eq!(manifest.learning_notes(), [""; 0], "{}", path.display());
        }
    }
}
