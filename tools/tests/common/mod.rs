//! A home for each test, and the programs that run in it.

#![allow(dead_code, unused_imports, reason = "each test uses its part")]

#[path = "../../../tests/common/helper.rs"]
mod helper;
mod running;
mod terminal;

pub(crate) use helper::{Helper, helper_arguments, say, told};
pub(crate) use running::{Running, Unread};
pub(crate) use terminal::Terminal;

use flate2::{Compression, write::GzEncoder};
use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub(crate) struct Home {
    /// What `GRIDCTL_HOME` names.
    folder: tempfile::TempDir,
    /// The folder for databases in it.
    path: PathBuf,
}

/// The output and the exit code of a program.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Home {
    pub(crate) fn new() -> Home {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".gridctl");
        Home { folder, path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn database(&self, stack: &str) -> PathBuf {
        self.path()
            .join("telemetry")
            .join(stack)
            .join("telemetry.redb")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gridctl-telemetry"));
        command
            .args(args)
            .env("GRIDCTL_HOME", self.folder.path())
            .stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        output(&mut self.command(args))
    }

    /// Imports a file as logs of the server `github` of the stack `gw`.
    pub(crate) fn import(&self, path: &Path) -> Output {
        self.import_with(path, &[])
    }

    /// Like [`Home::import`], with further arguments.
    pub(crate) fn import_with(&self, path: &Path, more: &[&str]) -> Output {
        let path = path.to_str().unwrap();
        let args = ["import-jsonl", "gw", path, "--server", "github"];
        self.run(&[&args, more].concat())
    }

    /// The lines of all logs of the stack `gw`.
    pub(crate) fn exported_logs(&self) -> Vec<String> {
        let args = [
            "export-jsonl",
            "--stack",
            "gw",
            "--signal",
            "logs",
            "--stdout",
        ];
        let export = self.run(&args);
        export.stdout.lines().map(str::to_owned).collect()
    }

    /// A command line of the shell in which `$0` is the program.
    pub(crate) fn shell(&self, line: &str) -> Output {
        let mut command = Command::new("sh");
        command
            .args(["-c", line])
            .arg(env!("CARGO_BIN_EXE_gridctl-telemetry"))
            .env("GRIDCTL_HOME", self.folder.path());
        output(&mut command)
    }

    /// Exports a stack with the program `export-jsonl`.
    pub(crate) fn export(&self, stack: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_export-jsonl"));
        command
            .args(["--stack", stack, "--out", folder.path().to_str().unwrap()])
            .env("GRIDCTL_HOME", self.folder.path());
        let export = output(&mut command);
        assert_eq!(export.code, 0, "{export:?}");
        folder
    }
}

pub(crate) fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    Output {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

pub(crate) fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

pub(crate) fn gzip(path: &Path, bytes: &[u8]) {
    let mut encoder = GzEncoder::new(File::create(path).unwrap(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap();
}
