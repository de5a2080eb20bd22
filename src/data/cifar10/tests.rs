use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::stamp::{NAME as STAMP, Seen};
use super::*;
use crate::data::CLASSES;
use crate::files::sha256;

/// The contents of three small files with two, three and two records, and the list that describes them.
pub(in crate::data) fn tiny() -> (Vec<Part>, Vec<Vec<u8>>) {
    let names = [("data_batch_1.bin", 2), ("data_batch_2.bin", 3), ("test_batch.bin", 2)];
    let mut state = 1u32;
    let mut pixel = || {
        // A linear congruential generator (Numerical Recipes): contents that gzip cannot shorten.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut label = 0..;
    let mut record = || label.next().into_iter().chain((0..IMAGE).map(|_| pixel())).collect::<Vec<u8>>();
    let contents: Vec<Vec<u8>> = names.iter().map(|(_, n)| (0..*n).flat_map(|_| record()).collect()).collect();
    let part =
        |(&(name, records), bytes): (&(&'static str, usize), &Vec<u8>)| Part { name, records, sha256: sha256(bytes) };
    (names.iter().zip(&contents).map(part).collect(), contents)
}

/// A gzipped tar archive of `files`, inside [`FOLDER`].
pub(in crate::data) fn packed<'a>(files: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, format!("{FOLDER}/{name}"), contents).unwrap();
    }
    tar.into_inner().unwrap().finish().unwrap()
}

/// `parts` with `contents` as files in `folder`.
pub(in crate::data) fn unpacked(folder: &Path, parts: &[Part], contents: &[Vec<u8>]) {
    fs::create_dir_all(folder).unwrap();
    for (part, bytes) in parts.iter().zip(contents) {
        fs::write(folder.join(part.name), bytes).unwrap();
    }
}

fn zip<'a>(parts: &[Part], contents: &'a [Vec<u8>]) -> Vec<(&'static str, &'a [u8])> {
    parts.iter().map(|part| part.name).zip(contents.iter().map(Vec::as_slice)).collect()
}

/// [`tiny`] in a fresh folder.
fn tiny_folder() -> (tempfile::TempDir, Source, Vec<Part>, Vec<Vec<u8>>) {
    let place = tempfile::tempdir().unwrap();
    let (parts, contents) = tiny();
    unpacked(place.path(), &parts, &contents);
    let source = Source::Folder(place.path().to_owned());
    (place, source, parts, contents)
}

fn load_archive(bytes: &[u8], parts: &[Part]) -> Result<Data> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    load_parts(&Source::Archive(file.path().to_owned()), parts)
}

/// The problem of an [`Error::Data`]; anything else fails the test.
fn problem<T: std::fmt::Debug>(result: Result<T>) -> String {
    match result {
        Err(Error::Data { problem, .. }) => problem,
        other => panic!("not an Error::Data: {other:?}"),
    }
}

fn assert_tiny(data: &Data, contents: &[Vec<u8>]) {
    assert_eq!(data.train.labels, [0, 1, 2, 3, 4]);
    assert_eq!(data.test.labels, [5, 6]);
    assert_eq!((data.train.images.len(), data.test.images.len()), (5 * IMAGE, 2 * IMAGE));
    assert_eq!(data.train.image(1), &contents[0][RECORD + 1..]);
    assert_eq!(data.train.image(2), &contents[1][1..RECORD]);
    assert_eq!(data.test.image(1), &contents[2][RECORD + 1..]);
}

