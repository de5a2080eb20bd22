//! Own images of another side than CIFAR's.

use crate::place::{Place, text};

/// Three classes of a colour each, 12 training and 10 test images, 40 × 36 pixels.
fn images(place: &Place) {
    for (set, n) in [("train", 12), ("test", 10)] {
        for (class, color) in [("cats", [200, 30, 30]), ("dogs", [30, 30, 200]), ("owls", [30, 200, 30])] {
            for i in 0..n {
                let count = i + if set == "test" { 20 } else { 0 };
                let pixel = |x, y| image::Rgb([0, 1, 2].map(|c| color[c] + ((x * 7 + y * 3 + count * 11) % 50) as u8));
                let path = place.write(&format!("images/{set}/{class}/{i}.png"), "");
                image::RgbImage::from_fn(40, 36, pixel).save(path).unwrap();
            }
        }
    }
}

#[test]
fn a_side_is_part_of_the_data_set_s_line_and_must_be_one() {
    let place = Place::new();
    images(&place);
    let [line, same, large] =
        [&[][..], &["--side", "32"], &["--side", "64"]].map(|options| place.dataset("images", options));
    assert_eq!(line, same);
    assert!(large.ends_with("\", side: 64}") && !line.contains("side"), "{large}");
    let hash = |line: &str| line.split("sha256: ").nth(1).unwrap()[..66].to_owned();
    assert_ne!(hash(&line), hash(&large));
    for side in ["14", "130", "33", "32.0", "-32", "x"] {
        let output = place.run(&["data", "--folder", "images", &format!("--side={side}")]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains("an even number of pixels from 16 to 128"), "{message}");
    }

    let bad = |dataset: &str| {
        let file = place.write(
            "bad.yaml",
            format!("name: t\n{dataset}\nstages: [{{name: a, method: supervised, epochs: 1, batch: 10}}]"),
        );
        place.bad(&["run", file.to_str().unwrap(), "--data-dir", "images"], 2)
    };
    for side in ["14", "130", "33", "32.5", "x"] {
        let message = bad(&large.replace("side: 64", &format!("side: {side}")));
        assert!(
            message.contains("bad.yaml:2:") && message.contains("an even number of pixels from 16 to 128"),
            "{message}"
        );
    }
    let message = bad("dataset: {name: synthetic, side: 64}");
    assert!(
        message.contains("bad.yaml:2:1: dataset: `classes`, `sha256` and `side` belong to name: folder, and to"),
        "{message}"
    );
    // The images of the line, but of another side.
    let message = bad(&large.replace("side: 64", "side: 48").replace("}", "}\nlabels: all"));
    assert!(message.contains("these are not the images that the experiment names"), "{message}");
    assert!(message.contains("`fewlabel data --folder images --side 48`"), "{message}");
}

/// Every method, and a network on features, at the smallest side, at one that no power of two divides, and at a larger one.
#[test]
fn own_images_of_any_side_run_from_beginning_to_end() {
    for side in ["16", "18", "64"] {
        let place = Place::new();
        images(&place);
        let dataset = place.dataset("images", &["--side", side]);
        let rest = "
name: own
labels: {count: 30, choose: stratified, validation: 0.2}
network: {channels: [4, 4, 4], hidden: 8, projector: 16, predictor: 4}
stages:
  - {name: supervised, method: supervised, epochs: 2, batch: 8}
  - {name: pretext, method: pretext, epochs: 1, batch: 12}
  - {name: simsiam, method: simsiam, epochs: 1, batch: 12, knn_every: 1}
  - {name: linear, method: probe, from: simsiam, probe: linear, frozen_norm: eval, epochs: 2, batch: 8}
  - {name: knn, method: knn, from: pretext}";
        let file = place.write("own.yaml", format!("{dataset}{rest}"));
        let file = file.to_str().unwrap();
        place.good(&["run", file, "--data-dir", "images", "--quiet"]);
        assert_eq!(place.manifest("runs/own")["result"]["knn"]["final"]["test_top1"], 1.0, "colour alone tells them");
        place.good(&["verify", "runs/own/manifest.json", "--data-dir", "images"]);
        place.good(&["check", "runs/own"]);
        // Pictures are of the side, and the page cuts its sheet by it.
        let page = std::fs::read_to_string(place.path("runs/own/report.html")).unwrap();
        assert!(page.contains(&format!("data-side=\"{side}\"")), "{side}");
        let views = std::fs::read_to_string(place.path("runs/own/views.svg")).unwrap();
        assert!(views.contains("width=\"64\" height=\"64\""), "{side}");
    }
}
