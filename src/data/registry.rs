//! Data sets that a program adds, by name.

use std::path::Path;

use super::{CHANNELS, Data, Dataset, MAX_CLASSES, MAX_SIDE, MIN_SIDE};
use crate::error::{Error, Result};
use crate::registry::{Registry, named};
use crate::text::visible;

/// A data set of a program's own, as experiments name it.
pub struct Kind {
    /// The value of `dataset: {name: …}`.
    pub name: &'static str,
    /// What a report calls it, at the beginning of a sentence.
    pub title: &'static str,
    /// All images: from files in the data folder (`--data-dir`), or made. Always the same: an experiment names them by the
    /// SHA-256 that `data --set NAME` prints, so what is drawn is drawn from a constant, not from an experiment's seed.
    pub load: fn(&Path) -> Result<Data>,
}

/// The names of those that every program has.
pub const BUILT_IN: [&str; 4] = ["cifar10", "cifar100", "folder", "synthetic"];

static ADDED: Registry<Kind> = Registry::new("data set", &[], "");

/// All that were added.
pub fn kinds() -> Vec<&'static Kind> {
    ADDED.all()
}

/// Adds a data set, for every experiment that is read from here on.
///
/// # Errors
/// [`Error::Usage`] for a name that another data set has.
pub fn register(kind: &'static Kind) -> Result<()> {
    ADDED.add(kind, &BUILT_IN)
}

/// Images of a part that an experiment takes, at least and at most.
pub(crate) const PART: [usize; 2] = [10, 200_000];

impl Kind {
    /// Its images, looked over: a program's own function may give anything.
    ///
    /// # Errors
    /// What it fails with, and [`Error::Data`] for images that no experiment can have.
    pub(crate) fn load(&self, folder: &Path) -> Result<Data> {
        let data = (self.load)(folder)?;
        let problem = data.problem().map(|problem| format!("the data set {}: {}", self.name, visible(&problem)));
        problem.map_or(Ok(data), |problem| Err(Error::data(folder, problem, "mend the program that makes it")))
    }
}

impl Data {
    /// Why no experiment can have it.
    fn problem(&self) -> Option<String> {
        let Data { train, test, classes } = self;
        if classes.len() < 2 || classes.len() > MAX_CLASSES {
            return Some(format!("has {} classes; there must be 2 to {MAX_CLASSES}", classes.len()));
        }
        if train.side != test.side {
            return Some(format!("has training images of side {} and test images of {}", train.side, test.side));
        }
        [("training", train), ("test", test)].into_iter().find_map(|(part, set)| set.problem(part, classes.len()))
    }
}

impl Dataset {
    fn problem(&self, part: &str, classes: usize) -> Option<String> {
        let Dataset { images, labels, side } = self;
        let [least, most] = PART;
        if !(MIN_SIDE..=MAX_SIDE).contains(side) || side % 2 != 0 {
            return Some(format!("has images of side {side}: take an even one from {MIN_SIDE} to {MAX_SIDE}"));
        }
        if !(least..=most).contains(&labels.len()) {
            return Some(format!("has {} {part} images; an experiment takes {least} to {most}", labels.len()));
        }
        let bytes = CHANNELS * side * side * labels.len();
        if images.len() != bytes {
            let n = labels.len();
            return Some(format!("has {} bytes of {part} images, and {bytes} are those of {n} labels", images.len()));
        }
        let label = labels.iter().find(|label| usize::from(**label) >= classes)?;
        Some(format!("has a {part} label {label}, and {classes} classes"))
    }
}

named!(Kind);

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Data {
        let set =
            || Dataset { images: vec![7; 10 * 3 * 18 * 18], labels: vec![0, 1, 0, 1, 0, 1, 0, 1, 0, 1], side: 18 };
        Data { train: set(), test: set(), classes: vec!["a".to_owned(), "b".to_owned()] }
    }

    #[test]
    fn what_no_experiment_can_have_is_refused() {
        assert_eq!(good().problem(), None);
        let of = |spoil: &dyn Fn(&mut Data)| {
            let mut data = good();
            spoil(&mut data);
            data.problem().unwrap()
        };
        assert_eq!(of(&|data| data.classes.truncate(1)), "has 1 classes; there must be 2 to 1000");
        assert_eq!(of(&|data| data.train.side = 20), "has training images of side 20 and test images of 18");
        let odd = of(&|data| [&mut data.train, &mut data.test].into_iter().for_each(|set| set.side = 17));
        assert_eq!(odd, "has images of side 17: take an even one from 16 to 128");
        assert_eq!(of(&|data| data.test.truncate(9)), "has 9 test images; an experiment takes 10 to 200000");
        let bytes = "has 9719 bytes of training images, and 9720 are those of 10 labels";
        assert_eq!(of(&|data| data.train.images.truncate(9719)), bytes);
        assert_eq!(of(&|data| data.test.labels[3] = 2), "has a test label 2, and 2 classes");
    }

    #[test]
    fn a_set_is_read_from_the_data_folder_and_its_faults_name_it() {
        let folder = tempfile::tempdir().unwrap();
        let kind = Kind {
            name: "levels",
            title: "Levels",
            load: |folder| {
                let path = folder.join("levels");
                let level = std::fs::read(&path).map_err(|e| Error::data(&path, e, "make it"))?[0];
                let mut data = good();
                data.train.labels[0] = u16::from(level);
                Ok(data)
            },
        };
        assert_eq!(kind.load(folder.path()).unwrap_err().exit_code(), 2);
        std::fs::write(folder.path().join("levels"), [1]).unwrap();
        assert_eq!(kind.load(folder.path()).unwrap().train.labels[0], 1);
        std::fs::write(folder.path().join("levels"), [9]).unwrap();
        let message = kind.load(folder.path()).unwrap_err().to_string();
        assert!(message.contains("the data set levels: has a training label 9, and 2 classes"), "{message}");
    }
}
