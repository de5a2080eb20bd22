//! What a run leaves, and what the commands around it print.

use crate::place::{EXPERIMENTS, Place, smoke, text};

#[test]
fn a_run_fills_its_folder_ends_with_the_table_and_is_not_repeated() {
    let place = Place::new();
    let said = place.good(&["run", &smoke()]);
    assert!(said.lines().last().unwrap().contains("runs/smoke"), "{said}");
    let rows: Vec<&str> = said.lines().skip_while(|line| !line.starts_with("method  ")).collect();
    assert!(rows[0].ends_with("final  peak *  time  with pre-training"), "{said}");
    for stage in ["baseline", "pretext-finetune", "simsiam-probe"] {
        assert!(rows.iter().any(|row| row.starts_with(stage) && row.contains('%')), "{said}");
    }
    let mut expected =
        [".lock", "SHA256SUMS", "log.txt", "manifest.json"].map(|file| format!("runs/smoke/{file}")).to_vec();
    for stage in ["baseline", "pretext", "pretext-finetune", "simsiam", "simsiam-probe", "simsiam-linear"] {
        expected.push(format!("runs/smoke/{stage}/history.json"));
        expected.push(format!("runs/smoke/{stage}/weights.safetensors"));
    }
    expected.extend(["report.html", "results.csv", "results.md"].map(|file| format!("runs/smoke/{file}")));
    expected.sort();
    let is_figure = |file: &String| file.ends_with(".svg") || file.ends_with(".png");
    let (figures, others): (Vec<String>, Vec<String>) = place.files().into_iter().partition(is_figure);
    assert_eq!(others, expected);
    assert_eq!(figures.len(), 2 * 25);
    assert!(said.contains("runs/smoke/report.html") && said.contains("in total"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("  baseline ") && line.ends_with(" FLOP")), "{said}");
    let log = std::fs::read_to_string(place.path("runs/smoke/log.txt")).unwrap();
    assert!(log.lines().next().unwrap().starts_with("20") && log.contains("Z baseline: epoch 2/2"), "{log}");
    assert!(
        log.contains("Z The report: runs/smoke/report.html") && log.lines().all(|line| line.starts_with("20")),
        "{log}"
    );

    let before = place.manifest("runs/smoke");
    let history = std::fs::metadata(place.path("runs/smoke/simsiam/history.json")).unwrap().modified().unwrap();
    let again = place.good(&["run", &smoke()]);
    assert!(again.contains("already finished") && again.contains("simsiam-probe"), "{again}");
    assert_eq!(place.manifest("runs/smoke")["result"], before["result"]);
    let unchanged = std::fs::metadata(place.path("runs/smoke/simsiam/history.json")).unwrap().modified().unwrap();
    assert_eq!(unchanged, history);
    let fresh = place.good(&["run", &smoke(), "--fresh", "--quiet", "--threads", "3"]);
    assert_eq!(fresh, "");
    assert_eq!(place.manifest("runs/smoke")["result"], before["result"], "the same bits on three threads");
    assert_eq!(place.manifest("runs/smoke")["environment"]["threads"], 3);
}

