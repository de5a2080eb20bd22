//! `report.html`: one file that needs no other and no network.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::chart::DASHES;
use super::figure::{EXTENT, Figure, Plot};
use super::matrix::FEW;
use super::outline::{UNIT, is_plain, outline};
use super::run::Run;
use super::scatter::{DARK, MARKERS};
use super::sheet::Sheet;
use super::svg::{COLORS, escape, inline};
use super::tested::checked;
use super::{Content, Section};
use crate::experiment::table::{self, Row};
use crate::experiment::{DatasetName, Experiment};
use crate::text::{count, path_word, program};

/// The beginning of every page, up to that of its title.
pub(super) const HEAD: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
    <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
    <link rel=\"icon\" href=\"data:,\">\n<title>fewlabel: ";

/// The ids of the figures in a page of this program; none for any other page.
pub(super) fn figure_ids(html: &str) -> Option<Vec<&str>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    html.starts_with(HEAD).then_some(())?;
    let ids = html.split("\n<figure id=\"").skip(1).filter_map(|rest| Some(rest.split_once('"')?.0));
    Some(ids.filter(|id| id.chars().all(plain)).collect())
}

/// What the accuracies of the classes begin with, where they differ in size.
const PER_CLASS: &str = "<p class=\"soft\">Test accuracy; as CSV: <a href=\"classes.csv\">classes.csv</a></p>";

/// The page on the runs, for the folder `out`, up to its seal; `images` is where their images were looked for.
pub(super) fn page(runs: &[Run], (out_folder, images): (&Path, Option<&Path>), content: &Content) -> String {
    let Content { sections, per_class, sheets, lacking } = content;
    let names: Vec<&str> = runs.iter().map(|run| &*run.name).collect();
    let names = escape(&names.join(", "));
    let style = include_str!("page.css");
    let mut out = format!("{HEAD}{names}</title>\n<style>\n{style}</style>\n<h1>fewlabel: {names}</h1>\n");
    let anchor = |i: usize| format!("section-{i}");
    out += "<nav><a href=\"#result\">Result</a>";
    for (i, section) in sections.iter().enumerate() {
        let _ = write!(out, " <a href=\"#{}\">{}</a>", anchor(i), section.title);
    }
    out += " <a href=\"#reproduce\">Reproduce</a></nav>\n<section id=\"result\">\n";
    if runs.len() > 1 {
        let of_run = |run: &Run| -> Vec<Row> {
            let name = |row: Row| Row { stage: format!("{}: {}", run.name, row.stage), ..row };
            table::rows(&run.manifest).into_iter().map(name).collect()
        };
        let rows: Vec<Row> = runs.iter().flat_map(of_run).collect();
        if !rows.is_empty() {
            out.push_str("<h2>All runs</h2>\n");
            cells(&mut out, &table::columns(&rows));
        }
    }
    for run in runs {
        result(&mut out, run, runs.len() > 1);
        if let Some(classes) = per_class.iter().find(|classes| classes.run == run.name) {
            let _ = writeln!(out, "<details><summary>Accuracy of each class</summary>\n{PER_CLASS}");
            cells(&mut out, &classes.cells());
            out.push_str("</details>\n");
        }
    }
    for line in &lacking.reasons {
        let _ = writeln!(out, "<p class=\"soft missing\">{}</p>", escape(line));
    }
    out += "<noscript><p>Without JavaScript this page has no feature maps, and its figures are not interactive; the links \
            below each figure open it as SVG or PNG.</p></noscript>\n</section>\n";
    for (i, section) in sections.iter().enumerate() {
        let _ = writeln!(out, "<section id=\"{}\">\n<h2>{}</h2>\n<div class=\"figures\">", anchor(i), section.title);
        section.figures.iter().for_each(|shown| figure(&mut out, shown));
        out += "</div>\n</section>\n";
    }
    out += "<section id=\"reproduce\">\n<h2>Reproduce</h2>\n";
    let folders: Vec<String> = runs.iter().map(|run| path_word(&run.folder)).collect();
    let page =
        format!("{} report {}{}   # this page again", program(), folders.join(" "), places(runs, out_folder, images));
    let _ = writeln!(out, "<pre>{}</pre>", escape(&page));
    if images.is_none() && runs.iter().any(|run| run.manifest.experiment.dataset.name == DatasetName::Folder) {
        out.push_str("<p class=\"soft\">IMAGES stands for the folder with the images' train/ and test/.</p>\n");
    }
    runs.iter().for_each(|run| reproduce(&mut out, run, images));
    out += "</section>\n<div id=\"tip\" role=\"status\" hidden></div>\n";
    for Sheet { id, side, jpeg } in sheets {
        let _ = writeln!(
            out,
            "<img id=\"{id}\" data-side=\"{side}\" hidden alt=\"all test images\" src=\"data:image/jpeg;base64,{}\">",
            STANDARD.encode(jpeg)
        );
    }
    let [colors, dark, dashes] =
        [&COLORS[..], &DARK, &DASHES].map(|list| serde_json::to_string(list).expect("strings"));
    let markers = serde_json::to_string(&MARKERS).expect("numbers");
    let outlines = outlines(sections);
    let script = include_str!("page.js");
    let _ = write!(
        out,
        "<script>\nconst COLORS = {colors}, DARK = {dark}, DASHES = {dashes}, MARKERS = {markers}, EXTENT = {EXTENT}, \
         UNIT = {UNIT};\nconst OUTLINES = new Map({outlines});\n{script}</script>\n"
    );
    out
}

