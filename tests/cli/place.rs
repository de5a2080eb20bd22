//! A folder to run the program in.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

pub const EXPERIMENTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/experiments");

/// A fresh folder to work in, and the program started in it.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Place {
        Place(tempfile::tempdir().unwrap())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, contents).unwrap();
        path
    }

    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(assert_cmd::cargo::cargo_bin!("fewlabel"));
        command.args(args).current_dir(self.0.path()).env_remove("FEWLABEL_DATA");
        // Temporary files go beside the rest, where `files` finds them.
        command.env("TMPDIR", self.0.path());
        // No proxy between the program and the test's own server.
        command.env("NO_PROXY", "127.0.0.1").env("no_proxy", "127.0.0.1");
        command
    }

    pub fn run(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// Runs, asserts success, and gives standard output.
    pub fn good(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs, asserts a failure with `code`, and gives its one message.
    pub fn bad(&self, args: &[&str], code: i32) -> String {
        let output = self.run(args);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {message}");
        let messages = message.lines().filter(|line| line.starts_with("fewlabel: ")).count();
        assert_eq!(messages, 1, "one message: {message}");
        assert!(!message.contains("panicked"), "{message}");
        message
    }

    /// The commands that a message offers: what of this program is between backticks.
    pub fn commands(&self, message: &str) -> Vec<String> {
        message.split('`').filter(|part| part.contains("/fewlabel ")).map(str::to_owned).collect()
    }

    /// Runs a command as it stands in a message, in a shell, and gives standard output of a success.
    pub fn shell(&self, command: &str) -> String {
        let environment = self.command(&[]);
        let mut shell = Command::new("sh");
        shell.args(["-c", command]).current_dir(self.0.path());
        for (name, value) in environment.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let output = shell.output().unwrap();
        assert!(output.status.success(), "{command}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    pub fn manifest(&self, run: &str) -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(self.path(run).join("manifest.json")).unwrap()).unwrap()
    }

    /// The paths of all files below the place.
    pub fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, files: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, files);
                } else {
                    files.push(path.strip_prefix(root).unwrap().display().to_string());
                }
            }
        }
        let mut files = Vec::new();
        walk(self.0.path(), self.0.path(), &mut files);
        files.sort();
        files
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub fn smoke() -> String {
    format!("{EXPERIMENTS}/smoke.yaml")
}
