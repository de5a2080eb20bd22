//! Experiments, arguments and folders that cannot be used: one message, no panic.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::place::{Place, smoke, text};

#[test]
fn experiment_files_that_cannot_be_run_get_one_message() {
    let place = Place::new();
    let head = "name: t\ndataset: {name: synthetic, train: 100, test: 10}\nlabels: {count: 20, choose: first}\n";
    let brackets = |n: usize| "[".repeat(n);
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("unknown key", format!("{head}stagess: []").into(), "stagess"),
        ("misspelt stage key", format!("{head}stages: [{{name: a, method: pretext, epoch: 1}}]").into(), "epoch"),
        ("wrong type", format!("{head}stages: [{{name: a, method: pretext, epochs: soon}}]").into(), "epochs"),
        ("zero", format!("{head}stages: [{{name: a, method: pretext, epochs: 0}}]").into(), "epochs"),
        ("negative", format!("{head}stages: [{{name: a, method: pretext, batch: -64}}]").into(), "batch"),
        (
            "absurd",
            format!("{head}stages: [{{name: a, method: pretext, batch: 99999999999999999999}}]").into(),
            "batch",
        ),
        (
            "unknown stage",
            format!("{head}stages: [{{name: a, method: probe, batch: 8, from: b}}]").into(),
            "no stage b",
        ),
        ("cycle", format!("{head}stages: [{{name: a, method: probe, batch: 8, from: a}}]").into(), "depends on itself"),
        (
            "duplicate",
            format!("{head}stages:\n- {{name: a, method: pretext}}\n- {{name: a, method: pretext}}").into(),
            "used twice",
        ),
        (
            "too large for any machine",
            format!(
                "{head}network: {{channels: [1024, 1024, 1024]}}\nstages: [{{name: a, method: pretext, batch: 100}}]"
            )
            .replace("train: 100,", "train: 100000,")
            .replace("batch: 100", "batch: 65536")
            .into(),
            "GB",
        ),
        ("empty", vec![], "is empty: an experiment has `name`"),
        ("binary junk", (0..4096u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect(), "not text"),
        ("zeros", vec![0; 1000], ":1"),
        ("many brackets", brackets(10 << 20).into(), "larger than"),
        ("as many brackets as are read", brackets(65_000).into(), "bad.yaml"),
        ("nested braces", "{a: ".repeat(10_000).into(), "bad.yaml"),
        ("aliases", b"a: &a [x,x]\nb: &b [*a,*a]\nname: *b".to_vec(), "unknown field"),
    ];
    for (what, contents, expected) in cases {
        let file = place.write("bad.yaml", contents);
        let began = Instant::now();
        let message = place.bad(&["run", file.to_str().unwrap()], 2);
        assert!(message.contains(expected), "{what}: {message}");
        assert!(message.len() < 2000, "{what}: {} bytes of message", message.len());
        assert!(began.elapsed() < Duration::from_secs(20), "{what} takes {:?}", began.elapsed());
        assert_eq!(place.files(), ["bad.yaml"], "{what}: nothing is written");
    }
    let message = place.bad(&["run", "nowhere.yaml"], 2);
    assert!(message.contains("nowhere.yaml"), "{message}");
    let message = place.bad(&["run", "."], 2);
    assert!(message.contains("is a folder"), "{message}");
}

#[test]
fn a_validation_part_that_takes_all_or_nothing_is_refused() {
    let place = Place::new();
    let file = place.write(
        "q.yaml",
        "name: q\ndataset: {name: synthetic, train: 60, test: 20}
labels: {count: 15, choose: first, validation: 0.99999994}\nstages: [{name: a, method: supervised, batch: 2}]",
    );
    for more in [&[][..], &["--quiet"]] {
        let message = place.bad(&[&["run", file.to_str().unwrap()], more].concat(), 2);
        assert!(message.contains("labels.validation: 0.99999994 takes 15 of 15 labelled images"), "{message}");
    }
}

#[test]
fn wrong_arguments_are_bad_use() {
    let place = Place::new();
    for args in
        [&["run", "--threads", "0"][..], &["run", "--threads", "many"], &["run", "--seed", "-1"], &["walk"], &[]]
    {
        let output = place.run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {}", text(&output.stderr));
    }
    if cfg!(not(feature = "cuda")) {
        let message = place.bad(&["run", "--device", "cuda"], 2);
        assert!(message.contains("--device cuda"), "{message}");
    }
    assert_eq!(place.files(), Vec::<String>::new());
}

/// A path need not be text, and a reader may close the pipe.
#[test]
#[cfg(unix)]
fn names_that_are_no_text_and_closed_pipes_are_no_fault() {
    use std::os::unix::ffi::OsStrExt;
    let place = Place::new();
    let file = place.write(
        "q.yaml",
        "name: q\ndataset: {name: synthetic, train: 60, test: 20}\nlabels: {count: 20, choose: first}
network: {channels: [2, 3, 4], hidden: 8}\nstages: [{name: a, method: supervised, epochs: 1, batch: 10}]",
    );
    let out = std::ffi::OsStr::from_bytes(b"runs/\xff");
    for more in [&[][..], &["--json"]] {
        let done = place.command(&["run", file.to_str().unwrap()]).args(more).arg("--out").arg(out).output().unwrap();
        assert!(done.status.success(), "{}", text(&done.stderr));
    }
    assert!(place.path("").join(out).join("report.html").exists());
    assert!(place.good(&["runs", "--json"]).contains("\"experiment\":\"q\""));
    for (args, code) in [(&["completions", "bash"][..], 0), (&["runs"], 0), (&["run", "nowhere.yaml"], 2)] {
        let mut child = place.command(args);
        // A pipe without a reader.
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let status = child.stdout(writer.try_clone().unwrap()).stderr(writer).status().unwrap();
        assert_eq!(status.code(), Some(code), "{args:?}: {status}");
    }
}

#[test]
fn an_output_folder_that_cannot_be_written_is_bad_input() {
    let place = Place::new();
    let file = place.write("file", "not a folder");
    for out in [file.clone(), file.join("below"), PathBuf::from("/proc/fewlabel")] {
        let message = place.bad(&["run", &smoke(), "--out", out.to_str().unwrap()], 2);
        assert!(message.contains("cannot be written") && message.contains("--out"), "{message}");
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"not a folder");
    let manifest = place.write("mine/manifest.json", "{\"a\": 1}");
    let message = place.bad(&["run", &smoke(), "--out", "mine"], 2);
    assert!(message.contains("not a manifest"), "{message}");
    place.bad(&["run", &smoke(), "--out", "mine", "--fresh"], 2);
    assert_eq!(std::fs::read(manifest).unwrap(), b"{\"a\": 1}", "a file that is not ours stays");
}