/// What was compared, the table and its notes.
fn result(out: &mut String, run: &Run, named: bool) {
    let experiment = &run.manifest.experiment;
    if named {
        let _ = writeln!(out, "<h2>{}</h2>", escape(&run.name));
    }
    let rows = table::rows(&run.manifest);
    let _ = writeln!(out, "<p>{}</p>", escape(&summary(experiment, &rows)));
    let soft = |out: &mut String, line: &str| {
        let _ = writeln!(out, "<p class=\"soft\">{}</p>", escape(line));
    };
    if rows.is_empty() {
        for line in table::untested(&run.manifest) {
            let _ = writeln!(out, "<p>{}</p>", escape(&line));
        }
    } else {
        cells(out, &table::columns(&rows));
        table::notes(&run.manifest, &rows).iter().chain(&run.duplicates).for_each(|note| soft(out, note));
        if experiment.seeds.0 > 1 {
            soft(out, "Neighbours, feature maps and confusion matrices are of the first seed.");
        }
    }
    if !run.has_results() {
        let of = if experiment.seeds.0 > 1 { " of the first seed" } else { "" };
        soft(out, &format!("No stage{of} is finished yet, so there are no maps of features."));
    }
    if !run.manifest.result.is_empty() {
        soft(out, &checked(run).join(" "));
    }
}

/// A table: heads, then rows.
fn cells(out: &mut String, cells: &[Vec<String>]) {
    out.push_str("<div class=\"scroll\"><table>\n");
    for (i, row) in cells.iter().enumerate() {
        let cell = |(j, cell): (usize, &String)| {
            let soft = if cells[0][j] == Row::PEAK { " class=\"soft\"" } else { "" };
            match (i, j) {
                (0, _) => format!("<th scope=\"col\"{soft}>{}</th>", escape(cell)),
                (_, 0) => format!("<th scope=\"row\">{}</th>", escape(cell)),
                _ => format!("<td{soft}>{}</td>", escape(cell)),
            }
        };
        let _ = writeln!(out, "<tr>{}</tr>", row.iter().enumerate().map(cell).collect::<String>());
    }
    out.push_str("</table></div>\n");
}

