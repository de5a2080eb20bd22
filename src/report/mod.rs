//! What a run's result looks like: `report.html`, with every figure as SVG and PNG and the table beside it.
//!
//! A `Figure` is data; `curves` and `label_curve` make those that the histories give, `models` those that the weights
//! give, `svg` draws them all, curves with `chart`, and `page` puts them together.

mod chart;
mod curves;
mod figure;
mod label_curve;
mod models;
mod page;
mod raster;
mod svg;

use std::path::{Path, PathBuf};

use crate::data::{Data, IMAGE, SIDE};
use crate::error::{Error, Result};
use crate::experiment::{Manifest, Stage, load_data, table};
use crate::files;
use crate::network::Weights;
use figure::{Figure, Picture, Plot};

/// A run directory that is reported on.
struct Run {
    name: String,
    folder: PathBuf,
    manifest: Manifest,
}

impl Run {
    fn open(folder: &Path) -> Result<Run> {
        let manifest = Manifest::load(&folder.join("manifest.json"))?;
        let name = folder.canonicalize().ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        let name = name.unwrap_or_else(|| manifest.experiment.name.to_string());
        // It begins the names of files and places in the page.
        let name = name.replace(|c: char| !c.is_ascii_alphanumeric() && !"._-".contains(c), "-");
        Ok(Run { name, folder: folder.to_owned(), manifest })
    }

    /// All of them, under names that differ.
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

    /// The stage's key for the experiment's first seed, if it is finished, and whether its weights are here.
    fn finished(&self, stage: &Stage) -> Option<(String, bool)> {
        let key = self.manifest.experiment.key(self.manifest.experiment.seed.0, &stage.name);
        let is_here = self.folder.join(&key).join("weights.safetensors").exists();
        self.manifest.result.contains_key(&key).then_some((key, is_here))
    }

    /// Finished stages whose weights would give figures, but are gone.
    fn without_weights(&self) -> Vec<&str> {
        let is_gone = |stage: &&Stage| self.finished(stage).is_some_and(|(_, is_here)| !is_here);
        self.manifest.experiment.stages.iter().filter(is_gone).map(|stage| &*stage.name).collect()
    }

