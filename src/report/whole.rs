//! Which figures a report can have, which it has, and whether it may take the place of the one that is there.

use std::path::{Path, PathBuf};

use super::{Run, classes, page};
use crate::error::{Error, Result};
use crate::experiment::RANDOM;
use crate::text::{count, path_word};

/// The files of a report beside its figures, the page last.
pub(super) const FILES: [&str; 3] = ["results.csv", "results.md", "report.html"];

/// The files of a figure.
pub(super) fn drawings(out: &Path, id: &str) -> [PathBuf; 2] {
    ["svg", "png"].map(|kind| out.join(format!("{id}.{kind}")))
}

/// The files of the report in `folder`, by what its page shows; none where there is no page of ours.
pub(crate) fn files_of(folder: &Path) -> Vec<PathBuf> {
    let html = std::fs::read_to_string(folder.join("report.html")).unwrap_or_default();
    let Some(ids) = page::figure_ids(&html) else { return vec![] };
    let figures = ids.into_iter().flat_map(|id| drawings(folder, id));
    let classes = html.contains(page::PER_CLASS).then(|| folder.join(classes::FILE));
    figures.chain(classes).chain(FILES.map(|file| folder.join(file))).collect()
}

/// Whether the report in `folder` has all its files, and every figure that its runs could give.
pub fn is_whole(folder: &Path) -> bool {
    let html = std::fs::read_to_string(folder.join("report.html")).unwrap_or_default();
    let files = files_of(folder);
    !html.contains(page::MISSING) && !files.is_empty() && files.iter().all(|file| file.is_file())
}

/// What a new report would lack.
#[derive(Default)]
pub(super) struct Lacking {
    /// Of the figures that cannot be drawn.
    pub ids: Vec<String>,
    /// A line for each run and reason.
    pub reasons: Vec<String>,
    /// Whether some run's images are not here.
    pub images: bool,
}

/// The ids of the run's figures that cannot be drawn: its images are not here, or weights that it had are gone.
pub(super) fn undrawable(run: &Run, has_images: bool) -> Vec<String> {
    let mut ids = vec![];
    if !has_images {
        ids.push("views".to_owned());
    }
    let stages = run.manifest.experiment.stages.iter();
    let finished = stages.filter_map(|stage| Some((stage, run.finished(stage)?.1)));
    let (classifiers, backbones): (Vec<_>, Vec<_>) = finished.partition(|(stage, _)| stage.method.classifies());
    let backbones = backbones.iter().map(|(stage, has_weights)| (&*stage.name, *has_weights));
    for (name, has_weights) in std::iter::once((RANDOM, true)).chain(backbones) {
        for (figure, needs_images) in [("filters", false), ("neighbors", true), ("umap", true)] {
            if !has_weights || (needs_images && !has_images) {
                ids.push(format!("{figure}-{name}"));
            }
        }
    }
    let without = classifiers.iter().filter(|(_, has_weights)| !has_weights || !has_images);
    ids.extend(without.map(|(stage, _)| format!("confusion-{}", stage.name)));
    ids
}

/// Refuses to replace the report in `out`, on the runs in `folders`, if it has a figure that a new one would lack.
pub(super) fn check(out: &Path, lacking: &Lacking, folders: &[PathBuf]) -> Result<()> {
    let path = out.join("report.html");
    let html = std::fs::read_to_string(&path).unwrap_or_default();
    let mut lost = page::figure_ids(&html).unwrap_or_default();
    lost.retain(|id| lacking.ids.iter().any(|lacking| lacking == id));
    if lost.is_empty() {
        return Ok(());
    }
    let (n, named) = (lost.len(), lost[..lost.len().min(3)].join(", "));
    let named = if n > 3 { format!("{named}, …") } else { named };
    let runs: Vec<String> = folders.iter().map(|folder| path_word(folder)).collect();
    Err(Error::Kept {
        path,
        problem: format!(
            "left as it is: the new report would lose {} ({named})\n  {}",
            count(n, "figure"),
            lacking.reasons.join("\n  ")
        ),
        remedy: format!(
            "{}or write it, without them, to another folder: fewlabel report {} --out FOLDER",
            if lacking.images { "say with --data-dir where the images are, " } else { "" },
            runs.join(" ")
        ),
    })
}
