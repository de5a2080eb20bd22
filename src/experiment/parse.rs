//! From YAML text to a complete experiment, with errors that point into the file.

use std::io::ErrorKind;
use std::path::Path;

use super::defaults::Conflict;
use super::{Experiment, Job, yaml};
use crate::error::{Error, Result};
use crate::files;
use crate::suggest::did_you_mean_path;
use crate::text::path_word;

/// Experiment files are a page long; more is a mistake, and deep nesting costs a YAML parser quadratic time.
const MAX_BYTES: u64 = 64 * 1024;

impl Experiment {
    /// `experiments/quick.yaml`, compiled in.
    pub fn quick() -> Experiment {
        let text = include_str!("../../experiments/quick.yaml");
        Experiment::parse(Path::new("quick.yaml"), text).expect("a test reads every file in experiments/")
    }

    /// Reads an experiment file.
    ///
    /// # Errors
    /// [`Error::Experiment`] for anything that cannot be run, with line and column where known.
    pub fn load(path: &Path) -> Result<Experiment> {
        let fail = |message: String| Error::Experiment { path: path.to_owned(), line: None, column: None, message };
        let bytes = files::read(path, MAX_BYTES).map_err(|e| fail(unreadable(path, &e)))?;
        let text = yaml::decode(&bytes).map_err(|fault| fault.of(path))?;
        Experiment::parse(path, &text)
    }

    /// Reads an experiment from YAML `text` and fills in its defaults; `path` is named in errors only.
    ///
    /// # Errors
    /// [`Error::Experiment`] for anything that cannot be run, with line and column where known.
    pub fn parse(path: &Path, text: &str) -> Result<Experiment> {
        // What some editors begin a file with.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let mut experiment: Experiment = yaml::read(text).map_err(|fault| fault.of(path))?;
        experiment.complete().map_err(|Conflict { at, message }| placed(path, text, &at, message))?;
        Ok(experiment)
    }

    /// An error of the experiment's run, with line and column in its file at `path` where it is about something in there.
    pub fn place(path: &Path, error: Error) -> Error {
        let text = files::read(path, MAX_BYTES).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        match (error, text) {
            (Error::Unfit { at, message }, Some(text)) => placed(path, &text, &at, message),
            (error, _) => error,
        }
    }

    /// The jobs to run, in order: all, or with `only` those that it names (a stage, `seed-N`, `seed-N/STAGE`) and their
    /// dependencies.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is no stage.
    pub fn plan(&self, only: &[String]) -> Result<Vec<Job>> {
        self.jobs(only).map_err(|conflict| Error::Usage(format!("--only: {}", conflict.message)))
    }
}

/// An error about what `at` leads to in the file.
fn placed(path: &Path, text: &str, at: &[String], message: String) -> Error {
    let place = place_of(text, at).or_else(|| place_of(text, &["dataset".to_owned()]));
    let (line, column) = (place.map(|(line, _)| line), place.map(|(_, column)| column));
    Error::Experiment { path: path.to_owned(), line, column, message }
}

/// Why there is no file to read, and which may be meant.
fn unreadable(path: &Path, error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound => {}
        ErrorKind::FileTooLarge => return format!("is larger than {MAX_BYTES} bytes, too long for an experiment"),
        _ if path.join("manifest.json").is_file() => {
            let (run, manifest) = (path_word(path), path_word(&path.join("manifest.json")));
            return format!(
                "is a run directory, not an experiment file: `fewlabel run FILE --out {run}` resumes it, `fewlabel verify \
                 {manifest}` runs it again"
            );
        }
        _ if path.is_dir() => return "is a folder, not an experiment file".to_owned(),
        _ => return format!("cannot be read: {error}"),
    }
    let is_experiment = |path: &Path| path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    let built_in = match path.file_stem().is_some_and(|name| name == "quick") {
        true => "; the quick experiment is built in: `fewlabel run` without a file",
        false => "",
    };
    format!("there is no such file{}{built_in}", did_you_mean_path(path, "experiments", is_experiment))
}

