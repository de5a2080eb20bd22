//! The study's recipe as the defaults of an experiment, and checks across its parts.

use std::collections::BTreeSet;

use serde_json::Value;

use super::yaml::{in_words, suggestion};
use super::{
    BatchSize, DatasetName, Decay, Epochs, Experiment, Images, Name, OptimizerName, RANDOM, Rate, Share, Stage,
};
use crate::method::{self, Head, Kind, Learner, Method, Settings, Unlabelled};
use crate::network::{Mode, Widths};
use crate::optimizer::Decayed;
use crate::suggest::did_you_mean;
use crate::train::Test;

/// A mistake that no single value shows, and where it is in the file: keys and `name: …`, the outermost first.
pub(super) struct Conflict {
    pub at: Vec<String>,
    pub message: String,
}

impl Conflict {
    pub fn new(at: &[&str], message: impl Into<String>) -> Conflict {
        Conflict { at: at.iter().map(|&part| part.to_owned()).collect(), message: message.into() }
    }

    /// About a stage's `key`, or about the stage.
    pub fn of_stage(name: &str, key: Option<&str>, message: impl std::fmt::Display) -> Conflict {
        let named = format!("name: {name}");
        let at: Vec<&str> = ["stages", &named].into_iter().chain(key).collect();
        Conflict::new(&at, format!("stage {name}: {message}"))
    }
}

/// Images of the real CIFAR-10 and CIFAR-100: training and test.
const CIFAR: [usize; 2] = [50_000, 10_000];
/// The most stages, and the most over all seeds.
const MOST_STAGES: [usize; 2] = [1_000, 100_000];
/// Images of the synthetic set by default.
const SYNTHETIC: [usize; 2] = [10_000, 2_000];

/// Settings that cannot be read.
pub(super) struct Misread {
    /// The key and its value, where it is known which.
    pub at: Vec<String>,
    pub message: String,
}

/// What `read` makes of the settings, and all of them in order.
pub(super) fn read_settings<T>(
    settings: &Settings,
    read: fn(Settings) -> serde_json::Result<(T, Settings)>,
) -> Result<(T, Settings), Misread> {
    read(settings.clone()).map_err(|whole| {
        // Which of them it is.
        let alone = |(key, value): (&String, &Value)| {
            let error = read(Settings::from_iter([(key.clone(), value.clone())])).err()?;
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            Some((key.clone(), value, error.to_string()))
        };
        match settings.iter().find_map(alone) {
            Some((key, value, error)) => {
                let message = format!("{key}: {}{}", in_words(&error), suggestion(&error));
                Misread { at: vec![key, value], message }
            }
            None => Misread { at: vec![], message: whole.to_string() },
        }
    })
}

impl Experiment {
    /// Leaves `test` out where it says nothing new, so that an experiment has one form.
    fn complete_test(&mut self) -> Result<(), Conflict> {
        let test = self.test.take();
        if test == Some(Test::EveryEpoch) && self.validates() {
            let message =
                "test: every_epoch: where labels.validation chooses the epochs, the test images are used once";
            return Err(Conflict::new(&["test"], message));
        }
        self.test = test.filter(|test| *test != self.tests());
        let watched = self.stages.iter().find(|stage| stage.knn_every.is_some());
        if let Some(stage) = watched.filter(|_| self.test == Some(Test::Once)) {
            let message =
                "knn_every: with test: once and without labels.validation there are no images to measure it on";
            return Err(Conflict::of_stage(&stage.name, Some("knn_every"), message));
        }
        Ok(())
    }

