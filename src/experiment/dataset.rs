//! Which images an experiment is about.

use std::path::Path;

use serde::de::{Deserializer, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::defaults::Conflict;
use super::{Classes, Images, Side};
use crate::data::folder::Background;
use crate::data::{BUILT_IN, CLASSES, Data, Kind, SIDE, kinds};
use crate::error::{Error, Result};
use crate::text::{path_word, word};

/// The data set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, expecting = "a data set: {name: …}")]
pub struct DatasetSpec {
    /// Where they are from.
    pub name: DatasetName,
    /// How many training images, the first ones; by default all of CIFAR-10 and CIFAR-100, and 10,000 synthetic ones.
    /// Required for a folder and a program's own, where it must be all of them.
    pub train: Option<Images>,
    /// How many test images, likewise; by default 2,000 synthetic ones.
    pub test: Option<Images>,
    /// The number of classes of a folder or a program's own, where it is required.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub classes: Option<Classes>,
    /// SHA-256 of the images of a folder or a program's own as the networks get them ([`crate::data::Data::sha256`]), where
    /// it is required: other images are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Of a folder: what is seen through transparent pixels; white unless given.
    #[serde(default, skip_serializing_if = "is_white")]
    pub background: Background,
    /// Height and width of the images of a folder or a program's own as the networks get them; 32 unless given, and for
    /// every other data set.
    #[serde(default = "side_of_cifar", skip_serializing_if = "is_side_of_cifar")]
    pub side: Side,
}

fn is_white(background: &Background) -> bool {
    *background == Background::default()
}

fn side_of_cifar() -> Side {
    Side(SIDE)
}

fn is_side_of_cifar(side: &Side) -> bool {
    *side == side_of_cifar()
}

/// A data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetName {
    /// The first 50,000 and the last 10,000 images of CIFAR-10 ([`crate::data::cifar10`]).
    Cifar10,
    /// With its 100 fine labels ([`crate::data::cifar100`]).
    Cifar100,
    /// One's own images ([`crate::data::folder`]).
    Folder,
    /// Drawn from the experiment's seed ([`crate::data::synthetic`]).
    Synthetic,
    /// One that the program has added ([`crate::data::register`]).
    Own(&'static Kind),
}

impl DatasetName {
    /// In the order of their names in [`BUILT_IN`].
    const ALL: [DatasetName; BUILT_IN.len()] =
        [DatasetName::Cifar10, DatasetName::Cifar100, DatasetName::Folder, DatasetName::Synthetic];

    fn find(name: &str) -> Option<DatasetName> {
        let built_in = BUILT_IN.iter().position(|known| *known == name).map(|at| DatasetName::ALL[at]);
        built_in.or_else(|| kinds().into_iter().find(|kind| kind.name == name).map(DatasetName::Own))
    }

    fn name(self) -> &'static str {
        match self {
            DatasetName::Own(kind) => kind.name,
            _ => DatasetName::ALL.iter().position(|known| *known == self).map_or("", |at| BUILT_IN[at]),
        }
    }

    /// Whether nothing is known of its images but what the experiment says.
    pub fn is_own(self) -> bool {
        matches!(self, DatasetName::Folder | DatasetName::Own(_))
    }
}

impl Serialize for DatasetName {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for DatasetName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<DatasetName, D::Error> {
        struct ByName;

        impl Visitor<'_> for ByName {
            type Value = DatasetName;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("the name of a data set")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<DatasetName, E> {
                DatasetName::find(name).ok_or_else(|| E::custom(unknown(name)))
            }
        }

        deserializer.deserialize_str(ByName)
    }
}

/// That this program does not have the data set.
pub(crate) fn unknown(name: &str) -> String {
    let known = BUILT_IN.into_iter().chain(kinds().into_iter().map(|kind| kind.name));
    let known: Vec<String> = known.map(|name| format!("`{name}`")).collect();
    format!("unknown data set `{name}`: this program has {}", known.join(", "))
}

