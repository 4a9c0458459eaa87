//! A program that runs while a test looks at what it prints.

use super::Home;
use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant},
};

/// A test that waits longer than this has hung.
const HUNG: Duration = Duration::from_secs(60);

/// A program whose standard output is a pipe.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Home {
    /// Starts the program.
    pub(crate) fn start(&self, args: &[&str]) -> Running {
        let mut child = self
            .command(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        // A thread of its own, because a read from a pipe cannot time out.
        thread::spawn(move || {
            for line in output.lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Running { child, lines }
    }
}

impl Home {
    /// Starts the program, whose output nothing reads. It runs until it is dropped.
    pub(crate) fn start_unread(&self, args: &[&str]) -> Unread {
        let mut child = self.command(args).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        Unread { child, output }
    }
}

/// A program whose output nothing reads.
pub(crate) struct Unread {
    child: Child,
    output: ChildStdout,
}

impl Unread {
    /// Reads all of the output.
    pub(crate) fn read(mut self) -> String {
        let mut text = String::new();
        self.output.read_to_string(&mut text).unwrap();
        text
    }

    /// Waits until the pipe is full, or nearly so.
    pub(crate) fn wait_until_full(&mut self) {
        let begun = Instant::now();
        while rustix::io::ioctl_fionread(&self.output).unwrap() < 32 << 10 {
            assert!(begun.elapsed() < HUNG, "{:?}", self.child.try_wait());
            thread::yield_now();
        }
    }
}

impl Drop for Unread {
    fn drop(&mut self) {
        // The process must not outlive its test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// The next line of the output. Panics when the program ends or hangs.
    pub(crate) fn line(&mut self) -> String {
        match self.lines.recv_timeout(HUNG) {
            Ok(line) => line,
            Err(error) => panic!("no line: {error}; {:?}", self.child.try_wait()),
        }
    }

    /// The next lines of the output.
    pub(crate) fn take(&mut self, count: usize) -> Vec<String> {
        (0..count).map(|_| self.line()).collect()
    }

    /// Asks the program to end, as Ctrl-C does. Returns its exit code, the rest of the output, and what it
    /// said on standard error.
    pub(crate) fn interrupt(mut self) -> (i32, Vec<String>, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let mut said = String::new();
        let mut stderr = self.child.stderr.take().unwrap();
        stderr.read_to_string(&mut said).unwrap();
        let status = self.child.wait().unwrap();
        (
            status.code().unwrap_or(-1),
            self.lines.iter().collect(),
            said,
        )
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process must not outlive a failed test.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
