//! A pseudo-terminal with a program in it.

use super::Home;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    io::Errno,
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use std::{
    fs::OpenOptions,
    process::{Child, Command},
};

/// A test that waits longer than this has hung.
const HUNG: Timespec = Timespec {
    tv_sec: 60,
    tv_nsec: 0,
};

/// A program whose standard input, output and error are a terminal.
///
/// The terminal does not control the program, so Ctrl-C is [`Terminal::signal`]. Do not run a real pager in
/// it: less would read the keyboard of the terminal in which the tests run. Set `PAGER` to a filter.
pub(crate) struct Terminal {
    controller: OwnedFd,
    child: Child,
    shown: Vec<u8>,
}

impl Home {
    /// Runs the program in a terminal of this size, with an English reader in UTC and without a pager,
    /// unless `env` says otherwise.
    pub(crate) fn terminal(
        &self,
        columns: u16,
        rows: u16,
        env: &[(&str, &str)],
        args: &[&str],
    ) -> Terminal {
        let mut command = self.command(args);
        command
            .env("TERM", "xterm-256color")
            .env("TZ", "UTC")
            .env("PAGER", "")
            .env_remove("NO_COLOR")
            .envs(env.iter().copied());
        Terminal::spawn(command, columns, rows)
    }
}

impl Terminal {
    pub(crate) fn spawn(mut command: Command, columns: u16, rows: u16) -> Terminal {
        let controller = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&controller).unwrap();
        unlockpt(&controller).unwrap();
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&controller, size).unwrap();
        let path = ptsname(&controller, Vec::new()).unwrap();
        let terminal = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path.to_str().unwrap())
            .unwrap();
        command
            .stdin(terminal.try_clone().unwrap())
            .stdout(terminal.try_clone().unwrap())
            .stderr(terminal);
        let child = command.spawn().unwrap();
        // The command holds the terminal open, and then its end is never seen.
        drop(command);
        Terminal {
            controller,
            child,
            shown: Vec::new(),
        }
    }

    /// Waits until `text` is shown, and returns everything shown so far.
    pub(crate) fn wait_for(&mut self, text: &str) -> String {
        while !self.shown().contains(text) {
            assert!(self.read(), "{text:?} is not in {:?}", self.shown());
        }
        self.shown()
    }

    /// Types keys.
    pub(crate) fn keys(&mut self, keys: &str) {
        let mut rest = keys.as_bytes();
        while !rest.is_empty() {
            let written = rustix::io::write(&self.controller, rest).unwrap();
            rest = &rest[written..];
        }
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        let process = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(process, signal).unwrap();
    }

    /// Waits until the program ends. Returns its exit code, and everything shown, with plain newlines.
    pub(crate) fn finish(mut self) -> (i32, String) {
        while self.read() {}
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), self.shown())
    }

    fn shown(&self) -> String {
        String::from_utf8_lossy(&self.shown).replace("\r\n", "\n")
    }

    /// Reads more of the output; `false` at its end.
    fn read(&mut self) -> bool {
        let mut ready = [PollFd::new(&self.controller, PollFlags::IN)];
        let count = poll(&mut ready, Some(&HUNG)).unwrap();
        assert!(count > 0, "the program hangs after {:?}", self.shown());
        let mut bytes = [0; 4096];
        match rustix::io::read(&self.controller, &mut bytes) {
            // The program has closed the terminal.
            Ok(0) | Err(Errno::IO) => false,
            Ok(count) => {
                self.shown.extend_from_slice(&bytes[..count]);
                true
            }
            Err(error) => panic!("{error}"),
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The process must not outlive its test: it is not told that the terminal is gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
