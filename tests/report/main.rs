//! The report: one self-contained file, figures beside it, tables for scripts.

mod bounds;
mod strangers;

use std::path::{Path, PathBuf};

use fewlabel::experiment::{Experiment, Manifest, Options, run};
use fewlabel::report;

fn run_into(folder: &Path, yaml: &str) -> PathBuf {
    let experiment = Experiment::parse("report.yaml".as_ref(), yaml).unwrap();
    let out = folder.join(&*experiment.name);
    run(&experiment, &Options::new(&out)).unwrap();
    out
}

fn files(folder: &Path, end: &str) -> Vec<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter_map(|name| Some(name.strip_suffix(end)?.to_owned())).collect();
    names.sort();
    names
}

const SMOKE: &str = include_str!("../../experiments/smoke.yaml");

/// The counts of a stage's confusion matrix, and the share on its diagonal.
fn counted(out: &Path, stage: &str) -> (u32, f64) {
    let svg = std::fs::read_to_string(out.join(format!("confusion-{stage}.svg"))).unwrap();
    let [mut all, mut right] = [0, 0];
    for title in svg.split("<title>").skip(1) {
        let (class, rest) = title.split_once(", predicted as ").unwrap();
        let (taken, rest) = rest.split_once(": ").unwrap();
        let count: u32 = rest.split(" of ").next().unwrap().parse().unwrap();
        all += count;
        right += if class == taken { count } else { 0 };
    }
    (all, f64::from(right) / f64::from(all))
}

#[test]
fn a_run_gets_a_page_with_every_figure_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let out = run_into(folder.path(), SMOKE);
    let page = report::write(std::slice::from_ref(&out), None, &out, &mut |_| {}).unwrap();
    let html = std::fs::read_to_string(page).unwrap();
    let expected = [
        "accuracy",
        "accuracy-of-baseline",
        "accuracy-of-pretext-finetune",
        "accuracy-of-simsiam-probe",
        "confusion-baseline",
        "confusion-pretext-finetune",
        "confusion-simsiam-linear",
        "confusion-simsiam-probe",
        "filters-pretext",
        "filters-random",
        "filters-simsiam",
        "loss",
        "loss-of-baseline",
        "loss-of-pretext-finetune",
        "loss-of-simsiam-probe",
        "neighbors-pretext",
        "neighbors-random",
        "neighbors-simsiam",
        "output-std",
        "pretext-tasks",
        "simsiam-loss",
        "umap-pretext",
        "umap-random",
        "umap-simsiam",
        "views",
    ];
    assert_eq!(files(&out, ".svg"), expected);
    assert_eq!(files(&out, ".png"), expected);
    for id in expected {
        assert!(html.contains(&format!("<figure id=\"{id}\"")), "{id}");
    }
    // A page fetches by src, href and url(): here only anchors, files beside it, and embedded data.
    for (attribute, end) in [("src=\"", '"'), ("href=\"", '"'), ("url(", ')')] {
        for part in html.split(attribute).skip(1) {
            let target = part.split(end).next().unwrap();
            let own = target.starts_with("data:") || target.starts_with('#') || out.join(target).is_file();
            assert!(own, "the page asks for {}", &target[..target.len().min(80)]);
        }
    }
    let experiment = Experiment::parse("smoke.yaml".as_ref(), SMOKE).unwrap();
    assert!(html.contains(&experiment.sha256()));
    // A confusion matrix counts the test images; right predictions are on its diagonal.
    let manifest = Manifest::load(&out.join("manifest.json")).unwrap();
    for stage in ["baseline", "pretext-finetune", "simsiam-probe", "simsiam-linear"] {
        let top1 = manifest.result[stage].last.metrics["test_top1"];
        assert_eq!(counted(&out, stage), (40, top1), "{stage}");
    }
    assert!(html.contains(&format!("fewlabel report {} ", out.display())) && html.contains("fewlabel run smoke.yaml "));
    // The CSV has the manifest's accuracies.
    let csv = std::fs::read_to_string(out.join("results.csv")).unwrap();
    let top1 = manifest.result["baseline"].last.metrics["test_top1"];
    let line = csv.lines().find(|line| line.contains(",baseline,")).unwrap();
    assert!(line.starts_with("smoke,0,baseline,supervised,40,") && line.ends_with(&format!(",{top1},,,")), "{line}");
    assert_eq!(csv.lines().count(), 1 + 6);
    // Written again it is the same page: the time is the manifest's, which does not change.
    let again = report::write(std::slice::from_ref(&out), None, &out, &mut |_| {}).unwrap();
    assert!(std::fs::read_to_string(again).unwrap() == html, "the same report");
}

