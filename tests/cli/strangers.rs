//! Run directories and manifests of others: nothing outside is touched, and nothing false is believed.

use std::process::Stdio;

use serde_json::Value;

use crate::place::{Place, smoke, text};

/// A run of the smoke experiment's baseline.
fn baseline(place: &Place, out: &str) {
    place.good(&["run", &smoke(), "--quiet", "--only", "baseline", "--out", out]);
}

fn write(place: &Place, name: &str, manifest: &Value) {
    place.write(name, serde_json::to_vec_pretty(manifest).unwrap());
}

/// The manifest with its results' hashes made right again, as a forger would.
fn rehashed(mut manifest: Value) -> Value {
    for result in manifest["result"].as_object_mut().unwrap().values_mut() {
        let history = serde_json::to_vec_pretty(&result["history"]).unwrap();
        result["history_sha256"] = fewlabel::files::sha256(&[&history[..], b"\n"].concat()).into();
    }
    let hash = |result: &Value| Value::from(fewlabel::files::sha256(&serde_json::to_vec(result).unwrap()));
    let hashes = manifest["result"].as_object().unwrap().iter().map(|(key, result)| (key.clone(), hash(result)));
    manifest["result_sha256"] = Value::Object(hashes.collect());
    manifest
}

/// A link anywhere where a run writes, appends or removes: `precious` is a file or a folder outside.
#[cfg(unix)]
#[test]
fn links_in_a_run_directory_are_not_followed() {
    use std::os::unix::fs::symlink;

    let place = Place::new();
    place.write("precious", "mine");
    place.write("outside/history.json", "mine");
    place.write("outside/checkpoint", "mine");
    place.write("outside/weights.safetensors", "mine");
    let smoke = smoke();
    let untouched = || {
        let read = |name: &str| std::fs::read_to_string(place.path(name)).unwrap();
        let all = ["precious", "outside/history.json", "outside/checkpoint", "outside/weights.safetensors"];
        assert!(all.iter().all(|name| read(name) == "mine"));
    };
    for fresh in [&[][..], &["--fresh"]] {
        for (link, target) in [
            (".lock", "../precious"),
            ("log.txt", "../precious"),
            ("manifest.json", "../precious"),
            ("SHA256SUMS", "../precious"),
            ("baseline", "../outside"),
            ("baseline/history.json", "../../precious"),
            ("baseline/weights.safetensors", "../../precious"),
            ("baseline/checkpoint", "../../precious"),
            (".lock", "../nowhere"),
            ("log.txt", "../nowhere"),
        ] {
            let path = place.path("r").join(link);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            symlink(target, &path).unwrap();
            let args = [&["run", &*smoke, "--only", "baseline", "--out", "r"], fresh].concat();
            let message = place.bad(&args, 2);
            assert!(message.contains(&format!("r/{link}: is not a")), "{message}");
            untouched();
            assert!(!place.path("nowhere").exists());
            std::fs::remove_dir_all(place.path("r")).unwrap();
        }
    }
    // What is appended to a hard link would be in the other file too.
    std::fs::create_dir(place.path("r")).unwrap();
    std::fs::hard_link(place.path("precious"), place.path("r/log.txt")).unwrap();
    place.bad(&["run", &smoke, "--only", "baseline", "--out", "r"], 2);
    untouched();
    // What is replaced is not.
    std::fs::remove_file(place.path("r/log.txt")).unwrap();
    std::fs::create_dir(place.path("r/baseline")).unwrap();
    std::fs::hard_link(place.path("precious"), place.path("r/baseline/history.json")).unwrap();
    std::fs::hard_link(place.path("precious"), place.path("r/.lock")).unwrap();
    baseline(&place, "r");
    untouched();
    // The folder itself is the user's choice.
    std::fs::create_dir(place.path("elsewhere")).unwrap();
    symlink("elsewhere", place.path("named")).unwrap();
    baseline(&place, "named");
    assert!(place.path("elsewhere/baseline/weights.safetensors").exists());
}

