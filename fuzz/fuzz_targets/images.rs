//! An image file in a folder of images: any bytes, or a picture of each kind with any of its bytes changed.
#![no_main]

use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::sync::LazyLock;

use fewlabel::data::{IMAGE, SIDE};
use fewlabel::data::folder::{Background, load};
use fewlabel_fuzz::edited;
use image::{DynamicImage, ImageBuffer, ImageFormat, ImageReader, Rgb, Rgba};
use tempfile::TempDir;

/// A data set that lacks one picture.
static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for name in ["train/b/1.pgm", "test/a/1.pgm"] {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap_or(Path::new(""))).expect("room for it");
        fs::write(path, "P5 1 1 255\n7").expect("room for it");
    }
    fs::create_dir(folder.path().join("train/a")).expect("room for it");
    folder
});

static PICTURES: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let opaque: DynamicImage = ImageBuffer::from_fn(7, 5, |x, y| Rgb([x as u8 * 30, y as u8 * 50, 9])).into();
    let clear: DynamicImage =
        ImageBuffer::from_fn(7, 5, |x, y| Rgba([x as u16 * 7000, y as u16, 9, x as u16 * 9000])).into();
    let written = |image: &DynamicImage, format| {
        let mut bytes = Cursor::new(vec![]);
        image.write_to(&mut bytes, format).ok().map(|()| bytes.into_inner())
    };
    use ImageFormat::{Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP};
    let kinds = [Bmp, Gif, Jpeg, Png, Pnm, Tiff, WebP].into_iter();
    kinds
        .chain([Png, Tiff])
        .zip([&opaque; 7].into_iter().chain([&clear; 2]))
        .filter_map(|(kind, image)| written(image, kind))
        .collect()
});

/// How large a picture says it is; its size is limited by a test, not here, where a large one would take minutes.
fn is_small(bytes: &[u8]) -> bool {
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().ok();
    let size = reader.and_then(|reader| reader.into_dimensions().ok());
    size.is_none_or(|(width, height)| u64::from(width) * u64::from(height) <= 1 << 20)
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((kind, rest)) = input.split_first() else { return };
    let kind = usize::from(*kind);
    let bytes = if kind % 2 == 0 { rest.to_vec() } else { edited(&PICTURES[kind / 2 % PICTURES.len()], rest) };
    if !is_small(&bytes) {
        return;
    }
    fs::write(FOLDER.path().join("train/a/x.png"), bytes).expect("room for it");
    match load(FOLDER.path(), Background([kind as u8; 3]), SIDE) {
        Ok(folder) => assert_eq!(folder.data.train.images.len(), 2 * IMAGE),
        Err(error) => assert_eq!(error.exit_code(), 2, "{error}"),
    }
});
