//! Replaces the files of a report, and touches no other: a file that is there is replaced only if it is one of a report,
//! and removed only if its SHA-256 says so.
//!
//! A report that is cut short must not leave files that nobody owns. So the new and the old ones are written into
//! [`LIST`] first, and the page, whose seal names them, last of all; then the list goes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::seal::{Seal, read};
use super::whole::{FILES, is_name};
use super::{classes, page, raster};
use crate::error::{Error, Result};
use crate::text::count;
use crate::{files, sums};

/// The files of a report that is being written, and those that it replaces: lines as `sha256sum` writes them.
const LIST: &str = "report.unfinished";

/// The SHA-256 of files, by name: of what a file may be.
type Known = BTreeMap<String, BTreeSet<String>>;

/// One change on the disk.
#[derive(Debug)]
pub enum Step {
    Write(PathBuf, Vec<u8>),
    Remove(PathBuf),
}

impl Step {
    pub fn run(&self) -> Result<()> {
        match self {
            Step::Write(path, bytes) => files::write_atomically(path, &[bytes]),
            Step::Remove(path) => files::remove_if_there(path),
        }
    }
}

/// The steps that put `files` (names and bytes, the page last) into `out`, and remove those of an earlier report that are
/// not among them. After any of them another report can be written.
///
/// # Errors
/// [`Error::Run`] where something else has the name of one of them.
pub fn steps(out: &Path, files: Vec<(String, Vec<u8>)>) -> Result<Vec<Step>> {
    let known = known(out);
    let (mut list, mut strange) = (BTreeSet::new(), vec![]);
    let mut writes = vec![];
    for (name, bytes) in &files {
        let path = out.join(name);
        list.insert((name.clone(), files::sha256(bytes)));
        match (path.symlink_metadata(), read(&path)) {
            (Err(e), _) if e.kind() == std::io::ErrorKind::NotFound => writes.push((path, bytes)),
            (_, Some(old)) if old == *bytes => {}
            (_, Some(old)) if is_ours(out, name, &old, bytes, &known) => {
                list.insert((name.clone(), files::sha256(&old)));
                writes.push((path, bytes));
            }
            _ => strange.push(&**name),
        }
    }
    if out.join(LIST).symlink_metadata().is_ok() && listed(out).is_none() {
        strange.insert(0, LIST);
    }
    if let [first, others @ ..] = &strange[..] {
        let others =
            if others.is_empty() { String::new() } else { format!(", and {} more", count(others.len(), "file")) };
        let problem = format!("is there, and is no file of a report of this program{others}: it is not replaced");
        return Err(Error::run(&out.join(first), problem, "move it away, or choose another folder with --out"));
    }
    let stale: Vec<(PathBuf, String, String)> =
        owned(out, &known).into_iter().filter(|(_, name, _)| files.iter().all(|(other, _)| other != name)).collect();
    if writes.is_empty() && stale.is_empty() {
        return Ok(if out.join(LIST).exists() { vec![Step::Remove(out.join(LIST))] } else { vec![] });
    }
    list.extend(stale.iter().map(|(_, name, hash)| (name.clone(), hash.clone())));
    let list: String = list.iter().map(|(name, hash)| format!("{hash}  {name}\n")).collect();
    let mut steps = vec![Step::Write(out.join(LIST), list.into_bytes())];
    steps.extend(writes.into_iter().map(|(path, bytes)| Step::Write(path, bytes.clone())));
    steps.extend(stale.into_iter().map(|(path, ..)| Step::Remove(path)));
    steps.push(Step::Remove(out.join(LIST)));
    Ok(steps)
}

/// The files of the report in `folder` that are as it was written, the page and the list last.
pub(crate) fn files_of(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<(bool, PathBuf)> =
        owned(folder, &known(folder)).into_iter().map(|(path, name, _)| (name == FILES[2], path)).collect();
    files.sort();
    let list = listed(folder).map(|_| folder.join(LIST));
    files.into_iter().map(|(_, path)| path).chain(list).collect()
}

/// Of the known files, those that are there with a SHA-256 that is known: path, name, SHA-256.
fn owned(folder: &Path, known: &Known) -> Vec<(PathBuf, String, String)> {
    let there = |(name, hashes): (&String, &BTreeSet<String>)| {
        let path = folder.join(name);
        let hash = files::sha256(&read(&path)?);
        hashes.contains(&hash).then(|| (path, name.clone(), hash))
    };
    known.iter().filter_map(there).collect()
}