/// The seeds' folders, and those of the experiment that `--fresh` throws away.
#[cfg(unix)]
#[test]
fn links_to_folders_of_seeds_and_earlier_stages_are_not_followed() {
    use std::os::unix::fs::symlink;

    let place = Place::new();
    place.write("outside/random-knn/checkpoint", "mine");
    let strict = format!("{}/smoke-strict.yaml", crate::place::EXPERIMENTS);
    std::fs::create_dir(place.path("r")).unwrap();
    symlink("../outside", place.path("r/seed-8")).unwrap();
    let message = place.bad(&["run", &strict, "--only", "seed-7/random-knn", "--out", "r"], 2);
    assert!(message.contains("r/seed-8: is not a folder"), "{message}");
    std::fs::remove_file(place.path("r/seed-8")).unwrap();
    place.good(&["run", &strict, "--quiet", "--only", "random-knn", "--out", "r"]);
    std::fs::rename(place.path("r/seed-8"), place.path("aside")).unwrap();
    symlink("../outside", place.path("r/seed-8")).unwrap();
    // Another experiment, which has no such folder.
    let message = place.bad(&["run", &smoke(), "--fresh", "--out", "r"], 2);
    assert!(message.contains("r/seed-8: is not a folder"), "{message}");
    assert!(place.path("outside/random-knn/checkpoint").exists());
}

/// Pipes and devices would be waited for, or have no end.
#[cfg(unix)]
#[test]
fn pipes_in_place_of_files_are_refused() {
    let place = Place::new();
    baseline(&place, "r");
    let pipe = |name: &str| {
        let path = place.path(name);
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_dir_all(&path);
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    };
    pipe("p.yaml");
    place.bad(&["run", "p.yaml"], 2);
    place.bad(&["verify", "p.yaml"], 2);
    for name in [".lock", "log.txt", "manifest.json", "baseline/weights.safetensors", "baseline/checkpoint", "baseline"]
    {
        baseline(&place, "q");
        pipe(&format!("q/{name}"));
        let args = ["run", &smoke(), "--only", "pretext,baseline", "--out", "q"];
        let message = place.bad(&args, 2);
        assert!(message.contains(&format!("q/{name}: ")), "{message}");
        std::fs::remove_dir_all(place.path("q")).unwrap();
    }
    pipe("r/baseline/weights.safetensors");
    place.bad(&["report", "r"], 2);
    let said = text(&place.run(&["check", "r"]).stdout);
    assert!(said.contains("r/baseline/weights.safetensors: cannot be read: it is"), "{said}");
}

/// Every number that stands for a stage is under a hash, which a manifest of an earlier version lacks.
#[test]
fn a_forged_headline_is_refused_wherever_it_would_be_shown() {
    let place = Place::new();
    let strict = format!("{}/smoke-strict.yaml", crate::place::EXPERIMENTS);
    place.good(&["run", &strict, "--quiet", "--only", "seed-7/random-linear", "--out", "runs/r"]);
    let good = place.manifest("runs/r");
    assert!(good["result"]["seed-7/random-linear"]["chosen"]["test_top1"].is_f64(), "{good}");
    let refused = |forged: &Value, why: &str| {
        write(&place, "runs/r/manifest.json", forged);
        for args in [
            &["run", &strict, "--only", "seed-7/random-linear", "--out", "runs/r"][..],
            &["report", "runs/r"],
            &["check", "runs/r"],
            &["run", &strict, "--only", "seed-7/random-linear", "--out", "other", "--reuse", "runs/r"],
        ] {
            let message = place.bad(args, 2);
            assert!(message.contains(why), "{args:?}: {message}");
        }
        let listed = place.good(&["runs"]);
        assert!(listed.contains(why) && !listed.contains(" 99.0 %"), "{listed}");
    };
    let mut forged = good.clone();
    forged["result"]["seed-7/random-linear"]["chosen"]["test_top1"] = 0.99.into();
    refused(&forged, "the result of seed-7/random-linear was changed");
    // With hashes made right again, what is no accuracy is none.
    forged["result"]["seed-7/random-linear"]["chosen"]["test_top1"] = 5e9.into();
    refused(&rehashed(forged), "the result of seed-7/random-linear was changed");
    let mut stray = good.clone();
    stray["result"]["seed-9/random-linear"] = good["result"]["seed-7/random-linear"].clone();
    refused(&rehashed(stray), "has a result of seed-9/random-linear, which its experiment does not have");
    let mut old = good.clone();
    old.as_object_mut().unwrap().shift_remove("result_sha256");
    for key in ["build", "commit"] {
        old["environment"].as_object_mut().unwrap().shift_remove(key);
    }
    write(&place, "runs/r/manifest.json", &old);
    place.good(&["report", "runs/r"]);
    let said = place.good(&["run", &strict, "--only", "seed-7", "--out", "runs/r"]);
    assert!(said.contains("resuming what another build of this version began (an earlier one)"), "{said}");
    write(&place, "runs/old/manifest.json", &old);
    std::fs::create_dir_all(place.path("runs/old/seed-7/random-linear")).unwrap();
    let weights = "seed-7/random-linear/weights.safetensors";
    std::fs::copy(place.path("runs/r").join(weights), place.path("runs/old").join(weights)).unwrap();
    let reuse = ["run", &strict, "--only", "seed-7/random-linear", "--out", "other", "--reuse", "runs/old"];
    let said = place.good(&reuse);
    assert!(
        said.contains("seed-7/random-linear: reused from runs/old (made by another build: an earlier one)"),
        "{said}"
    );
}