/// "CIFAR-10, 50,000 training images of which 5,000 have labels …"
fn summary(experiment: &Experiment, rows: &[Row]) -> String {
    let dataset = match experiment.dataset.name {
        DatasetName::Cifar10 => "CIFAR-10",
        DatasetName::Cifar100 => "CIFAR-100",
        DatasetName::Folder => "Images of a folder",
        DatasetName::Synthetic => "The synthetic set",
        DatasetName::Own(kind) => kind.title,
    };
    let [train, test] = [experiment.dataset.train, experiment.dataset.test].map(|n| n.map_or(0, |n| n.0));
    let labels = experiment.images(experiment.labels.count);
    let all = experiment.seeds.0 as usize;
    let n = match (rows.iter().map(|row| row.n).min(), rows.iter().map(|row| row.n).max()) {
        (Some(least), Some(most)) if least < most => format!(" (so far n = {least} to {most})"),
        (Some(n), _) if n < all => format!(" (so far n = {n})"),
        (Some(n), _) => format!(" (n = {n})"),
        _ => String::new(),
    };
    let seeds = match all {
        1 => format!("seed {}, one run of each{n}", experiment.seed.0),
        _ => format!("{all} seeds from {} on{n}", experiment.seed.0),
    };
    format!("{dataset}: {train} training images, {labels} of them with labels, {test} test images; {seeds}.")
}

fn figure(out: &mut String, figure: &Figure) {
    let Figure { id, title, caption, plot } = figure;
    let (class, data) = match plot {
        Plot::Lines(_) => ("lines", true),
        Plot::Matrix(matrix) if matrix.classes.len() > FEW => ("matrix wide", true),
        Plot::Matrix(_) => ("matrix", false),
        Plot::Scatter(_) => ("scatter", true),
        Plot::Pictures(_) => ("pictures wide", false),
    };
    let _ = writeln!(out, "<figure id=\"{id}\" class=\"{class}\">\n<h3>{}</h3>", escape(title));
    match plot {
        Plot::Scatter(scatter) => {
            let sheet = &scatter.sheet;
            let _ = writeln!(
                out,
                "<div class=\"map\"><canvas class=\"map\" role=\"img\" aria-label=\"{}\" tabindex=\"0\" \
                 data-images=\"{sheet}\"></canvas></div>",
                escape(title)
            );
        }
        _ => {
            let _ = write!(out, "<div class=\"scroll\">{}</div>", inline(figure));
        }
    }
    let _ = writeln!(
        out,
        "<figcaption>{} <span class=\"links\"><a href=\"{id}.svg\">SVG</a> <a href=\"{id}.png\">PNG</a></span>\
         </figcaption>",
        escape(caption)
    );
    if data {
        let json = serde_json::to_string(plot).expect("numbers and strings");
        // No tag or comment begins in it: a script element would not end where it should.
        let json = json.replace('<', "\\u003c");
        let _ = writeln!(out, "<script type=\"application/json\">{json}</script>");
    }
    out.push_str("</figure>\n");
}

/// The class names whose letters a reader's fonts may lack, as pairs for the page's script: name, [outline, width].
fn outlines(sections: &[Section]) -> String {
    let plots = sections.iter().flat_map(|section| &section.figures).map(|figure| &figure.plot);
    let classes =
        plots.filter_map(|plot| if let Plot::Scatter(scatter) = plot { Some(&scatter.classes) } else { None });
    let names: BTreeSet<&String> = classes.flatten().filter(|name| !is_plain(name)).collect();
    let pairs: Vec<_> = names.into_iter().map(|name| (name, outline(name, 12.0))).collect();
    serde_json::to_string(&pairs).expect("strings and numbers").replace('<', "\\u003c")
}

