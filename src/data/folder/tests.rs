//! Which files are read, in which order, and what is said of the others; `pixels` has how one becomes an image.

mod pixels;

use std::fs;

use image::{DynamicImage, Rgb, RgbImage};

use super::*;
use crate::data::SIDE;

fn read(folder: &Path) -> Result<Folder> {
    load(folder, Background::default(), SIDE)
}

fn save(path: &Path, width: u32, height: u32, color: impl Fn(u32, u32) -> [u8; 3]) {
    save_image(path, RgbImage::from_fn(width, height, |x, y| Rgb(color(x, y))).into());
}

fn save_image(path: &Path, image: DynamicImage) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

#[test]
fn classes_and_images_are_in_order_of_their_names() {
    let folder = tempfile::tempdir().unwrap();
    for (name, level) in [("train/b/2.png", 2), ("train/b/10.png", 1), ("train/a/x.PNG", 0), ("test/b/z.png", 3)] {
        save(&folder.path().join(name), 32, 32, |_, _| [level, 100, 200]);
    }
    let Folder { data, train, test, passed_over } = read(folder.path()).unwrap();
    assert_eq!((data.classes.join(" "), data.train.labels.clone()), ("a b".to_owned(), vec![0, 1, 1]));
    let first = |set: &Dataset, index: usize| set.image(index)[0];
    assert_eq!([first(&data.train, 0), first(&data.train, 1), first(&data.train, 2)], [0, 1, 2]);
    assert_eq!((first(&data.test, 0), &data.test.labels[..]), (3, &[1][..]));
    let image = data.train.image(1);
    assert!(image[1024..2048].iter().all(|&x| x == 100) && image[2048..].iter().all(|&x| x == 200), "planes");
    assert_eq!(train, ["train/a/x.PNG", "train/b/10.png", "train/b/2.png"].map(PathBuf::from));
    assert_eq!((test, passed_over), (vec!["test/b/z.png".into()], PassedOver::new()));
    let hash = data.sha256();
    let large = load(folder.path(), Background::default(), 64).unwrap().data;
    assert_eq!([&large.train, &large.test].map(|set| (set.side, set.images.len() / set.len())), [(64, 3 * 64 * 64); 2]);
    assert_eq!(large.train.image(2)[4096 * 2 - 1..][..2], [100, 200]);
    assert_ne!(large.sha256(), hash);
    save(&folder.path().join("test/b/z.png"), 32, 32, |x, _| [3, 100, 200 + u8::from(x == 31)]);
    assert_ne!(read(folder.path()).unwrap().data.sha256(), hash);
}

/// Where a file lies in its class decides its place and nothing else.
#[test]
fn images_in_subfolders_are_in_order_of_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    let names = ["a.png", "b.png", "sub/1.png", "sub/2/3.png", "sub.png", "z/x.png"];
    for (level, name) in (0..).zip(names) {
        save(&folder.path().join("train/one").join(name), 32, 32, |_, _| [level; 3]);
    }
    save(&folder.path().join("train/two/deep/er/1.png"), 32, 32, |_, _| [9; 3]);
    save(&folder.path().join("test/two/1.png"), 32, 32, |_, _| [8; 3]);
    let Folder { data, train, .. } = read(folder.path()).unwrap();
    assert_eq!(data.train.labels, [0, 0, 0, 0, 0, 0, 1]);
    let levels: Vec<u8> = (0..7).map(|index| data.train.image(index)[0]).collect();
    assert_eq!(levels, [0, 1, 2, 3, 4, 5, 9], "{train:?}");
}

/// Every image of the folder is read or told of.
#[cfg(unix)]
#[test]
fn what_is_passed_over_is_told_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    for name in
        ["train/a/1.png", "train/b/1.png", "test/a/1.png", "train/stray.png", "validation/a/1.png", "train/a/.2.png"]
    {
        save(&place(name), 32, 32, |_, _| [name.len() as u8; 3]);
    }
    for name in ["train/a/notes.txt", "train/a/deep/Thumbs.DB", "train/b/more.txt", "train/b/LICENSE", "labels.csv"] {
        fs::create_dir_all(place(name).parent().unwrap()).unwrap();
        fs::write(place(name), "no image").unwrap();
    }
    fs::create_dir(place("train/.git")).unwrap();
    fs::write(place("train/.git/1.png"), "not looked at").unwrap();
    for (target, link) in [("nowhere.png", "train/b/gone.png"), ("..", "train/a/deep/up"), ("../../..", "test/a/root")]
    {
        std::os::unix::fs::symlink(target, place(link)).unwrap();
    }
    // Links that lead somewhere are followed.
    fs::create_dir(place("elsewhere")).unwrap();
    fs::rename(place("train/b/1.png"), place("elsewhere/1.png")).unwrap();
    std::os::unix::fs::symlink("../../elsewhere", place("train/b/folder")).unwrap();
    std::os::unix::fs::symlink("../../elsewhere/1.png", place("train/b/file.png")).unwrap();

    let Folder { train, passed_over, .. } = read(folder.path()).unwrap();
    assert_eq!(train, ["train/a/1.png", "train/b/file.png", "train/b/folder/1.png"].map(PathBuf::from));
    let told: Vec<String> = passed_over
        .iter()
        .map(|(why, paths)| {
            let paths: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
            format!("{why}: {}", paths.join(" "))
        })
        .collect();
    insta::assert_snapshot!(told.join("\n"));
}