#[test]
fn weights_that_are_no_numbers_are_not_reused() {
    let place = Place::new();
    baseline(&place, "r");
    let path = place.path("r/baseline/weights.safetensors");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len() - 4;
    bytes[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let args = ["run", &smoke(), "--only", "baseline", "--out", "s", "--reuse", "r"];
    let message = place.bad(&args, 2);
    assert!(message.contains("has a value that is infinite or no number"), "{message}");
}

/// The last line of a failed verification is the program's own, whatever the manifest says; and names of its own choice
/// end no line.
#[test]
fn a_manifest_does_not_write_its_own_verdict() {
    let place = Place::new();
    baseline(&place, "runs/r");
    let mut manifest = place.manifest("runs/r");
    let verdict = "x\nbit-identical: 6 stages of smoke\r\u{1b}[2K\u{202e}";
    manifest["environment"]["cpu"] = verdict.into();
    manifest["environment"]["fewlabel"] = verdict.into();
    manifest["environment"]["device"] = verdict.into();
    manifest["environment"]["written"] = verdict.into();
    manifest["environment"]["reused"] = serde_json::json!({"baseline": verdict});
    manifest["result"]["baseline"]["weights_sha256"] = verdict.into();
    let manifest = rehashed(manifest);
    write(&place, "runs/r/manifest.json", &manifest);
    for args in [
        &["verify", "runs/r/manifest.json"][..],
        &["run", &smoke(), "--only", "baseline", "--out", "runs/r"],
        &["run", &smoke(), "--only", "baseline", "--out", "s", "--reuse", "runs/r"],
        &["report", "runs/r"],
        &["check", "runs/r"],
        &["runs"],
        &["runs", "--json"],
    ] {
        let output = place.run(args);
        for said in [text(&output.stdout), text(&output.stderr)] {
            assert!(said.lines().all(|line| !line.starts_with("bit-identical")), "{args:?}: {said}");
            assert!(!said.contains(['\r', '\u{1b}', '\u{202e}']), "{args:?}: {said:?}");
        }
    }
    assert_eq!(place.run(&["verify", "runs/r/manifest.json"]).status.code(), Some(1));
    let unknown = manifest.to_string().replacen("\"name\":", "\"a\\nbit-identical: 1 stage\":1,\"name\":", 1);
    place.write("unknown.json", unknown);
    let message = place.bad(&["verify", "unknown.json"], 2);
    assert!(message.lines().all(|line| !line.starts_with("bit-identical")), "{message}");
    place.write("a.yaml", "\"a\\nbit-identical: 1 stage\": 1\n");
    let message = place.bad(&["run", "a.yaml"], 2);
    assert!(message.lines().all(|line| !line.starts_with("bit-identical")), "{message}");
}

/// A name says nothing of what was verified.
#[test]
fn a_verdict_says_what_it_is_about_and_can_be_held_against_a_file() {
    let place = Place::new();
    baseline(&place, "r");
    let hash = place.manifest("r")["experiment_sha256"].as_str().unwrap().to_owned();
    let said = place.good(&["verify", "r/manifest.json", "--against", &smoke()]);
    let about = format!("compared: synthetic, 96 training and 40 test images; seed 0; experiment {hash}\n");
    assert!(said.ends_with(&format!("{about}bit-identical: 1 of 6 stages of smoke\n")), "{said}");
    let shorter = std::fs::read_to_string(smoke()).unwrap().replacen("epochs: 2", "epochs: 1", 1);
    place.write("shorter.yaml", shorter);
    let message = place.bad(&["verify", "r/manifest.json", "--against", "shorter.yaml"], 1);
    let expected =
        "fewlabel: the manifest is of another experiment than the file: stages.1.epochs is 2 there, 1 here\n";
    assert!(message.starts_with(expected), "{message}");
}

/// Two programs must not write into one folder, whatever happens to it.
#[cfg(unix)]
#[test]
fn a_folder_that_is_removed_under_a_run_ends_the_run() {
    let place = Place::new();
    let long = "name: long
dataset: {name: synthetic, train: 400, test: 20}
labels: {count: 20, choose: first}
network: {channels: [4, 6, 8], hidden: 24, projector: 32, predictor: 8}
stages: [{name: simsiam, method: simsiam, epochs: 2000, batch: 16}]
";
    place.write("long.yaml", long);
    let mut command = place.command(&["run", "long.yaml", "--out", "r", "--quiet"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let wait = |what: &str, is_there: &dyn Fn() -> bool| {
        let began = std::time::Instant::now();
        while !is_there() {
            assert!(began.elapsed().as_secs() < 300, "no {what}");
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
    };
    wait("epoch", &|| place.path("r/simsiam/history.json").exists());
    std::fs::rename(place.path("r"), place.path("moved")).unwrap();
    // Another run's.
    place.write("r/.lock", "");
    std::fs::create_dir(place.path("r/simsiam")).unwrap();
    let done = child.wait().unwrap();
    assert_eq!(done.code(), Some(2));
    let mut message = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut message).unwrap();
    assert!(message.contains("r: was removed or replaced while this run was writing into it"), "{message}");
    let left: Vec<String> = place.files().into_iter().filter(|file| file.starts_with("r/")).collect();
    assert_eq!(left, ["r/.lock"]);
}

/// Times and machine are under no other hash, and every command seals anew: what it replaces is told first.
#[test]
fn what_only_the_sums_vouch_for_is_told_before_they_are_written_anew() {
    let place = Place::new();
    baseline(&place, "r");
    let forge = || {
        let manifest = std::fs::read_to_string(place.path("r/manifest.json")).unwrap();
        let cpu = manifest.lines().find(|line| line.contains("\"cpu\": ")).unwrap();
        place.write("r/manifest.json", manifest.replace(cpu, "    \"cpu\": \"Cray\","));
    };
    let told = "manifest.json was changed after the run had ended: SHA256SUMS has another hash";
    let run = ["run", &smoke(), "--only", "baseline", "--out", "r"];
    assert!(!place.good(&run).contains(told));
    forge();
    assert!(text(&place.run(&["check", "r"]).stdout).contains("manifest.json: was changed"));
    assert!(place.good(&run).contains(told));
    assert!(!place.good(&run).contains(told), "once");
    forge();
    place.write(
        "r/manifest.json",
        std::fs::read_to_string(place.path("r/manifest.json")).unwrap().replace("Cray", "Z80"),
    );
    assert!(place.good(&["report", "r"]).contains(told));
    assert!(std::fs::read_to_string(place.path("r/log.txt")).unwrap().matches(told).count() == 2, "the log keeps it");
    // A report elsewhere writes nothing into the run, and none writes behind a link.
    place.write("r/log.txt", "mine");
    assert!(place.good(&["report", "r", "--out", "elsewhere"]).contains("log.txt was changed"));
    assert_eq!(std::fs::read_to_string(place.path("r/log.txt")).unwrap(), "mine");
    #[cfg(unix)]
    {
        place.write("precious", "mine");
        std::fs::remove_file(place.path("r/log.txt")).unwrap();
        std::os::unix::fs::symlink("../precious", place.path("r/log.txt")).unwrap();
        assert!(place.good(&["report", "r"]).contains("log.txt was changed"));
        assert_eq!(std::fs::read_to_string(place.path("precious")).unwrap(), "mine");
    }
}

/// Every hundredth bit or so of every file, and the whole: `check` tells them apart.
#[test]
fn a_check_finds_each_flipped_bit_and_accepts_the_whole() {
    let place = Place::new();
    place.good(&["run", &smoke(), "--quiet", "--out", "r"]);
    let said = place.good(&["check", "r"]);
    assert!(said.starts_with("whole: 6 of 6 stages of smoke; ") && said.contains("as SHA256SUMS says"), "{said}");
    let files: Vec<String> = place.files();
    assert!(files.iter().any(|file| file == "r/SHA256SUMS") && files.len() > 60, "{files:?}");
    let check = || fewlabel::check::check_run(&place.path("r")).is_ok_and(|checked| checked.faults.is_empty());
    assert!(check());
    for (i, file) in files.iter().enumerate() {
        let path = place.path(file);
        let whole = std::fs::read(&path).unwrap();
        // Another place in each.
        for at in (0..whole.len()).skip(i * 7 % whole.len().max(1)).step_by(whole.len().div_ceil(2).max(1)) {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << ((i + at) % 8);
            std::fs::write(&path, &flipped).unwrap();
            assert!(!check(), "{file}: bit {} of byte {at}", (i + at) % 8);
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(check(), file.ends_with(".lock") || file.ends_with("SHA256SUMS"), "without {file}");
        std::fs::write(&path, &whole).unwrap();
    }
    assert!(check());
    place.write("r/.lock", "x");
    let message = place.bad(&["check", "r"], 1);
    assert!(message.contains("1 fault: this is not what a run has left"), "{message}");
    place.write("r/.lock", "");
    // Of a file two things, in one line.
    let history = std::fs::read_to_string(place.path("r/baseline/history.json")).unwrap();
    place.write("r/baseline/history.json", "[]");
    let said = text(&place.run(&["check", "r"]).stdout);
    let both = "r/baseline/history.json: was changed: its SHA-256 is another; is not the history in the manifest\n";
    assert_eq!(said, both);
    place.write("r/baseline/history.json", history);
    place.write("r/notes.md", "my own");
    let said = place.good(&["check", "r"]);
    assert!(said.contains("notes.md: not of the run"), "{said}");
    let message = place.bad(&["check", "nowhere"], 2);
    assert!(message.contains("there is no such folder"), "{message}");
    // Every run seals anew.
    place.good(&["run", &smoke(), "--quiet", "--out", "r"]);
    place.good(&["report", "r", "--quiet"]);
    place.good(&["check", "r"]);
}

/// `sha256sum -c` reads the file too.
#[cfg(target_os = "linux")]
#[test]
fn the_sums_are_those_of_sha256sum() {
    let place = Place::new();
    baseline(&place, "r");
    let mut command = std::process::Command::new("sha256sum");
    let done = command.args(["--check", "--strict", "SHA256SUMS"]).current_dir(place.path("r")).output().unwrap();
    assert!(done.status.success(), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("baseline/weights.safetensors: OK"));
}

/// What a killed verification leaves is removed by the next one; what is not its own stays.
#[test]
fn temporary_folders_of_killed_verifications_are_swept() {
    let place = Place::new();
    baseline(&place, "r");
    place.write("fewlabel-verify-dead/.lock", "");
    place.write("fewlabel-verify-dead/baseline/checkpoint", "x");
    place.write("fewlabel-verify-mine/notes", "no lock, no run");
    place.write("fewlabel-verify-busy/.lock", "");
    let busy = std::fs::File::options().write(true).open(place.path("fewlabel-verify-busy/.lock")).unwrap();
    busy.lock().unwrap();
    place.good(&["verify", "r/manifest.json"]);
    let there = |name: &str| place.path(name).exists();
    assert!(!there("fewlabel-verify-dead"));
    assert!(there("fewlabel-verify-mine") && there("fewlabel-verify-busy"));
    let left = std::fs::read_dir(place.path("")).unwrap().count();
    assert_eq!(left, 3, "the run and those two: {:?}", place.files());
}

#[test]
fn threads_that_are_not_to_be_had_are_an_error() {
    let place = Place::new();
    let run = |threads: &str| {
        let mut command = place.command(&["run", &smoke(), "--only", "baseline", "--quiet", "--out", "r"]);
        command.env("RAYON_NUM_THREADS", threads).output().unwrap()
    };
    for threads in ["20000", "257", "-1", "many\n"] {
        let done = run(threads);
        assert_eq!(done.status.code(), Some(2), "{threads}");
        assert!(text(&done.stderr).contains("no number from 1 to 256"), "{}", text(&done.stderr));
    }
    assert!(run("2").status.success());
    assert_eq!(place.manifest("r")["environment"]["threads"], 2);
}
