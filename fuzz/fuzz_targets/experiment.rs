//! Any text as an experiment: it survives being written and read again, or is an error.
#![no_main]

use std::path::Path;

use fewlabel::experiment::Experiment;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(experiment) = Experiment::parse(Path::new("fuzz.yaml"), text) {
        let written = serde_yaml::to_string(&experiment).expect("an experiment becomes YAML");
        let again = Experiment::parse(Path::new("again.yaml"), &written).expect("what was written can be read");
        assert_eq!(again.sha256(), experiment.sha256());
        experiment.plan(&[]).expect("what was read can be planned");
    }
});
