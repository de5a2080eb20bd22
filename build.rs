//! Tells the program what it is built from, for the manifests of its runs: the commit as `FEWLABEL_COMMIT` (empty where
//! none is known), and sources, compiler, target and profile as `FEWLABEL_BUILD`.

use std::path::{Path, PathBuf};
use std::process::Command;

use sha2::{Digest, Sha256};

/// All that the program is made from. A change of anything else builds nothing anew.
const SOURCES: [&str; 4] = ["Cargo.lock", "Cargo.toml", "build.rs", "src"];

fn main() {
    SOURCES.iter().for_each(|path| println!("cargo::rerun-if-changed={path}"));
    println!("cargo::rustc-env=FEWLABEL_COMMIT={}", commit().unwrap_or_default());
    let variable = |name: &str| std::env::var(name).unwrap_or_default();
    let rustc = first_line(Command::new(variable("RUSTC")).arg("--version")).unwrap_or_default();
    // "rustc 1.95.0 (hash date)"
    let rustc: Vec<&str> = rustc.split(' ').take(2).collect();
    let cuda = if std::env::var_os("CARGO_FEATURE_CUDA").is_some() { ", cuda" } else { "" };
    let (target, profile) = (variable("TARGET"), variable("PROFILE"));
    println!("cargo::rustc-env=FEWLABEL_BUILD={}, {}, {target}, {profile}{cuda}", sources(), rustc.join(" "));
}

/// The beginning of a SHA-256 over names and contents of all sources.
fn sources() -> String {
    let mut files = vec![];
    SOURCES.iter().for_each(|path| collect(Path::new(path), &mut files));
    files.sort();
    let mut hash = Sha256::new();
    for path in files {
        hash.update(path.to_string_lossy().replace('\\', "/"));
        hash.update(std::fs::read(&path).unwrap_or_default());
    }
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sources {}", &hex[..12])
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) {
    match std::fs::read_dir(path) {
        Ok(entries) => entries.flatten().for_each(|entry| collect(&entry.path(), files)),
        Err(_) if path.is_file() => files.push(path.to_owned()),
        Err(_) => {}
    }
}

/// The commit of the working copy, with "+changes" where the sources differ from it, or the one that a package was made
/// from.
fn commit() -> Option<String> {
    let git = |arguments: &[&str]| first_line(Command::new("git").args(arguments));
    let here = std::env::current_dir().ok()?.canonicalize().ok()?;
    let top = git(&["rev-parse", "--show-toplevel"]).and_then(|top| Path::new(&top).canonicalize().ok());
    // A crate unpacked below somebody else's repository has nothing to do with its commits.
    if top.as_ref() == Some(&here) {
        let commit = git(&["rev-parse", "HEAD"])?;
        let changes = git(&[&["status", "--porcelain", "--untracked-files=no", "--"], &SOURCES[..]].concat());
        return Some(if changes.is_some() { format!("{commit}+changes") } else { commit });
    }
    let packaged = std::fs::read_to_string(".cargo_vcs_info.json").ok()?;
    let commit = packaged.split_once("\"sha1\": \"")?.1.split_once('"')?.0;
    Some(commit.to_owned())
}

/// The first line that the command prints; none if it fails or prints nothing.
fn first_line(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let line = String::from_utf8(output.stdout).ok()?.lines().next()?.trim().to_owned();
    Some(line).filter(|line| !line.is_empty())
}
