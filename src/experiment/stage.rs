//! A stage: its keys in an experiment file, and what they make of it, a recipe for [`crate::train`].

use std::sync::Arc;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeSeed, Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::{BatchSize, Count, Decay, Epochs, Experiment, Name, OptimizerName, Percent, Rate, ShardCount, Share};
use crate::evaluate::{Knn, TestViews};
use crate::method::{self, Head, Kind, Method, Settings};
use crate::network::Network;
use crate::optimizer::{Decayed, Rule, Schedule};
use crate::settings::Strict;
use crate::suggest::nearest;
use crate::train::{Monitor, Recipe};

/// A stage. What is left out gets the method's defaults; a key that the method or the optimizer does not use is an error.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Stage {
    /// Names its folder in the run directory.
    pub name: Name,
    /// How it learns.
    pub method: &'static Kind,
    /// The stage whose weights it starts from, or [`RANDOM`](super::RANDOM); required for a method that transfers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<Name>,
    /// How many labelled images; by default the experiment's `labels.count`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<Count>,
    /// How often it sees all its images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<Epochs>,
    /// Images per step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchSize>,
    /// The update rule; [`Stage::rule`] has its constants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<OptimizerName>,
    /// The initial learning rate; by default 1e-3 with `adam`, with `sgd` the method's ([`method::Defaults`]).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lr: Option<Rate>,
    /// Of `sgd`; 0.9 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub momentum: Option<Share>,
    /// Of `sgd`; 5e-4 by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<Share>,
    /// Of `sgd`: whether momentum is Nesterov's; left out if not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nesterov: Option<bool>,
    /// Of `sgd`: what weight decay is on; left out if on every parameter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decayed: Option<Decayed>,
    /// Of the learning rate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Epochs in which the learning rate grows to `lr`, before the schedule begins; none by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup: Option<Epochs>,
    /// d of the average of the network that is evaluated in its stead and becomes the stage's weights: after each step average ←
    /// d·average + (1 − d)·network, running statistics included; in step k (from 1) d is k/(9 + k) at most. By default the
    /// method's: none, but for semi-supervised ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub average: Option<Decay>,
    /// Shards of each batch: how its sums are split, and so between how many processes it can be. One by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shards: Option<ShardCount>,
    /// Of a method that classifies: the views of each test or validation image whose logits are averaged. Only the image itself
    /// by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test_views: Option<TestViews>,
    /// The method's own keys.
    #[serde(flatten)]
    pub settings: Settings,
    /// Of a method that does not classify: epochs between two measurements of the backbone's kNN accuracy; the last epoch has one
    /// too.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub knn_every: Option<Epochs>,
    /// The test accuracy that the study claims for this stage, from and to, in per cent: shown beside the result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<[Percent; 2]>,
}

/// The keys that every stage may have.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "a stage: {name: …, method: …}")]
struct Common {
    name: Name,
    method: &'static Kind,
    from: Option<Name>,
    labels: Option<Count>,
    epochs: Option<Epochs>,
    batch: Option<BatchSize>,
    optimizer: Option<OptimizerName>,
    lr: Option<Rate>,
    momentum: Option<Share>,
    weight_decay: Option<Share>,
    nesterov: Option<bool>,
    decayed: Option<Decayed>,
    schedule: Option<Schedule>,
    warmup: Option<Epochs>,
    average: Option<Decay>,
    shards: Option<ShardCount>,
    test_views: Option<TestViews>,
    knn_every: Option<Epochs>,
    claim: Option<[Percent; 2]>,
}

/// Those before and after the method's own.
const COMMON: [&[&str]; 2] = [
    &[
        "name",
        "method",
        "from",
        "labels",
        "epochs",
        "batch",
        "optimizer",
        "lr",
        "momentum",
        "weight_decay",
        "nesterov",
        "decayed",
        "schedule",
        "warmup",
        "average",
        "shards",
        "test_views",
    ],
    &["knn_every", "claim"],
];

/// All keys of a stage, those of every method included.
pub(crate) fn keys() -> Vec<&'static str> {
    let mut own = vec![];
    for key in method::kinds().into_iter().flat_map(Kind::keys) {
        if !own.contains(key) {
            own.push(*key);
        }
    }
    with_common(&own)
}

/// Those of a stage of one method.
fn keys_of(method: &Kind) -> Vec<&'static str> {
    with_common(method.keys())
}

fn with_common(own: &[&'static str]) -> Vec<&'static str> {
    let [before, after] = COMMON;
    [before, own, after].concat()
}

impl<'de> Deserialize<'de> for Stage {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Stage, D::Error> {
        deserializer.deserialize_map(StageVisitor)
    }
}

struct StageVisitor;

impl<'de> Visitor<'de> for StageVisitor {
    type Value = Stage;

    fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("a stage: {name: …, method: …}")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Stage, A::Error> {
        let mut settings = Settings::new();
        let sorted = Sorted { map, settings: &mut settings, is_method: false, method: None };
        let common = Common::deserialize(MapAccessDeserializer::new(sorted))?;
        let Common { name, method, from, labels, epochs, batch, optimizer, lr, momentum, weight_decay, .. } = common;
        let Common { nesterov, decayed, schedule, warmup, average, shards, test_views, knn_every, claim, .. } = common;
        Ok(Stage {
            name,
            method,
            from,
            labels,
            epochs,
            batch,
            optimizer,
            lr,
            momentum,
            weight_decay,
            nesterov,
            decayed,
            schedule,
            warmup,
            average,
            shards,
            test_views,
            settings,
            knn_every,
            claim,
        })
    }
}

/// The entries of a stage but for those of methods' own keys, which it puts aside: the method may come after them.
struct Sorted<'a, A> {
    map: A,
    settings: &'a mut Settings,
    /// Whether the value to come is that of `method`.
    is_method: bool,
    /// Once it has been read.
    method: Option<&'static Kind>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Sorted<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        let mut seed = seed;
        loop {
            let Sorted { map, settings, is_method, method } = self;
            match map.next_key_seed(Key { seed, settings, is_method, method: *method })? {
                None => return Ok(None),
                Some(Sort::Common(key)) => return Ok(Some(key)),
                Some(Sort::Setting(key, unused)) => {
                    let Strict(value) = self.map.next_value()?;
                    self.settings.insert(key, value);
                    seed = unused;
                }
            }
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        if !self.is_method {
            return self.map.next_value_seed(seed);
        }
        let method: &'static Kind = self.map.next_value()?;
        self.method = Some(method);
        seed.deserialize(StrDeserializer::new(method.name))
    }
}

/// Looks at a key where its place is known.
struct Key<'a, K> {
    seed: K,
    settings: &'a Settings,
    is_method: &'a mut bool,
    method: Option<&'static Kind>,
}