/// Line and column of what `at` leads to in the file, part by part: a key of the file, then keys and `name: …` below it,
/// each after the one before. Where a part was left out, the one before it.
fn place_of(text: &str, at: &[String]) -> Option<(usize, usize)> {
    let words = words(text);
    let is_flow = words.first().is_some_and(|first| first.column > 1);
    let mut place = None;
    let mut from = 0;
    for (depth, part) in at.iter().enumerate() {
        let wanted: Vec<&str> = part.split(": ").collect();
        let is_key = wanted.len() == 1;
        // The file's own keys begin a line, but in one pair of braces; those below one end where the next begins, and
        // those of a stage where the next stage does.
        let find = |as_key: bool| {
            let found = words[from..].windows(wanted.len()).enumerate().find(|(_, window)| {
                let is_top = !is_flow && window[0].column == 1;
                let ends =
                    (depth > 1 && is_key && window[0].is_key && window[0].text == "name") || (depth > 0 && is_top);
                let top = (depth > 0 || is_flow || is_top) && window[0].is_key >= as_key;
                ends || top && window.iter().map(|word| word.text).eq(wanted.iter().copied())
            });
            found.filter(|(_, found)| found[0].text == wanted[0])
        };
        // A method may have the name of a key.
        let Some((i, found)) = find(true).or_else(|| find(false)) else { break };
        let last = found[found.len() - 1];
        place = Some((last.line, last.column));
        from += i + wanted.len();
    }
    place
}

/// A word of a file, and its place, from 1.
#[derive(Clone, Copy)]
struct Word<'a> {
    text: &'a str,
    line: usize,
    column: usize,
    /// Whether a colon follows.
    is_key: bool,
}

