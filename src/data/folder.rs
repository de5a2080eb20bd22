//! One's own images: `train/CLASS/*` and `test/CLASS/*`, PNG or JPEG.
//!
//! The classes are the folders in `train`, in order of their names; the images of a class are in order of theirs. Each
//! image is turned upright as its EXIF data say, and the square in its middle is resized to 32 × 32 with a triangle
//! filter, as wide as the scale (what PIL calls bilinear); transparency is dropped.

use std::io::Cursor;
use std::path::{Path, PathBuf};

use image::imageops::{FilterType, crop_imm, resize};
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};
use rayon::prelude::*;

use super::{Data, Dataset, IMAGE, MAX_CLASSES, SIDE};
use crate::error::{Error, Result};

/// The endings of files that are images; others are passed over.
const ENDINGS: [&str; 3] = ["png", "jpg", "jpeg"];
/// The longest side that is read, in pixels: more is a mistake, and would not fit into memory twice.
const MAX_SIDE: u32 = 20_000;

/// Reads all images.
///
/// # Errors
/// [`Error::Data`] for a folder without `train` or `test`, with fewer than 2 or more than 256 classes, for a test class
/// without a folder in `train`, a class without training images, a name that is not text, and a PNG or JPEG that cannot
/// be read or has a side of more than 20,000 pixels.
pub fn load(folder: &Path) -> Result<Data> {
    let train = folder.join("train");
    let classes = names(&train, Path::is_dir)?;
    if classes.len() < 2 || classes.len() > MAX_CLASSES {
        let problem = format!("holds {} folders; each is a class, and there must be 2 to {MAX_CLASSES}", classes.len());
        return Err(Error::data(&train, problem, REMEDY));
    }
    let test = folder.join("test");
    if let Some(stranger) = names(&test, Path::is_dir)?.into_iter().find(|name| !classes.contains(name)) {
        return Err(Error::data(&test.join(stranger), "is a class without training images", REMEDY));
    }
    let data = Data { train: read(&train, &classes)?, test: read(&test, &classes)?, classes };
    if let Some(label) = (0..data.classes.len()).find(|&label| !data.train.labels.contains(&(label as u8))) {
        return Err(Error::data(&train.join(&data.classes[label]), "holds no PNG or JPEG", REMEDY));
    }
    Ok(data)
}

const REMEDY: &str =
    "put the images into train/CLASS/ and test/CLASS/, PNG or JPEG; --data-dir names the folder of both";

/// The names of what `folder` holds, in order; only of what is `wanted`.
fn names(folder: &Path, wanted: fn(&Path) -> bool) -> Result<Vec<String>> {
    let unreadable = |e: std::io::Error| Error::data(folder, format!("cannot be read: {e}"), REMEDY);
    let mut names = vec![];
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if wanted(&path) && !name.starts_with('.') {
            if name.is_empty() {
                return Err(Error::data(&path, "has a name that is not text", "rename it"));
            }
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn is_image(path: &Path) -> bool {
    let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    // A pipe of that name would be waited for.
    ENDINGS.iter().any(|known| ending.eq_ignore_ascii_case(known)) && path.is_file()
}

fn read(folder: &Path, classes: &[String]) -> Result<Dataset> {
    let mut paths: Vec<(u8, PathBuf)> = vec![];
    for (label, class) in (0..=u8::MAX).zip(classes) {
        let class = folder.join(class);
        if class.is_dir() {
            paths.extend(names(&class, is_image)?.into_iter().map(|name| (label, class.join(name))));
        }
    }
    let mut images = vec![0; paths.len() * IMAGE];
    let decoded = images.par_chunks_exact_mut(IMAGE).zip(&paths).map(|(image, (_, path))| decode(path, image));
    // All of them, so that the first by name is the one that is told of.
    decoded.collect::<Vec<Result<()>>>().into_iter().collect::<Result<()>>()?;
    Ok(Dataset { images, labels: paths.into_iter().map(|(label, _)| label).collect() })
}

/// The file's image as planes, in `out`, [3, 32, 32].
fn decode(path: &Path, out: &mut [u8]) -> Result<()> {
    let remedy = "take it away, or put a whole PNG or JPEG in its place";
    let bad = |e: image::ImageError| Error::data(path, format!("is not an image that can be read: {e}"), remedy);
    let io = |e: std::io::Error| Error::data(path, format!("cannot be read: {e}"), remedy);
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_SIDE), Some(MAX_SIDE));
    let bytes = std::fs::read(path).map_err(io)?;
    let mut reader = ImageReader::new(Cursor::new(&bytes)).with_guessed_format().map_err(io)?;
    if reader.format() == Some(ImageFormat::Jpeg) && !ends(&bytes) {
        return Err(Error::data(path, "is cut off", remedy));
    }
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(bad)?;
    limits.reserve(decoder.total_bytes()).map_err(bad)?;
    let orientation = decoder.orientation().map_err(bad)?;
    let mut image = DynamicImage::from_decoder(decoder).map_err(bad)?;
    image.apply_orientation(orientation);
    let image = image.into_rgb8();
    let (width, height) = image.dimensions();
    let side = width.min(height);
    let square = crop_imm(&image, (width - side) / 2, (height - side) / 2, side, side);
    let small = resize(&*square, SIDE as u32, SIDE as u32, FilterType::Triangle);
    for (at, pixel) in small.pixels().enumerate() {
        for (channel, value) in pixel.0.into_iter().enumerate() {
            out[channel * SIDE * SIDE + at] = value;
        }
    }
    Ok(())
}