/// The files in `folder` by the seal of the page, and by the list of a report that was cut short.
fn known(folder: &Path) -> Known {
    let mut known = listed(folder).unwrap_or_default();
    let page = read(&folder.join(FILES[2])).unwrap_or_default();
    if let Some(seal) = Seal::of(&page) {
        for (name, hash) in seal.files.into_iter().chain([(FILES[2].to_owned(), files::sha256(&page))]) {
            known.entry(name).or_default().insert(hash);
        }
    }
    known
}

/// The files by [`LIST`]; none where that is missing or anything else.
fn listed(folder: &Path) -> Option<Known> {
    let text = String::from_utf8(read(&folder.join(LIST))?).ok()?;
    let mut known = Known::new();
    for line in text.lines() {
        let (hash, name) = sums::entry(line).filter(|(_, name)| is_name(name))?;
        known.entry(name.to_owned()).or_default().insert(hash.to_owned());
    }
    Some(known)
}

/// Whether the file `name`, with the bytes `old`, was written by a report, for which `new` is to be written now.
fn is_ours(out: &Path, name: &str, old: &[u8], new: &[u8], known: &Known) -> bool {
    known.get(name).is_some_and(|hashes| hashes.contains(&files::sha256(old)))
        || is_damaged(old, new)
        || is_marked(out, name, old, new)
}

/// Whether it is the new file but for an end that is cut off, or a few bytes.
fn is_damaged(old: &[u8], new: &[u8]) -> bool {
    let differ = || old.iter().zip(new).filter(|(a, b)| a != b).count();
    new.starts_with(old) || (old.len() == new.len() && differ() <= 16)
}

