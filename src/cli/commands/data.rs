//! `fewlabel data`: checks and downloads CIFAR-10, and surveys your own images.

use std::path::Path;

use crate::data::folder::{self, Background, Folder};
use crate::data::{self, BUILT_IN, Data, PART, cifar10, fetch};
use crate::error::{Error, Result};
use crate::experiment::{DatasetSpec, print, unknown};
use crate::text::{count, path_word, shown, visible};
use indicatif::{ProgressBar, ProgressStyle};

/// How many files of a kind are named.
const NAMED: usize = 3;

pub fn check(data_dir: Option<&Path>) -> Result<()> {
    let source = cifar10::locate(data_dir)?;
    if let Some(note) = cifar10::passed_over(&source) {
        print(&note)?;
    }
    print(&format!("CIFAR-10 in {}", shown(source.path())))?;
    let reports = cifar10::check(&source)?;
    for report in &reports {
        let state = report.problem.as_deref().unwrap_or("whole");
        print(&format!("  {:<18} {:>10} bytes  {state}", report.name, report.bytes))?;
    }
    match reports.iter().filter(|report| report.problem.is_some()).count() {
        0 => Ok(()),
        bad => {
            let problem = format!("{bad} of its {} are not as published", count(reports.len(), "file"));
            let place = data_dir.map_or(String::new(), |folder| format!(" --data-dir {}", path_word(folder)));
            Err(Error::data(source.path(), problem, format!("fetch them again with `fewlabel data fetch{place}`")))
        }
    }
}

/// What the folder holds, as comments, and the line that makes it a data set: together the beginning of an experiment.
pub fn own_images(folder: &Path, background: Background, side: usize) -> Result<()> {
    let images = super::in_pool(None, || folder::load(folder, background, side))?;
    print_all(&survey(&images))?;
    let Data { train, test, .. } = &images.data;
    for (part, has) in [("train", train.len()), ("test", test.len())] {
        if !(PART[0]..=PART[1]).contains(&has) {
            let problem = format!("holds {has} images; an experiment takes 10 to 200,000");
            return Err(Error::data(&folder.join(part), problem, "add some, or take some away"));
        }
    }
    print(&DatasetSpec::line_of("folder", &images.data, background))
}

/// The same of a data set that this program has added.
pub fn own_set(name: &str, data_dir: Option<&Path>) -> Result<()> {
    let kind = data::kinds().into_iter().find(|kind| kind.name == name);
    let kind = kind.ok_or_else(|| match BUILT_IN.contains(&name) {
        true => Error::Usage(format!("--set is for data sets that a program adds: write `dataset: {{name: {name}}}`")),
        false => Error::Usage(unknown(name)),
    })?;
    let data = super::in_pool(None, || kind.load(&cifar10::data_folder(data_dir).0))?;
    let Table { mut lines, labels } = table(&data);
    lines.push(labels);
    print_all(&lines)?;
    print(&DatasetSpec::line_of(name, &data, Background::default()))
}

fn print_all(comments: &[String]) -> Result<()> {
    comments.iter().try_for_each(|line| print(&format!("# {line}")))
}

/// What is told of the images of any data set.
struct Table {
    /// The number of images of every class.
    lines: Vec<String>,
    /// Which labels an experiment can have.
    labels: String,
}

fn table(data: &Data) -> Table {
    let n = data.classes.len();
    let sizes = [data.train.class_sizes(n), data.test.class_sizes(n)];
    let row = |label: usize| (visible(&data.classes[label]).into_owned(), sizes[0][label], sizes[1][label]);
    let mut rows: Vec<(String, usize, usize)> = (0..n).map(row).collect();
    rows.push(("together".to_owned(), data.train.len(), data.test.len()));
    let width = rows.iter().map(|(name, ..)| name.chars().count()).max().unwrap_or(0);
    let mut lines = vec![format!("{:width$}  train   test", "class")];
    lines.extend(rows.iter().map(|(name, train, test)| format!("{name:width$} {train:>6} {test:>6}")));
    let untested: Vec<&str> = rows.iter().filter(|row| row.2 == 0).map(|row| &*row.0).collect();
    if !untested.is_empty() {
        lines.push(format!("without a test image: {}", untested.join(", ")));
    }
    let stratified = match sizes[0].iter().min().unwrap_or(&0) * n {
        0..10 => String::new(),
        most => format!(", {{count: N, choose: stratified}} with N a multiple of {n} up to {most}"),
    };
    Table { lines, labels: format!("labels can be: all, {{count: N, choose: proportional}}{stratified}") }
}

/// The number of images of every class, and remarks on them.
fn survey(images: &Folder) -> Vec<String> {
    let Table { mut lines, labels } = table(&images.data);
    for (reason, paths) in &images.passed_over {
        lines.push(format!("passed over, {}: {}", visible(reason), some(paths)));
    }
    lines.extend(images.duplicates());
    let flat: Vec<&Path> = images.flat().collect();
    if !flat.is_empty() {
        lines.push(format!("of one colour over this background: {}", some(&flat)));
    }
    lines.push(labels);
    lines
}

/// "5 (a, b, c, …)".
fn some(paths: &[impl AsRef<Path>]) -> String {
    let named: Vec<String> = paths.iter().take(NAMED).map(|path| shown(path.as_ref())).collect();
    format!("{} ({}{})", paths.len(), named.join(", "), if paths.len() > NAMED { ", …" } else { "" })
}

pub fn fetch(data_dir: Option<&Path>, url: String) -> Result<()> {
    let (folder, _) = cifar10::home(data_dir);
    let style = ProgressStyle::with_template("{wide_bar} {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left");
    let bar = ProgressBar::no_length().with_style(style.expect("a template without fault"));
    let settings = fetch::Fetch { url, ..fetch::Fetch::default() };
    let done = fetch::fetch(&folder, &settings, &mut |received, total| {
        if let Some(total) = total {
            bar.set_length(total);
        }
        bar.set_position(received);
    });
    bar.finish_and_clear();
    done?;
    print(&format!("CIFAR-10 is whole in {}", shown(&folder.join(cifar10::FOLDER))))
}
