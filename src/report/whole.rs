//! Whether a report is whole and fresh, which figures it can have, and whether it may take the place of the one that is there.

use std::path::{Path, PathBuf};

use super::run::{MANIFEST, Run};
use super::seal::{self, Seal, Sealed};
use super::{classes, page};
use crate::error::{Error, Result};
use crate::experiment::RANDOM;
use crate::files;
use crate::text::{count, path_word};

/// The files of a report beside its figures, the page last.
pub(super) const FILES: [&str; 3] = ["results.csv", "results.md", "report.html"];

/// Whether a report can have a file of this name.
pub(super) fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let is_figure =
        || (name.ends_with(".svg") || name.ends_with(".png")) && name.chars().all(is_plain) && !name.starts_with('.');
    FILES.contains(&name) || name == classes::FILE || is_figure()
}

/// What there is of a report.
#[derive(Debug, Default, PartialEq)]
pub struct State {
    /// Whether it has all its files, not a byte of them changed, and every figure that its runs could give.
    pub whole: bool,
    /// The stages whose test accuracy was computed again from the saved weights: their keys, after the name of the run
    /// where there are several.
    pub recomputed: Vec<String>,
}

/// What there is of the report in `folder`, by the seal of its page.
pub fn state(folder: &Path) -> State {
    let Some(seal) = sealed(folder) else { return State::default() };
    let keys = |run: &Sealed| {
        let name = if seal.runs.len() > 1 { format!("{}: ", run.name) } else { String::new() };
        run.recomputed.iter().map(move |key| format!("{name}{key}")).collect::<Vec<_>>()
    };
    State {
        whole: seal.whole && changed(folder, &seal).is_none(),
        recomputed: seal.runs.iter().flat_map(keys).collect(),
    }
}

/// [`State::whole`].
pub fn is_whole(folder: &Path) -> bool {
    state(folder).whole
}

/// Whether the report in the run directory `folder` is whole, of its manifest as it is now, and by this version.
pub fn is_fresh(folder: &Path) -> bool {
    let Some(seal) = sealed(folder) else { return false };
    let manifest = files::read(&folder.join("manifest.json"), MANIFEST).map(|bytes| files::sha256(&bytes));
    let is_of = |run: &Sealed| manifest.is_ok_and(|sha256| sha256 == run.manifest_sha256);
    let [run] = &seal.runs[..] else { return false };
    is_of(run) && seal.whole && seal.fewlabel == env!("CARGO_PKG_VERSION") && changed(folder, &seal).is_none()
}

/// The seal of the page in `folder`, if not a byte of the page is changed.
fn sealed(folder: &Path) -> Option<Seal> {
    Seal::of(&seal::read(&folder.join(FILES[2]))?)
}

/// The first file of the report that is missing or changed.
fn changed<'a>(folder: &Path, seal: &'a Seal) -> Option<&'a str> {
    let is_same =
        |name: &str, hash: &str| seal::read(&folder.join(name)).is_some_and(|bytes| files::sha256(&bytes) == hash);
    seal.files.iter().find(|(name, hash)| !is_same(name, hash)).map(|(name, _)| &**name)
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
    let (classifiers, backbones): (Vec<_>, Vec<_>) = finished.partition(|(stage, _)| stage.classifies());
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
    let html = seal::read(&path).and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default();
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