#[test]
fn scripts_get_json_and_past_runs_are_listed() {
    let place = Place::new();
    let said = place.good(&["run", &smoke(), "--json", "--only", "simsiam-probe"]);
    let events: Vec<serde_json::Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_kind = |kind: &str| events.iter().filter(|event| event["event"] == kind).collect::<Vec<_>>();
    let counts = ["plan", "epoch", "stage", "done", "report"].map(|kind| of_kind(kind).len());
    assert_eq!(counts, [1, 4, 2, 1, 1], "{said}");
    assert_eq!(of_kind("plan")[0]["stages"][0]["stage"], "simsiam");
    assert!(of_kind("plan")[0]["stages"][1]["seconds"].as_f64().unwrap() > 0.0);
    let result = &place.manifest("runs/smoke")["result"]["simsiam-probe"];
    assert_eq!(of_kind("stage")[1]["result"]["final"], result["final"]);
    assert_eq!(of_kind("epoch")[3]["record"], result["final"]);

    let again = place.good(&["run", &smoke(), "--json", "--only", "simsiam-probe"]);
    let of = |kind: &str| -> Vec<&str> {
        let event = format!("{{\"event\":\"{kind}\"");
        said.lines().chain(again.lines()).filter(|line| line.starts_with(&event)).collect()
    };
    for kind in ["stage", "done", "report"] {
        let told = of(kind);
        let (first, second) = told.split_at(told.len() / 2);
        assert!(!first.is_empty() && first == second, "{kind}: what is finished is told again: {again}");
    }
    place.good(&["run", &smoke(), "--quiet", "--out", "runs/whole"]);
    place.write("runs/broken/manifest.json", "{}");
    let listed = place.good(&["runs"]);
    let top1 = 100.0 * result["final"]["test_top1"].as_f64().unwrap();
    assert!(listed.contains(&format!("simsiam-probe {top1:.1} % final")), "{listed}");
    assert!(listed.contains("2 of 6 stages") && listed.contains("runs/whole") && listed.contains("  done"), "{listed}");
    assert!(listed.contains("is not a manifest of this version"), "{listed}");
    let listed = place.good(&["runs", "--json"]);
    let rows: Vec<serde_json::Value> = listed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.iter().any(|row| row["test_top1"]["simsiam-probe"] == result["final"]["test_top1"]), "{listed}");
    assert!(rows.iter().any(|row| row["epoch"] == "final"), "{listed}");
    assert!(place.bad(&["runs", "nowhere"], 2).contains("run an experiment first"));
}

#[test]
fn completions_and_examples_are_there() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(place.good(&["completions", shell]).contains("fewlabel"), "{shell}");
    }
    for command in [&["--help"][..], &["run", "--help"], &["verify", "--help"], &["report", "--help"]] {
        let said = place.good(command);
        assert!(said.contains("Examples:") && said.contains("  fewlabel "), "{said}");
    }
}

#[test]
fn a_report_can_be_written_again_and_elsewhere() {
    let place = Place::new();
    place.good(&["run", &smoke(), "--quiet"]);
    std::fs::remove_file(place.path("runs/smoke/report.html")).unwrap();
    let said = place.good(&["report", "runs/smoke"]);
    assert!(place.path("runs/smoke/report.html").exists());
    let stages = "baseline, pretext-finetune, simsiam-probe, simsiam-linear";
    let computed = format!("Computed again from weights and images: the test accuracy of {stages}; all else is as the");
    assert!(said.contains(&computed), "{said}");
    // Of one that is there nobody knows who wrote it.
    let said = place.good(&["run", &smoke()]);
    assert!(said.contains("\nIt was there, and matches the manifest; `fewlabel report runs/smoke` computes it again"));
    assert!(!said.contains("Computed again"), "{said}");
    place.good(&["report", "runs/smoke", "runs/smoke", "--quiet"]);
    assert!(place.path("report/report.html").exists());
    let message = place.bad(&["report", "nowhere"], 2);
    assert!(message.contains("nowhere: there is no such folder"), "{message}");
}

