//! The test images that maps show, in one picture: what a map shows under the pointer.

use std::borrow::Cow;

use super::figure::Picture;
use super::raster;
use crate::data::{Data, Dataset, IMAGE, SIDE};
use crate::files;
use crate::rng::{Purpose, Stream};

/// Test images in rows of [`COLUMNS`].
pub struct Sheet {
    pub id: String,
    pub jpeg: Vec<u8>,
}

const COLUMNS: usize = 100;
/// Of its JPEG, the first at which it has at most [`BYTES`]: at 75, 10,000 photographs are about 4 MB.
const QUALITIES: [u8; 4] = [75, 50, 25, 10];
const BYTES: usize = 5_000_000;
/// Images in a map at most: all their pairs are compared.
const MAPPED: usize = 10_000;

/// Test images that maps show: all, or [`MAPPED`] of them.
pub fn mapped(data: &Data, seed: u64) -> Vec<u32> {
    some(data.test.len(), MAPPED, seed, 1)
}

/// `most` of `n` indices at random, in ascending order, or all where there are no more: in a folder class follows class.
pub fn some(n: usize, most: usize, seed: u64, index: u32) -> Vec<u32> {
    let mut all: Vec<u32> = (0..n as u32).collect();
    if n > most {
        Stream::new(seed, Purpose::Bank, 0, index).shuffle(&mut all);
        all.truncate(most);
        all.sort_unstable();
    }
    all
}

impl Sheet {
    /// The id of the sheet of the images that maps show; a new one unless another run has the same.
    pub fn of(data: &Data, seed: u64, sheets: &mut Vec<Sheet>) -> String {
        let indices = mapped(data, seed);
        let images: Cow<[u8]> = match indices.len() == data.test.len() {
            true => (&data.test.images).into(),
            false => indices.iter().flat_map(|&index| data.test.image(index as usize)).copied().collect(),
        };
        let id = format!("images-{}", &files::sha256(&images)[..12]);
        if sheets.iter().all(|sheet| sheet.id != id) {
            sheets.push(Sheet { id: id.clone(), jpeg: jpeg(&images) });
        }
        id
    }
}

fn jpeg(images: &[u8]) -> Vec<u8> {
    let n = images.len() / IMAGE;
    let columns = COLUMNS.min(n);
    let (width, height) = (columns * SIDE, n.div_ceil(columns) * SIDE);
    let mut rgb = vec![0; width * height * 3];
    for (index, image) in images.chunks_exact(IMAGE).enumerate() {
        let (left, top) = (index % columns * SIDE, index / columns * SIDE);
        for (at, picture) in Picture::of_planes(image, "").rgb.chunks_exact(SIDE * 3).enumerate() {
            rgb[((top + at) * width + left) * 3..][..SIDE * 3].copy_from_slice(picture);
        }
    }
    let mut jpeg = vec![];
    for quality in QUALITIES {
        jpeg = raster::jpeg(&rgb, width, height, quality);
        if jpeg.len() <= BYTES {
            break;
        }
    }
    jpeg
}

/// The first of `among` of each of so many classes.
pub fn firsts(images: &Dataset, among: &[u32], classes: usize) -> Vec<u32> {
    let mut firsts: Vec<u32> = vec![];
    for &index in among {
        let label = |index: u32| images.labels[index as usize];
        if firsts.len() < classes && firsts.iter().all(|&first| label(first) != label(index)) {
            firsts.push(index);
        }
    }
    firsts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_of_many_images_has_some_of_every_part() {
        let data = |n: usize| {
            let set = |n: usize| Dataset { images: vec![0; n * IMAGE], labels: vec![0; n] };
            Data { train: set(1), test: set(n), classes: vec!["a".to_owned()] }
        };
        assert_eq!(mapped(&data(10_000), 0), Vec::from_iter(0..10_000));
        let some = mapped(&data(12_000), 0);
        assert!(some.len() == 10_000 && some.is_sorted_by(|a, b| a < b));
        for part in 0..12 {
            let n = some.iter().filter(|&&index| index / 1000 == part).count();
            // 833 of a thousand expected, with a standard deviation of 11.
            assert!((780..890).contains(&n), "{n} of the images from {part},000 on");
        }
        assert_ne!(mapped(&data(12_000), 1), some);
    }

    #[test]
    fn the_first_of_each_class_is_found() {
        let images = Dataset { images: vec![], labels: vec![2, 2, 0, 0, 1, 3] };
        assert_eq!(firsts(&images, &[0, 1, 2, 3, 4, 5], 3), [0, 2, 4]);
        assert_eq!(firsts(&images, &[1, 3], 3), [1, 3]);
    }
}
