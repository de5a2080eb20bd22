//! Data sets: CIFAR-10 in all states, and own images.

use std::io::Write;

use crate::place::{EXPERIMENTS, Place, text};

#[test]
fn own_images_are_a_data_set() {
    let place = Place::new();
    for (set, n) in [("train", 12), ("test", 5)] {
        for (class, color) in [("cats", [200, 30, 30]), ("dogs", [30, 30, 200]), ("owls", [30, 200, 30])] {
            for i in 0..n {
                let path = place.path(&format!("images/{set}/{class}/{i}.png"));
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                let pixel = |x, y| image::Rgb([0, 1, 2].map(|c| color[c] + ((x * 7 + y * 3 + i * 11) % 50) as u8));
                image::RgbImage::from_fn(40, 36, pixel).save(path).unwrap();
            }
        }
    }
    let dataset = place.dataset("images", &[]);
    assert!(dataset.starts_with("dataset: {name: folder, train: 36, test: 15, classes: 3, sha256: "), "{dataset}");
    let rest = "
name: own
labels: {count: 30, choose: stratified, validation: 0.2}
network: {channels: [4, 4, 4], hidden: 8, projector: 16, predictor: 4}
stages:
  - {name: simsiam, method: simsiam, epochs: 1, batch: 12}
  - {name: linear, method: probe, from: simsiam, probe: linear, frozen_norm: eval, epochs: 2, batch: 8}
  - {name: knn, method: knn, from: simsiam}";
    let file = place.write("own.yaml", format!("{dataset}{rest}"));
    let file = file.to_str().unwrap();
    place.good(&["run", file, "--data-dir", "images", "--quiet"]);
    let result = &place.manifest("runs/own")["result"];
    assert_eq!(result["knn"]["final"]["test_top1"], 1.0, "colour alone tells these classes");
    let confusion = std::fs::read_to_string(place.path("runs/own/confusion-linear.svg")).unwrap();
    assert!(confusion.contains("owls, predicted as cats"), "the classes have their names");
    place.good(&["verify", "runs/own/manifest.json", "--data-dir", "images"]);

    // Other images, other numbers, no numbers.
    std::fs::copy(place.path("images/train/cats/0.png"), place.path("images/train/dogs/0.png")).unwrap();
    let message = place.bad(&["verify", "runs/own/manifest.json", "--data-dir", "images"], 2);
    assert!(message.contains("these are not the images that the experiment names"), "{message}");
    std::fs::remove_file(place.path("images/train/dogs/0.png")).unwrap();
    let message = place.bad(&["run", file, "--data-dir", "images", "--out", "again"], 2);
    assert!(message.contains("has 35 training and 15 test images of 3 classes"), "{message}");
    let bare = place.write("bare.yaml", format!("dataset: {{name: folder}}{rest}"));
    let message = place.bad(&["run", bare.to_str().unwrap(), "--data-dir", "images"], 2);
    assert!(message.contains("bare.yaml:1:1: dataset: a folder needs `train`, `test`, `classes` and"), "{message}");
    assert!(place.bad(&["data", "--folder", "images", "fetch"], 2).contains("not fetched"));

    // What the images cannot give is said before anything is thrown away.
    std::fs::rename(place.path("images/train/dogs/1.png"), place.path("images/train/cats/dog.png")).unwrap();
    let (line, rest) = (place.dataset("images", &[]), rest.replace("count: 30", "count: 33"));
    let fewer = place.write("fewer.yaml", format!("{line}{rest}"));
    let run = ["run", fewer.to_str().unwrap(), "--data-dir", "images", "--out", "runs/own", "--fresh"];
    let message = place.bad(&run, 2);
    assert!(
        message.contains("33 stratified labels are 11 of each class, but dogs has 10 training images"),
        "{message}"
    );
    assert!(place.path("runs/own/linear/weights.safetensors").exists());

    // A test set that is too small for an experiment has no line.
    for i in 0..5 {
        std::fs::remove_file(place.path(&format!("images/test/owls/{i}.png"))).unwrap();
        std::fs::remove_file(place.path(&format!("images/test/cats/{i}.png"))).unwrap();
    }
    let message = place.bad(&["data", "--folder", "images"], 2);
    assert!(message.contains("images/test: holds 5 images; an experiment takes 10 to 200,000"), "{message}");
    let message = place.bad(&["run", &quick_on("cifar100", &place), "--data-dir", "images"], 2);
    assert!(message.contains("cifar-100-binary.tar.gz") && message.contains("download"), "{message}");
}

