//! The report on a run or several: `report.html`, and beside it every figure as SVG and PNG, and the table.
//!
//! A `Figure` is data: `curves` and `label_curve` make figures from the histories, `models` from the weights. `svg` draws
//! them with `chart`, `scatter`, `matrix`, `pictures` and `text`, and `page` puts them together. `whole` keeps a report from being replaced by less.

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
mod scatter;
mod svg;
mod text;
mod whole;

use std::path::{Path, PathBuf};

use crate::data::{Data, IMAGE, SIDE};
use crate::error::{Error, Result};
use crate::experiment::{Loaded, Manifest, Stage, load_data, table};
use crate::files;
use crate::network::Weights;
use classes::PerClass;
use figure::{Figure, Picture, Plot};

use whole::Lacking;
pub(crate) use whole::files_of;
pub use whole::is_whole;

/// A run directory that is reported on.
struct Run {
    name: String,
    folder: PathBuf,
    manifest: Manifest,
    /// [`Loaded::duplicates`], once its images have been read.
    duplicates: Vec<String>,
}

impl Run {
    fn open(folder: &Path) -> Result<Run> {
        let manifest = Manifest::of_folder(folder)?;
        let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let name = name.unwrap_or_else(|| manifest.experiment.name.to_string());
        // Part of file names and of anchors in the page.
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c), "-");
        Ok(Run { name, folder: folder.to_owned(), manifest, duplicates: vec![] })
    }

    /// Opens all of them, each under a name of its own.
    fn open_all(folders: &[PathBuf]) -> Result<Vec<Run>> {
        let mut runs: Vec<Run> = vec![];
        for folder in folders {
            let mut run = Run::open(folder)?;
            let name = run.name.clone();
            for number in 2.. {
                if runs.iter().all(|other| other.name != run.name) {
                    break;
                }
                run.name = format!("{name}-{number}");
            }
            runs.push(run);
        }
        Ok(runs)
    }

    /// If the stage is finished for the experiment's first seed: its key, and whether its weights are here.
    fn finished(&self, stage: &Stage) -> Option<(String, bool)> {
        let key = self.manifest.experiment.key(self.manifest.experiment.seed.0, &stage.name);
        let is_here = self.folder.join(&key).join("weights.safetensors").exists();
        self.manifest.result.contains_key(&key).then_some((key, is_here))
    }

    /// The finished stages whose weights are gone.
    fn without_weights(&self) -> Vec<&str> {
        let is_gone = |stage: &&Stage| self.finished(stage).is_some_and(|(_, is_here)| !is_here);
        self.manifest.experiment.stages.iter().filter(is_gone).map(|stage| &*stage.name).collect()
    }

    /// The stage's weights for the experiment's first seed; none where it is not finished or they are gone.
    fn weights(&self, stage: &Stage) -> Result<Option<Weights>> {
        let Some((key, true)) = self.finished(stage) else { return Ok(None) };
        self.manifest.weights(&self.folder, &key, &self.manifest.experiment.network(stage)).map(Some)
    }
}

/// A part of the page.
struct Section {
    title: &'static str,
    figures: Vec<Figure>,
}

/// All test images in one picture, in rows of [`SHEET_COLUMNS`]: what a map shows under the pointer.
struct Sheet {
    id: String,
    jpeg: Vec<u8>,
}

/// Columns of a [`Sheet`].
const SHEET_COLUMNS: usize = 100;
/// Of its JPEG, the first at which it has at most [`SHEET_BYTES`]: at 75, 10,000 photographs are about 4 MB.
const QUALITIES: [u8; 4] = [75, 50, 25, 10];
const SHEET_BYTES: usize = 5_000_000;