fn flip(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    bytes[100] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn official_files_have_the_published_length() {
    assert!(official().iter().all(|part| part.bytes() == 30_730_000 && part.sha256.len() == 64));
}

#[test]
fn the_option_comes_before_the_variable_before_the_default() {
    let folder = |option, variable: Option<&str>| choose(option, variable.map(OsString::from));
    assert_eq!(folder(Some(Path::new("a")), Some("b")), ("a".into(), "named by --data-dir"));
    assert_eq!(folder(None, Some("b")), ("b".into(), "named by FEWLABEL_DATA"));
    assert_eq!(folder(None, Some("")), ("data".into(), "the default"));
    assert_eq!(folder(None, None), ("data".into(), "the default"));
}

#[test]
fn locate_prefers_the_folder_and_says_where_it_looked() {
    let place = tempfile::tempdir().unwrap();
    let error = locate(Some(place.path())).unwrap_err().to_string();
    for part in [place.path().to_str().unwrap(), "named by --data-dir", FOLDER, ARCHIVE, "fewlabel data fetch"] {
        assert!(error.contains(part), "{error}");
    }
    fs::write(place.path().join(ARCHIVE), "").unwrap();
    assert_eq!(locate(Some(place.path())).unwrap(), Source::Archive(place.path().join(ARCHIVE)));
    sparse(&place.path().join(FOLDER), 6);
    assert_eq!(locate(Some(place.path())).unwrap(), Source::Folder(place.path().join(FOLDER)));
}

/// Files of the official lengths, without contents.
fn sparse(folder: &Path, files: usize) {
    fs::create_dir_all(folder).unwrap();
    for part in &official()[..files] {
        File::create(folder.join(part.name)).unwrap().set_len(part.bytes()).unwrap();
    }
}

/// What is whole is taken: an archive beside a folder that was half unpacked, but not beside a whole one.
#[test]
fn a_half_unpacked_folder_does_not_hide_the_archive() {
    let place = tempfile::tempdir().unwrap();
    let (folder, archive) = (place.path().join(FOLDER), place.path().join(ARCHIVE));
    sparse(&folder, 4);
    File::create(folder.join("data_batch_5.bin")).unwrap().set_len(1000).unwrap();
    let alone = locate(Some(place.path())).unwrap();
    assert_eq!((&alone, passed_over(&alone)), (&Source::Folder(folder.clone()), None));
    let lacks = "data_batch_5.bin 1000 of 30730000 bytes, test_batch.bin missing";
    assert_eq!(problem(load(&alone)), format!("is incomplete: {lacks}"));
    fs::write(&archive, "").unwrap();
    let beside = locate(Some(place.path())).unwrap();
    assert_eq!(beside, Source::Archive(archive.clone()));
    let told = passed_over(&beside).unwrap();
    assert_eq!(told, format!("{} is incomplete ({lacks}): {ARCHIVE} is read instead", folder.display()));
    sparse(&folder, 6);
    assert_eq!(locate(Some(place.path())).unwrap(), Source::Folder(folder.clone()));
    fs::remove_dir_all(folder).unwrap();
    assert_eq!(passed_over(&Source::Archive(archive)), None);
}

#[test]
fn the_folder_itself_may_be_named() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join(FOLDER);
    assert_eq!(home(Some(Path::new(FOLDER))).0, Path::new("."));
    for files in [6, 2] {
        sparse(&folder, files);
        assert_eq!(locate(Some(&folder)).unwrap(), Source::Folder(folder.clone()));
    }
    // Half unpacked, beside its archive.
    fs::remove_file(folder.join("test_batch.bin")).unwrap();
    fs::write(place.path().join(ARCHIVE), "").unwrap();
    assert_eq!(locate(Some(&folder)).unwrap(), Source::Archive(place.path().join(ARCHIVE)));
    assert_eq!(home(Some(&place.path().join(ARCHIVE))).0, place.path(), "the archive itself");
    // An odd place, but one where it is.
    fs::create_dir(folder.join(FOLDER)).unwrap();
    assert_eq!(home(Some(&folder)).0, folder);
}

#[test]
fn the_version_for_python_is_told_apart() {
    let place = tempfile::tempdir().unwrap();
    for name in PYTHON {
        fs::create_dir(place.path().join(name)).unwrap();
        for named in [place.path(), &place.path().join(name)] {
            let error = locate(Some(named)).unwrap_err().to_string();
            let expected = format!("{name} is the Python version: the binary version is needed\n");
            assert!(error.contains(&expected) && error.contains("fewlabel data fetch"), "{error}");
        }
        fs::remove_dir(place.path().join(name)).unwrap();
    }
}

#[test]
fn folder_and_archive_in_any_order_give_the_same_images() {
    let (_place, source, parts, contents) = tiny_folder();
    assert_tiny(&load_parts(&source, &parts).unwrap(), &contents);
    let mut files = zip(&parts, &contents);
    files.insert(1, ("readme.html", b"not data"));
    files.reverse();
    assert_tiny(&load_archive(&packed(files), &parts).unwrap(), &contents);
}

