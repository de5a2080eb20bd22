//! What is said before a run, and of several processes.

use crate::place::{Place, smoke};

#[test]
fn a_dry_run_says_what_is_left_and_does_nothing() {
    let place = Place::new();
    let said = place.good(&["run", &smoke(), "--dry-run"]);
    assert_eq!(place.files(), Vec::<String>::new());
    let line = |stage: &str| {
        let starts = format!("  {stage} ");
        said.lines().find(|line| line.starts_with(&starts)).unwrap_or_else(|| panic!("{stage}: {said}")).to_owned()
    };
    for stage in ["baseline", "pretext", "simsiam"] {
        assert!(line(stage).contains("2 epochs") && !line(stage).contains("after"), "{said}");
    }
    let probe = line("simsiam-probe");
    for part in ["2 epochs", "after simsiam", "about 0 s", "e7 FLOP", " MB"] {
        assert!(probe.contains(part), "{part}: {probe}");
    }
    assert!(said.contains(" in total\n"), "{said}");

    place.good(&["run", &smoke(), "--quiet", "--only", "simsiam"]);
    let said = place.good(&["run", &smoke(), "--dry-run", "--json"]);
    let plan: serde_json::Value = serde_json::from_str(&said).unwrap();
    let stages = plan["stages"].as_array().unwrap();
    let of = |name: &str| stages.iter().find(|stage| stage["stage"] == name);
    assert!(plan["event"] == "plan" && of("simsiam").is_none(), "what is finished is not left: {said}");
    let probe = of("simsiam-probe").unwrap();
    assert_eq!(probe["after"], "simsiam");
    for number in ["seconds", "operations", "bytes"] {
        assert!(probe[number].as_f64().unwrap() > 0.0, "{number}: {probe}");
    }
    // In another folder that run is reused.
    let reusing = ["run", &smoke(), "--dry-run", "--out", "other", "--reuse", "runs/smoke"];
    let said = place.good(&reusing);
    assert!(said.contains("  simsiam-probe ") && !said.contains("  simsiam "), "{said}");

    place.good(&["run", &smoke(), "--quiet"]);
    assert_eq!(place.good(&["run", &smoke(), "--dry-run"]), "nothing is left to do\n");
    let output = place.run(&["run", &smoke(), "--dry-run", "--quiet"]);
    assert_eq!(output.status.code(), Some(2), "nothing would be said");
}

/// Each of them would run everything, and all but one be refused by the lock.
#[cfg(not(feature = "mpi"))]
#[test]
fn processes_that_cannot_work_together_say_so() {
    let place = Place::new();
    for (name, value) in [("OMPI_COMM_WORLD_SIZE", "4"), ("PMI_SIZE", "4")] {
        let output = place.command(&["run", &smoke()]).env(name, value).output().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        let expected = "fewlabel: 4 processes were started together, and this program was built without MPI: build it with \
                        `--features mpi`\n";
        assert_eq!((output.status.code(), &*message), (Some(2), expected));
    }
    assert_eq!(place.files(), Vec::<String>::new());
    let alone = place.command(&["run", &smoke(), "--dry-run"]).env("OMPI_COMM_WORLD_SIZE", "1").output().unwrap();
    assert!(alone.status.success());
}
