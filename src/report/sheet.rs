//! The test images that maps show, in one picture: what a map shows under the pointer.

use std::borrow::Cow;

use super::figure::Picture;
use super::raster;
use crate::data::{CHANNELS, Data, Dataset};
use crate::files;
use crate::rng::{Purpose, Stream};

/// Test images in rows of [`COLUMNS`].
pub struct Sheet {
    pub id: String,
    /// Of each image in it, in pixels.
    pub side: usize,
    pub jpeg: Vec<u8>,
}

const COLUMNS: usize = 100;
/// Of its JPEG, the first at which it has at most [`BYTES`]: at 75, 10,000 photographs are about 4 MB.
const QUALITIES: [u8; 4] = [75, 50, 25, 10];
const BYTES: usize = 5_000_000;
/// Pixels of a sheet at most, which a browser has to unpack: larger images have a half of their side, or a third …
const PIXELS: usize = 1 << 26;
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
            let (images, side) = shrunk(&images, data.test.side, PIXELS);
            sheets.push(Sheet { id: id.clone(), side, jpeg: jpeg(&images, side) });
        }
        id
    }
}

/// Images of `side` × `side` pixels, and the side of what becomes of them: the largest whole fraction at which they have at
/// most so many `pixels` together. Each pixel is the mean of those that it covers, rounded.
fn shrunk(images: &[u8], side: usize, pixels: usize) -> (Cow<'_, [u8]>, usize) {
    let n = images.len() / (CHANNELS * side * side);
    let by = (1..side).find(|by| n * (side / by).pow(2) <= pixels).unwrap_or(side);
    let small = side / by;
    if by == 1 {
        return (images.into(), side);
    }
    let mean = |plane: &[u8], i: usize| {
        let (top, left) = (i / small * by, i % small * by);
        let rows = plane.chunks_exact(side).skip(top).take(by);
        let sum: usize = rows.flat_map(|row| &row[left..][..by]).map(|&value| usize::from(value)).sum();
        ((sum + by * by / 2) / (by * by)) as u8
    };
    let planes = images.chunks_exact(side * side);
    (planes.flat_map(|plane| (0..small * small).map(move |i| mean(plane, i))).collect(), small)
}

fn jpeg(images: &[u8], side: usize) -> Vec<u8> {
    let len = CHANNELS * side * side;
    let n = images.len() / len;
    let columns = COLUMNS.min(n);
    let (width, height) = (columns * side, n.div_ceil(columns) * side);
    let mut rgb = vec![0; width * height * 3];
    for (index, image) in images.chunks_exact(len).enumerate() {
        let (left, top) = (index % columns * side, index / columns * side);
        for (at, picture) in Picture::of_planes(image, "").rgb.chunks_exact(side * 3).enumerate() {
            rgb[((top + at) * width + left) * 3..][..side * 3].copy_from_slice(picture);
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
    use crate::data::{IMAGE, SIDE};

    #[test]
    fn images_of_too_many_pixels_are_shown_smaller() {
        // Two images of 6 × 6 pixels, whose planes are 0, 1, 2 … along x.
        let images: Vec<u8> = (0..2 * CHANNELS * 36).map(|at| (at % 6 * 10) as u8).collect();
        assert_eq!(shrunk(&images, 6, 72), ((&*images).into(), 6));
        let (small, side) = shrunk(&images, 6, 71);
        assert_eq!((side, &small[..6], small.len()), (3, &[5, 25, 45, 5, 25, 45][..], 2 * CHANNELS * 9));
        let (small, side) = shrunk(&images, 6, 17);
        assert_eq!((side, &small[..]), (2, &[10, 40].repeat(2 * CHANNELS * 2)[..]));
    }

    #[test]
    fn a_map_of_many_images_has_some_of_every_part() {
        let data = |n: usize| {
            let set = |n: usize| Dataset { images: vec![0; n * IMAGE], labels: vec![0; n], side: SIDE };
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
        let images = Dataset { images: vec![], labels: vec![2, 2, 0, 0, 1, 3], side: SIDE };
        assert_eq!(firsts(&images, &[0, 1, 2, 3, 4, 5], 3), [0, 2, 4]);
        assert_eq!(firsts(&images, &[1, 3], 3), [1, 3]);
    }
}
