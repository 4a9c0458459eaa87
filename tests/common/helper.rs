//! Another process, which a test can kill.

use rustix::process::{Pid, WaitOptions};
use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::ExitStatusExt,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

const HELPER: &str = "GRIDCTL_TELEMETRY_TEST_HELPER";

/// Another process: this test binary again, running one of its helpers. They communicate in lines.
pub(crate) struct Helper {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Helper {
    /// Starts the test named `helper`, which begins with [`helper_arguments`].
    pub(crate) fn start(helper: &str, arguments: &[&str]) -> Helper {
        Helper::start_as(
            &mut Command::new(std::env::current_exe().unwrap()),
            helper,
            arguments,
        )
    }

    /// Like [`Helper::start`], with a command that runs this binary.
    pub(crate) fn start_as(command: &mut Command, helper: &str, arguments: &[&str]) -> Helper {
        let mut process = command
            .args([helper, "--exact", "--nocapture", "--test-threads=1"])
            .env(HELPER, arguments.join("\n"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Helper {
            input: process.stdin.take(),
            output: BufReader::new(process.stdout.take().unwrap()),
            process,
        }
    }

    /// The helper's next line; `None` when it has ended. An incomplete line does not count.
    pub(crate) fn hear(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            self.output.read_line(&mut line).unwrap();
            if !line.ends_with('\n') {
                return None;
            }
            if let Some(said) = line.strip_prefix('@') {
                return Some(said.trim_end().to_owned());
            }
        }
    }

    /// The helper's next line. Panics when it has ended.
    pub(crate) fn heard(&mut self) -> String {
        self.hear().expect("the helper has ended")
    }

    /// Sends `line` to the helper.
    pub(crate) fn tell(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Kills the helper as `kill -9` does, and waits until it is gone. Panics when it had ended by itself:
    /// a helper that fails must not pass for a killed one.
    pub(crate) fn kill(&mut self) {
        self.process.kill().unwrap();
        self.was_killed();
    }

    /// The number of the process.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Stops all threads of the helper, and waits until they stand.
    pub(crate) fn stop(&mut self) {
        let process = Pid::from_child(&self.process);
        rustix::process::kill_process(process, rustix::process::Signal::STOP).unwrap();
        let (_, status) = rustix::process::waitpid(Some(process), WaitOptions::UNTRACED)
            .unwrap()
            .unwrap();
        assert!(status.stopped(), "{status:?}");
    }

    /// Waits for the end of a helper that kills itself. Panics when it ends otherwise.
    pub(crate) fn was_killed(&mut self) {
        let status = self.process.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "{status}");
    }

    /// Waits until the helper ends by itself. Panics when it fails.
    pub(crate) fn end(mut self) {
        drop(self.input.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        assert!(self.process.wait().unwrap().success(), "{rest}");
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // The process must not outlive a failed test.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The arguments of this process if it is a helper; `None` in the test run itself.
pub(crate) fn helper_arguments() -> Option<Vec<String>> {
    let arguments = std::env::var(HELPER).ok()?;
    Some(arguments.split('\n').map(str::to_owned).collect())
}

/// Sends a line to the test that started this helper. Panics, which ends the helper, when that test
/// has ended.
pub(crate) fn say(line: impl std::fmt::Display) {
    // The test harness may have written an incomplete line before.
    let mut out = std::io::stdout().lock();
    write!(out, "\n@{line}\n").unwrap();
    out.flush().unwrap();
}

/// The next line from the test that started this helper; `None` when there are no more.
pub(crate) fn told() -> Option<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    (!line.is_empty()).then(|| line.trim_end().to_owned())
}
