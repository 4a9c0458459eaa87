//! SIGINT, SIGTERM and SIGHUP, as a flag.

use anyhow::Context;
use std::sync::{
    Arc, OnceLock,
    atomic::{AtomicBool, Ordering},
};

/// The flag of the process, set while signals are handled.
static INSTALLED: OnceLock<Interrupt> = OnceLock::new();

/// Whether the program was asked to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Handles the signals from now on. Further calls return the same flag.
    pub(crate) fn install() -> anyhow::Result<Interrupt> {
        if let Some(installed) = INSTALLED.get() {
            return Ok(installed.clone());
        }
        let flag = Arc::new(AtomicBool::new(false));
        let handler = Arc::clone(&flag);
        ctrlc::set_handler(move || handler.store(true, Ordering::Release))
            .context("cannot handle interrupts")?;
        Ok(INSTALLED.get_or_init(|| Interrupt(flag)).clone())
    }

    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
