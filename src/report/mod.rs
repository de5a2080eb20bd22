//! The report on a run or several: `report.html`, and beside it every figure as SVG and PNG, and the table.
//!
//! A `Figure` is data: `curves` and `label_curve` make figures from the histories, `models` from images and weights. `svg`
//! draws them with `chart`, `scatter`, `matrix`, `pictures` and `text`, and `page` puts them together. `tested` finds out
//! whether the manifest says what the weights give. `whole` keeps a report from being replaced by less, `seal` names its
//! files, and `replace` touches no others.

mod chart;
mod classes;
mod curves;
mod figure;
mod label_curve;
mod matrix;
mod models;
mod outline;
mod page;
mod pictures;
mod raster;
mod replace;
mod run;
mod scatter;
mod seal;
mod sheet;
mod svg;
mod tested;
mod text;
mod whole;

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::experiment::{Loaded, Manifest, load_data, table};
use crate::files;
use crate::text::markdown;
use classes::PerClass;
use figure::{Figure, Plot};
pub(crate) use replace::files_of;
use run::Run;
use seal::{Seal, Sealed};
use sheet::Sheet;
use whole::{FILES, Lacking};
pub use whole::{State, is_fresh, is_whole, state};

/// A part of the page.
struct Section {
    title: &'static str,
    figures: Vec<Figure>,
}

/// What a report shows.
#[derive(Default)]
struct Content {
    sections: Vec<Section>,
    per_class: Vec<PerClass>,
    sheets: Vec<Sheet>,
    lacking: Lacking,
}

/// Writes a report on the runs into `out`: `report.html`, whose path it gives back, `results.csv`, `results.md`, and
/// every figure as SVG and PNG; figures of an earlier report that are not in this one are removed last. `say` is told
/// what takes a while. Images are looked for in `data_dir` as in a run; without them, or without some weights, the
/// report has fewer figures and says why, unless the report in `out` has such a figure: then that one stays.
///
/// # Errors
/// [`Error::Kept`] where the report in `out` has figures that cannot be drawn again; [`Error::Run`] for a folder without
/// a manifest of this version, for weights and histories that are not those recorded, for a manifest that says otherwise
/// than its weights, for an `out` that cannot be a folder, and for files there that are none of a report but have the name
/// of one; [`Error::Io`] for faults of the disk; and the engine's.
pub fn write(folders: &[PathBuf], data_dir: Option<&Path>, out: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let mut runs = Run::open_all(folders)?;
    say("report: weights");
    runs.iter_mut().try_for_each(Run::check_files)?;
    let content = content(&mut runs, folders, data_dir, out, say)?;
    say("report: figures");
    let files = files(&runs, &content, data_dir, out);
    std::fs::create_dir_all(out)
        .map_err(|e| Error::run(out, format!("cannot be written: {e}"), "choose another folder with --out"))?;
    // What a killed report has left; a run directory, where somebody may be writing, the next run sweeps.
    if !out.join(".lock").exists() {
        files::sweep(out)?;
    }
    replace::steps(out, files)?.iter().try_for_each(replace::Step::run)?;
    Ok(out.join(FILES[2]))
}