#[test]
fn what_is_no_data_set_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = || read(folder.path()).err().unwrap().to_string();
    assert!(error().contains("train: cannot be read"), "{}", error());
    save(&folder.path().join("train/a/1.png"), 32, 32, |_, _| [0; 3]);
    assert!(error().contains("test: cannot be read"), "{}", error());
    for class in ["c", "d"] {
        save(&folder.path().join("test").join(class).join("1.png"), 32, 32, |_, _| [0; 3]);
    }
    assert!(error().contains("holds 1 folder; each"), "{}", error());
    save(&folder.path().join("train/b/1.jpg"), 40, 40, |_, _| [9; 3]);
    assert!(error().contains("test: holds classes without a folder in train: c, d"), "{}", error());
    fs::rename(folder.path().join("test/c"), folder.path().join("test/b")).unwrap();
    for class in ["d", "e\nf"] {
        fs::create_dir(folder.path().join("train").join(class)).unwrap();
    }
    assert!(error().contains("train: holds classes without an image: d, e\\nf\n"), "{}", error());
    fs::remove_dir(folder.path().join("train/e\nf")).unwrap();
    save(&folder.path().join("train/d/1.jpg"), 40, 40, |_, _| [7; 3]);
    assert_eq!(read(folder.path()).unwrap().data.train.labels, [0, 1, 2]);
}

/// Not the first alone: whoever has hundreds would mend one at a time.
#[test]
fn all_broken_images_are_counted_and_the_first_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = || read(folder.path()).err().unwrap().to_string();
    for (class, n) in [("train/a", 3), ("train/b", 8), ("test/b", 4)] {
        for number in 0..n {
            save(&folder.path().join(class).join(format!("{number}.png")), 32, 32, |_, _| [number; 3]);
        }
    }
    fs::write(folder.path().join("train/b/2.png"), b"\x89PNG\r\n\x1a\nrubbish").unwrap();
    fs::write(folder.path().join("test/b/3.png"), "").unwrap();
    assert!(error().contains(": 2 of 15 images cannot be used\n  train/b/2.png is not an image"), "{}", error());
    assert!(error().contains("\n  test/b/3.png is empty\n  remove them"), "{}", error());
    for number in 0..8 {
        fs::write(folder.path().join(format!("train/b/{number}.png")), "").unwrap();
    }
    for number in 0..4 {
        fs::write(folder.path().join(format!("test/b/{number}.png")), "").unwrap();
    }
    let lines: Vec<String> = error().lines().map(str::to_owned).collect();
    assert!(lines[0].ends_with("12 of 15 images cannot be used"), "{}", lines[0]);
    assert_eq!((&*lines[10], &*lines[11], lines.len()), ("  test/b/1.png is empty", "  and 2 more", 13));
}

/// By their pixels, whatever the files are.
#[test]
fn the_same_picture_twice_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    let colors =
        [("train/a/1.png", 1), ("train/a/2.png", 2), ("train/b/3.png", 3), ("test/a/4.png", 4), ("test/b/5.png", 5)];
    for (name, level) in colors {
        save(&place(name), 32, 32, |x, _| [level * 40, x as u8, 0]);
    }
    assert!(read(folder.path()).unwrap().duplicates().is_empty());
    // A training image of its own class, of another, and in the other part under another alone.
    for copy in ["train/a/1.bmp", "train/b/1.bmp", "test/b/1.bmp"] {
        image::open(place("train/a/1.png")).unwrap().save(place(copy)).unwrap();
    }
    image::open(place("train/b/3.png")).unwrap().save(place("test/a/3.bmp")).unwrap();
    insta::assert_snapshot!(read(folder.path()).unwrap().duplicates().join("\n"));
    // Many are counted, and three named.
    for number in 0..5 {
        fs::copy(place("train/a/2.png"), place(&format!("test/b/copy-{number}.png"))).unwrap();
    }
    let told = read(folder.path()).unwrap().duplicates();
    assert!(told[0].contains(": 7 of 9 test images, ") && told[0].ends_with(", …)"), "{}", told[0]);
}