    /// Fills in every default, and checks values against each other.
    pub(super) fn complete(&mut self) -> Result<(), Conflict> {
        self.dataset.check_keys()?;
        let name = self.dataset.name;
        let whole = match name {
            DatasetName::Cifar10 | DatasetName::Cifar100 => CIFAR,
            DatasetName::Synthetic => SYNTHETIC,
            DatasetName::Folder | DatasetName::Own(_) => [0, 0],
        };
        let is_cifar = matches!(name, DatasetName::Cifar10 | DatasetName::Cifar100);
        let sizes = [&mut self.dataset.train, &mut self.dataset.test];
        for ((size, whole), key) in sizes.into_iter().zip(whole).zip(["train", "test"]) {
            let given = size.get_or_insert(Images(whole)).0;
            if is_cifar && given > whole {
                let message = format!("dataset.{key}: the whole set has {whole} images, not {given}");
                return Err(Conflict::new(&["dataset", key], message));
            }
        }
        let train = self.dataset.train.map_or(0, |images| images.0);
        let classes = self.dataset.class_count();
        self.network.complete(self.dataset.side.0)?;
        self.labels.complete(&self.stages)?;
        let left = self
            .labels
            .check("labels.count", self.labels.count, train, classes)
            .map_err(|message| Conflict::new(&["labels", "count"], message))?;
        self.complete_test()?;
        if self.stages.is_empty() {
            return Err(Conflict::new(&["stages"], "stages: at least one is required"));
        }
        let [stages, over_seeds] = [self.stages.len(), self.stages.len() * self.seeds.0 as usize];
        if stages > MOST_STAGES[0] || over_seeds > MOST_STAGES[1] {
            let [most, most_over_seeds] = MOST_STAGES;
            let message =
                format!("stages: {stages}, {over_seeds} over the seeds; {most} and {most_over_seeds} are the most");
            return Err(Conflict::new(&["stages"], message));
        }
        let mut names = BTreeSet::new();
        for stage in &mut self.stages {
            if !names.insert(stage.name.clone()) {
                let again = format!("name: {}", stage.name);
                return Err(Conflict::of_stage(&stage.name, Some(&again), "the name is used twice"));
            }
            if *stage.name == *RANDOM {
                return Err(Conflict::of_stage(RANDOM, None, "the name is reserved for random weights"));
            }
            if stage.name.strip_prefix("seed-").is_some_and(|seed| seed.parse::<u64>().is_ok()) {
                return Err(Conflict::of_stage(&stage.name, None, "the name is reserved for all stages of a seed"));
            }
            stage.fill_in_settings()?;
            stage.fill_in();
            let left = match stage.labels {
                Some(labels) => {
                    let left = self.labels.check("labels", labels, train, classes);
                    left.map_err(|message| Conflict::of_stage(&stage.name, Some("labels"), message))?
                }
                None => left,
            };
            stage.check(if stage.method.uses_labels { left } else { train }, train)?;
        }
        if let Some(claim) = self.claims.iter().find(|claim| claim.better == claim.than) {
            let message = format!("claims: {} is compared with itself", claim.better);
            return Err(Conflict::new(&["claims", &claim.better], message));
        }
        for name in self.claims.iter().flat_map(|claim| [&claim.better, &claim.than]) {
            let known: Vec<&str> = self.stages.iter().filter(|s| s.classifies()).map(|s| &*s.name).collect();
            if !known.contains(&&**name) {
                let message = match self.stages.iter().any(|stage| stage.name == *name) {
                    true => format!("claims: {name} is not a stage that classifies the test images"),
                    false => format!("claims: there is no stage {name}; these can be compared: {}", known.join(", ")),
                };
                return Err(Conflict::new(&["claims", name], message + &did_you_mean(name, known)));
            }
        }
        super::plan(&self.stages, &[]).map(|_| ())
    }
}

impl Stage {
    /// The defaults of the method.
    fn fill_in(&mut self) {
        let Some(Learner { defaults, .. }) = &self.method.learner else { return };
        self.epochs.get_or_insert(Epochs(defaults.epochs));
        let batch = self.batch.get_or_insert(BatchSize(defaults.batch)).0;
        let sgd = *self.optimizer.get_or_insert(defaults.optimizer) == OptimizerName::Sgd;
        self.schedule.get_or_insert(defaults.schedule);
        let method = self.learner();
        self.average = self.average.or_else(|| method.as_ref()?.average().map(Decay));
        let may_start_anew = self.method.transfers && method.is_some_and(|method| method.unlabelled().is_some());
        if self.from.is_none() && may_start_anew {
            self.from = Name::new(RANDOM);
        }
        // Chen and He (2021): lr × batch / 256 and momentum 0.9 (§3, baseline settings), weight decay 5e-4 as on CIFAR-10
        // (appendix D).
        self.lr.get_or_insert(Rate(if sgd { defaults.sgd_lr * batch as f64 / 256.0 } else { 1e-3 }));
        if sgd {
            self.momentum.get_or_insert(Share(0.9));
            self.weight_decay.get_or_insert(Share(5e-4));
            self.nesterov = self.nesterov.filter(|&nesterov| nesterov);
            self.decayed = self.decayed.filter(|&decayed| decayed != Decayed::default());
        }
    }