#[test]
fn several_runs_are_compared_in_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = |name: &str, labels: &str| {
        format!(
            "
name: {name}
seeds: 2
dataset: {{name: synthetic, train: 60, test: 20}}
labels: {{count: 20, choose: stratified, validation: 0.5}}
network: {{channels: [2, 3, 4], hidden: 8}}
stages:
  - {{name: small, method: supervised, epochs: 1, batch: 4{labels}}}
  - {{name: large, method: supervised, epochs: 1, batch: 4}}
  - {{name: votes, method: knn, from: random}}
claims: [{{better: large, than: small}}]"
        )
    };
    let runs = [run_into(folder.path(), &yaml("a", ", labels: 40")), run_into(folder.path(), &yaml("b", ""))];
    let out = folder.path().join("both");
    let html = std::fs::read_to_string(report::write(&runs, None, &out, &mut |_| {}).unwrap()).unwrap();
    for name in ["a: small", "b: large"] {
        assert!(html.contains(&format!("\"name\":\"{name}\"")), "a curve of {name}");
    }
    assert!(html.contains("<figure id=\"b.confusion-large\"") && html.contains("<figure id=\"accuracy-40\""));
    assert!(html.contains("large beats small: "));
    assert!(
        html.contains("<h2>All runs</h2>") && html.contains("<th scope=\"row\">b: large</th>"),
        "one table of both"
    );
    // The page names the command that makes it, and for each run the one that repeats it.
    let [a, b, both] = [&runs[0], &runs[1], &out].map(|path| path.display());
    for command in
        [format!("fewlabel report {a} {b} --out {both} "), "fewlabel run a.yaml ".into(), "fewlabel run b.yaml ".into()]
    {
        assert!(html.contains(&command), "{command}");
    }
    let csv = std::fs::read_to_string(out.join("results.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2 * 2 * 3);
    assert!(csv.lines().any(|line| line.starts_with("a,1,small,supervised,40,")), "{csv}");
    // kNN has a confusion matrix too.
    report::write(std::slice::from_ref(&runs[0]), None, &runs[0], &mut |_| {}).unwrap();
    let manifest = Manifest::load(&runs[0].join("manifest.json")).unwrap();
    let top1 = manifest.result["seed-0/votes"].last.metrics["test_top1"];
    assert_eq!(counted(&runs[0], "votes"), (20, top1));
    // Runs of the same name have their own figures.
    let twice = folder.path().join("twice");
    report::write(&[runs[0].clone(), runs[0].clone()], None, &twice, &mut |_| {}).unwrap();
    assert!(files(&twice, ".svg").iter().any(|id| id == "a-2.views") && twice.join("a.views.svg").exists());
    // Stages that differ only in their labels are one curve.
    assert!(files(&out, ".svg").contains(&"label-curve".to_owned()), "a has 20 and 40 labels");
}

#[test]
fn figures_of_an_earlier_report_are_taken_away_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let yaml = "
name: a
dataset: {name: synthetic, train: 40, test: 20}
labels: {count: 20, choose: first}
network: {channels: [2, 3, 4], hidden: 8}
stages: [{name: one, method: supervised, epochs: 1, batch: 4}]";
    let out = run_into(folder.path(), yaml);
    std::fs::write(out.join("confusion-mine.svg"), "mine").unwrap();
    report::write(std::slice::from_ref(&out), None, &out, &mut |_| {}).unwrap();
    let before = files(&out, ".png");
    assert!(before.contains(&"confusion-one".to_owned()));
    // The stage is gone from the run.
    let mut manifest = Manifest::load(&out.join("manifest.json")).unwrap();
    manifest.result.clear();
    manifest.save(&out.join("manifest.json")).unwrap();
    report::write(std::slice::from_ref(&out), None, &out, &mut |_| {}).unwrap();
    let of_stage = |id: &String| ["confusion-one", "accuracy", "loss", "umap-random"].contains(&&**id);
    assert_eq!(files(&out, ".png"), before.into_iter().filter(|id| !of_stage(id)).collect::<Vec<_>>());
    assert!(!files(&out, ".svg").contains(&"confusion-one".to_owned()));
    // A run that starts over removes its report, but no page of someone else, nor files that such a page names.
    let experiment = Experiment::parse("a.yaml".as_ref(), yaml).unwrap();
    let fresh = Options { fresh: true, ..Options::new(&out) };
    run(&experiment, &fresh).unwrap();
    assert_eq!(files(&out, ".svg"), ["confusion-mine"]);
    let left = ["report.html", "results.csv", "results.md", "views.png"].map(|file| out.join(file).exists());
    assert_eq!(left, [false; 4]);
    let own = "<title>mine</title>\n<figure id=\"confusion-mine\">";
    std::fs::write(out.join("report.html"), own).unwrap();
    run(&experiment, &fresh).unwrap();
    assert_eq!(std::fs::read_to_string(out.join("report.html")).unwrap(), own);
    assert!(out.join("confusion-mine.svg").exists());
}