#[test]
fn faults_of_a_folder_are_named() {
    let (place, source, parts, contents) = tiny_folder();
    let path = place.path().join("data_batch_2.bin");
    let expected = 3 * RECORD;

    flip(&path);
    let changed = problem(load_parts(&source, &parts));
    let mut bytes = contents[1].clone();
    bytes[100] ^= 1;
    assert_eq!(changed, format!("data_batch_2.bin: SHA-256 is {}, expected {}", sha256(&bytes), parts[1].sha256));

    fs::write(&path, &contents[1][..expected - 1]).unwrap();
    let short = problem(load_parts(&source, &parts));
    assert_eq!(short, format!("data_batch_2.bin: {} bytes long, expected {expected}", expected - 1));

    fs::write(&path, [&contents[1][..], &[0]].concat()).unwrap();
    let long = problem(load_parts(&source, &parts));
    assert_eq!(long, format!("data_batch_2.bin: {} bytes long, expected {expected}", expected + 1));

    fs::remove_file(&path).unwrap();
    assert_eq!(problem(load_parts(&source, &parts)), "data_batch_2.bin: missing");
    assert!(!place.path().join(STAMP).exists());
}

#[test]
fn a_label_above_nine_is_refused() {
    let (place, source, mut parts, mut contents) = tiny_folder();
    contents[1][2 * RECORD] = 10;
    parts[1].sha256 = sha256(&contents[1]);
    unpacked(place.path(), &parts, &contents);
    assert_eq!(problem(load_parts(&source, &parts)), "data_batch_2.bin: record 2 has label 10, expected one below 10");
}

#[test]
fn faults_of_an_archive_are_named() {
    let (parts, contents) = tiny();
    let whole = packed(zip(&parts, &contents));
    let starts = |bytes: &[u8], text: &str| {
        let problem = problem(load_archive(bytes, &parts));
        assert!(problem.starts_with(text), "{problem}");
    };
    starts(&whole[..whole.len() / 2], "cannot be unpacked: ");
    starts(b"", "cannot be unpacked: ");
    starts(b"<html>not found</html>", "cannot be unpacked: invalid gzip header");
    starts(&packed(zip(&parts, &contents)[..2].to_vec()), "test_batch.bin: missing from the archive");

    let mut changed = contents.clone();
    changed[2][7] ^= 1;
    starts(&packed(zip(&parts, &changed)), "test_batch.bin: SHA-256 is ");
    changed[2].push(0);
    starts(&packed(zip(&parts, &changed)), "test_batch.bin: 6147 bytes long, expected 6146");
}

/// A flipped bit or a missing end anywhere: an error, or the same images, since a few bytes of gzip and tar mean
/// nothing.
#[test]
fn a_damaged_archive_is_refused_or_holds_the_same_images() {
    let (parts, contents) = tiny();
    let whole = packed(zip(&parts, &contents));
    let original = load_archive(&whole, &parts).unwrap();
    let ends = (0..700).chain(whole.len() - 100..whole.len());
    for at in ends.chain((700..whole.len() - 100).step_by(23)) {
        let mut flipped = whole.clone();
        flipped[at] ^= 1 << (at % 8);
        for damaged in [&flipped, &whole[..at]] {
            if let Ok(data) = load_archive(damaged, &parts) {
                assert!(data == original, "other images are accepted: byte {at}");
            }
        }
    }
}

/// A tar header with the claimed length, and no contents after it.
fn claiming(name: &str, size: u64) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.set_path(name).unwrap();
    header.set_size(size);
    header.set_cksum();
    let mut gz = GzEncoder::new(Vec::new(), Compression::fast());
    gz.write_all(header.as_bytes()).unwrap();
    gz.finish().unwrap()
}

