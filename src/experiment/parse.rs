//! From YAML text to a complete experiment, with errors that point into the file.

use std::path::Path;

use super::defaults::Conflict;
use super::{Experiment, Job};
use crate::error::{Error, Result};
use crate::suggest::did_you_mean;

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
    /// [`Error::Experiment`] for anything that cannot be run, with the line where there is one.
    pub fn load(path: &Path) -> Result<Experiment> {
        let fail = |message: String| Error::Experiment { path: path.to_owned(), line: None, column: None, message };
        let metadata = std::fs::metadata(path).map_err(|e| fail(format!("cannot be read: {e}")))?;
        if metadata.is_dir() {
            return Err(fail("is a folder, not an experiment file".to_owned()));
        }
        let file = std::fs::File::open(path).map_err(|e| fail(format!("cannot be read: {e}")))?;
        let mut bytes = Vec::new();
        // A device or a pipe says nothing of its length: never read more than is allowed.
        std::io::Read::read_to_end(&mut std::io::Read::take(file, MAX_BYTES + 1), &mut bytes)
            .map_err(|e| fail(format!("cannot be read: {e}")))?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(fail(format!("is larger than {MAX_BYTES} bytes, too long for an experiment")));
        }
        let text = String::from_utf8(bytes).map_err(|e| fail(format!("is not text: {e}")))?;
        Experiment::parse(path, &text)
    }

    /// Reads an experiment from YAML `text` and fills in its defaults; `path` is named in errors only.
    ///
    /// # Errors
    /// [`Error::Experiment`] for anything that cannot be run, with line and column where there are any.
    pub fn parse(path: &Path, text: &str) -> Result<Experiment> {
        let fail = |line, column, message| Error::Experiment { path: path.to_owned(), line, column, message };
        let mut experiment: Experiment = serde_yaml::from_str(text).map_err(|error| {
            let location = error.location();
            let message = with_suggestion(&without_location(&error.to_string()));
            fail(location.as_ref().map(|at| at.line()), location.map(|at| at.column()), message)
        })?;
        experiment.complete().map_err(|Conflict { about, message }| fail(line_of(text, &about), None, message))?;
        Ok(experiment)
    }

    /// The jobs to run, in order: all, or with `only` those that it names (a stage, `seed-N`, `seed-N/STAGE`) and what
    /// they depend on.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is no stage.
    pub fn plan(&self, only: &[String]) -> Result<Vec<Job>> {
        self.jobs(only).map_err(|conflict| Error::Usage(format!("--only: {}", conflict.message)))
    }
}

/// The parser's message without its trailing " at line L column C", which goes before it.
fn without_location(message: &str) -> String {
    message.rsplit_once(" at line ").map_or(message, |(head, _)| head).to_owned()
}

/// An unknown key or value of the parser's message, with the known one that is nearest.
fn with_suggestion(message: &str) -> String {
    let mut words = message.split('`').skip(1).step_by(2);
    match words.next().filter(|_| message.contains("unknown field `") || message.contains("unknown variant `")) {
        Some(word) => format!("{message}{}", did_you_mean(word, words)),
        None => message.to_owned(),
    }
}

/// The last line that names `word` (`name: word`; a name used twice is wrong where it stands last), or else the last
/// that has it at all.
fn line_of(text: &str, word: &str) -> Option<usize> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let parts = |line: &str| -> Vec<String> {
        let code = line.split('#').next().unwrap_or("");
        code.split(|c| !is_part(c)).filter(|part| !part.is_empty() && *part != "-").map(str::to_owned).collect()
    };
    let last = |found: &dyn Fn(&[String]) -> bool| {
        text.lines().collect::<Vec<_>>().iter().rposition(|line| found(&parts(line)))
    };
    let named = last(&|parts| parts.windows(2).any(|pair| pair[0] == "name" && pair[1] == word));
    named.or_else(|| last(&|parts| parts.iter().any(|part| part == word))).map(|index| index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

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
            "  - {name: a, method: pretext, claim: [70, 60]}",
            "  - {name: a, method: pretext, claim: [70]}",
            "  - {name: a, name: b, method: pretext}",
            "  []",
            "  - a",
            "  {}",
        ];
        let messages: Vec<String> = cases.iter().map(|case| format!("{case}\n{}", stages(case).unwrap_err())).collect();
        insta::assert_snapshot!(messages.join("\n\n"));
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
            "name: t\ndataset: {name: synthetic}\nlabels: {count: 10, choose: stratified, validation: 0.99999}\nstages: [{name: a, method: knn, from: random}]",
            "name: t\ndataset: {name: synthetic}\nlabels: {count: 10, choose: stratified, validation: 0.99999999}\nstages: [{name: a, method: knn, from: random}]",
            "name: t\ndataset: {name: synthetic}\nstages: [{name: random, method: pretext}]",
            "name: t\ndataset: {name: synthetic}\nclaims: [{better: a, than: b}]\nstages: [{name: a, method: pretext}]",
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