enum Sort<V, K> {
    Common(V),
    /// The seed is for the next key.
    Setting(String, K),
}

impl<'de, K: DeserializeSeed<'de>> DeserializeSeed<'de> for Key<'_, K> {
    type Value = Sort<K::Value, K>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, K: DeserializeSeed<'de>> Visitor<'de> for Key<'_, K> {
    type Value = Sort<K::Value, K>;

    fn expecting(&self, formatter: &mut std::fmt::Formatter) -> std::fmt::Result {
        formatter.write_str("field identifier")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Self::Value, E> {
        *self.is_method = key == "method";
        if COMMON.iter().any(|keys| keys.contains(&key)) {
            return self.seed.deserialize(StrDeserializer::new(key)).map(Sort::Common);
        }
        if self.settings.contains_key(key) {
            return Err(E::custom(format!("duplicate field `{key}`")));
        }
        let mut known = keys();
        if known.contains(&key) {
            return Ok(Sort::Setting(key.to_owned(), self.seed));
        }
        // Those of its method, unless only another's is near.
        let own = self
            .method
            .map(keys_of)
            .filter(|own| nearest(key, own.iter().copied()).is_some() || nearest(key, known.iter().copied()).is_none());
        known = own.unwrap_or(known);
        let known: Vec<String> = known.iter().map(|key| format!("`{key}`")).collect();
        Err(E::custom(format!("unknown field `{key}`, expected one of {}", known.join(", "))))
    }
}

impl Stage {
    /// The method with its settings; none where nothing is trained.
    ///
    /// # Panics
    /// For settings that the method does not have. A stage that was read from a file has none.
    pub fn learner(&self) -> Option<Arc<dyn Method>> {
        let learner = self.method.learner.as_ref()?;
        let (method, _) = (learner.read)(self.settings.clone()).expect("checked when the stage was read");
        Some(method)
    }

    /// Whether it ends in an accuracy on the test images: nearest neighbours classify, or a head that is trained on the data's
    /// labels. All others only train a backbone.
    ///
    /// # Panics
    /// As [`Stage::learner`].
    pub fn classifies(&self) -> bool {
        self.learner().is_none_or(|method| method.heads().iter().any(Head::is_of_data))
    }

    /// The update rule.
    pub fn rule(&self) -> Rule {
        match self.optimizer {
            Some(OptimizerName::Sgd) => Rule::Sgd {
                momentum: self.momentum.map_or(0.0, |v| v.0),
                weight_decay: self.weight_decay.map_or(0.0, |v| v.0),
                nesterov: self.nesterov.unwrap_or_default(),
                decayed: self.decayed.unwrap_or_default(),
            },
            _ => Rule::Adam,
        }
    }
}

/// The kNN classifier of reruns of the study's code. The temperature is that of Wu et al.'s code for CIFAR-10
/// (lemniscate.pytorch, `cifar.py`, `--nce-t`); their paper has 0.07 on ImageNet.
pub(crate) const KNN: Monitor = Monitor { every: 1, knn: Knn { k: 20, temperature: 0.1 } };

impl Experiment {
    /// The network that the stage trains.
    pub fn network(&self, stage: &Stage) -> Network {
        let widths = self.widths();
        stage.learner().map_or_else(|| Network::backbone(&widths), |method| method.network(&widths))
    }

    /// All that training the stage needs but data and weights, for the experiment's first seed
    /// ([`Experiment::of_seed`] for another); none for a stage that trains nothing.
    ///
    /// # Panics
    /// If the stage has no `lr`, `epochs` or `batch`. One that was read from a file has them.
    pub fn recipe(&self, stage: &Stage) -> Option<Recipe> {
        let method = stage.learner()?;
        let schedule = stage.schedule.unwrap_or(Schedule::Constant);
        Some(Recipe {
            name: stage.name.to_string(),
            network: method.network(&self.widths()),
            rule: stage.rule(),
            lr: stage.lr.expect("filled in").0,
            schedule,
            head_schedule: method.head_schedule().unwrap_or(schedule),
            average: stage.average.map(|decay| decay.0),
            warmup: stage.warmup.map_or(0, |epochs| epochs.0),
            epochs: stage.epochs.expect("filled in").0,
            batch: stage.batch.expect("filled in").0,
            shards: stage.shards.map_or(1, |shards| shards.0),
            seed: self.seed.0,
            test: self.tests(),
            test_views: stage.test_views,
            monitor: stage.knn_every.map(|every| Monitor { every: every.0, ..KNN }),
            method,
        })
    }
}