/// The same command adds what a report lacks.
#[test]
fn a_report_that_is_not_whole_is_written_again() {
    let place = Place::new();
    place.good(&["run", &smoke(), "--quiet"]);
    for file in ["results.csv", "umap-random.png", "report.html"] {
        let path = place.path("runs/smoke").join(file);
        std::fs::remove_file(&path).unwrap();
        place.good(&["run", &smoke(), "--quiet"]);
        assert!(path.is_file(), "{file}");
    }
    let page = || std::fs::read_to_string(place.path("runs/smoke/report.html")).unwrap();
    let weights = place.path("runs/smoke/simsiam-probe/weights.safetensors");
    let bytes = std::fs::read(&weights).unwrap();
    std::fs::remove_file(&weights).unwrap();
    let before = page();
    let message = place.bad(&["report", "runs/smoke"], 3);
    assert!(message.contains("left as it is") && page() == before, "{message}");
    std::fs::remove_file(place.path("runs/smoke/report.html")).unwrap();
    let said = place.good(&["report", "runs/smoke"]);
    assert!(said.contains("Some figures are missing") && page().contains("no weights of simsiam-probe"), "{said}");
    std::fs::write(&weights, bytes).unwrap();
    let said = place.good(&["run", &smoke()]);
    assert!(!said.contains("figures are missing") && !page().contains("no weights of"), "{said}");
    let written = || std::fs::metadata(place.path("runs/smoke/report.html")).unwrap().modified().unwrap();
    let before = written();
    place.good(&["run", &smoke(), "--quiet"]);
    assert_eq!(written(), before, "a whole one is left alone");
}

/// No figures of two runs' stages share a name.
#[test]
fn figures_of_several_runs_have_names_of_their_own() {
    let place = Place::new();
    for (run, stages) in [("x", ["b-c", "d"]), ("x-b", ["c", "e"])] {
        let stages =
            stages.map(|stage| format!("{{name: {stage}, method: supervised, epochs: 2, batch: 5}}")).join(", ");
        let yaml = format!(
            "name: t\ndataset: {{name: synthetic, train: 20, test: 10}}\nlabels: {{count: 10}}
network: {{channels: [1, 2, 3], hidden: 4}}\nstages: [{stages}]"
        );
        place.write(&format!("{run}.yaml"), yaml);
        place.good(&["run", &format!("{run}.yaml"), "--out", run, "--quiet"]);
    }
    place.good(&["report", "x", "x-b", "--out", "both", "--quiet"]);
    let html = std::fs::read_to_string(place.path("both/report.html")).unwrap();
    let mut ids: Vec<&str> = html.split("<figure id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    let n = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), n, "{ids:?}");
    assert_eq!(place.files().iter().filter(|file| file.starts_with("both/") && file.ends_with(".svg")).count(), n);
}

/// A script must not take half of the output for all of it.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_behind_standard_output_is_a_fault() {
    let place = Place::new();
    place.good(&["run", &smoke(), "--quiet", "--only", "baseline"]);
    for args in [
        &["completions", "bash"][..],
        &["runs"],
        &["runs", "--json"],
        &["run", &smoke(), "--json", "--only", "baseline"],
    ] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let output = place.command(args).stdout(full).output().unwrap();
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{args:?}: {message}");
        assert!(message.contains("cannot write to standard output"), "{args:?}: {message}");
    }
}