#[test]
fn sizes_in_headers_are_not_believed() {
    let (parts, contents) = tiny();
    let bytes = parts[0].bytes();
    for size in [bytes + 1, u64::MAX / 2, u64::MAX] {
        // Refused for what it claims, before anything is read; the largest size does not even fit into an archive.
        let problem = problem(load_archive(&claiming("data_batch_1.bin", size), &parts));
        let refusal = format!("data_batch_1.bin: {size} bytes long, expected {bytes}");
        assert!(problem == refusal || size == u64::MAX && problem.starts_with("cannot be unpacked"), "{problem}");
        assert!(load_archive(&claiming("other", size), &parts).is_err());
    }
    assert_eq!(
        problem(load_archive(&claiming("data_batch_1.bin", bytes), &parts)),
        format!("data_batch_1.bin: 0 bytes long, expected {bytes}")
    );
    // Well-compressed zeros in front of good files: given up before they are all unpacked.
    let zeros = vec![0; 8 << 20];
    let mut files = zip(&parts, &contents);
    files.insert(0, ("zeros", &zeros));
    assert!(problem(load_archive(&packed(files), &parts)).starts_with("cannot be unpacked: "));
}

#[test]
fn check_reports_every_file() {
    let (place, source, parts, mut contents) = tiny_folder();
    assert!(check_parts(&source, &parts).unwrap().iter().all(|file| file.problem.is_none() && file.bytes > 0));
    flip(&place.path().join("data_batch_1.bin"));
    check_parts(&source, &parts).unwrap();
    assert!(load_parts(&source, &parts).is_err(), "a check must not vouch for a changed file");
    fs::remove_file(place.path().join("test_batch.bin")).unwrap();
    let reports = check_parts(&source, &parts).unwrap();
    assert!(reports[0].problem.as_ref().unwrap().starts_with("SHA-256 is "));
    assert_eq!(reports[1], FileReport { name: "data_batch_2.bin", bytes: 3 * RECORD as u64, problem: None });
    assert_eq!(reports[2], FileReport { name: "test_batch.bin", bytes: 0, problem: Some("missing".into()) });

    contents[0][100] ^= 1;
    let archive = place.path().join(ARCHIVE);
    fs::write(&archive, packed(zip(&parts[..2], &contents))).unwrap();
    let reports = check_parts(&Source::Archive(archive.clone()), &parts).unwrap();
    assert_eq!(reports.iter().map(|file| file.problem.is_none()).collect::<Vec<_>>(), [false, true, false]);
    fs::write(&archive, "junk").unwrap();
    assert!(check_parts(&Source::Archive(archive), &parts).is_err());
}

/// Writes the stamp that says that the files are verified as they are.
fn write_stamp(folder: &Path, parts: &[Part]) {
    let seen = |part: &Part| Seen::of(&fs::metadata(folder.join(part.name)).unwrap(), part);
    let stamp: BTreeMap<_, _> = parts.iter().map(|part| (part.name, seen(part))).collect();
    fs::write(folder.join(STAMP), serde_json::to_vec(&stamp).unwrap()).unwrap();
}

#[test]
fn a_stamped_file_is_not_hashed_again_but_by_check() {
    let (place, source, mut parts, _) = tiny_folder();
    flip(&place.path().join("data_batch_1.bin"));
    write_stamp(place.path(), &parts);
    // The stamp vouches for wrong contents, so that only hashing could refuse them.
    load_parts(&source, &parts).unwrap();
    assert!(check_parts(&source, &parts).unwrap()[0].problem.is_some());
    // It vouches for the hash it names and for no other.
    parts[0].sha256 = parts[1].sha256.clone();
    assert!(problem(load_parts(&source, &parts)).starts_with("data_batch_1.bin: SHA-256 is "));
}

#[test]
fn loading_writes_the_stamp_and_garbage_is_replaced() {
    let (place, source, parts, _) = tiny_folder();
    let stamp = place.path().join(STAMP);
    for garbage in ["", "{\"data_batch_1.bin\": 7}", "[]"] {
        fs::write(&stamp, garbage).unwrap();
        load_parts(&source, &parts).unwrap();
        let written: BTreeMap<String, Seen> = serde_json::from_slice(&fs::read(&stamp).unwrap()).unwrap();
        let found = fs::metadata(place.path().join("test_batch.bin")).unwrap();
        assert_eq!(written["test_batch.bin"], Seen::of(&found, &parts[2]));
        assert_eq!(written.len(), 3);
    }
}

