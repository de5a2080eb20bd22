//! Labels on one's own images, whose classes differ in size.

use crate::place::Place;

/// A folder of images: of each class so many to train on and to test on, in `color` or nearly, or all alike.
fn images(place: &Place, classes: &[(&str, u8, u8)], alike: bool) {
    for (class, &(name, train, test)) in (0..).zip(classes) {
        for (set, n) in [("train", train), ("test", test)] {
            for i in 0..n {
                let path = place.write(&format!("images/{set}/{name}/{i:02}.png"), "");
                let noise = |x: u32, y: u32| if alike { 0 } else { (x * 7 + y * 3 + u32::from(i) * 11) as u8 % 40 };
                let color = |c: u8| if alike { 90 } else { (class * 67 + i32::from(c) * 91) as u8 % 200 };
                let pixel = |x, y| image::Rgb([0, 1, 2].map(|c| color(c) + noise(x, y)));
                image::RgbImage::from_fn(32, 32, pixel).save(path).unwrap();
            }
        }
    }
}

/// An experiment on the folder: its `dataset:` line, then these lines.
fn experiment(place: &Place, rest: &str) -> String {
    let printed = place.good(&["data", "--folder", "images"]);
    let dataset = printed.lines().find(|line| line.starts_with("dataset:")).unwrap();
    let file = place.write(
        "own.yaml",
        format!(
            "name: own\n{dataset}\nnetwork: {{channels: [2, 3, 4], hidden: 8, projector: 8, predictor: 4}}\n{rest}"
        ),
    );
    file.to_str().unwrap().to_owned()
}

const BASELINE: &str = "stages: [{name: baseline, method: supervised, epochs: 1, batch: 4}]";