/// A run directory with nothing but a manifest of `golden/`.
fn golden(folder: &Path, name: &str) -> PathBuf {
    let out = folder.join(name);
    std::fs::create_dir(&out).unwrap();
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden").join(name).with_extension("json");
    std::fs::copy(manifest, out.join("manifest.json")).unwrap();
    out
}

#[test]
fn n_counts_the_seeds_that_are_finished() {
    let folder = tempfile::tempdir().unwrap();
    let strict = golden(folder.path(), "strict");
    let file = strict.join("manifest.json");
    let mut manifest: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    manifest["result"].as_object_mut().unwrap().retain(|key, _| key.starts_with("seed-0/"));
    std::fs::write(&file, manifest.to_string()).unwrap();
    let page = report::write(std::slice::from_ref(&strict), Some(folder.path()), &strict, &mut |_| {}).unwrap();
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("3 seeds from 0 on (so far n = 1).") && !html.contains("n = 3"));
    assert!(!html.contains("± half") && html.contains("simsiam-knn (n = 1)"));

    assert!(html.contains("# the same bits again"));
    manifest["environment"]["device"] = "cuda".into();
    std::fs::write(&file, manifest.to_string()).unwrap();
    let page = report::write(std::slice::from_ref(&strict), Some(folder.path()), &strict, &mut |_| {}).unwrap();
    let html = std::fs::read_to_string(page).unwrap();
    assert!(!html.contains("# the same bits again") && html.contains("--device cuda --within 2"), "a GPU has others");
}

/// Images in class folders below `folder`, as many of each class: a gradient that differs from class to class.
fn class_folders(folder: &Path, classes: &[impl AsRef<str>], [train, test]: [u32; 2]) {
    for (set, n) in [("train", train), ("test", test)] {
        for (index, class) in classes.iter().enumerate() {
            let class = folder.join(set).join(class.as_ref());
            std::fs::create_dir_all(&class).unwrap();
            for i in 0..n {
                // All images differ: a red corner counts them.
                let pixel = |x: u32, y: u32| {
                    let count = if (x, y) == (0, 0) { i + 100 * u32::from(set == "test") } else { x * 7 };
                    image::Rgb([count as u8, (y * (i + 1)) as u8, (index * 200 / classes.len()) as u8])
                };
                image::RgbImage::from_fn(32, 32, pixel).save(class.join(format!("{i}.png"))).unwrap();
            }
        }
    }
}

/// A run on `images`, which has as many training and test images, with a supervised stage `a` and kNN `b`.
fn run_on(images: &Path, out: &Path, [train, test]: [usize; 2]) {
    let data = fewlabel::data::folder::load(images, Default::default(), 32).unwrap().data;
    let yaml = format!(
        "
name: mine
dataset: {{name: folder, train: {train}, test: {test}, classes: {}, sha256: {:?}}}
labels: {{count: {train}, choose: stratified}}
network: {{channels: [2, 3, 4], hidden: 8}}
stages: [{{name: a, method: supervised, epochs: 1, batch: 4}}, {{name: b, method: knn, from: random}}]",
        data.classes.len(),
        data.sha256()
    );
    let experiment = Experiment::parse("mine.yaml".as_ref(), &yaml).unwrap();
    run(&experiment, &Options { data_dir: Some(images.to_owned()), ..Options::new(out) }).unwrap();
}