/// Writes a report on the runs into `out`: `report.html`, whose path it gives back, `results.csv`, `results.md`, and
/// every figure as SVG and PNG; figures of an earlier report that are not in this one are removed last. `say` is told
/// what takes a while. Images are looked for in `data_dir` as in a run; without them, or without some weights, the
/// report has fewer figures and says why, unless the report in `out` has such a figure: then that one stays.
///
/// # Errors
/// [`Error::Kept`] where the report in `out` has figures that cannot be drawn again, [`Error::Run`] for a folder without
/// a manifest of this version, for weights that are not those recorded and for an `out` that cannot be a folder,
/// [`Error::Io`] for faults of the disk, and the engine's.
pub fn write(folders: &[PathBuf], data_dir: Option<&Path>, out: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let mut runs = Run::open_all(folders)?;
    let learning = curves::figures(&runs).into_iter().chain(label_curve::figure(&runs)).collect();
    let (mut sheets, mut per_class, mut lacking) = (vec![], vec![], Lacking::default());
    let [mut views, mut features, mut confusions] = <[Vec<Figure>; 3]>::default();
    let is_one_of_several = runs.len() > 1;
    for run in &mut runs {
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
        whole::check(out, &lacking, folders)?;
        let sheet = data.as_ref().map(|data| sheet(data, &mut sheets)).unwrap_or_default();
        let placed = |mut figure: Figure| {
            figure.id = id(figure.id);
            if is_one_of_several {
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
            let of_stages = models::confusions(run, data)?;
            per_class.extend(PerClass::of(&run.name, data, &of_stages));
            confusions.extend(of_stages.into_iter().map(|(_, figure)| placed(figure)));
        }
    }
    let section = |title, figures| Section { title, figures };
    let mut sections = vec![
        section("Learning curves", learning),
        section("Augmented views", views),
        section("Features: maps, nearest neighbours, filters", features),
        section("Confusion matrices", confusions),
        section("Learning curves by stage", curves::stage_by_stage(&runs)),
    ];
    sections.retain(|section| !section.figures.is_empty());

    std::fs::create_dir_all(out)
        .map_err(|e| Error::run(out, format!("cannot be written: {e}"), "choose another folder with --out"))?;
    // What a killed report has left; a run directory, where somebody may be writing, the next run sweeps.
    if !out.join(".lock").exists() {
        files::sweep(out)?;
    }
    say("report: figures");
    let before = whole::files_of(out);
    let [csv, md, path] = whole::FILES.map(|file| out.join(file));
    let mut written = vec![csv.clone(), md.clone(), path.clone()];
    if !per_class.is_empty() {
        written.push(out.join(classes::FILE));
        files::write_atomically(&out.join(classes::FILE), &[classes::csv(&per_class).as_bytes()])?;
    }
    for figure in sections.iter().flat_map(|section| &section.figures) {
        let drawn = svg::document(figure);
        let [svg, png] = whole::drawings(out, &figure.id);
        files::write_atomically(&svg, &[drawn.as_bytes()])?;
        files::write_atomically(&png, &[&raster::render(&drawn)])?;
        written.extend([svg, png]);
    }
    let named: Vec<(&str, &Manifest)> = runs.iter().map(|run| (&*run.name, &run.manifest)).collect();
    files::write_atomically(&csv, &[table::csv(&named).as_bytes()])?;
    let table = |run: &Run| {
        let duplicates: String =
            run.duplicates.iter().map(|line| format!("\n{}\n", line.replace('*', "\\*"))).collect();
        format!("## {}\n\n{}{duplicates}", run.name, table::markdown(&run.manifest))
    };
    let tables: Vec<String> = runs.iter().map(table).collect();
    files::write_atomically(&md, &[tables.join("\n").as_bytes()])?;
    files::write_atomically(
        &path,
        &[page::page(&runs, (out, data_dir), &sections, &per_class, &sheets, &lacking.reasons).as_bytes()],
    )?;
    // Only now does no page show them.
    for stale in before.iter().filter(|path| !written.contains(path)) {
        files::remove_if_there(stale)?;
    }
    Ok(path)
}

/// The id of the sheet of these test images; a new one unless another run has the same.
fn sheet(data: &Data, sheets: &mut Vec<Sheet>) -> String {
    let id = format!("images-{}", &files::sha256(&data.test.images)[..12]);
    if sheets.iter().all(|sheet| sheet.id != id) {
        let (columns, n) = (SHEET_COLUMNS.min(data.test.len()), data.test.len());
        let (width, height) = (columns * SIDE, n.div_ceil(columns) * SIDE);
        let mut rgb = vec![0; width * height * 3];
        for (index, image) in data.test.images.chunks_exact(IMAGE).enumerate() {
            let (left, top) = (index % columns * SIDE, index / columns * SIDE);
            for (at, picture) in Picture::of_planes(image, "").rgb.chunks_exact(SIDE * 3).enumerate() {
                rgb[((top + at) * width + left) * 3..][..SIDE * 3].copy_from_slice(picture);
            }
        }
        let mut jpeg = vec![];
        for quality in QUALITIES {
            jpeg = raster::jpeg(&rgb, width, height, quality);
            if jpeg.len() <= SHEET_BYTES {
                break;
            }
        }
        sheets.push(Sheet { id: id.clone(), jpeg });
    }
    id
}
