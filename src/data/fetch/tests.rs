//! `fetch` against a server of our own, which behaves as badly as it is told to.

use std::io::{BufRead, BufReader};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use super::super::cifar10::tests::{packed, tiny, unpacked};
use super::*;

const STALL: Duration = Duration::from_millis(200);

/// What the server does with one connection.
#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    Serve,
    /// Ends in the middle of the promised length.
    Truncate,
    /// Flips a bit in the middle.
    Corrupt,
    /// Sends half, then nothing, without hanging up.
    Stall,
    /// Accepts and never answers.
    Silent,
    /// Sends all, in so small pieces that the whole takes longer than a stall.
    Slow,
    HangUp,
    NotFound,
    Busy,
}
use Behaviour::*;

/// Serves [`tiny`], one behaviour for each connection, then refuses to connect. Returns the settings that reach it,
/// three attempts without pause, and the number of connections so far.
fn server(script: &[Behaviour]) -> (Fetch, Arc<AtomicU32>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/archive", listener.local_addr().unwrap());
    let connections = Arc::new(AtomicU32::new(0));
    let (script, counter) = (script.to_vec(), connections.clone());
    thread::spawn(move || {
        for behaviour in script {
            let (stream, _) = listener.accept().unwrap();
            counter.fetch_add(1, Ordering::SeqCst);
            thread::spawn(move || answer(stream, behaviour));
        }
    });
    (Fetch { url, attempts: 3, stall: STALL, pause: Duration::ZERO }, connections)
}

fn answer(mut stream: TcpStream, behaviour: Behaviour) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    while lines.next().is_some_and(|line| line.is_ok_and(|line| !line.is_empty())) {}
    let mut body = archive();
    let (length, middle) = (body.len(), body.len() / 2);
    let mut status = "200 OK";
    match behaviour {
        HangUp => return,
        Silent => return thread::sleep(STALL * 3),
        Truncate | Stall => body.truncate(middle),
        Corrupt => body[middle] ^= 1,
        NotFound => status = "404 Not Found",
        Busy => status = "503 Service Unavailable",
        Serve | Slow => {}
    }
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    // Failed writes are none of ours: the client hangs up as soon as it knows that something is wrong.
    let _ = stream.write_all(head.as_bytes());
    for piece in body.chunks(if behaviour == Slow { length / 8 } else { length }) {
        let _ = stream.write_all(piece);
        thread::sleep(if behaviour == Slow { STALL / 5 } else { Duration::ZERO });
    }
    thread::sleep(if behaviour == Stall { STALL * 3 } else { Duration::ZERO });
}

fn archive() -> Vec<u8> {
    let (parts, contents) = tiny();
    packed(parts.iter().map(|part| part.name).zip(contents.iter().map(Vec::as_slice)))
}

/// Fetches into `folder` from a server with that script: the result and the connections made.
fn run(folder: &Path, script: &[Behaviour]) -> (Result<()>, u32) {
    let (settings, connections) = server(script);
    let result = fetch_parts(folder, &settings, &tiny().0, &mut |_, _| {});
    (result, connections.load(Ordering::SeqCst))
}

/// Names in `folder`, sorted; a lock file may stay where there is no Unix.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.filter(|name| cfg!(unix) || name != LOCK).collect();
    names.sort();
    names
}

fn assert_fetched(folder: &Path) {
    assert_eq!(names(folder), [FOLDER]);
    assert_eq!(names(&folder.join(FOLDER)), ["data_batch_1.bin", "data_batch_2.bin", "test_batch.bin"]);
    let (parts, contents) = tiny();
    for (part, bytes) in parts.iter().zip(contents) {
        assert_eq!(fs::read(folder.join(FOLDER).join(part.name)).unwrap(), bytes);
    }
}

#[test]
fn a_download_lands_whole_in_a_new_folder_and_reports_progress() {
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("new/data");
    let (settings, connections) = server(&[Serve]);
    let mut reports = Vec::new();
    fetch_parts(&folder, &settings, &tiny().0, &mut |bytes, total| reports.push((bytes, total))).unwrap();
    assert_fetched(&folder);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    let total = archive().len() as u64;
    assert!(reports.is_sorted() && reports.iter().all(|(_, found)| *found == Some(total)), "{reports:?}");
    // What follows the last data file need not be read.
    assert!((total * 9 / 10..=total).contains(&reports.last().unwrap().0), "{reports:?}");
}

#[test]
fn what_may_pass_is_tried_again() {
    for fault in [Truncate, Corrupt, Stall, Silent, HangUp, Busy] {
        let place = tempfile::tempdir().unwrap();
        let (result, connections) = run(place.path(), &[fault, fault, Serve]);
        result.unwrap();
        assert_eq!(connections, 3);
        assert_fetched(place.path());
    }
}

#[test]
fn the_last_failure_is_the_cause() {
    let timed_out = "no byte came for 200ms";
    let faults = [
        (Truncate, "cannot be unpacked: "),
        (Stall, timed_out),
        (Silent, "timeout"),
        (Busy, "the server answered 503"),
    ];
    for (fault, cause) in faults {
        let place = tempfile::tempdir().unwrap();
        let (result, connections) = run(place.path(), &[Busy, HangUp, fault, Serve]);
        let Err(Error::Download { problem, remedy, .. }) = result else { panic!("{result:?}") };
        assert!(problem.contains(cause) && problem.ends_with("(attempt 3 of 3)"), "{problem}");
        assert!(remedy.contains(place.path().to_str().unwrap()));
        assert_eq!(connections, 3);
        assert!(names(place.path()).is_empty());
    }
}