/// A pipe is no image, whatever its name, and a line break in a class's name begins no key of the experiment.
#[cfg(unix)]
#[test]
fn odd_names_in_a_folder_of_images_do_no_harm() {
    let place = Place::new();
    for (set, n) in [("train", 10), ("test", 5)] {
        for (class, i) in ["a", "b\nseeds: 3\n#"].into_iter().flat_map(|class| (0..n).map(move |i| (class, i))) {
            let image = image::RgbImage::from_pixel(32, 32, image::Rgb([i, 2, 3]));
            let path = place.write(&format!("images/{set}/{class}/{i}.png"), "");
            image.save(path).unwrap();
        }
    }
    let pipe = place.path("images/train/a/pipe.png");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Names that turn the line round, or are seen by nobody.
    for name in ["notes.\u{202e}gpj", "train/a/\u{200b}\n.png\u{7}", "train/b\nseeds: 3\n#/\r\u{1b}[2K.txt"] {
        place.write(&format!("images/{name}"), "");
    }
    let printed = place.good(&["data", "--folder", "images"]);
    insta::assert_snapshot!(printed.split(", sha256").next().unwrap());
    place.write("images/train/a/\u{202e}gnp.png", "no picture");
    let message = place.bad(&["data", "--folder", "images"], 2);
    assert!(message.contains("\n  train/a/\\u{202e}gnp.png is not an image that can be read"), "{message}");
    std::fs::create_dir(place.path("images/test/c\u{2066}d")).unwrap();
    let message = place.bad(&["data", "--folder", "images"], 2);
    assert!(message.contains("test: holds classes without a folder in train: c\\u{2066}d\n"), "{message}");
}

/// Where the system gives no more threads, that is said: no panic. Eight stacks of 100 MB take more than the address
/// space that is left; what the third one leaves is enough for everything else.
#[cfg(target_os = "linux")]
#[test]
fn own_images_without_threads_are_an_error() {
    let place = Place::new();
    for name in ["train/a/1.png", "train/b/1.png", "test/a/1.png"] {
        image::RgbImage::new(32, 32).save(place.write(&format!("images/{name}"), "")).unwrap();
    }
    let program = place.command(&[]);
    let limited = format!("ulimit -v 300000; exec {:?} data --folder images", program.get_program());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &limited]).current_dir(place.path(""));
    // One arena: glibc reserves 64 MiB of addresses for each other thread's, and that is no lack of threads.
    shell.envs([("RAYON_NUM_THREADS", "8"), ("RUST_MIN_STACK", "100000000"), ("MALLOC_ARENA_MAX", "1")]);
    let output = shell.output().unwrap();
    let message = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(message.starts_with("fewlabel: ") && message.contains("thread") && !message.contains("panic"), "{message}");
}

