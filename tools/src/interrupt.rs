//! SIGINT, SIGTERM and SIGHUP, as a flag.

use anyhow::Context;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Whether the program was asked to end.
#[derive(Debug, Clone)]
pub(crate) struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Handles the signals from now on. A program calls this once.
    pub(crate) fn install() -> anyhow::Result<Interrupt> {
        let flag = Arc::new(AtomicBool::new(false));
        let handler = Arc::clone(&flag);
        ctrlc::set_handler(move || handler.store(true, Ordering::Release))
            .context("cannot handle interrupts")?;
        Ok(Interrupt(flag))
    }

    pub(crate) fn requested(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