/// How to reproduce the run: commands, hashes, environment, experiment.
fn reproduce(out: &mut String, run: &Run, images: Option<&Path>) {
    let manifest = &run.manifest;
    let mut options = data_dir(run, images);
    let (program, file) = (program(), path_word(&run.folder.join("manifest.json")));
    let verify = match (&*manifest.environment.device, manifest.experiment.seeds.0) {
        ("cpu", _) => format!("{program} verify {file}{options}   # the same bits again"),
        // Of one seed nothing can be verified where bits differ.
        (_, 1) => String::new(),
        _ => format!("{program} verify {file}{options} --device cuda --within 2   # two points, over the seeds"),
    };
    if manifest.environment.device != "cpu" {
        options += " --device cuda";
    }
    let name = &*manifest.experiment.name;
    let again = format!("{program} run {name}.yaml{options}   # the experiment below, saved in this file");
    let commands: Vec<String> =
        [verify, again].iter().filter(|line| !line.is_empty()).map(|line| escape(line)).collect();
    let _ = writeln!(out, "<h3>{}</h3>\n<pre>{}</pre>", escape(&run.name), commands.join("\n"));
    let environment = &manifest.environment;
    let facts = [
        ("experiment", manifest.experiment_sha256.clone()),
        ("manifest.json", run.manifest_sha256.clone()),
        ("fewlabel", environment.fewlabel.clone()),
        ("written", environment.written.clone()),
        ("system", format!("{} {}", environment.os, environment.arch)),
        ("processor", environment.cpu.clone().unwrap_or_else(|| "unknown".to_owned())),
        ("instruction sets", environment.cpu_features.join(", ")),
        ("threads", format!("{} of {}", environment.threads, count(environment.cores, "core"))),
        ("device", environment.device.clone()),
    ];
    out.push_str("<dl>\n");
    for (name, value) in facts {
        let _ = writeln!(out, "<dt>{name}</dt><dd>{}</dd>", escape(&value));
    }
    out.push_str(
        "</dl>\n<details><summary>SHA-256 of every stage's weights and history</summary>\n<div class=\"scroll\">\n",
    );
    let reused = &environment.reused;
    let heads = ["stage", "weights", "history", "reused from the run of the experiment"];
    let shown = if reused.is_empty() { 3 } else { 4 };
    let heads: String = heads[..shown].iter().map(|head| format!("<th scope=\"col\">{head}</th>")).collect();
    let _ = writeln!(out, "<table><tr>{heads}</tr>");
    for (key, result) in &manifest.result {
        let from = reused.get(key).map_or("", |from| from);
        let hashes = [&result.weights_sha256, &result.history_sha256, from];
        let cells: String =
            hashes[..shown - 1].iter().map(|hash| format!("<td class=\"hash\">{}</td>", escape(hash))).collect();
        let _ = writeln!(out, "<tr><th scope=\"row\">{}</th>{cells}</tr>", escape(key));
    }
    let yaml = serde_yaml::to_string(&manifest.experiment).expect("an experiment becomes YAML");
    let _ = writeln!(
        out,
        "</table></div></details>\n<details><summary>The experiment, complete</summary>\n<pre>{}</pre></details>",
        yaml.split('\n').map(escape).collect::<Vec<_>>().join("\n")
    );
}

/// The option that says where the run's images are, unless they are in the default folder.
fn data_dir(run: &Run, images: Option<&Path>) -> String {
    match (run.manifest.experiment.dataset.name, images) {
        (DatasetName::Synthetic, _) => String::new(),
        (_, Some(folder)) => format!(" --data-dir {}", path_word(folder)),
        (DatasetName::Folder, None) => " --data-dir IMAGES".to_owned(),
        _ => String::new(),
    }
}

/// The options of the page's own command.
fn places(runs: &[Run], place: &Path, images: Option<&Path>) -> String {
    let out = match runs {
        [run] if run.folder == place => String::new(),
        _ => format!(" --out {}", path_word(place)),
    };
    out + &runs.iter().map(|run| data_dir(run, images)).find(|option| !option.is_empty()).unwrap_or_default()
}