/// What lies in the folder is printed as comments above the line: the whole is the beginning of an experiment.
#[test]
fn everything_in_a_folder_is_told() {
    let place = Place::new();
    let color = |name: &str| name.bytes().fold(7u8, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte));
    let classes =
        [("train", "cat", 7), ("train", "dog", 4), ("train", "owl", 1), ("test", "cat", 8), ("test", "dog", 3)];
    for (part, class, n) in classes {
        for i in 0..n {
            let name = format!("images/{part}/{class}/{}{i}.png", if i % 2 == 1 { "more/" } else { "" });
            let path = place.write(&name, "");
            let pixel = |x, _| image::Rgb([color(&name), color(part), i + x as u8]);
            image::RgbImage::from_fn(32, 32, pixel).save(path).unwrap();
        }
    }
    let white = image::RgbImage::from_pixel(32, 32, image::Rgb([255; 3]));
    white.save(place.write("images/train/dog/blank.png", "")).unwrap();
    std::fs::copy(place.path("images/train/cat/0.png"), place.path("images/test/dog/0.png")).unwrap();
    for name in ["a.txt", "b.txt", "c.txt", "d.txt", "e.heic", ".DS_Store"] {
        place.write(&format!("images/train/dog/{name}"), "");
    }
    place.write("images/readme.md", "");
    let printed = place.good(&["data", "--folder", "images"]);
    insta::assert_snapshot!(printed.split(", sha256").next().unwrap());
    let experiment = format!(
        "{printed}name: all
labels: all
network: {{channels: [2, 2, 2]}}
stages: [{{name: a, method: supervised, epochs: 1, batch: 6}}]"
    );
    let file = place.write("all.yaml", experiment);
    place.good(&["run", file.to_str().unwrap(), "--data-dir", "images", "--quiet"]);
}

/// Black letters on a transparent ground, as stamps and icons are: all black where transparency is dropped.
#[test]
fn transparent_letters_are_read_over_a_background() {
    let place = Place::new();
    for (part, class, n) in [("train", "O", 10), ("train", "X", 10), ("test", "O", 5), ("test", "X", 5)] {
        for i in 0..n {
            // Another place and size for each; of the test images others than of the training images.
            let i = if part == "test" { 2 * i + 1 } else { 2 * i } as f32;
            let (left, top, radius) = (28.0 + i % 7.0, 28.0 + i % 5.0, 16.0 + i % 9.0);
            let pixel = |x: u32, y: u32| {
                let (x, y) = (x as f32 - left, y as f32 - top);
                let ink = match class {
                    "O" => (libm::hypotf(x, y) - radius).abs() < 3.0,
                    _ => x.abs().max(y.abs()) < radius && (x.abs() - y.abs()).abs() < 4.0,
                };
                image::LumaA([0, if ink { 255u8 } else { 0 }])
            };
            let path = place.write(&format!("letters/{part}/{class}/{i}.png"), "");
            image::ImageBuffer::from_fn(64, 64, pixel).save(path).unwrap();
        }
    }
    let rest = "
name: letters
labels: {count: 20, choose: stratified}
network: {channels: [4, 8, 8], hidden: 8}
stages: [{name: baseline, method: supervised, epochs: 20, batch: 10}]";
    let dataset = place.dataset("letters", &[]);
    let file = place.write("letters.yaml", format!("{dataset}{rest}"));
    place.good(&["run", file.to_str().unwrap(), "--data-dir", "letters", "--quiet"]);
    assert_eq!(place.manifest("runs/letters")["result"]["baseline"]["final"]["test_top1"], 1.0);

    // Over black nothing is seen; the ground is part of the experiment.
    let black = place.dataset("letters", &["--background", "black"]);
    assert!(black.ends_with(", background: \"black\"}"), "{black}");
    let short = rest.replace("name: letters", "name: black").replace("epochs: 20", "epochs: 1");
    let file = place.write("black.yaml", format!("{black}{short}"));
    let said = place.good(&["run", file.to_str().unwrap(), "--data-dir", "letters"]);
    assert!(said.contains("the same 32 × 32 pixels in train and test: 10 of 10 test images ("), "{said}");
    assert_eq!(place.manifest("runs/black")["result"]["baseline"]["final"]["test_top1"], 0.5);
    let other = black.replace("black", "#ff0000");
    let file = place.write("other.yaml", format!("{other}{rest}"));
    let message = place.bad(&["run", file.to_str().unwrap(), "--data-dir", "letters", "--out", "other"], 2);
    assert!(message.contains("these are not the images that the experiment names"), "{message}");
    // Where the quotes are left out, YAML takes the colour for a comment.
    let file = place.write("other.yaml", format!("dataset:\n  name: folder\n  background: #ff0000\n{rest}"));
    let message = place.bad(&["run", file.to_str().unwrap(), "--data-dir", "letters", "--out", "other"], 2);
    assert!(message.contains("in quotes"), "{message}");
    let message = place.bad(&["run", &quick_on("synthetic, background: black", &place)], 2);
    assert!(message.contains("`background` belongs to name: folder"), "{message}");
    let output = place.run(&["data", "--folder", "letters", "--background", "red"]);
    assert!(text(&output.stderr).contains("#rrggbb"), "{}", text(&output.stderr));
}