#[test]
fn a_lasting_answer_and_a_bad_address_are_not_tried_again() {
    let place = tempfile::tempdir().unwrap();
    let (result, connections) = run(place.path(), &[NotFound, Serve]);
    let Err(Error::Download { problem, .. }) = result else { panic!("{result:?}") };
    assert_eq!(problem, "the server answered 404 Not Found");
    assert_eq!(connections, 1);

    let settings = Fetch { url: "no address".into(), pause: Duration::from_secs(5), ..Fetch::default() };
    let result = fetch_parts(place.path(), &settings, &tiny().0, &mut |_, _| {});
    assert!(matches!(result, Err(Error::Usage(_))), "{result:?}");
    assert!(names(place.path()).is_empty());
}

#[test]
fn nobody_listening_is_a_download_error() {
    let place = tempfile::tempdir().unwrap();
    let (result, connections) = run(place.path(), &[]);
    assert!(matches!(result, Err(Error::Download { .. })), "{result:?}");
    assert_eq!(connections, 0);
}

#[test]
fn a_slow_server_is_no_stall() {
    let place = tempfile::tempdir().unwrap();
    let (result, connections) = run(place.path(), &[Slow]);
    result.unwrap();
    assert_eq!(connections, 1);
}

#[test]
fn a_disk_that_refuses_ends_it_at_once() {
    let place = tempfile::tempdir().unwrap();
    let (settings, connections) = server(&[Serve, Serve]);
    let partial = place.path().join(PARTIAL);
    let result = fetch_parts(place.path(), &settings, &tiny().0, &mut |_, _| {
        let _ = fs::remove_dir_all(&partial);
    });
    assert!(matches!(result, Err(Error::Io { .. })), "{result:?}");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    assert!(names(place.path()).is_empty());

    let file = place.path().join("file");
    fs::write(&file, "").unwrap();
    let (result, connections) = run(&file.join("data"), &[Serve]);
    assert!(matches!(result, Err(Error::Data { .. })), "{result:?}");
    assert_eq!(connections, 0);
}

#[test]
fn a_whole_folder_is_kept_and_a_damaged_one_replaced() {
    let place = tempfile::tempdir().unwrap();
    let (parts, mut contents) = tiny();
    let target = place.path().join(FOLDER);
    unpacked(&target, &parts, &contents);
    fs::write(target.join("mine"), "").unwrap();
    let (result, connections) = run(place.path(), &[Serve]);
    result.unwrap();
    assert_eq!(connections, 0);
    assert!(target.join("mine").exists());

    contents[1][5] ^= 1;
    unpacked(&target, &parts, &contents);
    let (result, connections) = run(place.path(), &[NotFound]);
    assert!(result.is_err() && connections == 1);
    assert!(target.join("mine").exists());

    let (result, connections) = run(place.path(), &[Serve]);
    result.unwrap();
    assert_eq!(connections, 1);
    assert_fetched(place.path());
}

#[test]
fn leftovers_of_a_killed_fetch_are_removed() {
    let place = tempfile::tempdir().unwrap();
    let leftover = place.path().join(PARTIAL).join(FOLDER);
    fs::create_dir_all(&leftover).unwrap();
    fs::write(leftover.join("junk"), "").unwrap();
    fs::write(place.path().join(LOCK), "").unwrap();
    run(place.path(), &[Serve]).0.unwrap();
    assert_fetched(place.path());
}

#[test]
fn a_second_fetch_into_the_same_folder_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let first = Workplace::claim(place.path()).unwrap();
    fs::create_dir(&first.partial).unwrap();
    let (result, connections) = run(place.path(), &[Serve]);
    assert!(matches!(&result, Err(Error::Data { problem, .. }) if problem.contains("is writing into")), "{result:?}");
    assert_eq!(connections, 0);
    assert!(first.partial.exists() && first.lock.exists());
    drop(first);
    assert!(names(place.path()).is_empty());
    run(place.path(), &[Serve]).0.unwrap();
}

#[cfg(unix)]
#[test]
fn a_lock_file_that_was_removed_is_no_lock() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join(LOCK);
    let file = File::create(&path).unwrap();
    assert!(is_at(&file, &path));
    fs::remove_file(&path).unwrap();
    assert!(!is_at(&file, &path));
    File::create(&path).unwrap();
    assert!(!is_at(&file, &path));
}

/// A data folder from elsewhere may hold anything in the place of the lock.
#[cfg(unix)]
#[test]
fn a_link_or_a_pipe_in_the_place_of_the_lock_is_left_alone() {
    let place = tempfile::tempdir().unwrap();
    let (precious, lock) = (place.path().join("precious"), place.path().join("data").join(LOCK));
    fs::write(&precious, "not to be emptied").unwrap();
    fs::create_dir(place.path().join("data")).unwrap();
    let refusal = || {
        let settings = Fetch { url: "http://127.0.0.1:1/none".to_owned(), attempts: 1, ..Fetch::default() };
        let error = fetch_parts(&place.path().join("data"), &settings, &tiny().0, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains("a link, a folder or a pipe is in its place"), "{error}");
    };
    for target in ["../precious", "../nowhere"] {
        std::os::unix::fs::symlink(target, &lock).unwrap();
        refusal();
        fs::remove_file(&lock).unwrap();
    }
    assert_eq!(fs::read(&precious).unwrap(), b"not to be emptied");
    assert!(!place.path().join("nowhere").exists());
    assert!(std::process::Command::new("mkfifo").arg(&lock).status().unwrap().success());
    refusal();
}