    /// What the stage has come to for the experiment's first seed; none where it is not finished, or not here.
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

/// All test images in one picture, in rows of as many: what a map shows under the pointer.
struct Sheet {
    id: String,
    jpeg: Vec<u8>,
}

/// Columns of a [`Sheet`].
const SHEET_COLUMNS: usize = 100;
/// Of its JPEG: at three quarters of the scale 10,000 images are about 4 MB.
const QUALITY: u8 = 75;

/// What a report consists of beside its figures, the page last.
const FILES: [&str; 3] = ["results.csv", "results.md", "report.html"];

/// The files of a figure.
fn drawings(out: &Path, id: &str) -> [PathBuf; 2] {
    ["svg", "png"].map(|kind| out.join(format!("{id}.{kind}")))
}

/// The files of the report in `folder`, by what its page shows; none where there is no page of ours.
pub(crate) fn files_of(folder: &Path) -> Vec<PathBuf> {
    let html = std::fs::read_to_string(folder.join("report.html")).unwrap_or_default();
    let Some(ids) = page::figure_ids(&html) else { return vec![] };
    let figures = ids.into_iter().flat_map(|id| drawings(folder, id));
    figures.chain(FILES.map(|file| folder.join(file))).collect()
}

/// Whether the report in `folder` has all its files, and nothing that could not be shown.
pub fn is_whole(folder: &Path) -> bool {
    let html = std::fs::read_to_string(folder.join("report.html")).unwrap_or_default();
    let files = files_of(folder);
    !html.contains(page::MISSING) && !files.is_empty() && files.iter().all(|file| file.is_file())
}

/// Writes a report on the runs into `out`: `report.html`, whose path it gives back, `results.csv`, `results.md`, and
/// every figure as SVG and PNG; figures of an earlier report that are not in this one are removed. `say` is told what
/// takes a while. Images are taken from `data_dir` as in a run; where they are not to be had the report does without,
/// and says so.
///
/// # Errors
/// [`Error::Run`] for a folder without a manifest of this version, for weights that are not those recorded and for an
/// `out` that cannot be a folder, [`Error::Io`] for faults of the disk, and the engine's.
pub fn write(folders: &[PathBuf], data_dir: Option<&Path>, out: &Path, say: &mut dyn FnMut(&str)) -> Result<PathBuf> {
    let runs = Run::open_all(folders)?;
    let learning = curves::figures(&runs).into_iter().chain(label_curve::figure(&runs)).collect();
    let mut sections = vec![Section { title: "Learning", figures: learning }];
    let (mut sheets, mut missing) = (vec![], vec![]);
    let [mut seen, mut features, mut mistakes] = <[Vec<Figure>; 3]>::default();
    for run in &runs {
        let data = match load_data(&run.manifest.experiment, data_dir) {
            Err(error @ Error::Data { .. }) => {
                missing.push(
                    format!("{}: no images, and no figures that need them: {error}", run.name).replace("\n  ", "; "),
                );
                continue;
            }
            data => data?,
        };
        let gone = run.without_weights();
        if !gone.is_empty() {
            missing.push(format!(
                "{}: no weights of {}, and no figures that need them: run the experiment again to have them",
                run.name,
                gone.join(", ")
            ));
        }
        let sheet = sheet(&data, &mut sheets);
        let prefix = |mut figure: Figure| {
            if runs.len() > 1 {
                figure.id = format!("{}.{}", run.name, figure.id);
                figure.title = format!("{}: {}", run.name, figure.title);
            }
            if let Plot::Scatter(scatter) = &mut figure.plot {
                scatter.sheet.clone_from(&sheet);
            }
            figure
        };
        seen.push(prefix(models::views(run, &data)));
        features.extend(models::backbones(run, &data, say)?.into_iter().map(prefix));
        mistakes.extend(models::confusions(run, &data)?.into_iter().map(prefix));
    }
    sections.push(Section { title: "What the networks see", figures: seen });
    sections.push(Section { title: "What they hold to be alike", figures: features });
    sections.push(Section { title: "What they take for what", figures: mistakes });
    sections.push(Section { title: "Stage by stage", figures: curves::stage_by_stage(&runs) });
    sections.retain(|section| !section.figures.is_empty());

    std::fs::create_dir_all(out)
        .map_err(|e| Error::run(out, format!("cannot be written: {e}"), "choose another folder with --out"))?;
    // What a killed report has left; a run directory, where somebody may be writing, the next run sweeps.
    if !out.join(".lock").exists() {
        files::sweep(out)?;
    }
    say("report: figures");
    let [csv, md, path] = FILES.map(|file| out.join(file));
    let mut written = vec![csv.clone(), md.clone(), path.clone()];
    for figure in sections.iter().flat_map(|section| &section.figures) {
        let drawn = svg::document(figure);
        let [svg, png] = drawings(out, &figure.id);
        files::write_atomically(&svg, &[drawn.as_bytes()])?;
        files::write_atomically(&png, &[&raster::render(&drawn)])?;
        written.extend([svg, png]);
    }
    // Before the page that names them is replaced.
    for stale in files_of(out).iter().filter(|path| !written.contains(path) && path.exists()) {
        std::fs::remove_file(stale).map_err(Error::io("remove", stale))?;
    }
    let named: Vec<(&str, &Manifest)> = runs.iter().map(|run| (&*run.name, &run.manifest)).collect();
    files::write_atomically(&csv, &[table::csv(&named).as_bytes()])?;
    let tables: Vec<String> =
        runs.iter().map(|run| format!("## {}\n\n{}", run.name, table::markdown(&run.manifest))).collect();
    files::write_atomically(&md, &[tables.join("\n").as_bytes()])?;
    files::write_atomically(&path, &[page::page(&runs, (out, data_dir), &sections, &sheets, &missing).as_bytes()])?;
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
        sheets.push(Sheet { id: id.clone(), jpeg: raster::jpeg(&rgb, width, height, QUALITY) });
    }
    id
}