/// The test images are the training images: told before the run, to scripts as well, and in the report.
#[test]
fn a_test_part_of_training_images_is_told() {
    let place = Place::new();
    for (class, red) in [("a", 10), ("b", 200)] {
        for i in 0..10 {
            let path = place.write(&format!("images/train/{class}/{i}.png"), "");
            image::RgbImage::from_pixel(32, 32, image::Rgb([red, i, 9])).save(path).unwrap();
            place.write(&format!("images/test/{class}/{i}.png"), "");
            let [train, test] = ["train", "test"].map(|part| place.path(&format!("images/{part}/{class}/{i}.png")));
            std::fs::copy(train, test).unwrap();
        }
    }
    let line = "the same 32 × 32 pixels in train and test: 20 of 20 test images (test/a/0.png = train/a/0.png, ";
    assert!(place.good(&["data", "--folder", "images"]).contains(line));
    let rest = "
name: copies
labels: {count: 20, choose: stratified}
network: {channels: [4, 4, 4], hidden: 8}
stages: [{name: baseline, method: supervised, epochs: 1, batch: 10}]";
    let file = place.write("copies.yaml", format!("{}{rest}", place.dataset("images", &[])));
    let said = place.good(&["run", file.to_str().unwrap(), "--data-dir", "images", "--json"]);
    let warnings: Vec<&str> = said.lines().filter(|line| line.contains("\"event\":\"warning\"")).collect();
    assert_eq!(warnings.iter().filter(|warning| warning.contains(line)).count(), 1, "{warnings:?}");
    for file in ["log.txt", "report.html", "results.md"] {
        let contents = std::fs::read_to_string(place.path("runs/copies").join(file)).unwrap();
        assert_eq!(contents.matches(line).count(), 1, "{file}");
    }
}

impl Place {
    /// The line that makes the folder a data set, by `data --folder`.
    pub fn dataset(&self, folder: &str, options: &[&str]) -> String {
        let printed = self.good(&[&["data", "--folder", folder], options].concat());
        printed.lines().last().unwrap().to_owned()
    }
}

/// A file with one stage on the data set.
fn quick_on(dataset: &str, place: &Place) -> String {
    let yaml = format!("name: q\ndataset: {{name: {dataset}}}\nstages: [{{name: a, method: supervised}}]");
    place.write("q.yaml", yaml).to_str().unwrap().to_owned()
}

/// Six files of the right length; their contents are zeros.
fn false_cifar(place: &Place) {
    for name in ["data_batch_1", "data_batch_2", "data_batch_3", "data_batch_4", "data_batch_5", "test_batch"] {
        let path = place.write(&format!("data/cifar-10-batches-bin/{name}.bin"), "");
        std::fs::File::options().write(true).open(path).unwrap().set_len(30_730_000).unwrap();
    }
}