/// 12 and 6 training images: what can be labelled is labelled, and what cannot says why, and where the file asks for it.
#[test]
fn classes_of_different_sizes_can_be_labelled_whole_and_in_part() {
    let place = Place::new();
    images(&place, &[("cats", 12, 8), ("dogs", 6, 4)], false);
    let run = |labels: &str| {
        let file = experiment(&place, &format!("labels: {labels}\n{BASELINE}"));
        place.run(&["run", &file, "--data-dir", "images", "--fresh"])
    };
    let good = |labels: &str| {
        let output = run(labels);
        assert!(output.status.success(), "{labels}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let bad = |labels: &str| {
        let output = run(labels);
        assert_eq!(output.status.code(), Some(2), "{labels}");
        String::from_utf8(output.stderr).unwrap()
    };
    for labels in ["all", "{count: all}", "{count: 18, choose: first}", "{count: 11, choose: proportional}"] {
        let said = good(labels);
        assert!(!said.contains("labels"), "there is nothing to say: {said}");
    }
    let csv = std::fs::read_to_string(place.path("runs/own/results.csv")).unwrap();
    assert!(csv.contains("own,0,baseline,supervised,11,"), "{csv}");
    good("all");
    let csv = std::fs::read_to_string(place.path("runs/own/results.csv")).unwrap();
    assert!(csv.contains("own,0,baseline,supervised,18,"), "the number of all: {csv}");
    let page = std::fs::read_to_string(place.path("runs/own/report.html")).unwrap();
    assert!(page.contains("18 training images, 18 of them with labels, 12 test images"));
    let classes = serde_json::json!([
        {"name": "cats", "train": 12, "test": 8},
        {"name": "dogs", "train": 6, "test": 4},
    ]);
    assert_eq!(place.manifest("runs/own")["classes"], classes);
    place.good(&["verify", "runs/own/manifest.json", "--data-dir", "images"]);

    let first = bad("{count: 10, choose: first}");
    let expected = "own.yaml:4:10: labels.count: the first 10 images of the folder have no dogs (6): take";
    assert!(first.contains(expected), "{first}");
    let stratified = bad("{count: 18, choose: stratified}");
    let expected = "own.yaml:4:10: labels.count: 18 stratified labels are 9 of each class, but dogs has 6 training images: take \
                    12 at most, `choose: proportional`, or `labels: all`";
    assert!(stratified.contains(expected), "{stratified}");
    let odd = bad("{count: 15, choose: stratified}");
    let expected = "own.yaml:4:10: labels.count: 15 cannot be stratified over 2 classes: take a multiple of 2, or `choose: \
                    proportional`";
    assert!(odd.contains(expected), "{odd}");
    // Of 12 and 6 images 0.08 are 0.96 and 0.48.
    let none = bad("{count: all, validation: 0.08}");
    let expected =
        "own.yaml:4:22: labels.validation: 0.08 of 12 images is none, and cats has the most: take a larger share";
    assert!(none.contains(expected), "{none}");
    // Of 12 and 6 images 0.1 are 1.2 and 0.6.
    let some = good("{count: all, validation: 0.1}");
    assert!(some.contains("labels.validation: 0.1 leaves no validation image of dogs (6)"), "{some}");
    let few = good("{count: 10, choose: proportional, validation: 0.5}");
    assert!(!few.contains("labels."), "7 and 3 leave 3 and 1: {few}");

    // A stage's own number has its own place, also in a run of several stages.
    let stages = "stages:\n  - {name: all, method: supervised, epochs: 1, batch: 4, labels: all}
  - {name: few, method: supervised, epochs: 1, batch: 4, labels: 14}";
    let file = experiment(&place, &format!("labels: {{count: 10, choose: stratified}}\n{stages}"));
    let message = place.bad(&["run", &file, "--data-dir", "images", "--fresh"], 2);
    let expected =
        "own.yaml:7:58: stage few: labels: 14 stratified labels are 7 of each class, but dogs has 6 training images";
    assert!(message.contains(expected), "{message}");
    let file =
        experiment(&place, &format!("labels: {{count: 10, choose: stratified}}\n{}", stages.replace("14", "12")));
    place.good(&["run", &file, "--data-dir", "images", "--fresh", "--quiet"]);
    let csv = std::fs::read_to_string(place.path("runs/own/results.csv")).unwrap();
    assert!(csv.contains(",all,supervised,18,") && csv.contains(",few,supervised,12,"), "{csv}");
    assert!(place.path("runs/own/label-curve.svg").exists(), "12 and 18 labels are a curve");
    // A batch of more images than are left to train on: 18 less 9.
    let file = experiment(&place, &format!("labels: {{count: all, validation: 0.5}}\n{}", BASELINE.replace('4', "10")));
    let message = place.bad(&["run", &file, "--data-dir", "images", "--fresh"], 2);
    assert!(message.contains("own.yaml:5:58: stage baseline: batch: 10 is more than the 9 images"), "{message}");
}

/// Where all images are one picture, every classifier gives one answer: its accuracy is the largest class's share.
#[test]
fn a_constant_answer_is_told_from_a_good_one() {
    let place = Place::new();
    images(&place, &[("cats", 12, 8), ("dogs", 6, 4)], true);
    let stages = "stages:
  - {name: baseline, method: supervised, epochs: 3, batch: 9, lr: 0.01}
  - {name: knn, method: knn, from: random}";
    let file = experiment(&place, &format!("labels: all\n{stages}"));
    let said = place.good(&["run", &file, "--data-dir", "images"]);
    for expected in [
        "balanced: the mean of the classes' own accuracies; a constant answer gets 50.0 %",
        "largest class (cats): 66.7 % of the test images, the accuracy of always answering it",
        "hardly learnt: baseline, knn; not measurably better than a constant answer",
    ] {
        assert!(said.contains(expected), "{expected}: {said}");
        let markdown = std::fs::read_to_string(place.path("runs/own/results.md")).unwrap();
        let page = std::fs::read_to_string(place.path("runs/own/report.html")).unwrap();
        let escaped = expected.replace('\'', "&#39;");
        assert!(markdown.contains(expected) && (page.contains(expected) || page.contains(&escaped)), "{markdown}");
    }
    assert!(!said.contains('\u{1b}'), "no colours in a pipe");
    let row = said.lines().find(|line| line.starts_with("baseline ") && line.contains('%')).unwrap();
    let cells: Vec<&str> = row.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect();
    assert_eq!(cells[..4], ["baseline", "66.7 %", "50.0 %", "66.7 %"], "final, balanced, peak");
    for stage in ["baseline", "knn"] {
        let metrics = &place.manifest("runs/own")["result"][stage]["final"];
        assert_eq!(metrics["test_top1"], 8.0 / 12.0, "{stage}");
        assert_eq!(metrics["test_balanced_top1"], 0.5, "{stage}");
    }
    let csv = std::fs::read_to_string(place.path("runs/own/results.csv")).unwrap();
    assert!(csv.lines().next().unwrap().ends_with(",chosen_top1,balanced_top1") && csv.contains(",,,0.5\n"), "{csv}");
    let classes = std::fs::read_to_string(place.path("runs/own/classes.csv")).unwrap();
    assert!(classes.contains("own,baseline,cats,12,8,8\nown,baseline,dogs,6,4,0\n"), "{classes}");
    let svg = |figure: &str| std::fs::read_to_string(place.path("runs/own").join(figure)).unwrap();
    assert!(
        svg("accuracy.svg").contains("largest class: 66.7 %")
            && svg("accuracy.svg").contains("stroke-dasharray=\"2 3\"")
    );
    assert!(svg("balanced-accuracy.svg").contains("balanced accuracy"));
}

/// Ten classes of the sizes of scikit-learn's digits, a tenth of each: 17 or 18 images.
#[test]
fn balanced_accuracy_is_the_mean_of_the_accuracies_by_class() {
    let place = Place::new();
    let names: Vec<String> = (0..10).map(|digit| format!("digit-{digit}")).collect();
    let sizes = [17, 18, 17, 18, 18, 18, 18, 17, 17, 18];
    let tests = [2, 3, 2, 3, 4, 2, 3, 2, 2, 3];
    let classes: Vec<(&str, u8, u8)> = (0..10).map(|digit| (&*names[digit], sizes[digit], tests[digit])).collect();
    images(&place, &classes, false);
    let stages = "stages:\n  - {name: baseline, method: supervised, epochs: 6, batch: 16, lr: 0.01}";
    let file = experiment(&place, &format!("labels: {{count: all, validation: 0.25}}\n{stages}"));
    let said = place.good(&["run", &file, "--data-dir", "images"]);
    assert!(said.contains("largest class (digit-4): 15.4 % of the test images"), "4 of 26: {said}");
    let manifest = place.manifest("runs/own");
    let result = &manifest["result"]["baseline"];
    // Of 17 and of 18 images a quarter is 4: the classes that validate have one size, those that test do not.
    assert!(
        result["final"].get("validation_top1").is_some() && result["final"].get("validation_balanced_top1").is_none()
    );
    let chosen = &result["chosen"];
    let best = result["history"].as_array().unwrap().iter().map(|record| record["validation_top1"].as_f64().unwrap());
    let (best, first) =
        best.enumerate().fold((0.0, 0), |(best, at), (i, top1)| if top1 > best { (top1, i + 1) } else { (best, at) });
    assert!(best > 0.0 && chosen["epoch"] == first, "chosen by top-1: {chosen}");
    let csv = std::fs::read_to_string(place.path("runs/own/classes.csv")).unwrap();
    let counts: Vec<[f64; 2]> = csv
        .lines()
        .skip(1)
        .map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            [4, 5].map(|field| fields[field].parse().unwrap())
        })
        .collect();
    let recalls = counts.iter().map(|[all, right]| right / all).sum::<f64>() / 10.0;
    let top1 = counts.iter().map(|count| count[1]).sum::<f64>() / 26.0;
    assert_eq!(chosen["test_balanced_top1"], recalls);
    assert_eq!(chosen["test_top1"], top1);
    assert!(top1 > 0.2 && recalls != top1, "a case where they differ: {recalls} and {top1}");
}
