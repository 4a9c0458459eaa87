//! SIGINT, SIGTERM and SIGHUP: the first asks the program to end in order, the second ends it at once.
//!
//! A program that waits for a reader of its output cannot look at a flag. It has nothing to bring in order
//! then, and is ended half a second after the signal. Programs that wait for input use
//! [`Interrupt::wait_for_input`].

use anyhow::Context;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::AsFd,
    io::{Errno, retry_on_intr},
    process::{Pid, WaitId, WaitIdOptions, kill_process, waitid},
};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM},
    iterator::Signals,
};
use std::{
    io,
    process::{Child, ExitStatus},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

/// The exit code of a program that was interrupted.
pub(crate) const EXIT_CODE: u8 = 130;

/// How long a program has to end in order before it is looked at whether it waits for its reader.
const GRACE: Duration = Duration::from_millis(500);
/// A write that takes longer than this waits for its reader.
const WRITE_TIME_MAX: Duration = Duration::from_millis(50);
/// How often a program that waits for input looks whether it was interrupted.
const INPUT_INTERVAL: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// The flag of the process, set while signals are handled.
static INSTALLED: OnceLock<Interrupt> = OnceLock::new();

/// The number of writes to standard output and standard error that have begun or ended: it is odd during a
/// write. Only the main thread writes while it waits.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// The pager that shows the output.
static PAGER: Mutex<Option<Pid>> = Mutex::new(None);

/// What to call when the program is asked to end.
static ON_REQUEST: Mutex<Option<Box<dyn FnOnce() + Send>>> = Mutex::new(None);

/// Whether the program was asked to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Handles the signals from now on. Further calls return the same flag.
    pub(crate) fn install() -> anyhow::Result<Interrupt> {
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed.clone());
        }
        let cannot = "cannot handle interrupts";
        let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP]).context(cannot)?;
        let interrupt = Interrupt(Arc::new(AtomicBool::new(false)));
        let handler = interrupt.clone();
        thread::Builder::new()
            .name("interrupt".to_owned())
            .spawn(move || {
                for signal in signals.forever() {
                    handler.handle(signal);
                }
            })
            .context(cannot)?;
        Ok(INSTALLED.get_or_init(|| interrupt).clone())
    }

    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Whether the program was asked to end, if it handles signals.
    pub(crate) fn is_requested() -> bool {
        INSTALLED.get().is_some_and(Interrupt::requested)
    }

    /// Calls `call` when the program is asked to end, or at once if it was. Only the last of several calls is
    /// made.
    pub(crate) fn on_request(&self, call: impl FnOnce() + Send + 'static) {
        *ON_REQUEST.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(call));
        if self.requested() {
            call_on_request();
        }
    }

    fn handle(&self, signal: i32) {
        let pager = PAGER.lock().unwrap_or_else(PoisonError::into_inner);
        match *pager {
            // The terminal sends Ctrl-C to the pager as well, for which it means something else.
            Some(_) if signal == SIGINT => return,
            // A pager that outlives this program would share the terminal with the shell.
            Some(pid) => _ = kill_process(pid, rustix::process::Signal::TERM),
            None => {}
        }
        drop(pager);
        if self.0.swap(true, Ordering::AcqRel) {
            end();
        }
        call_on_request();
        // Without this thread, the second signal still ends the program.
        let _ = thread::Builder::new().spawn(end_when_writing);
    }

    /// Waits until a file, a pipe or a terminal can be read, or is at its end. Returns `false` on an
    /// interrupt.
    pub(crate) fn wait_for_input(&self, input: impl AsFd) -> bool {
        loop {
            if self.requested() {
                return false;
            }
            let mut state = [PollFd::new(&input, PollFlags::IN)];
            match poll(&mut state, Some(&INPUT_INTERVAL)) {
                Ok(0) | Err(Errno::INTR) => {}
                // If that cannot be known, the read tells why.
                _ => return !self.requested(),
            }
        }
    }
}

fn call_on_request() {
    let call = ON_REQUEST
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(call) = call {
        call();
    }
}

/// Ends the program if it waits for a reader of its output.
fn end_when_writing() {
    thread::sleep(GRACE);
    loop {
        let writes = WRITES.load(Ordering::Acquire);
        thread::sleep(WRITE_TIME_MAX);
        if writes % 2 == 1 && writes == WRITES.load(Ordering::Acquire) {
            end();
        }
    }
}

fn end() {
    std::process::exit(EXIT_CODE.into());
}

/// Runs a write to standard output or standard error, which may wait for its reader.
pub(crate) fn writing<T>(write: impl FnOnce() -> T) -> T {
    WRITES.fetch_add(1, Ordering::AcqRel);
    let outcome = write();
    WRITES.fetch_add(1, Ordering::AcqRel);
    outcome
}

/// Starts a pager, which keeps Ctrl-C for itself and ends with the program. `None` if it cannot start.
pub(crate) fn start_pager(spawn: impl FnOnce() -> Option<Child>) -> Option<Child> {
    // A signal is handled once it is known which process the pager is.
    let mut pager = PAGER.lock().unwrap_or_else(PoisonError::into_inner);
    let child = spawn()?;
    *pager = Some(Pid::from_child(&child));
    // Without a handler the signal ends this program and leaves the pager, which is used anyway.
    let _ = Interrupt::install();
    Some(child)
}

/// Waits until the pager ends.
pub(crate) fn wait_for_pager(pager: &mut Child) -> io::Result<ExitStatus> {
    let pid = Pid::from_child(pager);
    // The process id must not be that of another process when a signal is passed on.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    // If that fails, so does the wait below.
    let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), ended));
    *PAGER.lock().unwrap_or_else(PoisonError::into_inner) = None;
    pager.wait()
}
