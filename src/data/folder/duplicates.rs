//! The same picture twice: in both parts, where a test asks for what was learnt by heart, or within one.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Folder;
use crate::data::Dataset;
use crate::text::shown;

/// How many duplicates a line names.
const NAMED: usize = 3;

impl Folder {
    /// Which images are there more than once as the networks get them, all pixels alike, whatever their files: a
    /// line for test images that are training images too, one for repeated training images, one for repeated test images; none
    /// where there are none.
    pub fn duplicates(&self) -> Vec<String> {
        let train = (&self.data.train, &self.train[..]);
        let test = (&self.data.test, &self.test[..]);
        let kinds = [
            (test, train, "in train and test", "test images"),
            (train, train, "twice in train", "images"),
            (test, test, "twice in test", "images"),
        ];
        kinds.into_iter().filter_map(|(images, others, place, what)| line(images, others, place, what)).collect()
    }
}

type Part<'a> = (&'a Dataset, &'a [PathBuf]);

fn line(images: Part, others: Part, place: &str, what: &str) -> Option<String> {
    let pairs = pairs(images.0, others.0);
    let relabelled = pairs.iter().filter(|&&(image, other)| images.0.labels[image] != others.0.labels[other]).count();
    let under = match relabelled {
        0 => String::new(),
        n => format!(", {n} of them under another class"),
    };
    let name = |&(image, other): &(usize, usize)| format!("{} = {}", shown(&images.1[image]), shown(&others.1[other]));
    let names: Vec<String> = pairs.iter().take(NAMED).map(name).collect();
    let (n, all, names) = (pairs.len(), images.0.len(), names.join(", "));
    let more = if n > NAMED { ", …" } else { "" };
    let side = images.0.side;
    (n > 0).then(|| format!("the same {side} × {side} pixels {place}: {n} of {all} {what}{under} ({names}{more})"))
}

/// Each image of `set` that is among `others`, with its copy there: one of the same label if there is one, else the
/// first. In `set` itself only copies before the image count.
fn pairs(set: &Dataset, others: &Dataset) -> Vec<(usize, usize)> {
    let mut copies: BTreeMap<&[u8], Vec<usize>> = BTreeMap::new();
    for index in 0..others.len() {
        copies.entry(others.image(index)).or_default().push(index);
    }
    let is_itself = std::ptr::eq(set, others);
    let copy_of = |image: usize| {
        let copies = copies.get(set.image(image))?;
        let known = &copies[..if is_itself { copies.partition_point(|&copy| copy < image) } else { copies.len() }];
        let of_its_class = known.iter().find(|&&copy| others.labels[copy] == set.labels[image]);
        Some((image, *of_its_class.or(known.first())?))
    };
    (0..set.len()).filter_map(copy_of).collect()
}