/// Whether a JPEG has its end: the decoder would fill up with grey what is missing. Goes from marker to marker (ITU-T
/// T.81, B.1.1): what lies in a segment, like a preview, or behind the end is none of its business.
fn ends(bytes: &[u8]) -> bool {
    const END: u8 = 0xD9;
    // The start has no length; nor have, in a scan, an escaped byte and a restart.
    let is_marker = |pair: &[u8]| pair[0] == 0xFF && !matches!(pair[1], 0x00 | 0xD0..=0xD8 | 0xFF);
    let mut rest = bytes;
    while let Some(at) = rest.windows(2).position(is_marker) {
        if rest[at + 1] == END {
            return true;
        }
        let segment = &rest[at + 2..];
        let length = segment.first_chunk().map_or(usize::MAX, |length| usize::from(u16::from_be_bytes(*length)));
        rest = segment.get(length..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    fn save(path: &Path, width: u32, height: u32, color: impl Fn(u32, u32) -> [u8; 3]) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        RgbImage::from_fn(width, height, |x, y| image::Rgb(color(x, y))).save(path).unwrap();
    }

    #[test]
    fn classes_and_images_are_in_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for (name, level) in [("train/b/2.png", 2), ("train/b/10.png", 1), ("train/a/x.PNG", 0), ("test/b/z.png", 3)] {
            save(&folder.path().join(name), 32, 32, |_, _| [level, 100, 200]);
        }
        std::fs::write(folder.path().join("train/a/notes.txt"), "no image").unwrap();
        let data = load(folder.path()).unwrap();
        assert_eq!((data.classes.join(" "), data.train.labels.clone()), ("a b".to_owned(), vec![0, 1, 1]));
        let first = |set: &Dataset, index: usize| set.image(index)[0];
        assert_eq!([first(&data.train, 0), first(&data.train, 1), first(&data.train, 2)], [0, 1, 2]);
        assert_eq!((first(&data.test, 0), &data.test.labels[..]), (3, &[1][..]));
        let image = data.train.image(1);
        assert!(image[1024..2048].iter().all(|&x| x == 100) && image[2048..].iter().all(|&x| x == 200), "planes");
        let hash = data.sha256();
        save(&folder.path().join("test/b/z.png"), 32, 32, |x, _| [3, 100, 200 + u8::from(x == 31)]);
        assert_ne!(load(folder.path()).unwrap().sha256(), hash);
    }

    /// A 32 × 32 image is taken as it is; of a wide one the middle, each pixel the mean of what it covers.
    #[test]
    fn the_square_in_the_middle_is_resized() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train/a/wide.png");
        save(&path, 128, 64, |x, _| if (32..96).contains(&x) { [90, 90, 90] } else { [255, 0, 0] });
        let mut image = vec![0; IMAGE];
        decode(&path, &mut image).unwrap();
        assert!(image.iter().all(|&level| level == 90), "nothing of the margins");
        let path = folder.path().join("train/a/same.png");
        save(&path, 32, 32, |x, y| [(x * 8) as u8, (y * 8) as u8, 7]);
        decode(&path, &mut image).unwrap();
        assert_eq!([image[5], image[1024 + 64], image[2048 + 9]], [40, 16, 7]);
    }

    /// A camera that was held on its side: the upper half of what is stored is red, and belongs on the right.
    #[test]
    fn an_image_is_turned_upright_and_must_be_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("photo.jpg");
        save(&path, 64, 64, |_, y| if y < 32 { [250, 0, 0] } else { [0, 0, 250] });
        let jpeg = std::fs::read(&path).unwrap();
        // EXIF 2.3: an APP1 segment with one entry, tag 0x0112 (orientation), of type SHORT, 6.
        let entry = [1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0];
        let exif = [&b"\xff\xe1\x00\x22Exif\0\0II*\0\x08\0\0\0"[..], &entry].concat();
        let turned = [&jpeg[..2], &exif, &jpeg[2..]].concat();
        std::fs::write(&path, &turned).unwrap();
        let mut image = vec![0; IMAGE];
        decode(&path, &mut image).unwrap();
        let red = &image[..SIDE * SIDE];
        assert!(red[..8].iter().all(|&x| x < 20) && red[24..32].iter().all(|&x| x > 230), "{:?}", &red[..32]);
        for length in [turned.len() - 2, turned.len() - 9, turned.len() / 2] {
            std::fs::write(&path, &turned[..length]).unwrap();
            assert!(decode(&path, &mut image).is_err(), "{length} bytes of {}", turned.len());
        }
        // What a camera puts after the end does no harm, whatever it looks like; nor does a whole preview inside.
        for after in [&[0; 20][..], &[0xFF, 0xDA, 0, 8, 7, 7, 7], &jpeg[..jpeg.len() / 2]] {
            std::fs::write(&path, [&turned[..], after].concat()).unwrap();
            decode(&path, &mut image).unwrap();
        }
        let length = (jpeg.len() as u16 + 2).to_be_bytes();
        let preview = [&jpeg[..2], &[0xFF, 0xEF], &length, &jpeg, &jpeg[2..]].concat();
        std::fs::write(&path, &preview).unwrap();
        decode(&path, &mut image).unwrap();
        std::fs::write(&path, &preview[..preview.len() - 2]).unwrap();
        assert!(decode(&path, &mut image).is_err(), "the preview's end is not the image's");
    }

    /// A PNG that says it is 20,000 × 10,000: 600 MB, more than the library's limit of 512 MiB.
    #[test]
    fn an_image_that_would_fill_the_memory_is_refused_by_its_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("huge.png");
        save(&path, 1, 1, |_, _| [0; 3]);
        let mut png = std::fs::read(&path).unwrap();
        // The header: name at 12, width, height and five bytes more, then the CRC of it all (PNG, 11.2.1).
        png[16..24].copy_from_slice(&[20_000u32.to_be_bytes(), 10_000u32.to_be_bytes()].concat());
        let mut crc = flate2::Crc::new();
        crc.update(&png[12..29]);
        png[29..33].copy_from_slice(&crc.sum().to_be_bytes());
        std::fs::write(&path, png).unwrap();
        let error = decode(&path, &mut vec![0; IMAGE]).unwrap_err().to_string();
        assert!(error.contains("limit"), "{error}");
    }

    #[test]
    fn what_is_no_data_set_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let error = || load(folder.path()).unwrap_err().to_string();
        assert!(error().contains("cannot be read"), "{}", error());
        save(&folder.path().join("train/a/1.png"), 32, 32, |_, _| [0; 3]);
        assert!(error().contains("1 folders"), "{}", error());
        save(&folder.path().join("train/b/1.jpg"), 40, 40, |_, _| [9; 3]);
        save(&folder.path().join("test/c/1.png"), 32, 32, |_, _| [0; 3]);
        assert!(error().contains("test/c: is a class without training images"), "{}", error());
        std::fs::rename(folder.path().join("test/c"), folder.path().join("test/b")).unwrap();
        assert_eq!(load(folder.path()).unwrap().train.labels, [0, 1]);
        std::fs::write(folder.path().join("train/b/2.png"), b"\x89PNG\r\n\x1a\nrubbish").unwrap();
        assert!(error().contains("2.png: is not an image"), "{}", error());
    }
}