/// Class folders whose names would end a script, open a comment, or be no XML; a run folder that a shell would split.
#[cfg(unix)]
#[test]
fn names_that_people_gave_stay_text() {
    let folder = tempfile::tempdir().unwrap();
    let images = folder.path().join("images");
    class_folders(&images, &["<!--<script>", "=a|[\x07&`b`](c)", "z\u{202e}\n"], [8, 5]);
    // The classes differ in size: each has its own accuracy.
    std::fs::remove_file(images.join("test/=a|[\x07&`b`](c)/0.png")).unwrap();
    std::fs::remove_file(images.join("test/z\u{202e}\n/0.png")).unwrap();
    let out = folder.path().join("it's mine");
    run_on(&images, &out, [24, 13]);
    let page = report::write(std::slice::from_ref(&out), Some(&images), &out, &mut |_| {}).unwrap();
    let html = std::fs::read_to_string(page).unwrap();
    assert!(!html.contains("<!--"));
    let json = r#""classes":["\u003c!--\u003cscript>","=a|[\\u{7}&`b`](c)","z\\u{202e}\\n"]"#;
    assert!(html.contains(json) && html.contains(r#"<th scope="row">z\u{202e}\n</th>"#));
    assert!(std::fs::read_to_string(out.join("confusion-a.svg")).unwrap().contains(r"=a|[\u{7}&amp;`b`](c)"));
    for file in report_files(&out) {
        let shown = String::from_utf8_lossy(&file.1).contains(['\u{202e}', '\x07']);
        assert!(file.0.ends_with(".png") || !shown, "{}: a mark that turns or hides text", file.0);
    }
    let csv = std::fs::read_to_string(out.join("classes.csv")).unwrap();
    assert!(csv.contains("\nit-s-mine,a,'=a|[\\u{7}&`b`](c),8,4,") && csv.contains(",z\\u{202e}\\n,8,4,"), "{csv}");
    let md = std::fs::read_to_string(out.join("results.md")).unwrap();
    assert!(md.contains(r"largest class (\<!--\<script\>): 38.5 %"), "{md}");
    let verify = |images: &str| {
        format!(r"fewlabel verify '{}/it'\''s mine/manifest.json' --data-dir {images} ", folder.path().display())
    };
    assert!(html.contains(&verify(&images.display().to_string())));
    // Of three classes there are three queries.
    assert!(html.contains("then the 10 of the 24 training images"));
    let neighbors = std::fs::read_to_string(out.join("neighbors-random.svg")).unwrap();
    assert_eq!(neighbors.matches("<image").count(), 3 * (1 + 10));
    let page = report::write(std::slice::from_ref(&out), None, &folder.path().join("other"), &mut |_| {}).unwrap();
    assert!(std::fs::read_to_string(page).unwrap().contains(&verify("IMAGES")), "where they are nobody has said");
}

/// Name and bytes of every file of the report in `folder`.
fn report_files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut all: Vec<String> = ["svg", "png", "md", "csv", "html"]
        .iter()
        .flat_map(|end| files(folder, &format!(".{end}")).into_iter().map(move |name| format!("{name}.{end}")))
        .collect();
    all.sort();
    all.into_iter().map(|name| (name.clone(), std::fs::read(folder.join(&name)).unwrap())).collect()
}

#[test]
fn a_report_is_never_replaced_by_one_that_shows_less() {
    let folder = tempfile::tempdir().unwrap();
    let [images, away, out, other] = ["images", "away", "run", "other"].map(|name| folder.path().join(name));
    class_folders(&images, &["x", "y"], [8, 5]);
    run_on(&images, &out, [16, 10]);
    let write = |to: &Path| report::write(std::slice::from_ref(&out), Some(&images), to, &mut |_| {});
    write(&out).unwrap();
    let whole = report_files(&out);
    std::fs::rename(&images, &away).unwrap();
    let error = write(&out).unwrap_err();
    let said = error.to_string();
    assert_eq!(error.exit_code(), 3, "{said}");
    let page = out.join("report.html").display().to_string();
    for part in [
        format!("{page}: left as it is: the new report would lose 5 figures (views, umap-random, neighbors-random, …)"),
        format!("run: no images, so no figures that need them: {}", images.display()),
        format!("fewlabel report {} --out ", out.display()),
        "--data-dir".to_owned(),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    assert!(report_files(&out) == whole, "not one byte is another");
    // Where there is none that shows more it is written: with what needs no images, and again.
    for _ in 0..2 {
        let html = std::fs::read_to_string(write(&other).unwrap()).unwrap();
        assert!(html.contains("run: no images, so no figures that need them: "), "{html}");
        assert_eq!(files(&other, ".svg"), ["accuracy", "filters-random", "loss"]);
        assert!(!report::is_whole(&other));
    }
    std::fs::rename(&away, &images).unwrap();
    write(&other).unwrap();
    assert!(report::is_whole(&other));
    // Weights that are gone are as bad, of one run of several too.
    let both = folder.path().join("both");
    report::write(&[out.clone(), out.clone()], Some(&images), &both, &mut |_| {}).unwrap();
    let whole = report_files(&both);
    std::fs::remove_file(out.join("a/weights.safetensors")).unwrap();
    let error = report::write(&[out.clone(), out.clone()], Some(&images), &both, &mut |_| {}).unwrap_err();
    let said = error.to_string();
    assert!(said.contains("lose 1 figure (run.confusion-a)") && said.contains("run: no weights of a"), "{said}");
    assert!(error.exit_code() == 3 && !said.contains("--data-dir"), "{said}");
    assert!(report_files(&both) == whole);
}

#[test]
fn nothing_is_changed_where_a_file_cannot_be_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let out = run_into(folder.path(), SMOKE);
    let write = || report::write(std::slice::from_ref(&out), None, &out, &mut |_| {});
    write().unwrap();
    // A stage less, and a table that is none.
    let mut manifest = Manifest::load(&out.join("manifest.json")).unwrap();
    manifest.result.remove("simsiam-linear");
    manifest.save(&out.join("manifest.json")).unwrap();
    std::fs::write(out.join("results.md"), "my own notes").unwrap();
    let before = report_files(&out);
    let error = write().unwrap_err();
    assert!(error.exit_code() == 2 && error.to_string().contains("results.md: is there, and is no file of"), "{error}");
    assert!(report_files(&out) == before, "the old page, and all that it shows");
    std::fs::remove_file(out.join("results.md")).unwrap();
    write().unwrap();
    assert!(!out.join("confusion-simsiam-linear.svg").exists() && out.join("confusion-simsiam-probe.svg").exists());
}

/// Names in scripts that Roboto lacks, a class each.
const SCRIPTS: [&str; 8] = ["猫", "고양이", "قطة", "חתול", "बिल्ली", "แมวน้ำ", "🦊", "x̂⃗"];

/// Dark pixels of a PNG in the box [left, top, width, height] of its SVG.
fn ink(out: &Path, id: &str, [left, top, width, height]: [f64; 4]) -> usize {
    let svg = std::fs::read_to_string(out.join(format!("{id}.svg"))).unwrap();
    let whole: f64 = svg.split("width=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap();
    let pixels = image::open(out.join(format!("{id}.png"))).unwrap().to_luma8();
    let scale = f64::from(pixels.width()) / whole;
    let [x, y, w, h] = [left, top, width, height].map(|at| (at * scale).max(0.0) as u32);
    (y..y + h).flat_map(|y| (x..x + w).map(move |x| (x, y))).filter(|&(x, y)| pixels.get_pixel(x, y).0[0] < 128).count()
}

#[test]
fn class_names_in_any_script_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let [images, out] = ["images", "run"].map(|name| folder.path().join(name));
    class_folders(&images, &SCRIPTS, [3, 3]);
    run_on(&images, &out, [24, 24]);
    report::write(std::slice::from_ref(&out), Some(&images), &out, &mut |_| {}).unwrap();
    for id in ["confusion-a", "umap-random", "neighbors-random", "views"] {
        let svg = std::fs::read_to_string(out.join(format!("{id}.svg"))).unwrap();
        if ["confusion-a", "umap-random"].contains(&id) {
            assert!(SCRIPTS.iter().all(|name| svg.contains(&format!("aria-label=\"{name}\""))), "{id}");
        }
        let mut drawn = 0;
        for label in svg.split("aria-label=\"").skip(1) {
            let (name, rest) = label.split_once('"').unwrap();
            let Some(place) = rest.strip_prefix(" transform=\"translate(") else { continue };
            let mut numbers = place.split([' ', ')', '(']).map(str::parse::<f64>);
            let [x, y] = [(); 2].map(|()| numbers.next().unwrap().unwrap());
            // Where it leans, its end is at this place; else its left end is so much to the left.
            let Some(left) = place.strip_prefix(&format!("{x:.1} {y:.1}) translate(-")) else { continue };
            let left: f64 = left.split(' ').next().unwrap().parse().unwrap();
            let found = ink(&out, id, [x - left, y - 10.0, 12.0, 12.0]);
            assert!(found > 30, "{id}: {found} dark pixels where {name} is drawn");
            drawn += 1;
        }
        // Six training images are seen in views.
        assert!(drawn >= 6, "{id}: {drawn}");
    }
}

#[test]
fn a_report_on_256_classes_names_them_all_and_stays_small() {
    let folder = tempfile::tempdir().unwrap();
    let [images, out] = ["images", "run"].map(|name| folder.path().join(name));
    // Names that are drawn as outlines.
    let classes: Vec<String> = (0..256).map(|class| format!("植物種{class:03}")).collect();
    class_folders(&images, &classes, [1, 2]);
    run_on(&images, &out, [256, 512]);
    let page = report::write(std::slice::from_ref(&out), Some(&images), &out, &mut |_| {}).unwrap();
    for id in ["confusion-a", "confusion-b", "umap-random"] {
        let svg = std::fs::read_to_string(out.join(format!("{id}.svg"))).unwrap();
        let axes = if id == "umap-random" { 1 } else { 2 };
        for class in &classes {
            assert_eq!(svg.matches(&format!("aria-label=\"{class}\"")).count(), axes, "{id}: {class}");
        }
    }
    let sizes: Vec<(String, usize)> = report_files(&out).into_iter().map(|file| (file.0, file.1.len())).collect();
    let all: usize = sizes.iter().map(|file| file.1).sum();
    let page = std::fs::metadata(page).unwrap().len();
    assert!(page < 10_000_000 && all < 10_000_000, "a page of {page} bytes, {all} with all figures: {sizes:?}");
}

#[test]
fn without_images_or_weights_the_report_says_so_and_does_without() {
    let folder = tempfile::tempdir().unwrap();
    let golden = golden(folder.path(), "study");
    let nowhere = folder.path().join("nowhere");
    let page = report::write(std::slice::from_ref(&golden), Some(&nowhere), &golden, &mut |_| {}).unwrap();
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("no images, so no figures that need them") && html.contains("fewlabel data fetch"));
    let of_stages =
        |what: &str| ["baseline", "pretext-finetune", "simsiam-probe"].map(|stage| format!("{what}-of-{stage}"));
    let mut expected = ["accuracy", "filters-random", "loss", "output-std", "pretext-tasks", "simsiam-loss"]
        .map(str::to_owned)
        .to_vec();
    expected.extend([of_stages("accuracy"), of_stages("loss")].concat());
    expected.sort();
    assert_eq!(files(&golden, ".png"), expected);

    let out = run_into(folder.path(), SMOKE);
    std::fs::remove_file(out.join("simsiam/weights.safetensors")).unwrap();
    let page = report::write(std::slice::from_ref(&out), None, &out, &mut |_| {}).unwrap();
    let html = std::fs::read_to_string(page).unwrap();
    assert!(html.contains("smoke: no weights of simsiam, so no figures that need them: run the experiment again"));
    assert!(!out.join("umap-simsiam.svg").exists() && out.join("umap-pretext.svg").exists());
    std::fs::copy(out.join("baseline/weights.safetensors"), out.join("pretext-finetune/weights.safetensors")).unwrap();
    let error = report::write(std::slice::from_ref(&out), None, &out, &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("not the weights that the run recorded"), "{error}");
}