    /// Completes the method's own keys.
    fn fill_in_settings(&mut self) -> Result<(), Conflict> {
        if let Some(key) = self.settings.keys().find(|key| !self.method.keys().contains(&&***key)) {
            let of: Vec<&str> =
                method::kinds().iter().filter(|kind| kind.keys().contains(&&**key)).map(|kind| kind.name).collect();
            let message = format!("`{key}` is only for method: {}", of.join(" or "));
            return Err(Conflict::of_stage(&self.name, Some(key), message));
        }
        let Some(Learner { read, .. }) = self.method.learner else { return Ok(()) };
        match read_settings(&self.settings, read) {
            Ok((method, complete)) => {
                self.settings = complete;
                method.check().map_err(|fault| Conflict::of_stage(&self.name, Some(fault.key), fault.message))
            }
            Err(Misread { at, message }) => {
                let mut conflict = Conflict::of_stage(&self.name, None, message);
                conflict.at.extend(at);
                Err(conflict)
            }
        }
    }

    /// What the method and optimizer need and have no use for; `images`: how many the stage trains on with labels, at most, or
    /// without, of `all`.
    fn check(&self, images: usize, all: usize) -> Result<(), Conflict> {
        let fail = |key: Option<&str>, message: String| Err(Conflict::of_stage(&self.name, key, message));
        let Kind { transfers, uses_labels, ref learner, .. } = *self.method;
        let classifies = self.classifies();
        if classifies && !uses_labels {
            let message = format!("{} has a head for the data's labels, and does not use labels", self.method.name);
            return fail(Some("method"), message);
        }
        let unlabelled = self.learner().and_then(|method| method.unlabelled());
        if unlabelled.is_some_and(|of| !uses_labels || !(1..=of.ratio).contains(&of.first)) {
            let name = self.method.name;
            let message = format!(
                "{name} must use labels, and have 1 image without labels or more for each, no fewer at the end than at first"
            );
            return fail(Some("method"), message);
        }
        if transfers && self.from.is_none() {
            return fail(None, "needs `from`, the stage whose weights it starts from".to_owned());
        }
        let (sgd, trains) = (self.optimizer == Some(OptimizerName::Sgd), learner.is_some());
        let unused = [
            ("from", self.from.is_some() && !transfers, methods(|kind| kind.transfers)),
            ("labels", self.labels.is_some() && !uses_labels, "a method that uses labels".to_owned()),
            ("epochs", self.epochs.is_some() && !trains, "a method that trains".to_owned()),
            ("batch", self.batch.is_some() && !trains, "a method that trains".to_owned()),
            ("optimizer", self.optimizer.is_some() && !trains, "a method that trains".to_owned()),
            ("lr", self.lr.is_some() && !trains, "a method that trains".to_owned()),
            ("schedule", self.schedule.is_some() && !trains, "a method that trains".to_owned()),
            ("warmup", self.warmup.is_some() && !trains, "a method that trains".to_owned()),
            ("average", self.average.is_some() && !trains, "a method that trains".to_owned()),
            ("shards", self.shards.is_some() && !trains, "a method that trains".to_owned()),
            (
                "test_views",
                self.test_views.is_some() && !(trains && classifies),
                "a method that trains a classifier".to_owned(),
            ),
            ("knn_every", self.knn_every.is_some() && classifies, "a method that does not classify".to_owned()),
            ("claim", self.claim.is_some() && !classifies, "a method that classifies".to_owned()),
            ("momentum", self.momentum.is_some() && !sgd, "optimizer: sgd".to_owned()),
            ("weight_decay", self.weight_decay.is_some() && !sgd, "optimizer: sgd".to_owned()),
            ("nesterov", self.nesterov.is_some() && !sgd, "optimizer: sgd".to_owned()),
            ("decayed", self.decayed.is_some() && !sgd, "optimizer: sgd".to_owned()),
        ];
        if let Some((key, _, of)) = unused.into_iter().find(|(_, wrong, _)| *wrong) {
            return fail(Some(key), format!("`{key}` is only for {of}"));
        }
        if let Some([low, high]) = self.claim.filter(|[_, high]| high.0 > 0.0 && high.0 <= 1.0) {
            let message =
                format!("claim: {} to {} is no accuracy in per cent: [63, 65], not [0.63, 0.65]", low.0, high.0);
            return fail(Some("claim"), message);
        }
        if let Some([low, high]) = self.claim.filter(|[low, high]| low.0 > high.0) {
            return fail(Some("claim"), format!("claim: {} is above {}", low.0, high.0));
        }
        if self.average.is_some() && self.learner().is_some_and(|method| method.has_teacher()) {
            let message = format!("average: {} keeps an average of its own, which teaches it", self.method.name);
            return fail(Some("average"), message);
        }
        let once = |method: &dyn Method| method.network(&Widths::default()).is_frozen(Mode::Eval);
        if unlabelled.is_some() && self.learner().is_some_and(|method| once(&*method)) {
            let message =
                "features of a backbone that is frozen in eval mode are computed once, of the labelled images alone"
                    .to_owned();
            return fail(Some("method"), message);
        }
        if self.test_views.is_some()
            && !self.learner().is_some_and(|method| method.heads().iter().all(Head::is_of_data))
        {
            let message = "test_views: the method has a head for labels of its own, which may differ in a mirror image";
            return fail(Some("test_views"), message.to_owned());
        }
        if self.test_views.is_some() && self.learner().is_some_and(|method| once(&*method)) {
            let message = "test_views: features of a backbone that is frozen in eval mode are computed once";
            return fail(Some("test_views"), message.to_owned());
        }
        if self.nesterov == Some(true) && self.momentum.is_some_and(|momentum| momentum.0 == 0.0) {
            return fail(Some("nesterov"), "nesterov: there is no momentum".to_owned());
        }
        if let Some((warmup, epochs)) = self.warmup.zip(self.epochs).filter(|(warmup, epochs)| warmup.0 >= epochs.0) {
            let message = format!("warmup: {} of {} epochs leaves none for the schedule", warmup.0, epochs.0);
            return fail(Some("warmup"), message);
        }
        if let Some((shards, batch)) = self.shards.zip(self.batch).filter(|(shards, batch)| shards.0 > batch.0) {
            let message = format!("shards: a batch of {} images cannot be split into {}", batch.0, shards.0);
            return fail(Some("shards"), message);
        }
        self.check_batch(images, all)
    }

    /// Whether a batch is no more than the `images` that the stage trains on, and one with images without labels no more than
    /// `all`: of labelled ones it may have some twice then.
    pub(super) fn check_batch(&self, images: usize, all: usize) -> Result<(), Conflict> {
        let Some(BatchSize(batch)) = self.batch else { return Ok(()) };
        let message = match self.learner().and_then(|method| method.unlabelled()) {
            Some(Unlabelled { ratio, .. }) if ratio * batch > all => {
                format!(
                    "batch: {batch}, with {ratio} images without labels for each, is more than the {all} that there are"
                )
            }
            None if batch > images => format!("batch: {batch} is more than the {images} images that it trains on"),
            _ => return Ok(()),
        };
        Err(Conflict::of_stage(&self.name, Some("batch"), message))
    }
}

/// "a, b or c": the methods for which `wanted` holds.
fn methods(wanted: impl Fn(&Kind) -> bool) -> String {
    let names: Vec<&str> = method::kinds().into_iter().filter(|kind| wanted(kind)).map(|kind| kind.name).collect();
    match &names[..] {
        [first @ .., last] if !first.is_empty() => format!("{} or {last}", first.join(", ")),
        _ => names.concat(),
    }
}