#[test]
fn data_that_is_missing_or_not_whole_is_bad_input() {
    let place = Place::new();
    let study = format!("{EXPERIMENTS}/study.yaml");
    let all = |expected: &str| {
        for args in [&["run", &study, "--out", "run"][..], &["data"]] {
            let message = place.bad(args, 2);
            assert!(message.contains(expected) && message.contains("fetch"), "{args:?}: {message}");
        }
    };
    all("there is no such folder (the default), which should hold");
    std::fs::create_dir(place.path("data")).unwrap();
    all("this folder, the default, holds neither");
    let message = place.bad(&["data", "--data-dir", "my data"], 2);
    assert!(message.contains("`fewlabel data fetch --data-dir 'my data'`"), "{message}");
    let message = place.bad(&["data", "--data-dir", "elsewhere"], 2);
    assert!(message.contains("elsewhere") && message.contains("--data-dir"), "{message}");
    false_cifar(&place);
    let message = place.bad(&["run", &study, "--out", "run"], 2);
    assert!(message.contains("data_batch_1.bin") && message.contains("SHA-256"), "{message}");
    let output = place.run(&["data"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(text(&output.stdout).matches("30730000 bytes").count(), 6);
    std::fs::remove_file(place.path("data/cifar-10-batches-bin/test_batch.bin")).unwrap();
    std::fs::write(place.path("data/cifar-10-batches-bin/data_batch_1.bin"), [0; 3073]).unwrap();
    let message = place.bad(&["run", &study, "--out", "run"], 2);
    assert!(
        message.contains("is incomplete: data_batch_1.bin 3073 of 30730000 bytes, test_batch.bin missing"),
        "{message}"
    );
    assert!(!place.path("run").exists(), "nothing is written");
    std::fs::remove_dir_all(place.path("data")).unwrap();
    place.write("data/cifar-10-binary.tar.gz", "junk");
    all("cifar-10-binary.tar.gz");
}

#[test]
fn a_download_that_fails_is_a_fault_and_leaves_nothing() {
    let place = Place::new();
    // A port that was free a moment ago, and where nobody listens now.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let url = format!("http://127.0.0.1:{port}/cifar.tar.gz");
    for url in ["nonsense", "ftp://example.org/x"] {
        place.bad(&["data", "fetch", "--url", url, "--data-dir", "here"], 2);
    }
    let file = place.write("file", "");
    place.bad(&["data", "fetch", "--url", &url, "--data-dir", "file"], 2);
    std::fs::remove_file(file).unwrap();
    let message = place.bad(&["data", "fetch", "--url", &url, "--data-dir", "here"], 3);
    assert!(message.contains(&url), "{message}");
    assert!(place.files().is_empty(), "{:?}", place.files());
}

/// The real images, where `FEWLABEL_DATA` names them: one flipped bit is noticed, the whole files are accepted.
#[test]
fn the_real_data_is_accepted_and_one_flipped_bit_is_not() {
    let named = std::env::var("FEWLABEL_DATA").ok().filter(|folder| !folder.is_empty());
    let data = named.map(|folder| std::path::absolute(folder).unwrap().display().to_string());
    let source = data.as_ref().and_then(|data| fewlabel::data::cifar10::locate(Some(data.as_ref())).ok());
    let (Some(data), Some(source)) = (data, source) else {
        // Straight to standard error: what a passing test prints otherwise, the harness keeps to itself.
        let _ = writeln!(std::io::stderr(), "skipped: FEWLABEL_DATA names no folder with CIFAR-10");
        return;
    };
    let place = Place::new();
    let said = place.good(&["data", "--data-dir", &data]);
    assert_eq!(said.matches("whole").count(), 6, "{said}");
    let images = fewlabel::data::cifar10::load(&source).unwrap();
    let sets = [(&images.train, 0..10_000, "data_batch_1"), (&images.train, 10_000..20_000, "data_batch_2")];
    let rest = [(20_000, "data_batch_3"), (30_000, "data_batch_4"), (40_000, "data_batch_5")];
    let rest = rest.map(|(first, name)| (&images.train, first..first + 10_000, name));
    for (set, range, name) in sets.into_iter().chain(rest).chain([(&images.test, 0..10_000, "test_batch")]) {
        let record = |i: usize| [&[set.labels[i] as u8][..], set.image(i)].concat();
        place.write(&format!("copy/cifar-10-batches-bin/{name}.bin"), range.flat_map(record).collect::<Vec<u8>>());
    }
    place.good(&["data", "--data-dir", "copy"]);
    let path = place.path("copy/cifar-10-batches-bin/data_batch_4.bin");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[12_345_678] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let study = format!("{EXPERIMENTS}/study.yaml");
    let message = place.bad(&["run", &study, "--data-dir", "copy", "--out", "run"], 2);
    assert!(message.contains("data_batch_4.bin") && message.contains("SHA-256"), "{message}");
}
