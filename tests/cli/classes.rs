//! More classes than a byte can name.

use crate::place::Place;

#[test]
fn own_images_can_be_of_a_thousand_classes() {
    for n in [300, 1000] {
        let place = Place::new();
        for (set, red) in [("train", 0), ("test", 200)] {
            for class in 0..n {
                // Four pixels of a colour that no other image has.
                let pixel = [red, (class % 256) as u8, (class / 256 * 60) as u8];
                let ppm = [b"P6 2 2 255\n".as_slice(), &pixel.repeat(4)].concat();
                place.write(&format!("images/{set}/c{class:04}/0.ppm"), ppm);
            }
        }
        let dataset = place.dataset("images", &[]);
        let line = format!("dataset: {{name: folder, train: {n}, test: {n}, classes: {n}, sha256: ");
        assert!(dataset.starts_with(&line), "{dataset}");
        let rest = "
name: many
labels: all
network: {channels: [2, 3, 4], hidden: 8}
stages: [{name: a, method: supervised, epochs: 1, batch: 50}, {name: b, method: knn, from: random}]";
        let file = place.write("many.yaml", format!("{dataset}{rest}"));
        let file = file.to_str().unwrap();
        place.good(&["run", file, "--data-dir", "images", "--quiet"]);
        let classes = place.manifest("runs/many")["classes"].as_array().unwrap().clone();
        assert_eq!(classes.len(), n);
        assert!(
            classes.iter().all(|class| class["train"] == 1 && class["test"] == 1),
            "every class has its own images"
        );
        place.good(&["verify", "runs/many/manifest.json", "--data-dir", "images"]);
        place.good(&["check", "runs/many"]);

        // What cannot be read is left out, and the page says so.
        let page = std::fs::read_to_string(place.path("runs/many/report.html")).unwrap();
        assert!(page.contains(&format!("The names of {n} classes have no room")) && page.contains("c0257"));
        assert!(page.contains("Several classes share a colour and a marker."));
        for id in ["confusion-a", "confusion-b", "umap-random"] {
            assert!(!std::fs::read_to_string(place.path(&format!("runs/many/{id}.svg"))).unwrap().contains("c0257"));
        }
        let size = |name: &String| std::fs::metadata(place.path(name)).unwrap().len();
        let all: u64 =
            place.files().iter().filter(|name| name.starts_with("runs/many/") && !name.contains("/a/")).map(size).sum();
        assert!(page.len() < 10_000_000 && all < 15_000_000, "a page of {} bytes, {all} with all figures", page.len());
    }
    let place = Place::new();
    for class in 0..1001 {
        place.write(&format!("images/train/{class}/0.ppm"), b"");
    }
    std::fs::create_dir(place.path("images/test")).unwrap();
    let message = place.bad(&["data", "--folder", "images"], 2);
    assert!(message.contains("holds 1001 folders; each is a class, and there must be 2 to 1000"), "{message}");
}
