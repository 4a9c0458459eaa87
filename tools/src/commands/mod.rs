//! The commands, one file each.

pub(crate) mod compact;
pub(crate) mod completions;
pub(crate) mod count;
pub(crate) mod demo;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod logs;
pub(crate) mod losses;
pub(crate) mod man;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod usage;
pub(crate) mod wipe;

use crate::interrupt::Interrupt;
use gridctl_telemetry::{
    Result, StoreOptions,
    maintenance::MigrationStep,
    query::{Arrival, Arrivals},
};
use std::time::Duration;

/// How often a command that waits asks for an interrupt.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(250);

/// Options of a store that the programs open.
pub(crate) fn store_options() -> StoreOptions {
    StoreOptions::for_tools().on_migration(|step: MigrationStep| {
        crate::output::note(&format!(
            "migrating the database to version {} of {}: {}",
            step.version, step.target, step.description
        ));
    })
}

/// Waits until records have arrived; `None` on an interrupt, which ends following.
fn wait_for_arrival(arrivals: &mut Arrivals, interrupt: &Interrupt) -> Result<Option<Arrival>> {
    while !interrupt.requested() {
        if let Some(arrival) = arrivals.next_timeout(INTERRUPT_INTERVAL)? {
            return Ok(Some(arrival));
        }
    }
    Ok(None)
}