#[test]
fn only_takes_the_stages_named_and_those_they_need() {
    let place = Place::new();
    place.good(&["run", &smoke(), "--only", "simsiam-probe", "--out", "here"]);
    let stages: Vec<String> = place.manifest("here")["result"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(stages, ["simsiam", "simsiam-probe"]);
    place.good(&["run", &smoke(), "--out", "here"]);
    assert_eq!(place.manifest("here")["result"].as_object().unwrap().len(), 6, "the rest follows");
    let message = place.bad(&["run", &smoke(), "--only", "simsiam,nothing", "--out", "there"], 2);
    assert!(message.contains("no stage nothing") && message.contains("baseline"), "{message}");
    assert!(!place.path("there").exists());
}

/// The bits are the same however the number of threads is set.
#[test]
fn threads_set_in_any_way_change_no_bit() {
    let place = Place::new();
    let result = |out: &str, flag: Option<&str>, variable: Option<&str>| {
        let smoke = smoke();
        let mut args = vec!["run", &*smoke, "--quiet", "--only", "baseline,simsiam", "--out", out];
        args.extend(flag.iter().flat_map(|n| ["--threads", n]));
        let mut command = place.command(&args);
        command.env_remove("RAYON_NUM_THREADS").envs(variable.map(|n| ("RAYON_NUM_THREADS", n)));
        assert!(command.status().unwrap().success(), "{flag:?} {variable:?}");
        let manifest = place.manifest(out);
        (manifest["result"].clone(), manifest["environment"]["threads"].clone())
    };
    let (expected, _) = result("default", None, None);
    for (i, (flag, variable, threads)) in [
        (Some("1"), None, 1),
        (Some("2"), None, 2),
        (Some("8"), None, 8),
        (None, Some("3"), 3),
        (Some("5"), Some("2"), 5),
    ]
    .into_iter()
    .enumerate()
    {
        let (found, used) = result(&format!("run-{i}"), flag, variable);
        assert_eq!(used, threads, "{flag:?} {variable:?}");
        assert_eq!(found, expected, "{threads} threads");
    }
}

#[test]
fn of_several_seeds_any_can_be_run() {
    let place = Place::new();
    let strict = format!("{EXPERIMENTS}/smoke-strict.yaml");
    let keys = |out: &str| -> Vec<String> {
        let mut keys: Vec<String> = place.manifest(out)["result"].as_object().unwrap().keys().cloned().collect();
        keys.sort();
        keys
    };
    place.good(&["run", &strict, "--only", "seed-8/simsiam-knn,random-knn", "--out", "some"]);
    assert_eq!(keys("some"), ["seed-7/random-knn", "seed-8/random-knn", "seed-8/simsiam", "seed-8/simsiam-knn"]);
    place.good(&["run", &strict, "--only", "seed-7", "--out", "one"]);
    assert_eq!(keys("one").len(), 11);
    assert!(place.path("one/seed-7/simsiam-mlp/weights.safetensors").exists());
    for wrong in ["seed-9", "seed-7/nothing", "nothing", "seed-70/simsiam"] {
        let message = place.bad(&["run", &strict, "--only", wrong, "--out", "none"], 2);
        assert!(message.contains(&format!("no stage {wrong}")), "{message}");
    }
    assert!(!place.path("none").exists());
    let last = u64::MAX.to_string();
    place.good(&["run", &strict, "--seed", &last, "--only", "random-knn", "--out", "edge"]);
    assert_eq!(keys("edge"), ["seed-0/random-knn".to_owned(), format!("seed-{last}/random-knn")]);
}

#[test]
fn another_seed_is_another_experiment() {
    let place = Place::new();
    let run =
        |seed: &str, out: &str| place.good(&["run", &smoke(), "--only", "baseline", "--seed", seed, "--out", out]);
    run("0", "zero");
    run("1", "one");
    assert_ne!(place.manifest("zero")["experiment_sha256"], place.manifest("one")["experiment_sha256"]);
    assert_ne!(place.manifest("zero")["result"], place.manifest("one")["result"]);
    let message = place.bad(&["run", &smoke(), "--seed", "1", "--out", "zero"], 2);
    assert!(message.contains("another experiment") && message.contains("--out zero-2`"), "{message}");
}

/// The study's experiment was called `seed` once.
#[test]
fn an_old_name_still_works_with_a_hint() {
    let place = Place::new();
    place.write("study.yaml", std::fs::read(smoke()).unwrap());
    let output = place.run(&["run", "seed.yaml", "--only", "baseline", "--out", "run"]);
    let hint = text(&output.stderr);
    assert!(output.status.success() && hint.contains("seed.yaml is now study.yaml"), "{hint}");
    std::fs::copy(place.path("run/manifest.json"), place.path("study.json")).unwrap();
    assert!(place.good(&["verify", "seed.json"]).contains("bit-identical"));
    // A file of one's own that bears the name is meant.
    place.write("seed.yaml", "name: mine");
    assert!(place.bad(&["run", "seed.yaml"], 2).contains("seed.yaml"));
    assert!(place.bad(&["run", "elsewhere/seed.yaml"], 2).contains("elsewhere/seed.yaml: there is no such file"));
}