/// A stamp has a few hundred bytes; what is longer is none, and not read.
#[test]
fn a_stamp_without_end_vouches_for_nothing() {
    let (place, source, parts, _) = tiny_folder();
    flip(&place.path().join("data_batch_1.bin"));
    write_stamp(place.path(), &parts);
    let mut stamp = fs::read(place.path().join(STAMP)).unwrap();
    stamp.resize(1 << 20, b' ');
    fs::write(place.path().join(STAMP), &stamp).unwrap();
    assert!(problem(load_parts(&source, &parts)).starts_with("data_batch_1.bin: SHA-256 is "));
    stamp.truncate(1 << 16);
    fs::write(place.path().join(STAMP), &stamp).unwrap();
    load_parts(&source, &parts).unwrap();
}

#[cfg(unix)]
#[test]
fn a_pipe_in_the_place_of_a_file_is_not_waited_for() {
    let pipe = |path: &Path| {
        let _ = fs::remove_file(path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    };
    let (place, source, parts, contents) = tiny_folder();
    pipe(&place.path().join(STAMP));
    assert_tiny(&load_parts(&source, &parts).unwrap(), &contents);
    pipe(&place.path().join("test_batch.bin"));
    let refusal = "cannot be read: it is a pipe or a device, not a file";
    assert_eq!(problem(load_parts(&source, &parts)), refusal);
    assert_eq!(problem(check_parts(&source, &parts)), refusal);
    let archive = place.path().join(ARCHIVE);
    pipe(&archive);
    assert_eq!(problem(load_parts(&Source::Archive(archive.clone()), &parts)), refusal);
    assert!(problem(locate(Some(place.path()))).contains("holds neither"));
}

#[test]
fn a_stamp_that_cannot_be_written_does_not_matter() {
    let (place, source, parts, _) = tiny_folder();
    fs::create_dir(place.path().join(STAMP)).unwrap();
    load_parts(&source, &parts).unwrap();
}

#[cfg(unix)]
#[test]
fn a_change_with_the_old_mtime_is_noticed() {
    let (place, source, parts, _) = tiny_folder();
    load_parts(&source, &parts).unwrap();
    let path = place.path().join("data_batch_1.bin");
    let before = fs::metadata(&path).unwrap().modified().unwrap();
    // Longer than the tick of the clock that file systems use.
    std::thread::sleep(Duration::from_millis(30));
    flip(&path);
    File::options().write(true).open(&path).unwrap().set_modified(before).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
    assert!(problem(load_parts(&source, &parts)).starts_with("data_batch_1.bin: SHA-256 is "));
}

#[cfg(unix)]
#[test]
fn a_copied_stamp_vouches_for_nothing() {
    let (place, source, parts, _) = tiny_folder();
    load_parts(&source, &parts).unwrap();
    let copy = tempfile::tempdir().unwrap();
    for name in parts.iter().map(|part| part.name).chain([STAMP]) {
        let (from, to) = (place.path().join(name), copy.path().join(name));
        fs::copy(&from, &to).unwrap();
        let modified = fs::metadata(from).unwrap().modified().unwrap();
        File::options().write(true).open(to).unwrap().set_modified(modified).unwrap();
    }
    let path = copy.path().join("data_batch_1.bin");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    flip(&path);
    File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let copied = load_parts(&Source::Folder(copy.path().to_owned()), &parts);
    assert!(problem(copied).starts_with("data_batch_1.bin: SHA-256 is "));
}

#[test]
fn the_real_data_is_whole() {
    let named = std::env::var_os(VARIABLE).filter(|folder| !folder.is_empty());
    let Some(source) = named.and_then(|_| locate(None).ok()) else {
        let _ = writeln!(std::io::stderr(), "skipped: {VARIABLE} names no folder with CIFAR-10");
        return;
    };
    let data = load(&source).unwrap();
    assert_eq!((data.train.len(), data.test.len()), (50_000, 10_000));
    assert_eq!((data.train.images.len(), data.test.images.len()), (50_000 * IMAGE, 10_000 * IMAGE));
    let mut counts = [0; CLASSES];
    data.train.labels[..5000].iter().for_each(|label| counts[usize::from(*label)] += 1);
    // Counted in the official data_batch_1.bin with Python.
    assert_eq!(counts, [505, 460, 519, 486, 519, 488, 519, 486, 520, 498]);
}
