//! Which training images have labels: how many, how they are chosen, how many of them validate.

use std::fmt::Formatter;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IntoDeserializer, MapAccess, Unexpected, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::defaults::Conflict;
use super::{Experiment, Images, Share, Stage};
use crate::data::{Choose, not_stratified, share_of};

/// How many labelled images there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Count {
    /// Every training image is labelled: `all` in a file.
    All,
    /// A number of them.
    Images(Images),
}

/// What [`Count::All`] is in a file.
const ALL: &str = "all";

impl Serialize for Count {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Count::All => serializer.serialize_str(ALL),
            Count::Images(images) => images.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Count, D::Error> {
        struct Either;

        /// The number's own check and message.
        fn number<'de, E: Error>(value: impl IntoDeserializer<'de, E>) -> Result<Count, E> {
            Images::deserialize(value.into_deserializer()).map(Count::Images)
        }

        impl Visitor<'_> for Either {
            type Value = Count;

            fn expecting(&self, f: &mut Formatter) -> std::fmt::Result {
                f.write_str("a whole number of images, or `all`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Count, E> {
                if text == ALL { Ok(Count::All) } else { Err(E::invalid_value(Unexpected::Str(text), &self)) }
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Count, E> {
                number(value)
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Count, E> {
                number(value)
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Count, E> {
                number(value)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Which training images have labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "labels: {count: …, choose: …}, or `all`")]
pub struct Labels {
    /// How many; 5,000 unless given.
    pub count: Count,
    /// Which, where some are to be chosen; the first unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choose: Option<Choose>,
    /// The share of them that is not trained on but chooses each classifier's epoch; the test images are then looked at
    /// once, after it. 0 unless given: the test images are looked at after every epoch.
    #[serde(skip_serializing_if = "is_none")]
    pub validation: Share,
}

fn is_none(share: &Share) -> bool {
    share.0 == 0.0
}

impl Default for Labels {
    fn default() -> Labels {
        Labels { count: Count::Images(Images(5000)), choose: None, validation: Share::default() }
    }
}

impl Labels {
    /// From a map, or from the plain word `all`.
    pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Labels, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Labels;

            fn expecting(&self, f: &mut Formatter) -> std::fmt::Result {
                f.write_str("labels: {count: …, choose: …}, or `all`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Labels, E> {
                match text {
                    ALL => Ok(Labels { count: Count::All, ..Labels::default() }),
                    _ => Err(E::invalid_value(Unexpected::Str(text), &self)),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Labels, A::Error> {
                Labels::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_any(Either)
    }

    /// Fills in which images are chosen, where some are.
    pub(super) fn complete(&mut self, stages: &[Stage]) -> Result<(), Conflict> {
        let mut counts = stages.iter().filter_map(|stage| stage.labels).chain([self.count]);
        match (self.choose, counts.any(|count| count != Count::All)) {
            (None, true) => self.choose = Some(Choose::First),
            (Some(_), false) => {
                let message = "labels.choose: all images have labels, there is nothing to choose: leave it out";
                return Err(Conflict::new(&["labels", "choose"], message));
            }
            _ => {}
        }
        Ok(())
    }

    /// How many of the `count` labelled images that `key` gives are trained on, at most: how many it is, the classes'
    /// sizes decide unless there are equally many of each. Or what is wrong with the number.
    pub(super) fn check(&self, key: &str, count: Count, train: usize, classes: usize) -> Result<usize, String> {
        let share = self.validation.0;
        let nothing = |of: String| Err(format!("{key}: a validation share of {share} takes none of {of}"));
        let count = match count {
            Count::Images(Images(count)) if count > train => {
                let unless =
                    if Count::Images(Images(count)) == Labels::default().count { " (the default)" } else { "" };
                let remedy = format!("take at most {train}, or `labels: all`");
                return Err(format!("{key}: {count} labels{unless}, but only {train} training images: {remedy}"));
            }
            Count::Images(Images(count)) if self.choose == Some(Choose::Stratified) => {
                if !count.is_multiple_of(classes) {
                    return Err(format!("{key}: {}", not_stratified(count, classes)));
                }
                let (each, validate) = (count / classes, share_of(count / classes, share));
                if share > 0.0 && validate == 0 {
                    return nothing(format!("the {each} images of each class"));
                }
                if validate == each {
                    return Err(format!("{key}: {share} of {count} images leave none to train on"));
                }
                return Ok(count - classes * validate);
            }
            Count::Images(Images(count)) => count,
            Count::All => train,
        };
        if share > 0.0 && share_of(count, share) == 0 {
            return nothing(format!("the {count} images"));
        }
        Ok(count)
    }
}

impl Experiment {
    /// The stage's labelled images, as the file has it.
    pub(super) fn count(&self, stage: &Stage) -> Count {
        stage.labels.unwrap_or(self.labels.count)
    }

    /// How many labelled images the stage has, those that validate included.
    pub fn label_count(&self, stage: &Stage) -> usize {
        self.images(self.count(stage))
    }

    /// The largest [`Experiment::label_count`] of the stage and those before it that its weights come from and that use labels: how
    /// many labels its accuracy takes.
    pub fn labels_behind(&self, stage: &Stage) -> usize {
        let before = std::iter::successors(self.source(stage), |stage| self.source(stage));
        let before = before.filter(|stage| stage.method.uses_labels).map(|stage| self.label_count(stage));
        before.fold(self.label_count(stage), usize::max)
    }

    /// How many training images `count` is.
    pub(crate) fn images(&self, count: Count) -> usize {
        match count {
            Count::Images(images) => images.0,
            Count::All => self.dataset.train.map_or(0, |train| train.0),
        }
    }
}