impl DatasetSpec {
    /// Classes of the data set.
    pub fn class_count(&self) -> usize {
        match self.name {
            DatasetName::Cifar10 | DatasetName::Synthetic => CLASSES,
            DatasetName::Cifar100 => 100,
            DatasetName::Folder | DatasetName::Own(_) => self.classes.map_or(CLASSES, |classes| classes.0),
        }
    }

    /// Whether it has the keys that its images need, and no others.
    pub(super) fn check_keys(&self) -> std::result::Result<(), Conflict> {
        let conflict = |message: &str| Err(Conflict::new(&["dataset"], format!("dataset: {message}")));
        let DatasetSpec { name, train, test, classes, sha256, background, side } = self;
        if *name != DatasetName::Folder && !is_white(background) {
            return conflict("`background` belongs to name: folder");
        }
        if !name.is_own() && (classes.is_some() || sha256.is_some() || !is_side_of_cifar(side)) {
            return conflict(
                "`classes`, `sha256` and `side` belong to name: folder, and to data sets that programs add",
            );
        }
        let is_complete = train.is_some() && test.is_some() && classes.is_some() && sha256.is_some();
        match name {
            DatasetName::Folder if !is_complete => conflict(
                "a folder needs `train`, `test`, `classes` and `sha256`; `fewlabel data --folder DIR` prints the line",
            ),
            DatasetName::Own(Kind { name, .. }) if !is_complete => conflict(&format!(
                "{name} needs `train`, `test`, `classes` and `sha256`; `data --set {name}` of this program prints the line"
            )),
            _ => Ok(()),
        }
    }

    /// As in an experiment file, of these images.
    pub(crate) fn line_of(name: &str, data: &Data, background: Background) -> String {
        let [of_ground, of_side] = [
            (!is_white(&background)).then(|| format!(", background: \"{background}\"")),
            (data.train.side != SIDE).then(|| format!(", side: {}", data.train.side)),
        ]
        .map(Option::unwrap_or_default);
        let (train, test, classes, hash) = (data.train.len(), data.test.len(), data.classes.len(), data.sha256());
        format!(
            "dataset: {{name: {name}, train: {train}, test: {test}, classes: {classes}, sha256: \"{hash}\"{of_ground}{of_side}}}"
        )
    }

    /// Where the `dataset:` line comes from.
    fn line(&self, place: &Path) -> String {
        let place = path_word(place);
        let command = match self.name {
            DatasetName::Own(Kind { name, .. }) => format!("data --set {name} --data-dir {place}` of this program"),
            _ => {
                let background = match is_white(&self.background) {
                    true => String::new(),
                    false => format!(" --background {}", word(&self.background.to_string())),
                };
                let side = match self.side.0 {
                    SIDE => String::new(),
                    side => format!(" --side {side}"),
                };
                format!("fewlabel data --folder {place}{background}{side}`")
            }
        };
        format!("take the `dataset:` line that `{command} prints")
    }

    /// Whether the images are those that the experiment is about.
    pub(super) fn check(&self, place: &Path, data: &Data) -> Result<()> {
        let said = [self.train.map_or(0, |n| n.0), self.test.map_or(0, |n| n.0), self.class_count()];
        let found = [data.train.len(), data.test.len(), data.classes.len()];
        if said != found {
            let [train, test, classes] = found;
            let problem = format!("has {train} training and {test} test images of {classes} classes");
            let [train, test, classes] = said;
            return Err(Error::data(
                place,
                problem,
                format!("the experiment says {train}, {test} and {classes}: {}", self.line(place)),
            ));
        }
        let (found, said) = (data.train.side, self.side.0);
        if said != found {
            let problem = format!("has images of {found} × {found} pixels");
            return Err(Error::data(place, problem, format!("the experiment says {said}: {}", self.line(place))));
        }
        match &self.sha256 {
            Some(said) if *said != data.sha256() => {
                let problem = format!("these are not the images that the experiment names: SHA-256 {}", data.sha256());
                let restore = match self.name {
                    DatasetName::Own(_) => "restore what they are made of",
                    _ => "restore them or their background",
                };
                Err(Error::data(place, problem, format!("{restore}; else {}", self.line(place))))
            }
            _ => Ok(()),
        }
    }
}