/// Draws everything, and refuses what is not to be reported.
fn content(
    runs: &mut [Run],
    folders: &[PathBuf],
    data_dir: Option<&Path>,
    out: &Path,
    say: &mut dyn FnMut(&str),
) -> Result<Content> {
    let learning = curves::figures(runs).into_iter().chain(label_curve::figure(runs)).collect();
    let mut content = Content::default();
    let Content { per_class, sheets, lacking, .. } = &mut content;
    let [mut views, mut features, mut confusions] = <[Vec<Figure>; 3]>::default();
    let is_one_of_several = runs.len() > 1;
    for run in &mut *runs {
        let data = match load_data(&run.manifest.experiment, data_dir) {
            Err(error @ Error::Data { .. }) => {
                let line = format!("{}: no images, so no figures that need them: {error}", run.name);
                lacking.reasons.push(line.replace("\n  ", "; "));
                lacking.images = true;
                None
            }
            loaded => {
                let Loaded { data, duplicates, .. } = loaded?;
                run.duplicates = duplicates;
                Some(data)
            }
        };
        let gone = run.without_weights();
        if !gone.is_empty() {
            lacking.reasons.push(format!(
                "{}: no weights of {}, so no figures that need them: run the experiment again to have them",
                run.name,
                gone.join(", ")
            ));
        }
        let id = |id: String| if is_one_of_several { format!("{}.{id}", run.name) } else { id };
        lacking.ids.extend(whole::undrawable(run, data.is_some()).into_iter().map(id));
        // Before what takes long.
        whole::check(out, lacking, folders)?;
        let tested = match &data {
            Some(data) => tested::test(run, data)?,
            None => vec![],
        };
        run.recomputed = tested.iter().map(|tested| tested.key.clone()).collect();
        run.is_exact = tested.iter().all(|tested| tested.is_exact);
        let run = &*run;
        let seed = run.manifest.experiment.seed.0;
        let sheet = data.as_ref().map(|data| Sheet::of(data, seed, sheets)).unwrap_or_default();
        let placed = |mut figure: Figure| {
            if is_one_of_several {
                figure.id = format!("{}.{}", run.name, figure.id);
                figure.title = format!("{}: {}", run.name, figure.title);
            }
            if let Plot::Scatter(scatter) = &mut figure.plot {
                scatter.sheet.clone_from(&sheet);
            }
            figure
        };
        features.extend(models::backbones(run, data.as_ref(), say)?.into_iter().map(placed));
        if let Some(data) = &data {
            views.push(placed(models::views(run, data)));
            per_class.extend(PerClass::of(&run.name, data, &tested));
        }
        confusions.extend(tested.iter().map(models::confusion).map(placed));
    }
    let section = |title, figures| Section { title, figures };
    content.sections = vec![
        section("Learning curves", learning),
        section("Augmented views", views),
        section("Features: maps, nearest neighbours, filters", features),
        section("Confusion matrices", confusions),
        section("Learning curves by stage", curves::stage_by_stage(runs)),
    ];
    content.sections.retain(|section| !section.figures.is_empty());
    Ok(content)
}

/// The files of the report, by name, the page last.
fn files(runs: &[Run], content: &Content, data_dir: Option<&Path>, out: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = vec![];
    for figure in content.sections.iter().flat_map(|section| &section.figures) {
        let drawn = svg::document(figure);
        files.push((format!("{}.png", figure.id), raster::render(&drawn)));
        files.push((format!("{}.svg", figure.id), drawn.into_bytes()));
    }
    if !content.per_class.is_empty() {
        files.push((classes::FILE.to_owned(), classes::csv(&content.per_class).into_bytes()));
    }
    let named: Vec<(&str, &Manifest)> = runs.iter().map(|run| (&*run.name, &run.manifest)).collect();
    files.push((FILES[0].to_owned(), table::csv(&named).into_bytes()));
    let table = |run: &Run| {
        let duplicates: String = run.duplicates.iter().map(|line| format!("\n{}\n", markdown(line))).collect();
        format!("## {}\n\n{}{duplicates}", run.name, table::markdown(&run.manifest))
    };
    let tables: Vec<String> = runs.iter().map(table).collect();
    files.push((FILES[1].to_owned(), tables.join("\n").into_bytes()));
    let mut page = page::page(runs, (out, data_dir), content);
    let seal = Seal {
        fewlabel: env!("CARGO_PKG_VERSION").to_owned(),
        runs: runs.iter().map(Sealed::of).collect(),
        whole: content.lacking.reasons.is_empty(),
        files: files.iter().map(|(name, bytes)| (name.clone(), files::sha256(bytes))).collect(),
    };
    seal.close(&mut page);
    files.push((FILES[2].to_owned(), page.into_bytes()));
    files
}
