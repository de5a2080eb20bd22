//! `fewlabel verify`: a manifest's stages run again and compared.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cluster::Cluster;
use crate::error::{Error, Result};
use crate::experiment::{self, Experiment, Job, Manifest, Options, Output, print};
use crate::text::{path_word, shown};
use crate::{files, golden, text};
use serde_json::json;
use tempfile::TempDir;

use super::super::Verify;
use super::{in_pool, renamed, this_command};

/// What the names of temporary folders begin with.
const TEMPORARY: &str = "fewlabel-verify-";

/// Runs the manifest's stages again and compares them.
pub fn verify(options: Verify, cluster: Option<&dyn Cluster>) -> Result<()> {
    let path = renamed(&options.manifest, options.how.output());
    let mut expected = Manifest::load_claim(&path)?;
    if let Some(file) = &options.against {
        golden::check_experiment(&expected, &Experiment::load(&renamed(file, options.how.output()))?)?;
    }
    if expected.result.is_empty() {
        return Err(Error::run(&path, "has no result to verify", "run its experiment to the end first"));
    }
    let temporary = temporary()?;
    let out = options.out.as_deref().unwrap_or(temporary.path());
    let mut run = Options { temporary: options.out.is_none(), cluster, ..options.how.options(out)? };
    let all = expected.experiment.plan(&[])?;
    if let Some(out) = &options.out
        && files::is_same(&out.join("manifest.json"), &path)
    {
        let problem = "is the run of this manifest, which would be compared with itself";
        return Err(Error::run(out, problem, "choose another folder with --out"));
    }
    let there: Vec<&Job> = all.iter().filter(|job| expected.result.contains_key(&job.key)).collect();
    let (keys, seeds) = (listed(there.iter().map(|job| &job.key)), listed(there.iter().map(|job| job.seed)));
    let wanted = expected.experiment.plan(&run.only)?;
    let is_of_seed = |job: &Job| options.seed.is_none_or(|seed| seed == job.seed);
    let wanted: BTreeSet<&String> = wanted.iter().filter(|job| is_of_seed(job)).map(|job| &job.key).collect();
    expected.result.retain(|key, _| wanted.contains(key));
    if expected.result.is_empty() {
        let (what, has) = if options.seed.is_some() { ("--seed", seeds) } else { ("--only", keys) };
        return Err(Error::Usage(format!("{what}: the manifest has no such result; it has: {has}")));
    }
    let is_here = |key: &&String| out.join(key).join("weights.safetensors").exists();
    let before = Manifest::load(&out.join("manifest.json")).map_or(0, |manifest| {
        expected.result.keys().filter(|key| manifest.result.contains_key(*key)).filter(is_here).count()
    });
    run.only = expected.result.keys().cloned().collect();
    if options.within.is_some() && !run.device.is_cpu() {
        golden::check_seeds(&expected)?;
    }
    let found = in_pool(Some(options.how.threads(cluster)?), || experiment::run(&expected.experiment, &run));
    let found = found.map_err(|error| match error {
        Error::Interrupted(_) => Error::Interrupted(match &options.out {
            Some(out) => format!("resume with `{} --out {}`", this_command(), path_word(out)),
            None => "nothing is kept; with --out DIR a verification can be resumed".to_owned(),
        }),
        other => other,
    });
    let said = golden::compare(&expected, &found?, options.within).map(|said| match before {
        0 => said,
        _ => format!("{said}\n{before} of them had already been run into {}", shown(out)),
    });
    let subject = golden::subject(&expected);
    let event = |event: &str, message: &str| {
        print(&text::json(&json!({"event": event, "message": message, "compared": subject})))
    };
    match (&said, options.how.output()) {
        // The verdict last: scripts read the last line.
        (Ok(said), Output::Text) => print(&format!("compared: {subject}\n{said}"))?,
        (Ok(said), Output::Json) => event("verified", said)?,
        (Err(Error::Differs(difference)), Output::Json) => event("differs", difference)?,
        _ => {}
    }
    said.map(|_| ())
}

/// "a, b, c", each once.
fn listed(names: impl Iterator<Item = impl ToString>) -> String {
    let mut names: Vec<String> = names.map(|name| name.to_string()).collect();
    names.dedup();
    names.join(", ")
}

/// A temporary folder, after those have been removed that killed verifications have left.
fn temporary() -> Result<TempDir> {
    let place = std::env::temp_dir();
    let folder =
        tempfile::Builder::new().prefix(TEMPORARY).tempdir().map_err(Error::io("create a folder in", &place))?;
    for entry in std::fs::read_dir(&place).into_iter().flatten().flatten() {
        let is_ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(TEMPORARY));
        if is_ours && is_abandoned(&entry.path(), folder.path()) {
            // What cannot be removed is no fault of this verification.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    Ok(folder)
}

/// Whether the folder is one that a verification of the same user has run in, and none runs in now. `mine` is one of this
/// user's.
fn is_abandoned(folder: &Path, mine: &Path) -> bool {
    let [there, here] = [folder, mine].map(|path| path.symlink_metadata().ok());
    #[cfg(unix)]
    let [there, here] = [there, here].map(|of| of.map(|of| (of.is_dir(), std::os::unix::fs::MetadataExt::uid(&of))));
    #[cfg(not(unix))]
    let [there, here] = [there, here].map(|of| of.map(|of| of.is_dir()));
    let began = folder.join(".lock").symlink_metadata().is_ok_and(|file| file.is_file());
    there == here && began && !experiment::is_locked(folder)
}