/// Whether it begins as only a report's file does: a report of a version before this one has no seal.
fn is_marked(out: &Path, name: &str, old: &[u8], new: &[u8]) -> bool {
    let first_line = |bytes: &[u8]| bytes.split(|&byte| byte == b'\n').next().map(<[u8]>::to_vec);
    match name.rsplit_once('.') {
        _ if name == FILES[2] => old.starts_with(page::HEAD.as_bytes()),
        Some((_, "csv" | "md")) if FILES.contains(&name) || name == classes::FILE => first_line(old) == first_line(new),
        Some((_, "svg")) => super::svg::size(old).is_some(),
        // Other programs' have other sizes.
        Some((id, "png")) => {
            let drawn = read(&out.join(format!("{id}.svg"))).and_then(|svg| raster::size_of(super::svg::size(&svg)?));
            drawn.is_some() && drawn == raster::png_size(old)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::seal::tests::seal;
    use super::*;

    /// The files of a report: figures with these texts, and a page that seals them.
    fn report(figures: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
        let mut page = format!("{}t</title>", page::HEAD);
        seal(figures).close(&mut page);
        let figures = figures.iter().map(|(name, text)| (name.to_string(), text.as_bytes().to_vec()));
        figures.chain([(FILES[2].to_owned(), page.into_bytes())]).collect()
    }

    fn put(out: &Path, files: Vec<(String, Vec<u8>)>) -> Result<()> {
        steps(out, files)?.iter().try_for_each(Step::run)
    }

    fn contents(out: &Path) -> Vec<(String, Vec<u8>)> {
        let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut names: Vec<String> = std::fs::read_dir(out).unwrap().map(name).collect();
        names.sort();
        names.into_iter().map(|name| (name.clone(), std::fs::read(out.join(name)).unwrap())).collect()
    }

    /// Of figures that differ wholly, so that only seal and list can tell whose they are.
    #[test]
    fn a_report_that_is_cut_short_anywhere_can_be_written_again() {
        let first = [("accuracy.png", "first picture"), ("loss.png", "first loss"), ("stale.png", "of the first only")];
        let second =
            [("accuracy.png", "the second picture, longer"), ("loss.png", "second"), ("new.png", "of the second")];
        let third = [("accuracy.png", "3"), ("other.png", "of the third")];
        let mut cut = 0;
        loop {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path();
            std::fs::write(out.join("holiday.png"), "mine").unwrap();
            put(out, report(&first)).unwrap();
            let second = steps(out, report(&second)).unwrap();
            // The list, four files, one that is stale, the list.
            assert_eq!(second.len(), 7);
            second[..cut].iter().for_each(|step| step.run().unwrap());
            // Cut short a second time.
            let again = steps(out, report(&third)).unwrap();
            again[..again.len() / 2].iter().for_each(|step| step.run().unwrap());
            put(out, report(&third)).unwrap();
            let mut expected = report(&third);
            expected.push(("holiday.png".to_owned(), b"mine".to_vec()));
            expected.sort();
            assert_eq!(contents(out), expected, "after {cut} of {} steps", second.len());
            assert!(steps(out, report(&third)).unwrap().is_empty(), "there is nothing to do");
            cut += 1;
            if cut > second.len() {
                break;
            }
        }
    }

    #[test]
    fn what_is_not_the_reports_own_is_neither_replaced_nor_removed() {
        let refused = |name: &str, place: &dyn Fn(&Path)| {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("out");
            std::fs::create_dir(&out).unwrap();
            std::fs::write(folder.path().join("precious"), "mine").unwrap();
            place(&out.join(name));
            let before = std::fs::symlink_metadata(out.join(name)).unwrap().file_type();
            let error =
                put(&out, report(&[("accuracy.png", "a picture"), ("accuracy.svg", "a"), ("results.csv", "b")]))
                    .unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains(&format!("{name}: is there, and")), "{error}");
            assert_eq!(std::fs::read_dir(&out).unwrap().count(), 1, "{name}: nothing is written");
            assert_eq!(std::fs::symlink_metadata(out.join(name)).unwrap().file_type(), before);
            assert_eq!(std::fs::read(folder.path().join("precious")).unwrap(), b"mine");
        };
        for name in ["accuracy.png", "accuracy.svg", "results.csv", "report.html", "report.unfinished"] {
            refused(name, &|path| std::fs::write(path, "some text of my own, <svg> or not").unwrap());
            refused(name, &|path| std::fs::create_dir(path).unwrap());
            #[cfg(unix)]
            refused(name, &|path| std::os::unix::fs::symlink("../precious", path).unwrap());
            #[cfg(unix)]
            refused(name, &|path| std::os::unix::fs::symlink("../nowhere", path).unwrap());
        }
    }

    #[test]
    fn only_what_the_seal_names_by_its_hash_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        put(out, report(&[("a.png", "a"), ("b.png", "b"), ("c.png", "c"), ("holiday.png", "not this one")])).unwrap();
        std::fs::write(out.join("holiday.png"), "mine").unwrap();
        std::fs::write(out.join("b.png"), "mine now").unwrap();
        #[cfg(unix)]
        {
            std::fs::rename(out.join("c.png"), out.join("elsewhere")).unwrap();
            std::os::unix::fs::symlink("elsewhere", out.join("c.png")).unwrap();
            assert_eq!(files_of(out), ["a.png", "report.html"].map(|name| out.join(name)));
        }
        put(out, report(&[("d.png", "d")])).unwrap();
        assert!(!out.join("a.png").exists() && out.join("d.png").exists());
        assert_eq!(std::fs::read(out.join("holiday.png")).unwrap(), b"mine");
        assert_eq!(std::fs::read(out.join("b.png")).unwrap(), b"mine now");
        assert_eq!(std::fs::read(out.join("c.png")).unwrap(), b"c");
        // A page with a byte changed names nothing.
        let mut page = std::fs::read(out.join("report.html")).unwrap();
        page[page::HEAD.len()] ^= 1;
        std::fs::write(out.join("report.html"), page).unwrap();
        assert!(files_of(out).is_empty());
    }

    /// As versions before the seal wrote them: another size is another program's.
    #[test]
    fn a_report_without_a_seal_is_known_by_how_its_files_begin() {
        let drawing = |text: &str, width: u32| {
            format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} 20\" width=\"{width}\" height=\"20\" \
                 font-family=\"Roboto, Helvetica, Arial, sans-serif\" font-size=\"12\" role=\"img\" \
                 aria-label=\"{text}\">\n</svg>\n"
            )
        };
        let files = |text: &str, width: u32| -> Vec<(String, Vec<u8>)> {
            let svg = drawing(text, width);
            let page = format!("{}{text}</title>", page::HEAD).into_bytes();
            let csv = format!("run,seed\n{text}").into_bytes();
            let files = [("loss.png", raster::render(&svg)), ("loss.svg", svg.into_bytes()), ("results.csv", csv)];
            files.into_iter().chain([(FILES[2], page)]).map(|(name, bytes)| (name.to_owned(), bytes)).collect()
        };
        let folder = tempfile::tempdir().unwrap();
        let out = folder.path();
        files("old", 30).iter().for_each(|(name, bytes)| std::fs::write(out.join(name), bytes).unwrap());
        let new = files("another text", 40);
        put(out, new.clone()).unwrap();
        let mut expected = new;
        expected.sort();
        assert_eq!(contents(out), expected);
        std::fs::write(out.join("loss.png"), raster::render(&drawing("", 50))).unwrap();
        assert!(put(out, files("third", 60)).is_err(), "a picture of another size");
    }
}
