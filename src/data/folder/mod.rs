//! One's own images: `train/CLASS/…` and `test/CLASS/…`, PNG, JPEG, GIF, WebP, BMP, TIFF or PNM.
//!
//! The classes are the folders in `train`, in order of their names. A class has all images below its folder, in order of
//! their paths, folder by folder; links are followed. A file is an image by its ending (`.png`, `.jpg`, `.jpeg`, `.jpe`,
//! `.jfif`, `.gif`, `.webp`, `.bmp`, `.tif`, `.tiff`, `.pbm`, `.pgm`, `.ppm`, `.pnm`, `.pam`, in capitals too), and its
//! contents say which kind. Whatever else is there, hidden files too, is in [`Folder::passed_over`].
//!
//! How a file becomes what the networks get:
//! 1. It is decoded: of an animation the first frame, of a TIFF the first page; colour profiles are ignored.
//! 2. It is turned upright as its EXIF data say.
//! 3. Transparent pixels are composited over a [`Background`], white unless given: each channel is
//!    (colour · alpha + background · (full − alpha)) / full in integers, rounded to the nearest, on the values as stored.
//! 4. The square in its middle is taken.
//! 5. It is resized to the side that is asked for with a triangle filter, as wide as the scale (what PIL calls bilinear).
//!
//! An opaque image is the same bytes over any background.

mod budget;
mod decode;
mod duplicates;
mod walk;

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::{CHANNELS, Data, Dataset, MAX_CLASSES};
use crate::error::{Error, Result};
use crate::text::{count, shown, visible};
pub use decode::Background;
use walk::Classes;
pub use walk::PassedOver;

/// How many broken files are named.
const NAMED: usize = 10;
const REMEDY: &str = "put the images into train/CLASS/ and test/CLASS/ of one folder, and name that folder";

/// A folder of images, read.
pub struct Folder {
    /// The images as the networks get them.
    pub data: Data,
    /// The files of the training images, relative to the folder.
    pub train: Vec<PathBuf>,
    /// The files of the test images.
    pub test: Vec<PathBuf>,
    /// What was not read, by the reason.
    pub passed_over: PassedOver,
}

impl Folder {
    /// The files of all images that are of a single colour: white letters over white, say.
    pub fn flat(&self) -> impl Iterator<Item = &Path> {
        let is_flat =
            |image: &[u8]| image.chunks_exact(image.len() / CHANNELS).all(|plane| plane.iter().all(|x| *x == plane[0]));
        let parts = [(&self.data.train, &self.train), (&self.data.test, &self.test)];
        parts.into_iter().flat_map(move |(set, paths)| {
            (0..set.len()).filter(move |&index| is_flat(set.image(index))).map(|index| &*paths[index])
        })
    }
}

/// Reads all images, as `side` × `side` pixels.
///
/// # Errors
/// [`Error::Data`] for a folder without `train` or `test`, with fewer than 2 or more than 1,000 classes, for test classes
/// without a folder in `train`, classes without training images, a class whose name is not text, and for images that
/// cannot be read or have more than 200 million pixels (100 million of 16 bits a channel): all of them are counted, the
/// first ten named.
pub fn load(folder: &Path, background: Background, side: usize) -> Result<Folder> {
    if !folder.is_dir() {
        let problem = if folder.exists() { "is not a folder" } else { "there is no such folder" };
        return Err(Error::data(folder, problem, REMEDY));
    }
    let mut passed_over = PassedOver::new();
    let train = walk::part(folder, "train", &mut passed_over)?;
    let test = walk::part(folder, "test", &mut passed_over)?;
    walk::beside(folder, &mut passed_over);
    let bad = |part: &str, problem: String| Error::data(&folder.join(part), problem, REMEDY);
    if train.len() < 2 || train.len() > MAX_CLASSES {
        let folders = count(train.len(), "folder");
        let problem = format!("holds {folders}; each is a class, and there must be 2 to {MAX_CLASSES}");
        return Err(bad("train", problem));
    }
    let classes: Vec<String> = train.iter().map(|(class, _)| class.clone()).collect();
    let strange: Vec<&str> = names(test.iter().filter(|(class, _)| !classes.contains(class)));
    if !strange.is_empty() {
        return Err(bad("test", format!("holds classes without a folder in train: {}", visible(&strange.join(", ")))));
    }
    let empty: Vec<&str> = names(train.iter().filter(|(_, images)| images.is_empty()));
    if !empty.is_empty() {
        return Err(bad("train", format!("holds classes without an image: {}", visible(&empty.join(", ")))));
    }
    let [(train_labels, train), (test_labels, test)] = [train, test].map(|part| labelled(part, &classes));
    let mut images = decode_all(folder, &[&train[..], &test].concat(), background, side)?;
    let test_images = images.split_off(images.len() / (train.len() + test.len()) * train.len());
    let data = Data {
        train: Dataset { images, labels: train_labels, side },
        test: Dataset { images: test_images, labels: test_labels, side },
        classes,
    };
    Ok(Folder { data, train, test, passed_over })
}

fn names<'a>(part: impl Iterator<Item = &'a (String, Vec<PathBuf>)>) -> Vec<&'a str> {
    part.map(|(class, _)| &**class).collect()
}

/// Labels and paths of all images of a part, class by class.
fn labelled(part: Classes, classes: &[String]) -> (Vec<u16>, Vec<PathBuf>) {
    let label = |class: &String| classes.iter().position(|known| known == class).expect("a class of train") as u16;
    let images = part.into_iter().flat_map(|(class, paths)| {
        let label = label(&class);
        paths.into_iter().map(move |path| (label, path))
    });
    images.unzip()
}

/// The images at the paths, one after the other.
fn decode_all(folder: &Path, paths: &[PathBuf], background: Background, side: usize) -> Result<Vec<u8>> {
    let len = CHANNELS * side * side;
    let mut images = vec![0; paths.len() * len];
    let decoded = images.par_chunks_exact_mut(len).zip(paths);
    let problems: Vec<Option<String>> =
        decoded.map(|(image, path)| decode::decode(&folder.join(path), background, side, image).err()).collect();
    let broken: Vec<String> = std::iter::zip(paths, problems)
        .filter_map(|(path, problem)| Some(format!("{} {}", shown(path), visible(&problem?))))
        .collect();
    if broken.is_empty() {
        return Ok(images);
    }
    let mut problem = format!("{} of {} images cannot be used", broken.len(), paths.len());
    broken.iter().take(NAMED).for_each(|line| problem += &format!("\n  {line}"));
    if broken.len() > NAMED {
        problem += &format!("\n  and {} more", broken.len() - NAMED);
    }
    Err(Error::data(folder, problem, "remove them, or put whole images in their place"))
}

#[cfg(test)]
mod tests;