/// The keys, names and numbers of a YAML text, without its comments.
fn words(text: &str) -> Vec<Word<'_>> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut words = vec![];
    for (index, line) in text.lines().enumerate() {
        let code = line.split('#').next().unwrap_or("");
        for text in code.split(|c| !is_part(c)).filter(|text| !text.is_empty() && *text != "-") {
            let before = text.as_ptr() as usize - line.as_ptr() as usize;
            let is_key = line[before + text.len()..].starts_with(':');
            words.push(Word { text, line: index + 1, column: line[..before].chars().count() + 1, is_key });
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Choose;
    use crate::experiment::{Count, Images, Labels};

    fn parse(text: &str) -> Result<Experiment, String> {
        Experiment::parse(Path::new("test.yaml"), text).map_err(|e| e.to_string())
    }

    fn stages(stages: &str) -> Result<Experiment, String> {
        parse(&format!("name: t\ndataset: {{name: synthetic}}\nstages:\n{stages}"))
    }

    #[test]
    fn silence_is_filled_in_with_the_recipe_of_the_study() {
        let text = "name: t\ndataset: {name: cifar10}\nstages: [{name: a, method: simsiam}]";
        let complete = parse(text).unwrap();
        insta::assert_snapshot!(serde_json::to_string_pretty(&complete).unwrap());
        let again = parse(&serde_yaml::to_string(&complete).unwrap()).unwrap();
        assert_eq!(again, complete);
        assert_eq!(again.sha256(), complete.sha256());
        let labels = |labels: &str| parse(&format!("{text}\nlabels: {labels}")).unwrap().labels;
        assert_eq!(labels("{}"), complete.labels);
        assert_eq!(labels("{count: 20}"), Labels { count: Count::Images(Images(20)), ..complete.labels.clone() });
        assert_eq!(parse(&format!("\u{feff}{text}")), Ok(complete), "a byte order mark is no part of the text");
    }

    /// An experiment from before the key has the same hash.
    #[test]
    fn a_later_keys_default_is_left_out() {
        let of = |more: &str| stages(&format!("  - {{name: a, method: supervised, optimizer: sgd{more}}}")).unwrap();
        let said = of(", nesterov: false, decayed: all, label_smoothing: 0");
        assert_eq!((said.sha256(), &said), (of("").sha256(), &of("")));
        assert_ne!(said.sha256(), of(", average: 0").sha256());
        let tested = |labels: &str, test: &str| {
            let text = format!("name: t\ndataset: {{name: synthetic}}\nlabels: {labels}\n{test}");
            parse(&format!("{text}stages: [{{name: a, method: supervised, batch: 8}}]")).unwrap().sha256()
        };
        let (all, validated) = ("{count: 50}", "{count: 50, validation: 0.2}");
        assert_eq!(tested(all, "test: every_epoch\n"), tested(all, ""));
        assert_eq!(tested(validated, "test: once\n"), tested(validated, ""));
        assert_ne!(tested(all, "test: once\n"), tested(all, ""));
    }

    /// However it is written, one form and one hash.
    #[test]
    fn all_images_are_labelled_by_one_word() {
        let of = |labels: &str, stage: &str| {
            parse(&format!(
                "name: t\ndataset: {{name: synthetic, train: 60}}\nlabels: {labels}
stages: [{{name: a, method: supervised, batch: 4{stage}}}]"
            ))
        };
        let all = of("all", "").unwrap();
        assert_eq!((all.labels.count, all.label_count(&all.stages[0])), (Count::All, 60));
        assert_eq!(serde_json::to_string(&all.labels).unwrap(), r#"{"count":"all"}"#);
        assert_eq!(of("{count: all}", "").unwrap().sha256(), all.sha256());
        assert_eq!(parse(&serde_yaml::to_string(&all).unwrap()).unwrap(), all);
        // A stage's own number is chosen as the experiment says, and `all` of a stage is all.
        let few = of("{count: all, choose: proportional}", ", labels: 20").unwrap();
        assert_eq!((few.label_count(&few.stages[0]), few.labels.choose), (20, Some(Choose::Proportional)));
        assert_eq!(of("all", ", labels: 20").unwrap().labels.choose, Some(Choose::First));
        let whole = of("{count: 20, choose: stratified}", ", labels: all").unwrap();
        assert_eq!(whole.label_count(&whole.stages[0]), 60);
    }

    #[test]
    fn a_key_that_is_not_there_has_the_place_of_what_it_belongs_to() {
        let text = "name: t\nlabels: all\nstages: [{name: count, method: pretext}]";
        let place = |at: &[&str]| place_of(text, &at.iter().map(|&part| part.to_owned()).collect::<Vec<_>>());
        assert_eq!(place(&["labels", "count"]), Some((2, 1)), "another key's word is none of its own");
        assert_eq!(place(&["stages", "name: count"]), Some((3, 17)));
    }

    #[test]
    fn every_mistake_is_found_and_placed() {
        let cases = [
            "  - {name: a, method: supervised, epoch: 3}",
            "  - {name: a, method: superviced}",
            "  - {name: a, method: supervised, epochs: 0}",
            "  - {name: a, method: supervised, epochs: -3}",
            "  - {name: a, method: supervised, epochs: 2.5}",
            "  - {name: a, method: supervised, epochs: many}",
            "  - {name: a, method: supervised, epochs: 1e300}",
            "  - {name: a, method: supervised, lr: .nan}",
            "  - {name: a, method: supervised, lr: 0}",
            "  - {name: a, method: supervised, batch: 6000}",
            "  - {name: a/b, method: supervised}",
            "  - {name: .., method: supervised}",
            "  - {name: a, method: supervised}\n  - {name: a, method: pretext}",
            "  - {name: a, method: probe}",
            "  - {name: a, method: probe, from: b}",
            "  - {name: a, method: probe, from: a}",
            "  - {name: a, method: finetune, from: b}\n  - {name: b, method: finetune, from: a}",
            "  - {name: a, method: supervised, from: b}\n  - {name: b, method: pretext}",
            "  - {name: a, method: supervised, momentum: 0.5}",
            "  - {name: a, method: supervised, stop_gradient: true}",
            "  - {name: a, method: pretext, frozen_norm: eval}",
            "  - {name: a, method: simsiam, stop_gradiant: true}",
            "  - {name: a, stop_gradient: 3, method: simsiam}",
            "  - {name: a, method: simsiam, predictor_schedule: cosin}",
            "  - {name: a, method: simsiam, predictor: false, predictor_schedule: constant}",
            "  - {name: a, method: simsiam, predictor: false, predictor: true}",
            "  - {name: a, method: probe, from: random, probe: [mlp]}",
            "  - {name: a, method: [simsiam]}",
            "  - {name: a, method: pretext, epochs: 3, warmup: 3}",
            "  - {name: a, method: knn, from: random, warmup: 1}",
            "  - {name: a, method: pretext, batch: 8, shards: 9}",
            "  - {name: a, method: pretext, shards: 1}",
            "  - {name: a, method: knn, from: random, shards: 2}",
            "  - {name: a, method: supervised, nesterov: true}",
            "  - {name: a, method: simsiam, nesterov: maybe}",
            "  - {name: a, method: simsiam, momentum: 0, nesterov: true}",
            "  - {name: a, method: simsiam, decayed: biases}",
            "  - {name: a, method: pretext, decayed: all}",
            "  - {name: a, method: byol, average: 0.999}",
            "  - {name: a, method: supervised, average: 1}",
            "  - {name: a, method: knn, from: random, average: 0.9}",
            "  - {name: a, method: byol, target_momentum: 1.5}",
            "  - {name: a, method: supervised, label_smoothing: 1}",
            "  - {name: a, method: pretext, label_smoothing: 0.1}",
            "  - {name: a, method: supervised, augment: {flop: random}}",
            "  - {name: a, method: supervised, augment: {flip: sometimes}}",
            "  - {name: a, method: supervised, augment: flip}",
            "  - {name: a, method: supervised, augment: {shift: 16}}",
            "  - {name: a, method: supervised, augment: {crop: [0.5, 0.2]}}",
            "  - {name: a, method: supervised, augment: {crop: [1e-9, 1e-9]}}",
            "  - {name: a, method: supervised, augment: {crop: .nan}}",
            "  - {name: a, method: supervised, augment: {shift: 4, flip: random, shift: 9}}",
            "  - {name: a, method: supervised, augment: }",
            "  - {name: a, method: fixmatch, unlabelled_from: .inf}",
            "  - {name: a, method: fixmatch, strong: {gray: 2}}",
            "  - {name: a, method: pretext, augment: {flip: random}}",
            "  - {name: a, method: probe, from: random, frozen_norm: eval, augment: {flip: random}}",
            "  - {name: a, method: probe, from: random, frozen_norm: eval, test_views: flip}",
            "  - {name: a, method: pretext, test_views: flip}",
            "  - {name: a, method: knn, from: random, test_views: flip}",
            "  - {name: a, method: supervised, test_views: flop}",
            "  - {name: a, method: fixmatch, unlabelled: 0}",
            "  - {name: a, method: fixmatch, unlabelled: 2, unlabelled_from: 3}",
            "  - {name: a, method: fixmatch, batch: 256, unlabelled: 64}",
            "  - {name: a, method: fixmatch, threshold: 95}",
            "  - {name: a, method: mean_teacher, ramp_up: -1}",
            "  - {name: a, method: mean_teacher, threshold: 0.5}",
            "  - {name: a, method: fixmatch, teacher: averages}",
            "  - {name: a, method: supervised, claim: [70, 60]}",
            "  - {name: a, method: pretext, claim: [60, 70]}",
            "  - {name: a, method: supervised, knn_every: 2}",
            "  - {name: a, method: pretext, claim: [70]}",
            "  - {name: a, name: b, method: pretext}",
            "  []",
            "  - a",
            "  {}",
        ];
        let messages: Vec<String> = cases.iter().map(|case| format!("{case}\n{}", stages(case).unwrap_err())).collect();
        insta::assert_snapshot!(messages.join("\n\n"));
    }

    /// Not waited for, not read to its end, and told apart.
    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_no_experiment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        let message = |path: &Path| match Experiment::load(path) {
            Err(Error::Experiment { message, .. }) => message,
            other => panic!("{other:?}"),
        };
        assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
        for path in [&path, Path::new("/dev/zero")] {
            assert_eq!(message(path), "cannot be read: it is a pipe or a device, not a file");
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::File::create(&path).unwrap().set_len(3 << 30).unwrap();
        assert_eq!(message(&path), "is larger than 65536 bytes, too long for an experiment");
        assert_eq!(message(folder.path()), "is a folder, not an experiment file");
        assert!(message(&folder.path().join("y.yaml")).starts_with("there is no such file"));
    }

    #[test]
    fn mistakes_outside_the_stages_are_found_too() {
        let cases = [
            "",
            "[]",
            "just text",
            "name: t",
            "name: t\ndataset: {name: cifar-10}\nstages: []",
            "name: t\ndataset: {name: cifar10, train: 60000}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic, train: 100}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nlabels: {count: 15, choose: stratified}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nlabels: al\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nlabels: {count: al}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nlabels: {count: 5}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nlabels: {cuont: 50}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nlabels: {count: all, choose: first}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nlabels: {count: 50, choose: stratified, validation: 0.1}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nlabels: {count: 50, validation: 0.01}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nlabels: {count: 10, choose: stratified, validation: 0.99999994}\nstages: [{name: a, method: knn, from: random}]",
            "name: t\ndataset: {name: synthetic}\nlabels: {count: 10, choose: stratified, validation: 0.99999999}\nstages: [{name: a, method: knn, from: random}]",
            "name: t\ndataset: {name: synthetic}\ntest: never\nstages: [{name: a, method: supervised}]",
            "name: t\ndataset: {name: synthetic}\ntest: every_epoch\nlabels: {count: 50, validation: 0.1}\nstages: [{name: a, method: supervised}]",
            "name: t\ndataset: {name: synthetic}\ntest: once\nstages: [{name: a, method: simsiam, knn_every: 2}]",
            "name: t\ndataset: {name: synthetic}\nstages: [{name: random, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nstages: [{name: seed-3, method: pretext}]",
            "name: t\ndataset: synthetic\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nclaims: [{better: a, than: a}]\nstages: [{name: a, method: supervised}]",
            "name: t\ndataset: {name: synthetic}\nclaims: [{better: a, than: b}]\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nstages: [{name: base, method: supervised}]\nclaims:\n  - {better: bsae, than: base}",
            "name: t\n# train: all\ndataset:\n  name: cifar10\n  train: 60000\nstages:\n  - name: a\n    method: probe\n    from: random\n    frozen_norm: train",
            "name: t\ndataset: {name: synthetic}\nstages:\n  - name: a\n    method: supervised\n    optimizer: sgd\n    momentum: 0.5\n  - name: b\n    method: supervised\n    momentum: 0.5",
            "{name: t, dataset: {name: synthetic}, stages: [{name: a, method: pretext, from: b}]}",
            "name: t\ndataset: {name: synthetic}\nnetwork: {channels: [1, 2]}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nnetwork: {hidden: 1000000}\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nseed: -1\nstages: [{name: a, method: pretext}]",
            "name: t\ndataset: {name: synthetic\nstages: [",
            "name: [t\n\t- x",
            "name: &a [*a]",
        ];
        let messages: Vec<String> = cases.iter().map(|case| format!("{case}\n{}", parse(case).unwrap_err())).collect();
        insta::assert_snapshot!(messages.join("\n\n"));
    }
}
